# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats of sources: from the bytes to the records. Private to antispam.gateway."""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources._base import Options, Place, Records, SourceError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Format:
    """What the bytes of a source mean."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def header_lines(self) -> int:
        """How many lines at the beginning of a by_line() source are not records."""
        return 0

    def check(self) -> None:
        """Raise SourceError for options that contradict each other."""

    def by_line(self, raw: bytes) -> bool:
        """See Source.by_line()."""
        raise NotImplementedError

    def records(self, raw: bytes) -> Records:
        """Return the Records of the whole source; there may be none."""
        raise NotImplementedError

    def part(self, lines: Sequence[bytes]) -> Records:
        """See Source.part()."""
        raise NotImplementedError

    def part_place(self, lines: Sequence[bytes]) -> Place:
        """Return what names one of some lines, whose numbers nobody knows."""
        return lambda number: f"{self.options.label}, in the line {lines[number - 1][:80].decode(errors='replace')!r}"


class Addresses(Format):
    """Addresses without a format of their own, joined by line feeds."""

    def by_line(self, raw: bytes) -> bool:
        return True

    def records(self, raw: bytes) -> Records:
        return self._records(raw.decode().split("\n") if raw else [], lambda number: f"{self.options.label} entry {number}")

    def part(self, lines: Sequence[bytes]) -> Records:
        return self._records([line.decode() for line in lines], self.part_place(lines))

    def _records(self, keys: list[str], place: Place) -> Records:
        return Records(keys, None, lambda: range(1, len(keys) + 1), place)


class Text(Format):
    """A format that is text in some encoding."""

    def check(self) -> None:
        try:
            self.codec = codecs.lookup(self.options["encoding"]).name
            # Refuses what is no encoding of text, such as base64.
            io.TextIOWrapper(io.BytesIO(), encoding=self.codec)
        except (LookupError, ValueError):
            raise self.options.refuse(f"'{self.options['encoding']}' is not a character encoding: write one such as utf-8 or iso-8859-15") from None

    def by_line(self, raw: bytes) -> bool:
        return self.codec in ("utf-8", "ascii")

    def records(self, raw: bytes) -> Records:
        text = self.decode(raw, self.line)
        if "\n" not in text and "\r" in text[:-1]:
            raise self.options.refuse("its lines end with CR alone: save it with LF or CRLF")
        return self.parse(text, self.line)

    def part(self, lines: Sequence[bytes]) -> Records:
        place = self.part_place(lines)
        return self.parse(self.decode(b"\n".join(lines), place), place, whole=False)

    def parse(self, text: str, place: Place, whole: bool = True) -> Records:
        """Return the Records of a text that is the whole source, or some lines of it."""
        raise NotImplementedError

    def line(self, number: int) -> str:
        """Return the place of a line, counted from 1."""
        return f"{self.options.label} line {number}"

    def decode(self, raw: bytes, place: Place) -> str:
        """Return the text; SourceError, with the line, for what is not in the declared encoding."""
        if raw.startswith(_UTF16) and not self.codec.startswith(("utf-16", "utf-32")):
            raise self.options.refuse("it is UTF-16: save it as UTF-8, or set encoding: utf-16")
        if raw.startswith(codecs.BOM_UTF8) and self.codec != "utf-8-sig":
            raise self.options.refuse("it begins with a byte order mark: set encoding: utf-8-sig")
        try:
            text = raw.decode(self.codec)
        except UnicodeDecodeError as error:
            # The codec may have taken away a byte order mark.
            start = error.start + len(raw) - len(error.object)
            number = raw.count(b"\n", 0, start) + 1
            raise SourceError(
                f"{place(number)}: the byte 0x{raw[start]:02x} at offset {start} is not {self.options['encoding']}: "
                "save it as UTF-8, or set encoding to what it is, such as windows-1252"
            ) from None
        except UnicodeError:
            raise self.options.refuse(f"it is not {self.options['encoding']}: set encoding to what it is") from None
        if "\0" in text:
            number = text.count("\n", 0, text.index("\0")) + 1
            raise SourceError(f"{place(number)}: there is a NUL in it: it is damaged, or UTF-16 (then set encoding: utf-16-le or utf-16-be)")
        return text

    def lines(self, text: str) -> list[str]:
        """Return the lines without their line ends, LF or CRLF. Only these end a line, so not splitlines()."""
        if "\r" in text:
            text = text.replace("\r\n", "\n")
            if text.endswith("\r"):
                text = text[:-1]
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        return lines


class Plain(Text):
    """An address a line, and with with_values its value after a space or tab. Lines that are empty or begin with # are none."""

    def parse(self, text: str, place: Place, whole: bool = True) -> Records:
        lines = self.lines(text)
        keys: list[str] = [line for line in lines if line]
        values: list[str] | None = None
        if "#" in text:
            keys = [line for line in keys if line[0] != "#"]

        def numbers() -> list[int]:
            return [number for number, line in enumerate(lines, 1) if line and line[0] != "#"]

        if self.options["with_values"]:
            # Not split(): white space that is not ASCII has to stay where it is, to be refused.
            if "\t" in text:
                keys = [line.replace("\t", " ") for line in keys]
            pairs = [line.partition(" ") for line in keys]
            keys, values = [pair[0] for pair in pairs], [pair[2].strip(" ") for pair in pairs]
        return Records(keys, values, numbers, place)
