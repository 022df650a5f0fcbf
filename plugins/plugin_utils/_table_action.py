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
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content, _results
from ansible_collections.antispam.gateway.plugins.plugin_utils._cache import Cache, Check, Prepared
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, SourceError

_Result = TypeVar("_Result")


class _Aside(Generic[_Result]):
    """A call that runs beside this thread, and is left alone where nobody asks for its result."""

    def __init__(self, function: Callable[..., _Result], *arguments: Any) -> None:
        self._future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
        # A daemon: a task whose time is over ends although a server does not answer.
        threading.Thread(target=self._run, args=(function, arguments), daemon=True).start()

    def _run(self, function: Callable[..., _Result], arguments: tuple[Any, ...]) -> None:
        try:
            self._future.set_result(function(*arguments))
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> _Result:
        """Wait for the result and return it, or raise what the function raised."""
        return self._future.result()


class TableAction(ActionBase):
    """A subclass names the module's `arguments` and one of its `entries`, and says how content comes of sources and how the host gets it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True
    arguments: ClassVar[dict[str, Any]] = {}
    entry: ClassVar[str] = ""
    # The options that stay here: the sources, with their passwords, and what is read with them.
    read_here: ClassVar[set[str]] = {"sources"}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # What this process has of its parent is not garbage. The collector would look through all of it, and so copy it, again and
        # again while the module is packed.
        gc.freeze()
        super().run(tmp, task_vars)
        options = self._options()
        subject = options["path"]
        try:
            sources = self.sources(options)
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
            # Without the exception, here and below: Ansible would say it a second time.
            raise AnsibleActionFail(f"{subject}: nothing was changed: {error}") from None
        except _content.Refused as refused:
            way_out = _source_options.advice(options, "on_invalid", " ({}: skip leaves out what cannot be taken)")
            raise AnsibleActionFail(
                f"{subject}: nothing was changed, {self._count(refused.count)} cannot be taken{way_out}:\n"
                + "".join(f" - {problem}\n" for problem in _first(refused.problems, refused.count))
            ) from None
        if "timings" in result:
            result["timings"].update(prepared.timings)
            # Not "skipped", by which Ansible knows a task that did not run.
            result["left_out"] = prepared.skipped
        if prepared.skipped:
            first = "; ".join(_first(prepared.problems[:3], prepared.skipped))
            _results.warn(result, [f"{subject}: {self._count(prepared.skipped)} left out: {first}"])
        return result

    def sources(self, options: dict[str, Any]) -> list[Source]:
        """Return the Sources; raise SourceError."""
        place = _source_options.called(options, "sources")
        return [Source(given, self._loader.get_basedir(), f"{place}[{index}]") for index, given in enumerate(options["sources"])]

    def content(self, options: dict[str, Any], sources: list[Source]) -> tuple[Check, Any]:
        """Return what makes the Content of a list of (source, records), and what else the content depends on."""
        raise NotImplementedError

    def update(self, options: dict[str, Any], prepared: Prepared, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Bring the host's table up to date; return the module's result."""
        raise NotImplementedError

    def call(self, options: dict[str, Any], sent: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module on the host with what was prepared; return its result."""
        arguments = {name: value for name, value in options.items() if value is not None and name not in self.read_here}
        result: dict[str, Any] = self._execute_module(module_args={**arguments, "prepared": sent}, task_vars=task_vars)
        return result

    def _options(self) -> dict[str, Any]:
        # Each source alone, so that an error tells which one it is about.
        outer = {**self.arguments, "sources": {"type": "list", "elements": "dict", "default": []}}
        options = self._validated(outer, self._task.args, "")
        place = _source_options.called(options, "sources")
        for index, given in enumerate(options["sources"]):
            options["sources"][index] = self._validated(_source_options.SOURCE_OPTIONS, given, f"{place}[{index}]: ", **_source_options.RULES)
        return options

    def _validated(self, specification: dict[str, Any], given: dict[str, Any], place: str, **rules: Any) -> dict[str, Any]:
        validated = ArgumentSpecValidator(specification, **rules).validate(given)
        if validated.error_messages:
            raise AnsibleActionFail(f"{place}{'; '.join(validated.error_messages)}; nothing was changed")
        parameters: dict[str, Any] = validated.validated_parameters
        return parameters

    def _count(self, number: int) -> str:
        return f"{number:,} {self.entry}{'' if number == 1 else 's'}"


def _first(problems: list[str], count: int) -> list[str]:
    """Return the problems that are told, and how many there are beside them."""
    return [*problems, f"and {count - len(problems):,} more"] if count > len(problems) else problems
