# SPDX-License-Identifier: GPL-3.0-or-later
"""Outbound mail: what destinations ask of TLS holds, and what a next hop refuses after our 250 is bounced."""

import pytest
from _faults import stopped
from _network import BOB, STRANGER, TRUSTED, deliveries, gateway, mailboxes, queue, settle, wait_for_journal


def sent(domain):
    """Send a message to a domain from inside, and return its queue id and its Message-ID."""
    record = TRUSTED.converse(recipients=[f"somebody@{domain}"])
    assert record.answer == "250 2.0.0", record
    return record.queue_id, record.message_id


@pytest.mark.holds("S9", "D16")
@pytest.mark.parametrize("domain", ["good.dane.example.org", "good.sts.example.org", "both.dane.example.org"], ids=["dane", "mta_sts", "dane before mta_sts"])
def test_mail_for_a_domain_that_keeps_its_promise_arrives_verified(began, domain):
    queue_id, message_id = sent(domain)
    assert mailboxes(message_id) == [f"all@{domain}"]
    assert [line for line in wait_for_journal(began, "TLS connection established to") if "Verified TLS connection" in line]
    (line,) = wait_for_journal(began, f"{queue_id}: to=<somebody@{domain}>")
    assert "status=sent" in line


@pytest.mark.holds("S9", "D16")
@pytest.mark.parametrize("domain", ["bad.dane.example.org", "bad.sts.example.org", "contrary.dane.example.org"], ids=["dane", "mta_sts", "dane before mta_sts"])
def test_mail_for_a_domain_whose_server_is_another_is_deferred_and_says_why(began, domain):
    queue_id, message_id = sent(domain)
    try:
        line = wait_for_journal(began, f"{queue_id}: to=<somebody@{domain}>")[0]
        assert "status=deferred" in line
        assert "Server certificate not " in line
        assert [entry["queue_id"] for entry in queue(gateway())] == [queue_id]
    finally:
        gateway().check_output(f"postsuper -d {queue_id}")
    assert mailboxes(message_id) == []


@pytest.mark.holds("S9")
def test_while_nobody_knows_the_policies_mail_for_the_world_waits_and_mail_for_the_site_does_not(began):
    with stopped("postfix-mta-sts-resolver"):
        queue_id, message_id = sent("good.sts.example.org")
        assert "status=deferred" in wait_for_journal(began, f"{queue_id}: to=<somebody@good.sts.example.org>")[0]
        record = STRANGER.converse(recipients=[BOB])
        assert "status=sent" in wait_for_journal(began, f"{record.queue_id}: to=<{BOB}>")[0]
    gateway().check_output("postqueue -f")
    assert mailboxes(message_id) == ["all@good.sts.example.org"]


# --- Bounces ----------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S3", "S8", "D7")
def test_what_the_inner_server_refuses_after_our_250_is_bounced_once():
    record = STRANGER.converse(recipients=["refused@staff.example.com"])
    assert record.answer == "250 2.0.0"
    (bounce,) = deliveries(record.message_id)
    assert bounce.mailbox == "sender@example.org"
    assert "550 5.1.1" in bounce.message.as_string()


@pytest.mark.holds("S8")
def test_a_bounce_that_the_inner_server_refuses_is_not_bounced(began):
    record = STRANGER.converse(sender="", recipients=["refused@staff.example.com"])
    assert record.answer == "250 2.0.0"
    settle()
    (line,) = wait_for_journal(began, f"{record.queue_id}: to=<refused@staff.example.com>")
    assert "status=bounced" in line
    assert mailboxes(record.message_id) == []
