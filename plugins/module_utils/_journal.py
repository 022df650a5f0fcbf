# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes what a run of antispam.gateway left half done, when it was killed between two files.

Private to antispam.gateway. The next run calls undo() first. A copy of this file
is /usr/local/sbin/gateway-recover, which gateway-recover.service runs at boot
before any of the gateway's services starts; so nothing but the standard library
is imported here.

The journal is a JSON file: {"files": [[path, name of the old file beside it or
null, name of the new file beside it or null], ...], "units": [unit, ...]}. It
stands from before the first file is switched until the last service has taken
its files up.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib

STATE_DIRECTORY = pathlib.Path("/var/lib/antispam-gateway")


def write(files: list[tuple[str, str | None, str | None]], units: list[str], directory: pathlib.Path = STATE_DIRECTORY) -> None:
    """Write the journal, so that it is on the disk when this returns."""
    new = directory / "journal.new"
    with open(new, "w", encoding="utf-8") as stream:
        json.dump({"files": files, "units": units}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(directory / "journal")
    _sync(directory)


def end(directory: pathlib.Path = STATE_DIRECTORY) -> None:
    """Remove the journal: all files are switched, or none is."""
    (directory / "journal").unlink(missing_ok=True)
    _sync(directory)


def undo(directory: pathlib.Path = STATE_DIRECTORY) -> list[str]:
    """Put the old files back that a killed run has replaced; return the units that may run with new ones.

    A unit's mark of what it was last given goes, so that the next run lets it load its files anew.
    """
    try:
        journal = json.loads((directory / "journal").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    for path, old, new in journal["files"]:
        target = pathlib.Path(path)
        if old is None:
            target.unlink(missing_ok=True)
        elif os.path.lexists(old):
            os.replace(old, target)
            # Two names of one file stay two names.
            pathlib.Path(old).unlink(missing_ok=True)
        if new is not None:
            pathlib.Path(new).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _sync(target.parent)
    for unit in journal["units"]:
        (directory / f"{unit}.applied").unlink(missing_ok=True)
    end(directory)
    return list(journal["units"])


def _sync(directory: pathlib.Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    undo()
