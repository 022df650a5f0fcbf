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
from collections.abc import Callable, Collection, Iterable, Iterator

from ansible_collections.antispam.gateway.plugins.module_utils import _journal, _leftovers

STATE_DIRECTORY = _journal.STATE_DIRECTORY
# What every file that a template of this collection makes has among its first lines.
HEADER = b"Managed by Ansible (antispam.gateway)"
# The first line of a table.
TABLE_HEADER = b"# " + HEADER + b". Changes made here are undone by the next run.\n"


def _number(name: str, find: Callable[[str], int]) -> int:
    """Return the number of a user or group; of one that has no name, as user_name() gives it, it is the number itself."""
    try:
        return find(name)
    except KeyError:
        if name.isascii() and name.isdigit():
            return int(name)
        raise


def has_header(content: bytes) -> bool:
    """Return whether a file with this content is ours: one that a template or a table of this collection makes."""
    return HEADER in content[:512]


def is_ours(path: pathlib.Path) -> bool:
    """Return whether a file is there and is ours."""
    try:
        with open(path, "rb") as stream:
            return has_header(stream.read(512))
    except OSError:
        return False


def parse_mode(path: str | os.PathLike[str], mode: str) -> int:
    """Return a mode that is given in octal, or raise ValueError."""
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise ValueError(f"{path}: the mode '{mode}' is not octal like 0644")
    return int(mode, 8)


class File:
    """One file: `before` and `after` are its contents in bytes, None where there is none.

    Raises ValueError, with the path, for what cannot be a file.
    """

    def __init__(
        self, path: str | os.PathLike[str], after: str | bytes | None, owner: str = "root", group: str = "root", mode: str = "0644", secret: bool = False
    ) -> None:
        self.path = pathlib.Path(path)
        self.after = after.encode("utf-8", "surrogateescape") if isinstance(after, str) else after
        self.owner, self.group = owner, group
        self.mode = parse_mode(path, mode)
        self.aside: pathlib.Path | None = None
        self.old: pathlib.Path | None = None
        self.before: bytes | None = None
        self.status: os.stat_result | None = None
        try:
            self.before = self.path.read_bytes()
            self.status = self.path.stat()
        except FileNotFoundError:
            # Also where it went between the two.
            self.before = None
        except OSError as error:
            raise ValueError(f"{path}: cannot be a file here ({error.strerror})") from error
        # A file that is to go may have been secret.
        self.secret = secret or (after is None and self.status is not None and not self.status.st_mode & stat.S_IROTH)

    @property
    def access_differs(self) -> bool:
        return self.after is not None and self.status is not None and access_differs(self.path, self.status, self.owner, self.group, self.mode)

    @property
    def differs(self) -> bool:
        return self.before != self.after or self.access_differs

    def ids(self) -> tuple[int, int]:
        """Return (uid, gid), or raise ValueError."""
        return ids(self.path, self.owner, self.group)

    def lines(self) -> set[str]:
        """Return the lines that only one of the two contents has, as text."""
        return {line.decode("utf-8", "replace") for line in set((self.before or b"").splitlines()) ^ set((self.after or b"").splitlines())}

    def diff(self) -> dict[str, str]:
        """Return this file's part of Ansible's diff."""
        contents = [b"(binary)\n" if b"\0" in (content or b"") else content or b"" for content in (self.before, self.after)]
        before, after = [content.decode("utf-8", "replace") for content in contents]
        if self.before is None and self.after == b"":
            # Or the two would look the same.
            after = "(an empty file)\n"
        if self.secret:
            before, after = ["" if content is None else "(the content is secret)\n" for content in (self.before, self.after)]
        if self.status is not None and self.access_differs:
            before += f"# mode {stat.S_IMODE(self.status.st_mode):04o}, owner {self.status.st_uid}:{self.status.st_gid}\n"
            after += f"# mode {self.mode:04o}, owner {self.owner}:{self.group}\n"
        return {"before_header": str(self.path), "after_header": str(self.path), "before": before, "after": after}

    def mask(self, text: str) -> str:
        """Return text without any line of a secret content."""
        if self.secret:
            for content in (self.before, self.after):
                for line in (content or b"").decode("utf-8", "replace").splitlines():
                    # A program may print the value alone, such as a URL with its password.
                    for part in [line.strip(), *(word for word in line.split() if "://" in word or "@" in word)]:
                        if len(part) > 3:
                            text = text.replace(part, "********")
        return text

    def write_to(self, path: pathlib.Path) -> None:
        """Write the new content, if there is one, to another path, to be looked at there."""
        if self.after is None:
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Never open to anybody whom its mode does not name, not while it is being written either.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(self.after)
            os.fchmod(stream.fileno(), self.mode)
        # Postfix's commands wait for a main.cf that was written in the last two seconds.
        os.utime(path, (0, 0))


def ids(path: str | os.PathLike[str], owner: str, group: str) -> tuple[int, int]:
    """Return (uid, gid), or raise ValueError."""
    try:
        return _number(owner, lambda name: pwd.getpwnam(name).pw_uid), _number(group, lambda name: grp.getgrnam(name).gr_gid)
    except KeyError as error:
        raise ValueError(f"{path}: the user {owner} or the group {group} does not exist on this host") from error


def access_differs(path: str | os.PathLike[str], status: os.stat_result, owner: str, group: str, mode: int) -> bool:
    """Whether a file's stat result is not that of this owner, group and mode (a number)."""
    try:
        wanted = (mode, *ids(path, owner, group))
    except ValueError:
        # Before a package is installed its user does not exist: then the file differs, which is the truth.
        return True
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != wanted


@contextlib.contextmanager
def prepared(files: Collection[File]) -> Iterator[None]:
    """Have everything at hand to switch files and to go back; the room on the disk is taken here."""
    try:
        for file in files:
            file.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
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


def switch(files: Collection[File]) -> None:
    """Put the new contents of prepared files in place; raises OSError."""
    for file in files:
        if file.aside is None:
            file.path.unlink(missing_ok=True)
        else:
            file.aside.rename(file.path)
    _sync(files)


def restore(files: Collection[File]) -> None:
    """Put the old contents of prepared files back; raises OSError."""
    for file in files:
        if file.old is None:
            file.path.unlink(missing_ok=True)
        else:
            file.old.replace(file.path)
    _sync(files)


@contextlib.contextmanager
def alone() -> Iterator[list[str]]:
    """Wait until no other run of this collection switches anything on this host, and undo what one that was killed has left half done.

    Yields the units whose files were put back.
    """
    STATE_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(STATE_DIRECTORY / "lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Before anybody takes the old files for leftovers.
        yield _journal.undo(STATE_DIRECTORY)


def replace(path: pathlib.Path, content: bytes, ids: tuple[int, int], mode: int) -> None:
    """Replace one file by a rename; ids: (uid, gid); a reader sees the old or the new content."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write_aside(path, content, ids, mode).rename(path)
    sync_directory(path.parent)


def _unused_name(path: pathlib.Path) -> pathlib.Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_leftovers.aside(path.name))
    os.close(handle)
    os.unlink(name)
    return pathlib.Path(name)


def _write_aside(path: pathlib.Path, content: bytes, ids: tuple[int, int], mode: int) -> pathlib.Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_leftovers.aside(path.name))
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


def _sync(files: Iterable[File]) -> None:
    for directory in {file.path.parent for file in files}:
        sync_directory(directory)


def sync_directory(path: pathlib.Path) -> None:
    """Have what was renamed in a directory on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or the number of one that has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
