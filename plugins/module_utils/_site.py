# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data model of a site: what an administrator wrote once, and what every role derives from it.

Private to antispam.gateway. Nothing here touches the host: see _host.py for that.
"""

from __future__ import annotations

import difflib

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses

# RFC 5321 section 4.5.1 asks for postmaster, RFC 2142 for abuse; the others
# receive what cron and the packages of the gateway itself send.
ROLE_MAILBOXES = ("postmaster", "abuse")
HOST_MAILBOXES = ROLE_MAILBOXES + ("root", "hostmaster", "mailer-daemon", "amavis", "clamav", "debian-spamd", "daemon", "nobody")


def unknown_variables(names, known, prefixes):
    """Return a sentence for every variable that carries a reserved prefix and that nobody reads."""
    problems = []
    for name in sorted(names):
        if name in known or not name.startswith(tuple(prefixes)):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else "the roles' README files list every variable"
        problems.append(f"{name}: no role of antispam.gateway knows this variable; {hint}")
    return problems


class Description:
    """What an administrator wrote; `problems` holds one sentence for each mistake."""

    def __init__(self):
        self.problems = []

    def _take(self, variable, parse, text):
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(f"{variable}: {error}")
            return None

    def _each(self, variable, parse, texts):
        found = (self._take(f"{variable}[{index}]", parse, text) for index, text in enumerate(texts))
        return [value for value in found if value is not None]

    def _add(self, table, variable, key, value):
        if key is None or value is None:
            return
        if key in table:
            self.problems.append(f"{variable}: {key} is there already in another spelling; keep one of them")
        table[key] = value


class Site(Description):
    """A validated site, which is only whole without problems."""

    def __init__(self, hostname, domains, recipients, postmaster, trusted_networks=(), aliases=None, sender_scores=None, sourced=(), allowed=(), denied=()):
        super().__init__()
        self.next_hops = []  # (variable, host, port, bracketed)
        self.hostname = self._take("gateway_hostname", _addresses.fqdn, hostname)
        self.domains = self._domains(domains)
        self.recipients = self._recipients(recipients)
        # The domains whose recipients are read from sources elsewhere.
        self.sourced = self._sourced(sourced)
        self.trusted_networks = self._each("gateway_trusted_networks", _addresses.network, trusted_networks)
        self.postmaster = self._take("gateway_postmaster", _addresses.address, postmaster)
        self.aliases = self._aliases(aliases or {})
        self.sender_scores = self._scores(sender_scores or {})
        # {network: what becomes of its hosts}
        self.clients = self._clients(allowed, denied)
        self._cross_check()

    def _domains(self, entries):
        result = {}
        for index, entry in enumerate(entries):
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
                result[name]["next_hop"] = _addresses.write_next_hop(*hop)
                self.next_hops.append((f"{variable}.next_hop", *hop))
        if not entries:
            self.problems.append("gateway_domains: the list is empty; name each domain with its next_hop")
        return result

    def _recipients(self, entries):
        return set(self._each("gateway_recipients", _addresses.recipient, entries))

    def _sourced(self, sources):
        """sources: the domains of each, an empty list where one feeds them all."""
        result = set()
        for index, names in enumerate(sources):
            variable = f"gateway_recipient_sources[{index}].domains"
            found = set(self._each(variable, _addresses.fqdn, names))
            for name in sorted(found - self.domains.keys()):
                self.problems.append(f"{variable}: {name} is not in gateway_domains; add the domain or remove it from the source")
            result |= found if names else self.domains.keys()
        return result

    def _clients(self, allowed, denied):
        result = {}
        for variable, networks, action in (("gateway_client_allowlist", allowed, "permit"), ("gateway_client_denylist", denied, "reject")):
            for net in self._each(variable, _addresses.client_network, networks):
                if not net.prefixlen:
                    self.problems.append(f"{variable}: {net} is everybody; name the networks that are meant")
                if result.setdefault(net, action) != action:
                    self.problems.append(f"{variable}: {net} is in gateway_client_allowlist as well; keep one of them")
        return result

    def _aliases(self, entries):
        result = {}
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

    def _scores(self, entries):
        result = {}
        for key, points in entries.items():
            variable = f"gateway_sender_scores['{key}']"
            self._add(result, variable, self._take(variable, _addresses.score_key, key), self._take(variable, _addresses.score, points))
        return result

    def _cross_check(self):
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
            if name not in known:
                self.problems.append(f"gateway_aliases: {alias} is in {name}, which is neither in gateway_domains nor gateway_hostname")
        for name, entry in self.domains.items():
            listed = any(recipient.endswith("@" + name) for recipient in self.recipients)
            if not listed and not entry["verify_recipients"] and name not in self.sourced:
                self.problems.append(
                    f"gateway_domains: nothing says who receives mail in {name}; list its recipients in gateway_recipients,"
                    f" name a source in gateway_recipient_sources, write '@{name}' in gateway_recipients to accept every address,"
                    " or set verify_recipients: true to let Postfix ask the next hop"
                )

    def _cross_check_recipients(self):
        """Say it once a domain: a forgotten one may have thousands of recipients."""
        unknown = {}
        for recipient in sorted(self.recipients):
            name = recipient.rpartition("@")[2]
            if name not in self.domains:
                unknown.setdefault(name, []).append(recipient)
        for name, found in unknown.items():
            those, them = (f"{len(found)} recipients are in it ({found[0]}, ...)", "them") if len(found) > 1 else (f"{found[0]} is in it", "the recipient")
            self.problems.append(f"gateway_recipients: {name} is not in gateway_domains, but {those}; add the domain or remove {them}")

    # What the roles derive. Postfix tables are dictionaries of key to value.

    def next_hop_names(self):
        return sorted({host for _variable, host, _port, _bracketed in self.next_hops if not _addresses.is_ip(host)})

    def client_access(self):
        """Return pairs of network and action for a table in which the first match counts, as cidr_table(5) has it."""
        return [[str(net), action] for net, action in sorted(self.clients.items(), key=lambda pair: (-pair[0].prefixlen, str(pair[0])))]

    def relay_domains(self):
        return {name: "OK" for name in self.domains}

    def transport(self):
        return {name: f"relay:{entry['next_hop']}" for name, entry in self.domains.items()}

    def verify_recipients(self):
        return {name: "reject_unverified_recipient" for name, entry in self.domains.items() if entry["verify_recipients"]}

    def relay_recipients(self):
        """Return a list; sources may add to it."""
        return sorted(self.recipients | {"@" + name for name in self.verify_recipients()})

    def virtual(self):
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

    def system_aliases(self):
        return {local: self.postmaster for local in HOST_MAILBOXES}
