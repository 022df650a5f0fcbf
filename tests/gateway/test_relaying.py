# SPDX-License-Identifier: GPL-3.0-or-later
"""Relaying: trusted networks may send to the world, through the same scan; nobody else may."""

import pytest
from _network import ALICE, BOB, INSIDE, STRANGER, TRUSTED, deliveries, mailboxes, message, start, wait_for_journal

FRIEND = "friend@example.org"

# --- From outside -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("S3", "S8", "D2", "T23")
@pytest.mark.parametrize("recipient", [FRIEND, "someone@elsewhere.example", "friend@mail.example.org"])
def test_relaying_from_outside_is_refused(recipient):
    record = STRANGER.converse(recipients=[recipient], stop_after="rcpt")
    assert record.reply["step"] == "rcpt"
    assert record.answer == "554 5.7.1"


@pytest.mark.holds("S3", "T23")
@pytest.mark.parametrize("sender", ["", ALICE, "postmaster@mx1.example.com"])
def test_relaying_from_outside_is_refused_whoever_the_sender_claims_to_be(sender):
    assert STRANGER.converse(sender=sender, helo="mail.inside.example.com", recipients=[FRIEND], stop_after="rcpt").answer == "554 5.7.1"


DISGUISES = [
    "friend%example.org@example.com",
    "friend%example.org@mx1.example.com",
    "friend%example.org@staff.example.com",
    "friend%example.org",
    "friend@example.org@staff.example.com",
    '"friend@example.org"@staff.example.com',
    '"friend@example.org"@mx1.example.com',
    '"friend%example.org"@staff.example.com',
    "example.org!friend",
    "example.org!friend@staff.example.com",
    "example.org!friend@mx1.example.com",
    "@staff.example.com:friend@example.org",
    "@mx1.example.com,@staff.example.com:friend@example.org",
    "friend@[203.0.113.20]",
    "friend@example.org.",
    "postmaster%example.org@mx1.example.com",
]


@pytest.mark.holds("S3", "T23")
@pytest.mark.parametrize("recipient", DISGUISES)
def test_relaying_in_disguise_is_refused(recipient):
    record = STRANGER.converse(recipients=[recipient], stop_after="rcpt")
    assert record.reply["step"] == "rcpt"
    assert record.reply["code"] // 100 == 5


@pytest.mark.holds("S2", "S3")
@pytest.mark.parametrize("port", [10024, 10025])
@pytest.mark.parametrize(
    "client, host",
    [(STRANGER, "203.0.113.10"), (STRANGER, "2001:db8:113::10"), (TRUSTED, "198.51.100.10")],
    ids=["outside", "outside_ipv6", "inside"],
)
def test_the_filter_and_the_way_back_in_are_reached_from_nowhere_else(client, host, port):
    record = client.converse(host=host, source_address=None, port=port, stop_after="connect", timeout=5, may_break_off=True)
    assert "connection refused" in record["error"]


# --- From trusted networks --------------------------------------------------------------------------------------------


@pytest.mark.holds("S9", "T23")
def test_mail_of_a_trusted_host_reaches_the_world_once_and_marked_as_originating(began):
    record = TRUSTED.converse(recipients=[FRIEND])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [FRIEND]
    assert wait_for_journal(began, record.message_id + ", mail_id")[0].count("Passed CLEAN {RelayedOutbound}, MYNETS LOCAL") == 1


@pytest.mark.holds("S9")
def test_the_internal_mail_server_sends_through_the_gateway():
    sent = message("From somebody inside.\n", sender=BOB, recipients=[FRIEND])
    start(INSIDE, ["sendmail", "-f", BOB, FRIEND], sent.as_string()).communicate()
    (delivery,) = deliveries(sent["Message-ID"])
    assert delivery.mailbox == FRIEND
    assert "by mx1.example.com" in "".join(delivery.message.get_all("Received"))


@pytest.mark.holds("S9", "S8")
@pytest.mark.parametrize("sample", ["gtube", "eicar"])
@pytest.mark.parametrize("recipient", [FRIEND, BOB])
def test_spam_and_viruses_of_trusted_hosts_are_refused_too(recipient, sample):
    record = TRUSTED.converse(recipients=[recipient], sample=sample)
    assert record.reply["step"] == "end_of_data"
    assert record.answer == "554 5.7.0"
    assert mailboxes(record.message_id) == []


@pytest.mark.holds("S9", "D7", "T22", "T3")
def test_mail_to_inside_and_outside_gets_one_verdict():
    refused = TRUSTED.converse(recipients=[BOB, FRIEND], sample="gtube")
    assert refused.answer == "554 5.7.0"
    passed = TRUSTED.converse(recipients=[BOB, FRIEND])
    assert passed.answer == "250 2.0.0"
    assert mailboxes(refused.message_id) == []
    assert mailboxes(passed.message_id) == [BOB, FRIEND]


@pytest.mark.holds("S9")
def test_outgoing_mail_does_not_show_its_score():
    record = TRUSTED.converse(recipients=[FRIEND])
    (delivery,) = deliveries(record.message_id)
    assert not [name for name in delivery.message if name.lower().startswith("x-spam")]


@pytest.mark.holds("T30")
def test_mail_of_a_trusted_host_is_known_as_such_to_spamassassin():
    record = TRUSTED.converse(recipients=[BOB])
    (delivery,) = deliveries(record.message_id)
    assert "ALL_TRUSTED" in delivery.message["X-Spam-Status"]


@pytest.mark.holds("S9")
def test_a_trusted_host_may_use_a_sender_that_does_not_exist():
    assert TRUSTED.converse(sender="copier@copier.local", recipients=[BOB], stop_after="rcpt").answer == "250 2.1.5"
