# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps files that somebody else wrote, before this collection replaces them.

Private to antispam.gateway. The copies stand under their absolute paths in a
folder that is named by the day, with owner and mode, so that
`cp --archive FOLDER/. /` puts all of them back.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import time
from collections.abc import Iterable

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _foreign, _leftovers

DIRECTORY = pathlib.Path("/var/backups/antispam-gateway")


def keep(paths: Iterable[str | os.PathLike[str]], check_mode: bool = False) -> str:
    """Copy those of the files that are neither ours nor as a package wrote them, each content once; return the folder, '' where there is no such file.

    In check mode nothing is copied. Raises OSError where there is no room; then nothing was copied either.
    """
    found = {str(path): pathlib.Path(path).read_bytes() for path in paths if pathlib.Path(path).is_file()}
    foreign = {path: content for path, content in found.items() if _foreign.is_foreign_content(path, content)}
    earlier = sorted(DIRECTORY.glob("*/")) if DIRECTORY.is_dir() else []
    holding = {path: [folder for folder in earlier if _holds(folder, path, content)] for path, content in foreign.items()}
    due = {path: content for path, content in foreign.items() if not holding[path]}
    if not due:
        # A run that was killed may have copied them.
        return str(max((folders[-1] for folders in holding.values()), default=""))
    folder = _folder(due)
    if check_mode:
        return str(folder)
    _check_room(sum(map(len, due.values())))
    # What lies in it may be secret. But each directory in it is as the one that it stands for, because cp gives that its mode, too.
    DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    DIRECTORY.chmod(0o700)
    folder.mkdir(exist_ok=True)
    _copy_access(pathlib.Path("/"), folder)
    for path, content in due.items():
        _copy(pathlib.Path(path), content, folder)
    return str(folder)


def _holds(folder: pathlib.Path, path: str, content: bytes) -> bool:
    copy = folder / path.lstrip("/")
    return copy.is_file() and copy.read_bytes() == content


def _folder(due: Iterable[str]) -> pathlib.Path:
    """Return the folder of today, or another one where that has other copies of the same files."""
    day = time.strftime("%Y-%m-%d")
    number = 1
    while True:
        folder = DIRECTORY / (day if number == 1 else f"{day}.{number}")
        if not any(os.path.lexists(folder / path.lstrip("/")) for path in due):
            return folder
        number += 1


def _check_room(size: int) -> None:
    place = next(path for path in (DIRECTORY, *DIRECTORY.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    # Twice: the file system needs room of its own, too.
    if free < 2 * size + (1 << 20):
        raise OSError(f"the old files take {size:,} bytes, and {place} has only {free:,} bytes free to keep them; give it more room")


def _copy(path: pathlib.Path, content: bytes, folder: pathlib.Path) -> None:
    target = folder / str(path).lstrip("/")
    for parent in reversed(path.parents):
        copied = folder / str(parent).lstrip("/")
        if parent != parent.parent and not copied.is_dir():
            copied.mkdir()
            _copy_access(parent, copied)
    # Of a run that was killed.
    _leftovers.remove(target.parent)
    status = path.stat()
    _files.replace(target, content, (status.st_uid, status.st_gid), status.st_mode & 0o7777)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_access(origin: pathlib.Path, copy: pathlib.Path) -> None:
    status = origin.stat()
    os.chown(copy, status.st_uid, status.st_gid)
    copy.chmod(status.st_mode & 0o7777)
