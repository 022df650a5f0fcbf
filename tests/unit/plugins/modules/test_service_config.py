# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a systemctl that keeps units in files, loads their configuration, and can be told to fail."""

from __future__ import annotations

import contextlib
import functools
import grp
import json
import os
import pathlib
import pwd
import re
import resource
import select
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import types

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _journal, _probe, _resolvers, _service, _services, _transaction
from ansible_collections.antispam.gateway.plugins.modules import service_config

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
UNIT = "test.service"
CONTENT = "one\ntwo\n"

SYSTEMCTL = """\
#!/bin/sh
cd "$FAKE_UNIT" || exit 9
echo "$*" >>told
for unit; do :; done
at=.
if [ -d "units/$unit" ]; then at="units/$unit"; fi
if [ -e "$at/on-$1" ]; then . "./$at/on-$1"; fi
case "$1 $2" in
"show --property=MainPID") cat $at/MainPID ;;
"show "*) for property in LoadState ActiveState UnitFileState TriggeredBy; do echo "$property=$(cat $at/$property)"; done ;;
"start "*|"restart "*|"reload "*|"reload-or-restart "*) echo active >$at/ActiveState; rm -rf $at/in_use; cp -a ../etc $at/in_use ;;
"stop "*) echo inactive >$at/ActiveState ;;
"enable "*) echo enabled >$at/UnitFileState ;;
"disable "*) echo disabled >$at/UnitFileState ;;
"daemon-reload "*|"reset-failed "*) ;;
*) echo "Unknown command verb $1" >&2; exit 1 ;;
esac
"""

JOURNALCTL = """\
#!/bin/sh
cat "$FAKE_UNIT/journal"
"""


class Service:
    """A directory that is the host: etc, run, the state of this collection, and the unit."""

    def __init__(self, root):
        self.root = root
        self.etc, self.unit, self.run, self.state, self.bin = (root / name for name in ("etc", "unit", "run", "state", "bin"))
        for directory in (self.etc, self.unit, self.run, self.bin):
            directory.mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.set(LoadState="loaded", ActiveState="inactive", UnitFileState="disabled", TriggeredBy="", MainPID="0", journal="", told="")

    def more(self, name):
        """One more unit on this host."""
        other = OtherUnit(self, name)
        other.unit.mkdir(parents=True)
        other.set(LoadState="loaded", ActiveState="inactive", UnitFileState="disabled", TriggeredBy="", MainPID="0")
        return other

    def set(self, **values):
        for name, value in values.items():
            (self.unit / name).write_text(value + "\n" if value else "")

    def on(self, verb, script):
        (self.unit / f"on-{verb}").write_text(script)

    @property
    def told(self):
        """What systemctl was told to do, without the questions."""
        return [line for line in (self.unit / "told").read_text().splitlines() if not line.startswith("show ")]

    @property
    def active(self):
        return (self.unit / "ActiveState").read_text().strip()

    @property
    def enabled(self):
        return (self.unit / "UnitFileState").read_text().strip()

    def in_use(self, name="main.cf"):
        return (self.unit / "in_use" / name).read_bytes().decode()

    def write(self, name, text, mode=0o644):
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(mode)
        return path

    def tree(self, *parts):
        """Everything on the host, or in a part of it: bytes, links, permissions, times; not what systemctl was asked."""
        found = {}
        for part in parts or ("etc", "run", "state", "unit"):
            for path in sorted((self.root / part).rglob("*")):
                if path.name != "told":
                    status = path.lstat()
                    content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
                    found[str(path.relative_to(self.root))] = (status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, content)
        return found


class OtherUnit(Service):
    """Another unit of a host; hooks find its files in $at."""

    def __init__(self, host, name):
        self.root, self.etc, self.name = host.root, host.etc, name
        self.unit = host.unit / "units" / name


@pytest.fixture
def service(tmp_path, monkeypatch):
    host = Service(tmp_path)
    monkeypatch.setenv("FAKE_UNIT", str(host.unit))
    monkeypatch.setenv("PATH", f"{host.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(_files, "STATE_DIRECTORY", host.state)

    monkeypatch.setattr(_transaction, "STAGE", host.run)
    # A fork of all of pytest for each command would take most of the time of these tests.
    popen = subprocess.Popen

    def without_fork(*words, preexec_fn=None, **options):
        return popen(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", without_fork)
    if os.getuid():
        # The marker is root's.
        monkeypatch.setattr(os, "fchown", lambda *arguments: None)
    return host


@pytest.fixture
def run(service, call_main):
    def run_module(check_mode=False, services=None, secrets=(), **options):
        """Options are those of the one service, unless there are services."""
        module_arguments = {
            "services": [{"unit": UNIT, "files": [entry(service)], **options}] if services is None else services,
            "secrets": list(secrets),
            "_ansible_check_mode": check_mode,
            "_ansible_diff": True,
            "_ansible_tmpdir": str(service.root),
        }
        (service.unit / "told").write_text("")
        result = call_main(service_config, **module_arguments)
        run_module.printed = call_main.printed
        if "actions" in result and services is None:
            # What the unit is told; files alone, and whether it is enabled, are no such thing.
            done = result["actions"].get(UNIT, "none")
            result["action"] = "none" if done in ("files", "enable", "disable") else done
        return result

    return run_module


def entry(service, content=CONTENT, name="main.cf", **more):
    return {"path": str(service.etc / name), "content": content, **ME, **more}


@pytest.fixture
def running(service, run):
    """The service runs, with one file, as an earlier run left it."""
    assert run()["changed"]
    assert (service.active, service.enabled, service.in_use()) == ("active", "enabled", CONTENT)
    return service


@pytest.fixture
def haste(monkeypatch):
    """A second of the module takes a tenth of one."""
    monkeypatch.setattr(_services, "time", types.SimpleNamespace(monotonic=lambda: 10 * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / 10)))


check_and_real = pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])


# ---- what it takes to get there ----------------------------------------------------------------------------------

PREPARE = ["daemon-reload", f"reset-failed {UNIT}"]
RELOAD, RESTART, START, STOP = ([*PREPARE, f"{action} {UNIT}"] for action in ("reload", "restart", "start", "stop"))


class Case:
    """From the service running with CONTENT: what happened since, what is asked for, what it needs."""

    def __init__(self, action, told, content=CONTENT, drift=None, changed=True, files=("main.cf",), more_files=(), **arguments):
        self.action, self.told, self.content, self.drift, self.changed = action, told, content, drift, changed
        self.files, self.more_files, self.arguments = list(files), list(more_files), arguments

    def asked(self, service):
        files = [entry(service, self.content), *(entry(service, **more) for more in self.more_files)]
        return {"files": files, **self.arguments}


def drift(*names, **values):
    """Something that happens to the unit."""
    return lambda service: service.set(**values)


CASES = {
    "nothing": Case("none", [], changed=False, files=[]),
    "new content": Case("reload", RELOAD, "one\nthree\n"),
    "new content, reload is not enough": Case("restart", RESTART, "one\nthree\n", apply="restart"),
    "new content, read anew each time": Case("none", [], "one\nthree\n", apply="none"),
    "a new line that needs a restart": Case("restart", RESTART, "one\ntwo\nthree\n", restart_on=["^no", "^three$"]),
    "a line went that needs a restart": Case("restart", RESTART, "one\n", restart_on=["^two"]),
    "a line that needs a restart is the same": Case("reload", RELOAD, "one\ntwo\nthree\n", restart_on=["^two", "hree.$"]),
    "edited by hand": Case("reload", RELOAD, drift=lambda service: service.write("main.cf", "by hand\n")),
    "removed by hand": Case("reload", RELOAD, drift=lambda service: (service.etc / "main.cf").unlink()),
    "other permissions": Case("reload", RELOAD, drift=lambda service: (service.etc / "main.cf").chmod(0o600)),
    "windows line ends": Case("reload", RELOAD, drift=lambda service: service.write("main.cf", "one\r\ntwo\r\n")),
    "not in UTF-8": Case("reload", RELOAD, drift=lambda service: (service.etc / "main.cf").write_bytes(b"caf\xe9\n")),
    "stopped by hand": Case("start", START, drift=drift(ActiveState="inactive"), files=[]),
    "failed": Case("start", START, drift=drift(ActiveState="failed"), files=[]),
    "failed with another configuration": Case("start", START, "one\nthree\n", drift=drift(ActiveState="failed")),
    "disabled by hand": Case("none", [f"enable {UNIT}"], drift=drift(UnitFileState="disabled"), files=[]),
    "another file in a new directory": Case("reload", RELOAD, files=["new.d/new.cf"], more_files=[{"name": "new.d/new.cf", "content": "new\n"}]),
    "a file goes": Case(
        "reload", RELOAD, drift=lambda service: service.write("gone.cf", "gone\n"), files=["gone.cf"], more_files=[{"name": "gone.cf", "content": None}]
    ),
    "a file that is not there is to go": Case("reload", RELOAD, "three\n", more_files=[{"name": "never.cf", "content": None}]),
    "started with a starting unit": Case("restart", RESTART, "three\n", drift=drift(ActiveState="activating")),
    "to be stopped": Case("stop", [*STOP, f"disable {UNIT}"], files=[], state="stopped"),
    "to be stopped, with new content": Case("stop", [*STOP, f"disable {UNIT}"], "three\n", state="stopped"),
    "to be stopped, and is": Case("none", [], drift=drift(ActiveState="inactive", UnitFileState="disabled"), changed=False, files=[], state="stopped"),
    "to be stopped, and failed": Case("none", [], drift=drift(ActiveState="failed", UnitFileState="disabled"), changed=False, files=[], state="stopped"),
    "to be stopped, while it starts again and again": Case(
        "stop", STOP, drift=drift(ActiveState="activating", UnitFileState="disabled"), files=[], state="stopped"
    ),
    "stopped, with new content": Case("none", [], "three\n", drift=drift(ActiveState="inactive", UnitFileState="disabled"), state="stopped"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_check_mode_says_what_a_run_does_and_a_second_run_does_nothing(running, run, case):
    if case.drift:
        case.drift(running)
    before = running.tree()
    said = run(check_mode=True, **case.asked(running))
    assert running.tree() == before
    assert running.told == []
    assert said["action"] == case.action
    assert said["changed"] == case.changed
    assert said["files"] == [str(running.etc / name) for name in case.files]
    assert [part["after_header"] for part in said["diff"] if "prepared" not in part] == said["files"]
    assert [part["prepared"] for part in said["diff"] if "prepared" in part] == ([] if case.action == "none" else [f"{case.action} {UNIT}\n"])

    did = run(**case.asked(running))
    assert running.told == case.told
    assert {key: value for key, value in did.items() if key != "invocation"} == {key: value for key, value in said.items() if key != "invocation"}
    if case.action in ("start", "reload", "restart"):
        assert running.in_use() == case.content
    for file in case.asked(running)["files"]:
        path = pathlib.Path(file["path"])
        assert (path.read_bytes().decode() if path.exists() else None) == file["content"]
    assert (running.active == "active", running.enabled == "enabled") == (case.arguments.get("state") != "stopped",) * 2 or running.active == "failed"

    before = running.tree()
    assert not run(**case.asked(running))["changed"]
    assert running.told == []
    assert running.tree() == before


def test_a_first_run_on_a_bare_host(service, run):
    """No package has brought the unit yet: check mode says what is to come, a run writes the files that make it."""
    service.set(LoadState="not-found", UnitFileState="")
    before = service.tree()
    said = run(check_mode=True, validate=[["no-such-command-yet"]])
    assert (said["changed"], said["action"], said["files"]) == (True, "start", [str(service.etc / "main.cf")])
    assert service.tree() == before
    assert service.told == []


def test_a_unit_that_is_one_of_the_files(service, run):
    service.set(LoadState="not-found", UnitFileState="")
    service.on("daemon-reload", "[ -e ../etc/test.service ] && echo loaded >LoadState")
    service.on("start", '[ "$(cat LoadState)" = loaded ] || { echo "Unit test.service not found." >&2; exit 5; }')
    result = run(files=[entry(service, name="test.service")])
    assert result["action"] == "start"
    assert (service.active, service.enabled) == ("active", "enabled")


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_a_file_of_others_that_changed(running, run, state):
    other = running.write("table", "old\n")
    assert run(also_reads=[str(other)])["action"] == "reload"
    assert not run(also_reads=[str(other)])["changed"]
    running.write("table", "new\n")
    running.set(ActiveState=state)
    before = running.tree()
    said = run(check_mode=True, also_reads=[str(other)])
    assert running.tree() == before
    assert said["action"] == run(also_reads=[str(other)])["action"] == {"active": "reload", "inactive": "start"}[state]
    assert running.in_use("table") == "new\n"
    assert not run(also_reads=[str(other)])["changed"]
    other.unlink()
    assert run(also_reads=[str(other)])["action"] == "reload"
    assert not run(also_reads=[str(other)])["changed"]


@pytest.mark.parametrize("state", ["activating", "reloading", "deactivating"])
def test_a_service_on_its_way_is_not_restarted_for_nothing(running, run, state):
    running.set(ActiveState=state)
    result = run()
    assert result["action"] in ("none", "start")
    assert f"restart {UNIT}" not in running.told


@pytest.mark.parametrize("wanted", ["started", "stopped"])
@pytest.mark.parametrize("state", ["static", "indirect", "generated", "alias"])
def test_a_unit_that_cannot_be_enabled_is_let_be(running, run, state, wanted):
    running.set(UnitFileState=state, ActiveState={"started": "active", "stopped": "inactive"}[wanted])
    assert not run(state=wanted)["changed"]
    assert running.told == []


def test_a_masked_unit_is_an_error_with_the_reason(running, run):
    running.set(UnitFileState="masked", ActiveState="inactive")
    running.on("start", f"echo 'Failed to start {UNIT}: Unit {UNIT} is masked.' >&2; exit 1")
    result = run()
    assert result["failed"]
    assert f"Unit {UNIT} is masked" in result["msg"]


def test_a_service_that_has_fewer_files_than_before_is_told(running, run):
    result = run(files=[])
    assert result["files"] == []
    assert running.told == RELOAD


def test_permissions_are_as_asked_for(service, run):
    run(files=[entry(service, mode="0600")])
    assert stat.S_IMODE((service.etc / "main.cf").stat().st_mode) == 0o600
    run(files=[entry(service, mode="0640")])
    assert stat.S_IMODE((service.etc / "main.cf").stat().st_mode) == 0o640


def test_the_difference_shows_files_and_action(running, run):
    result = run(check_mode=True, files=[entry(running, "one\nthree\n"), entry(running, "new\n", name="new.cf")])
    assert [(part.get("before"), part.get("after"), part.get("prepared")) for part in result["diff"]] == [
        ("one\ntwo\n", "one\nthree\n", None),
        ("", "new\n", None),
        (None, None, f"reload {UNIT}\n"),
    ]


# ---- validation --------------------------------------------------------------------------------------------------


def broken(running):
    return [entry(running, "one\ntypo\n", mode="0640"), entry(running, "new\n", name="new.cf")]


def refusing(service, status=1):
    return ["sh", "-c", f'grep -Hn typo "$1" && exit {status}; exit 0', "check-config", "{stage}" + str(service.etc / "main.cf")]


@check_and_real
@pytest.mark.parametrize("apply", ["reload", "restart", "none"])
def test_a_configuration_that_is_not_valid_changes_nothing(running, run, check_mode, apply):
    before = running.tree()
    commands = [["true"], refusing(running), ["touch", str(running.root / "not-reached")]]
    result = run(check_mode=check_mode, files=broken(running), validate=commands, apply=apply)
    assert result["failed"]
    assert running.tree() == before
    assert running.told == []
    assert not (running.root / "not-reached").exists()
    assert UNIT in result["msg"]
    assert "the old one stays in use" in result["msg"]
    # Command, file and line, and not the place where it was validated.
    assert "sh says:" in result["msg"]
    assert f"{running.etc}/main.cf:2:typo" in result["msg"]
    assert str(running.run) not in result["msg"]
    assert result["command"][0] == "sh"
    assert "typo" in result["output"]


@check_and_real
def test_a_line_of_output_can_be_a_refusal(running, run, check_mode):
    before = running.tree()
    result = run(check_mode=check_mode, files=broken(running), validate=[refusing(running, status=0)], reject_output="^.*:[0-9]+:typo$")
    assert result["failed"]
    assert running.tree() == before
    assert f"{running.etc}/main.cf:2:typo" in result["msg"]


def test_a_complaint_about_the_old_file_is_no_refusal(running, run):
    command = ["sh", "-c", f"echo 'warning: {running.etc}/main.cf: line 1: old'"]
    assert "failed" not in run(files=broken(running), validate=[command], reject_output="^warning")
    command = ["sh", "-c", f"echo 'warning: {{stage}}{running.etc}/main.cf: line 1: new'"]
    result = run(files=[entry(running, "four\n")], validate=[command], reject_output="^warning.*")
    assert f"warning: {running.etc}/main.cf: line 1: new" in result["msg"]


def test_a_command_that_failed_says_why_whatever_file_it_names(running, run):
    result = run(files=broken(running), validate=[["sh", "-c", f"echo '{running.etc}/main.cf: cannot be parsed'; exit 1"]])
    assert f"{running.etc}/main.cf: cannot be parsed" in result["msg"]


def test_other_output_is_no_refusal(running, run):
    result = run(files=broken(running), validate=[refusing(running, status=0)], reject_output="^fatal")
    assert "failed" not in result
    assert running.in_use() == "one\ntypo\n"


def test_what_is_validated_is_what_would_be_installed(running, run):
    copy = running.root / "seen"
    run(
        files=[entry(running, "one\nthree\n", mode="0640"), entry(running, "new\n", name="sub/new.cf"), entry(running, None, name="gone.cf")],
        validate=[["cp", "-a", "{stage}" + str(running.etc), str(copy)]],
    )
    assert {str(path.relative_to(copy)): path.read_text() for path in copy.rglob("*") if path.is_file()} == {"main.cf": "one\nthree\n", "sub/new.cf": "new\n"}
    assert stat.S_IMODE((copy / "main.cf").stat().st_mode) == 0o640


@pytest.mark.parametrize("valid", [True, False])
def test_the_stage_can_be_read_by_daemons_and_is_gone_afterwards(running, run, valid):
    seen = running.root / "mode"
    run(files=broken(running), validate=[["sh", "-c", f"stat -c %a '{{stage}}' >{seen}"], ["true" if valid else "false"]])
    assert seen.read_text() == "755\n"
    assert os.listdir(running.run) == []


def test_a_service_that_needs_nothing_is_not_validated(running, run):
    assert not run(validate=[["false"]])["changed"]


def test_a_word_of_a_validation_is_passed_as_it_is(running, run, monkeypatch):
    monkeypatch.setenv("HOMER", "expanded")
    seen = running.root / "seen"
    run(files=broken(running), validate=[["sh", "-c", f'HOMER=simpson; echo "$HOMER ~ $1" >{seen}', "sh", "$HOMER ~ *"]])
    assert seen.read_text() == "simpson ~ $HOMER ~ *\n"


@check_and_real
def test_a_validation_that_cannot_be_run_changes_nothing(running, run, check_mode):
    before = running.tree()
    result = run(check_mode=check_mode, files=broken(running), validate=[["no-such-command", "{stage}"]])
    assert result["failed"]
    assert "no-such-command" in json.dumps(result)
    assert running.tree() == before
    assert running.told == []


@check_and_real
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"files": [{"path": "{etc}", "content": "x"}]}, ["{etc}"]),
        ({"files": [{"path": "{etc}/main.cf/below", "content": "x"}]}, ["{etc}/main.cf/below"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", "mode": "u=rw"}]}, ["{etc}/main.cf", "u=rw"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", **ME}], "wait_for": [{"address": "127.0.0.1", "expect": "220"}]}, ["127.0.0.1"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", **ME}], "wait_for": [{"address": ":25", "expect": "220"}]}, ["':25'"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", **ME}], "wait_for": [{"address": "127.0.0.1:smtp", "expect": "220"}]}, ["127.0.0.1:smtp"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", **ME}], "wait_for": [{"address": "127.0.0.1:99999", "expect": "220"}]}, ["127.0.0.1:99999"]),
        ({"files": [{"path": "{etc}/main.cf", "content": "x", **ME}, {"path": "{etc}/main.cf", "content": "y", **ME}]}, ["{etc}/main.cf"]),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_changed(running, run, haste, check_mode, wrong, words):
    arguments = json.loads(json.dumps(wrong).replace("{etc}", str(running.etc)))
    before = running.tree()
    result = run(check_mode=check_mode, timeout=1, **arguments)
    assert result["failed"]
    for word in words:
        assert word.replace("{etc}", str(running.etc)) in result["msg"]
    assert running.tree() == before
    assert running.told == []


@pytest.mark.parametrize("nobody", [{"owner": "no-such-user"}, {"group": "no-such-group"}])
def test_an_owner_that_does_not_exist_is_for_check_mode_only(running, run, nobody):
    before = running.tree()
    files = [entry(running, "three\n", **{**ME, **nobody})]
    assert run(check_mode=True, files=files)["changed"]
    result = run(files=files)
    assert result["failed"]
    assert next(iter(nobody.values())) in result["msg"]
    assert running.tree() == before
    assert running.told == []


# ---- a service that does not take it -----------------------------------------------------------------------------


def fails_with(text, condition="grep -q typo ../etc/main.cf"):
    return f"{condition} && {{ echo {shlex.quote(text)} >&2; exit 1; }}\n"


def etc(service):
    return {name: (mode, inode, content) for name, (mode, _uid, inode, _mtime, content) in service.tree("etc").items()}


@pytest.mark.parametrize(("apply", "back"), [("reload", "reload-or-restart"), ("restart", "restart")])
def test_a_service_that_refuses_gets_its_old_files_back(running, run, apply, back):
    (running.etc / "main.cf").chmod(0o604)
    running.write("gone.cf", "gone\n", mode=0o600)
    files = [*broken(running), entry(running, None, name="gone.cf")]
    before = etc(running)
    running.set(journal="main.cf: line 2: typo")
    running.on(apply, fails_with(f"Job for {UNIT} failed"))
    result = run(files=files, apply=apply)
    assert result["failed"]
    assert etc(running) == before
    assert running.told[-3:] == [*PREPARE, f"{back} {UNIT}"]
    assert (running.active, running.enabled, running.in_use()) == ("active", "enabled", CONTENT)
    for words in (UNIT, f"systemctl {apply} {UNIT} failed: Job for {UNIT} failed", "the old files are back and in use", "main.cf: line 2: typo"):
        assert words in result["msg"]
    # Nobody takes it for done.
    assert run(files=files, apply=apply)["failed"]
    running.on(apply, "")
    assert run(files=files, apply=apply)["action"] == apply
    assert running.in_use() == "one\ntypo\n"


def test_a_first_start_that_fails_leaves_the_service_as_it_was(service, run):
    """At the next boot it would answer with the configuration of the package."""
    service.write("main.cf", "of the package\n", mode=0o640)
    before = etc(service)
    service.on("start", fails_with("exploded"))
    result = run(files=broken(service))
    assert result["failed"]
    assert "exploded" in result["msg"]
    assert "the service is stopped" in result["msg"]
    assert etc(service) == before
    assert (service.active, service.enabled) == ("inactive", "disabled")
    assert run(check_mode=True, files=broken(service))["action"] == "start"


@pytest.mark.parametrize("verb", ["reload-or-restart", "daemon-reload"])
def test_a_service_that_refuses_the_old_files_too_is_said(running, run, verb):
    before = etc(running)
    running.on("reload", fails_with("no"))
    running.on(verb, fails_with("broken for good", condition="! grep -q typo ../etc/main.cf"))
    result = run(files=broken(running))
    assert result["failed"]
    assert etc(running) == before
    assert "broken for good" in result["msg"]
    assert "did not load them either" in result["msg"]
    # What the service uses now is not known: the next run makes sure, though no file differs.
    for hook in ("reload", verb):
        running.on(hook, "")
    assert run()["action"] == "reload"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("echo 'does not stop' >&2; exit 1", "does not stop", id="it fails"),
        pytest.param("echo 'Unit not loaded' >&2; exit 5", "the old files are back and the service is stopped", id="the unit went with the new files"),
    ],
)
def test_what_a_stop_says_after_a_start_that_failed(service, run, script, words):
    service.write("main.cf", CONTENT)
    before = etc(service)
    service.on("start", fails_with("no"))
    service.on("stop", script)
    result = run(files=broken(service))
    assert words in result["msg"]
    assert etc(service) == before


def test_the_old_files_come_back_without_a_journal(running, run):
    before = etc(running)
    # Whatever the rest of the path holds, this one cannot be run.
    (running.bin / "journalctl").write_text("#!/no/such/interpreter\n")
    running.on("reload", fails_with("no"))
    result = run(files=broken(running))
    assert result["failed"]
    assert "the old files are back and in use" in result["msg"]
    assert etc(running) == before


def test_the_journal_that_is_told_ends_where_the_old_files_come_back(running, run):
    """What clamd logs when it is back fills more than the lines that are told."""
    (running.bin / "journalctl").write_text('#!/bin/sh\necho "$*"\n')
    running.on("reload", fails_with("no"))
    running.on("reload-or-restart", "date +%s.%N >back")
    result = run(files=broken(running))
    assert "the old files are back and in use" in result["msg"]
    told_until = float(re.search(r"--until=@([0-9.]+)", result["msg"])[1])
    assert told_until < float((running.unit / "back").read_text())


def test_enabling_that_fails_is_a_failure(running, run):
    before = etc(running)
    running.set(UnitFileState="disabled")
    running.on("enable", fails_with("read-only file system"))
    result = run(files=broken(running))
    assert result["failed"]
    assert "read-only file system" in result["msg"]
    assert etc(running) == before


def test_a_full_disk_changes_nothing(running, run):
    before = running.tree()
    # A secret, for it not to be in the output, which is a file here as well.
    files = [entry(running, "three\n"), {"path": str(running.etc / "large.cf"), "secret_content": "x" * 100_000, **ME}]
    with limited(50_000):
        result = run(files=files)
    assert result["failed"]
    assert "the old ones stay in use" in result["msg"]
    assert running.tree("etc", "unit", "run") == {name: value for name, value in before.items() if not name.startswith("state/")}
    assert run(files=files)["action"] == "reload"
    assert running.in_use() == "three\n"


def test_the_old_files_come_back_on_a_full_disk(running, run):
    """The old file, which is ours, is larger than the room that is left."""
    text = f"# {_files.HEADER.decode()}\n" + "x" * 100_000
    large = running.write("main.cf", text, mode=0o640)
    before = etc(running)
    running.on("reload", fails_with("no"))
    with limited(50_000):
        result = run(files=broken(running))
    assert result["failed"]
    assert "systemctl reload" in result["msg"]
    assert etc(running) == before
    assert large.read_text() == text


def test_a_place_that_takes_no_file_changes_nothing(running, run):
    before = etc(running)
    result = run(files=[entry(running, "three\n"), {"path": "/proc/self/no-file-here", "content": "x", **ME}])
    assert result["failed"]
    assert etc(running) == before
    assert running.in_use() == CONTENT


@contextlib.contextmanager
def limited(size):
    """No file grows above this size; renaming works, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- a run that was interrupted ----------------------------------------------------------------------------------


def interrupted(service, files, **arguments):
    """Run until the service would be told, where the machine goes down: nothing is put back and nothing cleaned up."""

    def die(*words):
        os._exit(42)

    module_arguments = {"services": [{"unit": UNIT, "files": files, **arguments}], "_ansible_tmpdir": str(service.root)}
    child = os.fork()
    if not child:
        _services.Unit.apply = die
        with patch_module_args(module_arguments):
            service_config.main()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert service.in_use() == CONTENT


@check_and_real
def test_the_next_run_completes_an_interrupted_one(running, run, check_mode):
    files = [entry(running, "one\nthree\n"), entry(running, "new\n", name="new.cf")]
    interrupted(running, files)
    before = running.tree()
    result = run(check_mode=check_mode, files=files)
    assert (result["changed"], result["action"]) == (True, "reload")
    if check_mode:
        assert running.tree() == before
        return
    assert running.in_use() == "one\nthree\n"
    assert not run(files=files)["changed"]


def test_the_next_run_forgets_no_restart(running, run):
    """The files are the new ones already: no line tells any more that it takes a restart."""
    files = [entry(running, "one\nthree\n")]
    options = {"restart_on": ["^three"]}
    interrupted(running, files, **options)
    assert run(files=files, **options)["action"] == "restart"
    assert not run(files=files, **options)["changed"]


def test_the_next_run_may_ask_for_something_else(running, run):
    interrupted(running, [entry(running, "one\nthree\n")])
    result = run()
    assert (result["changed"], result["action"]) == (True, "reload")
    assert running.in_use() == CONTENT
    assert not run()["changed"]


def test_an_interrupted_run_leaves_nothing_behind_the_next_one(running, run):
    files = [entry(running, "one\nthree\n"), entry(running, "new\n", name="new.cf")]
    interrupted(running, files)
    run(files=[entry(running, "four\n"), entry(running, "newer\n", name="new.cf")])
    assert sorted(running.tree("etc")) == ["etc/main.cf", "etc/new.cf"]


def test_a_marker_that_is_obsolete_is_no_marker(running, run):
    for marker in running.state.iterdir():
        if marker.is_file():
            marker.write_text("0" * 64)
    assert run()["action"] == "reload"
    assert not run()["changed"]


def test_two_runs_at_once_do_not_disturb_each_other(running, run):
    """The second comes while the service of the first reloads; both end, and the service has what is on the disk."""
    running.on(
        "reload",
        """
        if mkdir "$FAKE_UNIT/first" 2>/dev/null; then
            touch "$FAKE_UNIT/in-reload"
            tries=0
            while [ ! -e "$FAKE_UNIT/second-done" ] && [ "$tries" -lt 30 ]; do tries=$((tries + 1)); sleep 0.02; done
            exit 1
        fi
        """,
    )
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        with patch_module_args({"services": [{"unit": UNIT, "files": [entry(running, "first\n")]}], "_ansible_tmpdir": str(running.root)}):
            try:
                service_config.main()
            except SystemExit as ended:
                os._exit(ended.code or 0)
        os._exit(9)
    wait_until((running.unit / "in-reload").exists)
    result = run(files=[entry(running, "second\n")])
    (running.unit / "second-done").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "failed" not in result
    assert (running.etc / "main.cf").read_text() == running.in_use() == "second\n"
    assert sorted(running.tree("etc")) == ["etc/main.cf"]
    assert not run(files=[entry(running, "second\n")])["changed"]


def wait_until(holds, seconds=10):
    waited = threading.Event()
    for _try in range(seconds * 100):
        if holds():
            return
        waited.wait(0.01)
    pytest.fail("it did not happen in time")


# ---- secrets -----------------------------------------------------------------------------------------------------

SECRET = "hunter2-6f1ed002"
SECRET_LINE = f"PrivateMirror https://user:{SECRET}@mirror.example.com/db"


def secret(service, line=SECRET_LINE, mode="0600"):
    return {"path": str(service.etc / "main.cf"), "secret_content": f"DatabaseOwner root\n{line}\n", "mode": mode, **ME}


@check_and_real
@pytest.mark.parametrize("before", [None, "other\n", f"{SECRET_LINE} of before\n"])
def test_no_output_holds_a_secret(running, run, check_mode, before):
    (running.etc / "main.cf").unlink()
    if before:
        running.write("main.cf", before, mode=0o600)
    result = run(check_mode=check_mode, files=[secret(running)], validate=[["true"]])
    assert result["changed"]
    assert result["files"] == [str(running.etc / "main.cf")]
    assert SECRET not in run.printed
    assert "invocation" in run.printed
    assert result["diff"]
    if not check_mode:
        assert SECRET in running.in_use()
        assert stat.S_IMODE((running.etc / "main.cf").stat().st_mode) == 0o600
        assert not run(files=[secret(running)])["changed"]
        assert SECRET not in run.printed


@check_and_real
@pytest.mark.parametrize("printed", [f"line 2: {SECRET_LINE}: no", f"cannot read https://user:{SECRET}@mirror.example.com/db/daily.cvd"])
def test_a_validation_that_prints_a_secret_does_not_tell_it(running, run, check_mode, printed):
    command = ["sh", "-c", 'cat "$1"; exit 1', "sh", str(running.write("said", printed))]
    result = run(check_mode=check_mode, files=[secret(running)], validate=[command])
    assert result["failed"]
    assert "sh says:" in result["msg"]
    assert SECRET not in run.printed


@pytest.mark.parametrize("printed", [f"line 2: {SECRET_LINE}: no", f"cannot read https://user:{SECRET}@mirror.example.com/db/daily.cvd"])
def test_a_journal_that_holds_a_secret_does_not_tell_it(running, run, printed):
    running.set(journal=f"Starting\n{printed}\nexited")
    running.on("reload", f"echo {shlex.quote(printed)} >&2; exit 1")
    result = run(files=[secret(running)])
    assert result["failed"]
    assert "exited" in result["msg"]
    assert SECRET not in run.printed


def test_a_secret_that_changes_or_goes_is_not_told(running, run):
    run(files=[secret(running)])
    assert run(files=[secret(running, "PrivateMirror https://mirror.example.com/db")])["changed"]
    assert SECRET not in run.printed
    run(files=[secret(running)])
    result = run(files=[entry(running, None)])
    assert result["changed"]
    assert not (running.etc / "main.cf").exists()
    assert SECRET not in run.printed


# Texts that are secret in a file that is not.
KEYS = ["k3y-0f-a-cust0mer", "an0ther-k3y"]
WITH_KEYS = f"sites = {KEYS[0]}.bl.example.org, {KEYS[1]}.bl.example.net\nanother = line\n"


@check_and_real
@pytest.mark.parametrize("before", [None, CONTENT, WITH_KEYS.replace("line", "one")])
def test_a_difference_shows_all_but_the_secret_texts(running, run, check_mode, before):
    (running.etc / "main.cf").unlink()
    if before:
        running.write("main.cf", before)
    result = run(check_mode=check_mode, files=[entry(running, WITH_KEYS)], secrets=KEYS)
    assert result["changed"]
    assert result["diff"][0]["after"] == "sites = ********.bl.example.org, ********.bl.example.net\nanother = line\n"
    assert result["diff"][0]["before"] == (before or "").replace(KEYS[0], "********").replace(KEYS[1], "********")
    assert "invocation" in run.printed
    assert not [key for key in KEYS if key in run.printed]
    if not check_mode:
        assert running.in_use() == WITH_KEYS


def test_a_secret_text_that_goes_is_not_told_while_it_is_named(running, run):
    run(files=[entry(running, WITH_KEYS)], secrets=KEYS)
    assert run(files=[entry(running)], secrets=KEYS)["changed"]
    assert "bl.example.org" in run.printed
    assert not [key for key in KEYS if key in run.printed]


def test_what_is_no_secret_is_told(running, run):
    """So the tests around this one can fail."""
    run(files=[entry(running, WITH_KEYS)], secrets=KEYS[:1])
    assert KEYS[0] not in run.printed
    assert KEYS[1] in run.printed
    run(files=[entry(running, WITH_KEYS + "more\n")])
    assert KEYS[0] in run.printed


@check_and_real
@pytest.mark.parametrize("status", [0, 1])
def test_a_validation_that_prints_a_secret_text_tells_the_rest(running, run, check_mode, status):
    printed = f"warning: bad site {KEYS[0]}.bl.example.org"
    command = ["sh", "-c", f'cat "$1"; exit {status}', "sh", str(running.write("said", printed))]
    result = run(check_mode=check_mode, files=[entry(running, WITH_KEYS)], secrets=KEYS, validate=[command], reject_output="^warning: .*")
    assert result["failed"]
    for said in (result["msg"], result["output"]):
        assert "warning: bad site ********.bl.example.org" in said
    assert not [key for key in KEYS if key in run.printed]
    assert (running.etc / "main.cf").read_text() == CONTENT


def test_a_validation_with_a_secret_text_in_its_words_does_not_tell_it(running, run):
    result = run(files=[entry(running, WITH_KEYS)], secrets=KEYS, validate=[["false", f"--key={KEYS[0]}"]])
    assert result["failed"]
    assert result["command"] == ["false", "--key=********"]
    assert KEYS[0] not in run.printed


def test_a_journal_that_holds_a_secret_text_tells_the_rest(running, run):
    running.set(journal=f"Starting\nfatal: {KEYS[1]}.bl.example.net: no\nexited")
    running.on("reload", f"echo 'cannot use {KEYS[0]}.bl.example.org' >&2; exit 1")
    result = run(files=[entry(running, WITH_KEYS)], secrets=KEYS)
    assert result["failed"]
    for words in ("cannot use ********.bl.example.org", "fatal: ********.bl.example.net: no", "exited"):
        assert words in result["msg"]
    assert not [key for key in KEYS if key in run.printed]


def test_a_service_that_answers_with_a_secret_text_does_not_tell_it(running, run, haste):
    with server(greets(f"554 {KEYS[0]}\r\n".encode())) as name:
        result = run(files=[entry(running, WITH_KEYS)], secrets=KEYS, wait_for=[probe(name)], timeout=1)
    assert result["failed"]
    assert "554 ********" in result["msg"]
    assert KEYS[0] not in run.printed


def test_without_secret_texts_nothing_is_masked(running, run):
    for secrets in ([], [""]):
        result = run(check_mode=True, files=[entry(running, WITH_KEYS)], secrets=secrets)
        assert result["diff"][0]["after"] == WITH_KEYS
        assert "********" not in run.printed


def test_secret_texts_change_nothing_of_what_is_done(running, run):
    assert not run(secrets=["one", "two"])["changed"]
    assert running.told == []


# ---- waiting for an answer ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(answer, family=socket.AF_INET, address=("127.0.0.1", 0)):
    """Hand each connection to answer() until the end."""
    listening = socket.socket(family)
    listening.bind(address)
    listening.listen()
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            if not select.select([listening], [], [], 0.02)[0]:
                continue
            with listening.accept()[0] as connection, contextlib.suppress(OSError):
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        ended.set()
        thread.join()
        listening.close()


def until_closed(connection, seconds=5):
    """Wait until the other side has gone."""
    connection.settimeout(seconds)
    with contextlib.suppress(OSError):
        while connection.recv(100):
            pass


def greets(*texts):
    """Answer the first connections with the first texts, and every other with the last one."""
    left = list(texts)

    def answer(connection):
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    answer.left = left
    return answer


def probe(name, expect="220 ", **more):
    address = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
    return {"address": address, "expect": expect, **more}


def test_the_service_answers(running, run):
    with server(greets(b"220 mx1.example.com ESMTP\r\n")) as name:
        assert "failed" not in run(files=broken(running), wait_for=[probe(name)])


def test_it_is_waited_until_the_service_answers(running, run):
    """systemd holds the port before the daemon does, and a daemon that is not ready says so."""
    answer = greets(b"", b"421 not yet\r\n", b"220 ready\r\n")
    with server(answer) as name:
        assert "failed" not in run(files=broken(running), wait_for=[probe(name)], timeout=20)
    assert answer.left == [b"220 ready\r\n"]


def test_an_answer_may_arrive_in_pieces(running, run):
    def answer(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"22")
        select.select([connection], [], [], 0.3)  # One that does not wait for the rest closes here.
        connection.sendall(b"0 ready\r\n")

    with server(answer) as name:
        assert "failed" not in run(files=broken(running), wait_for=[probe(name)], timeout=2)


def test_a_socket_in_the_file_system_is_asked(running, run):
    def answer(connection):
        if connection.recv(100) == b"nPING\n":
            connection.sendall(b"PONG\n")

    path = os.path.relpath(running.root / "clamd.ctl")
    with server(answer, socket.AF_UNIX, path):
        assert "failed" not in run(files=broken(running), wait_for=[probe(str(running.root / "clamd.ctl"), "PONG", send="nPING\n")])


@pytest.mark.parametrize("wrong", [b"554 no\r\n", b"", b"22"])
def test_a_service_that_answers_otherwise_gets_its_old_files_back(running, run, haste, wrong):
    before = etc(running)
    with server(greets(wrong)) as name:
        result = run(files=broken(running), wait_for=[probe(name)], timeout=1)
    assert result["failed"]
    assert f"127.0.0.1:{name[1]} answers {wrong.decode().strip()!r} in place of '220'" in result["msg"]
    assert "after 1 s" in result["msg"]
    assert "the old files are back and in use" in result["msg"]
    assert etc(running) == before
    assert running.in_use() == CONTENT


def test_a_service_that_never_answers_is_given_up(running, run, haste):
    before = etc(running)
    with server(until_closed) as name:
        result = run(files=broken(running), wait_for=[probe(name)], timeout=1)
    assert f"127.0.0.1:{name[1]} does not answer (timed out) after 1 s" in result["msg"]
    assert etc(running) == before


def test_a_port_where_nobody_listens_is_given_up(running, run, haste):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        name = gone.getsockname()
    result = run(files=broken(running), wait_for=[probe(name)], timeout=1)
    assert f"127.0.0.1:{name[1]} does not answer (" in result["msg"]
    assert "refused" in result["msg"]


def test_nobody_waits_for_the_greeting_of_a_daemon_that_has_died(running, run):
    """master(8) waits a minute before it starts another one, and until then holds whoever asks for it."""
    before = etc(running)
    running.set(journal="Nov 27 21:46:37 mx1 postfix/smtpd[27559]: fatal: bad numerical configuration: smtpd_hard_error_limit = many")
    with server(until_closed) as name:
        result = run(files=broken(running), wait_for=[probe(name)], throttles=True, timeout=60)
    assert "Postfix says: smtpd: fatal: bad numerical configuration: smtpd_hard_error_limit = many" in result["msg"]
    assert f"127.0.0.1:{name[1]} answers" not in result["msg"], "it was waited for until the other side gave up"
    assert etc(running) == before


# systemd gives up a unit that ends again and again, and its socket with it.
GIVEN_UP = "if grep -q typo ../etc/main.cf; then echo failed >ActiveState; exit 0; fi\n"


@pytest.mark.parametrize("replaces_workers", [False, True])
def test_nobody_waits_for_a_service_that_has_failed(running, run, monkeypatch, replaces_workers):
    before = etc(running)
    running.on("reload", GIVEN_UP)
    workers(monkeypatch, {"11"}, set())
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        name = gone.getsockname()
    result = run(files=broken(running), wait_for=[probe(name)], replaces_workers=replaces_workers, timeout=60)
    assert time.monotonic() - began < 20
    assert f"{UNIT} has failed" in result["msg"]
    assert "after 60 s" not in result["msg"]
    assert ("worker processes" if replaces_workers else "refused") in result["msg"]
    assert etc(running) == before


def test_what_starts_the_unit_on_demand_is_given_another_chance_too(running, run):
    running.set(TriggeredBy="test.socket test.path")
    running.on("reload", GIVEN_UP)
    running.on("reload-or-restart", '[ "$(grep -c "^reset-failed test.service test.socket test.path$" told)" = 2 ] || exit 1\n')
    with socket.create_server(("127.0.0.1", 0)) as gone:
        name = gone.getsockname()
    result = run(files=broken(running), wait_for=[probe(name)], timeout=60)
    assert "the old files are back and in use" in result["msg"]
    assert running.told.count("reset-failed test.service test.socket test.path") == 2
    assert running.in_use() == CONTENT


def test_the_first_start_is_waited_for_before_it_counts(service, run, haste):
    with server(greets(b"554 no\r\n")) as name:
        assert run(wait_for=[probe(name)], timeout=1)["failed"]
    assert (service.active, service.enabled) == ("inactive", "disabled")
    assert not (service.etc / "main.cf").exists()


def test_nothing_is_validated_for_a_service_that_is_to_be_stopped(running, run):
    """Its program may be gone, and its keys."""
    result = run(files=[entry(running, "three\n")], state="stopped", validate=[["/no/such/program"]])
    assert (result["changed"], result.get("action")) == (True, "stop")
    assert (running.etc / "main.cf").read_text() == "three\n"


def test_nobody_waits_for_a_service_that_is_to_be_stopped(running, run, haste):
    result = run(state="stopped", wait_for=[{"address": "127.0.0.1:1", "expect": "220 "}], timeout=1)
    assert "failed" not in result
    assert running.active == "inactive"


def test_nobody_waits_in_check_mode(running, run):
    assert "failed" not in run(check_mode=True, files=broken(running), wait_for=[{"address": "127.0.0.1:1", "expect": "220 "}], timeout=1)


@pytest.mark.parametrize(("address", "parts"), [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:10024", ("::1", 10024)), ("localhost:1", ("localhost", 1))])
def test_an_address_has_a_host_and_a_port(address, parts):
    assert _probe.host_and_port(address) == parts


# ---- workers -----------------------------------------------------------------------------------------------------


def workers(monkeypatch, *answers):
    left = list(answers)
    monkeypatch.setattr(_services.Unit, "workers", lambda unit: left.pop(0) if len(left) > 1 else left[0])
    return left


def test_a_reload_lasts_until_every_worker_is_replaced(running, run, monkeypatch):
    left = workers(monkeypatch, {"11", "12"}, {"11", "12"}, {"12"}, set(), {"12", "13"}, {"13", "14"})
    assert "failed" not in run(files=broken(running), replaces_workers=True, timeout=20)
    assert left == [{"13", "14"}]


@pytest.mark.parametrize(("stay", "words"), [({"11", "13"}, "1 worker processes were not replaced"), (set(), "all worker processes were not replaced")])
def test_workers_that_stay_are_a_failure(running, run, haste, monkeypatch, stay, words):
    before = etc(running)
    workers(monkeypatch, {"11", "12"}, stay)
    result = run(files=broken(running), replaces_workers=True, timeout=1)
    assert f"{words} after 1 s" in result["msg"]
    assert etc(running) == before


@pytest.mark.parametrize("options", [{}, {"replaces_workers": True, "apply": "restart"}])
def test_nobody_waits_for_workers_without_need(running, run, haste, monkeypatch, options):
    workers(monkeypatch, {"11"})
    assert "failed" not in run(files=broken(running), timeout=1, **options)


def test_workers_are_the_children_of_the_main_process(running):
    sleeper = subprocess.Popen([shutil.which("sleep"), "60"])
    try:
        running.set(MainPID=str(os.getpid()))
        module = types.SimpleNamespace(run_command=lambda words, **options: (0, subprocess.check_output(words, text=True), ""))
        assert str(sleeper.pid) in _services.Unit(module, UNIT).workers()
        running.set(MainPID=str(sleeper.pid))
        assert _services.Unit(module, UNIT).workers() == set()
        running.set(MainPID="0")
        assert _services.Unit(module, UNIT).workers() == set()
    finally:
        sleeper.kill()
        sleeper.wait()


# ---- obsolete files ---------------------------------------------------------------------------------------


@check_and_real
def test_a_file_that_is_obsolete_goes_and_the_service_is_not_told(running, run, check_mode):
    (running.etc / "old.db").write_bytes(b"\0\1")
    result = run(check_mode, absent=[str(running.etc / "old.db")])
    assert result["changed"]
    assert result["files"] == [str(running.etc / "old.db")]
    assert result["diff"][0]["before"] == "(binary)\n"
    assert (running.etc / "old.db").exists() == check_mode
    assert running.told == []


def test_a_file_that_is_obsolete_makes_no_restart_of_a_reload(running, run):
    (running.etc / "old.db").write_bytes(b"inet_interfaces = all\n")
    run(files=[entry(running, "one\nthree\n")], absent=[str(running.etc / "old.db")], restart_on=["^inet_interfaces"])
    assert running.told == RELOAD
    (running.etc / "older.db").write_bytes(b"inet_interfaces = all\n")
    run(files=[entry(running, "one\nfour\n")], absent=[str(running.etc / "older.db")], restart_on=["^inet_interfaces"])
    assert running.told == RELOAD


def test_a_file_that_is_obsolete_comes_back_with_the_old_files(running, run):
    (running.etc / "old.db").write_bytes(b"\0\1")
    running.on("reload", "exit 1")
    before = etc(running)
    assert run(files=broken(running), absent=[str(running.etc / "old.db")])["failed"]
    assert etc(running) == before


# ---- several services --------------------------------------------------------------------------------------------

FIRST, SECOND = UNIT, "second.service"


class Pair:
    """Two services of one host, each with two files, and what they were given before."""

    def __init__(self, host):
        self.host = host
        self.second = host.more(SECOND)

    def services(self, text, **options):
        """Ask for files with this text; options by the name of the service: first or second."""
        return [
            {"unit": FIRST, "files": [entry(self.host, text, "a.cf"), entry(self.host, text, "b.cf", mode="0600")], **options.get("first", {})},
            {"unit": SECOND, "files": [entry(self.host, text, "c.cf"), entry(self.host, text, "d.cf")], **options.get("second", {})},
        ]

    def files(self):
        return {path.name: (stat.S_IMODE(path.stat().st_mode), path.read_text()) for path in self.host.etc.iterdir()}

    @staticmethod
    def all(text):
        return {name: (0o600 if name == "b.cf" else 0o644, text) for name in ("a.cf", "b.cf", "c.cf", "d.cf")}

    def in_use(self):
        """What each service has loaded."""
        return tuple(tuple(unit.in_use(name) for name in names) for unit, names in ((self.host, ("a.cf", "b.cf")), (self.second, ("c.cf", "d.cf"))))

    def verbs(self):
        """What was done, without what comes before it each time."""
        return [line for line in self.host.told if not line.startswith(("daemon-reload", "reset-failed"))]


@pytest.fixture
def pair(service, run):
    found = Pair(service)
    assert run(services=found.services("old\n"))["actions"] == {FIRST: "start", SECOND: "start"}
    assert (found.files(), found.in_use()) == (found.all("old\n"), (("old\n",) * 2,) * 2)
    return found


@check_and_real
def test_services_take_their_files_up_in_the_order_of_the_list(pair, run, check_mode):
    """None gets its files before the one before it has answered."""
    pair.host.on("reload", "cp ../etc/c.cf c.cf-at-first\n")
    before = pair.host.tree()
    result = run(check_mode, services=pair.services("new\n"))
    assert result["actions"] == {FIRST: "reload", SECOND: "reload"}
    assert result["files"] == [str(pair.host.etc / name) for name in ("a.cf", "b.cf", "c.cf", "d.cf")]
    assert [part["prepared"] for part in result["diff"] if "prepared" in part] == [f"reload {FIRST}\n", f"reload {SECOND}\n"]
    if check_mode:
        assert (pair.host.tree(), pair.verbs()) == (before, [])
        return
    assert pair.verbs() == [f"reload {FIRST}", f"reload {SECOND}"]
    assert (pair.host.unit / "c.cf-at-first").read_text() == "old\n"
    assert pair.in_use() == (("new\n",) * 2,) * 2
    run(services=pair.services("newer\n")[::-1])
    assert pair.verbs() == [f"reload {SECOND}", f"reload {FIRST}"]
    assert not run(services=pair.services("newer\n"))["changed"]


def test_only_the_service_that_needs_something_is_told(pair, run):
    result = run(services=[pair.services("old\n")[0], pair.services("new\n")[1]])
    assert (result["actions"], pair.verbs()) == ({SECOND: "reload"}, [f"reload {SECOND}"])


def test_a_service_is_called_by_its_name(pair, run):
    services = pair.services("new\n", second={"name": "The second one"})
    assert run(check_mode=True, services=services)["actions"] == {FIRST: "reload", "The second one": "reload"}
    assert "port 25 is test.service's, and The second one cannot" in run(services=[{**each, "listens": [25]} for each in services])["msg"]


TYPO = "grep -q typo ../etc/c.cf && { echo 'no such option' >&2; exit 1; }\n"


@pytest.mark.parametrize("apply", ["reload", "restart"])
def test_what_the_second_refuses_the_first_gives_back(pair, run, apply):
    before = pair.host.tree("etc")
    pair.second.on(apply, TYPO)
    result = run(services=pair.services("typo\n", first={"apply": apply}, second={"apply": apply}))
    assert result["failed"]
    for words in (f"{SECOND}: systemctl {apply} {SECOND} failed: no such option", "the old files are back and in use"):
        assert words in result["msg"]
    assert {name: value[4] for name, value in pair.host.tree("etc").items()} == {name: value[4] for name, value in before.items()}
    assert pair.files() == pair.all("old\n")
    back = "reload-or-restart" if apply == "reload" else "restart"
    assert pair.verbs() == [f"{apply} {FIRST}", f"{apply} {SECOND}", f"{back} {FIRST}", f"{back} {SECOND}"]
    assert pair.in_use() == (("old\n",) * 2,) * 2
    # Nobody takes it for done.
    pair.second.on(apply, "")
    assert run(services=pair.services("typo\n"))["actions"] == {FIRST: "reload", SECOND: "reload"}
    assert not run(services=pair.services("typo\n"))["changed"]


def test_after_a_failure_the_old_files_are_no_news(pair, run):
    """What the services have is known again."""
    pair.second.on("reload", TYPO)
    run(services=pair.services("typo\n"))
    run(services=pair.services("old\n"))
    assert pair.in_use() == (("old\n",) * 2,) * 2
    assert not run(services=pair.services("old\n"))["changed"]


def test_what_was_started_for_a_second_that_refuses_is_stopped_and_disabled_again(service, run):
    pair = Pair(service)
    pair.second.on("start", TYPO)
    result = run(services=pair.services("typo\n"))
    assert result["failed"]
    assert pair.files() == {}
    assert (service.active, service.enabled, pair.second.active, pair.second.enabled) == ("inactive", "disabled") * 2
    assert pair.verbs() == [f"start {FIRST}", f"enable {FIRST}", f"start {SECOND}", f"disable {FIRST}", f"stop {FIRST}", f"stop {SECOND}"]


def test_what_was_stopped_for_a_second_that_refuses_runs_again(pair, run):
    pair.second.on("reload", TYPO)
    assert run(services=pair.services("typo\n", first={"state": "stopped"}))["failed"]
    assert (pair.host.active, pair.host.enabled) == ("active", "enabled")
    assert pair.files() == pair.all("old\n")
    assert pair.in_use()[0] == ("old\n",) * 2


def test_a_third_service_is_not_touched_where_the_second_refuses(pair, run):
    third = pair.host.more("third.service")
    pair.second.on("reload", TYPO)
    services = [*pair.services("typo\n"), {"unit": "third.service", "files": [entry(pair.host, "new\n", "e.cf")]}]
    assert run(services=services)["failed"]
    assert (third.active, third.enabled, (pair.host.etc / "e.cf").exists()) == ("inactive", "disabled", False)
    assert not [line for line in pair.verbs() if "third" in line]


def test_the_first_that_does_not_take_its_old_files_is_named(pair, run):
    pair.second.on("reload", TYPO)
    pair.host.on("reload-or-restart", "echo 'not those either' >&2; exit 1\n")
    message = run(services=pair.services("typo\n"))["msg"]
    assert f"the old files are back, but {FIRST} did not load them either (systemctl reload-or-restart {FIRST} failed: not those either)" in message
    assert pair.in_use()[1] == ("old\n",) * 2


@check_and_real
@pytest.mark.parametrize("state", ["started", "enabled"])
def test_two_services_with_one_port_are_refused(pair, run, check_mode, state):
    before = pair.host.tree()
    options = {"first": {"listens": [25, 10025]}, "second": {"listens": [10025], "state": state}}
    result = run(check_mode, services=pair.services("new\n", **options))
    if state == "enabled":
        assert "failed" not in result, "what a run does not start takes no port"
        return
    assert result["msg"] == f"port 10025 is {FIRST}'s, and {SECOND} cannot listen on it as well; give one of them another port; nothing was changed"
    assert (pair.host.tree(), pair.verbs()) == (before, [])


def test_a_service_that_is_stopped_has_no_port(pair, run):
    options = {"first": {"listens": [25]}, "second": {"listens": [25], "state": "stopped"}}
    assert "failed" not in run(services=pair.services("new\n", **options))


@check_and_real
@pytest.mark.parametrize("how", ["files", "absent", "another spelling"])
def test_two_services_with_one_file_are_refused(pair, run, check_mode, how):
    before = pair.host.tree()
    services = pair.services("new\n")
    path = str(pair.host.etc / "a.cf")
    if how == "absent":
        services[1]["absent"] = [path]
    else:
        services[1]["files"].append({**services[0]["files"][0], "path": path if how == "files" else path.replace("/etc/", "/etc//./")})
    result = run(check_mode, services=services)
    assert result["msg"] == f"{path} stands in files twice, of {FIRST} and of {SECOND}; nothing was changed"
    assert (pair.host.tree(), pair.verbs()) == (before, [])


@check_and_real
def test_validations_see_the_new_files_of_all_services(pair, run, check_mode):
    """Those of a service that needs nothing, too."""
    seen = pair.host.root / "seen"
    look = ["sh", "-c", f'cd "$1" && head -n 1 * >{seen}', "sh", "{stage}" + str(pair.host.etc)]
    services = [pair.services("new\n", first={"validate": [look]})[0], pair.services("old\n")[1]]
    assert "failed" not in run(check_mode, services=services)
    assert seen.read_text().split() == ["==>", "a.cf", "<==", "new", "==>", "b.cf", "<==", "new", "==>", "c.cf", "<==", "old", "==>", "d.cf", "<==", "old"]


@check_and_real
def test_nothing_changes_where_the_second_is_not_valid(pair, run, check_mode):
    before = pair.host.tree()
    result = run(check_mode, services=pair.services("new\n", second={"validate": [["sh", "-c", "echo broken; exit 1"]]}))
    assert result["msg"].startswith(f"{SECOND}: the new configuration is not valid, the old one stays in use. sh says: broken")
    assert (pair.host.tree(), pair.verbs()) == (before, [])


@check_and_real
@pytest.mark.parametrize("active", ["active", "inactive"])
def test_files_without_a_unit_are_always_validated(service, run, check_mode, active):
    """Whether a timer runs is no matter to what it starts."""
    service.set(ActiveState=active)
    before = service.tree("etc", "run", "unit")
    result = run(check_mode, services=[{"name": "rules", "files": [entry(service)], "validate": [["false"]]}])
    assert result["msg"].startswith("rules: the new configuration is not valid")
    assert service.tree("etc", "run", "unit") == before


@check_and_real
@pytest.mark.parametrize("loaded", ["loaded", "not-found"])
def test_files_without_a_unit_beside_a_unit_that_is_not_there_are_validated_too(service, run, check_mode, loaded):
    service.set(LoadState=loaded)
    services = [{"name": "rules", "files": [entry(service)], "validate": [["false"]]}, {"unit": UNIT, "files": [], "state": "enabled"}]
    assert run(check_mode, services=services)["msg"].startswith("rules: the new configuration is not valid")


@check_and_real
def test_a_unit_that_is_only_enabled_is_validated(running, run, check_mode):
    """The documentation excepts what is to be stopped."""
    before = running.tree()
    result = run(check_mode, files=[entry(running, "new\n")], state="enabled", validate=[["false"]])
    assert result.get("failed")
    assert running.tree() == before


# ---- files that others read --------------------------------------------------------------------------------------


@check_and_real
@pytest.mark.parametrize("how", ["changes", "comes", "goes", "was changed by hand", "goes as an obsolete one"])
def test_a_service_is_told_of_a_file_that_another_one_in_the_call_changes(pair, run, check_mode, how):
    shared = pair.host.etc / "shared.cf"
    reader = {"also_reads": [str(shared)]}
    here = [] if how == "comes" else [entry(pair.host, "old\n", "shared.cf")]
    writer = {"name": "writer", "files": here}
    run(services=[writer, *pair.services("old\n", second=reader)])
    assert not run(services=[writer, *pair.services("old\n", second=reader)])["changed"]
    if how == "was changed by hand":
        shared.write_text("by hand\n")
    before = pair.host.tree()
    if how == "goes as an obsolete one":
        wanted = {"name": "writer", "absent": [str(shared)]}
    else:
        wanted = {"name": "writer", "files": [entry(pair.host, {"goes": None, "was changed by hand": "old\n"}.get(how, "new\n"), "shared.cf")]}
    services = [wanted, *pair.services("old\n", second=reader)]
    result = run(check_mode, services=services)
    assert result["actions"] == {"writer": "files", SECOND: "reload"}
    if check_mode:
        assert pair.host.tree() == before
        return
    assert pair.verbs() == [f"reload {SECOND}"]
    assert (pair.second.unit / "in_use" / "shared.cf").exists() == shared.exists()
    assert not run(services=services)["changed"]


def test_a_service_that_stands_before_the_one_whose_file_it_reads_has_the_new_one_too(pair, run):
    services = pair.services("old\n", first={"also_reads": [str(pair.host.etc / "shared.cf")]})
    services.append({"name": "writer", "files": [entry(pair.host, "new\n", "shared.cf")]})
    result = run(services=services)
    if result.get("failed"):
        assert "shared.cf" in result["msg"], "it may be refused as well"
        return
    run(services=services)
    assert pair.host.in_use("shared.cf") == "new\n"


def test_a_reader_is_told_again_of_the_old_file_where_a_later_service_refuses(pair, run):
    shared = entry(pair.host, "old\n", "shared.cf")
    options = {"first": {"also_reads": [shared["path"]]}}
    run(services=[{"name": "writer", "files": [shared]}, *pair.services("old\n", **options)])
    pair.second.on("reload", TYPO)
    services = [{"name": "writer", "files": [{**shared, "content": "new\n"}]}, pair.services("old\n", **options)[0], pair.services("typo\n")[1]]
    assert run(services=services)["failed"]
    assert pair.verbs() == [f"reload {FIRST}", f"reload {SECOND}", f"reload-or-restart {FIRST}", f"reload-or-restart {SECOND}"]
    assert pair.host.in_use("shared.cf") == "old\n"


# ---- commands in place of a unit ---------------------------------------------------------------------------------


def command(service, text="old\n", **options):
    """Files whose command copies them, and says so where it has not."""
    taken = service.root / "taken"
    path = str(service.etc / "x.cf")
    return {
        "name": "rules",
        "files": [entry(service, text, "x.cf")],
        "run": ["sh", "-c", f'echo ran >>{service.root}/ran; grep -q typo {path} && {{ echo "bad line" >&2; exit 1; }}; cp {path} {taken}'],
        "run_check": ["sh", "-c", f"cmp {path} {taken} 2>/dev/null || echo differs"],
        **options,
    }


def ran(service):
    path = service.root / "ran"
    times = len(path.read_text().split()) if path.exists() else 0
    path.unlink(missing_ok=True)
    return times


def test_a_command_is_run_where_the_files_differ_or_its_check_says_so(service, run):
    taken = service.root / "taken"
    for text in ("one\n", "two\n"):
        said = run(check_mode=True, services=[command(service, text)])
        assert (said["actions"], ran(service)) == ({"rules": "run"}, 0)
        assert run(services=[command(service, text)])["actions"] == {"rules": "run"}
        assert (ran(service), taken.read_text()) == (1, text)
        assert (run(services=[command(service, text)])["changed"], ran(service)) == (False, 0)
    taken.write_text("by hand\n")
    for check_mode in (True, False):
        result = run(check_mode, services=[command(service, "two\n")])
        assert (result["actions"], result["files"]) == ({"rules": "run"}, [])
    assert (ran(service), taken.read_text()) == (1, "two\n")
    assert run(services=[command(service, "two\n", run_check=[])])["changed"] is False


@check_and_real
@pytest.mark.parametrize("check", [["false"], ["no-such-command"]])
def test_a_check_that_fails_asks_for_the_command(service, run, check_mode, check):
    run(services=[command(service)])
    assert run(check_mode, services=[command(service, run_check=check)])["actions"] == {"rules": "run"}


def test_a_command_that_fails_gives_all_files_back(pair, run):
    run(services=[command(pair.host)])
    before = etc(pair.host)
    ran(pair.host)
    result = run(services=[*pair.services("new\n"), command(pair.host, "typo\n")])
    assert result["failed"]
    assert result["msg"].startswith("rules: sh says: bad line; the old files are back and in use")
    assert {name: value[2] for name, value in etc(pair.host).items()} == {name: value[2] for name, value in before.items()}
    assert pair.in_use() == (("old\n",) * 2,) * 2
    assert (ran(pair.host), (pair.host.root / "taken").read_text()) == (2, "old\n")


def test_a_command_that_takes_the_old_files_no_more_is_said(pair, run):
    run(services=[command(pair.host)])
    fails = command(pair.host, "new\n", run=["sh", "-c", "echo broken >&2; exit 1"])
    message = run(services=[fails])["msg"]
    assert "the old files are back, but rules did not load them either" in message


@pytest.mark.parametrize("what", ["command", "systemctl"])
def test_a_command_that_is_not_there_gives_all_files_back(pair, run, what):
    """AnsibleModule.run_command() ends the module then."""
    services = pair.services("new\n")
    if what == "command":
        services.append(command(pair.host, "new\n", run=["no-such-command"]))
    else:
        pair.second.on("reload", "rm $FAKE_UNIT/../bin/systemctl; exit 1")
    result = run(services=services)
    assert result["failed"]
    assert pair.files() == pair.all("old\n")
    assert not (pair.host.state / "journal").exists()


def test_a_command_that_is_interrupted_gives_all_files_back(pair, run, monkeypatch):
    """Whatever ends the module: the journal may not outlive the names that it holds."""
    monkeypatch.setattr(_service.Service, "activate", lambda service: sys.exit(1))
    with contextlib.suppress(BaseException):
        run(services=pair.services("new\n"))
    monkeypatch.undo()
    _journal.undo(pair.host.state)
    assert pair.files() == pair.all("old\n")


def test_a_file_of_a_command_that_a_later_service_refuses_is_taken_back_by_the_command(pair, run):
    run(services=[command(pair.host)])
    pair.second.on("reload", TYPO)
    assert run(services=[command(pair.host, "new\n"), *pair.services("typo\n")])["failed"]
    assert (pair.host.root / "taken").read_text() == "old\n"


# ---- directories -------------------------------------------------------------------------------------------------


def directory(service, name, mode="0750", **more):
    return {"path": str(service.etc / name), "mode": mode, **ME, **more}


@check_and_real
def test_directories_are_made_with_their_mode(running, run, check_mode):
    before = running.tree()
    options = {"directories": [directory(running, "d/e"), directory(running, "f", "0700")]}
    result = run(check_mode, **options)
    assert (result["changed"], result["files"], result["actions"]) == (True, [], {UNIT: "files"})
    assert [part["prepared"] for part in result["diff"]] == [f"make the directory {running.etc / name}\n" for name in ("d/e", "f")]
    assert running.told == []
    if check_mode:
        assert running.tree() == before
        return
    assert [stat.S_IMODE((running.etc / name).stat().st_mode) for name in ("d/e", "f")] == [0o750, 0o700]
    assert not run(**options)["changed"]
    (running.etc / "f").chmod(0o755)
    assert run(**options)["changed"]
    assert stat.S_IMODE((running.etc / "f").stat().st_mode) == 0o700


def test_a_directory_is_there_before_the_service_is_told(service, run):
    service.on("start", "[ -d ../etc/d ] || exit 1")
    assert "failed" not in run(directories=[directory(service, "d")])


def test_a_directory_is_never_open_to_more_than_its_mode_names(service, run, monkeypatch):
    seen = []
    chown = os.chown
    monkeypatch.setattr(os, "chown", lambda path, *ids: (seen.append(stat.S_IMODE(os.stat(path).st_mode)), chown(path, *ids)))
    old = os.umask(0)
    try:
        run(directories=[directory(service, "d", "0700")])
    finally:
        os.umask(old)
    assert seen == [0o700]


@pytest.mark.parametrize(("wrong", "words"), [({"owner": "no-such-user"}, "no-such-user"), ({"mode": "u=rwx"}, "u=rwx")])
def test_a_directory_that_cannot_be_is_said_before_anything_is_changed(running, run, wrong, words):
    before = running.tree()
    result = run(files=[entry(running, "new\n")], directories=[directory(running, "d") | wrong])
    assert result["failed"]
    assert words in result["msg"]
    assert running.tree() == before


# ---- files that have to come from elsewhere ----------------------------------------------------------------------


def test_what_a_service_requires_is_waited_for(pair, run, monkeypatch):
    """Signatures that another service has begun to fetch, say."""
    came = pair.host.root / "daily.cvd"

    def monotonic():
        monotonic.asked += 1
        if monotonic.asked == 5:
            came.write_text("")
        return time.monotonic()

    monotonic.asked = 0
    monkeypatch.setattr(_services, "time", types.SimpleNamespace(monotonic=monotonic, sleep=lambda seconds: None))
    pair.second.on("reload", f"[ -e {came} ] || exit 1")
    services = pair.services("new\n", second={"requires": [str(pair.host.root / "daily.c[lv]d")], "requires_timeout": 60})
    assert "failed" not in run(services=services)
    assert pair.in_use() == (("new\n",) * 2,) * 2


def test_what_does_not_come_is_a_failure_with_all_files_back(pair, run, haste):
    services = pair.services("new\n", second={"requires": ["/etc/passwd", "/no/such/daily.c?d"], "requires_timeout": 1})
    result = run(services=services)
    assert result["failed"]
    assert f"{SECOND}: /no/such/daily.c?d is not there after 1 s; the old files are back and in use" in result["msg"]
    assert (pair.files(), pair.in_use()) == (pair.all("old\n"), (("old\n",) * 2,) * 2)
    assert pair.verbs() == [f"reload {FIRST}", f"reload-or-restart {FIRST}"]


@pytest.mark.parametrize("options", [{"state": "stopped"}, {"state": "enabled"}])
def test_what_is_not_started_requires_nothing(running, run, haste, options):
    assert "failed" not in run(requires=["/no/such/file"], requires_timeout=1, **options)


def test_a_service_that_needs_nothing_requires_nothing(running, run):
    assert not run(requires=["/no/such/file"])["changed"]


# ---- names that have to be found ---------------------------------------------------------------------------------


def test_a_resolver_that_finds_nothing_is_a_failure_with_the_old_files_back(pair, run, haste, monkeypatch):
    asked = []
    monkeypatch.setattr(_resolvers, "problem", lambda servers, names: asked.append((servers, names)) or "the resolver 127.0.0.1 does not answer")
    services = pair.services("new\n", second={"resolves": {"nameservers": ["127.0.0.1"], "names": ["mail.example.com"]}, "timeout": 1})
    result = run(services=services)
    assert f"{SECOND}: the resolver 127.0.0.1 does not answer after 1 s; the old files are back and in use" in result["msg"]
    assert asked[0] == (["127.0.0.1"], ["mail.example.com"])
    assert pair.in_use() == (("old\n",) * 2,) * 2
    monkeypatch.setattr(_resolvers, "problem", lambda servers, names: "")
    assert "failed" not in run(services=services)


# ---- a unit that acts at boot ------------------------------------------------------------------------------------


@check_and_real
@pytest.mark.parametrize("active", ["active", "inactive", "failed"])
@pytest.mark.parametrize("enabled", ["enabled", "disabled"])
def test_a_unit_that_is_to_be_enabled_is_neither_started_nor_stopped(service, run, check_mode, active, enabled):
    service.set(ActiveState=active, UnitFileState=enabled)
    result = run(check_mode, state="enabled", wait_for=[{"address": "127.0.0.1:1", "expect": "x"}])
    assert (result["changed"], service.active) == (True, active)
    assert service.told == ([] if check_mode or enabled == "enabled" else [f"enable {UNIT}"])
    assert result["actions"] == {UNIT: "files" if enabled == "enabled" else "enable"}
    if not check_mode:
        assert service.enabled == "enabled"
        assert not run(state="enabled")["changed"]
        assert service.told == []


def test_a_unit_that_was_enabled_for_a_second_that_refuses_is_disabled_again(service, run):
    pair = Pair(service)
    pair.second.on("start", TYPO)
    assert run(services=pair.services("typo\n", first={"state": "enabled"}))["failed"]
    assert (service.enabled, service.active) == ("disabled", "inactive")
    assert f"stop {FIRST}" not in pair.verbs()


# ---- who can read what is on its way -----------------------------------------------------------------------------


@contextlib.contextmanager
def watched(host, monkeypatch):
    """Record the permissions of every file on its way whenever anything is opened, synced, renamed or made."""
    seen = {}

    def look():
        for path in [*host.run.rglob("*"), *host.etc.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):
                if not path.is_symlink() and path.is_file():
                    seen.setdefault(path.name.replace("antispam-", ""), set()).add((stat.S_IMODE(path.stat().st_mode), path.stat().st_size > 0))

    def looking(function):
        @functools.wraps(function)
        def call(*words, **more):
            result = function(*words, **more)
            look()
            return result

        return call

    old = os.umask(0)
    with monkeypatch.context() as patched:
        for name in ("open", "fchmod", "fchown", "fsync", "rename", "replace", "link", "chmod", "utime"):
            patched.setattr(os, name, looking(getattr(os, name)))
        try:
            yield seen
        finally:
            os.umask(old)


@check_and_real
def test_a_secret_file_is_never_readable_for_others(running, run, check_mode, monkeypatch):
    """Neither staged nor aside, not for an instant, whatever the umask."""
    (running.etc / "main.cf").unlink()
    with watched(running, monkeypatch) as seen:
        run(check_mode, files=[secret(running)], validate=[["true"]])
    of_it = {name: modes for name, modes in seen.items() if "main.cf" in name}
    assert "main.cf" in of_it
    if not check_mode:
        assert any(name.startswith(".main.cf.") for name in of_it)
    open_to_others = {name: {oct(mode) for mode, _filled in modes if mode & 0o077} for name, modes in of_it.items()}
    assert not any(open_to_others.values()), open_to_others


@check_and_real
def test_the_stage_is_written_by_nobody_else_whatever_the_umask(running, run, check_mode):
    seen = running.root / "seen"
    old = os.umask(0)
    try:
        run(check_mode, files=[entry(running, "new\n")], validate=[["sh", "-c", f"find {running.run} -type d -perm /022 >{seen}"]])
    finally:
        os.umask(old)
    assert seen.read_text() == ""


@pytest.mark.parametrize("name", ["antispam-gateway.{dead}.abcd1234", "antispam-gateway.x"])
def test_the_stage_of_a_run_that_was_killed_is_removed_by_the_next(running, run, name):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    left = running.run / name.format(dead=child)
    (left / "etc").mkdir(parents=True)
    (left / "etc" / "main.cf").write_text(SECRET)
    mine = running.run / f"antispam-gateway.{os.getppid()}.abcd1234"
    mine.mkdir()
    other = running.run / "antispam.sock"
    other.write_text("")
    run(check_mode=True)
    assert left.exists()
    assert not run()["changed"]
    assert sorted(running.run.iterdir()) == sorted([mine, other])


@pytest.mark.parametrize("wanted", ["new\n", CONTENT])
def test_files_that_a_run_that_was_killed_left_aside_are_removed_by_the_next(running, run, wanted):
    """One that changes nothing, too."""
    killed(running, [{"unit": UNIT, "files": [entry(running, "other\n")]}], "before the journal")
    assert len(list(running.etc.iterdir())) == 3
    run(files=[entry(running, wanted)])
    assert [path.name for path in running.etc.iterdir()] == ["main.cf"]


# ---- a run that is killed ----------------------------------------------------------------------------------------


def die(*_words, **_more):
    os._exit(42)


def die_after(function, times=1):
    """The call with this number is the last thing that happens."""
    left = [times]

    def call(*words, **more):
        result = function(*words, **more)
        left[0] -= 1
        if not left[0]:
            os._exit(42)
        return result

    return call


def dying_at_note(before):
    """Before or after the first note of what a service was given. Copies of old files are written before."""
    replace = _files.replace

    def call(path, *words):
        if path.suffix != ".applied":
            return replace(path, *words)
        if not before:
            replace(path, *words)
        os._exit(42)

    _files.replace = call


def dying_between_files(times):
    switch = _files.switch

    def one_by_one(files):
        for file in files:
            switch([file])
            one_by_one.left -= 1
            if not one_by_one.left:
                os._exit(42)

    one_by_one.left = times
    _files.switch = one_by_one


# {where: what makes a child die there}


def _killed():
    return {
        "before the journal": lambda: setattr(_journal, "write", die),
        "while the journal is written": lambda: setattr(json, "dump", lambda *words: (words[1].write('{"files": ['), words[1].flush(), os._exit(42))),
        "after the journal": lambda: setattr(_journal, "write", die_after(_journal.write)),
        "between two files of the first": lambda: dying_between_files(1),
        "between files and reload": lambda: dying_between_files(2),
        "while the first reloads": lambda: setattr(_services.Unit, "apply", die),
        "between two services": lambda: setattr(_service.Service, "activate", die_after(_service.Service.activate)),
        "between two files of the second": lambda: dying_between_files(3),
        "after the last file": lambda: dying_between_files(4),
        "before the journal ends": lambda: setattr(_journal, "end", die_at_end),
    }


KILLED = _killed()


def _completed():
    return {
        "after the journal": lambda: setattr(_transaction, "remember", die),
        "while it is noted": lambda: dying_at_note(before=True),
        "between two notes": lambda: dying_at_note(before=False),
    }


COMPLETED = _completed()
# While the old files come back, because the second service has refused.


def _undoing():
    return {
        "before the old files": lambda: setattr(_files, "restore", die),
        "between two old files": lambda: setattr(_files, "restore", lambda files: (RESTORE(files[:1]), os._exit(42))),
        "before the journal ends": lambda: setattr(_files, "restore", die_after(_files.restore)),
        "before the first is told": lambda: setattr(_service.Service, "roll_back", die),
        "before the second is told": lambda: setattr(_service.Service, "roll_back", die_after(_service.Service.roll_back)),
    }


UNDOING = _undoing()
RESTORE = _files.restore
JOURNAL_END = _journal.end


def die_at_end(directory):
    """The end of undo(), with which a run begins, is not meant."""
    if (directory / "journal").exists():
        os._exit(42)
    JOURNAL_END(directory)


def killed(host, services, where, steps=None):
    """Run until there, where the process is no more: nothing is put back and nothing cleaned up."""
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        (steps or KILLED)[where]()
        with patch_module_args({"services": services, "_ansible_tmpdir": str(host.root)}), contextlib.suppress(SystemExit):
            service_config.main()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def recover(host):
    """What a host does when it starts: the journal's script alone, with nothing but the standard library."""
    script = "import pathlib, runpy, sys; runpy.run_path(sys.argv[1])['undo'](pathlib.Path(sys.argv[2]))"
    subprocess.run(["/usr/bin/env", "python3", "-I", "-S", "-c", script, _journal.__file__, str(host.state)], check=True, cwd="/")


def applied(host):
    return sorted(path.name for path in host.state.glob("*.applied"))


@pytest.mark.parametrize("how", ["script", "next run", "next run for the old", "check mode"])
@pytest.mark.parametrize("where", KILLED)
def test_a_run_that_was_killed_is_undone(pair, run, where, how):
    killed(pair.host, pair.services("new\n"), where)
    if how == "script":
        recover(pair.host)
        assert {name: value for name, value in pair.files().items() if "antispam-" not in name} == pair.all("old\n")
        assert not (pair.host.state / "journal").exists()
        recover(pair.host)
    if how == "check mode":
        before = pair.host.tree()
        run(check_mode=True, services=pair.services("new\n"))
        assert pair.host.tree() == before
    wanted = "old\n" if how == "next run for the old" else "new\n"
    result = run(services=pair.services(wanted))
    assert "failed" not in result
    journal_stood = where not in ("before the journal", "while the journal is written")
    assert result["undone"] == ([FIRST, SECOND] if journal_stood and how != "script" else [])
    assert pair.files() == pair.all(wanted)
    assert pair.in_use() == ((wanted,) * 2,) * 2
    assert applied(pair.host) == [f"{unit}.applied" for unit in sorted((FIRST, SECOND))]
    assert [path.name for path in pair.host.state.iterdir() if path.name.startswith("journal") and path.name != "journal.new"] == []
    assert not run(services=pair.services(wanted))["changed"]


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("where", COMPLETED)
def test_a_run_that_was_killed_after_all_had_taken_their_files_is_completed(pair, run, where, script):
    killed(pair.host, pair.services("new\n"), where, COMPLETED)
    if script:
        recover(pair.host)
    assert {name: value for name, value in pair.files().items() if "antispam-" not in name} == pair.all("new\n")
    assert run(services=pair.services("new\n"))["undone"] == []
    assert (pair.files(), pair.in_use()) == (pair.all("new\n"), (("new\n",) * 2,) * 2)
    assert not run(services=pair.services("new\n"))["changed"]


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("where", UNDOING)
def test_a_run_that_was_killed_while_it_went_back_is_undone(pair, run, where, script):
    pair.second.on("reload", TYPO)
    killed(pair.host, pair.services("typo\n"), where, UNDOING)
    if script:
        recover(pair.host)
        assert {name: value for name, value in pair.files().items() if "antispam-" not in name} == pair.all("old\n")
    run(services=pair.services("old\n"))
    assert (pair.files(), pair.in_use()) == (pair.all("old\n"), (("old\n",) * 2,) * 2)
    assert not run(services=pair.services("old\n"))["changed"]


@pytest.mark.parametrize("where", ["between two files of the first", "between two services", "before the journal ends"])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_undoing_may_be_killed_as_well(pair, run, where, times):
    killed(pair.host, pair.services("new\n"), where)
    child = os.fork()
    if not child:
        pathlib.Path.unlink = die_after(pathlib.Path.unlink, times)
        _journal.undo(pair.host.state)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    recover(pair.host)
    assert {name: value for name, value in pair.files().items() if "antispam-" not in name} == pair.all("old\n")


@pytest.mark.parametrize("where", ["between two files of the first", "between two services", "before the journal ends"])
def test_files_that_came_and_went_in_a_run_that_was_killed_are_as_before(pair, run, where):
    old = pair.host.write("gone.cf", "gone\n", mode=0o604)
    (pair.host.etc / "link.cf").symlink_to("a.cf")
    services = pair.services("new\n")
    services[0]["files"] = [
        entry(pair.host, None, "gone.cf"),
        entry(pair.host, "new\n", "sub/come.cf"),
        entry(pair.host, "new\n", "link.cf"),
        *services[0]["files"],
    ]
    killed(pair.host, services, where)
    recover(pair.host)
    assert (stat.S_IMODE(old.stat().st_mode), old.read_text()) == (0o604, "gone\n")
    assert os.readlink(pair.host.etc / "link.cf") == "a.cf"
    assert not (pair.host.etc / "sub" / "come.cf").exists()
    assert (pair.host.etc / "a.cf").read_text() == "old\n"


def test_a_first_run_that_was_killed_leaves_no_files(service, run):
    pair = Pair(service)
    killed(service, pair.services("new\n"), "between two services")
    recover(service)
    assert [path.name for path in service.etc.iterdir() if "antispam-" not in path.name] == []
    assert applied(service) == []


def test_where_there_is_no_journal_nothing_is_undone(running):
    before = running.tree()
    recover(running)
    assert _journal.undo(running.state) == []
    assert running.tree() == before


def test_the_journal_ends_with_the_run(pair, run):
    run(services=pair.services("new\n"))
    pair.second.on("reload", TYPO)
    run(services=pair.services("typo\n"))
    assert not [path.name for path in pair.host.state.iterdir() if path.name.startswith("journal")]


# ---- two runs at once --------------------------------------------------------------------------------------------


def test_what_has_changed_is_looked_at_when_nobody_else_changes_anything(running, run):
    """The second run wants what the first is about to do."""
    running.on("reload", "touch in-reload; for _try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e go-on ] || sleep 0.02; done\n")
    wanted = [{"unit": UNIT, "files": [entry(running, "new\n")]}]
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        with patch_module_args({"services": wanted, "_ansible_tmpdir": str(running.root)}), contextlib.suppress(SystemExit):
            service_config.main()
        os._exit(0)
    wait_until((running.unit / "in-reload").exists)
    result = run(services=wanted)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (result["changed"], result["undone"]) == (False, [])
    assert running.in_use() == "new\n"


# ---- secrets of several services ---------------------------------------------------------------------------------


@check_and_real
def test_a_validation_that_prints_a_secret_of_another_service_does_not_tell_it(pair, run, check_mode):
    """It sees the files of all."""
    services = pair.services("new\n", second={"validate": [["sh", "-c", f"cat {{stage}}{pair.host.etc}/main.cf; exit 1"]]})
    services[0]["files"].append(secret(pair.host))
    result = run(check_mode, services=services)
    assert result["failed"]
    assert SECRET not in run.printed


def test_a_first_service_that_prints_its_secret_when_it_goes_back_does_not_tell_it(pair, run):
    services = pair.services("typo\n")
    services[0]["files"].append(secret(pair.host))
    pair.host.on("reload-or-restart", f"echo {shlex.quote(SECRET_LINE)} >&2; exit 1")
    pair.second.on("reload", TYPO)
    assert "did not load them either" in run(services=services)["msg"]
    assert SECRET not in run.printed


@check_and_real
def test_what_is_secret_in_an_old_file_is_not_told(running, run, check_mode):
    running.write("main.cf", f"key = {KEYS[0]}\nother = line\nkey = {KEYS[1]}\n")
    result = run(check_mode, files=[entry(running, "key = new\nother = line\n")], secret_in_old_files=r"key = (\S+)")
    assert "other = line" in result["diff"][0]["before"]
    assert not [key for key in KEYS if key in run.printed]


def test_a_secret_in_an_old_file_may_be_empty(running, run):
    running.write("main.cf", "key = \nother = line\n")
    result = run(check_mode=True, secret_in_old_files=r"key = (\S*)")
    assert result["diff"][0]["before"] == "key = \nother = line\n"


# ---- documentation -----------------------------------------------------------------------------------------------


def test_the_documented_result_is_the_result(running, run):
    assert set(yaml.safe_load(service_config.RETURN)) == set(run()) - {"changed", "invocation", "diff", "action"}
