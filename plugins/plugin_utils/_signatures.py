# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The providers of unofficial signatures of a site.

Private to antispam.gateway; used on the controller. It touches no host, and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _unofficial_signatures as _host

VARIABLE = "clamav_unofficial_signatures"
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
# What a provider that fangfrisch knows has by itself, and what no other has.
OF_OTHERS, OF_KNOWN = ("files", "checksum"), ("customer_id", "receipt", "product", "add", "leave_out")
# Of other forms, no address could be made of it, or fangfrisch would take it for two.
FORMS = {
    "customer_id": (re.compile(r"[A-Za-z0-9._~-]+"), "it has characters that no such number has; write it as the provider shows it"),
    "receipt": (re.compile(r"[A-Za-z0-9._~-]+"), "it has characters that no such number has; write it as the provider shows it"),
    "product": (re.compile(r"[0-9]+"), "it is no number; write the number of the product, such as 8"),
    "interval": (re.compile(r"[1-9][0-9]*[mhd]"), "it is no time; write minutes, hours or days, such as 30m, 2h or 1d"),
    "max_size": (re.compile(r"[1-9][0-9]*(?:[KM]B?)?"), "it is no size; write a number and KB or MB, such as 20MB"),
    "server_url": (re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?"), "this is not the URL of a directory; write http:// or https://, a host and a path"),
}


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each mistake."""
    problems: list[str] = []
    seen: set[str] = set()
    for index, entry in enumerate(variables[VARIABLE]):
        variable, name = f"{VARIABLE}[{index}]", entry["name"]
        if not NAME.fullmatch(name) or name in ("default", "fangfrischnews"):
            problems.append(f"{variable}.name: '{name}' is no name of a provider; write {', '.join(_host.KNOWN)}, or small letters, digits and _")
        elif name in seen:
            problems.append(f"{variable}.name: {name} is there already; keep one of them")
        seen.add(name)
        problems += [f"{variable}.{problem}" for problem in (_known(entry) if name in _host.KNOWN else _other(entry)) + _forms(entry)]
    return problems


def _known(entry: Mapping[str, Any]) -> list[str]:
    name = entry["name"]
    needed = _host.KNOWN[name]
    problems = []
    if needed and not entry.get(needed):
        problems.append(f"{needed}: {name} gives signatures to those who have one; write it, or remove {name}")
    refused = [option for option in ("customer_id", "receipt") if option != needed and entry.get(option)]
    problems += [f"{option}: {name} takes none; remove it" for option in refused]
    if entry.get("product") and name != "malwarepatrol":
        problems.append(f"product: {name} takes none; remove it")
    if entry.get("server_url") and name not in _host.MIRRORED:
        problems.append(f"server_url: the files of {name} come from nowhere else; remove it, or give the provider another name, with files")
    problems += [f"{option}: fangfrisch knows it for {name}; remove it, or use add and leave_out" for option in OF_OTHERS if entry.get(option)]
    for option in ("add", "leave_out"):
        wrong = [file for file in entry.get(option) or () if not re.fullmatch(r"[a-z0-9_]+", file)]
        if wrong:
            problems.append(
                f"{option}: '{wrong[0]}' is no name that fangfrisch has for a file; see url_NAME in its configuration, as 'fangfrisch dumpconf' prints it"
            )
    return problems


def _other(entry: Mapping[str, Any]) -> list[str]:
    name = entry["name"]
    problems = []
    for option, what in (("server_url", "where its files are"), ("files", "which files it has")):
        if not entry.get(option):
            problems.append(f"{option}: fangfrisch does not know {name}, nor {what}; write it, or one of {', '.join(_host.KNOWN)} as the name")
    problems += [f"{option}: only providers that fangfrisch knows have it; remove it" for option in OF_KNOWN if entry.get(option)]
    files = entry.get("files") or ()
    for file in files:
        if not _host.FILE_NAME.fullmatch(file):
            problems.append(f"files: '{file}' is no name of a file of signatures; write a name such as local.ndb, without a path")
    if len(set(files)) < len(files):
        problems.append("files: a file is there twice; keep one of them")
    return problems


def _forms(entry: Mapping[str, Any]) -> list[str]:
    """What is secret stands in no sentence."""
    return [f"{option}: {advice}" for option, (form, advice) in FORMS.items() if entry.get(option) and not form.fullmatch(entry[option])]
