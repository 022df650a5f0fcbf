# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of sender_scores: read the sources, send the host what it lacks."""

from __future__ import annotations

from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.modules.sender_scores import ARGUMENTS
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content
from ansible_collections.antispam.gateway.plugins.plugin_utils._cache import Check, Prepared
from ansible_collections.antispam.gateway.plugins.plugin_utils._table_action import TableAction
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Records, Source


class ActionModule(TableAction):
    arguments = ARGUMENTS
    entry = "sender score"
    read_here = {"sources", "scores"}

    def content(self, options: dict[str, Any], sources: list[Source]) -> tuple[Check, Any]:
        scores, on_invalid = options["scores"], options["on_invalid"]
        listed = Listed(scores, _source_options.called(options, "scores"))

        def check(readings: list[tuple[Source, Records]]) -> _content.Content:
            return _content.scores_of([*readings, (listed, listed)], on_invalid)

        return check, ["scores", on_invalid, {str(key): str(points) for key, points in scores.items()}]

    def update(self, options: dict[str, Any], prepared: Prepared, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if options["state"] != "exact":
            return self.call(options, {"content": prepared.content()}, task_vars)
        result = self.call(options, {"wanted": prepared.wanted}, task_vars)
        if result.get("send_more"):
            result = self.call(options, {"wanted": prepared.wanted, "content": prepared.content()}, task_vars)
        return result


class Listed:
    """The option `scores`, as if it were the records of a source."""

    # They have no score but their own.
    value = None

    def __init__(self, scores: dict[Any, Any], name: str) -> None:
        self.name = name
        self.keys = [str(key) for key in scores]
        self.values: list[str] | None = ["" if points is None else str(points) for points in scores.values()]

    def where(self, index: int) -> str:
        return f"{self.name}['{self.keys[index]}']"
