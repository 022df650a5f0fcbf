# SPDX-License-Identifier: GPL-3.0-or-later
"""Where is my mail? One search of the journal finds the whole story, by any of the ids that somebody may have."""

import re

import pytest
from _network import CHECKOUT, STRANGER, deliveries, gateway, wait_for_journal


def search(text):
    """The search that the documentation recommends, for something else than in its examples."""
    page = (CHECKOUT / "docs" / "where-is-my-mail.md").read_text(encoding="utf-8")
    command = re.search(r"^(journalctl .*--grep) '", page, re.MULTILINE)[1]
    return gateway().check_output(f"{command} '{re.escape(text)}'")


@pytest.mark.holds("T7")
def test_a_queue_id_leads_to_the_verdict_and_to_the_next_hop(began):
    record = STRANGER.converse()
    deliveries(record.message_id)
    wait_for_journal(began, f"{record.queue_id}: removed")
    found = search(record.queue_id)
    assert f"proxy-accept: END-OF-MESSAGE: 250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {record.queue_id}" in found
    assert re.search(rf"Passed CLEAN .*mail_id: \S+, Hits: \S+, .*queued_as: {record.queue_id}", found)
    assert f"{record.queue_id}: to=<alice@example.com>, relay=mail.inside.example.com" in found


@pytest.mark.holds("T7")
def test_the_id_in_a_refusal_leads_to_the_verdict_and_to_the_message(began):
    record = STRANGER.converse(sample="gtube")
    identity = re.search(r"id=(\S+)", record.text)[1]
    wait_for_journal(began, "proxy-reject")
    found = search(identity)
    refusal = f"Reject, id={identity} - This message looks like spam. If this is a mistake, turn to postmaster@example.com"
    assert f"proxy-reject: END-OF-MESSAGE: 554 5.7.0 {refusal}; from=<sender@example.org> to=<alice@example.com>" in found
    assert re.search(rf"\({identity}\) Blocked SPAM .*Message-ID: {re.escape(record.message_id)}, mail_id: \S+, Hits: 100", found)


@pytest.mark.holds("T7")
def test_a_message_id_leads_to_both_ids(began):
    record = STRANGER.converse()
    wait_for_journal(began, f"queued_as: {record.queue_id}")
    found = search(record.message_id.strip("<>"))
    assert f"{record.queue_id}: message-id={record.message_id}" in found
    assert re.search(rf"mail_id: \S+, .*queued_as: {record.queue_id}", found)
