#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Switches a service to a validated configuration, or leaves everything as it was
version_added: 0.1.0
description:
  - Validates all configuration files of one service in a directory of their own, puts them in place together, lets the service
    load them, and waits until it answers.
  - Where validation fails nothing is changed. Where the service does not load the new files, the old ones come back.
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
  secrets:
    description: Texts in the files that no log and no diff may show. Use it where the rest of a file may be shown.
    type: list
    elements: str
    default: []
  absent:
    description: Obsolete files. They are removed when the new configuration is put in place, and come back if the service does not load it.
    type: list
    elements: path
    default: []
  validate:
    description:
      - Commands, each a list of words, that must all end with 0. None is run where O(state=stopped).
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
    description: How the running service loads new files; V(none) for files that it reads anew each time.
    type: str
    choices: [reload, restart, none]
    default: reload
  state:
    description: V(started) has the unit enabled and running, V(stopped) has it disabled and not running.
    type: str
    choices: [started, stopped]
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
  timeout:
    description: Seconds to wait for each of O(wait_for).
    type: int
    default: 60
extends_documentation_fragment:
  - antispam.gateway.attributes
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

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _services


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


def digest(contents, also_reads):
    """Return a digest of everything the service reads when it starts or reloads; contents are pairs of path and bytes."""
    total = hashlib.sha256()
    for path in also_reads:
        try:
            contents = [*contents, (path, pathlib.Path(path).read_bytes())]
        except OSError:
            contents = [*contents, (path, None)]
    for path, content in contents:
        total.update(f"{path}\0".encode() + (b"-" if content is None else b"+" + content) + b"\0")
    return total.hexdigest()


def validate(module, files):
    """Run every validation against the staged files; fail with nothing changed."""
    stage = pathlib.Path(tempfile.mkdtemp(prefix="antispam-gateway.", dir="/run"))
    try:
        # A daemon that checks its configuration may do so as its own user. The files keep their modes.
        stage.chmod(0o755)
        for file in files:
            if file.after is not None:
                file.write_to(stage / str(file.path).lstrip("/"))
        for command in module.params["validate"]:
            words = [word.replace("{stage}", str(stage)) for word in command]
            rc, out, err = module.run_command(words, expand_user_and_vars=False, path_prefix="/usr/sbin")
            # A command that failed has its reasons, whatever file they name.
            printed = mask(files, (err + out).replace(str(stage), "").strip() if rc else said_of(stage, files, err + out))
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


def said_of(stage, files, output):
    """Return what a validation printed about the staged files; some also complain of the old ones, which are to go."""
    lines = []
    for line in output.strip().splitlines():
        if not any(str(file.path) in line.replace(f"{stage}{file.path}", "") for file in files):
            lines.append(line.replace(str(stage), ""))
    return "\n".join(lines)


def mask(files, text):
    for file in files:
        text = file.mask(text)
    return text


def configuration(module, files):
    """Return the files that the service reads: not those of another time."""
    return [file for file in files if str(file.path) not in module.params["absent"]]


def needed(module, unit, files, applied):
    """Return what the service needs: none, start, stop, reload or restart. `applied` is what it was last given."""
    options = module.params
    if options["state"] == "stopped":
        return "none" if unit.stopped else "stop"
    if unit.stopped:
        return "start"
    files = configuration(module, files)
    given = digest([(file.path, file.after) for file in files], options["also_reads"])
    # A file that somebody changed by hand may be in use, whatever the service was last given.
    if not options["also_changed"] and applied == given and not any(file.differs for file in files):
        return "none"
    if not unit.settled:
        # A start that is under way may have read the old files.
        return "restart"
    known = applied in (given, digest([(file.path, file.before) for file in files], options["also_reads"]))
    lines = {line for file in files for line in file.lines()}
    restart = options["restart_on"] and (not known or any(re.search(pattern, line) for pattern in options["restart_on"] for line in lines))
    return "restart" if restart else options["apply"]


def take_up(module, unit, action):
    """Let the service take up the files that were switched; raise Failure if it does not."""
    options = module.params
    started = options["state"] == "started"
    workers = unit.workers()
    if action != "none":
        unit.apply(action)
    problem = ""
    if action == "reload" and options["replaces_workers"]:
        problem = _services.until(lambda _left: _services.workers_left(unit, workers), unit, options["timeout"])
    for probe in options["wait_for"] if started else []:
        problem = problem or _services.until(lambda left, probe=probe: unanswered(probe, left), unit, options["timeout"])
    if problem:
        raise _services.Failure(problem)
    if unit.needs(started):
        unit.enable(started)


def go_back(unit, changed, action):
    """Put the old files back and the service to what it did; return a sentence about it."""
    _files.restore(changed)
    try:
        if action == "start":
            unit.apply("stop")
            return "the old files are back and the service is stopped, as it was"
        if action in ("reload", "restart"):
            unit.apply("restart" if action == "restart" else "reload-or-restart")
            return "the old files are back and in use"
    except _services.Failure as failure:
        return f"the old files are back, but the service did not take them up either ({failure})"
    return "the old files are back"


def switch(module, unit, files, action, marker):
    """Put the files in place and let the service take them up; on failure put the old ones back."""
    changed = [file for file in files if file.differs]
    with _files.alone(), _files.prepared(changed):
        # Without the marker, the next run completes this one if it is interrupted.
        marker.unlink(missing_ok=True)
        try:
            _files.switch(changed)
            take_up(module, unit, action)
        except (_services.Failure, OSError) as failure:
            went_back = go_back(unit, changed, action)
            try:
                journal = unit.journal()
            except OSError as error:
                journal = f"(no journal: {error})"
            module.fail_json(msg=mask(files, f"{unit.name}: {failure}; {went_back}. The last lines of its journal:\n{journal}"))
        given = digest([(file.path, file.after) for file in configuration(module, files)], module.params["also_reads"])
        _files.replace(marker, given.encode("ascii"), (0, 0), 0o600)


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
            # Ansible masks what is in here in everything that a module returns.
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "absent": {"type": "list", "elements": "path", "default": []},
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
    options = module.params
    unit = _services.Unit(module, options["unit"])
    marker = _files.STATE_DIRECTORY / f"{unit.name}.applied"
    try:
        files = [desired(entry) for entry in options["files"]]
        files += [_files.File(path, None) for path in options["absent"]]
        for index, file in enumerate(files):
            if file.path in [other.path for other in files[:index]]:
                raise ValueError(f"{file.path} stands in files twice")
        for probe in options["wait_for"]:
            if not probe["address"].startswith("/"):
                host_and_port(probe["address"])
        if not module.check_mode:
            for file in files:
                file.ids()
    except ValueError as error:
        module.fail_json(msg=f"{unit.name}: {error}; nothing was changed")
    applied = marker.read_text(encoding="ascii") if marker.exists() else ""
    action = needed(module, unit, files, applied)
    differing = [file for file in files if file.differs]
    result = {
        "changed": bool(differing) or action != "none" or unit.needs(options["state"] == "started"),
        "files": [str(file.path) for file in differing],
        "action": action,
        "diff": [file.diff() for file in differing],
    }
    if action != "none":
        result["diff"].append({"prepared": f"{action} {unit.name}\n"})
    # On a bare host, check mode has nothing to validate with; and what is stopped may have lost its program or its keys.
    try:
        if result["changed"] and options["state"] == "started" and (unit.loaded or not module.check_mode):
            validate(module, files)
        if result["changed"] and not module.check_mode:
            switch(module, unit, files, action, marker)
    except OSError as error:
        module.fail_json(msg=f"{unit.name}: cannot write the new files, the old ones stay in use: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
