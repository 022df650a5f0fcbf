# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a systemctl that keeps one unit in files, takes its configuration up, and can be told to fail."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pathlib
import pwd
import resource
import select
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import types

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _services
from ansible_collections.antispam.gateway.plugins.modules import service_config

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
UNIT = "test.service"
CONTENT = "one\ntwo\n"

SYSTEMCTL = """\
#!/bin/sh
cd "$FAKE_UNIT" || exit 9
echo "$*" >>told
if [ -e "on-$1" ]; then . "./on-$1"; fi
case "$1 $2" in
"show --property=MainPID") cat MainPID ;;
"show "*) for property in LoadState ActiveState UnitFileState TriggeredBy; do echo "$property=$(cat $property)"; done ;;
"start "*|"restart "*|"reload "*|"reload-or-restart "*) echo active >ActiveState; rm -rf in_use; cp -a ../etc in_use ;;
"stop "*) echo inactive >ActiveState ;;
"enable "*) echo enabled >UnitFileState ;;
"disable "*) echo disabled >UnitFileState ;;
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


@pytest.fixture
def service(tmp_path, monkeypatch):
    host = Service(tmp_path)
    monkeypatch.setenv("FAKE_UNIT", str(host.unit))
    monkeypatch.setenv("PATH", f"{host.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(_files, "STATE_DIRECTORY", host.state)

    def mkdtemp(prefix, dir):
        assert dir == "/run"
        return tempfile.mkdtemp(prefix=prefix, dir=host.run)

    monkeypatch.setattr(service_config, "tempfile", types.SimpleNamespace(mkdtemp=mkdtemp))
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
    def run_module(check_mode=False, **arguments):
        module_arguments = {
            "unit": UNIT,
            "files": [entry(service)],
            **arguments,
            "_ansible_check_mode": check_mode,
            "_ansible_diff": True,
            "_ansible_tmpdir": str(service.root),
        }
        (service.unit / "told").write_text("")
        result = call_main(service_config, **module_arguments)
        run_module.printed = call_main.printed
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
    "another task changed a file": Case("reload", RELOAD, files=[], also_changed=True),
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

    if "also_changed" not in case.arguments:
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


@pytest.mark.parametrize(("options", "told"), [({"also_changed": True}, RELOAD), ({"files": []}, RELOAD)])
def test_nothing_of_its_own_changed(running, run, options, told):
    result = run(**options)
    assert result["files"] == []
    assert running.told == told


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
    assert "did not take them up either" in result["msg"]
    # What the service uses now is not known: the next run makes sure, though no file differs.
    for hook in ("reload", verb):
        running.on(hook, "")
    assert run()["action"] == "reload"


def test_a_stop_that_fails_after_a_start_that_failed_is_said(service, run):
    service.write("main.cf", CONTENT)
    before = etc(service)
    service.on("start", fails_with("no"))
    service.on("stop", "echo 'does not stop' >&2; exit 1")
    result = run(files=broken(service))
    assert "does not stop" in result["msg"]
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
    assert UNIT in result["msg"]
    assert running.tree("etc", "unit", "run") == {name: value for name, value in before.items() if not name.startswith("state/")}
    assert run(files=files)["action"] == "reload"
    assert running.in_use() == "three\n"


def test_the_old_files_come_back_on_a_full_disk(running, run):
    """The old file is larger than the room that is left."""
    large = running.write("main.cf", "x" * 100_000, mode=0o640)
    before = etc(running)
    running.on("reload", fails_with("no"))
    with limited(50_000):
        result = run(files=broken(running))
    assert result["failed"]
    assert "systemctl reload" in result["msg"]
    assert etc(running) == before
    assert large.stat().st_size == 100_000


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

    module_arguments = {"unit": UNIT, "files": files, **arguments, "_ansible_tmpdir": str(service.root)}
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


def test_a_marker_of_another_time_is_no_marker(running, run):
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
        with patch_module_args({"unit": UNIT, "files": [entry(running, "first\n")], "_ansible_tmpdir": str(running.root)}):
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
    assert service_config.host_and_port(address) == parts


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


# ---- files of another time ---------------------------------------------------------------------------------------


@check_and_real
def test_a_file_of_another_time_goes_and_the_service_is_not_told(running, run, check_mode):
    (running.etc / "old.db").write_bytes(b"\0\1")
    result = run(check_mode, absent=[str(running.etc / "old.db")])
    assert result["changed"]
    assert result["files"] == [str(running.etc / "old.db")]
    assert result["diff"][0]["before"] == "(binary)\n"
    assert (running.etc / "old.db").exists() == check_mode
    assert running.told == []


def test_a_file_of_another_time_makes_no_restart_of_a_reload(running, run):
    (running.etc / "old.db").write_bytes(b"inet_interfaces = all\n")
    run(files=[entry(running, "one\nthree\n")], absent=[str(running.etc / "old.db")], restart_on=["^inet_interfaces"])
    assert running.told == RELOAD
    (running.etc / "older.db").write_bytes(b"inet_interfaces = all\n")
    run(files=[entry(running, "one\nfour\n")], absent=[str(running.etc / "older.db")], restart_on=["^inet_interfaces"])
    assert running.told == RELOAD


def test_a_file_of_another_time_comes_back_with_the_old_files(running, run):
    (running.etc / "old.db").write_bytes(b"\0\1")
    running.on("reload", "exit 1")
    before = etc(running)
    assert run(files=broken(running), absent=[str(running.etc / "old.db")])["failed"]
    assert etc(running) == before
