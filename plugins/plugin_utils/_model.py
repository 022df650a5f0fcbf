# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the variables of a host to its Site: the one derivation that every playbook begins with.

Private to antispam.gateway; used on the controller. Pure: the same variables
give the same Site, and nobody is asked anything.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _dnsbl
from ansible_collections.antispam.gateway.plugins.plugin_utils import (
    _attachments,
    _channel_keys,
    _outgoing,
    _parameters,
    _policies,
    _refusals,
    _schema,
    _shared,
    _signatures,
    _site,
    _store,
    _teaching,
)

# The TCP ports of the loopback interface on which the gateway's own services meet.
PORTS = {
    "amavis": 10024,
    "reinjection": 10025,
    # What trusted hosts and accounts send comes back on a listener of its own; accounts come in by a port of amavis's of their own.
    "amavis_submission": 10026,
    "originating": 10027,
    "postgrey": 10023,
    "postfwd": 10040,
    "policy_service": 10041,
    "mta_sts": 8461,
    "dkimpy_milter": 8892,
    # smtp-sink(1), for as long as a run looks whether smtp(8) delivers.
    "probe": 10099,
}
# RFC 2606. Mail for it goes to that server, and is refused to everybody else.
PROBE_DOMAIN = "gateway-probe.invalid"
# The file of each service that not every site has. It shows whether this collection has set the service up; somebody else's is left alone.
OPTIONAL_FILES = {
    "dkimpy_milter": "/etc/dkimpy-milter/dkimpy-milter.conf",
    "dovecot": "/etc/dovecot/dovecot.conf",
    "login_guard": "/etc/systemd/system/gateway-login-guard.service",
    "mta_sts": "/etc/mta-sts-daemon.yml",
    "phishing_feeds": "/etc/systemd/system/gateway-phishing-feeds.timer",
    "policy_service": "/etc/systemd/system/gateway-policy-service.service",
    "postfwd": "/etc/default/postfwd",
    "postgrey": "/etc/default/postgrey",
    "records": "/etc/systemd/system/gateway-records.service",
    "redis": "/etc/redis/redis.conf",
    "rule_channels": "/etc/systemd/system/gateway-rule-channels.timer",
    "stunnel": "/etc/systemd/system/gateway-redis-tls.service",
    "teaching": "/etc/systemd/system/gateway-bayes-mailboxes.timer",
    "unbound": "/etc/unbound/unbound.conf",
    "unofficial_signatures": "/etc/systemd/system/gateway-unofficial-signatures.timer",
}
# What tables are made of. They may be large, and no template reads them.
TABLES = ("gateway_recipients", "gateway_recipient_sources", "gateway_aliases", "gateway_sender_scores", "gateway_sender_score_sources")


@dataclasses.dataclass(frozen=True)
class Model:
    """What follows from the variables of one host, and what is wrong with them."""

    # Every variable of the collection, of the type that its specification names; values given by a daemon's own name in its words.
    variables: dict[str, Any]
    site: _site.Site
    outgoing: _outgoing.Outgoing
    teaching: _teaching.Teaching
    policies: _policies.Policies
    store: _store.Store
    # Whether it is this gateway that reads the mailboxes that teach.
    reads_mailboxes: bool
    # Sentences. The settings are only whole where there is no problem.
    problems: list[str]
    warnings: list[str]

    @property
    def own_resolver(self) -> bool:
        return self.variables["gateway_own_resolver"] and not self.variables["gateway_nameservers"]

    @property
    def loopback(self) -> str:
        return "::1" if self.variables["gateway_inet_protocols"] == "ipv6" else "127.0.0.1"

    @property
    def nameservers(self) -> list[str]:
        """The resolvers that the host is to ask; none where it goes on asking those it has."""
        return self.variables["gateway_nameservers"] or ([self.loopback] if self.variables["gateway_own_resolver"] else [])

    @property
    def certificate(self) -> tuple[str, str]:
        """Return the paths of certificate and key on the host, both empty for a self-signed one."""
        directory = self.variables["gateway_tls_acme_directory"]
        paths = [posixpath.join(directory, name) if directory else "" for name in ("fullchain.pem", "privkey.pem")]
        return self.variables["gateway_tls_certificate_file"] or paths[0], self.variables["gateway_tls_key_file"] or paths[1]

    @property
    def optional(self) -> dict[str, bool]:
        """Return whether each service that not every site has is wanted."""
        given = self.variables
        limited = given["gateway_sender_messages_per_hour"] > 0 or given["gateway_sender_recipients_per_hour"] > 0
        return {
            "dkimpy_milter": given["gateway_dkim_ed25519"] and bool(self.outgoing.dkim_domains),
            "dovecot": bool(given["gateway_accounts"]),
            "login_guard": bool(given["gateway_accounts"]) and given["gateway_wrong_passwords_per_hour"] > 0,
            "mta_sts": given["gateway_mta_sts"],
            "phishing_feeds": bool(given["spamassassin_phishing_feeds"]),
            "policy_service": bool(self.policies.policies),
            "postfwd": bool(given["gateway_accounts"]) and limited,
            "postgrey": given["gateway_greylisting"],
            "records": given["gateway_records"],
            "redis": self.store.wanted and self.store.own,
            "rule_channels": bool(given["spamassassin_channels"]),
            "stunnel": self.store.wanted and self.store.tls,
            "teaching": given["gateway_bayes"],
            "unbound": self.own_resolver,
            "unofficial_signatures": bool(given["clamav_unofficial_signatures"]),
        }

    @property
    def refused_sample(self) -> str:
        """Return the test message that this site refuses: GTUBE has 1000 points, unless it says otherwise; a virus is always refused."""
        is_spam = self.variables["gateway_spam_kill_level"] < 900 and "GTUBE" not in self.variables["spamassassin_scores"]
        return "gtube" if is_spam else "eicar"

    def facts(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """Return what tasks and templates read, without any secret: plain lists, dictionaries and text."""
        site, outgoing, addresses = self.site, self.outgoing, self.teaching.addresses
        certificate, key = self.certificate
        probe = {PROBE_DOMAIN: f"smtp:[{self.loopback}]:{PORTS['probe']}"}
        teaching = {address: f"bayes:{kind}" for address, kind in addresses.items()}
        return {
            **site.facts(),
            **outgoing.facts(),
            **self.policies.facts(),
            "tables": {**site.tables(), **outgoing.tables(), "transport": site.transport() | probe | teaching},
            "relay_recipients": sorted({*site.relay_recipients(), *addresses}),
            "bayes_addresses": sorted(addresses),
            "store": self.store.facts(),
            "reads_mailboxes": self.reads_mailboxes,
            "refusals": _refusals.templates(self.variables),
            "refusal_words": _refusals.words(self.variables),
            "attachment_rules": _attachments.rules(self.variables),
            "rule_channels": [] if self.problems else _channel_keys.channels(self.variables),
            "tls_certificate": certificate,
            "tls_key": key,
            "nameservers": self.nameservers,
            "loopback": self.loopback,
            # How the address is written where a port follows it.
            "loopback_literal": f"[{self.loopback}]" if ":" in self.loopback else self.loopback,
            "ports": PORTS,
            "probe_domain": PROBE_DOMAIN,
            "refused_sample": self.refused_sample,
            "optional": self.optional,
            "limits": dict(limits),
        }


def derive(given: Mapping[str, Any], template: Callable[[Any], Any]) -> Model:
    """Return the Model of a host. given: its variables as Ansible holds them; template renders one of them, or raises AnsibleError."""
    variables, problems, unusable = _schema.read(given, template)
    _compute_defaults(variables, given)
    unknown, warnings = _schema.unknown(given)
    problems = unknown + problems + _shared.check(variables) + _refusals.check(variables) + _attachments.check(variables)
    problems += _feed_problems(variables) + _channel_keys.check(variables) + _signatures.check(variables) + _parameters.write_all(variables)
    site = _site.Site(variables, unusable)
    outgoing = _outgoing.Outgoing(site, variables)
    teaching, policies = _teaching.Teaching(site, variables), _policies.Policies(site, variables)
    store = _store.Store(variables)
    found, more = _dnsbl.check(variables["gateway_dnsbl_lists"], variables["gateway_dnsbl_threshold"])
    problems += site.problems + outgoing.problems + teaching.problems + policies.problems + store.problems
    problems += found + _signature_problems(variables) + _authentication_problems(variables) + _pen_pal_problems(variables)
    problems += _record_problems(variables) + _guess_problems(variables)
    reads_mailboxes = _store.reads_mailboxes(variables, given)
    return Model(variables, site, outgoing, teaching, policies, store, reads_mailboxes, problems, warnings + more)


def settings(given: Mapping[str, Any], template: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the variables as templates read them: typed, with computed defaults, without those that only tables are made of."""
    variables = _schema.read(given, template, TABLES).values
    _compute_defaults(variables, given)
    _parameters.write_all(variables)
    return variables


def _compute_defaults(variables: dict[str, Any], given: Mapping[str, Any]) -> None:
    """A default that depends on another variable stands here, and nowhere else."""
    if not variables["gateway_hostname"]:
        variables["gateway_hostname"] = given.get("inventory_hostname")
    if variables["gateway_dkim_domains"] is None:
        variables["gateway_dkim_domains"] = [entry["name"] for entry in variables["gateway_domains"] or ()]
    if not variables["gateway_dkim_selector"]:
        variables["gateway_dkim_selector"] = str(variables["gateway_hostname"]).partition(".")[0]
    if variables["gateway_contact"] is None:
        # The gateway takes mail for postmaster of every relay domain (RFC 5321 4.5.1).
        variables["gateway_contact"] = f"postmaster@{first}" if (first := _first_domain(variables)) else ""
    if variables["amavis_banned_extensions"] is None:
        variables["amavis_banned_extensions"] = _attachments.default()
    for box in variables["gateway_bayes_mailboxes"]:
        # RFC 8314 and RFC 3501.
        box.update(port=box["port"] or (143 if box["starttls"] else 993))
    if variables["gateway_dane"] is None:
        variables["gateway_dane"] = variables["gateway_own_resolver"] and not variables["gateway_nameservers"]


def _first_domain(variables: Mapping[str, Any]) -> str:
    """Return the name of the first relay domain in ASCII, '' where there is none that can be used."""
    for entry in variables["gateway_domains"] or ():
        try:
            return _addresses.fqdn(entry["name"])
        except ValueError:
            return ""
    return ""


def _authentication_problems(variables: Mapping[str, Any]) -> list[str]:
    """A proof that nobody asks for is never given."""
    if not variables["gateway_protect_own_domains"] or variables["gateway_sender_authentication"]:
        return []
    return [
        "gateway_protect_own_domains: with gateway_sender_authentication: false neither SPF nor DKIM is asked, so that no message could prove where it"
        " comes from; set gateway_sender_authentication to true, or gateway_protect_own_domains to false"
    ]


def _signature_problems(variables: Mapping[str, Any]) -> list[str]:
    """clamd has to have signatures, and freshclam has to be able to get them."""
    problems = []
    urls = variables["clamav_database_custom_urls"]
    if not urls and not variables["clamav_official_databases"]:
        problems.append(
            "clamav_database_custom_urls: clamav_official_databases is false and clamav_database_custom_urls is empty, so clamd would have no signatures;"
            " set one of them."
        )
    for index, url in enumerate(urls):
        # freshclam.conf(5), DatabaseCustomURL
        if not re.fullmatch(r"(?:https?|ftps?|file)://\S+/[^\s/]+\.[a-z]+", url):
            problems.append(
                f"clamav_database_custom_urls[{index}]: this is not the URL of a signature file; write http://, https://, ftp:// or file://"
                " and the path of a file such as local.ndb"
            )
    return problems


def _guess_problems(variables: Mapping[str, Any]) -> list[str]:
    guesses = variables["gateway_wrong_passwords_per_hour"]
    if guesses == 0 or 5 <= guesses <= 1000:
        return []
    # One person who mistypes a few times is no attack.
    return [f"gateway_wrong_passwords_per_hour: {guesses} is not from 5 to 1000; write a number within that, or 0 for no limit"]


def _record_problems(variables: Mapping[str, Any]) -> list[str]:
    days, size = variables["gateway_records_days"], variables["gateway_records_max_bytes"]
    found = []
    if not 1 <= days <= 3650:
        found.append(f"gateway_records_days: {days} is no number of days from 1 to 3650; where nothing is to be kept, set gateway_records to false")
    if size < 16 * 1024**2:
        found.append(f"gateway_records_max_bytes: {size} is too little to keep records; give 16777216 (16 MiB) at least, or set gateway_records to false")
    return found


def _pen_pal_problems(variables: Mapping[str, Any]) -> list[str]:
    problems = []
    points, days = variables["amavis_penpals_bonus_score"], variables["amavis_penpals_days"]
    if points is not None and not 0 < points <= 10:
        problems.append(
            f"amavis_penpals_bonus_score: {points:g} is not more than 0 and at most 10; write points within that, or set gateway_pen_pals: false to give none"
        )
    if days is not None and not 1 <= days <= 365:
        problems.append(f"amavis_penpals_days: {days} is not from 1 to 365; write a number of days within that")
    return problems


def _feed_problems(variables: Mapping[str, Any]) -> list[str]:
    """The plugin Phishing has one list of each format."""
    problems, seen = [], set()
    for index, feed in enumerate(variables["spamassassin_phishing_feeds"]):
        variable = f"spamassassin_phishing_feeds[{index}]"
        if feed["format"] in seen:
            problems.append(f"{variable}.format: {feed['format']} is there already, and SpamAssassin reads one list of each format; keep one of them")
        seen.add(feed["format"])
        if not re.fullmatch(r"https?://[^\s/]+/\S*", feed["url"]):
            problems.append(f"{variable}.url: this is not a URL of a list; write http:// or https://, a host and a path")
    return problems
