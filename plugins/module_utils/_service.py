# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service of the module service_config: what it is to be given, what it needs, and whether it works with it.

Private to antispam.gateway.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _delivery, _files, _probe, _resolvers, _services

# {path: File} of all services of a call: some read what is another's.
Read = dict[str, _files.File]


class Died(_services.Failure):
    """A daemon died, or does not do what it has to."""


class Invalid(Exception):
    """A configuration that must not be switched to; the text names the service and says why. `more` is part of the module's result."""

    def __init__(self, text: str, **more: Any) -> None:
        super().__init__(text)
        self.more = more


def desired(entry: dict[str, Any]) -> _files.File:
    """Return the File that an element of the option files asks for."""
    secret = entry["secret_content"]
    content = entry["content"] if secret is None else secret
    return _files.File(entry["path"], content, entry["owner"], entry["group"], entry["mode"], secret is not None)


def digest(contents: Iterable[tuple[str | pathlib.Path, bytes | None]]) -> str:
    """Return a digest of everything a service reads when it starts or reloads; contents are pairs of path and bytes."""
    total = hashlib.sha256()
    for path, content in contents:
        total.update(f"{path}\0".encode() + (b"-" if content is None else b"+" + content) + b"\0")
    return total.hexdigest()


def said_of(stage: pathlib.Path, files: Iterable[_files.File], output: str) -> str:
    """Return what a validation printed about the staged files; some also complain of the old ones, which are to go."""
    lines = []
    for line in output.strip().splitlines():
        if not any(str(file.path) in line.replace(f"{stage}{file.path}", "") for file in files):
            lines.append(line.replace(str(stage), ""))
    return "\n".join(lines)


class Service:
    """One service: what it is to be given, and what it needs."""

    def __init__(self, module: AnsibleModule, options: dict[str, Any]) -> None:
        """options: an element of the option services of the module service_config."""
        self.module, self.options = module, options
        self.unit = _services.Unit(module, options["unit"]) if options["unit"] else None
        self.name: str = options["name"] or options["unit"] or "these files"
        self.files = [desired(entry) for entry in options["files"]] + [_files.File(path, None) for path in options["absent"]]
        # What the service itself reads: not obsolete files.
        self.configuration = [file for file in self.files if str(file.path) not in options["absent"]]
        self.marker = _files.STATE_DIRECTORY / f"{self.unit.name}.applied" if self.unit else None
        self.action = "none"
        self.enabled: bool | None = None
        # When the first file was switched, in seconds since the epoch.
        self.since = 0.0
        # Of all services of the call: a command may print what is another's secret.
        self.everybodys_files = self.files

    @property
    def wanted(self) -> bool:
        """Whether the unit is to be enabled."""
        return bool(self.options["state"] != "stopped")

    @property
    def started(self) -> bool:
        return bool(self.options["state"] == "started")

    @property
    def changed_files(self) -> list[_files.File]:
        return [file for file in self.files if file.differs]

    @property
    def missing_directories(self) -> list[dict[str, str]]:
        return [entry for entry in self.options["directories"] if not self._is_right(entry)]

    @staticmethod
    def _is_right(entry: dict[str, str]) -> bool:
        path = pathlib.Path(entry["path"])
        mode = _files.parse_mode(path, entry["mode"])
        return path.is_dir() and not _files.access_differs(path, path.stat(), entry["owner"], entry["group"], mode)

    @property
    def to_do(self) -> str:
        """Return one word for what is to be done, '' where nothing is."""
        if self.action != "none":
            return self.action
        if self.unit and self.unit.needs(self.wanted):
            return "enable" if self.wanted else "disable"
        return "files" if self.changed_files or self.missing_directories else ""

    def check(self) -> None:
        """Raise ValueError for what cannot be done on this host."""
        for probe in self.options["wait_for"]:
            if not probe["address"].startswith("/"):
                _probe.host_and_port(probe["address"])
        if not self.module.check_mode:
            for file in self.files:
                file.ids()
            for entry in self.options["directories"]:
                _files.ids(entry["path"], entry["owner"], entry["group"])

    def digest(self, read: Read, which: str) -> str:
        """Return a digest of what the service reads. which: before or after."""
        contents: list[tuple[str | pathlib.Path, bytes | None]] = [(file.path, getattr(file, which)) for file in self.configuration]
        for path in self.options["also_reads"]:
            if path in read:
                contents.append((path, getattr(read[path], which)))
                continue
            try:
                contents.append((path, pathlib.Path(path).read_bytes()))
            except OSError:
                contents.append((path, None))
        return digest(contents)

    def decide(self, read: Read) -> None:
        """Set the action: none, run, start, stop, reload or restart."""
        self.action = self._needed(self.unit, read) if self.unit else "run" if self.options["run"] and self._has_to_run() else "none"

    def _has_to_run(self) -> bool:
        if self.changed_files or self.missing_directories:
            return True
        if not self.options["run_check"]:
            return False
        try:
            rc, out, _err = self._command(self.options["run_check"])
        except OSError:
            return True
        return bool(rc or out.strip())

    def _command(self, words: list[str]) -> tuple[int, str, str]:
        """Return exit status, output and errors of a command; OSError where it cannot be run: nothing may end the module half-way."""
        rc, out, err = self.module.run_command(words, expand_user_and_vars=False, handle_exceptions=False)
        return rc, out, err

    def _needed(self, unit: _services.Unit, read: Read) -> str:
        options = self.options
        if not self.wanted:
            return "none" if unit.stopped else "stop"
        if not self.started:
            return "none"
        if unit.stopped:
            return "start"
        applied = self.marker.read_text(encoding="ascii") if self.marker and self.marker.exists() else ""
        given = self.digest(read, "after")
        # A file that somebody changed by hand may be in use, whatever the service was last given.
        edited = [file for file in [*self.configuration, *(read[path] for path in options["also_reads"] if path in read)] if file.differs]
        if applied == given and not edited:
            return "none"
        if not unit.settled:
            # A start that is under way may have read the old files.
            return "restart"
        known = applied in (given, self.digest(read, "before"))
        lines = {line for file in self.configuration for line in file.lines()}
        restart = options["restart_on"] and (not known or any(re.search(pattern, line) for pattern in options["restart_on"] for line in lines))
        return "restart" if restart else str(options["apply"])

    @property
    def is_validated(self) -> bool:
        """What is stopped may have lost its program or its keys; and on a bare host, check mode has nothing to validate with."""
        if not self.unit:
            return True
        return self.wanted and (self.unit.loaded or not self.module.check_mode)

    def validate(self, stage: pathlib.Path) -> None:
        """Run every validation against the staged files; raise Invalid."""
        for command in self.options["validate"]:
            words = [word.replace("{stage}", str(stage)) for word in command]
            rc, out, err = self.module.run_command(words, expand_user_and_vars=False, path_prefix="/usr/sbin")
            # A command that failed has its reasons, whatever file they name.
            printed = self.mask((err + out).replace(str(stage), "").strip() if rc else said_of(stage, self.files, err + out))
            pattern = self.options["reject_output"]
            rejected = pattern and re.search(pattern, printed, re.MULTILINE)
            if rc or rejected:
                raise Invalid(
                    f"{self.name}: the new configuration is not valid, the old one stays in use."
                    f" {command[0]} says: {rejected.group(0) if rejected and not rc else printed}",
                    output=printed,
                    command=command,
                )

    def old_secrets(self) -> set[str]:
        """Return texts of the old files that nobody may see."""
        pattern = self.options["secret_in_old_files"]
        texts = ((file.before or b"").decode("utf-8", "replace") for file in self.files) if pattern else ()
        return {found for text in texts for found in re.findall(pattern, text) if found}

    def mask(self, text: str) -> str:
        """Return text without any secret line of a file of the call."""
        for file in self.everybodys_files:
            text = file.mask(text)
        return text

    def wait_for_required(self) -> None:
        """Raise Failure where a file that the service cannot do without does not come."""

        def missing(_left: float) -> str:
            lacking = [pattern for pattern in self.options["requires"] if not glob.glob(pattern)]
            return f"{', '.join(lacking)} is not there" if lacking else ""

        if self.started and self.options["requires"]:
            problem = _services.until(missing, None, self.options["requires_timeout"])
            if problem:
                raise _services.Failure(problem)

    def activate(self) -> None:
        """Let the service load the files that were switched; raise Failure if it does not."""
        options = self.options
        if self.action == "run":
            rc, out, err = self._command(options["run"])
            if rc:
                raise _services.Failure(f"{options['run'][0]} says: {(err or out).strip()}")
        if not self.unit:
            self.observe()
            return
        unit = self.unit
        workers = unit.workers()
        if self.action != "none":
            unit.apply(self.action)
        if self.action == "reload" and options["replaces_workers"]:
            self._until(lambda _left: _services.workers_left(unit, workers))
        if self.started:
            self.observe()
        if unit.needs(self.wanted):
            unit.enable(self.wanted)
            self.enabled = self.wanted

    def observe(self) -> None:
        """Raise Failure where the service does not answer as it should."""
        for probe in self.options["wait_for"]:
            self._until(functools.partial(_probe.unanswered, probe))
        asked = self.options["resolves"]
        if asked:
            self._until(lambda _left: _resolvers.problem(asked["nameservers"], asked["names"]))
        if self.options["conversations"] or self.options["deliveries"]:
            self.see_mail_through()

    def see_mail_through(self) -> None:
        """Raise Failure where mail does not come in or go out, or where a daemon of Postfix has died since the switch."""
        try:
            for asked in self.options["conversations"]:
                _delivery.watch(functools.partial(_delivery.converse, asked), self._faults)
            if self.options["deliveries"]:
                _delivery.deliver(self._command, self.options["deliveries"]["addresses"], self.options["deliveries"]["sink"])
            problem = ""
        except _delivery.Fault as fault:
            problem = str(fault)
        said = self._faults()
        if problem or said:
            raise Died("; ".join(dict.fromkeys(filter(None, [problem, said]))))

    def _faults(self) -> str:
        """Return what Postfix says that daemons of its own have died of since the switch."""
        said = _delivery.faults(_delivery.journal(self._command, self.since))
        return "; ".join(f"Postfix says: {text}" for text in said)

    def failed(self) -> str:
        """Return why it is no use to wait any longer, '' where it may be."""
        return (self.unit.failed() if self.unit else "") or (self._faults() if self.options["throttles"] else "")

    def _watched(self, holds: Callable[[float], str], left: float) -> str:
        """Return what holds(left) returns, or raise Died as soon as a daemon has died: whoever asks for it is held until there is another one."""
        said: list[str] = []
        try:
            _delivery.watch(lambda: said.append(holds(left)), self._faults)
        except _delivery.Fault as fault:
            raise Died(str(fault)) from None
        return said[0]

    def _until(self, holds: Callable[[float], str]) -> None:
        if self.options["throttles"]:
            holds = functools.partial(self._watched, holds)
        problem = _services.until(holds, self, self.options["timeout"])
        if problem:
            # Which needs more than a reload, see throttles.
            raise (Died if self.options["throttles"] and self._faults() else _services.Failure)(problem)

    def roll_back(self, died: bool) -> str:
        """Let the service load the old files, which are in place; return '' or why it did not."""
        reasons = []
        # One step that fails is no reason to leave out the next.
        for step in (self._enable_as_before, lambda: self._act_as_before(died)):
            try:
                step()
            except (_services.Failure, OSError) as failure:
                reasons.append(str(failure))
        return f"{self.name} did not load them either ({'; '.join(reasons)})" if reasons else ""

    def _enable_as_before(self) -> None:
        if self.unit and self.enabled is not None:
            self.unit.enable(not self.enabled)

    def _act_as_before(self, died: bool) -> None:
        if self.unit and self.action == "start":
            self.unit.apply("stop")
        elif self.unit and self.action == "stop":
            self.unit.apply("start")
        elif self.unit and self.action in ("reload", "restart"):
            self.unit.apply("restart" if self.action == "restart" or died and self.options["throttles"] else "reload-or-restart")
        elif self.action == "run":
            rc, out, err = self._command(self.options["run"])
            if rc:
                raise _services.Failure((err or out).strip())

    def journal(self, until: float) -> str:
        """Return the last lines of the unit's journal at a time as the end of a sentence, '' where there is no unit."""
        if not self.unit:
            return ""
        try:
            return f". The last lines of its journal:\n{self.unit.journal(until)}"
        except OSError as error:
            return f" (no journal: {error})"
