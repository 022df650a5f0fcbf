# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every source has: options that are checked, records, errors. Private to antispam.gateway."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options

# Bytes. More than this is not a list of addresses.
LIMIT = 1 << 30

# What names the record of a number, such as "users.csv line 17".
Place = Callable[[int], str]


class SourceError(Exception):
    """One sentence: which source, what is wrong with it, what to do. Never has a secret in it."""


class Records:
    """What a source says.

    keys are the addresses as written, values what belongs to each, or None where
    the source has no values.
    """

    def __init__(self, keys: list[str], values: list[str] | None, numbers: Callable[[], Sequence[int]], place: Place) -> None:
        """Take numbers, a function that returns the line (or the like) of each record, and place, which names one."""
        self.keys = keys
        self.values = values
        self._count = numbers
        self._numbers: Sequence[int] | None = None
        self._place = place

    def where(self, index: int) -> str:
        """Return the place of a record, such as "users.csv line 17". Lines are counted by the first call."""
        if self._numbers is None:
            self._numbers = self._count()
        return self._place(self._numbers[index])


class Options:
    """The options of one source, with the defaults of those that are absent or None.

    kind is the option that says where the addresses are (one of _source_options.KINDS),
    location its value. label is what messages call the source.
    """

    defaults: ClassVar[dict[str, Any]] = {name: specification.get("default") for name, specification in _source_options.SOURCE_OPTIONS.items()}

    def __init__(self, given: Mapping[str, Any], base_directory: str | os.PathLike[str], place: str) -> None:
        """Take options as SOURCE_OPTIONS describes them; relative paths are relative to base_directory.

        place is where the options stand, such as sources[0]; '' where their name says it.
        """
        self._values = {**self.defaults, **{name: value for name, value in given.items() if value is not None}}
        self._directory = str(base_directory)
        self._place = place
        self.label = ""
        self.set_name(self["name"] or ("" if place else "a source"))
        kinds = [kind for kind in _source_options.KINDS if self[kind] is not None]
        if len(kinds) != 1:
            raise self.refuse(f"it has {' and '.join(kinds) or 'none of them'} where exactly one of {', '.join(_source_options.KINDS)} belongs")
        self.kind = kinds[0]
        self.location = self[self.kind]

    def set_name(self, name: str) -> None:
        """Have messages call the source by its place and this name."""
        self.label = f"{self._place} ({name})" if self._place and name else self._place or name

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def is_set(self, name: str) -> bool:
        """Whether an option has another value than its default."""
        return bool(self[name] != self.defaults[name])

    def refuse(self, sentence: str) -> SourceError:
        """Return the error that says this of the source."""
        return SourceError(f"{self.label}: {sentence}")

    def path(self, path: str) -> str:
        """Return the absolute path of a file on the controller."""
        return os.path.normpath(os.path.join(self._directory, os.path.expanduser(str(path))))

    def file(self, option: str) -> str | None:
        """Return the absolute path in an option that names a file, None without it; SourceError if it cannot be read."""
        if self[option] is None:
            return None
        path = self.path(self[option])
        try:
            with open(path, "rb"):
                return path
        except OSError as error:
            raise self.refuse(f"cannot read {option} {path}: {error.strerror}") from None


class Transport:
    """How the bytes of a source come here."""

    # Whether each fetch asks another host.
    remote = False
    # Whether what comes has a format of its own; if not, it is addresses.
    formatted = False

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> None:
        """Raise SourceError for options that contradict each other."""

    def name(self) -> str:
        """Return what the source is called where it has no name; nothing secret."""
        return str(self.options.location)

    def file_name(self) -> str:
        """Return the name of what is fetched, whose ending tells the format."""
        return self.name()

    def identity(self) -> dict[str, Any]:
        """Return what tells this place from others, without secrets, as JSON can hold it."""
        return {"location": self.name()}

    def fetch(self) -> bytes:
        """Return all of the bytes, or raise SourceError."""
        raise NotImplementedError


def join(options: Options, addresses: Sequence[str], place: Place) -> bytes:
    """Return addresses as the bytes of a source: joined by line feeds, in UTF-8. place names the address of an index in errors."""
    joined = "\n".join(addresses)
    if "\0" in joined or joined.count("\n") >= max(len(addresses), 1):
        for index, address in enumerate(addresses):
            if "\n" in address or "\0" in address:
                raise options.refuse(f"{place(index)} is {address[:80]!r}, which has a line end or a NUL in it: an address has neither")
    try:
        return joined.encode()
    except UnicodeEncodeError as error:
        index = joined.count("\n", 0, error.start)
        raise options.refuse(f"{place(index)} is {addresses[index][:80]!r}, which has half a character in it (a surrogate)") from None
