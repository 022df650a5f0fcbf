# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that change all at once or not at all.

Private to antispam.gateway. A File knows what stands on the disk and what
should. Before the first one is switched, every new content lies beside its
place and every old file has a second name, so that the switch and its undoing
are renames, which need no room on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pathlib
import pwd
import re
import stat
import tempfile

STATE_DIRECTORY = pathlib.Path("/var/lib/antispam-gateway")
_OURS = "antispam-"


class File:
    """One file: `before` and `after` are its contents in bytes, None where there is none.

    Raises ValueError, with the path, for what cannot be a file.
    """

    def __init__(self, path, after, owner="root", group="root", mode="0644", secret=False):
        self.path = pathlib.Path(path)
        self.after = after.encode("utf-8", "surrogateescape") if isinstance(after, str) else after
        self.owner, self.group = owner, group
        if not re.fullmatch("0?[0-7]{3}", mode):
            raise ValueError(f"{path}: the mode '{mode}' is not octal like 0644")
        self.mode = int(mode, 8)
        self.aside = self.old = None
        try:
            self.before = self.path.read_bytes()
            self.status = self.path.stat()
        except FileNotFoundError:
            self.before = self.status = None
        except OSError as error:
            raise ValueError(f"{path}: cannot be a file here ({error.strerror})") from error
        # A file that is to go may have been secret.
        self.secret = secret or (after is None and self.status is not None and not self.status.st_mode & stat.S_IROTH)

    @property
    def access_differs(self):
        if self.after is None or self.status is None:
            return False
        try:
            wanted = (self.mode, *self.ids())
        except ValueError:
            # Before a package is installed its user does not exist: then the file differs, which is the truth.
            return True
        return (stat.S_IMODE(self.status.st_mode), self.status.st_uid, self.status.st_gid) != wanted

    @property
    def differs(self):
        return self.before != self.after or self.access_differs

    def ids(self):
        """Return (uid, gid), or raise ValueError."""
        try:
            return pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError as error:
            raise ValueError(f"{self.path}: the user {self.owner} or the group {self.group} does not exist on this host") from error

    def lines(self):
        """Return the lines that only one of the two contents has, as text."""
        return {line.decode("utf-8", "replace") for line in set((self.before or b"").splitlines()) ^ set((self.after or b"").splitlines())}

    def diff(self):
        """Return this file's part of Ansible's diff."""
        before, after = [(content or b"").decode("utf-8", "replace") for content in (self.before, self.after)]
        if self.secret:
            before, after = ["" if content is None else "(the content is secret)\n" for content in (self.before, self.after)]
        if self.access_differs:
            before += f"# mode {stat.S_IMODE(self.status.st_mode):04o}, owner {self.status.st_uid}:{self.status.st_gid}\n"
            after += f"# mode {self.mode:04o}, owner {self.owner}:{self.group}\n"
        return {"before_header": str(self.path), "after_header": str(self.path), "before": before, "after": after}

    def mask(self, text):
        """Return text without any line of a secret content."""
        if self.secret:
            for content in (self.before, self.after):
                for line in (content or b"").decode("utf-8", "replace").splitlines():
                    # A program may print the value alone, such as a URL with its password.
                    for part in [line.strip(), *(word for word in line.split() if "://" in word or "@" in word)]:
                        if len(part) > 3:
                            text = text.replace(part, "********")
        return text

    def write_to(self, path):
        """Write the new content to another path, to be looked at there."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(self.after)
        path.chmod(self.mode)


@contextlib.contextmanager
def prepared(files):
    """Have everything at hand to switch files and to go back; the room on the disk is taken here."""
    try:
        for file in files:
            directory = file.path.parent
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            # What an interrupted run left.
            for left in directory.iterdir():
                if left.name.startswith(f".{file.path.name}.{_OURS}"):
                    left.unlink()
            if file.after is not None:
                file.aside = _write_aside(file.path, file.after, file.ids(), file.mode)
            # A dangling link is something to go back to as well.
            if os.path.lexists(file.path):
                file.old = _unused_name(file.path)
                os.link(file.path, file.old, follow_symlinks=False)
        yield
    finally:
        for file in files:
            for name in (file.aside, file.old):
                if name is not None:
                    name.unlink(missing_ok=True)


def switch(files):
    for file in files:
        if file.aside is None:
            file.path.unlink(missing_ok=True)
        else:
            file.aside.rename(file.path)
    _sync(files)


def restore(files):
    for file in files:
        if file.old is None:
            file.path.unlink(missing_ok=True)
        else:
            file.old.replace(file.path)
    _sync(files)


@contextlib.contextmanager
def alone():
    """Wait until no other run of this collection switches anything on this host."""
    STATE_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(STATE_DIRECTORY / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace(path, content, ids, mode):
    """Replace one file by a rename; a reader sees the old or the new content."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write_aside(path, content, ids, mode).rename(path)
    _sync_directory(path.parent)


def _unused_name(path):
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_OURS}")
    os.close(handle)
    os.unlink(name)
    return pathlib.Path(name)


def _write_aside(path, content, ids, mode):
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_OURS}")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchown(stream.fileno(), *ids)
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return pathlib.Path(name)


def _sync(files):
    for directory in {file.path.parent for file in files}:
        _sync_directory(directory)


def _sync_directory(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
