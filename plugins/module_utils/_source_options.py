# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of one source of addresses, as an argument_spec.

Private to antispam.gateway. A source is read on the controller; the hosts have
this file only so that their modules can show the same options. What the options
mean is in plugins/doc_fragments/sources.py. The rules below belong beside
"options" in the specification of the option that holds the list.
"""

from __future__ import annotations

from typing import Any

# Each source is of exactly one of these kinds.
KINDS = ("addresses", "path", "url", "ldap_uri")

SOURCE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "addresses": {"type": "list", "elements": "str"},
    "path": {"type": "path"},
    "url": {"type": "str"},
    "ldap_uri": {"type": "str"},
    "format": {"type": "str", "choices": ["plain", "csv", "json"]},
    "encoding": {"type": "str", "default": "utf-8"},
    "column": {"type": "str"},
    "value_column": {"type": "str"},
    "header": {"type": "bool", "default": True},
    "delimiter": {"type": "str", "default": ","},
    "query": {"type": "str"},
    "with_values": {"type": "bool", "default": False},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "headers": {"type": "dict", "no_log": True},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 30},
    "start_tls": {"type": "bool", "default": False},
    "bind_dn": {"type": "str"},
    "base": {"type": "str"},
    "scope": {"type": "str", "choices": ["subtree", "onelevel"], "default": "subtree"},
    "filter": {"type": "str", "default": "(mail=*)"},
    "attributes": {"type": "list", "elements": "str", "default": ["mail"]},
    "page_size": {"type": "int", "default": 500},
    "domains": {"type": "list", "elements": "str", "default": []},
    "value": {"type": "str"},
    "wildcards": {"type": "bool", "default": False},
}

REQUIRED_BY: dict[str, list[str]] = {
    "ldap_uri": ["base"],
    "bind_dn": ["password"],
    "username": ["password"],
    "client_key": ["client_cert"],
    "value_column": ["column"],
}
RULES: dict[str, Any] = {"mutually_exclusive": [KINDS], "required_one_of": [KINDS], "required_by": REQUIRED_BY}

# The options that every module has which is fed from sources.
FED: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["exact", "present", "absent"], "default": "exact"},
    "sources": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": SOURCE_OPTIONS,
        **RULES,
    },
    "on_invalid": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "variables": {"type": "dict", "default": {}},
    "max_removed_percent": {"type": "float", "default": 10},
    "max_removed_few": {"type": "int", "default": 10},
    "allow_removals": {"type": "bool", "default": False},
    # What the action plugin has made of the sources.
    "prepared": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "wanted": {"type": "str"},
            "base": {"type": "str"},
            "change": {"type": "str", "no_log": True},
            "content": {"type": "str", "no_log": True},
        },
    },
}


def called(options: dict[str, Any], option: str) -> str:
    """Return what whoever wrote an option's value calls it: the variable that a role takes it from, or the option itself."""
    return str(options["variables"].get(option, option))


def advice(options: dict[str, Any], option: str, sentence: str) -> str:
    """Return a sentence with the option's name in the place of {}; '' where a role leaves the option to nobody."""
    return sentence.format(called(options, option)) if option in options["variables"] or not options["variables"] else ""
