# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON, and JMESPath. Private to antispam.gateway."""

from __future__ import annotations

import collections
import json
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _format
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources._base import Place, Records

_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null", int: "a number", float: "a number"}


class _DuplicateKey(ValueError):
    pass


class Json(_format.Text):
    """A list of addresses or of pairs with a value, or an object of address to value; a query finds it in a larger document."""

    def by_line(self, raw: bytes) -> bool:
        return False

    def records(self, raw: bytes) -> Records:
        return self.parse(self.decode(raw, self.line), self.line)

    def parse(self, text: str, place: Place, whole: bool = True) -> Records:
        try:
            found = json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise self.options.refuse(f"it is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
        except _DuplicateKey as error:
            raise self.options.refuse(f"an object in it has the key {str(error)[:80]!r} twice: only one of them can be meant") from None
        except (RecursionError, ValueError):
            raise self.options.refuse("its JSON is nested too deeply, or has too long a number") from None
        if self.options["query"] is not None:
            found = self._query(found)
        if isinstance(found, dict):
            return self._pairs(list(found.items()))
        if not isinstance(found, list):
            raise self.options.refuse(f"{self._what_is()} is {_TYPES[type(found)]} where a list of addresses is expected{self._help()}")
        for index, element in enumerate(found):
            if type(element) is not type(found[0]) or not isinstance(element, (str, list)):
                raise self.options.refuse(f"element {index + 1} of {self._what_is()} is {_TYPES[type(element)]} where an address is expected{self._help()}")
            if isinstance(element, list) and (len(element) != 2 or not isinstance(element[0], str)):
                raise self.options.refuse(f"element {index + 1} of {self._what_is()} is a list, but not of an address and its value{self._help()}")
        if found and isinstance(found[0], list):
            return self._pairs(found)
        return self._records(found, None)

    def _pairs(self, pairs: list[Any]) -> Records:
        for number, (dummy, value) in enumerate(pairs, 1):
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise self.options.refuse(f"the value of element {number} of {self._what_is()} is {_TYPES[type(value)]} where a string or number belongs")
        return self._records([key for key, dummy in pairs], [str(value) for dummy, value in pairs])

    def _records(self, keys: list[str], values: list[str] | None) -> Records:
        try:
            "".join(keys).encode()
        except UnicodeEncodeError:
            raise self.options.refuse(f"{self._what_is()} has half a character in an address (a surrogate)") from None
        return Records(keys, values, lambda: range(1, len(keys) + 1), lambda number: f"{self.options.label} element {number}")

    def _what_is(self) -> str:
        return "the document" if self.options["query"] is None else f"what the query {self.options['query']} yields"

    def _help(self) -> str:
        return ": give a query, such as users[].mail" if self.options["query"] is None else ": correct the query"

    def _query(self, document: Any) -> Any:
        try:
            import jmespath
            import jmespath.exceptions
        except ImportError:
            raise self.options.refuse(
                "a query needs the Python library jmespath, which the controller's Python lacks: "
                "install the package python3-jmespath (Debian), or jmespath (PyPI)"
            ) from None
        try:
            return jmespath.search(self.options["query"], document)
        except jmespath.exceptions.JMESPathError as error:
            said = " ".join(str(error).split())[:200]
            raise self.options.refuse(f"the query {self.options['query']} cannot be applied: {said}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict; json would let the last of two equal keys win."""
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = collections.Counter(key for key, dummy in pairs)
        raise _DuplicateKey(counts.most_common(1)[0][0])
    return result
