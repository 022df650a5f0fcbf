# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts: who has logged in may send from anywhere, as nobody else, and through the scanners like all mail."""

import pytest
from _faults import clamd_stopped
from _network import ALICE, BOB, CAROL, STRANGER, TRUSTED, deliveries, mailboxes, newcomer, wait_for_journal, wait_until

FRIEND = "friend@example.org"
PORTS = {587: "require", 465: "implicit"}
MAIL = f"MAIL FROM:<{ALICE}>\r\n"
BY_ALICE = {"username": ALICE, "password": "alice-secret", "sender": ALICE, "recipients": [FRIEND]}
BY_BOB = {"username": BOB, "password": "bob-secret", "sender": BOB, "recipients": [FRIEND]}


def submit(port=587, client=STRANGER, **arguments):
    return client.converse(**{"port": port, "tls": PORTS[port], **BY_ALICE, **arguments})


# --- Who has logged in ------------------------------------------------------------------------------------------------


@pytest.mark.holds("S9", "T34")
@pytest.mark.parametrize("port", PORTS)
def test_an_account_sends_to_the_world_from_anywhere_once_and_scanned(began, port):
    # Listed, and with no greeting of a mail server: for a laptop in a hotel both are usual.
    record = submit(port, newcomer(1, helo="laptop"))
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert delivery.mailbox == FRIEND
    (line,) = wait_for_journal(began, record.message_id + ", mail_id")
    assert "Passed CLEAN {RelayedOutbound}, ORIGINATING LOCAL" in line
    assert "with ESMTPSA" in "".join(delivery.message.get_all("Received"))


@pytest.mark.holds("S9")
@pytest.mark.parametrize("recipient", [BOB, "anybody@staff.example.com"])
def test_an_account_sends_to_colleagues(recipient):
    record = submit(recipients=[recipient])
    assert record.answer == "250 2.0.0"
    assert len(mailboxes(record.message_id)) == 1


@pytest.mark.holds("S9", "S7")
def test_an_account_is_told_of_a_colleague_who_does_not_exist():
    assert submit(recipients=["nobody@example.com"], stop_after="rcpt").answer == "550 5.1.1"


@pytest.mark.holds("S9")
@pytest.mark.parametrize("sender", [CAROL, "somebody@staff.example.com", ALICE.upper(), ""], ids=["carol", "a domain", "upper case", "a receipt"])
def test_an_account_sends_as_each_of_its_addresses(sender):
    assert submit(sender=sender, stop_after="rcpt").answer == "250 2.1.5"


def test_the_case_of_a_login_does_not_matter():
    assert submit(username="Alice@Example.COM", stop_after="rcpt").answer == "250 2.1.5"


# --- Who has not, or is somebody else ---------------------------------------------------------------------------------


@pytest.mark.holds("S9")
@pytest.mark.parametrize("sender", [BOB, "alice@example.net", FRIEND, "alice@example.org"])
def test_a_stolen_login_cannot_send_as_another_sender(sender):
    record = submit(sender=sender, stop_after="rcpt")
    assert (record.reply["step"], record.answer) == ("rcpt", "553 5.7.1")


@pytest.mark.holds("S9", "T23")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("recipient", [FRIEND, BOB])
def test_nobody_sends_without_a_login(port, recipient):
    answer = submit(port, username=None, password=None, recipients=[recipient], stop_after="rcpt", sender="sender@example.org").answer
    assert answer == "554 5.7.1"
    assert submit(port, username=None, password=None, recipients=[recipient], stop_after="rcpt").answer == "553 5.7.1", "as somebody who has an account"


@pytest.mark.holds("S9")
def test_a_trusted_host_has_to_log_in_as_well():
    record = TRUSTED.converse(port=587, tls="require", sender="printer@example.com", recipients=[FRIEND], stop_after="rcpt")
    assert record.answer == "554 5.7.1"


@pytest.mark.holds("S9")
@pytest.mark.parametrize("login", [(ALICE, "bob-secret"), ("carol@example.com", "alice-secret"), (ALICE, ""), (ALICE, "*")])
def test_a_wrong_password_is_refused(login):
    # Each failure makes an address wait longer for its next try.
    record = submit(client=newcomer(), username=login[0], password=login[1], stop_after="login")
    assert record.answer == "535 5.7.8"


@pytest.mark.holds("S9", "D16")
def test_a_password_is_never_asked_for_in_clear_text():
    record = STRANGER.converse(port=587, tls="never", stop_after="helo")
    assert not [line for line in record.extensions if line.startswith("AUTH")]
    answers = STRANGER.converse(port=587, script=["", "EHLO laptop\r\n", "AUTH PLAIN AGFAYgBj\r\n", MAIL, "QUIT\r\n"]).answers()
    assert answers[2].startswith("5")
    assert answers[3] == "530 5.7.0"


@pytest.mark.holds("S9")
def test_there_is_no_login_on_port_25():
    assert not [line for line in STRANGER.converse(tls="require", stop_after="helo").extensions if line.startswith("AUTH")]


# --- What accounts send is judged too ---------------------------------------------------------------------------------


@pytest.mark.holds("S9", "S8")
@pytest.mark.parametrize("sample", ["gtube", "eicar", "eicar_zip"])
@pytest.mark.parametrize("recipient", [FRIEND, BOB])
def test_spam_and_viruses_of_an_account_are_refused_and_never_arrive(sample, recipient):
    record = submit(sample=sample, recipients=[recipient])
    assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0")
    assert mailboxes(record.message_id) == []


@pytest.mark.holds("S9", "D6")
def test_without_clamd_what_an_account_sends_is_deferred():
    with clamd_stopped():
        record = submit()
    assert record.reply["code"] == 451
    assert mailboxes(record.message_id) == []


# --- Limits -----------------------------------------------------------------------------------------------------------


def forget(gateway):
    gateway.check_output("systemctl stop postfwd && rm -f /var/lib/postfw/rates && systemctl start postfwd")
    wait_until(lambda: gateway.run("ss -Hltn src 127.0.0.1:10040").stdout, "postfwd")


@pytest.fixture(name="counters")
def _counters(gateway):
    """No account has sent anything in this hour."""
    forget(gateway)
    yield
    forget(gateway)


@pytest.mark.usefixtures("counters")
def test_an_account_that_sends_too_much_is_put_off_and_others_are_not():
    limit = 30  # of the inventory
    records = [submit(**BY_BOB, sample="gtube") for _message in range(limit + 1)]
    assert {record.answer for record in records[:limit]} == {"554 5.7.0"}
    assert records[limit].answer == "450 4.7.1"
    assert "to its limit of 30 messages an hour" in records[limit].text
    assert submit().answer == "250 2.0.0"


@pytest.mark.usefixtures("counters")
def test_an_account_that_sends_to_too_many_is_put_off_before_the_message():
    limit = 300  # of the inventory
    record = submit(recipients=[f"person{number}@staff.example.com" for number in range(limit + 1)])
    assert (record.reply["step"], record.answer) == ("data", "450 4.7.1")
    assert "to its limit of 300 recipients an hour" in record.text
