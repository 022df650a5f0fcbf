#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Switches services to validated configurations, all of them or none
version_added: 0.1.0
description:
  - Validates all configuration files of some services together, in a directory of their own. Then one service after the other gets its files and
    loads them, and has to answer before the next one gets its own.
  - Where a validation fails nothing is changed. Where a service does not load its files, all old files come back, of every service,
    and the services load those again.
  - A run that is killed leaves a journal. The next run puts the old files back before it begins, and so does C(gateway-recover.service)
    when the host starts, where that is installed.
  - A run that was interrupted between the switch and the reload is completed by the next one, because the module keeps a digest of what each
    running service was last given.
options:
  services:
    description: The services, in the order in which they load their files.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: How messages call it. Without it they name O(services[].unit).
        type: str
      unit:
        description: The systemd unit. Without one these are files that other services read, or that a command loads.
        type: str
      files:
        description: Every file that the caller owns of this service's configuration.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: path
            required: true
          content:
            description: The whole content. With neither this nor O(services[].files[].secret_content) the file is removed.
            type: str
          secret_content:
            description: The whole content of a file that no log and no diff may show.
            type: str
          owner:
            description: User name.
            type: str
            default: root
          group:
            description: Group name.
            type: str
            default: root
          mode:
            description: Permissions in octal.
            type: str
            default: "0644"
      directories:
        description: Directories that have to be there. They stay when the run fails.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: path
            required: true
          owner:
            description: User name.
            type: str
            default: root
          group:
            description: Group name.
            type: str
            default: root
          mode:
            description: Permissions in octal.
            type: str
            default: "0755"
      absent:
        description: Obsolete files that go when the new configuration comes, and come back if it does not stay.
        type: list
        elements: path
        default: []
      validate:
        description:
          - Commands, each a list of words, that must all end with 0. None is run where O(services[].state=stopped).
          - V({stage}) in a word stands for a directory that holds the new files of all services under their absolute paths.
        type: list
        elements: list
        default: []
      reject_output:
        description: A validation command that prints a line matching this regular expression has failed too.
        type: str
      listens:
        description: The TCP ports of this host that the service listens on. No two services may have the same.
        type: list
        elements: int
        default: []
      secret_in_old_files:
        description: A regular expression. What its first group matches in a file that is replaced is shown by no log and no diff either.
        type: str
      also_reads:
        description: Files of other owners that the service reads when it starts or reloads. It is told when one has changed.
        type: list
        elements: path
        default: []
      run:
        description: A command that loads the files, where there is no unit. It is run where the files differ, and where O(services[].run_check) asks for it.
        type: list
        elements: str
        default: []
      run_check:
        description: A command that changes nothing, and that prints something, or fails, where O(services[].run) has something to do.
        type: list
        elements: str
        default: []
      apply:
        description: How the running service loads new files; V(none) for files that it reads anew each time.
        type: str
        choices: [reload, restart, none]
        default: reload
      state:
        description:
          - V(started) has the unit enabled and running, V(stopped) has it disabled and not running.
          - V(enabled) has it enabled and leaves alone whether it runs, as for a unit that acts at boot.
        type: str
        choices: [started, stopped, enabled]
        default: started
      restart_on:
        description:
          - Regular expressions; a changed line that matches one makes a reload a restart.
          - So does an interrupted run, after which nobody knows which lines the service has not seen.
        type: list
        elements: str
        default: []
      replaces_workers:
        description:
          - Whether a reload ends with all worker processes replaced, as in amavisd. Then the new configuration counts as loaded
            once no worker from before the reload is left.
        type: bool
        default: false
      requires:
        description: Patterns of paths, each of which must match a file before the service is told anything. They are waited for.
        type: list
        elements: str
        default: []
      wait_for:
        description: What must answer before the new configuration counts as loaded.
        type: list
        elements: dict
        default: []
        suboptions:
          address:
            description: C(host:port), or the path of a UNIX socket.
            type: str
            required: true
          send:
            description: Text to send first.
            type: str
            default: ""
          expect:
            description: Text that the answer begins with.
            type: str
            required: true
      resolves:
        description: Names that these resolvers must find before the new configuration counts as loaded; without names, the root of the DNS.
        type: dict
        suboptions:
          nameservers:
            description: IP addresses.
            type: list
            elements: str
            required: true
          names:
            description: Names of hosts.
            type: list
            elements: str
            default: []
      throttles:
        description:
          - Whether the unit waits a minute before it starts a daemon again that has died, as master(8) does. Then it is restarted, not reloaded, where
            its old files come back because of that.
        type: bool
        default: false
      follows:
        description: Whether this is looked at last, and only where another service needed something. It has no files.
        type: bool
        default: false
      conversations:
        description: SMTP conversations that have to end as they should.
        type: list
        elements: dict
        default: []
        suboptions:
          host:
            description: Name or IP address.
            type: str
            required: true
          port:
            description: TCP port.
            type: int
            required: true
          tls:
            description: Whether to use STARTTLS, as in M(antispam.gateway.smtp_conversation).
            type: str
            default: may
          recipients:
            description: Envelope recipients. The sender is the null sender.
            type: list
            elements: str
            default: []
          sample:
            description: The message, as in M(antispam.gateway.smtp_conversation).
            type: str
            default: clean
          stop_after:
            description: The last step.
            type: str
            default: data
          expect:
            description: How the reply to the last step begins.
            type: str
            required: true
      deliveries:
        description:
          - Addresses that Postfix has to hand mail out to, as far as RCPT. Only a delivery agent that is not there, or dies, is a fault; what a next
            hop answers is none.
        type: dict
        suboptions:
          addresses:
            description: One for each delivery agent.
            type: list
            elements: str
            required: true
          sink:
            description: C(host:port) of loopback where smtp-sink(1) listens meanwhile.
            type: str
            required: true
      timeout:
        description: Seconds to wait for each of O(services[].wait_for).
        type: int
        default: 60
      requires_timeout:
        description: Seconds to wait for all of O(services[].requires).
        type: int
        default: 900
  secrets:
    description: Texts in the files that no log and no diff may show. Use it where the rest of a file may be shown.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - module: antispam.gateway.converge
"""

EXAMPLES = r"""
- name: Postfix uses its configuration
  antispam.gateway.service_config:
    services:
      - unit: postfix.service
        files:
          - path: /etc/postfix/main.cf
            content: "{{ lookup('ansible.builtin.template', 'etc/postfix/main.cf.j2') }}"
        validate:
          - [postfix, -c, "{stage}/etc/postfix", check]
        restart_on: ["^inet_(interfaces|protocols)"]
        wait_for:
          - address: 127.0.0.1:25
            expect: "220 "
"""

RETURN = r"""
files:
  description: Paths of the files that changed, or would.
  returned: success
  type: list
  elements: str
actions:
  description: A dictionary of service to what it needed (start, stop, reload, restart, run, files or enable), or would need. Others needed nothing.
  returned: success
  type: dict
undone:
  description: Units whose files were put back first, because a run was killed.
  returned: success
  type: list
  elements: str
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _delivery, _files, _journal, _leftovers, _resolvers, _services

STAGE = pathlib.Path("/run")


class Died(_services.Failure):
    """A daemon died, or does not do what it has to."""


class Invalid(Exception):
    """A configuration that must not be switched to; the text names the service and says why."""

    def __init__(self, text, **more):
        super().__init__(text)
        self.more = more


def connect(address):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(address)
        return connection
    host, port = host_and_port(address)
    return socket.create_connection((host, port), timeout=5)


def host_and_port(address):
    host, _colon, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"wait_for: '{address}' is neither host:port nor the path of a socket")
    return host.strip("[]"), int(port)


def unanswered(probe, left):
    """Return '' if the service gives the expected answer; an open port alone may still be systemd's."""
    answer = b""
    expected = probe["expect"].encode()
    try:
        with connect(probe["address"]) as connection:
            connection.settimeout(left)
            connection.sendall(probe["send"].encode())
            while len(answer) < len(expected):
                received = connection.recv(512)
                if not received:
                    break
                answer += received
    except OSError as error:
        return f"{probe['address']} does not answer ({error})"
    if answer.startswith(expected):
        return ""
    return f"{probe['address']} answers {answer.decode('ascii', 'replace').strip()!r} in place of {probe['expect'].strip()!r}"


def desired(entry):
    """Return the File that an element of the option files asks for."""
    secret = entry["secret_content"]
    content = entry["content"] if secret is None else secret
    return _files.File(entry["path"], content, entry["owner"], entry["group"], entry["mode"], secret is not None)


def digest(contents):
    """Return a digest of everything a service reads when it starts or reloads; contents are pairs of path and bytes."""
    total = hashlib.sha256()
    for path, content in contents:
        total.update(f"{path}\0".encode() + (b"-" if content is None else b"+" + content) + b"\0")
    return total.hexdigest()


def said_of(stage, files, output):
    """Return what a validation printed about the staged files; some also complain of the old ones, which are to go."""
    lines = []
    for line in output.strip().splitlines():
        if not any(str(file.path) in line.replace(f"{stage}{file.path}", "") for file in files):
            lines.append(line.replace(str(stage), ""))
    return "\n".join(lines)


class Service:
    """One service: what it is to be given, and what it needs."""

    def __init__(self, module, options):
        self.module, self.options = module, options
        self.unit = _services.Unit(module, options["unit"]) if options["unit"] else None
        self.name = options["name"] or options["unit"] or "these files"
        self.files = [desired(entry) for entry in options["files"]] + [_files.File(path, None) for path in options["absent"]]
        # What the service itself reads: not obsolete files.
        self.configuration = [file for file in self.files if str(file.path) not in options["absent"]]
        self.marker = _files.STATE_DIRECTORY / f"{self.unit.name}.applied" if self.unit else None
        self.action = "none"
        self.enabled = None
        # When the first file was switched, in seconds since the epoch.
        self.since = 0.0
        # Of all services of the call: a command may print what is another's secret.
        self.everybodys_files = self.files

    @property
    def wanted(self):
        """Whether the unit is to be enabled."""
        return self.options["state"] != "stopped"

    @property
    def started(self):
        return self.options["state"] == "started"

    @property
    def changed_files(self):
        return [file for file in self.files if file.differs]

    @property
    def missing_directories(self):
        return [entry for entry in self.options["directories"] if not self._is_right(entry)]

    @staticmethod
    def _is_right(entry):
        path = pathlib.Path(entry["path"])
        mode = _files.parse_mode(path, entry["mode"])
        return path.is_dir() and not _files.access_differs(path, path.stat(), entry["owner"], entry["group"], mode)

    @property
    def to_do(self):
        """Return one word for what is to be done, '' where nothing is."""
        if self.action != "none":
            return self.action
        if self.unit and self.unit.needs(self.wanted):
            return "enable" if self.wanted else "disable"
        return "files" if self.changed_files or self.missing_directories else ""

    def check(self):
        """Raise ValueError for what cannot be done on this host."""
        for probe in self.options["wait_for"]:
            if not probe["address"].startswith("/"):
                host_and_port(probe["address"])
        if not self.module.check_mode:
            for file in self.files:
                file.ids()
            for entry in self.options["directories"]:
                _files.ids(entry["path"], entry["owner"], entry["group"])

    def digest(self, read, which):
        """which: before or after. read: {path: File} of all services."""
        contents = [(file.path, getattr(file, which)) for file in self.configuration]
        for path in self.options["also_reads"]:
            if path in read:
                contents.append((path, getattr(read[path], which)))
                continue
            try:
                contents.append((path, pathlib.Path(path).read_bytes()))
            except OSError:
                contents.append((path, None))
        return digest(contents)

    def decide(self, read):
        """Set the action: none, run, start, stop, reload or restart."""
        self.action = self._needed(read) if self.unit else "run" if self.options["run"] and self._has_to_run() else "none"

    def _has_to_run(self):
        if self.changed_files or self.missing_directories:
            return True
        if not self.options["run_check"]:
            return False
        try:
            rc, out, _err = self._command(self.options["run_check"])
        except OSError:
            return True
        return bool(rc or out.strip())

    def _command(self, words):
        """Return exit status, output and errors of a command; OSError where it cannot be run: nothing may end the module half-way."""
        return self.module.run_command(words, expand_user_and_vars=False, handle_exceptions=False)

    def _needed(self, read):
        options, unit = self.options, self.unit
        if not self.wanted:
            return "none" if unit.stopped else "stop"
        if not self.started:
            return "none"
        if unit.stopped:
            return "start"
        applied = self.marker.read_text(encoding="ascii") if self.marker.exists() else ""
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
        return "restart" if restart else options["apply"]

    @property
    def is_validated(self):
        """What is stopped may have lost its program or its keys; and on a bare host, check mode has nothing to validate with."""
        if not self.unit:
            return True
        return self.wanted and (self.unit.loaded or not self.module.check_mode)

    def validate(self, stage):
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

    def old_secrets(self):
        """Return texts of the old files that nobody may see."""
        pattern = self.options["secret_in_old_files"]
        texts = ((file.before or b"").decode("utf-8", "replace") for file in self.files) if pattern else ()
        return {found for text in texts for found in re.findall(pattern, text) if found}

    def mask(self, text):
        for file in self.everybodys_files:
            text = file.mask(text)
        return text

    def wait_for_required(self):
        """Raise Failure where a file that the service cannot do without does not come."""

        def missing(_left):
            lacking = [pattern for pattern in self.options["requires"] if not glob.glob(pattern)]
            return f"{', '.join(lacking)} is not there" if lacking else ""

        if self.started and self.options["requires"]:
            problem = _services.until(missing, None, self.options["requires_timeout"])
            if problem:
                raise _services.Failure(problem)

    def activate(self):
        """Let the service take up the files that were switched; raise Failure if it does not."""
        options = self.options
        if self.action == "run":
            rc, out, err = self._command(options["run"])
            if rc:
                raise _services.Failure(f"{options['run'][0]} says: {(err or out).strip()}")
        if not self.unit:
            self.observe()
            return
        workers = self.unit.workers()
        if self.action != "none":
            self.unit.apply(self.action)
        if self.action == "reload" and options["replaces_workers"]:
            self._until(lambda _left: _services.workers_left(self.unit, workers))
        if self.started:
            self.observe()
        if self.unit.needs(self.wanted):
            self.unit.enable(self.wanted)
            self.enabled = self.wanted

    def observe(self):
        """Raise Failure where the service does not answer as it should."""
        for probe in self.options["wait_for"]:
            self._until(lambda left, probe=probe: unanswered(probe, left))
        asked = self.options["resolves"]
        if asked:
            self._until(lambda _left: _resolvers.problem(asked["nameservers"], asked["names"]))
        if self.options["conversations"] or self.options["deliveries"]:
            self.see_mail_through()

    def see_mail_through(self):
        """Raise Failure where mail does not come in or go out, or where a daemon of Postfix has died since the switch."""

        try:
            for asked in self.options["conversations"]:
                _delivery.converse(asked)
            if self.options["deliveries"]:
                _delivery.deliver(self._command, self.options["deliveries"]["addresses"], self.options["deliveries"]["sink"])
            problem = ""
        except _delivery.Fault as fault:
            problem = str(fault)
        said = _delivery.faults(_delivery.journal(self._command, self.since))
        if problem or said:
            raise Died("; ".join([*filter(None, [problem]), *(f"Postfix says: {text}" for text in said)]))

    def _until(self, holds):
        problem = _services.until(holds, self.unit, self.options["timeout"])
        if problem:
            raise _services.Failure(problem)

    def roll_back(self, died):
        """Let the service load the old files, which are in place; return '' or why it did not."""
        reasons = []
        # One step that fails is no reason to leave out the next.
        for step in (self._enable_as_before, lambda: self._act_as_before(died)):
            try:
                step()
            except (_services.Failure, OSError) as failure:
                reasons.append(str(failure))
        return f"{self.name} did not take them up either ({'; '.join(reasons)})" if reasons else ""

    def _enable_as_before(self):
        if self.enabled is not None:
            self.unit.enable(not self.enabled)

    def _act_as_before(self, died):
        if self.action == "start":
            self.unit.apply("stop")
        elif self.action == "stop":
            self.unit.apply("start")
        elif self.action in ("reload", "restart"):
            self.unit.apply("restart" if self.action == "restart" or died and self.options["throttles"] else "reload-or-restart")
        elif self.action == "run":
            rc, out, err = self._command(self.options["run"])
            if rc:
                raise _services.Failure((err or out).strip())

    def journal(self):
        if not self.unit:
            return ""
        try:
            return f". The last lines of its journal:\n{self.unit.journal()}"
        except OSError as error:
            return f" (no journal: {error})"


def check_together(services):
    """Raise ValueError for what the services may not share."""
    paths, ports = {}, {}
    for service in services:
        for file in service.files:
            if file.path in paths:
                raise ValueError(f"{file.path} stands in files twice, of {paths[file.path]} and of {service.name}")
            paths[file.path] = service.name
        for port in service.options["listens"] if service.started else ():
            if port in ports:
                raise ValueError(f"port {port} is {ports[port]}'s, and {service.name} cannot listen on it as well; give one of them another port")
            ports[port] = service.name


def remove_stages():
    """Remove the staged files of runs that were killed."""
    for left in STAGE.glob("antispam-gateway.*"):
        owner = left.name.split(".")[1]
        if not (owner.isdigit() and pathlib.Path("/proc", owner).exists()):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


@contextlib.contextmanager
def staged(services):
    """Return a directory with the new files of all services under their absolute paths."""
    stage = pathlib.Path(tempfile.mkdtemp(prefix=f"antispam-gateway.{os.getpid()}.", dir=STAGE))
    try:
        # A daemon that checks its configuration may do so as its own user. The files keep their modes.
        stage.chmod(0o755)
        for service in services:
            for file in service.files:
                if file.after is not None:
                    file.write_to(stage / str(file.path).lstrip("/"))
        yield stage
    finally:
        shutil.rmtree(stage)


def make_directories(service):
    for entry in service.missing_directories:
        path = pathlib.Path(entry["path"])
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(path, *_files.ids(path, entry["owner"], entry["group"]))
        path.chmod(_files.parse_mode(path, entry["mode"]))


def switch(services, read):
    """Let one service after the other take up its files; raise Failure with all old files back. read: {path: File} of all services."""
    changed = [file for service in services for file in service.changed_files]
    units = [service.unit.name for service in services if service.unit]
    done, switched = [], []
    with _files.prepared(changed):
        _journal.write([[str(path) if path else None for path in (file.path, file.old, file.aside)] for file in changed], units, _files.STATE_DIRECTORY)
        since = time.time()
        try:
            for service in services:
                service.wait_for_required()
                done.append(service)
                service.since = since
                # Without the marker, the next run lets the service take its files up if this one is interrupted.
                if service.marker:
                    service.marker.unlink(missing_ok=True)
                make_directories(service)
                # What it reads of others, too, whoever of them comes later.
                reads = [read[path] for path in service.options["also_reads"] if path in read]
                due = [file for file in [*service.changed_files, *reads] if file in changed and file not in switched]
                switched += due
                _files.switch(due)
                service.activate()
        except BaseException as failure:
            # Whatever it is: a gateway that runs with half of the files is the worst of all.
            back = roll_back(done, switched, isinstance(failure, Died))
            if not isinstance(failure, (_services.Failure, OSError)):
                raise
            raise _services.Failure(service.mask(f"{service.name}: {failure}; {back}{service.journal()}")) from failure
        _journal.end(_files.STATE_DIRECTORY)


def roll_back(services, switched, died):
    """Put the old files back and let the services take them up; return a sentence about it. died: whether that is because of a daemon that died."""
    _files.restore(switched)
    _journal.end(_files.STATE_DIRECTORY)
    reasons = [*filter(None, (service.roll_back(died) for service in services))]
    if reasons:
        return f"the old files are back, but {'; '.join(reasons)}"
    if services and services[-1].action == "start":
        return "the old files are back and the service is stopped, as it was"
    return "the old files are back and in use"


def remember(services, read):
    """Note what each service was given."""
    for service in services:
        if service.marker:
            _files.replace(service.marker, service.digest(read, "after").encode("ascii"), (0, 0), 0o600)


def converge(module, options, undone):
    """Return the result of the module."""
    if not module.check_mode:
        remove_stages()
    services = [Service(module, each) for each in options["services"]]
    check_together(services)
    for service in services:
        service.everybodys_files = [file for each in services for file in each.files]
        service.check()
        module.no_log_values |= service.old_secrets()
    if not module.check_mode:
        for directory in {file.path.parent for service in services for file in service.files}:
            _leftovers.remove(directory)
    read = {str(file.path): file for service in services for file in service.files}
    for service in services:
        service.decide(read)
    waiting = [service for service in services if service.to_do]
    differing = [file for service in waiting for file in service.changed_files]
    result = {
        "changed": bool(waiting),
        "files": [str(file.path) for file in differing],
        "actions": {service.name: service.to_do for service in waiting},
        "diff": [file.diff() for file in differing],
        "undone": undone,
    }
    for service in waiting:
        if service.action != "none":
            result["diff"].append({"prepared": f"{service.action} {service.name}\n"})
        result["diff"] += [{"prepared": f"make the directory {entry['path']}\n"} for entry in service.missing_directories]
    validated = [service for service in waiting if service.is_validated and service.options["validate"]]
    if validated:
        with staged(services) as stage:
            for service in validated:
                service.validate(stage)
    if waiting and not module.check_mode:
        switch([*waiting, *(service for service in services if service.options["follows"])], read)
        remember(waiting, read)
    return result


def main():
    strings = {"type": "list", "elements": "str", "default": []}
    access = {"owner": {"type": "str", "default": "root"}, "group": {"type": "str", "default": "root"}}
    file = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "secret_content": {"type": "str", "no_log": True},
        "mode": {"type": "str", "default": "0644"},
        **access,
    }
    probe = {"address": {"type": "str", "required": True}, "send": {"type": "str", "default": ""}, "expect": {"type": "str", "required": True}}
    conversation = {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "tls": {"type": "str", "default": "may"},
        "recipients": strings,
        "sample": {"type": "str", "default": "clean"},
        "stop_after": {"type": "str", "default": "data"},
        "expect": {"type": "str", "required": True},
    }
    service = {
        "name": {"type": "str"},
        "unit": {"type": "str"},
        "files": {"type": "list", "elements": "dict", "default": [], "options": file},
        "directories": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"path": {"type": "path", "required": True}, "mode": {"type": "str", "default": "0755"}, **access},
        },
        "absent": {"type": "list", "elements": "path", "default": []},
        "validate": {"type": "list", "elements": "list", "default": []},
        "reject_output": {"type": "str"},
        "listens": {"type": "list", "elements": "int", "default": []},
        "secret_in_old_files": {"type": "str", "no_log": False},
        "also_reads": {"type": "list", "elements": "path", "default": []},
        "run": strings,
        "run_check": strings,
        "apply": {"type": "str", "choices": ["reload", "restart", "none"], "default": "reload"},
        "state": {"type": "str", "choices": ["started", "stopped", "enabled"], "default": "started"},
        "restart_on": strings,
        "replaces_workers": {"type": "bool", "default": False},
        "requires": strings,
        "wait_for": {"type": "list", "elements": "dict", "default": [], "options": probe},
        "resolves": {"type": "dict", "options": {"nameservers": {"type": "list", "elements": "str", "required": True}, "names": strings}},
        "throttles": {"type": "bool", "default": False},
        "follows": {"type": "bool", "default": False},
        "conversations": {"type": "list", "elements": "dict", "default": [], "options": conversation},
        "deliveries": {
            "type": "dict",
            "options": {"addresses": {"type": "list", "elements": "str", "required": True}, "sink": {"type": "str", "required": True}},
        },
        "timeout": {"type": "int", "default": 60},
        "requires_timeout": {"type": "int", "default": 900},
    }
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True, "options": service},
            # Ansible masks what is in here in everything that a module returns.
            "secrets": {**strings, "no_log": True},
        },
        supports_check_mode=True,
    )
    # Directories that are made on the way to a file.
    os.umask(0o022)
    try:
        # What has changed is looked at when nobody else changes anything.
        with contextlib.nullcontext([]) if module.check_mode else _files.alone() as undone:
            result = converge(module, module.params, undone)
    except Invalid as invalid:
        module.fail_json(msg=str(invalid), **invalid.more)
    except ValueError as error:
        module.fail_json(msg=f"{error}; nothing was changed")
    except _services.Failure as failure:
        module.fail_json(msg=str(failure))
    except OSError as error:
        module.fail_json(msg=f"cannot write the new files, the old ones stay in use: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
