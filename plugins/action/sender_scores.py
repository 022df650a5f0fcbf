# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of sender_scores: read the sources, send the host what it lacks."""

from __future__ import annotations

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.modules.sender_scores import ARGUMENTS
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content
from ansible_collections.antispam.gateway.plugins.plugin_utils._table_action import TableAction


class ActionModule(TableAction):
    arguments = ARGUMENTS
    entry = "sender score"
    read_here = {"sources", "scores"}

    def content(self, options, sources):
        scores, on_invalid = options["scores"], options["on_invalid"]
        listed = Listed(scores, _source_options.called(options, "scores"))

        def check(readings):
            return _content.scores_of([*readings, (Listed, listed)], on_invalid)

        return check, ["scores", on_invalid, {str(key): str(points) for key, points in scores.items()}]

    def update(self, options, prepared, task_vars):
        if options["state"] != "exact":
            return self.call(options, {"content": prepared.content()}, task_vars)
        result = self.call(options, {"wanted": prepared.wanted}, task_vars)
        if result.get("send_more"):
            result = self.call(options, {"wanted": prepared.wanted, "content": prepared.content()}, task_vars)
        return result


class Listed:
    """The option `scores`, as if it were the records of a source."""

    value = None

    def __init__(self, scores, name):
        self.name = name
        self.keys = [str(key) for key in scores]
        self.values = ["" if points is None else str(points) for points in scores.values()]

    def where(self, index):
        return f"{self.name}['{self.keys[index]}']"
