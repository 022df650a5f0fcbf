# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times, as a person writes them on a command line and reads them in a story.

Private to antispam.gateway.
"""

from __future__ import annotations

import datetime
import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LENGTH = re.compile(r"(\d{1,9})\s*([smhdw])")


def seconds(text: str) -> int:
    """Return how long 90s, 30m, 2h, 3d or 1w is; raise ValueError."""
    match = _LENGTH.fullmatch(text.strip())
    if not match:
        raise ValueError(f"'{text}' is no length of time; write it as 30m, 2h, 3d or 1w")
    return int(match[1]) * _UNITS[match[2]]


def milliseconds(text: str, now: int) -> int:
    """Return a time in milliseconds: 2026-03-01, 2026-03-01 14:30, 14:30 of today, today, yesterday; raise ValueError."""
    today = datetime.datetime.fromtimestamp(now / 1000).replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"today": today, "yesterday": today - datetime.timedelta(days=1), "now": datetime.datetime.fromtimestamp(now / 1000)}
    text = text.strip()
    if text in words:
        return round(words[text].timestamp() * 1000)
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            return round(datetime.datetime.combine(today, datetime.time.fromisoformat(text.zfill(5))).timestamp() * 1000)
        return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise ValueError(f"'{text}' is no time; write it as 2026-03-01, '2026-03-01 14:30', 14:30, today or yesterday") from None


def shown(milliseconds_: int | None) -> str:
    """Return a time as a story has it, in the time zone of the host."""
    return datetime.datetime.fromtimestamp(milliseconds_ / 1000).strftime("%Y-%m-%d %H:%M:%S") if milliseconds_ is not None else ""
