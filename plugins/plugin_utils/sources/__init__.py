# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of addresses, read on the controller: lists, files, HTTP and LDAP.

Private to antispam.gateway. A source is fetched as bytes by a transport and
parsed by a format in a second step, so that one that has not changed need not
be parsed. It yields all of its records or an error, never a part. What an
address may look like is not decided here: records are what the source says,
and Records.where() tells where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _csv, _format, _http, _json, _ldap, _local
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources._base import Options, Records, SourceError, Transport

__all__ = ["Records", "Source", "SourceError", "mistakes"]

_TRANSPORTS: dict[str, type[Transport]] = {"addresses": _local.List, "path": _local.File, "url": _http.Http, "ldap_uri": _ldap.Ldap}
_FORMATS: dict[str, type[_format.Format]] = {"plain": _format.Plain, "csv": _csv.Csv, "json": _json.Json, "list": _format.Addresses}
_ENDINGS = {".csv": "csv", ".json": "json"}

_FILE = {"path", "url"}
_NETWORK = {"url", "ldap_uri"}
_LDAP = {"ldap_uri"}
# What an option needs: the source is of one of these kinds, and in one of these formats.
_BELONGS = {
    "format": _FILE,
    "encoding": _FILE,
    "column": {"csv"},
    "value_column": {"csv"},
    "header": {"csv"},
    "delimiter": {"csv"},
    "query": {"json"},
    "with_values": {"plain"},
    "username": {"url"},
    "headers": {"url"},
    "client_cert": {"url"},
    "client_key": {"url"},
    "password": _NETWORK,
    "ca_path": _NETWORK,
    "validate_certs": _NETWORK,
    "timeout": _NETWORK,
    "start_tls": _LDAP,
    "bind_dn": _LDAP,
    "base": _LDAP,
    "scope": _LDAP,
    "filter": _LDAP,
    "attributes": _LDAP,
    "page_size": _LDAP,
}

# What may be another one without another content, or is secret.
_NOT_IDENTIFYING = {"password", "headers", "timeout", "validate_certs", "format"}


class Source:
    """One source.

    name is what the administrator calls it, label what messages call it. identity
    names what is read and how, without secrets. domains, value and wildcards are the
    options of these names; value is "OK" where none is given. remote says that
    another host is asked at each fetch. header_lines is how many lines at the
    beginning of a by_line() source are not records.
    """

    def __init__(self, options: Mapping[str, Any], base_directory: str | os.PathLike[str], place: str = "") -> None:
        """Take options as SOURCE_OPTIONS describes them; what is absent or None has its default.

        Raises SourceError for options that contradict each other. Relative paths are relative to base_directory.
        place is where the options stand, such as sources[0]; '' where their name says it.
        """
        self._options = Options(options, base_directory, place)
        self._transport = _TRANSPORTS[self._options.kind](self._options)
        self.name = str(self._options["name"] or self._transport.name())
        self._options.set_name(self.name)
        self.label = self._options.label
        self.remote = self._transport.remote
        self.domains: list[str] = list(self._options["domains"])
        self.wildcards: bool = self._options["wildcards"]
        self.value: str = "OK" if self._options["value"] is None else self._options["value"]
        self._transport.check()
        ending = os.path.splitext(self._transport.file_name())[1].lower()
        format_name = (self._options["format"] or _ENDINGS.get(ending, "plain")) if self._transport.formatted else "list"
        self._format = _FORMATS[format_name](self._options)
        self._check(format_name)
        self._format.check()
        self.header_lines = self._format.header_lines
        described = {name: self._options[name] for name in _BELONGS if name not in _NOT_IDENTIFYING}
        self.identity = json.dumps({**described, **self._transport.identity(), "kind": self._options.kind, "format": format_name}, sort_keys=True)

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def _check(self, format_name: str) -> None:
        options, refuse = self._options, self._options.refuse
        for option, owners in _BELONGS.items():
            if options.is_set(option) and not owners & {options.kind, format_name}:
                if owners & {"plain", "csv", "json"} and self._transport.formatted:
                    raise refuse(f"{option} is an option of {min(owners)} files, but the format is {format_name}: set format or remove {option}")
                raise refuse(f"{option} has no meaning for a source that is given by {options.kind}: remove it")
        for option, needed in _source_options.REQUIRED_BY.items():
            if options[option] is not None and any(options[name] is None for name in needed):
                raise refuse(f"{option} needs {needed[0]} as well")
        if not options["timeout"] > 0:
            raise refuse("timeout is a number of seconds above 0")

    def fetch(self) -> bytes:
        """Return the bytes of the source; of a list or a directory, the addresses joined by line feeds, in UTF-8."""
        return self._transport.fetch()

    def by_line(self, raw: bytes) -> bool:
        """Say whether each line of raw, without the first header_lines, is a record of its own, so that part() can parse some of them.

        Remembers the columns of a CSV header, and raises SourceError for one without the wanted columns. In CSV without a header
        the first record says how many fields the others have, so they are not independent of it.
        """
        return self._format.by_line(raw)

    def records(self, raw: bytes) -> Records:
        """Return the Records of the whole source; there is at least one."""
        records = self._format.records(raw)
        if not records.keys:
            raise self._options.refuse("there is no address in it, which is not taken for a wish to have none: look at what writes it")
        return records

    def part(self, lines: Sequence[bytes]) -> Records:
        """Return the Records of some lines of a source that is by_line(), each given without its line feed; there may be none."""
        return self._format.part(lines)


def mistakes(given: Sequence[Mapping[str, Any]], base_directory: str | os.PathLike[str], place: str) -> list[str]:
    """Return a sentence for each of several sources whose options contradict each other. None of them is fetched.

    given: the options of each, as SOURCE_OPTIONS describes them. place is where they stand, such as sources.
    """
    found = []
    for index, options in enumerate(given):
        try:
            Source(options, base_directory, f"{place}[{index}]")
        except SourceError as error:
            found.append(str(error))
    return found
