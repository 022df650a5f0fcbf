# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of relay_recipients: read the sources, send the host what it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _source_options
from ansible_collections.antispam.gateway.plugins.modules.relay_recipients import ARGUMENTS
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content
from ansible_collections.antispam.gateway.plugins.plugin_utils._cache import Check, Prepared
from ansible_collections.antispam.gateway.plugins.plugin_utils._table_action import TableAction
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, SourceError

# A change that is larger than this is sent only to a host that asks for it.
SENT_UNASKED = 512 * 1024


class ActionModule(TableAction):
    arguments = ARGUMENTS
    entry = "recipient"
    read_here = {"sources", "recipients"}

    def sources(self, options: dict[str, Any]) -> list[Source]:
        # A list of its own: what stands in the task is meant, wildcards as well.
        listed = {"name": _source_options.called(options, "recipients"), "addresses": options["recipients"], "wildcards": True}
        sources = [Source(listed, self._loader.get_basedir())] if options["recipients"] else []
        return sources + super().sources(options)

    def content(self, options: dict[str, Any], sources: list[Source]) -> tuple[Check, Any]:
        if not sources:
            names = " and ".join(_source_options.called(options, option) for option in ("recipients", "sources"))
            raise SourceError(f"{names} are empty, which is not taken for a wish to have no recipients; name some")
        options["domains"] = _domains(_source_options.called(options, "domains"), options["domains"])
        for source in sources:
            source.domains = _domains(f"{source.label}: domains", source.domains)
            foreign = set(source.domains) - set(options["domains"])
            if foreign:
                raise SourceError(f"{source.label}: domains names {min(foreign)}, which is not in {_source_options.called(options, 'domains')}")
        domains, on_invalid = options["domains"], options["on_invalid"]
        return lambda readings: _content.content_of(readings, domains, on_invalid), [domains, on_invalid]

    def update(self, options: dict[str, Any], prepared: Prepared, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if options["state"] != "exact":
            return self.call(options, {"content": prepared.content()}, task_vars)
        wanted, change = {"wanted": prepared.wanted}, {"base": prepared.base, "change": prepared.change}
        small = prepared.change is not None and len(prepared.change) <= SENT_UNASKED
        result = self.call(options, {**wanted, **(change if small else {})}, task_vars)
        if result.get("send_more") and prepared.change is not None and not small and result["digest"] == prepared.base:
            result = self.call(options, {**wanted, **change}, task_vars)
        if result.get("send_more"):
            result = self.call(options, {**wanted, "content": prepared.content()}, task_vars)
        return result


def _domains(place: str, names: Iterable[str]) -> list[str]:
    try:
        return sorted({_addresses.fqdn(name) for name in names})
    except ValueError as error:
        raise SourceError(f"{place}: {error}") from None
