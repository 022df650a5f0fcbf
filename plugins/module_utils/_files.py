# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that change all at once or not at all.

Private to antispam.gateway. A File knows what stands on the disk and what
should; a switch writes each one aside, in its own directory, and renames it.
"""

from __future__ import annotations

import grp
import os
import pathlib
import pwd
import stat
import tempfile

STATE_DIRECTORY = pathlib.Path("/var/lib/antispam-gateway")


class File:
    """One file: `before` and `after` are its contents, None where there is none."""

    def __init__(self, path, after, owner="root", group="root", mode="0644", secret=False):
        self.path = pathlib.Path(path)
        self.after = after
        self.owner, self.group, self.mode, self.secret = owner, group, int(mode, 8), secret
        try:
            self.before = self.path.read_text(encoding="utf-8", errors="surrogateescape")
            self.status = self.path.stat()
        except FileNotFoundError:
            self.before = self.status = None

    @property
    def content_differs(self):
        return self.before != self.after

    @property
    def access_differs(self):
        if self.after is None or self.status is None:
            return False
        return stat.S_IMODE(self.status.st_mode) != self.mode or (self.status.st_uid, self.status.st_gid) != self._ids()

    @property
    def differs(self):
        return self.content_differs or self.access_differs

    def _ids(self):
        # Before a package is installed its user does not exist: then the file differs, which is the truth.
        try:
            return pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError:
            return -1, -1

    def diff(self):
        """Return this file's part of Ansible's diff."""
        if self.secret:
            text = "(the content is secret)\n"
            before, after = (text if self.before is not None else ""), text
        else:
            before, after = self.before or "", self.after or ""
        if self.access_differs:
            before += f"# mode {stat.S_IMODE(self.status.st_mode):04o}, owner {self.status.st_uid}:{self.status.st_gid}\n"
            after += f"# mode {self.mode:04o}, owner {self.owner}:{self.group}\n"
        return {"before_header": str(self.path), "after_header": str(self.path), "before": before, "after": after}

    def changed_lines(self):
        """Return the lines that only one of the two contents has."""
        before = set((self.before or "").splitlines())
        after = set((self.after or "").splitlines())
        return before ^ after

    def write(self, path=None):
        """Put `after` in place (or at another path, for validation) by a rename; a reader sees the old or the new content."""
        target = pathlib.Path(path or self.path)
        if self.after is None:
            target.unlink(missing_ok=True)
            return
        replace(target, self.after, None if path else self._ids(), self.mode)

    def restore(self):
        """Put `before` back as it was."""
        if self.before is None:
            self.path.unlink(missing_ok=True)
        else:
            replace(self.path, self.before, (self.status.st_uid, self.status.st_gid), stat.S_IMODE(self.status.st_mode))


def replace(target, text, ids, mode):
    """Write text to a new file beside target, sync it, and rename it over target."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            if ids:
                os.fchown(stream.fileno(), *ids)
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(name, target)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def sync_directory(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def state_directory():
    STATE_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    return STATE_DIRECTORY
