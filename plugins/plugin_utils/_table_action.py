# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins of tables that are fed from sources have in common.

Private to antispam.gateway. The sources are read here, on the controller, and
neither they nor their passwords reach a host.
"""

from __future__ import annotations

import concurrent.futures
import gc
import os
import threading
import time

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.antispam.gateway.plugins.plugin_utils import _content
from ansible_collections.antispam.gateway.plugins.plugin_utils._cache import Cache
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, SourceError


class _Aside:
    """A call that runs beside this thread, and is left alone where nobody asks for its result."""

    def __init__(self, function, *arguments):
        self._future = concurrent.futures.Future()
        # A daemon: a task whose time is over ends although a server does not answer.
        threading.Thread(target=self._run, args=(function, arguments), daemon=True).start()

    def _run(self, function, arguments):
        try:
            self._future.set_result(function(*arguments))
        except BaseException as error:
            self._future.set_exception(error)

    def result(self):
        return self._future.result()


class TableAction(ActionBase):
    """A subclass names the module's `arguments`, and says how content comes of sources and how the host gets it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True
    arguments: dict = {}

    def run(self, tmp=None, task_vars=None):
        # What this process has of its parent is not garbage. The collector would look through all of it, and so copy it, again and
        # again while the module is packed.
        gc.freeze()
        super().run(tmp, task_vars)
        options = self._options()
        subject = options["path"]
        try:
            sources = [Source(given, self._loader.get_basedir()) for given in options["sources"]]
            check, settings = self.content(options, sources)
            directory = os.path.join(constants.config.get_config_value("ANSIBLE_HOME"), "antispam.gateway")
            reading = _Aside(Cache(directory, sources, check, settings).prepare, self._task._uuid)
            # call() finds the module packed then, which takes longer than to read and hash a large source.
            self._configure_module(self._task.action, {}, task_vars)
            prepared = reading.result()
            started = time.monotonic()
            result = self.update(options, prepared, task_vars)
            prepared.timings["exchange"] = round(time.monotonic() - started, 3)
        except SourceError as error:
            raise AnsibleActionFail(f"{subject}: nothing was changed: {error}") from error
        except _content.Refused as refused:
            more = f" - and {refused.count - len(refused.problems)} more\n" if refused.count > len(refused.problems) else ""
            raise AnsibleActionFail(
                f"{subject}: nothing was changed, {refused.count} addresses cannot be taken (on_invalid: skip leaves them out):\n"
                + "".join(f" - {problem}\n" for problem in refused.problems)
                + more
            ) from refused
        if "timings" in result:
            result["timings"].update(prepared.timings)
            # Not "skipped", by which Ansible knows a task that did not run.
            result["left_out"] = prepared.skipped
        if prepared.skipped:
            first = "; ".join(prepared.problems[:3])
            result.setdefault("warnings", []).append(f"{subject}: {prepared.skipped} addresses of the sources were left out: {first}")
        return result

    def content(self, options, sources):
        """Return what makes the Content of a list of (source, records), and what else the content depends on."""
        raise NotImplementedError

    def update(self, options, prepared, task_vars):
        """Bring the host's table up to date; return the module's result."""
        raise NotImplementedError

    def call(self, options, sent, task_vars):
        # The sources stay here, with their passwords.
        arguments = {name: value for name, value in options.items() if value is not None} | {"sources": []}
        return self._execute_module(module_args={**arguments, "prepared": sent}, task_vars=task_vars)

    def _options(self):
        validated = ArgumentSpecValidator(self.arguments).validate(self._task.args)
        if validated.error_messages:
            raise AnsibleActionFail("; ".join(validated.error_messages))
        return validated.validated_parameters
