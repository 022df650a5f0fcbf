# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a site teaches its gateways what is spam and what is ham.

Private to antispam.gateway; used on the controller. It touches no host, and `problems` holds one sentence for each mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _bayes
from ansible_collections.antispam.gateway.plugins.plugin_utils import _site


class Teaching(_site.Description):
    """The addresses and mailboxes that teach a validated `site`. `variables` are those of _schema.read()."""

    def __init__(self, site: _site.Site, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self._site = site
        self.addresses = self._teaching_addresses(variables["gateway_bayes_addresses"])
        self._check_mailboxes(variables["gateway_bayes_mailboxes"])
        if not variables["gateway_bayes"]:
            for name in ("gateway_bayes_addresses", "gateway_bayes_mailboxes", "gateway_bayes_corpora"):
                if variables[name]:
                    self.problems.append(f"{name}: gateway_bayes is false, so nothing would be learned; set it to true, or remove {name}")

    def _teaching_addresses(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Return {address: class}."""
        found: dict[str, str] = {}
        for kind in _bayes.CLASSES:
            variable = f"gateway_bayes_addresses.{kind}"
            address = self._take(variable, _addresses.address, given[kind]) if given.get(kind) else None
            if address is None:
                continue
            name = address.rpartition("@")[2]
            if not self._site.relays(name):
                self.problems.append(f"{variable}: {address} is in {name}, which is not in gateway_domains; name an address in one of them")
            elif address in self._site.recipients:
                self.problems.append(f"{variable}: {address} is in gateway_recipients, but nothing is delivered that is sent there; remove it from one of them")
            elif address in self._site.aliases:
                self.problems.append(f"{variable}: {address} is in gateway_aliases, but nothing is delivered that is sent there; remove it from one of them")
            elif address in found:
                self.problems.append(f"{variable}: {address} is gateway_bayes_addresses.spam as well; name another address")
            else:
                found[address] = kind
        for alias, targets in sorted(self._site.aliases.items()):
            for target in targets:
                if target in found:
                    self.problems.append(
                        f"gateway_aliases['{alias}']: {target} is in gateway_bayes_addresses, and by an alias strangers would teach; remove one of them"
                    )
        return found

    def _check_mailboxes(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for index, entry in enumerate(entries):
            variable = f"gateway_bayes_mailboxes[{index}]"
            self._take(f"{variable}.host", _addresses.fqdn, entry["host"])
            if not 0 < entry["port"] < 65536:
                self.problems.append(f"{variable}.port: {entry['port']} is no port; write one from 1 to 65535, or leave it out")
            folders = [*entry["spam_folders"], *entry["ham_folders"]]
            if not folders:
                self.problems.append(f"{variable}: it names no folder; write spam_folders, ham_folders or both")
            for folder in sorted({folder for folder in folders if folders.count(folder) > 1}):
                self.problems.append(f"{variable}: the folder {folder} stands there twice; name each folder once, as spam or as ham")
