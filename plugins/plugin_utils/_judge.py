# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be asked of a host, and what follows from the answers: every mistake and every warning.

Private to antispam.gateway; used on the controller. Pure: observed is what the
module survey has returned.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _host
from ansible_collections.antispam.gateway.plugins.plugin_utils import _limits, _model, _outgoing, _take_over

Observed = dict[str, Any]

SUPPORTED = (["debian", "13"], ["debian", "12"])
# The other mail transport agents of Debian 12 and 13: apt removes them when it installs Postfix.
OTHER_MTAS = (
    "exim4-daemon-light",
    "exim4-daemon-heavy",
    "sendmail-bin",
    "opensmtpd",
    "courier-mta",
    "nullmailer",
    "msmtp-mta",
    "ssmtp",
    "esmtp-run",
    "dma",
)
# Programs that write /etc/resolv.conf.
DHCP_CLIENTS = ["dhclient", "dhcpcd", "NetworkManager"]
MAILBOX_PORTS = (110, 143, 993, 995)
ADVICE_ON_TLS = "set it right there, name its authority in gateway_tls_ca_file, or lower the level"


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who may listen on a port without being in the way: a service that this collection sets up."""

    units: tuple[str, ...]
    # How the name of its process begins, as in /proc/PID/comm; '' where only the unit tells.
    process: str = ""


OPTIONAL_UNITS = {
    "postgrey": "postgrey.service",
    "policy_service": "gateway-policy-service.service",
    "postfwd": "postfwd.service",
    "mta_sts": "postfix-mta-sts-resolver.service",
    "dkimpy_milter": "dkimpy-milter.service",
}
POSTFIX = Owner(("postfix.service", "postfix@-.service"), "master")
AMAVIS = Owner(("amavis.service",), "/usr/sbin/amavi")


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is wrong with a site, its host or its neighbours, a sentence each, and the limits that the host allows."""

    problems: list[str]
    warnings: list[str]
    limits: dict[str, int]


def owners(model: _model.Model) -> dict[int, Owner]:
    """Return who is to have each port of the gateway."""
    ports, optional = _model.PORTS, model.optional
    result = {25: POSTFIX, ports["amavis"]: AMAVIS, ports["reinjection"]: POSTFIX, ports["amavis_submission"]: AMAVIS, ports["originating"]: POSTFIX}
    if model.outgoing.accounts:
        result |= {465: POSTFIX, 587: POSTFIX}
    result |= {ports[service]: Owner((unit,)) for service, unit in OPTIONAL_UNITS.items() if optional[service]}
    return result


def questions(model: _model.Model) -> dict[str, Any]:
    """Return the arguments of the module survey."""
    certificate, key = model.certificate
    given = model.variables
    return {
        **ownership_questions(model),
        "ports": [*owners(model), *MAILBOX_PORTS],
        "units": ["unbound.service", *sorted({unit for owner in owners(model).values() for unit in owner.units})],
        "processes": DHCP_CLIENTS,
        "marked_files": list(_model.OPTIONAL_FILES.values()),
        "certificate": certificate,
        "key": key,
        "ca_file": given["gateway_tls_ca_file"],
        "nameservers": [_addresses.ip(text) for text in given["gateway_nameservers"] if _addresses.is_ip(text.strip())],
        "servers": [
            {
                "host": hop.host,
                "port": hop.port,
                "converse": hop.bracketed,
                "level": policy.split()[0],
                "certificate_names": _outgoing.certificate_names(policy, hop.host),
            }
            for hop, policy in _hops(model)
        ],
    }


def _hops(model: _model.Model) -> list[tuple[_addresses.NextHop, str]]:
    """Return every server once, with its policy, as smtp_tls_policy_maps has it: the next hops, and last the smarthost."""
    outgoing = model.outgoing
    hops = {hop: outgoing.policies.get(str(hop), "may") for _variable, hop in model.site.next_hops}
    if outgoing.smarthost:
        hops.setdefault(outgoing.smarthost, outgoing.policies.get(str(outgoing.smarthost), outgoing.smarthost_tls))
    return list(hops.items())


def ownership_questions(model: _model.Model) -> dict[str, Any]:
    """Return the arguments of the module survey that asks nobody, and looks only at whose this host is."""
    return {"hostname": model.site.hostname or "localhost", "config_files": _take_over.files(model)}


def ownership(model: _model.Model, observed: Observed, allowed: bool) -> list[str]:
    """Return what somebody else's set-up would lose, a sentence each, with one in front; nothing where it is allowed to take the host over."""
    if allowed:
        return []
    found = _take_over.findings(model, observed["foreign"])
    return [_take_over.refusal(found), *found] if found else []


def judge(model: _model.Model, observed: Observed | None) -> Findings:
    """Return what is to be said about a site; without an observed host, about the site alone."""
    if observed is None:
        return Findings(model.problems, model.warnings, {})
    problems, warnings = list(model.problems), list(model.warnings)
    limits: dict[str, int] = {}
    try:
        limits = _limits.derive(
            observed["cpus"],
            observed["memory_mib"],
            model.variables["gateway_message_size_limit"],
            model.variables["clamav_official_databases"],
            model.variables["gateway_limits"],
            bool(model.outgoing.accounts),
            model.variables["redis_maxmemory_mib"] if model.optional["redis"] else 0,
        )
    except _limits.Contradiction as contradiction:
        problems.append(f"gateway_limits: {contradiction}")
    problems += _platform(model, observed) + _ports(model, observed) + _mailboxes(model, observed) + _certificate(model, observed)
    problems += _disk(observed, limits) + _nameservers(model, observed)
    if observed["ca_file"]:
        path = model.variables["gateway_tls_ca_file"]
        problems.append(f"gateway_tls_ca_file: {path} {observed['ca_file']}; put a file with certificates there first")
    found, more = _servers(model, observed, limits)
    return Findings(problems + found, warnings + more + _dhcp_clients(model, observed), limits)


def _platform(model: _model.Model, observed: Observed) -> list[str]:
    system = observed["system"]
    problems = []
    if system not in SUPPORTED:
        problems.append(f"operating system: {' '.join(system)} is not supported; use Debian 13")
    elif system[1] == "12" and not model.variables["gateway_accept_debian12_postfix_panic"]:
        problems.append(
            "operating system: Debian 12 carries Postfix 3.7, whose smtpd any client can crash in smtpd_proxy_filter with one line"
            " that begins with 'From ' and is longer than 2048 bytes; use Debian 13,"
            " or set gateway_accept_debian12_postfix_panic: true to accept this"
        )
    if system == ["debian", "12"] and model.optional["unofficial_signatures"]:
        problems.append(
            "clamav_unofficial_signatures: this host runs Debian 12, which has no package fangfrisch; use Debian 13, set the variable to [] for this host,"
            " or name files that need no account in clamav_database_custom_urls"
        )
    others = [name for name in observed["packages"] if name in OTHER_MTAS]
    if others:
        problems.append(f"another MTA is installed ({', '.join(others)}), which installing Postfix would remove; move its mail away and remove it first")
    return problems


def _ports(model: _model.Model, observed: Observed) -> list[str]:
    problems = []
    for port, owner in owners(model).items():
        names = observed["listeners"].get(str(port), [])
        if not names or owner.process and any(name.startswith(owner.process) for name in names):
            continue
        # Where processes cannot be told, the unit has to do.
        if (names == [_host.UNKNOWN] or not owner.process) and _is_active(observed, owner.units):
            continue
        problems.append(f"port {port} is taken by {', '.join(names)}; stop it or move it to another port")
    names = [name for name in observed["listeners"]["loopback-53"] if name != "unbound"] if model.own_resolver else []
    if names and not (names == [_host.UNKNOWN] and _is_active(observed, ("unbound.service",))):
        problems.append(
            f"port 53 of the loopback interface is taken by {', '.join(names)}; stop it, or use it and set gateway_own_resolver: false or gateway_nameservers"
        )
    return problems


def _is_active(observed: Observed, units: tuple[str, ...]) -> bool:
    return any(unit in observed["active"] for unit in units)


def _mailboxes(model: _model.Model, observed: Observed) -> list[str]:
    """Logins need a Dovecot of the gateway's own, whose configuration is a whole one."""
    if not model.outgoing.accounts:
        return []
    return [
        f"gateway_accounts: Dovecot serves mailboxes on this host (port {port}), and its configuration would be replaced; let the gateway be a host of its own"
        for port in MAILBOX_PORTS
        if "dovecot" in observed["listeners"].get(str(port), [])
    ][:1]


def _certificate(model: _model.Model, observed: Observed) -> list[str]:
    given = model.variables
    certificate, key = model.certificate
    if not certificate and not key:
        return []
    found = observed["certificate"]
    directory = given["gateway_tls_acme_directory"]
    problems = []
    for variable, path in (("gateway_tls_certificate_file", certificate), ("gateway_tls_key_file", key)):
        named = variable if given[variable] or not directory else "gateway_tls_acme_directory"
        if not path:
            problems.append(f"{named}: it is empty, but a certificate and its key go together; set both or none")
        elif path in found["unreadable"]:
            problems.append(f"{named}: {path} cannot be read on the gateway ({found['unreadable'][path]}); put it there first")
    named = "gateway_tls_certificate_file" if given["gateway_tls_certificate_file"] or not directory else "gateway_tls_acme_directory"
    if problems:
        return problems
    if found["mismatch"]:
        return [f"{named}: {certificate} and {key} are not a certificate and its unencrypted key ({found['mismatch']})"]
    if found["expired"]:
        problems.append(f"{named}: {certificate} has expired ({found['expired']}); renew it")
    if found["other_name"] and model.site.hostname:
        problems.append(f"{named}: {certificate} is not for {model.site.hostname}, which clients ask for; use one with this name")
    return problems


def _disk(observed: Observed, limits: dict[str, int]) -> list[str]:
    """With less room than this, the gateway would answer 4xx to every message from the first day on."""
    problems = []
    for limit, what, code in (("queue_minfree", "queue", 452), ("unpack_quota", "scratch", 450)):
        place, free = observed["free"][what]
        if limits and free <= limits[limit]:
            problems.append(
                f"gateway_limits: {limit} is {limits[limit]} bytes, but {place} has only {free} bytes free, so mail would"
                f" get {code}; give it more room, or lower gateway_message_size_limit, the workers or unpack_quota"
            )
    return problems


def _nameservers(model: _model.Model, observed: Observed) -> list[str]:
    problems = []
    answers = iter(observed["nameservers"])
    for index, text in enumerate(model.variables["gateway_nameservers"]):
        variable = f"gateway_nameservers[{index}]"
        try:
            address = _addresses.ip(text)
        except ValueError as error:
            problems.append(f"{variable}: {error}")
            continue
        answer = next(answers)
        if "unanswered" in answer:
            problems.append(f"{variable}: {address} does not answer ({answer['unanswered']}); correct the address, or let this host ask it")
        elif answer["rcode"]:
            problems.append(f"{variable}: {address} answers {answer['rcode']}; let it serve this host as a resolver")
    return problems


def _dhcp_clients(model: _model.Model, observed: Observed) -> list[str]:
    """Programs that would undo what the gateway does to the host."""
    if not model.nameservers:
        return []
    return [
        f"{name} runs on this host, and may write /etc/resolv.conf anew: tell it to leave the file alone, or the gateway asks other resolvers after that"
        for name in observed["running"]
    ]


def _servers(model: _model.Model, observed: Observed, limits: dict[str, int]) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    warnings: list[str] = []
    met = {hop: (policy.split()[0], found) for (hop, policy), found in zip(_hops(model), observed["servers"], strict=True)}
    seen = set()
    for variable, hop in model.site.next_hops:
        if hop in seen:
            continue
        seen.add(hop)
        level, found = met[hop]
        if found["unresolved"] and hop.bracketed:
            problems.append(f"{variable}: {found['unresolved']}; correct the name or its DNS record")
        elif found["unresolved"]:
            # Without brackets Postfix asks for MX records first, which the resolver library cannot.
            warnings.append(f"{variable}: {found['unresolved']}; that is right only if it has MX records")
        elif hop.port in owners(model) and found["own"]:
            problems.append(f"{variable}: {hop.host} is this gateway itself, so mail would loop; name the internal mail server")
        elif found["unreachable"]:
            warnings.append(f"{variable}: {found['unreachable']}")
        elif found.get("refusal"):
            reply = " ".join(found["refusal"])
            warnings.append(f"{variable}: {hop.host} turns the gateway away ({reply}); mail for it waits in the queue until that changes")
        else:
            problems += [f"{variable}: {problem}" for problem in _lacking(model, hop, level, found, limits)]
    smarthost = model.outgoing.smarthost
    if smarthost:
        level, found = met[smarthost]
        if found["unresolved"] and smarthost.bracketed:
            problems.append(f"gateway_smarthost.next_hop: {found['unresolved']}; correct the name or its DNS record")
        elif found["unresolved"] or found["unreachable"] or found.get("silent"):
            warnings.append(f"gateway_smarthost.next_hop: {found['unresolved'] or found['unreachable'] or found['silent']}")
        elif found.get("tls"):
            problems.append(f"gateway_smarthost: tls is {level}, but mail for the world would wait in the queue: {found['tls']}; {ADVICE_ON_TLS}")
    return problems, warnings


def _lacking(model: _model.Model, hop: _addresses.NextHop, level: str, found: Observed, limits: dict[str, int]) -> list[str]:
    """What a next hop does not take, the gateway must not take either: after its 250 all that is left is a bounce."""
    problems = []
    if "extensions" in found:
        offered = {name.upper(): parameters for name, _space, parameters in (line.partition(" ") for line in found["extensions"])}
        size = offered.get("SIZE", "").strip()
        needed = limits.get("reinjection_size_limit", 0)
        if size.isdigit() and 0 < int(size) < needed:
            most = int(size) - _limits.HEADER_HEADROOM
            advice = f"set gateway_message_size_limit to {most} at most, or let it take more" if most > 0 else "let it take more"
            problems.append(
                f"{hop.host} takes messages of {size} bytes, but the gateway would hand it up to {needed}, and what it refuses then has to be bounced; {advice}"
            )
        if model.variables["gateway_8bitmime"] and "8BITMIME" not in offered:
            problems.append(
                f"{hop.host} does not offer 8BITMIME, so Postfix would rewrite messages for it, which breaks their signatures; set gateway_8bitmime: false"
            )
    if found.get("tls"):
        problems.append(f"next_hop_tls is {level}, but mail would wait in the queue: {found['tls']}; {ADVICE_ON_TLS}")
    return problems
