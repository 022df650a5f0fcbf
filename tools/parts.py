# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/parts.py FILE: pass standard input on as it comes, and write to FILE how long each part of a Molecule scenario took.

A part is a step of Molecule (create, converge, idempotence ...). A step that runs one of our own playbooks beside those is called after it,
and the step that verifies falls into the directories of tests, which pytest names in front of each test.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
STEP = re.compile(r"^INFO +\S+ ➜ (\w+): Executing$")
PLAYBOOK = re.compile(r"molecule/shared/(check_\w+)\.yml$")
# A long line is wrapped by Molecule, but the directory stands at its beginning.
TEST = re.compile(r"^│ (?:\.\./)*(tests/\w+)/test_\w+\.py::")


class Parts:
    """Seconds of each part, in the order in which they began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name = ""
        self._step = ""
        self._began = 0.0

    def line(self, text: str, now: float) -> None:
        """Take notice of a line that came at this time."""
        if found := STEP.match(text):
            self._step = found[1]
            self._enter(self._step, now)
        elif self._step == "side_effect" and self._name == self._step and (found := PLAYBOOK.search(text)):
            # The step has said only now which of them it is.
            self._name = found[1]
        elif self._step == "verify" and (found := TEST.match(text)) and found[1] != self._name:
            self._enter(found[1], now)

    def _enter(self, name: str, now: float) -> None:
        self.end(now)
        self._name, self._began = name, now

    def end(self, now: float) -> None:
        """The part that is under way ends."""
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0) + now - self._began
        self._name = ""


def main() -> None:
    parts = Parts()
    rest = b""
    # Not by the line: pytest shows its progress in dots.
    while chunk := os.read(0, 65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            parts.line(COLOURS.sub(b"", line).decode(errors="replace").strip(), time.monotonic())
    parts.end(time.monotonic())
    rows = [f"{name} {round(seconds)}\n" for name, seconds in parts.seconds.items() if seconds >= 0.5]
    Path(sys.argv[1]).write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
