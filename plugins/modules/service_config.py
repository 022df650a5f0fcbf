#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Switches a service to a validated configuration, or leaves everything as it was
version_added: 0.1.0
description:
  - Takes all configuration files of one service, validates them aside, switches them together, lets the service
    take them up, and waits until it answers.
  - Where validation fails nothing is changed. Where the service does not take the new files up, the old ones come back.
  - A run that was interrupted between the switch and the reload is completed by the next one, because the module
    keeps a digest of what the running service was last given.
options:
  unit:
    description: The systemd unit.
    type: str
    required: true
  files:
    description: Every file that the caller owns of this service's configuration.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The whole content. With neither this nor O(files[].secret_content) the file is removed.
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
  validate:
    description:
      - Commands, each a list of words, that must all end with 0.
      - V({stage}) in a word stands for a directory that holds the new files under their absolute paths.
    type: list
    elements: list
    default: []
  reject_output:
    description: A validation command that prints a line matching this regular expression has failed too.
    type: str
  also_reads:
    description: Files of other owners that the service reads when it starts or reloads. It is told when one has changed.
    type: list
    elements: path
    default: []
  also_changed:
    description: Whether another task has changed one of O(also_reads), which check mode cannot see on the disk.
    type: bool
    default: false
  apply:
    description: How the running service takes up new files; V(none) for files that it reads anew each time.
    type: str
    choices: [reload, restart, none]
    default: reload
  state:
    description: V(started) has the unit enabled and running, V(stopped) has it disabled and not running.
    type: str
    choices: [started, stopped]
    default: started
  restart_on:
    description: Regular expressions; a changed line that matches one makes a reload a restart.
    type: list
    elements: str
    default: []
  replaces_workers:
    description:
      - Whether a reload ends with all worker processes replaced, as in amavisd. Then the new configuration counts as taken up
        once no worker from before the reload is left.
    type: bool
    default: false
  wait_for:
    description: What must answer before the new configuration counts as taken up.
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
  timeout:
    description: Seconds to wait for each of O(wait_for).
    type: int
    default: 60
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Postfix uses its configuration
  antispam.gateway.service_config:
    unit: postfix.service
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
action:
  description: What the service needed (none, start, stop, reload or restart), or would need.
  returned: success
  type: str
"""

import hashlib
import pathlib
import re
import shutil
import socket
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.antispam.gateway.plugins.module_utils import _files


class Unit:
    """A systemd unit."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        _rc, out, _err = self._systemctl("show", "--property=LoadState,ActiveState,UnitFileState", name)
        self.properties = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def _systemctl(self, *words):
        return self.module.run_command(["systemctl", *words])

    @property
    def loaded(self):
        return self.properties.get("LoadState") == "loaded"

    @property
    def active(self):
        return self.properties.get("ActiveState") in ("active", "reloading")

    @property
    def enabled(self):
        return self.properties.get("UnitFileState") in ("enabled", "static", "indirect", "generated", "alias")

    def enable(self, wanted):
        self._do("enable" if wanted else "disable", self.name)

    def apply(self, action):
        self._do("daemon-reload")
        if action == "start":
            # A unit that gave up before, say for want of a configuration, is no obstacle now.
            self._systemctl("reset-failed", self.name)
        self._do(action, self.name)

    def _do(self, *words):
        rc, out, err = self._systemctl(*words)
        if rc:
            raise Failure(f"systemctl {' '.join(words)} failed: {(err or out).strip()}")

    def workers(self):
        """Return the process ids of the main process's children."""
        _rc, out, _err = self._systemctl("show", "--property=MainPID", "--value", self.name)
        try:
            return set(pathlib.Path(f"/proc/{out.strip()}/task/{out.strip()}/children").read_text(encoding="ascii").split())
        except OSError:
            return set()

    def journal(self):
        _rc, out, _err = self.module.run_command(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", "--unit", self.name])
        return out.strip()


class Failure(Exception):
    """The service did not take the new configuration up."""


def workers_replaced(unit, old, timeout):
    """Wait until the main process has children, none of which is of the old ones."""
    deadline = time.monotonic() + timeout
    while True:
        workers = unit.workers()
        if workers and not workers & old:
            return
        if time.monotonic() > deadline:
            raise Failure(f"{len(workers & old) or 'all'} worker processes were not replaced within {timeout} s")
        time.sleep(0.1)


def connect(address):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(address)
        return connection
    host, _colon, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5)


def answers(probe, timeout):
    """Wait until the service gives the expected answer; an open port alone may still be systemd's."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with connect(probe["address"]) as connection:
                connection.settimeout(max(1, deadline - time.monotonic()))
                connection.sendall(probe["send"].encode())
                answer = connection.recv(512).decode("ascii", "replace")
            if answer.startswith(probe["expect"]):
                return
            problem = f"answers {answer.strip()!r} in place of {probe['expect'].strip()!r}"
        except OSError as error:
            problem = f"does not answer ({error})"
        if time.monotonic() > deadline:
            raise Failure(f"{probe['address']} {problem} after {timeout} s")
        time.sleep(0.1)


def desired(entry):
    """Return the File that an element of the option files asks for."""
    secret = entry["secret_content"]
    content = entry["content"] if secret is None else secret
    return _files.File(entry["path"], content, entry["owner"], entry["group"], entry["mode"], secret is not None)


def digest(files, also_reads):
    """Return a digest of everything the service reads when it starts or reloads."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.path}\0{file.after}\0".encode("utf-8", "surrogateescape"))
    for path in also_reads:
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError:
            content = b""
        total.update(path.encode() + b"\0" + content + b"\0")
    return total.hexdigest()


def validate(module, files):
    """Run every validation against the staged files; fail with nothing changed."""
    stage = pathlib.Path(tempfile.mkdtemp(prefix="antispam-gateway.", dir="/run"))
    try:
        # A daemon that checks its configuration may do so as its own user. The files keep their modes.
        stage.chmod(0o755)
        for file in files:
            if file.after is not None:
                file.write(stage / str(file.path).lstrip("/"))
        for command in module.params["validate"]:
            words = [word.replace("{stage}", str(stage)) for word in command]
            rc, out, err = module.run_command(words)
            printed = (err + out).replace(str(stage), "").strip()
            pattern = module.params["reject_output"]
            rejected = pattern and re.search(pattern, printed, re.MULTILINE)
            if rc or rejected:
                module.fail_json(
                    msg=f"{module.params['unit']}: the new configuration is not valid, the old one stays in use."
                    f" {command[0]} says: {rejected.group(0) if rejected and not rc else printed}",
                    output=printed,
                    command=command,
                )
    finally:
        shutil.rmtree(stage)


def needed(module, unit, files, pending):
    """Return what the service needs: none, start, stop, reload or restart."""
    if module.params["state"] == "stopped":
        return "stop" if unit.active else "none"
    if not unit.active:
        return "start"
    if not pending:
        return "none"
    lines = {line for file in files for line in file.changed_lines()}
    restart = any(re.search(pattern, line) for pattern in module.params["restart_on"] for line in lines)
    return "restart" if restart else module.params["apply"]


def wanted(module):
    return module.params["state"] == "started"


def switch(module, unit, files, action, marker):
    """Put the files in place and let the service take them up; on failure put the old ones back."""
    changed = [file for file in files if file.differs]
    _files.state_directory()
    marker.unlink(missing_ok=True)
    try:
        for file in changed:
            file.write()
        if unit.enabled != wanted(module):
            unit.enable(wanted(module))
        workers = unit.workers()
        if action != "none":
            unit.apply(action)
        if action == "reload" and module.params["replaces_workers"]:
            workers_replaced(unit, workers, module.params["timeout"])
        for probe in module.params["wait_for"]:
            answers(probe, module.params["timeout"])
    except (Failure, OSError) as failure:
        journal = unit.journal()
        for file in changed:
            file.restore()
        went_back = "the old files are back"
        if action == "start":
            unit.apply("stop")
            went_back += " and the service is stopped, as it was"
        elif action in ("reload", "restart"):
            try:
                unit.apply("restart" if action == "restart" else "reload-or-restart")
                went_back += " and in use"
            except Failure as second:
                went_back += f", but the service did not take them up either ({second})"
        module.fail_json(msg=f"{unit.name}: {failure}; {went_back}. The last lines of its journal:\n{journal}")
    _files.replace(marker, digest(files, module.params["also_reads"]), (0, 0), 0o600)


def main():
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "secret_content": {"type": "str", "no_log": True},
                },
            },
            "validate": {"type": "list", "elements": "list", "default": []},
            "reject_output": {"type": "str"},
            "also_reads": {"type": "list", "elements": "path", "default": []},
            "also_changed": {"type": "bool", "default": False},
            "apply": {"type": "str", "choices": ["reload", "restart", "none"], "default": "reload"},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "replaces_workers": {"type": "bool", "default": False},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "wait_for": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "address": {"type": "str", "required": True},
                    "send": {"type": "str", "default": ""},
                    "expect": {"type": "str", "required": True},
                },
            },
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    files = [desired(entry) for entry in module.params["files"]]
    unit = Unit(module, module.params["unit"])
    marker = _files.STATE_DIRECTORY / f"{unit.name}.applied"
    applied = marker.read_text(encoding="ascii") if marker.exists() else ""
    pending = module.params["also_changed"] or applied != digest(files, module.params["also_reads"]) or any(file.differs for file in files)
    action = needed(module, unit, files, pending)
    result = {
        "changed": pending or action != "none" or unit.enabled != wanted(module),
        "files": [str(file.path) for file in files if file.differs],
        "action": action,
        "diff": [file.diff() for file in files if file.differs],
    }
    if action != "none":
        result["diff"].append({"prepared": f"{action} {unit.name}\n"})
    # On a bare host, check mode has nothing to validate with.
    if result["changed"] and (unit.loaded or not module.check_mode):
        validate(module, files)
    if result["changed"] and not module.check_mode:
        switch(module, unit, files, action, marker)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
