# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed left on the disk.

Private to antispam.gateway. Whatever is to appear under its name at once is
written aside first, beside that name and under one from aside(). Only who has
the lock does so (on a host _files.alone()), so once it is held
everything of such a name is left over; it may be a directory, and secret.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil

_ASIDE = re.compile(r"\..+\.antispam-")


def aside(name: str) -> str:
    """Return how the names begin under which a file or directory of this name is written aside."""
    return f".{name}.antispam-"


def remove(directory: str | os.PathLike[str]) -> None:
    """Remove the leftovers that lie in a directory, which need not be there; raises OSError if one stays."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in filter(_ASIDE.match, names):
        left = pathlib.Path(directory, name)
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
