# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-rule-channels: fetch the rules of the site's rule channels for SpamAssassin, and have amavis load them.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-rule-channels, which a timer starts. sa-update(1)
fetches and verifies; what this adds is that a channel counts only with its own key, which may sign no other channel, and that
new rules are put in place at once or not at all, after SpamAssassin has found no fault in them together with all others.

Debian's spamassassin-maint(8) goes on to update SpamAssassin's own rules. It takes neither a channel nor a key.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

SETTINGS = pathlib.Path("/etc/gateway-rule-channels.json")
# Each channel is a symbolic link here, to a directory that is not changed any more.
STATE = pathlib.Path("/var/lib/spamassassin/channels")
CONFIGURATION = pathlib.Path("/etc/spamassassin")
INCLUDES = "channels.cf"
HOOKS = CONFIGURATION / "sa-update-hooks.d"
USER = "debian-spamd"
# In the directory of a channel: the key that its rules were verified with.
VERIFIED_WITH = "key.asc"
# What sa-update says, and what that means.
MEANINGS = (
    ("GPG validation failed", "it is not signed with the key of the channel"),
    ("could not find working mirror", "no mirror has an archive with a signature (VERSION.tar.gz and VERSION.tar.gz.asc)"),
    ("lint check of update failed", "SpamAssassin finds faults in it"),
    ("mirrors.", "the DNS knows no such channel, or does not answer"),
    ("MIRRORED.BY", "its list of mirrors could not be fetched"),
)


class ChannelError(Exception):
    """Why the rules of one channel stay as they are; the others are updated all the same."""


def file_name(channel: str) -> str:
    """Return how sa-update calls the files of a channel."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", channel)


def rules(directory: pathlib.Path, channel: str) -> pathlib.Path:
    """Return the file that includes all rules of a channel."""
    return directory / f"{file_name(channel)}.cf"


def as_user(command: list[str], scratch: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run a command as the user of Debian's own updates, who may write nothing but rules."""
    kept = {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(scratch), "TMPDIR": str(scratch), **kept}
    words = ["runuser", "-u", USER, "--", *command]
    return subprocess.run(words, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)


@contextlib.contextmanager
def scratch_directory() -> Iterator[pathlib.Path]:
    """A directory that the user may write to."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="gateway-rule-channels-"))
    try:
        give_to_user(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def give_to_user(path: pathlib.Path) -> None:
    user = pwd.getpwnam(USER)
    os.chown(path, user.pw_uid, user.pw_gid)
    for root, directories, files in os.walk(path):
        for name in directories + files:
            os.chown(os.path.join(root, name), user.pw_uid, user.pw_gid, follow_symlinks=False)


def keyring(key: str, scratch: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """Return a keyring with nothing but the channel's key, and the fingerprints of what may sign."""
    ring = scratch / "keyring"
    ring.mkdir(mode=0o700)
    (scratch / "key.asc").write_text(key, encoding="utf-8")
    give_to_user(scratch)
    gpg = ["gpg", "--batch", "--quiet", "--no-autostart", f"--homedir={ring}"]
    done = as_user([*gpg, "--import", str(scratch / "key.asc")], scratch)
    listed = as_user([*gpg, "--with-colons", "--list-keys"], scratch)
    fingerprints = [line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:")]
    if not fingerprints:
        raise ChannelError(f"its key cannot be read; gpg says: {(done.stderr or listed.stderr).strip()}")
    # Where this file is missing, sa-update adds the key of SpamAssassin's own rules.
    (ring / "trustdb.gpg").touch()
    give_to_user(ring)
    return ring, fingerprints


def fetch(channel: str, key: str, target: pathlib.Path, scratch: pathlib.Path) -> bool:
    """Have sa-update bring the rules in a directory up to date. Return whether there were new ones, or raise ChannelError."""
    ring, fingerprints = keyring(key, scratch)
    give_to_user(target)
    # No key that signs rules has the short name of another one: sa-update compares no more than that, but gpg has this key only.
    command = ["sa-update", "--channel", channel, "--updatedir", str(target), "--gpghomedir", str(ring)]
    done = as_user([*command, *[word for fingerprint in fingerprints for word in ("--gpgkey", fingerprint)]], scratch)
    if done.returncode == 1:
        return False
    if done.returncode:
        said = " ".join((done.stderr + done.stdout).split())
        meaning = next((meaning for text, meaning in MEANINGS if text in said), "it cannot be updated")
        raise ChannelError(f"{meaning}; sa-update says: {said}")
    return True


def lint(channels: Mapping[str, pathlib.Path], scratch: pathlib.Path) -> str:
    """Return what SpamAssassin has to say against all rules together; channels: the directory of each."""
    copy = scratch / "configuration"
    shutil.copytree(CONFIGURATION, copy)
    (copy / INCLUDES).write_text("".join(f"include {rules(directory, channel)}\n" for channel, directory in channels.items()), encoding="utf-8")
    give_to_user(copy)
    command = ["spamassassin", "--lint", f"--siteconfigpath={copy}", "--prefspath=/dev/null", "--cf=use_bayes 0"]
    done = as_user(command, scratch)
    return " ".join((done.stderr + done.stdout).split()) if done.returncode else ""


class Channels:
    """What the site has of its channels. {channel: armored public key}"""

    def __init__(self, keys: Mapping[str, str], state: pathlib.Path = STATE) -> None:
        self.keys = keys
        self.state = state

    def link(self, channel: str) -> pathlib.Path:
        return self.state / file_name(channel)

    def is_verified(self, channel: str) -> bool:
        """Whether there are rules of the channel, and the key that they were verified with is still its key."""
        with contextlib.suppress(OSError):
            return (self.link(channel) / VERIFIED_WITH).read_text(encoding="utf-8") == self.keys[channel]
        return False

    def update(self, channel: str, place: pathlib.Path) -> pathlib.Path | None:
        """Return a directory below place with new rules that have no fault, None where there are none, or raise ChannelError."""
        new = pathlib.Path(tempfile.mkdtemp(prefix=f".{file_name(channel)}.", dir=place))
        try:
            # Rules that were verified with another key are fetched again, whatever their version is.
            if self.is_verified(channel):
                shutil.copytree(self.link(channel).resolve(), new, dirs_exist_ok=True)
            with scratch_directory() as scratch:
                if not fetch(channel, self.keys[channel], new, scratch):
                    shutil.rmtree(new)
                    return None
                (new / VERIFIED_WITH).write_text(self.keys[channel], encoding="utf-8")
                for path in [new, *new.rglob("*")]:
                    path.chmod(0o755 if path.is_dir() else 0o644)
                others = {name: self.link(name) for name in self.keys if name != channel and self.link(name).exists()}
                said = lint({**others, channel: new}, scratch)
            if said:
                raise ChannelError(f"SpamAssassin finds faults in it, beside the other rules; spamassassin says: {said}")
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return new

    def put_in_place(self, channel: str, new: pathlib.Path) -> None:
        """Let a directory be the rules of a channel, in one step."""
        link, before = self.link(channel), None
        with contextlib.suppress(FileNotFoundError):
            before = self.state / os.readlink(link)
        fresh = link.with_name(f"{new.name}.link")
        fresh.symlink_to(new.name)
        fresh.replace(link)
        if before:
            shutil.rmtree(before, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what a killed run has left, and channels that the site does not have any more."""
        wanted = {file_name(channel) for channel in self.keys}
        for link in [path for path in self.state.iterdir() if path.is_symlink() and path.name not in wanted]:
            link.unlink()
        used = {os.readlink(path) for path in self.state.iterdir() if path.is_symlink()}
        for path in self.state.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in used:
                shutil.rmtree(path)


def work(channels: Channels, *, missing: bool, verify: bool) -> tuple[list[str], list[str]]:
    """Update channels. missing: only those without verified rules. verify: leave everything as it is. Return what has new rules, and what failed."""
    new, failed = [], []
    for channel in channels.keys:
        if missing and channels.is_verified(channel):
            continue
        try:
            with scratch_directory() if verify else contextlib.nullcontext(channels.state) as place:
                found = channels.update(channel, place)
                if found and not verify:
                    channels.put_in_place(channel, found)
            new += [channel] if found else []
        except ChannelError as error:
            stays = "its old rules stay in use" if channels.link(channel).exists() else "no rule of it is used"
            failed.append(f"{channel}: {error}; {stays}")
    return new, failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway-rule-channels", description="Update the rules of the site's rule channels.")
    parser.add_argument("--settings", type=pathlib.Path, default=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--missing", action="store_true", help="only channels that have no rules yet, or have another key than before")
    parser.add_argument("--verify", action="store_true", help="fetch and verify, and leave everything as it is")
    arguments = parser.parse_args()
    os.umask(0o022)
    given = json.loads(arguments.settings.read_text(encoding="utf-8"))["channels"]
    channels = Channels({channel["name"]: channel["key"] for channel in given})
    with contextlib.ExitStack() as stack:
        if not arguments.verify:
            channels.state.mkdir(exist_ok=True, parents=True)
            lock = stack.enter_context((channels.state / ".lock").open("w", encoding="utf-8"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not arguments.missing:
                channels.tidy()
        new, failed = work(channels, missing=arguments.missing, verify=arguments.verify)
    for channel in new:
        sys.stdout.write(f"{channel}: {'there are new rules' if arguments.verify else 'new rules are in use'}\n")
    for line in failed:
        sys.stderr.write(f"gateway-rule-channels: {line}\n")
    if new and not arguments.verify:
        # amavis loads them, as it does those of SpamAssassin itself.
        failed += [""] * subprocess.run(["run-parts", "--lsbsysinit", str(HOOKS)], check=False).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
