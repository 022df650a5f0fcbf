# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns the addresses of a table into others: the change, what guards it, how it is shown and sent.

Private to antispam.gateway; used on the controller and on the host. Contents
travel as text: a line is ADDRESS, or ADDRESS TAB VALUE where the value is not
OK; in a change each line begins with "+", "-" or "=" (another value).
"""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import itertools
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

# An address and its value.
Entry = tuple[bytes, bytes]
_Line = TypeVar("_Line")

OK = b"OK"
# How many lines of each end of a change are shown.
SHOWN = 10
_PART = 8 * 1024 * 1024
# Beyond this it is quicker to look at the lines than to count every domain.
_FEW_DOMAINS = 50


def pack(text: bytes) -> str:
    """Return bytes as text for a module argument."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # The fastest level: a table that is sent whole crosses the network once.
        packed = pool.map(lambda part: zlib.compress(part, 1), _parts(text))
        return " ".join(base64.b64encode(part).decode("ascii") for part in packed)


def unpack(text: str) -> bytes:
    """Return what pack() was given."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return b"".join(pool.map(lambda part: zlib.decompress(base64.b64decode(part)), text.split(" ")))


def _parts(text: bytes) -> list[bytes]:
    return [text[start : start + _PART] for start in range(0, max(len(text), 1), _PART)]


def line(key: bytes, value: bytes) -> bytes:
    """Return an entry as a line of a content."""
    return key if value == OK else key + b"\t" + value


class Content:
    """The whole of a table: text in bytes, a line an entry, in order. uniform says that every value is OK."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.uniform = b"\t" not in text

    def keys(self) -> list[bytes]:
        """Return the addresses in order."""
        lines = self.text.split(b"\n") if self.text else []
        return lines if self.uniform else [line.partition(b"\t")[0] for line in lines]

    def entries(self) -> dict[bytes, bytes]:
        """Return {address: value}."""
        if self.uniform:
            return dict.fromkeys(self.keys(), OK)
        parted = (line.partition(b"\t") for line in self.text.split(b"\n"))
        return {key: value or OK for key, _tab, value in parted}

    def pairs(self) -> tuple[Iterable[Entry], int, int] | None:
        """Return what _lmdb.write takes; None where entries() has to be asked."""
        if not self.uniform or not self.text:
            return None
        keys = (self.text.replace(b"\n", b"\0\n") + b"\0").split(b"\n")
        return zip(keys, itertools.repeat(OK + b"\0")), len(keys), len(self.text) + len(keys) * (len(OK) + 2)

    def counts(self, domains: Collection[str]) -> dict[str, int]:
        """Return {domain: number of addresses} in text; domains are those that are to be expected."""
        if self.uniform and len(domains) <= _FEW_DOMAINS:
            ended = self.text + b"\n"
            counts = {name: ended.count(b"@" + name.encode() + b"\n") for name in domains}
            if sum(counts.values()) == ended.count(b"\n"):
                return {name: count for name, count in counts.items() if count}
        return count_domains(self.keys())


class Change:
    """added and changed: lists of (address, value); removed: list of addresses. All in order."""

    def __init__(self, added: Iterable[Entry] = (), removed: Iterable[bytes] = (), changed: Iterable[Entry] = ()) -> None:
        self.added, self.removed, self.changed = sorted(added), sorted(removed), sorted(changed)
        self._by_domain: dict[str, list[int]] | None = None

    @classmethod
    def everything(cls, content: Content, counts: Mapping[str, int]) -> Change:
        """Return the change that fills an empty table. counts: what content.counts() returns."""
        change = cls()
        change.added = list(zip(content.keys(), itertools.repeat(OK))) if content.uniform else list(content.entries().items())
        change._by_domain = {name: [count, 0] for name, count in counts.items()}
        return change

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @classmethod
    def between(cls, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> Change:
        """Return the change that turns one dictionary into the other."""
        added = [(key, value) for key, value in after.items() if key not in before]
        removed = [key for key in before if key not in after]
        # The dictionaries hold a million entries, of which one or two differ.
        changed = [(key, after[key]) for key, value in before.items() if after.get(key, value) != value]
        return cls(added, removed, changed)

    @classmethod
    def parse(cls, text: bytes) -> Change:
        """Return the change that text() wrote."""
        found: dict[bytes, list[Entry]] = {b"+": [], b"-": [], b"=": []}
        for entry in text.split(b"\n") if text else ():
            key, _tab, value = entry[1:].partition(b"\t")
            found[entry[:1]].append((key, value or OK))
        return cls(found[b"+"], [key for key, _value in found[b"-"]], found[b"="])

    def text(self) -> bytes:
        """Return the change as it travels."""
        return b"\n".join(
            [b"+" + line(*entry) for entry in self.added] + [b"-" + key for key in self.removed] + [b"=" + line(*entry) for entry in self.changed]
        )

    def applied(self, entries: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the entries with the change made; KeyError where one that is to go is not there."""
        result = dict(entries)
        for key in self.removed:
            del result[key]
        result.update(self.added)
        result.update(self.changed)
        return result

    def by_domain(self) -> dict[str, list[int]]:
        """Return {domain: [number added, number removed]} in text."""
        if self._by_domain is not None:
            return self._by_domain
        counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        for index, keys in enumerate(([key for key, _value in self.added], self.removed)):
            for name, count in count_domains(keys).items():
                counts[name][index] = count
        return dict(counts)

    def diff(self, path: str) -> dict[str, str]:
        """Return Ansible's diff: both ends of what goes and of what comes."""
        before = sorted(self.removed + [key for key, _value in self.changed])
        after = sorted(self.added + self.changed) if self.changed else self.added
        return {
            "before_header": path,
            "after_header": path,
            "before": _ends(before, bytes),
            "after": _ends(after, b"\t".join),
        }


def count_domains(keys: Iterable[bytes]) -> dict[str, int]:
    """Return {domain: number of addresses} in text; keys are addresses."""
    # Somebody may have put anything into a table.
    return {name.decode("utf-8", "replace"): count for name, count in collections.Counter(key[key.rfind(b"@") + 1 :] for key in keys).items()}


def _ends(lines: list[_Line], write: Callable[[_Line], bytes]) -> str:
    """Return the first and the last lines as text; write makes bytes of one."""

    def text(some: list[_Line]) -> str:
        return "".join(write(line).decode("utf-8", "replace") + "\n" for line in some)

    if len(lines) <= 2 * SHOWN:
        return text(lines)
    return f"{text(lines[:SHOWN])}... {len(lines) - 2 * SHOWN} more ...\n{text(lines[-SHOWN:])}"


def too_many(change: Change, counts: Mapping[str, int], domains: Collection[str], percent: float, few: int) -> list[str]:
    """Return sentences about removals that look like a bad export.

    counts: addresses of each domain before the change. domains: those that are
    to have addresses afterwards; of another one all may go. percent: the share
    that may go, of the whole and of a domain; up to `few` may always go, but
    never the last one of a domain.
    """
    by_domain = {name: numbers for name, numbers in change.by_domain().items() if name in domains}
    problems = []

    def look_at(what: str, before: int, removed: int) -> None:
        if removed > few and 100 * removed > percent * before:
            problems.append(f"{removed} of {before} addresses{what} would go ({100 * removed / before:.1f} %, at most {percent:g} % may)")

    look_at("", sum(counts.get(name, 0) for name in domains), sum(removed for _added, removed in by_domain.values()))
    for name, (added, removed) in sorted(by_domain.items()):
        if removed and removed == counts.get(name, 0) and not added:
            problems.append(f"all {removed} addresses of {name} would go")
        else:
            look_at(f" of {name}", counts.get(name, 0), removed)
    return problems


def summary(change: Change, before: int) -> list[str]:
    """Return one line a domain that an administrator can read: "+12 -3 in example.com"."""
    lines = [f"+{added} -{removed} in {name}" for name, (added, removed) in sorted(change.by_domain().items())]
    if change.changed:
        lines.append(f"{len(change.changed)} with another value")
    return lines or [f"nothing to change, {before} addresses"]
