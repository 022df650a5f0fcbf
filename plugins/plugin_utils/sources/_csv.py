# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CSV (RFC 4180). Private to antispam.gateway."""

from __future__ import annotations

import csv
import io
import itertools
import re
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _format
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources._base import Options, Place, Records, SourceError


class Csv(_format.Text):
    """A table whose records all have as many fields as the first one."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        # Where the wanted columns are, and how many there are in all, once the first record was seen.
        self._columns: list[int] = []
        self._width = 0

    @property
    def header_lines(self) -> int:
        return 1 if self.options["header"] else 0

    def check(self) -> None:
        super().check()
        if len(self.options["delimiter"]) != 1 or self.options["delimiter"] in '"\r\n\0':
            raise self.options.refuse('delimiter is one character, and no quote or line end: write a tab as "\\t", in double quotes')
        if self.options["column"] is None:
            raise self.options.refuse("column is missing, the one that holds the addresses")
        for option in () if self.options["header"] else ("column", "value_column"):
            if self.options[option] is not None and not re.fullmatch("[1-9][0-9]{0,3}", self.options[option]):
                raise self.options.refuse(f"{option} is a number, counted from 1, where the file has no header")

    def by_line(self, raw: bytes) -> bool:
        if not super().by_line(raw) or b'"' in raw:
            return False
        first = self.lines(self.decode(raw[: raw.find(b"\n") + 1] or raw, self.line))
        if not self.options["header"] or not first or not first[0]:
            return False
        self._find_columns(first[0].split(self.options["delimiter"]))
        return True

    def _find_columns(self, first: list[str]) -> None:
        """Remember where the wanted columns are, by the fields of the first record."""
        wanted = [self.options[option] for option in ("column", "value_column") if self.options[option] is not None]
        if not self.options["header"]:
            positions = [int(number) - 1 for number in wanted]
            if max(positions) >= len(first):
                raise self.options.refuse(
                    f"there is no column {max(positions) + 1}: the first record has {len(first)} (delimiter {self.options['delimiter']!r})"
                )
        else:
            for name in wanted:
                if first.count(name) != 1:
                    many = "more than one column" if name in first else "no column"
                    there = ", ".join(repr(field[:40]) for field in first[:20])
                    raise self.options.refuse(f"there is {many} {name!r}: the header has {there} (delimiter {self.options['delimiter']!r})")
            positions = [first.index(name) for name in wanted]
        self._columns, self._width = positions, len(first)

    def _other_width(self, place: str, width: int) -> SourceError:
        return SourceError(
            f"{place} has {width} fields where the first record has {self._width}: the file is damaged, or a field with "
            f"{self.options['delimiter']!r} in it is not quoted"
        )

    def parse(self, text: str, place: Place, whole: bool = True) -> Records:
        if '"' in text:
            return self._parse_quoted(text, place)
        delimiter = self.options["delimiter"]
        lines = self.lines(text)
        records = [line for line in lines if line]
        if not records:
            return Records([], None, list, place)
        skipped = self.header_lines if whole else 0
        if whole:
            self._find_columns(records[0].split(delimiter))
        del records[:skipped]

        def numbers() -> list[int]:
            return [number for number, line in enumerate(lines, 1) if line][skipped:]

        wanted = self._width - 1
        if set(map(str.count, records, itertools.repeat(delimiter))) - {wanted}:
            index = next(index for index, line in enumerate(records) if line.count(delimiter) != wanted)
            raise self._other_width(place(numbers()[index]), records[index].count(delimiter) + 1)
        columns = [[line.split(delimiter, position + 1)[position] for line in records] for position in self._columns]
        return Records(columns[0], columns[1] if len(columns) > 1 else None, numbers, place)

    def _parse_quoted(self, text: str, place: Place) -> Records:
        def reader() -> Any:
            # Lines end with LF here, or the module would not see a line end in a field as it is.
            return csv.reader(io.StringIO(text, newline="\n"), delimiter=self.options["delimiter"], strict=True)

        def numbers() -> list[int]:
            result, end, lines = [], 0, reader()
            for row in lines:
                if row:
                    result.append(end + 1)
                end = lines.line_num
            return result[self.header_lines :]

        kept, end, lines = [], 0, reader()
        self._width = 0
        try:
            for row in lines:
                if not self._width and row:
                    self._find_columns(row)
                    key, value = self._columns[0], self._columns[-1]
                if len(row) == self._width:
                    kept.append((row[key], row[value]))
                elif row:
                    raise self._other_width(place(end + 1), len(row))
                end = lines.line_num
        except csv.Error as error:
            raise SourceError(
                f"{place(end + 1)}: the record that begins here is not CSV ({error}): look for a quote that is not closed or not doubled, "
                f"and at the delimiter, {self.options['delimiter']!r}"
            ) from None
        del kept[: self.header_lines]
        keys = [pair[0] for pair in kept]
        return Records(keys, [pair[1] for pair in kept] if len(self._columns) > 1 else None, numbers, place)
