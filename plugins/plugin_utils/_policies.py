# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies for some domains and recipients of a site.

Private to antispam.gateway; used on the controller. It touches no host, and `problems` holds one sentence for each mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses
from ansible_collections.antispam.gateway.plugins.plugin_utils import _attachments, _site

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z", re.IGNORECASE)
# Points that decide by themselves, but not against GTUBE or DMARC, which have 1000.
LISTED = 100.0
# A score that no message has: what is not to be refused for its score.
NEVER = 100000.0


class Policies(_site.Description):
    """The policies of a validated `site`. `variables` are those of _schema.read()."""

    def __init__(self, site: _site.Site, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self._site = site
        self._variables = variables
        # {address or domain: name}
        self.members: dict[str, str] = {}
        self.policies = [self._policy(f"gateway_policies[{index}]", given) for index, given in enumerate(variables["gateway_policies"])]
        names = [policy["name"] for policy in self.policies]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"gateway_policies: {name} stands there twice; give each policy a name of its own")

    def _policy(self, variable: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a policy as templates take it."""
        name = given["name"]
        if not _NAME.match(name):
            self.problems.append(f"{variable}.name: {name!r} is no name; write at most 32 letters, digits, hyphens and underlines")
        for index, text in enumerate(given["domains"]):
            self._member(f"{variable}.domains[{index}]", self._take(f"{variable}.domains[{index}]", _addresses.fqdn, text), name)
        for index, text in enumerate(given["recipients"]):
            self._member(f"{variable}.recipients[{index}]", self._take(f"{variable}.recipients[{index}]", _addresses.address, text), name)
        if not given["domains"] and not given["recipients"]:
            self.problems.append(f"{variable}: it is for nobody; write domains, recipients or both")
        own = {key: given[key] for key in ("spam_tag2_level", "spam_kill_level") if given[key] is not None}
        tag2, kill = (own.get(key, self._variables[f"gateway_{key}"]) for key in ("spam_tag2_level", "spam_kill_level"))
        if tag2 > kill:
            self.problems.append(f"{variable}: spam_tag2_level {tag2} is above spam_kill_level {kill}, so nothing would be marked; lower it")
        endings = {f"amavis_{key}": given[key] for key in ("banned_extensions", "allowed_extensions") if given[key] is not None}
        variables = {**self._variables, **endings}
        self.problems += [problem.replace("amavis_", f"{variable}.", 1) for problem in _attachments.check(variables) if problem.startswith(tuple(endings))]
        scores: dict[str, float] = {}
        for option, points in (("allowed_senders", -LISTED), ("denied_senders", LISTED)):
            self._listed(scores, f"{variable}.{option}", given[option], points)
        content = given["encrypted_content"] or self._variables["gateway_encrypted_content"]
        return {
            "name": name,
            "tag2_level": tag2,
            "kill_level": kill if given["refuse_spam"] else NEVER,
            "attachment_rules": _attachments.rules(variables),
            "refuse_encrypted": content == "refuse",
            "scores": scores,
        }

    def _member(self, variable: str, member: str | None, name: str) -> None:
        if member is None:
            return
        domain = member.rpartition("@")[2]
        if not self._site.relays(domain):
            self.problems.append(f"{variable}: {member} is not in gateway_domains; a policy is for recipients of the site")
        elif member in self.members:
            self.problems.append(f"{variable}: {member} is in the policy {self.members[member]} as well; keep it in one of them")
        elif member.rpartition("@")[0] in _site.ROLE_MAILBOXES:
            self.problems.append(f"{variable}: {member} goes with every policy, so that everybody can reach it; remove it")
        else:
            self.members[member] = name

    def _listed(self, scores: dict[str, float], variable: str, texts: Iterable[Any], points: float) -> None:
        for index, text in enumerate(texts):
            key = self._take(f"{variable}[{index}]", _addresses.score_key, text)
            if key in ("@", "."):
                self.problems.append(f"{variable}[{index}]: '{key}' is not one sender; name an address or a domain")
            else:
                self._add(scores, f"{variable}[{index}]", key, points)

    def facts(self) -> dict[str, Any]:
        """Return what templates read."""
        return {"policies": self.policies, "policy_members": self.members, "policy_everywhere": list(_site.ROLE_MAILBOXES)}
