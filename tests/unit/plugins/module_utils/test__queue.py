# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that waits since before a gateway was set up: delivered by the old set-up, or scanned, or kept on hold and named."""

from __future__ import annotations

import json

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _queue


class Postfix:
    """A queue, {queue ID: [name of the queue, sender, recipients, content]}, and the commands that work on it."""

    def __init__(self):
        self.queue = {}
        # What the next `postqueue -f` delivers.
        self.deliverable = set()
        self.commands = []

    def add(self, queue_id, queue="deferred", sender="bob@example.org", recipients=("alice@example.com",), content="Subject: x\n\n.dot\nhello\n"):
        self.queue[queue_id] = [queue, sender, list(recipients), content]

    def run(self, words, encoding="utf-8"):
        self.commands.append(words)
        name, option, queue_id = words[0], words[1], words[-1]
        if name == "postqueue" and option == "-j":
            lines = (json.dumps({"queue_id": each, "queue_name": found[0]}) for each, found in self.queue.items())
            return 0, "\n".join(lines), ""
        if name == "postqueue":
            for each in self.deliverable:
                self.queue.pop(each, None)
        elif queue_id not in self.queue:
            return 1, "", "no such message"
        elif name == "postcat" and option == "-qe":
            _queue_name, sender, recipients, _content = self.queue[queue_id]
            return 0, "\n".join(["*** ENVELOPE RECORDS ***", f"sender: {sender}", "done_recipient: x@y.z", *(f"recipient: {each}" for each in recipients)]), ""
        elif name == "postcat":
            return 0, self.queue[queue_id][3], ""
        elif option == "-d":
            del self.queue[queue_id]
        else:
            self.queue[queue_id][0] = "hold" if option == "-h" else "deferred"
        return 0, "", ""


@pytest.fixture
def postfix(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "STATE_DIRECTORY", tmp_path)
    return Postfix()


@pytest.fixture
def scan(postfix, smtp_server):
    return lambda: _queue.scan(postfix.run, "127.0.0.1", smtp_server.port)


def test_the_old_set_up_delivers_what_it_can_and_the_rest_is_put_on_hold(postfix):
    postfix.add("A")
    postfix.add("B", queue="active")
    postfix.add("MINE", queue="hold")
    postfix.deliverable = {"A"}
    assert _queue.hold(postfix.run, 0) == ["B"]
    assert {queue_id: found[0] for queue_id, found in postfix.queue.items()} == {"B": "hold", "MINE": "hold"}


def test_an_empty_queue_does_not_wait(postfix):
    assert _queue.hold(postfix.run, 60) == []


def test_what_amavis_accepts_is_removed_and_said_to_be_on_its_way(postfix, scan, smtp_server):
    postfix.add("A")
    _queue.hold(postfix.run, 0)
    assert scan() == (["A from <bob@example.org> to <alice@example.com>"], [])
    assert postfix.queue == {}
    assert [command for command in smtp_server.commands if command[:4] in ("MAIL", "RCPT")] == [
        "MAIL FROM:<bob@example.org> SIZE=27",
        "RCPT TO:<alice@example.com>",
    ]
    assert smtp_server.data.startswith(b"Subject: x\r\n\r\n..dot\r\nhello\r\n")
    assert not _queue.Record().pending


@pytest.mark.parametrize("reply", ["554 5.7.0 Reject, id=1 - spam", "450 4.5.0 scan failed"])
def test_what_amavis_does_not_accept_stays_on_hold_with_the_reason(postfix, scan, smtp_server, reply):
    postfix.add("A", sender="")
    smtp_server.answers["end_of_data"] = reply
    _queue.hold(postfix.run, 0)
    assert scan() == ([], [f"A from <> to <alice@example.com>: {reply}"])
    assert postfix.queue["A"][0] == "hold"


def test_without_amavis_everything_stays_on_hold(postfix):
    postfix.add("A")
    _queue.hold(postfix.run, 0)
    sent, kept = _queue.scan(postfix.run, "127.0.0.1", 1)
    assert (sent, postfix.queue["A"][0]) == ([], "hold")
    assert kept[0].startswith("A from <bob@example.org> to <alice@example.com>: it could not be scanned: ")


def test_what_somebody_put_on_hold_himself_is_left_alone(postfix, scan, smtp_server):
    postfix.add("MINE", queue="hold")
    _queue.hold(postfix.run, 0)
    assert scan() == ([], [])
    assert (postfix.queue["MINE"][0], smtp_server.commands) == ("hold", [])


def test_mail_for_a_domain_that_goes_stays_on_hold_because_it_could_only_be_returned(postfix, scan, smtp_server):
    postfix.add("A", recipients=["x@example.com", "zoe@Old.example"])
    _queue.hold(postfix.run, 0, ["old.example"])
    assert scan() == ([], ["A from <bob@example.org> to <x@example.com>, <zoe@Old.example>: this site takes no mail for zoe@Old.example any more"])
    assert (postfix.queue["A"][0], smtp_server.commands) == ("hold", [])


def test_a_set_up_that_stays_gets_its_mail_back(postfix):
    postfix.add("A")
    postfix.add("MINE", queue="hold")
    _queue.hold(postfix.run, 0)
    assert _queue.release(postfix.run) == ["A"]
    assert {queue_id: found[0] for queue_id, found in postfix.queue.items()} == {"A": "deferred", "MINE": "hold"}
    assert not _queue.Record().pending


def test_a_message_that_all_have_got_is_left_to_postfix(postfix, scan, smtp_server):
    postfix.add("A", recipients=())
    _queue.hold(postfix.run, 0)
    assert scan() == ([], [])
    assert (postfix.queue["A"][0], smtp_server.commands) == ("deferred", [])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["postsuper -h", "postcat -qbh", "postsuper -d"])
def test_a_run_that_is_killed_loses_nothing_and_sends_nothing_twice(postfix, scan, smtp_server, where):
    for queue_id in "AB":
        postfix.add(queue_id, content=f"Subject: {queue_id}\n\n")
    run = postfix.run

    def killed(words, **options):
        if " ".join(words[:2]) == where:
            postfix.run = run
            raise Killed
        return run(words, **options)

    postfix.run = killed
    with pytest.raises(Killed):
        _queue.hold(postfix.run, 0)
        _queue.scan(postfix.run, "127.0.0.1", smtp_server.port)
    assert _queue.Record().pending
    _queue.hold(postfix.run, 0)
    sent, kept = scan()
    if where == "postsuper -d":
        # It was accepted, and not yet removed: nobody knows.
        assert kept == ["A: a run was killed while it was handed to amavis, so it may have been delivered"]
        assert postfix.queue["A"][0] == "hold"
    assert "B from <bob@example.org> to <alice@example.com>" in sent
    assert "B" not in postfix.queue
    assert ("A" in postfix.queue) == bool(kept)
