# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains, addresses, networks and amavis score keys, as the gateway accepts them.

Private to antispam.gateway. Every function takes text as an administrator
writes it (whatever type YAML made of it), returns the one canonical spelling,
and raises ValueError with a sentence that says what is wrong and how to write it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

# RFC 1035 section 2.3.4 and RFC 5321 section 4.5.3.1 (lengths in octets).
MAX_DOMAIN = 253
MAX_LOCAL_PART = 64
MAX_ADDRESS = 254

# The largest blocks that were ever given to one site.
SHORTEST_PREFIX = {4: 8, 6: 16}
# RFC 4193
UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
# RFC 5321 Dot-string, and Quoted-string.
_DOT_STRING = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"\Z')

# Points beyond this are a mistake: amavis adds them to the spam score as they are.
MAX_SCORE = 100.0


def domain(text: object) -> str:
    """Return the A-label form of a domain name in lower case."""
    name = str(text).strip().lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
            same = name.encode("ascii").decode("idna") == str(text).strip().lower()
        except UnicodeError as error:
            raise ValueError(f"'{text}' is not a domain name: {error}") from error
        if is_ip(name):
            raise ValueError(f"'{text}' is an IP address where a domain name belongs")
        if not same:
            # IDNA 2003, which Python has, makes strasse.de of straße.de: somebody else's domain.
            raise ValueError(f"'{text}' has more than one form in the DNS: write the one that is meant, as xn--...")
    if len(name) > MAX_DOMAIN:
        raise ValueError(f"'{text}' is longer than {MAX_DOMAIN} octets")
    labels = name.split(".")
    if not all(_LABEL.match(label) for label in labels):
        raise ValueError(f"'{text}' is not a domain name: write letters, digits and hyphens between dots, like example.com")
    if labels[-1].isdigit():
        raise ValueError(f"'{text}' is an IP address where a domain name belongs")
    return name


def fqdn(text: object) -> str:
    """Return a domain name that has at least two labels."""
    name = domain(text)
    if "." not in name:
        raise ValueError(f"'{text}' is not fully qualified: write the host name with its domain, like mx1.example.com")
    return name


def local_part(text: object) -> str:
    """Return a local part folded to lower case, as Postfix folds lookup keys."""
    # Not ASCII is not a Dot-string, and some of it would become ASCII in lower case.
    part = str(text).lower() if str(text).isascii() else str(text)
    if len(part) > MAX_LOCAL_PART:
        raise ValueError(f"the local part '{text}' is longer than {MAX_LOCAL_PART} octets")
    if part.startswith("#"):
        raise ValueError(f"'{text}' begins with '#', which makes its table line a comment")
    if not _DOT_STRING.match(part):
        raise ValueError(f"'{text}' is not a local part (RFC 5321 Dot-string: no spaces, quotes, control or non-ASCII characters)")
    return part


def address(text: object, wildcard: bool = False) -> str:
    """Return local@domain in canonical form; with wildcard, also @domain. The domain is fully qualified."""
    local, name = _split(text)
    if wildcard and not local:
        return "@" + fqdn(name)
    try:
        result = f"{local_part(local)}@{fqdn(name)}"
    except ValueError as error:
        raise ValueError(f"'{text}' is not an address: {error}") from error
    if len(result) > MAX_ADDRESS:
        raise ValueError(f"'{text}' is longer than {MAX_ADDRESS} octets")
    return result


def _split(text: object) -> tuple[str, str]:
    local, at, name = str(text).rpartition("@")
    if not at:
        raise ValueError(f"'{text}' is not an address: it has no @")
    # domain() would take it off.
    if name != name.lstrip():
        raise ValueError(f"'{text}' is not an address: it has white space or a control character after the @")
    return local, name


def recipient(text: object) -> str:
    """Return an address, or @domain for all of a domain, as smtpd looks it up; a quoted local part (RFC 5321) has the fewest quotes."""
    local, name = _split(text)
    if not local.startswith('"'):
        return address(text, wildcard=True)
    if not _QUOTED_STRING.match(local):
        raise ValueError(f"'{text}' is not an address: its quotes are not those of an RFC 5321 Quoted-string")
    part = re.sub(r"\\(.)", r"\1", local[1:-1]).lower()
    if not _DOT_STRING.match(part):
        part = '"' + re.sub(r'(["\\])', r"\\\1", part) + '"'
    elif part.startswith("#"):
        raise ValueError(f"'{text}' begins with '#', which makes its table line a comment")
    result = f"{part}@{fqdn(name)}"
    if len(part) > MAX_LOCAL_PART or len(result) > MAX_ADDRESS:
        raise ValueError(f"'{text}' is longer than an address may be: {MAX_LOCAL_PART} octets before the @, {MAX_ADDRESS} in all")
    return result


def network(text: object) -> Network:
    """Return a network without host bits (D2: 127.0.0.1/8 defers all mail) that is not too large to be trusted."""
    found = client_network(text, "which makes Postfix answer 451 to everybody")
    local = isinstance(found, ipaddress.IPv6Network) and found.subnet_of(UNIQUE_LOCAL)
    if found.prefixlen < SHORTEST_PREFIX[found.version] and not local:
        raise ValueError(f"'{text}' is so large a part of the internet that the gateway would be an open relay")
    return found


def client_network(text: object, consequence: str = "which makes Postfix ignore it") -> Network:
    """Return a network of any size without host bits; the error for them names the consequence."""
    if "%" in str(text):
        raise ValueError(f"'{text}' names an interface, which no table of networks can: write the network alone")
    try:
        return ipaddress.ip_network(str(text).strip())
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(str(text).strip(), strict=False)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a network: write it like 192.0.2.0/24 or 2001:db8::/32") from error
    raise ValueError(f"'{text}' has host bits set, {consequence}: write {meant}")


def ip(text: object) -> str:
    """Return an IP address in its canonical form."""
    try:
        return str(ipaddress.ip_address(str(text).strip()))
    except ValueError as error:
        raise ValueError(f"'{text}' is not an IP address: write it like 192.0.2.53 or 2001:db8::53") from error


def postfix_network(net: Network) -> str:
    """Return a network as mynetworks in postconf(5) wants it: IPv6 in square brackets."""
    if net.version == 6:
        return f"[{net.network_address}]/{net.prefixlen}"
    return str(net)


class NextHop(NamedTuple):
    """Where transport(5) sends mail on to. Brackets keep Postfix from looking for MX records of the host."""

    host: str
    port: int
    bracketed: bool

    def __str__(self) -> str:
        """Return the canonical form, as transport(5) reads it: port 25 is left out."""
        return (f"[{self.host}]" if self.bracketed else self.host) + ("" if self.port == 25 else f":{self.port}")


def next_hop(text: object) -> NextHop:
    """Return a transport(5) next hop such as [mail.example.com]:25. A name without brackets is looked up as MX."""
    match = re.match(r"(?:\[(?P<literal>[^\]\s]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>\d{1,5}))?\Z", "" if text is None else str(text).strip())
    if not match:
        raise ValueError(f"'{text}' is not a next hop: write [mail.example.com], [mail.example.com]:25 or [192.0.2.25]")
    port = int(match["port"] or 25)
    if not 0 < port < 65536:
        raise ValueError(f"'{text}' has no valid port: write a number from 1 to 65535")
    if match["literal"] is None:
        if is_ip(match["name"]):
            raise ValueError(f"'{text}' is an address without brackets, which Postfix would look up as a name: write [{match['name']}]")
        return NextHop(domain(match["name"]), port, False)
    host = match["literal"].lower().removeprefix("ipv6:")
    if is_ip(host):
        return NextHop(str(ipaddress.ip_address(host)), port, True)
    return NextHop(domain(match["literal"]), port, True)


def is_ip(text: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def score_key(text: object) -> str:
    """Return a key of an amavis sender score table, refusing those that never match.

    amavis looks a sender up as user+ext@sub.example.com, user@..., user@ (any
    domain), sub.example.com, .sub.example.com, .example.com, .com and '.'.
    The null sender is '@' here: an empty key cannot be written in a file.
    """
    key = str(text).strip().lower()
    if key in ("@", "."):
        return key
    if "#" in key:
        raise ValueError(f"'{text}' has '#' in it, from which on amavis takes its line for a comment")
    if key.startswith("@"):
        raise ValueError(f"'{text}' never matches in amavis: write '{key[1:]}' for the domain or '.{key[1:]}' for it and all below it")
    if key.endswith("@"):
        return local_part(key[:-1]) + "@"
    if "@" in key:
        return address(key)
    if key.startswith("."):
        return "." + domain(key[1:])
    return domain(key)


def score(text: object) -> float:
    """Return a score as a float, refusing what amavis would read as 0, 1 or 3."""
    try:
        # Python takes 1_0 and the digits of other scripts as well.
        value = float(str(text).replace("_", " ").encode("ascii"))
    except ValueError as error:
        raise ValueError(f"'{text}' is not a score: write a number such as -2.5") from error
    # The comparison is written so that NaN fails it as well.
    if not abs(value) <= MAX_SCORE:
        raise ValueError(f"{text} is not a score between -{MAX_SCORE:g} and {MAX_SCORE:g}")
    return value
