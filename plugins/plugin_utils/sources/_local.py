# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that are on the controller: lists and files. Private to antispam.gateway."""

from __future__ import annotations

import os
import stat
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _base


class List(_base.Transport):
    """Addresses that stand in the options."""

    def name(self) -> str:
        return "the list"

    def identity(self) -> dict[str, Any]:
        return {"location": self.options["name"] or self.name()}

    def fetch(self) -> bytes:
        return _base.join(self.options, self.options.location, lambda index: f"entry {index + 1}")


class File(_base.Transport):
    """A file on the controller."""

    formatted = True

    def identity(self) -> dict[str, Any]:
        return {"location": self.options.path(self.options.location)}

    def fetch(self) -> bytes:
        path, refuse = self.options.path(self.options.location), self.options.refuse
        try:
            # Opening a pipe without a writer would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise refuse(f"{path} is not a file")
                if before.st_size > _base.LIMIT:
                    raise refuse(f"{path} is larger than {_base.LIMIT >> 20} MiB: that is no list of addresses")
                raw = file.read()
                after = os.fstat(descriptor)
        except OSError as error:
            raise refuse(f"cannot read {path}: {error.strerror}") from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(raw) != after.st_size:
            raise refuse(f"{path} changed while it was read: let the export write it aside and rename it into place")
        return raw
