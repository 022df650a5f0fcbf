#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site
short_description: Validates the data model of an antispam gateway and derives every role's settings from it
version_added: 0.1.0
description:
  - Checks what an administrator wrote about a site, and the host that is to become its gateway, before anything is changed.
  - Returns the tables, networks and limits that the roles of this collection use. It only reads.
  - All mistakes are reported together, each with the variable, the cause and what to do.
options:
  hostname:
    description: Fully qualified name of the gateway.
    type: str
    required: true
  domains:
    description: The relay domains.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The domain.
        type: str
        required: true
      next_hop:
        description: Where its mail goes, as in transport(5), without the transport.
        type: str
        required: true
      verify_recipients:
        description: Let Postfix ask the next hop whether a recipient exists, see ADDRESS_VERIFICATION_README.
        type: bool
        default: false
      next_hop_tls:
        description: How the next hop is spoken to, a security level of smtp_tls_policy_maps.
        type: str
        choices: [none, may, encrypt, secure]
        default: may
  recipients:
    description: Valid recipient addresses, or V(@domain) for every address of a domain.
    type: list
    elements: str
    default: []
  sourced_domains:
    description: For each source of recipients that is read elsewhere the domains that it feeds, an empty list if it feeds all.
    type: list
    elements: list
    default: []
  postmaster:
    description: Where mail for postmaster and abuse goes.
    type: str
    required: true
  trusted_networks:
    description: Networks in CIDR notation whose hosts may relay to the world.
    type: list
    elements: str
    default: []
  aliases:
    description: Addresses that are delivered as other addresses, a dictionary of address to list of addresses.
    type: dict
    default: {}
  sender_scores:
    description: Points that amavis adds for an envelope sender, a dictionary of key to number.
    type: dict
    default: {}
  accounts:
    description: Who may send from anywhere after a login.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The login, an address in one of O(domains).
        type: str
        required: true
      password:
        description: The hash of the password, as crypt(3) or Argon2 makes it.
        type: str
        required: true
      senders:
        description: More addresses, or V(@domain), that the account may send as.
        type: list
        elements: str
        default: []
  smarthost:
    description: The server that mail for the world is handed to, as in transport(5), without the transport.
    type: str
    default: ""
  smarthost_tls:
    description: How it is spoken to, a security level of smtp_tls_policy_maps.
    type: str
    choices: [encrypt, secure]
    default: secure
  tls_policies:
    description: A dictionary of destination to policy, as smtp_tls_policy_maps has them.
    type: dict
    default: {}
  tls_ca_file:
    description: Path on the host of a file with certificate authorities, besides those of the host.
    type: str
    default: ""
  dkim_domains:
    description: The domains whose mail is signed.
    type: list
    elements: str
    default: []
  dkim_selector:
    description: The selector of the keys (RFC 6376 section 3.1).
    type: str
    default: ""
  forwarders:
    description: Networks in CIDR notation whose hosts forward mail to the site.
    type: list
    elements: str
    default: []
  eight_bit_mime:
    description: Whether the gateway offers 8BITMIME, which then every next hop has to offer as well.
    type: bool
    default: true
  client_allowlist:
    description: Networks in CIDR notation whose hosts pass postscreen without its tests.
    type: list
    elements: str
    default: []
  client_denylist:
    description: Networks in CIDR notation whose hosts are refused.
    type: list
    elements: str
    default: []
  dnsbl_lists:
    description: DNS-based lists that clients are looked up in.
    type: list
    elements: dict
    default: []
    suboptions:
      domain:
        description: The list's domain.
        type: str
        required: true
      answers:
        description: The answers that count, a filter of postscreen_dnsbl_sites.
        type: str
        default: 127.0.0.[2..254]
      weight:
        description: What the list adds to a client's score; below 0 it speaks in favour of the client.
        type: int
        default: 1
      key:
        description: The label before O(dnsbl_lists[].domain) that the list knows its customer by.
        type: str
      refuses_alone:
        description: Whether the list may reach O(dnsbl_threshold) without another one.
        type: bool
        default: false
  dnsbl_threshold:
    description: The score from which a client is refused.
    type: int
    default: 3
  only_the_site:
    description: Whether to leave out what the host is like, and what those that it speaks to say.
    type: bool
    default: false
  own_resolver:
    description: Whether the gateway gets a resolver of its own, which needs port 53 of the loopback interface.
    type: bool
    default: false
  nameservers:
    description: Addresses of the site's own resolvers, which must answer.
    type: list
    elements: str
    default: []
  message_size_limit:
    description: Largest message the front listener takes, in bytes.
    type: int
    default: 52428800
  limits:
    description: Limits that are not to be derived.
    type: dict
    default: {}
    suboptions:
      workers:
        description: amavis processes.
        type: int
      smtpd_processes:
        description: SMTP connections at once.
        type: int
      connections_per_client:
        description: Connections at once from one client.
        type: int
      postscreen_clients:
        description: Clients that postscreen holds at once.
        type: int
      submission_processes:
        description: SMTP connections at once on each port for submission.
        type: int
      connections_per_minute:
        description: Connections of one client in a minute; 0 for any number.
        type: int
      messages_per_minute:
        description: Messages of one client in a minute; 0 for any number.
        type: int
      recipients_per_minute:
        description: Recipients that one client names in a minute; 0 for any number.
        type: int
      usual_scan:
        description: Seconds that a scan takes at most when nothing is wrong.
        type: int
      scan_deadline:
        description: Seconds for one scan of SpamAssassin.
        type: int
      child_timeout:
        description: Seconds for one message in amavis.
        type: int
      proxy_timeout:
        description: Seconds that Postfix waits for amavis.
        type: int
      queue_minfree:
        description: Bytes that must be free where the queue is.
        type: int
      reinjection_size_limit:
        description: Bytes that the listener behind the filter takes.
        type: int
      unpack_quota:
        description: Bytes that the parts of one message may unpack to.
        type: int
      clamd_stream_size:
        description: Bytes of the largest file that clamd takes.
        type: int
      clamd_scan_size:
        description: Bytes that clamd scans of one file.
        type: int
      clamd_concurrent_reload:
        description: Whether clamd goes on scanning while it loads new signatures.
        type: bool
  official_databases:
    description: Whether clamd loads the official databases, which decides its memory.
    type: bool
    default: true
  accept_debian12:
    description: Accept Debian 12, where a client can crash the smtpd in front of the filter.
    type: bool
    default: false
  tls_certificate_file:
    description: Path on the host of the certificate in PEM format; empty for a self-signed one.
    type: str
    default: ""
  tls_key_file:
    description: Path on the host of its private key.
    type: str
    default: ""
  variables:
    description: Names of the variables that are set for the host, to be compared with O(known_variables).
    type: list
    elements: str
    default: []
  known_variables:
    description: Names of the variables that the roles know.
    type: list
    elements: str
    default: []
  reserved_prefixes:
    description: Prefixes under which an unknown variable is an error.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: The module only reads.
  diff_mode:
    support: none
    details: Nothing is changed, so there is no difference to show.
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - name: transport(5)
    description: How a next hop is written.
    link: https://www.postfix.org/transport.5.html
"""

EXAMPLES = r"""
- name: Look at a site before anything is changed
  antispam.gateway.site:
    hostname: mx1.example.com
    domains:
      - name: example.com
        next_hop: "[mail.inside.example.com]"
    recipients: [alice@example.com]
    postmaster: alice@example.com
  register: site
"""

RETURN = r"""
debian:
  description: The major version of Debian on the host.
  returned: success
  type: str
packages:
  description: Names of the packages that are installed.
  returned: success
  type: list
  elements: str
site:
  description: What the roles derive their settings from.
  returned: success
  type: dict
  contains:
    hostname:
      description: The name in canonical form.
      type: str
    postmaster:
      description: The address in canonical form.
      type: str
    domains:
      description: The relay domains, sorted.
      type: list
      elements: str
    trusted_networks:
      description: The trusted networks, sorted as given, without brackets.
      type: list
      elements: str
    postfix_networks:
      description: The trusted networks as mynetworks wants them.
      type: list
      elements: str
    tables:
      description: Postfix tables by name (relay_domains, transport, verify_recipients, virtual, aliases, sender_logins, tls_policy).
      type: dict
    logins:
      description: The names of the accounts in canonical form, in the order of O(accounts).
      type: list
      elements: str
    relayhost:
      description: The smarthost in canonical form, empty where there is none.
      type: str
    dkim_domains:
      description: The domains whose mail is signed, in canonical form.
      type: list
      elements: str
    dkim_selector:
      description: The selector in canonical form.
      type: str
    forwarders:
      description: The networks of forwarders.
      type: list
      elements: str
    relay_recipients:
      description: The recipients that the inventory names, and C(@domain) for each domain that has them verified.
      type: list
      elements: str
    sender_scores:
      description: amavis keys with their points.
      type: dict
    client_access:
      description: Networks with what becomes of their hosts (C(permit) or C(reject)), the longest prefixes first, as pairs.
      type: list
      elements: list
    next_hop_names:
      description: The next hops that have to be found in the DNS.
      type: list
      elements: str
    limits:
      description: The one set of limits.
      type: dict
"""

import pathlib
import re
import shutil
import ssl

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _dns, _dnsbl, _host, _limits, _outgoing, _site, _smtp

LIMITS = (
    "workers",
    "smtpd_processes",
    "connections_per_client",
    "postscreen_clients",
    "submission_processes",
    "connections_per_minute",
    "messages_per_minute",
    "recipients_per_minute",
    "usual_scan",
    "scan_deadline",
    "child_timeout",
    "proxy_timeout",
    "queue_minfree",
    "reinjection_size_limit",
    "unpack_quota",
    "clamd_stream_size",
    "clamd_scan_size",
)
MAILBOX_PORTS = (110, 143, 993, 995)
# Seconds for a question to a next hop.
TIMEOUT = 10
TLS_WAY_OUT = "set it right there, name its authority in gateway_tls_ca_file, or lower the level"
SUPPORTED = {("debian", "13"), ("debian", "12")}
# What may hold each port without being in the way: the services this collection sets up.
POSTFIX = (["postfix.service", "postfix@-.service"], "master")
AMAVIS = (["amavis.service"], "/usr/sbin/amavi")
OWNERS = {25: POSTFIX, 10024: AMAVIS, 10025: POSTFIX, 10026: AMAVIS, 10027: POSTFIX}
SUBMISSION = {465: POSTFIX, 587: POSTFIX}


def main():
    module = AnsibleModule(
        argument_spec={
            "hostname": {"type": "str", "required": True},
            "domains": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "next_hop": {"type": "str", "required": True},
                    "verify_recipients": {"type": "bool", "default": False},
                    "next_hop_tls": {"type": "str", "choices": ["none", "may", "encrypt", "secure"], "default": "may"},
                },
            },
            "recipients": {"type": "list", "elements": "str", "default": []},
            "sourced_domains": {"type": "list", "elements": "list", "default": []},
            "postmaster": {"type": "str", "required": True},
            "trusted_networks": {"type": "list", "elements": "str", "default": []},
            "aliases": {"type": "dict", "default": {}},
            "sender_scores": {"type": "dict", "default": {}},
            "accounts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "senders": {"type": "list", "elements": "str", "default": []},
                },
            },
            "smarthost": {"type": "str", "default": ""},
            "smarthost_tls": {"type": "str", "choices": ["encrypt", "secure"], "default": "secure"},
            "tls_policies": {"type": "dict", "default": {}},
            "tls_ca_file": {"type": "str", "default": ""},
            "dkim_domains": {"type": "list", "elements": "str", "default": []},
            "dkim_selector": {"type": "str", "default": ""},
            "forwarders": {"type": "list", "elements": "str", "default": []},
            "eight_bit_mime": {"type": "bool", "default": True},
            "client_allowlist": {"type": "list", "elements": "str", "default": []},
            "client_denylist": {"type": "list", "elements": "str", "default": []},
            "dnsbl_lists": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "domain": {"type": "str", "required": True},
                    "answers": {"type": "str", "default": "127.0.0.[2..254]"},
                    "weight": {"type": "int", "default": 1},
                    "key": {"type": "str", "no_log": True},
                    "refuses_alone": {"type": "bool", "default": False},
                },
            },
            "dnsbl_threshold": {"type": "int", "default": 3},
            "only_the_site": {"type": "bool", "default": False},
            "own_resolver": {"type": "bool", "default": False},
            "nameservers": {"type": "list", "elements": "str", "default": []},
            "message_size_limit": {"type": "int", "default": 52428800},
            "limits": {
                "type": "dict",
                "default": {},
                "options": {**{name: {"type": "int"} for name in LIMITS}, "clamd_concurrent_reload": {"type": "bool"}},
            },
            "official_databases": {"type": "bool", "default": True},
            "accept_debian12": {"type": "bool", "default": False},
            "tls_certificate_file": {"type": "str", "default": ""},
            "tls_key_file": {"type": "str", "default": ""},
            "variables": {"type": "list", "elements": "str", "default": []},
            "known_variables": {"type": "list", "elements": "str", "default": []},
            "reserved_prefixes": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = module.params
    problems = _site.unknown_variables(options["variables"], options["known_variables"], options["reserved_prefixes"])
    site = _site.Site(
        options["hostname"],
        options["domains"],
        options["recipients"],
        options["postmaster"],
        options["trusted_networks"],
        options["aliases"],
        options["sender_scores"],
        options["sourced_domains"],
        options["client_allowlist"],
        options["client_denylist"],
    )
    problems += site.problems
    outgoing = _outgoing.Outgoing(
        site,
        options["domains"],
        options["accounts"],
        options["smarthost"],
        options["smarthost_tls"],
        options["tls_policies"],
        options["dkim_domains"],
        options["dkim_selector"],
        options["forwarders"],
    )
    problems += outgoing.problems
    packages = _host.installed()
    found, warnings = _dnsbl.check(options["dnsbl_lists"], options["dnsbl_threshold"])
    problems += found
    limits = {}
    try:
        limits = _limits.derive(
            _host.cpus(), _host.memory_mib(), options["message_size_limit"], options["official_databases"], options["limits"], bool(outgoing.accounts)
        )
    except _limits.Contradiction as contradiction:
        problems.append(f"gateway_limits: {contradiction}")
    if not options["only_the_site"]:
        problems += own_problems(module, options, site, outgoing, packages, limits)
        found, more = neighbours_problems(options, site, outgoing, limits)
        problems += found
        warnings += more + rivals(options)
    for warning in warnings:
        module.warn(warning)
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        module.fail_json(msg=f"Nothing was changed: the site has {count}.\n" + "\n".join(f"- {problem}" for problem in problems), problems=problems)
    module.exit_json(
        changed=False,
        debian=_host.os_release()[1],
        packages=packages,
        site={
            "hostname": site.hostname,
            "postmaster": site.postmaster,
            "domains": sorted(site.domains),
            "trusted_networks": [str(net) for net in site.trusted_networks],
            "postfix_networks": [_addresses.postfix_network(net) for net in site.trusted_networks],
            "tables": {
                "relay_domains": site.relay_domains(),
                "transport": site.transport(),
                "verify_recipients": site.verify_recipients(),
                "virtual": site.virtual(),
                "aliases": site.system_aliases(),
                "sender_logins": outgoing.sender_logins(),
                "tls_policy": outgoing.tls_policy(),
            },
            "relay_recipients": site.relay_recipients(),
            "logins": list(outgoing.accounts),
            "relayhost": outgoing.relayhost(),
            "dkim_domains": outgoing.dkim_domains,
            "dkim_selector": outgoing.dkim_selector,
            "forwarders": outgoing.forwarders,
            "sender_scores": site.sender_scores,
            "client_access": site.client_access(),
            "next_hop_names": site.next_hop_names(),
            "limits": limits,
        },
    )


def own_problems(module, options, site, outgoing, packages, limits):
    """Return what keeps this host from being the gateway."""
    problems = platform_problems(options["accept_debian12"])
    problems += host_problems(module, packages, options["own_resolver"], OWNERS | SUBMISSION if outgoing.accounts else OWNERS)
    if outgoing.accounts:
        problems += mailbox_problems()
    problems += certificate_problems(module, options["tls_certificate_file"], options["tls_key_file"], site.hostname)
    return problems + disk_problems(limits)


def neighbours_problems(options, site, outgoing, limits):
    """Return (problems, warnings) of those that the gateway speaks to."""
    problems = nameserver_problems(options["nameservers"])
    unusable = ca_problems(options["tls_ca_file"])
    if unusable:
        options["tls_ca_file"] = ""
    found, warnings = next_hop_problems(site, outgoing, options, limits)
    more, others = smarthost_problems(site, outgoing, options["tls_ca_file"])
    return problems + unusable + found + more, warnings + others


def rivals(options):
    """Return warnings about programs that would undo what the gateway does to the host."""
    if not options["own_resolver"] and not options["nameservers"]:
        return []
    return [
        f"{name} runs on this host, and may write /etc/resolv.conf anew: tell it to leave the file alone, or the gateway asks other resolvers after that"
        for name in _host.running(("dhclient", "dhcpcd", "NetworkManager"))
    ]


def platform_problems(accept_debian12):
    release = _host.os_release()
    if release not in SUPPORTED:
        return [f"operating system: {' '.join(release)} is not supported; use Debian 13"]
    if release == ("debian", "12") and not accept_debian12:
        return [
            "operating system: Debian 12 carries Postfix 3.7, whose smtpd any client can crash in smtpd_proxy_filter with one line"
            " that begins with 'From ' and is longer than 2048 bytes; use Debian 13,"
            " or set gateway_accept_debian12_postfix_panic: true to accept this"
        ]
    return []


def nameserver_problems(addresses):
    problems = []
    for index, address in enumerate(addresses):
        variable = f"gateway_nameservers[{index}]"
        try:
            rcode = _dns.refusal(_addresses.ip(address))
        except ValueError as error:
            problems.append(f"{variable}: {error}")
        except _dns.Unanswered as error:
            problems.append(f"{variable}: {address} does not answer ({error}); correct the address, or let this host ask it")
        else:
            if rcode:
                problems.append(f"{variable}: {address} answers {rcode}; let it serve this host as a resolver")
    return problems


def host_problems(module, packages, own_resolver, owners):
    problems = []
    others = [name for name in packages if name in _host.OTHER_MTAS]
    if others:
        problems.append(f"another MTA is installed ({', '.join(others)}), which installing Postfix would remove; move its mail away and remove it first")
    for port, (units, process) in owners.items():
        names = _host.listeners(port)
        if not names or any(name.startswith(process) for name in names):
            continue
        if names == {_host.UNKNOWN} and module.run_command(["systemctl", "--quiet", "is-active", *units])[0] == 0:
            continue
        problems.append(f"port {port} is taken by {', '.join(sorted(names))}; stop it or move it to another port")
    names = _host.listeners(53, loopback_only=True) - {"unbound"} if own_resolver else set()
    if names and not (names == {_host.UNKNOWN} and module.run_command(["systemctl", "--quiet", "is-active", "unbound.service"])[0] == 0):
        problems.append(
            f"port 53 of the loopback interface is taken by {', '.join(sorted(names))}; stop it,"
            " or use it and set gateway_own_resolver: false or gateway_nameservers"
        )
    return problems


def mailbox_problems():
    """Logins need a Dovecot of the gateway's own, whose configuration is a whole one."""
    return [
        f"gateway_accounts: Dovecot serves mailboxes on this host (port {port}), and its configuration would be replaced; let the gateway be a host of its own"
        for port in MAILBOX_PORTS
        if "dovecot" in _host.listeners(port)
    ][:1]


def certificate_problems(module, certificate, key, hostname):
    """Let OpenSSL load the pair as Postfix would, and look at what its clients would."""
    if not certificate and not key:
        return []
    problems = []
    for variable, path in (("gateway_tls_certificate_file", certificate), ("gateway_tls_key_file", key)):
        if not path:
            problems.append(f"{variable}: it is empty, but a certificate and its key go together; set both or none")
            continue
        try:
            pathlib.Path(path).read_bytes()
        except OSError as error:
            problems.append(f"{variable}: {path} cannot be read on the gateway ({error.strerror}); put it there first")
    if problems:
        return problems
    try:
        # A password callback keeps OpenSSL from asking on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        return [f"gateway_tls_certificate_file: {certificate} and {key} are not a certificate and its unencrypted key ({error})"]
    # The ssl module reads no dates. Where there is no openssl yet, gateway-certificate looks before anything is switched.
    if not module.get_bin_path("openssl"):
        return []
    look = ["openssl", "x509", "-noout", "-in", certificate]
    rc, out, _err = module.run_command([*look, "-enddate", "-checkend", "0"])
    if rc:
        until = re.sub(r".*notAfter=(.*?)\s*\n.*", r"\1", out, flags=re.DOTALL)
        problems.append(f"gateway_tls_certificate_file: {certificate} has expired ({until}); renew it")
    if hostname and "does match" not in module.run_command([*look, "-checkhost", hostname])[1]:
        problems.append(f"gateway_tls_certificate_file: {certificate} is not for {hostname}, which clients ask for; use one with this name")
    return problems


def ca_problems(path):
    if not path:
        return []
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        return [f"gateway_tls_ca_file: {path} holds no certificates in PEM format ({error.reason})"]
    except OSError as error:
        return [f"gateway_tls_ca_file: {path} cannot be read on the gateway ({error.strerror}); put it there first"]
    return []


def disk_problems(limits):
    """With less room than this, the gateway would answer 4xx to every message from the first day on."""
    if not limits:
        return []
    problems = []
    for limit, places, code in (
        ("queue_minfree", ("/var/spool/postfix", "/var/spool", "/"), 452),
        ("unpack_quota", ("/var/lib/amavis/tmp", "/var/lib/amavis", "/var/lib", "/"), 450),
    ):
        place = next(path for path in places if pathlib.Path(path).is_dir())
        free = shutil.disk_usage(place).free
        if free <= limits[limit]:
            problems.append(
                f"gateway_limits: {limit} is {limits[limit]} bytes, but {place} has only {free} bytes free, so mail would"
                f" get {code}; give it more room, or lower gateway_message_size_limit, the workers or unpack_quota"
            )
    return problems


def next_hop_problems(site, outgoing, options, limits):
    problems, warnings = [], []
    seen = set()
    for variable, host, port, bracketed in site.next_hops:
        if (host, port) in seen:
            continue
        seen.add((host, port))
        problem, warning, addresses = _host.reach(host, port)
        if problem and bracketed:
            problems.append(f"{variable}: {problem}; correct the name or its DNS record")
        elif problem:
            # Without brackets Postfix asks for MX records first, which the resolver library cannot.
            warnings.append(f"{variable}: {problem}; that is right only if it has MX records")
        elif port in OWNERS and any(_host.is_own(address) for address in addresses):
            problems.append(f"{variable}: {host} is this gateway itself, so mail would loop; name the internal mail server")
        elif warning:
            warnings.append(f"{variable}: {warning}")
        elif bracketed:
            level = outgoing.policies.get(_addresses.write_next_hop(host, port, bracketed), "may").split()[0]
            found, more = offer_problems(host, port, level, site.hostname, options, limits)
            problems += [f"{variable}: {problem}" for problem in found]
            warnings += [f"{variable}: {warning}" for warning in more]
    return problems, warnings


def offer_problems(host, port, level, hostname, options, limits):
    """What a next hop does not take, the gateway must not take either: after its 250 all that is left is a bounce."""
    try:
        result = _smtp.converse(host=host, port=port, helo=hostname, tls="never", stop_after="helo", timeout=TIMEOUT)
    except _smtp.SmtpError:
        return [], []
    if result["verdict"] != "accepted":
        return [], [f"{host} turns the gateway away ({' '.join(result['reply']['lines'])}); mail for it waits in the queue until that changes"]
    offered = {name.upper(): parameters for name, _space, parameters in (line.partition(" ") for line in result["extensions"])}
    problems = []
    size = offered.get("SIZE", "").strip()
    needed = limits.get("reinjection_size_limit", 0)
    if size.isdigit() and 0 < int(size) < needed:
        most = int(size) - _limits.HEADER_HEADROOM
        way_out = f"set gateway_message_size_limit to {most} at most, or let it take more" if most > 0 else "let it take more"
        problems.append(
            f"{host} takes messages of {size} bytes, but the gateway would hand it up to {needed}, and what it refuses then has to be bounced; {way_out}"
        )
    if options["eight_bit_mime"] and "8BITMIME" not in offered:
        problems.append(f"{host} does not offer 8BITMIME, so Postfix would rewrite messages for it, which breaks their signatures; set gateway_8bitmime: false")
    if level in ("encrypt", "secure"):
        reason = tls_problem(host, port, level, hostname, options["tls_ca_file"])
        if reason:
            problems.append(f"next_hop_tls is {level}, but mail would wait in the queue: {reason}; {TLS_WAY_OUT}")
    return problems, []


def tls_problem(host, port, level, hostname, ca_file):
    """Return why a server cannot be spoken to at a security level, '' if it can."""
    try:
        result = _smtp.converse(
            host=host, port=port, helo=hostname, tls="require", validate_certs=level == "secure", ca_path=ca_file or None, stop_after="helo", timeout=TIMEOUT
        )
    except _smtp.SmtpError as error:
        # Without the way out, which is that of a module's options.
        return re.sub(r"[.] [A-Z].*", "", str(error))
    return f"{host} refuses STARTTLS ({' '.join(result['reply']['lines'])})" if result["refused_at"] == "starttls" else ""


def smarthost_problems(site, outgoing, ca_file):
    if not outgoing.smarthost:
        return [], []
    host, port, bracketed = outgoing.smarthost
    problem, warning, _found = _host.reach(host, port)
    if problem and bracketed:
        return [f"gateway_smarthost.next_hop: {problem}; correct the name or its DNS record"], []
    if problem or warning:
        return [], [f"gateway_smarthost.next_hop: {problem or warning}"]
    reason = tls_problem(host, port, outgoing.smarthost_tls, site.hostname, ca_file) if bracketed else ""
    if not reason:
        return [], []
    return [f"gateway_smarthost: tls is {outgoing.smarthost_tls}, but mail for the world would wait in the queue: {reason}; {TLS_WAY_OUT}"], []


if __name__ == "__main__":
    main()
