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
import pathlib
from collections.abc import Iterable, Sequence, Set

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _dns, _dnsbl

LISTED = "2.0.0.127"
NOT_LISTED = "1.0.0.127"


def resolv_conf(path: str = "/etc/resolv.conf") -> list[str]:
    """Return the addresses of resolv.conf(5), as they stand there; none if it cannot be read."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]


def problem_with(server: str, name: str) -> str:
    """Return '' if the resolver finds the name, in A, AAAA or MX records, else a sentence."""
    rcodes = []
    for kind in (_dns.A, _dns.AAAA, _dns.MX):
        try:
            answer = _dns.ask(server, name, kind)
        except _dns.Unanswered as error:
            return f"the resolver {server} does not answer the question for {name}: {error}"
        if answer.found:
            return ""
        rcodes.append(answer.rcode)
    return f"the resolver {server} finds no address of {name} ({', '.join(dict.fromkeys(rcodes))})"


def root_problem(server: str) -> str:
    """Return '' if the resolver reaches the root of the DNS, else a sentence: one that is cut off answers as well."""
    try:
        rcode = _dns.refusal(server)
    except _dns.Unanswered as error:
        return f"the resolver {server} does not answer: {error}"
    return rcode and f"the resolver {server} does not reach the DNS ({rcode})"


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
    """Return '' if a list can be used, else a sentence; filters are those of all its entries (_dnsbl.answers)."""
    try:
        rcode, listed = first_answer(servers, f"{LISTED}.{zone}")
        _rcode, not_listed = first_answer(servers, f"{NOT_LISTED}.{zone}")
    except _dns.Unanswered as error:
        return f"the resolver gave no answer ({error})"
    counted = [address for address in not_listed if any(_dnsbl.counts(octets, address) for octets in filters)]
    if counted:
        return f"it lists 127.0.0.1, and so the world, with {', '.join(counted)}"
    # With what the test point is listed differs; that of a list of friends may be worth nothing.
    if any(address.startswith("127.") and address not in _dnsbl.NO_LISTING for address in listed):
        return ""
    return f"its test point 127.0.0.2 is answered with {', '.join(listed) or rcode}, so it has shut down or does not serve this resolver"


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
        servers = [_addresses.ip(address) for address in options["nameservers"]] or resolv_conf()
        for entry in options["lists"]:
            zone = _dnsbl.zone(_addresses.fqdn(entry["domain"]), entry["key"])
            zones.setdefault((entry["domain"], zone), []).append(_dnsbl.answers(entry["answers"]))
    except ValueError as error:
        module.fail_json(msg=f"{error}; nothing was asked")
    if options["names"] and not servers:
        module.fail_json(msg="There is no resolver to ask: /etc/resolv.conf names none; set gateway_own_resolver or gateway_nameservers")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        roots = pool.map(root_problem, map(_addresses.ip, options["nameservers"]))
        names = pool.map(lambda pair: problem_with(*pair), [(server, name) for server in servers for name in options["names"]])
        lists = pool.map(lambda entry: trouble(servers, entry[0][1], entry[1]), zones.items())
        cut_off, missing, troubles = list(filter(None, roots)), list(filter(None, names)), list(lists)
    if cut_off:
        module.fail_json(
            msg="Nothing was switched: "
            + "; ".join(cut_off)
            + ". Let the host ask the DNS (port 53, UDP and TCP), or name resolvers of the site that may, in gateway_nameservers or resolver_forward_zones."
        )
    if missing:
        module.fail_json(
            msg="Nothing was switched: "
            + "; ".join(missing)
            + ". If only the site's own name servers know the name, say in resolver_forward_zones who they are, or name them in gateway_nameservers;"
            " with gateway_own_resolver: false the host goes on asking those it has."
        )
    left_out = []
    for (domain, _zone), problem in zip(zones, troubles):
        if problem:
            module.warn(f"{domain} is left out: {problem}")
            left_out.append(domain)
    module.exit_json(changed=False, left_out=left_out)


if __name__ == "__main__":
    main()
