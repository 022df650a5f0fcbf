# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether resolvers find what a gateway cannot do without.

Private to antispam.gateway.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence

from ansible_collections.antispam.gateway.plugins.module_utils import _dns


def name_problem(server: str, name: str) -> str:
    """Return '' if the resolver finds the name, in A, AAAA or MX records."""
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
    """Return '' if the resolver reaches the root of the DNS: one that is cut off answers as well."""
    try:
        rcode = _dns.refusal(server)
    except _dns.Unanswered as error:
        return f"the resolver {server} does not answer: {error}"
    return rcode and f"the resolver {server} does not reach the DNS ({rcode})"


def problem(servers: Sequence[str], names: Sequence[str], roots: Sequence[str] | None = None) -> str:
    """Return '' if every resolver finds every name and reaches the root of the DNS, else a sentence that says what to do.

    roots: those that have to reach the root, where it is not all of them.
    """
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        cut_off = list(filter(None, pool.map(root_problem, servers if roots is None else roots)))
        missing = list(filter(None, pool.map(lambda pair: name_problem(*pair), [(server, name) for server in servers for name in names])))
    if cut_off:
        return (
            "; ".join(cut_off)
            + ". Let the host ask the DNS (port 53, UDP and TCP), or name resolvers of the site that may, in gateway_nameservers or resolver_forward_zones"
        )
    if missing:
        return (
            "; ".join(missing)
            + ". If only the site's own name servers know the name, say in resolver_forward_zones who they are, or name them in gateway_nameservers;"
            " with gateway_own_resolver: false the host goes on asking those it has"
        )
    return ""
