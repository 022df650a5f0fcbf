# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-queue: what waits is shown, and what is meant is held, released, tried again or deleted, and nothing else."""

import json

import pytest
from _network import ALICE, BOB, CAROL, STRANGER, deliveries, gateway, inside, mailboxes, queue, settle, wait_until


def ask(*words):
    """What the command says, as JSON: the messages; and how it ended."""
    done = gateway().run(" ".join(["gateway-queue", *words, "--json"]))
    return done.rc, json.loads(done.stdout)["messages"]


def arrived(record):
    """Where a message has arrived, while other mail is on hold."""
    return [delivery.mailbox for delivery in deliveries(record.message_id, settled=False)]


def recipients(messages):
    return sorted(each["address"] for message in messages for each in message["recipients"])


@pytest.fixture(name="waiting")
def _waiting(network):
    """One message to each of three people waits for a next hop that is away, by its recipient: its record."""
    settle()
    inside().check_output("systemctl stop postfix")
    sent = {}
    try:
        for person, sender in ((ALICE, "one@example.org"), (BOB, "two@example.org"), (CAROL, "one@example.org")):
            sent[person] = STRANGER.converse(recipients=[person], sender=sender)
        wait_until(lambda: [entry["queue_name"] for entry in queue(gateway())] == ["deferred"] * 3, "the mail to wait")
        yield sent
    finally:
        inside().check_output("systemctl start postfix")
        gateway().run("postsuper -H ALL; postqueue -f")
        settle()


@pytest.mark.holds("T43")
def test_what_waits_is_found_by_whom_it_is_from_and_to_and_why_it_waits(waiting):
    assert recipients(ask()[1]) == sorted([ALICE, BOB, CAROL])
    assert recipients(ask("--from", "ONE@example.org")[1]) == sorted([ALICE, CAROL])
    assert recipients(ask("--to", BOB)[1]) == [BOB]
    rc, found = ask("--to", "@example.com", "--reason", "'connection REFUSED'", "--queue", "deferred")
    assert (rc, len(found)) == (0, 3)
    assert "Connection refused" in found[0]["recipients"][0]["reason"]
    assert ask("--older-than", "1h") == (1, [])
    assert ask("--from", "three@example.org") == (1, [])
    said = gateway().check_output(f"gateway-queue --to {BOB}")
    assert f"    to {BOB}: connect to " in said and said.endswith("one message, 0 of them on hold; the oldest waits for " + said.rpartition(" for ")[2])


@pytest.mark.holds("T43")
def test_what_is_held_stays_while_the_rest_is_delivered_and_goes_when_it_is_released(waiting):
    assert recipients(ask("hold", "--from", "one@example.org", "--dry-run")[1]) == sorted([ALICE, CAROL])
    assert ask("--queue", "hold") == (1, [])
    assert recipients(ask("hold", "--from", "one@example.org")[1]) == sorted([ALICE, CAROL])
    assert ask("hold", "--from", "one@example.org") == (1, [])
    inside().check_output("systemctl start postfix")
    assert recipients(ask("flush", "--all")[1]) == [BOB]
    wait_until(lambda: recipients(ask()[1]) == sorted([ALICE, CAROL]), "the mail that is not on hold to be delivered")
    wait_until(lambda: arrived(waiting[BOB]) == [BOB], "it to arrive")
    assert recipients(ask("release", "--to", CAROL)[1]) == [CAROL]
    gateway().check_output("postqueue -f")
    wait_until(lambda: recipients(ask()[1]) == [ALICE], "what was released to be delivered")
    wait_until(lambda: arrived(waiting[CAROL]) == [CAROL], "it to arrive")
    assert arrived(waiting[ALICE]) == []


@pytest.mark.holds("T43")
def test_what_is_deleted_is_gone_and_nothing_else_and_nobody_is_told(waiting):
    (one,) = ask("--to", ALICE)[1]
    assert recipients(ask("delete", "--id", one["queue_id"])[1]) == [ALICE]
    inside().check_output("systemctl start postfix")
    gateway().check_output("postqueue -f")
    settle()
    assert [mailboxes(record.message_id) for record in waiting.values()] == [[], [BOB], [CAROL]]


@pytest.mark.parametrize("action", ["hold", "release", "flush", "delete"])
def test_nothing_is_done_to_everything_unasked(action):
    done = gateway().run(f"gateway-queue {action}")
    assert (done.rc, done.stderr.splitlines()[-1]) == (2, f"gateway-queue: error: {action}: say which messages are meant, or --all")


def test_while_postfix_cannot_be_asked_that_is_said():
    gateway().check_output("mv /usr/sbin/postqueue /usr/sbin/postqueue.away")
    try:
        done = gateway().run("gateway-queue")
    finally:
        gateway().check_output("mv /usr/sbin/postqueue.away /usr/sbin/postqueue")
    assert done.rc == 2
    assert "postqueue cannot be used: " in done.stderr
