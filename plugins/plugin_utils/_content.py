# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the addresses of sources to the one content of a table, and from one content to the next.

Private to antispam.gateway; used on the controller. A million addresses pass
here, so what is as it should be is looked at as a whole, and single lines only
where it is not.
"""

from __future__ import annotations

import itertools
import mmap
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _changeset

# RFC 5321 Dot-string, in the lower case that Postfix folds keys to.
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = re.compile(rf"(?!#){_ATOM}(?:\.{_ATOM})*@", re.ASCII)
_ALLOWED = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-.@\n"
# Beyond this it is quicker to look at the lines than to count every domain.
_FEW_DOMAINS = 50
# What has lines: bytes, or a file that is mapped.
Lines = bytes | mmap.mmap
# How many addresses that cannot be taken are named.
NAMED = 20


class Refused(Exception):
    """Addresses that cannot be taken: `problems` has a sentence for each of the first, `count` says how many there are."""

    def __init__(self, problems: list[str], count: int) -> None:
        super().__init__("; ".join(problems))
        self.problems, self.count = problems, count


class Origin(Protocol):
    """What is to be known of a source, see sources.Source."""

    domains: list[str]
    value: str
    wildcards: bool


class Scored(Protocol):
    """What is to be known of a source of scores."""

    @property
    def value(self) -> str | None:
        """The score of keys that come without one."""


class Spoken(Protocol):
    """What a source says, see sources.Records."""

    keys: list[str]
    values: list[str] | None

    def where(self, index: int) -> str:
        """Return the place of a record, for errors."""


class Content:
    """What a table is to hold: addresses in order, and {address: value} for those that have one of their own."""

    def __init__(self, keys: list[str], values: Mapping[str, str], problems: list[str], skipped: int, plain: bool) -> None:
        self.keys, self.values = keys, values
        # Sentences about the first addresses that were left out, and the number of all.
        self.problems, self.skipped = problems, skipped
        # Whether every address stood in the sources once, and exactly as it stands in the table.
        self.plain = plain

    def text(self) -> bytes:
        """Return the content as the host takes it, see _changeset."""
        if not self.values:
            return "\n".join(self.keys).encode()
        return b"\n".join(_changeset.line(key.encode(), self.values.get(key, "OK").encode()) for key in self.keys)


def address(text: str, domains: Collection[str], wildcards: bool = False) -> str:
    """Return one address as it stands in the table; ValueError says what is wrong with it."""
    if text != text.strip():
        raise ValueError(f"{text!r} begins or ends with white space or a control character")
    result = _addresses.recipient(text)
    name = result.rpartition("@")[2]
    if name not in domains:
        raise ValueError(f"{result} is in {name}, which is none of the relay domains {_some(domains)}")
    if result.startswith("@") and not wildcards:
        raise ValueError(f"'{text}' accepts every address of {name}, which a source may say only with wildcards: true")
    return result


def value(text: str) -> str:
    """Return a table value, or raise ValueError."""
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f"the value {text!r} is empty, begins or ends with a space, or has a control character in it")
    return text


def content_of(readings: Sequence[tuple[Origin, Spoken]], domains: Collection[str], on_invalid: str = "fail") -> Content:
    """Return the Content of a list of (source, records); Refused where addresses cannot be taken."""
    domains = frozenset(map(_addresses.fqdn, domains))
    keys: list[str] = []
    values: dict[str, str] = {}
    wrong: list[str] = []
    plain = True
    for source, records in readings:
        own = domains.intersection(map(_addresses.fqdn, source.domains)) if source.domains else domains
        taken, refused, as_written = _check(source, records, own)
        refused += _take_values(source, records, taken, values)
        wrong += refused
        plain = plain and as_written and not refused
        keys += filter(None, taken)
    if wrong and on_invalid == "fail":
        raise Refused(wrong[:NAMED], len(wrong))
    keys.sort()
    if any(map(operator.eq, keys, itertools.islice(keys, 1, None))):
        keys, plain = list(dict.fromkeys(keys)), False
    return Content(keys, values, wrong[:NAMED], len(wrong), plain)


def _check(source: Origin, records: Spoken, domains: frozenset[str]) -> tuple[list[str | None], list[str], bool]:
    """Return (addresses as they stand in the table, None in place of those that cannot be taken; sentences about these; whether all were as written)."""
    if are_canonical(records.keys, domains):
        return list(records.keys), [], True
    taken: list[str | None] = []
    wrong: list[str] = []
    for index, text in enumerate(records.keys):
        if _is_canonical(text, domains):
            taken.append(text)
            continue
        try:
            taken.append(address(text, domains, source.wildcards))
        except ValueError as error:
            taken.append(None)
            wrong.append(f"{records.where(index)}: {error}")
    return taken, wrong, taken == records.keys


def _take_values(source: Origin, records: Spoken, taken: list[str | None], values: dict[str, str]) -> list[str]:
    """Add the values that are not OK; return sentences about those that cannot be taken, whose addresses become None."""
    default = source.value or "OK"
    if records.values is None and default == "OK":
        return []
    wrong = []
    given = records.values or itertools.repeat(default, len(taken))
    for index, (key, text) in enumerate(zip(taken, given)):
        try:
            if key is not None and values.setdefault(key, value(text)) != text:
                raise ValueError(f"{key} has the value {values[key]} already, and {text} here")
        except ValueError as error:
            taken[index] = None
            wrong.append(f"{records.where(index)}: {error}")
    return wrong


def scores_of(readings: Sequence[tuple[Scored, Spoken]], on_invalid: str = "fail") -> Content:
    """Return the Content of an amavis score table; a key without a score is refused, amavis would take it for +1."""
    values: dict[str, str] = {}
    wrong: list[str] = []
    for source, records in readings:
        for index, key in enumerate(records.keys):
            try:
                points = source.value if records.values is None else records.values[index]
                # What a source without a value of its own gives to recipients.
                if points in ("", "OK"):
                    raise ValueError(f"'{key}' has no score; write a number such as -2.5")
                key, points = _addresses.score_key(key), write_score(_addresses.score(points))
                if values.setdefault(key, points) != points:
                    raise ValueError(f"{key} has the score {values[key]} already, and {points} here")
            except ValueError as error:
                wrong.append(f"{records.where(index)}: {error}")
    if wrong and on_invalid == "fail":
        raise Refused(wrong[:NAMED], len(wrong))
    return Content(sorted(values), values, wrong[:NAMED], len(wrong), False)


def write_score(points: float) -> str:
    """Return a score as it stands in the table: -2.5, 3."""
    return repr(points).removesuffix(".0")


def are_canonical(keys: Sequence[str], domains: Collection[str]) -> bool:
    """Whether every one of the addresses stands as it would in the table. False may also mean: look at each."""
    if not 0 < len(domains) <= _FEW_DOMAINS:
        return False
    data = ("\n".join(keys) + "\n").encode()
    count = len(keys)
    return (
        not data.translate(None, _ALLOWED)
        # Each line has one @, and what follows it is a relay domain.
        and data.count(b"\n") == data.count(b"@") == count
        and sum(data.count(f"@{name}\n".encode()) for name in domains) == count
        # A local part that is empty, a comment, or not a Dot-string.
        and not any(part in data for part in (b"\n@", b"\n#", b"\n.", b"..", b".@"))
        and data[:1] not in (b"@", b"#", b".")
        and max(map(len, keys)) <= min(_addresses.MAX_LOCAL_PART + 1 + min(map(len, domains)), _addresses.MAX_ADDRESS)
    )


def _is_canonical(text: str, domains: Collection[str]) -> bool:
    match = _DOT_STRING.match(text)
    return match is not None and text[match.end() :] in domains and match.end() <= _addresses.MAX_LOCAL_PART + 1 and len(text) <= _addresses.MAX_ADDRESS


def difference(before: Lines, after: Lines) -> tuple[list[bytes], list[bytes]]:
    """Return (lines that went, lines that came) between two texts of lines, in bytes or in files that are mapped.

    A line that moved is in both. What both texts have in the same order costs
    next to nothing.
    """
    went: list[bytes] = []
    came: list[bytes] = []
    old, new = _ended(before), _ended(after)
    here, there = 0, 0
    while True:
        run = _common(old, here, new, there)
        # Back to the beginning of the line that differs.
        start = old.rfind(b"\n", here, here + run) + 1 or here
        here, there = start, there + start - here
        if here == len(old) and there == len(new):
            return went, came
        here, there = _resynchronise(old, here, new, there, went, came)


def _resynchronise(old: Lines, here: int, new: Lines, there: int, went: list[bytes], came: list[bytes]) -> tuple[int, int]:
    """Find the next line that both have, and put the lines before it where they belong."""
    window = 512
    while True:
        lines = old[here : here + window].split(b"\n")[:-1]
        others = new[there : there + window].split(b"\n")[:-1]
        positions: dict[bytes, int] = {}
        for index, line in enumerate(others):
            positions.setdefault(line, index)
        best = min(((index + positions[line], index) for index, line in enumerate(lines) if line in positions), default=None)
        if best is not None:
            lines, others = lines[: best[1]], others[: best[0] - best[1]]
        elif here + window < len(old) or there + window < len(new):
            window *= 8
            continue
        went += lines
        came += others
        return here + sum(map(len, lines)) + len(lines), there + sum(map(len, others)) + len(others)


def _common(old: Lines, here: int, new: Lines, there: int) -> int:
    """Return how many bytes from these positions on are the same."""
    start, size = here, 256
    while old[here : here + size] == new[there : there + size]:
        here, there = here + size, there + size
        if here >= len(old) or there >= len(new):
            return min(here, len(old)) - start
        # Larger pieces come from the system each time, as pages that have to be cleared first.
        size = min(2 * size, 1 << 16)
    while size > 1:
        size //= 2
        if old[here : here + size] == new[there : there + size]:
            here, there = here + size, there + size
    return here - start


def _ended(text: Lines) -> Lines:
    return text[:] + b"\n" if text[-1:] not in (b"", b"\n") else text


def _some(names: Collection[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
