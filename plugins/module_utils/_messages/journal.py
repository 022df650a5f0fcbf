# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal, as the recorder reads it: from a cursor on, in its own order, with its gaps.

Private to antispam.gateway.
"""

from __future__ import annotations

import datetime
import pwd
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .joiner import Entry

UNITS = ("postfix.service", "postfix@-.service", "amavis.service")
# SD_MESSAGE_JOURNAL_DROPPED: journald has dropped what a unit wrote too fast.
_DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
_SUPPRESSED = re.compile(r"Suppressed (\d+) messages from (\S+)")


class Gap(NamedTuple):
    """What the journal does not have. began is None where nobody knows when the last entry before it was."""

    began: int | None
    ended: int
    reason: str


class Journal:
    """Entries of the mail services."""

    def __init__(self, cursor: str, last_time: int | None, oldest: int, directory: str = "") -> None:
        # Of the package python3-systemd, which is on gateways only.
        from systemd import journal  # type: ignore[import-not-found,import-untyped,unused-ignore]

        self._reader: Any = journal.Reader(path=directory) if directory else journal.Reader()
        for unit in UNITS:
            self._reader.add_match(_SYSTEMD_UNIT=unit)
        self._reader.add_disjunction()
        # Called from anywhere, it is root and becomes the user of Postfix. Another user could only pretend.
        self._reader.add_match(SYSLOG_IDENTIFIER="postfix/postsuper")
        for user in _users():
            self._reader.add_match(_UID=user)
        self._reader.add_disjunction()
        self._reader.add_match(MESSAGE_ID=_DROPPED)
        self.cursor, self._last_time, self._waiting, self.more = cursor, last_time, None, True
        if cursor:
            self._seek()
        else:
            self._reader.seek_realtime(oldest / 1000)

    def _seek(self) -> None:
        """Go behind the cursor. Where its entry is gone, the first one that is there is not to be passed over."""
        try:
            self._reader.seek_cursor(self.cursor)
            found = self._reader.get_next()
        except (OSError, ValueError):
            self._reader.seek_realtime((self._last_time or 0) / 1000)
            found = self._reader.get_next()
        if found and found["__CURSOR"] != self.cursor:
            self._waiting = found

    def lost(self) -> Gap | None:
        """Return the gap between the cursor and the first entry that is there. To be called once, before anything is read."""
        if self._waiting is None:
            return None
        return Gap(self._last_time, _milliseconds(self._waiting), "the journal was deleted, rotated away or damaged before it was read")

    def read(self, limit: int) -> list[Entry | Gap]:
        """Return what is there, at most so much of it; the cursor is behind it then, and ``more`` says whether there may be more."""
        result: list[Entry | Gap] = []
        self.more = True
        for _count in range(limit):
            try:
                found, self._waiting = self._waiting or self._reader.get_next(), None
            except OSError as error:
                # Behind what cannot be read.
                now = round(time.time() * 1000)
                result.append(Gap(self._last_time, now, f"the journal could not be read: {error}"))
                self._reader.seek_realtime(now / 1000)
                return result
            if not found:
                self.more = False
                return result
            self.cursor = found["__CURSOR"]
            self._last_time = _milliseconds(found)
            result += _of(found, self._last_time)
        return result

    @property
    def last_time(self) -> int | None:
        return self._last_time

    def wait(self, seconds: float) -> None:
        self._reader.wait(seconds)


def _users() -> list[str]:
    try:
        return ["0", str(pwd.getpwnam("postfix").pw_uid)]
    except KeyError:
        return ["0"]


def _of(found: dict[str, Any], when: int) -> Iterator[Entry | Gap]:
    text, identifier = _text(found.get("MESSAGE")), _text(found.get("SYSLOG_IDENTIFIER"))
    if identifier == "systemd-journald":
        match = _SUPPRESSED.match(text)
        if match and match[2] in UNITS:
            yield Gap(None, when, f"the journal has dropped {match[1]} lines of {match[2]}, which wrote too fast")
        return
    report = _text(found.get("AMAVIS_REPORT")) if found.get("_SYSTEMD_UNIT") == "amavis.service" else ""
    if report or identifier.startswith("postfix/"):
        yield Entry(when, identifier, _text(found.get("SYSLOG_PID") or found.get("_PID")), text, report)


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _milliseconds(found: dict[str, Any]) -> int:
    when: datetime.datetime = found["__REALTIME_TIMESTAMP"]
    return round(when.timestamp() * 1000)
