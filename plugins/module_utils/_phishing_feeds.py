# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-phishing-feeds: fetch lists of links that lead to phishing, for SpamAssassin's plugin Phishing.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-phishing-feeds, which a timer starts. What is
no list, or cannot be fetched, changes nothing.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

SETTINGS = pathlib.Path("/etc/gateway-phishing-feeds.json")
STATE = pathlib.Path("/var/lib/spamassassin/phishing")
HOOKS = "/etc/spamassassin/sa-update-hooks.d"
# {format: (the column of the link, None where each line is one; lines of a heading)}
FORMATS: dict[str, tuple[int | None, int]] = {"openphish": (None, 0), "phishtank": (1, 1), "phishstats": (2, 0)}
# Bytes of a list, and seconds to fetch it.
LARGEST, PATIENCE = 200 * 1024 * 1024, 300


class FeedError(Exception):
    """Why a list stays as it is."""


def fetch(url: str) -> str:
    """Return what is at a URL, or raise FeedError. curl(1) is told it in its input: a list of processes is no place for a key."""
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    command = ["curl", "--fail", "--silent", "--show-error", "--location", "--proto", "=http,https", "--compressed"]
    limits = ["--max-time", str(PATIENCE), "--max-filesize", str(LARGEST), "--config", "-"]
    done = subprocess.run([*command, *limits], input=f'url = "{quoted}"\n'.encode(), capture_output=True, check=False)
    if done.returncode:
        raise FeedError(f"it cannot be fetched: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode("utf-8", "replace")


def links(text: str, kind: str) -> Iterator[str]:
    """Return what stands where a list of this format has its links."""
    column, heading = FORMATS[kind]
    lines = text.splitlines()[heading:]
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        # The plugin splits at commas, whatever is quoted.
        words = line.split(",") if column is not None else [line]
        yield words[column].strip().strip('"') if column is not None and column < len(words) else words[0].strip()


def check(text: str, kind: str) -> int:
    """Return how many links a list has, or raise FeedError where it is none of this format."""
    found = list(links(text, kind))
    good = [link for link in found if link.lower().startswith(("http://", "https://"))]
    if not good:
        raise FeedError("it has no link")
    # Some lines are always broken.
    if len(good) < 0.9 * len(found):
        raise FeedError(f"it is no list of the format {kind}: of {len(found)} lines, {len(good)} have a link where it should be")
    return len(good)


def update(kind: str, url: str, state: pathlib.Path) -> bool:
    """Fetch one list and return whether it is another one than before, or raise FeedError."""
    text = fetch(url)
    check(text, kind)
    path = state / kind
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    with tempfile.NamedTemporaryFile("w", dir=state, prefix=f".{kind}.", encoding="utf-8", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return True


def main() -> int:
    os.umask(0o022)
    STATE.mkdir(exist_ok=True, parents=True)
    for left in STATE.glob(".*"):
        left.unlink()
    failed = changed = False
    for feed in json.loads(SETTINGS.read_text(encoding="utf-8"))["feeds"]:
        try:
            changed = update(feed["format"], feed["url"], STATE) or changed
        except FeedError as error:
            stays = "the old list stays in use" if (STATE / feed["format"]).exists() else "there is no list yet"
            # Its URL may hold a key.
            sys.stderr.write(f"gateway-phishing-feeds: {feed['format']}: {error}; {stays}\n".replace(feed["url"], "its URL"))
            failed = True
    if changed:
        # amavis loads them, as it does new rules.
        failed = bool(subprocess.run(["run-parts", "--lsbsysinit", HOOKS], check=False).returncode) or failed
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
