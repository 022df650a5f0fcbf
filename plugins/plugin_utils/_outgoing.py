# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outbound mail of a site: who may send what, how it travels, and what it is signed with.

Private to antispam.gateway; used on the controller. Like _site.py it touches no host, and `problems` holds one sentence for each mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses
from ansible_collections.antispam.gateway.plugins.plugin_utils import _site

# What crypt(3) and Argon2 make, with a scheme of Dovecot before it or none. MD5 and DES are no longer hashes.
_HASH = re.compile(r"(?:\{(?:CRYPT|SHA256-CRYPT|SHA512-CRYPT|BLF-CRYPT|ARGON2ID?)\})?\$(?:5|6|y|2[aby]|argon2id?)\$[A-Za-z0-9./+=,$-]{20,}\Z")
_LOGIN = re.compile(r"[^:\s]+")
# smtp_tls_policy_maps in postconf(5).
TLS_LEVELS = ("none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_SELECTOR = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\Z")


def password_hash(text: object) -> bool:
    """Return True, or raise ValueError for what is no password hash. What was given is in no error."""
    if not _HASH.match(str(text)):
        raise ValueError("this is no password hash; write what 'openssl passwd -6' or 'mkpasswd --method=yescrypt' prints, never the password itself")
    return True


def selector(text: object) -> str:
    """Return a DKIM selector (RFC 6376 section 3.1) in lower case."""
    name = str(text).strip().lower()
    if not _SELECTOR.match(name):
        raise ValueError(f"'{text}' is not a selector: write letters, digits and hyphens, like mx1-2026")
    return name


def tls_destination(text: object) -> str:
    """Return a key of smtp_tls_policy_maps: a next hop as it stands in a table, a domain, or .domain for all below it."""
    key = str(text).strip()
    if key.startswith("."):
        return "." + _addresses.domain(key[1:])
    return str(_addresses.next_hop(key))


def tls_policy(text: object) -> str:
    """Return a value of smtp_tls_policy_maps, whose level is one that Postfix knows."""
    words = str(text).split()
    if not words or words[0] not in TLS_LEVELS:
        raise ValueError(f"'{text}' does not begin with a security level of Postfix: write one of {', '.join(TLS_LEVELS)}")
    return " ".join(words)


def certificate_names(policy: str, host: str) -> list[str]:
    """Return the names of which a certificate needs one, as smtp_tls_policy_maps has them (postconf(5)): `.name` is every name below it.

    policy is a value of that table, host the next hop that it is for. Where the level asks for no certificate there are none.
    """
    level, *attributes = policy.split()
    if level not in ("verify", "secure"):
        return []
    patterns = [pattern for word in attributes if word.startswith("match=") for pattern in word.removeprefix("match=").split(":")]
    meant = {"nexthop": host, "hostname": host, "dot-nexthop": "." + host}
    return [meant.get(pattern, pattern) for pattern in patterns or (["nexthop", "dot-nexthop"] if level == "secure" else ["hostname"])]


class Outgoing(_site.Description):
    """What a validated `site` sends, and how. `variables` are those of _schema.read()."""

    def __init__(self, site: _site.Site, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self.site = site
        # The logins that may name anybody as the author.
        self.any_from: set[str] = set()
        self.accounts = self._accounts(variables["gateway_accounts"])
        smarthost = variables["gateway_smarthost"] or {}
        self.smarthost = self._smarthost(smarthost) if smarthost else None
        self.smarthost_tls: str = smarthost.get("tls", "secure")
        self.policies = self._policies(variables["gateway_tls_policies"], variables["gateway_domains"] or ())
        self.dkim_domains = self._dkim_domains(variables["gateway_dkim_domains"] if variables["gateway_dkim_signing"] else ())
        self.dkim_selector = self._take("gateway_dkim_selector", selector, variables["gateway_dkim_selector"] or None) or ""
        self.forwarders = self._forwarders(variables["gateway_forwarders"])

    def _ours(self, variable: str, address: str, way_out: str) -> bool:
        name = address.rpartition("@")[2]
        if self.site.relays(name):
            return True
        self.problems.append(f"{variable}: {address} is in {name}, which is not in gateway_domains; {way_out}")
        return False

    def _accounts(self, entries: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
        """Return {login: senders}."""
        result: dict[str, set[str]] = {}
        for index, entry in enumerate(entries):
            variable = f"gateway_accounts[{index}]"
            name = self._take(f"{variable}.name", _addresses.address, entry["name"])
            self._take(f"{variable}.password", password_hash, entry["password"])
            senders = {name} if name else set()
            for number, text in enumerate(entry.get("senders") or ()):
                where = f"{variable}.senders[{number}]"
                sender = self._take(where, lambda given: _addresses.address(given, wildcard=True), text)
                if sender and self._ours(where, sender, "an account sends for the site's own domains"):
                    senders.add(sender)
            if name is None or not self._ours(f"{variable}.name", name, "name the account by an address of the site"):
                continue
            if name in result:
                self.problems.append(f"{variable}.name: {name} stands in the list twice; keep one of them")
            result[name] = senders
            if entry.get("any_from"):
                self.any_from.add(name)
        return result

    def _smarthost(self, given: Mapping[str, Any]) -> _addresses.NextHop | None:
        username, password = given.get("username") or "", given.get("password") or ""
        if (username or password) and not (_LOGIN.fullmatch(username) and re.fullmatch(r"\S+", password)):
            self.problems.append(
                "gateway_smarthost: username and password go together, the username has no colon in it, and neither has white space,"
                " which no table of Postfix holds; write both, or none"
            )
        hop = self._take("gateway_smarthost.next_hop", _addresses.next_hop, given["next_hop"])
        if hop and hop.port == 465:
            self.problems.append("gateway_smarthost.next_hop: on port 465 TLS comes before SMTP, which Postfix does for no single next hop; name port 587")
        return hop

    def _policies(self, entries: Mapping[Any, Any], domains: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Return {next hop or domain: level and attributes}."""
        result: dict[str, str] = {}
        hops: dict[str, str] = {}
        for key, text in entries.items():
            variable = f"gateway_tls_policies['{key}']"
            self._add(result, variable, self._take(variable, tls_destination, key), self._take(variable, tls_policy, text))
        for index, entry in enumerate(domains):
            level = entry.get("next_hop_tls") or "may"
            variable = f"gateway_domains[{index}].next_hop_tls"
            try:
                hop = _addresses.next_hop(entry["next_hop"])
            except ValueError:
                continue  # the site has said so
            if level == "secure" and _addresses.is_ip(hop.host):
                self.problems.append(f"{variable}: {entry['next_hop']} is an address, and certificates are for names; name the next hop")
            key = str(hop)
            # A policy says more than a level, so it stands in place of the default.
            other = hops.setdefault(key, level) if key not in result or level == "may" else result[key]
            if other != level:
                self.problems.append(f"{variable}: {key} has the level {other} as well; a next hop has one")
        # The transport "relay" has the level "may" anyway.
        for key, level in hops.items():
            if level != "may":
                result.setdefault(key, level)
        if self.smarthost:
            result.setdefault(self.relayhost(), self.smarthost_tls)
        return result

    def _dkim_domains(self, names: Iterable[Any]) -> list[str]:
        result = []
        for index, text in enumerate(names):
            variable = f"gateway_dkim_domains[{index}]"
            name = self._take(variable, _addresses.fqdn, text)
            if name and not self.site.relays(name):
                self.problems.append(f"{variable}: {name} is not in gateway_domains; only the site's own domains are signed for")
            elif name:
                result.append(name)
        return sorted(set(result))

    def _forwarders(self, texts: Iterable[Any]) -> list[str]:
        result = []
        for index, text in enumerate(texts):
            variable = f"gateway_forwarders[{index}]"
            net = self._take(variable, lambda given: _addresses.client_network(given, "which SpamAssassin refuses"), text)
            if net is not None and not net.prefixlen:
                self.problems.append(f"{variable}: {net} is everybody; name the networks that are meant")
            elif net is not None:
                result.append(str(net))
        return result

    # What the roles read.

    def facts(self) -> dict[str, Any]:
        return {
            "logins": list(self.accounts),
            "authors": self.authors(),
            "relayhost": self.relayhost(),
            "dkim_domains": self.dkim_domains,
            "dkim_selector": self.dkim_selector,
            "forwarders": self.forwarders,
        }

    def tables(self) -> dict[str, dict[str, str]]:
        """Return {table of Postfix: its keys and values}."""
        return {"sender_logins": self.sender_logins(), "tls_policy": self.policies}

    def sender_logins(self) -> dict[str, str]:
        """Who may send as whom: {sender: "login, login"}."""
        owners: dict[str, list[str]] = {}
        for login, senders in sorted(self.accounts.items()):
            for sender in senders:
                owners.setdefault(sender, []).append(login)
        return {sender: ", ".join(logins) for sender, logins in owners.items()}

    def authors(self) -> dict[str, list[str] | None]:
        """Whom an account may name as the author: {login: addresses}, None for anybody."""
        return {login: None if login in self.any_from else sorted(senders) for login, senders in self.accounts.items()}

    def relayhost(self) -> str:
        return str(self.smarthost) if self.smarthost else ""
