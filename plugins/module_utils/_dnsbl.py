# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DNS-based lists (RFC 5782) that postscreen(8) weighs, as an administrator writes them.

Private to antispam.gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses

# What lists answer to a resolver that they do not serve, and what RFC 5782 section 5 says nobody is listed with.
# A list that counts these refuses, or welcomes, the world.
NO_LISTING = tuple(f"127.255.255.{last}" for last in range(256)) + ("127.0.0.1", "127.0.0.255")

# What Ansible masks in everything that a module returns must not be found in a site's own names.
SHORTEST_KEY = 12

_OCTET = re.compile(r"\[([^\[\]]*)\]|([0-9]{1,3})")
_FILTER = re.compile(rf"(?:(?:{_OCTET.pattern})(?:\.(?!\Z)|\Z)){{4}}")
_RANGE = re.compile(r"([0-9]{1,3})(?:\.\.([0-9]{1,3}))?\Z")
_KEY = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_NOTATION = "write four numbers, or ranges in brackets, between dots, like 127.0.0.2 or 127.0.[0..255].[1;2;4..11]"


class _List(NamedTuple):
    domain: str
    zone: str
    octets: list[frozenset[int]]
    weight: int


def answers(text: str) -> list[frozenset[int]]:
    """Return a filter of postscreen_dnsbl_sites as four sets of numbers; ValueError says what is wrong with it."""
    if not _FILTER.fullmatch(text):
        raise ValueError(f"'{text}' is not a filter of answers: {_NOTATION}")
    return [_numbers(number or pattern, text) for pattern, number in _OCTET.findall(text)]


def _numbers(pattern: str, text: str) -> frozenset[int]:
    result: set[int] = set()
    for part in pattern.split(";"):
        match = _RANGE.match(part)
        low = int(match[1]) if match else 1
        high = int(match[2] or low) if match else 0
        if not low <= high <= 255:
            raise ValueError(f"'{text}' is not a filter of answers: {_NOTATION}")
        result.update(range(low, high + 1))
    return frozenset(result)


def counts(octets: Sequence[Set[int]], address: str) -> bool:
    """Return whether an answer such as '127.0.0.2' passes the filter."""
    return all(int(number) in allowed for number, allowed in zip(address.split("."), octets))


def check(entries: Iterable[Mapping[str, Any]], threshold: int, variable: str = "gateway_dnsbl_lists") -> tuple[list[str], list[str]]:
    """Return (problems, warnings), sentences about the lists as an administrator wrote them."""
    lists: list[_List] = []
    problems: list[str] = []
    warnings: list[str] = []
    weights: dict[str, int] = {}
    for index, entry in enumerate(entries):
        where = f"{variable}[{index}]"
        try:
            each = _read(entry)
        except ValueError as error:
            problems.append(_without(entry.get("key"), f"{where}: {error}"))
            continue
        if any(each.zone == other.zone and each.octets == other.octets for other in lists):
            problems.append(_without(entry.get("key"), f"{where}: {each.domain} stands in the list twice with the same answers; keep one of them"))
        lists.append(each)
        # postscreen adds up what entries of one list say.
        weights[each.zone] = weights.get(each.zone, 0) + max(each.weight, 0)
        if weights[each.zone] >= threshold and not entry.get("refuses_alone"):
            text = (
                f"{where}: {each.domain} has the weight {weights[each.zone]}, so it alone reaches gateway_dnsbl_threshold {threshold} and refuses a"
                " client; give it less weight, or say refuses_alone: true if it is trusted that far"
            )
            warnings.append(_without(entry.get("key"), text))
    if threshold < 1:
        problems.append(f"gateway_dnsbl_threshold: {threshold} would refuse clients that no list names; use 1 or more")
    total = sum(each.weight for each in lists if each.weight > 0)
    if lists and not problems and total < threshold:
        warnings.append(f"gateway_dnsbl_threshold: all weights together are {total}, so nobody reaches {threshold} and nobody is refused")
    return problems, warnings


def _read(entry: Mapping[str, Any]) -> _List:
    domain = _addresses.fqdn(entry["domain"])
    if domain != entry["domain"]:
        raise ValueError(f"'{entry['domain']}' is not how Postfix asks for it: write {domain}")
    octets = answers(entry["answers"])
    wrong = next((address for address in NO_LISTING if counts(octets, address)), None)
    if octets[0] != {127}:
        raise ValueError(f"the filter '{entry['answers']}' lets addresses count that do not begin with 127, with which no list answers (RFC 5782)")
    if wrong:
        raise ValueError(
            f"the filter '{entry['answers']}' lets {wrong} count, which is no listing: it is how a list answers a resolver that it does not serve,"
            " or what nobody is listed with (RFC 5782); use 127.0.0.[2..254] or a narrower one"
        )
    if not entry["weight"]:
        raise ValueError(f"{domain} has the weight 0, so it says nothing; give it a weight (below 0 in favour of a client) or remove it")
    if abs(entry["weight"]) > 1000:
        raise ValueError(f"{domain} has the weight {entry['weight']}: use a number between -1000 and 1000")
    key = entry.get("key") or ""
    if key and not _KEY.match(key):
        raise ValueError(f"the key of {domain} is not a label of a domain name: it has letters, digits and hyphens only")
    if key and len(key) < SHORTEST_KEY:
        raise ValueError(f"the key of {domain} is shorter than {SHORTEST_KEY} characters: it could be a part of other words, and all of them would be masked")
    return _List(domain, zone(domain, key), octets, entry["weight"])


def zone(domain: str, key: str | None) -> str:
    """Return the domain to ask, which begins with the key where a list wants one."""
    return f"{key}.{domain}" if key else domain


def _without(key: str | None, text: str) -> str:
    return re.sub(re.escape(key), "********", text, flags=re.IGNORECASE) if key else text
