#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: resolver_check
short_description: Asks resolvers for what a mail gateway needs of them
version_added: 0.1.0
description:
  - Asks each resolver, from the host, for the root of the DNS and for names that the gateway needs. A resolver that
    does not answer, or does not know one of them, is an error.
  - Asks for the test points of DNS-based lists (RFC 5782). C(127.0.0.2) is on every list and C(127.0.0.1) on none, so a list that
    answers otherwise has shut down, or does not serve this resolver. That is a warning, and the list is returned in RV(left_out).
  - A list that does not answer at all is not left out, but named in a warning. postscreen waits for no list that is slow, and one that is
    silent while the playbook runs may answer a minute later.
  - It only reads.
options:
  nameservers:
    description: IP addresses of the resolvers. By default those of C(/etc/resolv.conf).
    type: list
    elements: str
    default: []
  names:
    description: Host names, or domains with MX records, that must be found.
    type: list
    elements: str
    default: []
  lists:
    description: DNS-based lists to look at.
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
      key:
        description: The label before O(lists[].domain) that the list knows its customer by.
        type: str
      weight:
        description: Not looked at.
        type: int
      refuses_alone:
        description: Not looked at.
        type: bool
extends_documentation_fragment:
  - antispam.gateway.attributes.reads
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - name: RFC 5782
    description: DNS Blacklists and Whitelists, section 5 has the test points.
    link: https://www.rfc-editor.org/rfc/rfc5782
"""

EXAMPLES = r"""
- name: Look whether a list can be used from this host
  antispam.gateway.resolver_check:
    nameservers: [127.0.0.1]
    lists:
      - domain: zen.spamhaus.org
        answers: 127.0.0.[2..11]
  register: resolver
  failed_when: resolver.left_out | length > 0
"""

RETURN = r"""
left_out:
  description: Domains of the lists that cannot be used.
  returned: success
  type: list
  elements: str
"""

import concurrent.futures
from collections.abc import Iterable, Sequence, Set

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _dns, _dnsbl, _host, _resolvers

LISTED = "2.0.0.127"
NOT_LISTED = "1.0.0.127"


def first_answer(servers: Iterable[str], name: str) -> tuple[str, list[str]]:
    """Return (rcode, addresses) of the first server that answers: what the C library would get. Raises Unanswered."""
    reason, failed = "there is no resolver", ""
    for server in servers:
        try:
            answer = _dns.ask(server, name, _dns.A)
        except _dns.Unanswered as error:
            reason = str(error)
        else:
            if answer.rcode in _dns.ANSWERS:
                return answer.rcode, answer.addresses
            failed = failed or answer.rcode
    if failed:
        return failed, []
    raise _dns.Unanswered(reason)


def trouble(servers: Sequence[str], zone: str, filters: Iterable[Sequence[Set[int]]]) -> str:
    """Return '' if a list can be used, else a sentence; filters are those of all its entries (_dnsbl.answers).

    Raises _dns.Unanswered, which says nothing about the list.
    """
    rcode, listed = first_answer(servers, f"{LISTED}.{zone}")
    _rcode, not_listed = first_answer(servers, f"{NOT_LISTED}.{zone}")
    if rcode == "SERVFAIL":
        raise _dns.Unanswered(rcode)
    counted = [address for address in not_listed if any(_dnsbl.counts(octets, address) for octets in filters)]
    if counted:
        return f"it lists 127.0.0.1, and so the world, with {', '.join(counted)}"
    # With what the test point is listed differs; that of a list of friends may be worth nothing.
    if any(address.startswith("127.") and address not in _dnsbl.NO_LISTING for address in listed):
        return ""
    return f"its test point 127.0.0.2 is answered with {', '.join(listed) or rcode}, so it has shut down or does not serve this resolver"


def look(servers: Sequence[str], zone: str, filters: Iterable[Sequence[Set[int]]]) -> tuple[str, str]:
    """Return (why a list cannot be used, why nothing is known about it); either is '' where it does not hold."""
    try:
        return trouble(servers, zone, filters), ""
    except _dns.Unanswered as error:
        return "", str(error)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nameservers": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "lists": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "domain": {"type": "str", "required": True},
                    "answers": {"type": "str", "default": "127.0.0.[2..254]"},
                    "key": {"type": "str", "no_log": True},
                    "weight": {"type": "int"},
                    "refuses_alone": {"type": "bool"},
                },
            },
        },
        supports_check_mode=True,
    )
    options = module.params
    zones: dict[tuple[str, str], list[Sequence[Set[int]]]] = {}
    try:
        servers = [_addresses.ip(address) for address in options["nameservers"]] or _host.resolv_conf()
        for entry in options["lists"]:
            zone = _dnsbl.zone(_addresses.fqdn(entry["domain"]), entry["key"])
            zones.setdefault((entry["domain"], zone), []).append(_dnsbl.answers(entry["answers"]))
    except ValueError as error:
        module.fail_json(msg=f"{error}; nothing was asked")
    if options["names"] and not servers:
        module.fail_json(msg="There is no resolver to ask: /etc/resolv.conf names none; set gateway_own_resolver or gateway_nameservers")
    given = [_addresses.ip(address) for address in options["nameservers"]]
    # Those of the host need not know the root, such as one that only knows the site.
    problem = _resolvers.problem(servers, options["names"], given)
    if problem:
        module.fail_json(msg=f"{problem}.")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda entry: look(servers, entry[0][1], entry[1]), zones.items()))
    left_out = []
    for (domain, _zone), (trouble_with_it, unanswered) in zip(zones, found):
        if trouble_with_it:
            module.warn(f"{domain} is left out: {trouble_with_it}")
            left_out.append(domain)
        elif unanswered:
            module.warn(f"{domain} gave no answer ({unanswered}); it stays in use, and counts again as soon as it answers")
    module.exit_json(changed=False, left_out=left_out)


if __name__ == "__main__":
    main()
