# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site: what an administrator wrote once, and what every role derives from it.

Private to antispam.gateway; used on the controller. Everything here is pure: it
reads variables and touches neither a host nor the network. What the host is like
is _survey's matter, and what follows from both is _judge's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses

# RFC 5321 section 4.5.1 asks for postmaster, RFC 2142 for abuse; the others
# receive what cron and the packages of the gateway itself send.
ROLE_MAILBOXES = ("postmaster", "abuse")
HOST_MAILBOXES = ROLE_MAILBOXES + ("root", "hostmaster", "mailer-daemon", "amavis", "clamav", "debian-spamd", "daemon", "nobody")

_T = TypeVar("_T")


class Domain(TypedDict):
    """What the site says of a domain that it relays mail for."""

    next_hop: str  # as a table has it, '' where it is wrong
    verify_recipients: bool


class Description:
    """What an administrator wrote; `problems` holds one sentence for each mistake."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def _take(self, variable: str, parse: Callable[[Any], _T], text: Any) -> _T | None:
        if text is None and "[" not in variable:
            # The schema has said that it is missing, or of the wrong type.
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(f"{variable}: {error}")
            return None

    def _each(self, variable: str, parse: Callable[[Any], _T], texts: Iterable[Any]) -> list[_T]:
        found = (self._take(f"{variable}[{index}]", parse, text) for index, text in enumerate(texts))
        return [value for value in found if value is not None]

    def _add(self, table: dict[str, _T], variable: str, key: str | None, value: _T | None) -> None:
        if key is None or value is None:
            return
        if key in table:
            self.problems.append(f"{variable}: {key} is there already in another spelling; keep one of them")
        table[key] = value


class Site(Description):
    """A validated site, which is only whole without problems. `variables` are those of _schema.read()."""

    def __init__(self, variables: Mapping[str, Any], unusable: Collection[str] = ()) -> None:
        """unusable: the variables whose value could not be used, which has been said."""
        super().__init__()
        self._unusable = unusable
        self.next_hops: list[tuple[str, _addresses.NextHop]] = []  # each with the variable that names it
        # Where there is no list, which has been said, nothing is held against it.
        self._without_domains = variables["gateway_domains"] is None
        self.hostname = self._take("gateway_hostname", _addresses.fqdn, variables["gateway_hostname"]) or ""
        self.domains = self._domains(variables["gateway_domains"])
        self.recipients = self._recipients(variables["gateway_recipients"])
        # The domains whose recipients are read from sources elsewhere, and those of them that a source may accept as a whole.
        self.sourced, self.wildcard_sources = self._sourced(variables["gateway_recipient_sources"])
        self.trusted_networks = self._each("gateway_trusted_networks", _addresses.network, variables["gateway_trusted_networks"])
        self.tls_required_senders = self._each("gateway_tls_required_senders", _addresses.fqdn, variables["gateway_tls_required_senders"])
        self.postmaster = self._take("gateway_postmaster", _addresses.address, variables["gateway_postmaster"]) or ""
        self.aliases = self._aliases(variables["gateway_aliases"])
        self.sender_scores = self._scores(variables["gateway_sender_scores"])
        # {network: what becomes of its hosts}
        self.clients = self._clients(variables["gateway_client_allowlist"], variables["gateway_client_denylist"])
        self._cross_check()

    def relays(self, name: str) -> bool:
        """Return whether a domain is one of the site's."""
        return self._without_domains or name in self.domains

    def _domains(self, entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Domain]:
        result: dict[str, Domain] = {}
        for index, entry in enumerate(entries or ()):
            variable = f"gateway_domains[{index}]"
            name = self._take(f"{variable}.name", _addresses.fqdn, entry["name"])
            hop = self._take(f"{variable}.next_hop", _addresses.next_hop, entry["next_hop"])
            if name is None:
                continue
            if name in result:
                self.problems.append(f"{variable}.name: {name} stands in the list twice; keep one of them")
            # Without a next hop the domain is there all the same: its recipients are no mistakes.
            result[name] = {"next_hop": "", "verify_recipients": bool(entry.get("verify_recipients"))}
            if hop is not None:
                result[name]["next_hop"] = str(hop)
                self.next_hops.append((f"{variable}.next_hop", hop))
        # Where there is no list, the schema has said so.
        if entries == []:
            self.problems.append("gateway_domains: the list is empty; name each domain with its next_hop")
        return result

    def _recipients(self, entries: Iterable[Any]) -> Collection[str]:
        # In the order of the inventory.
        return dict.fromkeys(self._each("gateway_recipients", _addresses.recipient, entries))

    def _sourced(self, sources: Iterable[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
        result: set[str] = set()
        wildcards: set[str] = set()
        for index, source in enumerate(sources):
            variable = f"gateway_recipient_sources[{index}].domains"
            names = source.get("domains") or []
            found = set(self._each(variable, _addresses.fqdn, names))
            for name in sorted(name for name in found if not self.relays(name)):
                self.problems.append(f"{variable}: {name} is not in gateway_domains; add the domain or remove it from the source")
            fed = found if names else set(self.domains)
            result |= fed
            if source.get("wildcards"):
                wildcards |= fed
        return result, wildcards

    def _clients(self, allowed: Iterable[Any], denied: Iterable[Any]) -> dict[_addresses.Network, str]:
        result: dict[_addresses.Network, str] = {}
        for variable, networks, action in (("gateway_client_allowlist", allowed, "permit"), ("gateway_client_denylist", denied, "reject")):
            for net in self._each(variable, _addresses.client_network, networks):
                if not net.prefixlen:
                    self.problems.append(f"{variable}: {net} is everybody; name the networks that are meant")
                if result.setdefault(net, action) != action:
                    self.problems.append(f"{variable}: {net} is in gateway_client_allowlist as well; keep one of them")
        return result

    def _aliases(self, entries: Mapping[Any, Any]) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for alias, targets in entries.items():
            variable = f"gateway_aliases['{alias}']"
            key = self._take(variable, _addresses.address, alias)
            if isinstance(targets, str):
                targets = [targets]
            if not isinstance(targets, list) or not targets:
                self.problems.append(f"{variable}: it names no address; write a list of addresses")
                continue
            self._add(result, variable, key, self._each(variable, _addresses.address, targets))
        return result

    def _scores(self, entries: Mapping[Any, Any]) -> dict[str, float]:
        result: dict[str, float] = {}
        for key, points in entries.items():
            variable = f"gateway_sender_scores['{key}']"
            self._add(result, variable, self._take(variable, _addresses.score_key, key), self._take(variable, _addresses.score, points))
        return result

    def _cross_check(self) -> None:
        known = set(self.domains) | {self.hostname}
        if self.hostname in self.domains:
            self.problems.append(
                f"gateway_hostname: {self.hostname} is also a relay domain; mail for a relay domain goes to its next hop, so give the host a name of its own"
            )
        elif self.postmaster and self.postmaster.rpartition("@")[2] == self.hostname:
            self.problems.append(f"gateway_postmaster: {self.postmaster} is on the gateway, which has no mailboxes; name an address that a next hop delivers")
        self._cross_check_recipients()
        for alias in sorted(self.aliases):
            name = alias.rpartition("@")[2]
            if name not in known and not self.relays(name):
                self.problems.append(f"gateway_aliases: {alias} is in {name}, which is neither in gateway_domains nor gateway_hostname")
        listed = {recipient.rpartition("@")[2] for recipient in self.recipients}
        recipients_known = not {"gateway_recipients", "gateway_recipient_sources"}.intersection(self._unusable)
        for name, entry in self.domains.items():
            if recipients_known and name not in listed and not entry["verify_recipients"] and name not in self.sourced:
                self.problems.append(
                    f"gateway_domains: nothing says who receives mail in {name}; list its recipients in gateway_recipients,"
                    f" name a source in gateway_recipient_sources, write '@{name}' in gateway_recipients to accept every address,"
                    " or set verify_recipients: true to let Postfix ask the next hop"
                )

    def _cross_check_recipients(self) -> None:
        """Say it once a domain: a forgotten one may have thousands of recipients."""
        unknown: dict[str, list[str]] = {}
        for recipient in sorted(self.recipients):
            name = recipient.rpartition("@")[2]
            if not self.relays(name):
                unknown.setdefault(name, []).append(recipient)
        for name, found in unknown.items():
            those, them = (f"{len(found)} recipients are in it ({found[0]}, ...)", "them") if len(found) > 1 else (f"{found[0]} is in it", "the recipient")
            self.problems.append(f"gateway_recipients: {name} is not in gateway_domains, but {those}; add the domain or remove {them}")

    # What the roles read.

    def facts(self) -> dict[str, Any]:
        return {
            "hostname": self.hostname,
            "postmaster": self.postmaster,
            "domains": sorted(self.domains),
            "listed_domains": self.listed_domains(),
            "trusted_networks": [str(net) for net in self.trusted_networks],
            "postfix_networks": [_addresses.postfix_network(net) for net in self.trusted_networks],
            "tls_required_senders": self.tls_required_senders,
            "relay_recipients": self.relay_recipients(),
            "prove_recipient": self.prove_recipient(),
            "sender_scores": self.sender_scores,
            "client_access": self.client_access(),
            "next_hop_names": self.next_hop_names(),
        }

    def tables(self) -> dict[str, dict[str, str]]:
        """Return {table of Postfix: its keys and values}."""
        return {
            "relay_domains": self.relay_domains(),
            "transport": self.transport(),
            "verify_recipients": self.verify_recipients(),
            "virtual": self.virtual(),
            "aliases": self.system_aliases(),
        }

    def listed_domains(self) -> list[str]:
        """Return the domains where an address that is not listed does not exist: no wildcard, and the next hop is not asked."""
        fed = self.wildcard_sources
        return sorted(name for name, entry in self.domains.items() if not entry["verify_recipients"] and "@" + name not in self.recipients and name not in fed)

    def next_hop_names(self) -> list[str]:
        """Return the hosts that are named, not addresses."""
        return sorted({hop.host for _variable, hop in self.next_hops if not _addresses.is_ip(hop.host)})

    def client_access(self) -> list[list[str]]:
        """Return pairs of network and action for a table in which the first match counts, as cidr_table(5) has it."""
        return [[str(net), action] for net, action in sorted(self.clients.items(), key=lambda pair: (-pair[0].prefixlen, str(pair[0])))]

    def relay_domains(self) -> dict[str, str]:
        return {name: "OK" for name in self.domains}

    def transport(self) -> dict[str, str]:
        return {name: f"relay:{entry['next_hop']}" for name, entry in self.domains.items()}

    def verify_recipients(self) -> dict[str, str]:
        return {name: "reject_unverified_recipient" for name, entry in self.domains.items() if entry["verify_recipients"]}

    def relay_recipients(self) -> list[str]:
        """Return a list; sources may add to it."""
        return sorted({*self.recipients, *("@" + name for name in self.verify_recipients())})

    def prove_recipient(self) -> str:
        """Return the address that gets test messages, '' where there is none: the postmaster, who runs them, so that nobody else does."""
        full = [self.postmaster, *self.recipients]
        return next((address for address in full if address[:1] != "@" and address.rpartition("@")[2] in self.domains), "")

    def virtual(self) -> dict[str, str]:
        """postmaster and abuse of every domain, unless the site lists them as recipients or aliases itself."""
        result = {f"{local}@{self.hostname}": self.postmaster for local in HOST_MAILBOXES}
        for name in self.domains:
            for local in ROLE_MAILBOXES:
                if f"{local}@{name}" not in self.recipients:
                    result[f"{local}@{name}"] = self.postmaster
        # An alias to oneself is how a table says "deliver as it is".
        result.pop(self.postmaster, None)
        result.update({alias: ", ".join(targets) for alias, targets in self.aliases.items()})
        return result

    def system_aliases(self) -> dict[str, str]:
        return {local: self.postmaster for local in HOST_MAILBOXES}
