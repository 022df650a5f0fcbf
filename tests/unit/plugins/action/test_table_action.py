# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole tasks, on this host: from the sources to the table, as a playbook runs them."""

from __future__ import annotations

import base64
import grp
import http.server
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
import yaml
from _checkout import CHECKOUT
from ansible_collections.antispam.gateway.plugins.module_utils import _lmdb
from ansible_collections.antispam.gateway.plugins.modules import relay_recipients, sender_scores

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
SECRETS = ("Geheim-4711", base64.b64encode(b"reader:Geheim-4711").decode(), "token-0815")


class Controller:
    def __init__(self, root):
        self.root, self.log = root, ""
        (root / "users.txt").write_text("a@example.com\nb@example.com\n")
        (root / "ansible.cfg").write_text("[defaults]\n")
        # A copy whose hosts keep their state here.
        collection = root / "collections" / "ansible_collections" / "antispam" / "gateway"
        for part in ("plugins", "meta"):
            shutil.copytree(CHECKOUT / part, collection / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "galaxy.yml", collection)
        files = collection / "plugins" / "module_utils" / "_journal.py"
        text = files.read_text()
        assert "/var/lib/antispam-gateway" in text
        files.write_text(text.replace("/var/lib/antispam-gateway", str(root / "state")))

    def play(self, module, arguments, *words, hosts=("one",), **keywords):
        """Run one task on each host, with keywords of the task; return the status of ansible-playbook."""
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "The table", f"antispam.gateway.{module}": arguments, **keywords}]}]
        (self.root / "play.yml").write_text(json.dumps(play))
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {host: {"table": str(self.root / host)} for host in hosts}, "vars": local}}
        (self.root / "inventory.yml").write_text(json.dumps(inventory))
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(self.root / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.root / "tmp"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_COLLECTIONS_PATH": str(self.root / "collections"),
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
        }
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.root / "inventory.yml"), str(self.root / "play.yml"), *words]
        done = subprocess.run(command, env=environment, cwd=self.root, capture_output=True, text=True, timeout=120, check=False)
        self.log = done.stdout + done.stderr
        return done.returncode

    def recap(self, host="one"):
        (line,) = [line for line in self.log.splitlines() if line.startswith(f"{host} ") and "ok=" in line]
        return {name: int(number) for name, number in (word.split("=") for word in line.split() if "=" in word)}

    def stored(self, host="one"):
        found = _lmdb.read(self.root / f"{host}.lmdb")
        return None if found is None else sorted(key.decode() for key in found)


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path)


def recipients(*sources, **options):
    return {"path": "{{ table }}", "domains": ["example.com"], "sources": list(sources or [{"path": "users.txt"}]), **ME, **options}


def test_recipients_follow_their_source(controller):
    assert controller.play("relay_recipients", recipients()) == 0, controller.log
    assert (controller.recap()["changed"], controller.stored()) == (1, ["a@example.com", "b@example.com"])
    assert controller.play("relay_recipients", recipients(), "-v") == 0
    assert (controller.recap()["changed"], '"unchanged": 2' in controller.log) == (0, True)

    (controller.root / "users.txt").write_text("a@example.com\nnew@example.com\nb@example.com\n")
    assert controller.play("relay_recipients", recipients(), "--check", "--diff", "-v") == 0
    assert controller.stored() == ["a@example.com", "b@example.com"]
    assert controller.recap()["changed"] == 1
    for words in ("+new@example.com", '"+1 -0 in example.com"'):
        assert words in controller.log
    assert controller.play("relay_recipients", recipients()) == 0
    assert (controller.recap()["changed"], controller.stored()) == (1, ["a@example.com", "b@example.com", "new@example.com"])


def test_a_bad_address_is_named_with_its_file_and_line_and_nothing_changes(controller):
    controller.play("relay_recipients", recipients())
    (controller.root / "users.txt").write_text("a@example.com\nb@example.com\nno address\n")
    assert controller.play("relay_recipients", recipients()) != 0
    assert "sources[0] (users.txt) line 3: 'no address' is not an address" in controller.log
    assert "nothing was changed" in controller.log
    assert "Traceback" not in controller.log
    assert controller.stored() == ["a@example.com", "b@example.com"]
    assert controller.play("relay_recipients", recipients(on_invalid="skip"), "-v") == 0
    assert '"left_out": 1' in controller.log
    assert controller.recap()["skipped"] == 0
    assert "1 recipient left out: sources[0] (users.txt) line 3" in controller.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"domains": ["not a domain"]}, "not a domain"),
        ({"sources": [{"path": "no-such-file"}]}, "no-such-file"),
        ({"sources": [{"path": "users.txt", "url": "https://www.example.com/"}]}, "mutually exclusive"),
        ({"mode": "u=rw"}, "u=rw"),
    ],
)
def test_a_mistake_in_the_task_is_one_clear_error(controller, arguments, words):
    assert controller.play("relay_recipients", recipients(**arguments)) != 0
    assert words in controller.log
    assert "Traceback" not in controller.log
    assert controller.stored() is None


OWN = {name: name for name in ("domains", "recipients", "sources", "on_invalid", "allow_removals", "scores")}
VARIABLES = {
    "domains": "gateway_domains",
    "recipients": "gateway_recipients",
    "sources": "gateway_recipient_sources",
    "on_invalid": "gateway_recipients_on_invalid",
    "allow_removals": "gateway_recipients_allow_removals",
    "scores": "gateway_sender_scores",
}
CALLED = {
    "an address of the list": ({"recipients": ["a@example.com", "no address"]}, "{recipients} entry 2: 'no address' is not an address"),
    "an address of a source": (
        {"sources": [{"path": "users.txt"}, {"addresses": ["x"], "name": "the heads"}]},
        "{sources}[1] (the heads) entry 1: 'x' is not an address",
    ),
    "a source that is not there": ({"sources": [{"path": "users.txt"}, {"path": "none"}]}, "{sources}[1] (none): cannot read"),
    "an option that is unknown": ({"sources": [{"path": "users.txt"}, {"path": "users.txt", "colour": "red"}]}, "{sources}[1]: colour"),
    "options that contradict each other": (
        {"sources": [{"path": "users.txt", "column": "mail"}]},
        "{sources}[0] (users.txt): column is an option of csv files",
    ),
    "a domain of a source": (
        {"sources": [{"path": "users.txt", "domains": ["example.net"]}]},
        "{sources}[0] (users.txt): domains names example.net, which is not in {domains}",
    ),
    "what is no domain": ({"domains": ["a b"]}, "{domains}: 'a b' is not a domain name"),
    "nothing at all": ({"sources": []}, "{recipients} and {sources} are empty"),
    "the way out": ({"recipients": ["x"]}, "1 recipient cannot be taken ({on_invalid}: skip leaves out what cannot be taken)"),
    "too many removals": ({"recipients": ["z@example.com"]}, "set {allow_removals}: true for one run"),
}  # fmt: skip


@pytest.mark.parametrize("variables", [{}, VARIABLES], ids=["module", "role"])
@pytest.mark.parametrize("what", CALLED)
def test_an_error_calls_options_what_their_writer_calls_them(controller, what, variables):
    arguments, words = CALLED[what]
    if what == "too many removals":
        assert controller.play("relay_recipients", recipients()) == 0
        arguments = {**arguments, "sources": [], "max_removed_few": 0}
    assert controller.play("relay_recipients", recipients(**{**arguments, "variables": variables})) != 0
    message = re.search(r"\[ERROR\]: (.*?)(?=\nOrigin|\Z)|\"msg\": (.*)", controller.log, re.DOTALL)[0]
    assert words.format(**{**OWN, **variables}) in message.replace("\\n", "\n"), controller.log
    assert "nothing was changed" in message
    if variables:
        # No bare name of an option that has another one there.
        assert not re.search(r"(?<![\w.])(on_invalid|allow_removals|sources\[)", message.partition("Task failed: ")[2] or message), message


def test_sender_scores_are_named_as_well_and_no_way_out_that_is_none(controller):
    arguments = {"path": "{{ table }}", "scores": {"example.org": "many"}}
    assert controller.play("sender_scores", arguments) != 0
    assert "1 sender score cannot be taken (on_invalid: skip leaves out what cannot be taken)" in controller.log
    assert "scores['example.org']: 'many' is not a score" in controller.log
    assert controller.play("sender_scores", {**arguments, "variables": {"scores": "gateway_sender_scores"}}) != 0
    assert "1 sender score cannot be taken:" in controller.log
    assert "gateway_sender_scores['example.org']: 'many' is not a score" in controller.log


def test_each_mistake_is_told_once_and_all_are_counted(controller):
    (controller.root / "users.txt").write_text("".join(f"mistake{number}\n" for number in range(1860)))
    assert controller.play("relay_recipients", recipients()) != 0
    message = controller.log.partition("fatal: ")[0] or controller.log
    assert "1,860 recipients cannot be taken" in message
    assert "and 1,840 more" in message
    assert [message.count(f"'mistake{number}'") for number in (0, 19, 20)] == [1, 1, 0], message
    assert controller.play("relay_recipients", recipients({"path": "users.txt"}, {"addresses": ["a@example.com"]}, on_invalid="skip")) == 0
    assert "1,860 recipients left out: " in controller.log
    assert "and 1,857 more" in controller.log


@pytest.mark.parametrize(("tasks", "module"), [("roles/postfix/tasks/recipients.yml", relay_recipients), ("roles/amavis/tasks/scores.yml", sender_scores)])
def test_the_roles_say_what_their_variables_are_called(tasks, module):
    [task] = yaml.safe_load((CHECKOUT / tasks).read_text())
    [options] = [value for key, value in task.items() if key.startswith("antispam.gateway.")]
    taken = {option: value.strip("{} ") for option, value in options.items() if re.fullmatch(r"{{ gateway_\w+ }}", str(value))}
    assert taken.items() <= options["variables"].items()
    assert options["variables"].keys() <= options.keys() & module.ARGUMENTS.keys()


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers["Authorization"])
        allowed = self.headers["Authorization"] == f"Basic {SECRETS[1]}"
        body = b"a@example.com\nb@example.com\n" if allowed else b"Geheim-4711 is wrong"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(serve):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.asked = []
    return serve(server)


def test_two_hosts_ask_a_server_once_and_its_password_is_nowhere(controller, server):
    source = {"url": f"http://127.0.0.1:{server.server_address[1]}/users.txt?token=token-0815", "username": "reader", "password": "Geheim-4711"}
    assert controller.play("relay_recipients", recipients(source), "-vvvv", "--diff", hosts=("one", "two")) == 0, controller.log
    assert len(server.asked) == 1
    assert controller.stored("one") == controller.stored("two") == ["a@example.com", "b@example.com"]
    logs = [controller.log]
    assert controller.play("relay_recipients", recipients({**source, "password": "Geheim-4711x"}), "-vvvv") != 0
    logs.append(controller.log)
    for secret in SECRETS:
        assert not any(secret in log for log in logs)
        for path in controller.root.rglob("*"):
            if path.is_file() and path.name != "play.yml" and "collections" not in path.parts:
                assert secret.encode() not in path.read_bytes()


@pytest.fixture
def silent():
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_task_whose_time_is_over_does_not_wait_for_its_source(controller, silent):
    source = {"url": f"http://127.0.0.1:{silent}/users.txt", "timeout": 90}
    started = time.monotonic()
    # The second host has to wait until the first one's worker is gone.
    assert controller.play("relay_recipients", recipients(source), "--forks=1", hosts=("one", "two"), timeout=2) != 0
    assert time.monotonic() - started < 60
    assert "timed out" in controller.log.lower(), controller.log
    assert controller.stored() is None
    # Nobody holds the cache any more.
    assert controller.play("relay_recipients", recipients()) == 0, controller.log
