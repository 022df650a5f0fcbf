# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a gateway keeps what it has learned: in a Redis server of its own, or in one that the site names for several gateways.

Private to antispam.gateway; used on the controller. It asks nobody, and `problems` holds one sentence for each mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses
from ansible_collections.antispam.gateway.plugins.plugin_utils import _site

# Sockets of the host: of its own server, and of the way over TLS to another one.
OWN_SOCKET = "/run/redis/amavis.sock"
TLS_SOCKET = "/run/gateway-redis/redis.sock"


def _server(text: object) -> tuple[str, int]:
    """Return the host and port of a server."""
    match = re.fullmatch(r"(?:\[([^\]\s]+)\]|([^\[\]:\s]+)):(\d{1,5})", "" if text is None else str(text).strip())
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError(f"'{text}' is not a server and its port: write redis.example.com:6379, 192.0.2.1:6379 or [2001:db8::1]:6379")
    host = match[1] or match[2]
    return (_addresses.ip(host) if match[1] or _addresses.is_ip(host) else _addresses.fqdn(host)), int(match[3])


class Store(_site.Description):
    """The store of a site. `variables` are those of _schema.read()."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self.wanted = bool(variables["gateway_bayes"] or variables["gateway_pen_pals"])
        given = variables["gateway_redis"] or {}
        self.host, self.port, self.tls = "", 0, False
        if not given:
            return
        found = self._take("gateway_redis.server", _server, given["server"])
        self.host, self.port = found or ("", 0)
        self.tls = bool(given["tls"])
        for name in ("username", "password"):
            if not re.fullmatch(r"[^\s\x00-\x1f\x7f]*", given.get(name) or ""):
                self.problems.append(f"gateway_redis.{name}: it has white space or control characters in it; give the account of the gateways another one")
        if given.get("username") and not given.get("password"):
            self.problems.append("gateway_redis.username: it has no password; write gateway_redis.password too, or neither")
        if not self.wanted:
            self.problems.append(
                "gateway_redis: gateway_bayes and gateway_pen_pals are false, so nothing is kept there; set one of them, or remove gateway_redis"
            )

    @property
    def own(self) -> bool:
        """Whether it is a server of the gateway's own."""
        return not self.host

    @property
    def name(self) -> str:
        """Return what people call it."""
        return OWN_SOCKET if self.own else f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def facts(self) -> dict[str, Any]:
        """Return what templates read. address: where clients on this host connect to; check: the option of stunnel that names the peer."""
        return {
            "own": self.own,
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "tls": self.tls,
            "address": TLS_SOCKET if self.tls and not self.own else self.name,
            "check": "checkIP" if _addresses.is_ip(self.host) else "checkHost",
        }


def reads_mailboxes(variables: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Return whether this gateway reads the mailboxes that teach: of those that share a store, the first one of the group `gateways` does."""
    shared = variables["gateway_redis"]
    if not shared:
        return True
    hostvars = given.get("hostvars") or {}
    for host in (given.get("groups") or {}).get("gateways") or ():
        other = hostvars[host].get("gateway_redis") if host in hostvars else None
        if isinstance(other, Mapping) and other.get("server") == shared["server"]:
            return bool(host == given.get("inventory_hostname"))
    return True
