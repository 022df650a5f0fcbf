# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.antispam.gateway.plugins.modules import delivery_status

ID = "4jbRyT4jNqzCc1s"
TO = f"{ID}: to=<alice@example.com>, orig_to=<postmaster@example.com>, relay=mail.inside.example.com[198.51.100.25]:25, delay=0.06, delays=0/0/0/0, dsn="
SENT = f"{TO}2.0.0, status=sent (250 2.0.0 Ok: queued as 2D8B11720BF)"
WAITS = f"{TO}4.4.1, status=deferred (connect to mail.inside.example.com[198.51.100.25]:25: Connection refused)"
GONE = f"{ID}: removed"
OTHER = "4jbRyT4jNqzCc1t: to=<bob@example.com>, relay=none, delay=0, delays=0/0/0/0, dsn=5.1.1, status=bounced (unknown)"


@pytest.fixture
def run(call_main, tmp_path, monkeypatch):
    def run_module(*lines, **arguments):
        journalctl = tmp_path / "journalctl"
        text = "".join(line + "\n" for line in lines)
        journalctl.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        journalctl.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return call_main(delivery_status, **{"queue_id": ID, "timeout": 0, **arguments})

    return run_module


def test_a_message_that_its_next_hop_has_is_sent(run):
    result = run(f"{ID}: from=<>, size=1, nrcpt=1 (queue active)", SENT, OTHER, GONE)
    assert (result["sent"], result["seen"], result["changed"]) == (True, True, False)
    (delivery,) = result["deliveries"]
    assert delivery == {
        "recipient": "alice@example.com",
        "relay": "mail.inside.example.com[198.51.100.25]:25",
        "status": "sent",
        "text": "250 2.0.0 Ok: queued as 2D8B11720BF",
    }


@pytest.mark.parametrize("lines", [[WAITS], [SENT], [f"{ID}: from=<>, size=1, nrcpt=1 (queue active)"], [WAITS, GONE]])
def test_a_message_that_waits_or_has_not_left_the_queue_is_not(run, lines):
    result = run(*lines)
    assert (result["sent"], result["seen"]) == (False, True)


def test_why_it_waits_is_said(run):
    assert "Connection refused" in run(WAITS)["deliveries"][0]["text"]


def test_a_message_that_the_journal_does_not_know_is_not_seen(run):
    result = run()
    assert (result["sent"], result["seen"], result["deliveries"]) == (False, False, [])


@pytest.mark.parametrize("queue_id", ["", "--since=yesterday", "abc", "4jb Ry"])
def test_what_is_no_queue_id_is_refused(run, queue_id):
    assert "is not a queue ID of Postfix" in run(queue_id=queue_id)["msg"]
