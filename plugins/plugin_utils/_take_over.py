# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that somebody else has set up would lose, and the variable that keeps each part.

Private to antispam.gateway; used on the controller. Pure: foreign is what
_foreign.look() has found on the host.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses
from ansible_collections.antispam.gateway.plugins.plugin_utils import _model, _shared

# {parameter of main.cf: what keeps it}, beside those of _shared. Of any other parameter it is postfix_main_cf.
KEPT_BY = {
    "alias_maps": "gateway_aliases",
    "content_filter": "",  # amavis is asked before the queue
    "relay_recipient_maps": "gateway_recipients or gateway_recipient_sources",
    "relayhost": "gateway_smarthost",
    "smtp_sasl_password_maps": "gateway_smarthost",
    "smtp_tls_policy_maps": "gateway_tls_policies",
    "smtpd_tls_cert_file": "gateway_tls_certificate_file",
    "smtpd_tls_chain_files": "gateway_tls_certificate_file and gateway_tls_key_file",
    "smtpd_tls_key_file": "gateway_tls_key_file",
    "transport_maps": "gateway_domains[].next_hop",
    "virtual_alias_domains": "gateway_aliases",
    "virtual_alias_maps": "gateway_aliases",
}
# {file: what keeps its content}
FILES = {
    "/etc/clamav/clamd.conf": "clamav_clamd_parameters",
    "/etc/clamav/freshclam.conf": "clamav_freshclam_parameters",
    "/etc/default/postfwd": "postfwd_rules",
    "/etc/default/postgrey": "postgrey_delay and its like",
    "/etc/dkimpy-milter/dkimpy-milter.conf": "dkimpy_milter_settings",
    "/etc/dovecot/dovecot.conf": "dovecot_settings",
    "/etc/mta-sts-daemon.yml": "mta_sts_settings",
    "/etc/redis/redis.conf": "redis_parameters",
    "/etc/unbound/unbound.conf": "resolver_settings",
}
_SECRET = re.compile(r"passw|secret|token|dsn|dbi:|user\S*:\S+@", re.IGNORECASE)
# So many of a kind are named, the others counted.
NAMED = 10


def files(model: _model.Model) -> list[str]:
    """Return the configuration files of the services that the site wants, beside those of Postfix, amavis and SpamAssassin."""
    unwanted = {path for service, path in _model.OPTIONAL_FILES.items() if not model.optional[service]}
    return [path for path in FILES if path not in unwanted]


def findings(model: _model.Model, foreign: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that would go, or stay in force without being in the inventory."""
    found = _postfix(model, foreign["postfix"]) if foreign["postfix"] else []
    set_here = model.variables["amavis_parameters"]
    statements = [text for text in foreign["amavis"] if _assigned(text) not in set_here]
    found += _would_go("amavis", "50-user", statements, lambda text: "amavis_parameters or amavis_perl")
    found += _would_go("SpamAssassin", "local.cf", foreign["spamassassin"], _keeps_rule)
    found += [f"{path} would be replaced; {FILES[path]} keeps what is in it" for path in foreign["replaced"]]
    for path in foreign["in_force"]:
        variable = "amavis_parameters or amavis_perl" if path.startswith("/etc/amavis/") else "spamassassin_scores or spamassassin_rules"
        found.append(f"{path} would stay in force, and no inventory has it; put its content in {variable} and remove it, or leave it")
    return found


def lost_domains(model: _model.Model, foreign: dict[str, Any]) -> list[str]:
    """Return the domains that the Postfix of somebody else's takes mail for and the site does not."""
    names = map(_domain, foreign["postfix"]["relay_domains"] if foreign["postfix"] else ())
    return [name for name in names if name not in model.site.domains]


def _shown(text: str) -> str:
    """Return a setting without what may be a password: its name alone."""
    return f"{text.split()[0]} ... (not shown)" if _SECRET.search(text) else text


def refusal(found: list[str]) -> str:
    """Return the sentence in front of them."""
    count = "one thing" if len(found) == 1 else f"{len(found)} things"
    return (
        f"gateway_take_over: somebody else has set up this host, and {count} would go or stay unowned, see below. Put what you need in the variables"
        " that are named, then set gateway_take_over: true; the old files are kept"
    )


def _would_go(service: str, place: str, lines: list[str], keeps: Any) -> list[str]:
    return _first(
        [f"{service}: {place} has {_shown(text)!r}, which would go; {keeps(text)} keeps it" for text in lines], f"{service}: {place} has", "such lines"
    )


def _first(sentences: list[str], subject: str, rest: str) -> list[str]:
    """Return the sentences that are told, and one that counts the others: `subject 3 more rest`."""
    left = len(sentences) - NAMED
    return [*sentences[:NAMED], f"{subject} {left:,} more {rest}"] if left > 0 else sentences


def _assigned(statement: str) -> str:
    """Return the variable that a statement of Perl sets, such as $log_level."""
    match = re.match(r"(?:our\s+)?([$@%]\w+)", statement)
    return match[1] if match else ""


def _keeps_rule(line: str) -> str:
    words = line.split()
    return f"spamassassin_scores['{words[1]}']" if words[0] == "score" and len(words) > 1 else "spamassassin_rules"


def _postfix(model: _model.Model, postfix: dict[str, Any]) -> list[str]:
    variables, found = model.variables, []
    for name, value in sorted(postfix["parameters"].items()):
        if name in variables["postfix_main_cf"] or _is_same(model, name, value):
            continue
        keeps = KEPT_BY.get(name, _shared.SHARED["postfix_main_cf"].get(name, f"postfix_main_cf['{name}']"))
        found.append(f"Postfix: main.cf has {_shown(f'{name} = {value}')}, which would go" + (f"; {keeps} keeps it" if keeps else ""))
    for name, command in sorted(postfix["services"].items()):
        if name not in variables["postfix_master_cf"]:
            found.append(f"Postfix: master.cf has the service {name} ({command}), which would go; postfix_master_cf['{name}'] keeps it")
    lost = [f"Postfix: the relay domain {name} would be refused; gateway_domains keeps it" for name in lost_domains(model, {"postfix": postfix})]
    return found + _first(lost, "Postfix:", "relay domains would be refused") + _recipients(model, postfix)


def _domain(text: str) -> str:
    try:
        return _addresses.fqdn(text)
    except ValueError:
        return text


def _is_same(model: _model.Model, name: str, value: str) -> bool:
    """Return whether the site says the same with a variable of its own."""
    if name == "message_size_limit":
        return bool(value == str(model.variables["gateway_message_size_limit"]))
    if name == "relayhost":
        return value == model.outgoing.relayhost()
    if name == "mynetworks":
        ours = {"127.0.0.0/8", "[::ffff:127.0.0.0]/104", "[::1]/128", *map(_addresses.postfix_network, model.site.trusted_networks)}
        return set(value.replace(",", " ").split()) <= ours
    if name == "mydestination":
        return not value
    if name == "relay_domains":
        # Each of them is looked at by itself.
        return True
    return False


def _recipients(model: _model.Model, postfix: dict[str, Any]) -> list[str]:
    site = model.site
    # What a source will say is not known here; and of a domain that goes its recipients go, too.
    open_domains = site.sourced | {name for name in site.domains if "@" + name in site.recipients or site.domains[name]["verify_recipients"]}
    lacking = []
    for text in postfix["recipients"]:
        address = text.lower()
        name = address.rpartition("@")[2]
        if name in site.domains and name not in open_domains and address not in site.recipients:
            lacking.append(f"Postfix: the recipient {address} would be refused; gateway_recipients keeps it")
    found = _first(lacking, "Postfix:", "recipients would be refused")
    if postfix["recipients_count"] > len(postfix["recipients"]):
        found.append(f"Postfix: {postfix['recipients_count']:,} recipients are listed, of which {len(postfix['recipients']):,} were compared")
    return found
