# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback that prints the seconds of every task as one JSON object a line."""

from __future__ import annotations

DOCUMENTATION = """
name: task_times
type: stdout
short_description: The seconds of every task
description: Prints one JSON object a task.
"""

import json
import time

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "task_times"

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._started = time.monotonic()

    def v2_runner_on_ok(self, result):
        self._print(result, "")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._print(result, str(result._result.get("msg") or result._result))

    def v2_runner_on_unreachable(self, result):
        self._print(result, str(result._result.get("msg")))

    def _print(self, result, failed):
        print(json.dumps({"task": result._task.get_name(), "seconds": time.monotonic() - self._started, "failed": failed}), flush=True)
