# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix lookup tables: their entries, their text and their compiled form.

Private to antispam.gateway. The compiled form is what Postfix reads, so it is
what is looked at. Tables of type lmdb are read and written here; the other
types are compiled by postmap(1) or postalias(1) aside and renamed into place.
Entries are bytes, as they stand in the table.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _leftovers, _lmdb

# What a table holds, in bytes.
Entries = dict[bytes, bytes]

# What postmap would store under another name, join to the line before, or drop in silence.
_FORBIDDEN = re.compile("[\x00-\x20\x7f\u00a0\ufeff]")
_QUOTED_VALUE = re.compile("[\x00-\x1f\x7f]")

SUFFIX = {"lmdb": ".lmdb", "hash": ".db", "btree": ".db", "cdb": ".cdb"}
HEADER = _files.TABLE_HEADER.decode()


def check(key: str, value: str, secret: bool = False) -> None:
    """Raise ValueError for an entry that Postfix would not store as it is written. What it says holds no secret value."""
    if not key or _FORBIDDEN.search(key):
        raise ValueError(f"the key {key!r} is empty or has a space, control character, non-breaking space or byte order mark in it")
    if key.startswith("#"):
        raise ValueError(f"the key {key!r} begins with '#', which makes its line a comment")
    if not value or _QUOTED_VALUE.search(value) or value != value.strip():
        raise ValueError(f"the value {'' if secret else repr(value) + ' '}of {key} is empty, begins or ends with a space, or has a control character in it")


def fold(entries: Mapping[Any, Any], secret: bool = False) -> Entries:
    """Return entries, a dictionary of text, as Postfix stores them: keys in lower case, in bytes. Raises ValueError, as check() does."""
    result: Entries = {}
    for key, value in entries.items():
        key, value = str(key).lower(), "" if value is None else str(value)
        check(key, value, secret)
        if result.get(key.encode(), value.encode()) != value.encode():
            raise ValueError(f"the key {key} stands in the table twice with different values once it is in lower case")
        result[key.encode()] = value.encode()
    return result


def render(entries: Mapping[bytes, bytes], aliases: bool = False) -> bytes:
    """Return the text source in bytes: sorted, so that a change is a small difference."""
    separator = b":\t" if aliases else b"\t"
    return HEADER.encode() + b"".join(key + separator + value + b"\n" for key, value in sorted(entries.items()))


def parse_dump(dump: bytes, aliases: bool = False) -> Entries:
    """Return the entries that postmap -s or postalias -s printed; ValueError for what is none."""
    entries = {}
    # Not splitlines(): a value may have other line ends in it.
    for line in dump.removesuffix(b"\n").split(b"\n") if dump else ():
        key, tab, value = line.partition(b"\t")
        if not tab:
            raise ValueError(f"cannot read the line {line!r}")
        entries[key.removesuffix(b":") if aliases else key] = value
    return _without_nis(entries) if aliases else entries


def _without_nis(entries: Entries) -> Entries:
    # postalias(1) adds these for NIS.
    return {key: value for key, value in entries.items() if key not in (b"@", b"YP_LAST_MODIFIED", b"YP_MASTER_NAME")}


def difference(before: Entries, after: Entries) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return (added, removed, changed) as sorted lists of keys."""
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    changed = sorted(key for key in after.keys() & before.keys() if after[key] != before[key])
    return added, removed, changed


def read_cdb(path: str | os.PathLike[str]) -> Entries | None:
    """Return the entries of a cdb file (cdb(5)), which postmap lists only since Postfix 3.10; None if it is none."""
    data = pathlib.Path(path).read_bytes()
    try:
        # 256 pairs of where a hash table begins and how long it is; the records lie between these and the first table.
        tables = struct.unpack_from("<512I", data)
        end = min(tables[::2])
        if len(data) < max(begin + 8 * slots for begin, slots in zip(tables[::2], tables[1::2])):
            return None
        position = 2048
        entries: Entries = {}
        while position < end:
            key_length, length = struct.unpack_from("<II", data, position)
            key_end = position + 8 + key_length
            key, value = data[position + 8 : key_end], data[key_end : key_end + length]
            # Postfix may end both with a NUL; the first of two equal keys counts.
            entries.setdefault(key.removesuffix(b"\0"), value.removesuffix(b"\0"))
            position = key_end + length
    except struct.error:
        return None
    return entries if position == end else None


class Table:
    """A table on the disk: path names it as in main.cf, the compiled form lies beside under the type's suffix.

    access: owner, group, mode in octal. Errors of the disk are OSError, entries
    that the type cannot hold as they are ValueError, both with the old table in use.
    """

    def __init__(self, module: Any, path: str | os.PathLike[str], kind: str, access: tuple[str, str, str], aliases: bool = False) -> None:
        self.module, self.kind, self.access, self.aliases = module, kind, access, aliases
        self.path = pathlib.Path(path)
        self.compiled = pathlib.Path(f"{path}{SUFFIX[kind]}")
        self.command = "postalias" if aliases else "postmap"

    def missing(self) -> str:
        """Return a sentence that names what this host lacks to write the table, '' if it lacks nothing."""
        if self.kind == "lmdb":
            return _lmdb.missing()
        return "" if self._command() else f"this host has no {self.command}; install Debian's postfix"

    def facts(self) -> list[int] | None:
        """Return a list that differs whenever the table was changed by somebody else, None where there is no table."""
        if self.kind == "lmdb":
            return None if _lmdb.missing() else _lmdb.facts(self.compiled)
        try:
            status = self.compiled.stat()
        except OSError:
            return None
        return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]

    def read(self) -> Entries | None:
        """Return the entries, None where there is no table that can be read."""
        if not self.compiled.exists() or self.missing():
            return None
        if self.kind == "lmdb":
            entries = _lmdb.read(self.compiled)
            return _without_nis(entries) if entries and self.aliases else entries
        with self._config() as config:
            return self._dump(config, self.path)

    def files(self) -> list[pathlib.Path]:
        """Return the files of the table that are there: its text, and what any type has made of it."""
        paths = [self.path, *(pathlib.Path(f"{self.path}{suffix}") for suffix in SUFFIX.values())]
        return [path for path in dict.fromkeys(paths) if path.is_file()]

    def read_any(self) -> Entries | None:
        """Return the entries of this type's table, or else of another type's that lies there."""
        kinds = [self.kind, *(kind for kind in SUFFIX if kind != self.kind)]
        tables = (Table(self.module, self.path, kind, self.access, self.aliases).read() for kind in kinds)
        return next((entries for entries in tables if entries is not None), None)

    def check_access(self) -> None:
        """Raise ValueError for an owner, group or mode that cannot be; for check mode a package may yet bring the user."""
        owner, group, mode = self.access
        _files.parse_mode(self.path, mode)
        if not self.module.check_mode:
            _files.ids(self.path, owner, group)

    def access_differs(self) -> bool:
        """Whether the compiled form is there and has another owner, group or mode."""
        owner, group, mode = self.access
        return self.compiled.exists() and bool(_files.access_differs(self.compiled, self.compiled.stat(), owner, group, int(mode, 8)))

    def allow(self) -> None:
        """Give the compiled form its owner and mode."""
        owner, group, mode = self.access
        os.chown(self.compiled, *_files.ids(self.compiled, owner, group))
        self.compiled.chmod(int(mode, 8))

    def write(
        self, entries: Entries | Callable[[], Entries], source: bytes | None = None, pairs: tuple[Iterable[tuple[bytes, bytes]], int, int] | None = None
    ) -> None:
        """Write the whole table aside and rename it into place, and with it its text source if there is to be one.

        Until then it is in a directory that only root may enter. The caller holds _files.alone().
        pairs: what _lmdb.write takes, where the caller has it at hand; entries is then only asked for another type.
        """
        directory = self.path.parent
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        aside = pathlib.Path(tempfile.mkdtemp(prefix=_leftovers.aside(self.path.name), dir=directory))
        try:
            whole: Entries = {} if self.kind == "lmdb" and pairs else entries() if callable(entries) else entries
            new = Table(self.module, aside / self.path.name, self.kind, self.access, self.aliases)
            if source is not None or self.kind != "lmdb":
                text = render(whole, self.aliases) if source is None else source
                _files.replace(new.path, text, _files.ids(self.path, *self.access[:2]), int(self.access[2], 8))
            if self.kind == "lmdb":
                _lmdb.write(new.compiled, *(pairs or new.pairs(whole)))
            else:
                new.compile(whole, directory)
            new.allow()
            with open(new.compiled, "rb") as written:
                os.fsync(written.fileno())
            new.compiled.rename(self.compiled)
            if source is not None:
                # It is older than the compiled form, as Postfix expects.
                new.path.rename(self.path)
            _files.sync_directory(directory)
        finally:
            shutil.rmtree(aside)

    def pairs(self, entries: Entries) -> tuple[Iterable[tuple[bytes, bytes]], int, int]:
        """Return what _lmdb.write takes; ValueError for a key that is too long."""
        for key in entries:
            if len(key) > _lmdb.MAX_KEY:
                raise ValueError(f"the key {key.decode()[:80]}... is longer than the {_lmdb.MAX_KEY} octets that lmdb takes")
        octets = sum(len(key) + len(value) + 2 for key, value in entries.items())
        return ((key + b"\0", value + b"\0") for key, value in sorted(entries.items())), len(entries), octets

    def compile(self, entries: Entries, shown: pathlib.Path) -> None:
        """Have the text compiled, and look at what came of it; ValueError if that is not the entries. shown: the directory to name in errors."""
        with self._config() as config:
            rc, out, err = self._run(config, f"{self.kind}:{self.path}")
            printed = (err + out).decode("utf-8", "replace").replace(str(self.path.parent), str(shown)).strip()
            if rc or printed:
                raise ValueError(f"{self.command} does not take it: {printed}")
            stored = self._dump(config, self.path)
        if stored != entries:
            added, removed, changed = difference(entries, stored or {})
            keys = ", ".join(key.decode("utf-8", "replace") for key in (removed + changed + added)[:5])
            raise ValueError(f"{self.command} would store other entries than these, look at: {keys}")

    def _dump(self, config: str, source: pathlib.Path) -> Entries | None:
        if self.kind == "cdb":
            return read_cdb(f"{source}{SUFFIX[self.kind]}")
        rc, out, err = self._run(config, "-s", f"{self.kind}:{source}")
        if rc or err:
            return None
        try:
            return parse_dump(out, self.aliases)
        except ValueError:
            return None

    def _command(self) -> str | None:
        return shutil.which(self.command, path="/usr/sbin:/usr/bin")

    def _run(self, config: str, *words: str) -> tuple[int, bytes, bytes]:
        command = [self.command, "-c", config, *words]
        rc, out, err = self.module.run_command(command, expand_user_and_vars=False, path_prefix="/usr/sbin", encoding=None)
        return rc, out, err

    @contextlib.contextmanager
    def _config(self) -> Iterator[str]:
        """A configuration directory of its own: tables come before the first main.cf, without which the commands do not run."""
        with tempfile.TemporaryDirectory(prefix="postfix.", dir=self.module.tmpdir) as config:
            main_cf = pathlib.Path(config, "main.cf")
            main_cf.write_text("compatibility_level = 3.6\n", encoding="ascii")
            # Postfix waits two seconds before it trusts a main.cf that has just been written.
            os.utime(main_cf, (0, 0))
            yield config
