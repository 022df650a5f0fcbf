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
from ansible_collections.antispam.gateway.plugins.plugin_utils import _attachments, _outgoing, _parameters, _refusals, _schema, _shared, _site

# The TCP ports of the loopback interface on which the gateway's own services meet.
PORTS = {
    "amavis": 10024,
    "reinjection": 10025,
    # What trusted hosts and accounts send comes back on a listener of its own; accounts come in by a port of amavis's of their own.
    "amavis_submission": 10026,
    "originating": 10027,
    "postgrey": 10023,
    "postfwd": 10040,
    "mta_sts": 8461,
    "dkimpy_milter": 8892,
    # smtp-sink(1), for as long as a run looks whether smtp(8) delivers.
    "probe": 10099,
}
# RFC 2606. Mail for it goes to that server, and is refused to everybody else.
PROBE_DOMAIN = "gateway-probe.invalid"
# What tables are made of. They may be large, and no template reads them.
TABLES = ("gateway_recipients", "gateway_recipient_sources", "gateway_aliases", "gateway_sender_scores", "gateway_sender_score_sources")


@dataclasses.dataclass(frozen=True)
class Model:
    """What follows from the variables of one host, and what is wrong with them."""

    # Every variable of the collection, of the type that its specification names; values given by a daemon's own name in its words.
    variables: dict[str, Any]
    site: _site.Site
    outgoing: _outgoing.Outgoing
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
            "mta_sts": given["gateway_mta_sts"],
            "postfwd": bool(given["gateway_accounts"]) and limited,
            "postgrey": given["gateway_greylisting"],
            "unbound": self.own_resolver,
        }

    @property
    def refused_sample(self) -> str:
        """Return the test message that this site refuses: GTUBE has 1000 points, unless it says otherwise; a virus is always refused."""
        is_spam = self.variables["gateway_spam_kill_level"] < 900 and "GTUBE" not in self.variables["spamassassin_scores"]
        return "gtube" if is_spam else "eicar"

    def facts(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """Return what tasks and templates read, without any secret: plain lists, dictionaries and text."""
        site, outgoing = self.site, self.outgoing
        certificate, key = self.certificate
        probe = {PROBE_DOMAIN: f"smtp:[{self.loopback}]:{PORTS['probe']}"}
        return {
            **site.facts(),
            **outgoing.facts(),
            "tables": {**site.tables(), **outgoing.tables(), "transport": site.transport() | probe},
            "refusals": _refusals.templates(self.variables),
            "refusal_words": _refusals.words(self.variables),
            "attachment_rules": _attachments.rules(self.variables),
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
    problems += _parameters.write_all(variables)
    site = _site.Site(variables, unusable)
    outgoing = _outgoing.Outgoing(site, variables)
    found, more = _dnsbl.check(variables["gateway_dnsbl_lists"], variables["gateway_dnsbl_threshold"])
    problems += site.problems + outgoing.problems + found + _signature_problems(variables)
    return Model(variables, site, outgoing, problems, warnings + more)


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
