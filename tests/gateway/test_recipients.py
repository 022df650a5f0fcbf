# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can be written to: known users, wildcards, verified recipients, postmaster and abuse; everybody else is refused."""

import uuid

import pytest
from _network import ALICE, BOB, GATEWAY, STRANGER, TRUSTED, deliveries, mailboxes, message, start, wait_until


def asked(recipient, client=STRANGER, **arguments):
    return client.converse(recipients=[recipient], stop_after="rcpt", **arguments)


@pytest.mark.holds("S3", "S7", "S8")
@pytest.mark.parametrize("recipient", ["nobody@example.com", "root@example.com", "alice+tag@example.com", "alic@example.com"])
def test_an_unknown_user_is_refused_at_rcpt(recipient):
    record = asked(recipient)
    assert record.reply["step"] == "rcpt"
    assert record.answer == "550 5.1.1"


@pytest.mark.holds("S3", "S7", "S9", "T34")
def test_an_unknown_user_is_refused_to_trusted_hosts_too():
    assert asked("nobody@example.com", TRUSTED).answer == "550 5.1.1"


@pytest.mark.holds("S3", "S7")
def test_a_known_user_gets_the_mail_though_another_recipient_is_unknown():
    record = STRANGER.converse(recipients=["nobody@example.com", BOB])
    assert record.answers("rcpt") == ["550 5.1.1", "250 2.1.5"]
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]


@pytest.mark.holds("S3", "S7")
@pytest.mark.parametrize("recipient", ["ALICE@EXAMPLE.COM", "Alice@example.com"])
def test_a_known_user_is_known_in_upper_case_too(recipient):
    record = STRANGER.converse(recipients=[recipient])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.mark.holds("S7", "T22")
def test_a_domain_listed_as_a_whole_takes_every_address():
    record = STRANGER.converse(recipients=[f"{uuid.uuid4()}@staff.example.com"])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == ["all@staff.example.com"]


@pytest.mark.holds("D13", "T16")
@pytest.mark.parametrize("recipient", ["alice@sub.example.com", "someone@sub.staff.example.com", "alice@mail.inside.example.com"])
def test_a_sub_domain_is_another_domain(recipient):
    assert asked(recipient).answer == "554 5.7.1"


@pytest.mark.holds("S3")
@pytest.mark.parametrize("recipient", ["alice@[203.0.113.10]", "alice", "alice@example", "@example.com", "alice@example.com@example.com"])
def test_odd_ways_to_write_a_recipient_are_refused_for_good(recipient):
    assert asked(recipient).reply["code"] // 100 == 5


# --- Recipients that the next hop is asked for ------------------------------------------------------------------------


@pytest.mark.holds("S7")
def test_a_recipient_the_next_hop_knows_is_accepted():
    record = STRANGER.converse(recipients=["info@example.net"])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == ["info@example.net"]


@pytest.mark.holds("S7", "S8")
@pytest.mark.parametrize("client", [STRANGER, TRUSTED], ids=["stranger", "trusted"])
def test_a_recipient_the_next_hop_does_not_know_is_refused(client):
    assert asked(f"{uuid.uuid4()}@example.net", client).answer == "550 5.1.1"


@pytest.fixture(name="example_net_has_no_dns")
def _example_net_has_no_dns(outside):
    """Queries for example.net are answered SERVFAIL."""
    zone = "/etc/bind/zones/example.net"
    outside.check_output(f"mv {zone} {zone}.away && systemctl restart named")
    wait_until(lambda: outside.run("getent ahostsv4 mail.example.org").rc == 0, "the name server")
    yield
    outside.check_output(f"mv {zone}.away {zone} && systemctl restart named")
    wait_until(lambda: outside.run("getent ahostsv4 mail.example.org").rc == 0, "the name server")


@pytest.mark.holds("D17")
def test_own_mail_is_not_deferred_when_the_own_domain_cannot_be_looked_up(example_net_has_no_dns):
    assert asked("info@example.net").answer == "250 2.1.5"


# --- Postmaster, abuse, and mail of the gateway itself ----------------------------------------------------------------

ROLES = [f"{name}{domain}" for name in ("postmaster", "abuse") for domain in ("@example.com", "@example.net", "@staff.example.com", "@mx1.example.com")]


@pytest.mark.holds("D10", "S3")
@pytest.mark.parametrize("recipient", ["postmaster", "PostMaster", *ROLES])
def test_postmaster_and_abuse_are_reached(recipient):
    record = STRANGER.converse(recipients=[recipient])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.mark.holds("D10")
@pytest.mark.parametrize("recipient", ["root", "postmaster", "amavis", "mailer-daemon@mx1.example.com"])
def test_mail_of_the_gateways_own_services_reaches_the_postmaster(recipient):
    report = message("What cron has to say.\n")
    start(GATEWAY, ["sendmail", recipient], report.as_string()).communicate()
    assert mailboxes(report["Message-ID"]) == [ALICE]


@pytest.mark.holds("D10")
def test_a_bounce_to_a_service_of_the_gateway_reaches_the_postmaster():
    lost = message("To somebody who does not exist.\n")
    start(GATEWAY, ["sendmail", "-f", "root", "nobody@example.org"], lost.as_string()).communicate()
    (bounce,) = deliveries(lost["Message-ID"])
    assert bounce.mailbox == ALICE
    assert "MAILER-DAEMON@mx1.example.com" in bounce.message["From"]
