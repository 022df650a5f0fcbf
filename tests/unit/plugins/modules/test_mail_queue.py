# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules mail_queue and mail_account ask their commands; tests/gateway acts on a real queue."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.modules import mail_account, mail_queue


class Ended(Exception):
    """The module has said its result."""


@pytest.fixture(name="asked")
def _asked(monkeypatch):
    """Return a function that runs a module with a command that answers this, and returns (what was asked, the result)."""

    def run(module, arguments, answer=(0, "{}", ""), check_mode=False):
        commands: list[list[str]] = []
        results: list[dict[str, object]] = []

        def run_command(_module, words, **_options):
            commands.append(words)
            return answer

        def end(failed):
            def say(_module, **result):
                results.append({"failed": failed, **result})
                raise Ended

            return say

        monkeypatch.setattr(AnsibleModule, "run_command", run_command)
        monkeypatch.setattr(AnsibleModule, "exit_json", end(False))
        monkeypatch.setattr(AnsibleModule, "fail_json", end(True))
        given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check_mode}}
        monkeypatch.setattr("ansible.module_utils.basic._ANSIBLE_ARGS", json.dumps(given).encode())
        monkeypatch.setattr("ansible.module_utils.basic._ANSIBLE_PROFILE", "legacy")
        with pytest.raises(Ended):
            module.main()
        return commands, results[-1]

    return run


MESSAGES = json.dumps({"messages": [{"queue_id": "4cXh2k1Zr8z5k"}]})


def test_conditions_become_options_of_the_command(asked):
    arguments = {"action": "hold", "sender": "@example.com", "reason": "refused", "older_than": "2h", "queue": "deferred", "queue_ids": ["a", "b"]}
    commands, result = asked(mail_queue, arguments, (0, MESSAGES, ""), check_mode=True)
    conditions = ["--from=@example.com", "--reason=refused", "--older-than=2h", "--queue=deferred", "--id=a", "--id=b"]
    assert commands == [[mail_queue.COMMAND, "hold", "--json", *conditions, "--dry-run"]]
    assert (result["failed"], result["changed"]) == (False, True)


@pytest.mark.parametrize(("action", "answer", "changed"), [("list", MESSAGES, False), ("flush", MESSAGES, True), ("flush", '{"messages": []}', False)])
def test_only_what_was_done_is_a_change(asked, action, answer, changed):
    assert asked(mail_queue, {"action": action, "all": True}, (0, answer, ""))[1]["changed"] is changed


def test_nothing_is_done_to_everything_unasked(asked):
    commands, result = asked(mail_queue, {"action": "delete"})
    assert commands == []
    assert result["msg"] == "action delete: say which messages are meant, by sender, recipient, reason, older_than, queue or queue_ids, or set all: true"


@pytest.mark.parametrize(("module", "arguments"), [(mail_queue, {}), (mail_account, {"name": "alice@example.com", "state": "active"})])
def test_what_the_command_says_is_the_error(asked, module, arguments):
    name = module.COMMAND.rpartition("/")[2]
    assert asked(module, arguments, (2, "", f"usage: ...\n{name}: error: this is wrong\n"))[1]["msg"] == "this is wrong"


def test_an_account_is_suspended_and_let_back_in(asked):
    answer = (0, '{"changed": true, "on_hold": 3, "released": 0}', "")
    commands, result = asked(mail_account, {"name": "alice@example.com", "state": "suspended"}, answer)
    assert commands == [[mail_account.COMMAND, "suspend", "alice@example.com", "--json"]]
    assert result == {"failed": False, "changed": True, "on_hold": 3, "released": 0}
    commands, _result = asked(mail_account, {"name": "alice@example.com", "state": "active", "release": True}, answer)
    assert commands == [[mail_account.COMMAND, "resume", "alice@example.com", "--json", "--release"]]


def test_nothing_is_released_of_an_account_that_is_suspended(asked):
    commands, result = asked(mail_account, {"name": "alice@example.com", "state": "suspended", "release": True})
    assert (commands, result["msg"]) == ([], "release goes with state: active; remove it")
