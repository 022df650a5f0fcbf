# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters that two services, or a service and a check of it, have to agree on: ports, sockets, limits and names.

Private to antispam.gateway; used on the controller. Whoever sets one of them by
a daemon's own name changes one side alone, and no daemon's own check can see
that. So a variable of the collection says it, for all sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What only the collection can say: the services of a host meet there.
_INTERNAL = ""

# {variable: {parameter: the variable that sets it for all services}}
SHARED: dict[str, dict[str, str]] = {
    "postfix_main_cf": {
        "inet_protocols": "gateway_inet_protocols",
        "message_size_limit": "gateway_message_size_limit",
        "mydomain": "gateway_hostname",
        "myhostname": "gateway_hostname",
        "mynetworks": "gateway_trusted_networks",
        "queue_minfree": "gateway_limits.queue_minfree",
        "relay_domains": "gateway_domains",
        "smtpd_proxy_filter": _INTERNAL,
        "smtpd_proxy_timeout": "gateway_limits.proxy_timeout",
    },
    "amavis_parameters": {
        "MAX_EXPANSION_QUOTA": "gateway_limits.unpack_quota",
        "child_timeout": "gateway_limits.child_timeout",
        "forward_method": _INTERNAL,
        "inet_socket_bind": _INTERNAL,
        "inet_socket_port": _INTERNAL,
        "local_domains_maps": "gateway_domains",
        "max_servers": "gateway_limits.workers",
        "mydomain": "gateway_hostname",
        "myhostname": "gateway_hostname",
        "mynetworks": "gateway_trusted_networks",
        "notify_method": _INTERNAL,
        "sa_kill_level_deflt": "gateway_spam_kill_level",
        "sa_mail_body_size_limit": "amavis_spam_body_size_limit",
    },
    "clamav_clamd_parameters": {
        "DatabaseDirectory": _INTERNAL,
        "LocalSocket": _INTERNAL,
        "MaxFileSize": "gateway_limits.clamd_scan_size",
        "MaxScanSize": "gateway_limits.clamd_scan_size",
        "MaxScanTime": "gateway_limits.child_timeout",
        "StreamMaxLength": "gateway_limits.clamd_stream_size",
    },
    "clamav_freshclam_parameters": {
        "DatabaseCustomURL": "clamav_database_custom_urls",
        "DatabaseDirectory": _INTERNAL,
        "NotifyClamd": _INTERNAL,
    },
    "dkimpy_milter_settings": {
        "Domain": "gateway_dkim_domains",
        "SelectorEd25519": "gateway_dkim_selector",
        "Socket": _INTERNAL,
    },
    "mta_sts_settings": {"host": _INTERNAL, "port": _INTERNAL},
    "redis_parameters": {"port": _INTERNAL, "unixsocket": _INTERNAL, "unixsocketperm": _INTERNAL},
    "resolver_settings": {"interface": _INTERNAL},
}
# What a listener in front of the filter has beside those of main.cf.
_FRONT = ("smtp/inet", "smtpd/pass", "submission/inet", "submissions/inet")
_FRONT_OPTIONS = ("message_size_limit", "smtpd_proxy_filter", "smtpd_proxy_timeout")


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each shared parameter that is set by a daemon's own name; variables as _schema.read() has them."""
    problems = []
    for variable, shared in SHARED.items():
        problems += [_sentence(f"{variable}['{name}']", shared[name]) for name in variables[variable] if name in shared]
    for service, fields in variables["postfix_master_cf"].items():
        if service not in _FRONT or not isinstance(fields, dict):
            continue
        options = fields.get("options")
        where = f"postfix_master_cf['{service}']: options"
        problems += [
            _sentence(f"{where}['{name}']", SHARED["postfix_main_cf"][name])
            for name in (options if isinstance(options, dict) else ())
            if name in _FRONT_OPTIONS
        ]
    return problems


def _sentence(parameter: str, variable: str) -> str:
    way_out = f"set {variable} in its place, which all of them follow" if variable else "leave it out, they meet where the collection says"
    return f"{parameter}: other services would go on with another value; {way_out}"
