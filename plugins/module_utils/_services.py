# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units: what they do, and waiting until they do what they should.

Private to antispam.gateway.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Set
from typing import Any, Protocol


class Failure(Exception):
    """The service did not load the new configuration."""


class Unit:
    """A systemd unit; module is the AnsibleModule that runs systemctl."""

    def __init__(self, module: Any, name: str) -> None:
        self.module, self.name = module, name
        self.properties = self._show("LoadState,ActiveState,UnitFileState,TriggeredBy")

    def _show(self, properties: str) -> dict[str, str]:
        _rc, out, _err = self._systemctl("show", f"--property={properties}", self.name)
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def _systemctl(self, *words: str) -> tuple[int, str, str]:
        rc, out, err = self.module.run_command(["systemctl", *words], expand_user_and_vars=False, handle_exceptions=False)
        return rc, out, err

    @property
    def loaded(self) -> bool:
        return self.properties.get("LoadState") == "loaded"

    @property
    def stopped(self) -> bool:
        return self.properties.get("ActiveState") not in ("active", "reloading", "activating", "deactivating")

    @property
    def settled(self) -> bool:
        return self.properties.get("ActiveState") == "active"

    def needs(self, wanted: bool) -> bool:
        """Return whether the unit is not enabled, or not disabled, as wanted. A static unit is neither."""
        state = self.properties.get("UnitFileState", "")
        return state not in ("enabled", "static", "indirect", "generated", "alias") if wanted else state in ("enabled", "enabled-runtime")

    def enable(self, wanted: bool) -> None:
        """Enable or disable the unit; raise Failure if systemd does not."""
        self._do("enable" if wanted else "disable", self.name)

    def apply(self, action: str) -> None:
        """Let systemctl(1) do something to the unit, such as reload; raise Failure if it does not."""
        self._do("daemon-reload")
        # A unit that gave up before, say for want of a configuration, is no obstacle now; nor is its socket.
        self._systemctl("reset-failed", self.name, *self.properties.get("TriggeredBy", "").split())
        self._do(action, self.name)

    def failed(self) -> str:
        """Return '' unless systemd has given the unit up."""
        return f"{self.name} has failed" if self._show("ActiveState").get("ActiveState") == "failed" else ""

    def _do(self, *words: str) -> None:
        rc, out, err = self._systemctl(*words)
        # 5: there is no such unit any more, so it does not run either.
        if rc and (words[0], rc) != ("stop", 5):
            raise Failure(f"systemctl {' '.join(words)} failed: {(err or out).strip()}")

    def workers(self) -> set[str]:
        """Return the process ids of the main process's children."""
        _rc, out, _err = self._systemctl("show", "--property=MainPID", "--value", self.name)
        try:
            return set(pathlib.Path(f"/proc/{out.strip()}/task/{out.strip()}/children").read_text(encoding="ascii").split())
        except OSError:
            return set()

    def journal(self, until: float) -> str:
        """Return the last lines of what the unit had logged at a time (seconds since 1970); raise OSError where there is no journalctl.

        What it logs afterwards, when it is back with its old files, would hide why it failed.
        """
        command = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", f"--until=@{until:.6f}", "--unit", self.name]
        return str(self.module.run_command(command, handle_exceptions=False)[1]).strip()


class Fallible(Protocol):
    """What may fail while one waits for it."""

    def failed(self) -> str:
        """Return '' unless it is no use to wait any longer."""


def until(holds: Callable[[float], str], unit: Fallible | None, timeout: float) -> str:
    """Call holds(seconds left) until it returns '', the unit, if there is one, has failed or the time (in seconds) is over; return what was said last."""
    deadline = time.monotonic() + timeout
    while True:
        problem = holds(max(1, deadline - time.monotonic()))
        if not problem:
            return ""
        if time.monotonic() > deadline:
            return f"{problem} after {timeout} s"
        failed = unit.failed() if unit else ""
        if failed:
            return f"{problem}; {failed}"
        time.sleep(0.1)


def workers_left(unit: Unit, old: Set[str]) -> str:
    """Return '' once the main process has children, none of which is of the old ones."""
    workers = unit.workers()
    if workers and not workers & old:
        return ""
    return f"{len(workers & old) or 'all'} worker processes were not replaced"
