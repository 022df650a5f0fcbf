# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts: who has logged in may send from anywhere, as nobody else, and through the scanners like all mail."""

import base64
import itertools
import re
import uuid

import pytest
from _faults import clamd_stopped
from _network import ALICE, BOB, CAROL, STRANGER, TRUSTED, deliveries, mailboxes, newcomer, wait_for_journal, wait_until

FRIEND = "friend@example.org"
PORTS = {587: "require", 465: "implicit"}
MAIL = f"MAIL FROM:<{ALICE}>\r\n"
BY_ALICE = {"username": ALICE, "password": "alice-secret", "sender": ALICE, "recipients": [FRIEND]}
BY_BOB = {"username": BOB, "password": "bob-secret", "sender": BOB, "recipients": [FRIEND]}


BY_TICKETS = {"username": "tickets@staff.example.com", "password": "bob-secret", "sender": "tickets@staff.example.com", "recipients": [FRIEND]}


def submit(port=587, client=None, **arguments):
    """Send as alice, from somewhere else each time: an address may log in so many times in a minute."""
    return (client or newcomer()).converse(**{"port": port, "tls": PORTS[port], **BY_ALICE, **arguments})


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


# --- Whom a reader sees -----------------------------------------------------------------------------------------------


_counted = itertools.count()


@pytest.fixture(name="room")
def _room(gateway):
    """Alice is not near the number of messages that she may send in an hour. A test sends two at most."""
    if next(_counted) % 12 == 0:
        forget(gateway)


def written(head, text="A message of the tests."):
    """A message with these lines in its head."""
    return f"Message-ID: <{uuid.uuid4()}@example.com>\r\n{head}\r\nTo: {FRIEND}\r\nSubject: Test\r\n\r\n{text}\r\n"


def encoded(text):
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


OWN = {
    "the login": f"From: Alice <{ALICE}>",
    "upper case": f"FROM: <{ALICE.upper()}>",
    "another one of its own": f"From: {CAROL}",
    "a domain": 'From: "Somebody, Else" <somebody@staff.example.com>',
    "several": f"From: {ALICE}, Carol (a friend, b@c) <{CAROL}>\r\nSender: {ALICE}",
    "a group": f"From: All of us: {ALICE}, {CAROL};",
    "a name that is its address": f'From: "{ALICE}" <{ALICE}>',
    "an encoded name": f"From: {encoded('Älice @ home')} <{ALICE}>",
    "a folded field": f"From:\r\n Alice\r\n\t<{ALICE}>",
    "a reply to somebody else": f"From: {ALICE}\r\nReply-To: {BOB}",
    "a login that it claims": f"X-Gateway-Login: {BOB}\r\nFrom: {ALICE}",
}


@pytest.mark.usefixtures("room")
@pytest.mark.holds("S9", "T39")
@pytest.mark.parametrize("head", OWN.values(), ids=OWN)
def test_an_account_writes_its_own_addresses_into_from(head):
    record = submit(content=written(head))
    assert record.answer == "250 2.0.0", record
    (delivery,) = deliveries(record.message_id)
    # What Postfix says to amavis is nobody else's matter.
    assert delivery.message["X-Gateway-Login"] is None


FOREIGN = {
    "somebody else": (f"From: {BOB}", BOB),
    "somebody outside": (f"From: Alice <{FRIEND}>", FRIEND),
    "one of several": (f"From: {ALICE}, {BOB}", BOB),
    "one of a group": (f"From: Us: {ALICE}, Bob <{BOB}>;", BOB),
    "a sender": (f"From: {ALICE}\r\nSender: Bob <{BOB}>", BOB),
    "a domain below": ("From: somebody@sub.staff.example.com", "somebody@sub.staff.example.com"),
    "in the name": (f'From: "{BOB}" <{ALICE}>', BOB),
    "in the name without quotation marks": (f"From: {BOB} <{ALICE}>", BOB),
    "in a comment": (f"From: {ALICE} ({BOB})", BOB),
    "in an encoded name": (f"From: {encoded(f'Bob <{BOB}>')} <{ALICE}>", BOB),
    "in letters that look the same": (f"From: {encoded('bob＠example.com')} <{ALICE}>", BOB),
    "in a name with invisible characters": (f"From: {encoded(BOB.replace('@', chr(0x200B) + '@'))} <{ALICE}>", BOB),
    "in an encoded word in pieces": (f"From: {encoded('bob@exam')} {encoded('ple.com')} <{ALICE}>", BOB),
    "in the local part": ('From: "bob@example.com"@staff.example.com', "bob@example.com@staff.example.com"),
    "a login that it claims": (f"X-Gateway-Login: {BOB}\r\nFrom: {BOB}", BOB),
}


@pytest.mark.usefixtures("room")
@pytest.mark.holds("S9", "T39")
@pytest.mark.parametrize("head, address", FOREIGN.values(), ids=FOREIGN)
def test_an_account_writes_nobody_elses_address_into_from(head, address):
    record = submit(content=written(head))
    assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0"), record
    assert f"This account may not send with {address} in From or Sender" in record.text
    assert mailboxes(record.message_id) == []


UNCLEAR = {
    "none": "X-From: alice@example.com",
    "empty": "From:",
    "nobody": "From: undisclosed:;",
    "two": f"From: {ALICE}\r\nFrom: {ALICE}",
    "two, one with a blank": f"From: {ALICE}\r\nFrom : {BOB}",
    "a name alone": "From: Alice",
    "quotation marks that do not end": f'From: "Alice <{ALICE}>',
    "two in angle brackets": f"From: <{ALICE}> <{ALICE}>",
    "a comment that does not end": f"From: {ALICE} (Alice",
    "two senders": f"From: {ALICE}\r\nSender: {ALICE}\r\nSender: {ALICE}",
}


@pytest.mark.usefixtures("room")
@pytest.mark.holds("S9", "T39")
@pytest.mark.parametrize("head", UNCLEAR.values(), ids=UNCLEAR)
def test_a_from_that_is_not_clear_is_refused(head):
    record = submit(content=written(head))
    assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0"), record
    assert "From in the header of this message is missing, wrong or there twice" in record.text
    assert mailboxes(record.message_id) == []


@pytest.mark.usefixtures("room")
@pytest.mark.holds("S9", "T39")
@pytest.mark.parametrize("sender", [CAROL, ""], ids=["an address of both", "a receipt"])
def test_an_envelope_sender_that_is_not_its_own_alone_lends_an_account_no_other_author(sender):
    """carol@example.com belongs to alice and to tickets@staff.example.com, the null sender to everybody."""
    assert submit(sender=sender, content=written(f"From: {BOB}")).answer == "554 5.7.0"
    assert submit(sender=sender, content=written(f"From: {ALICE}")).answer == "250 2.0.0"
    assert submit(**{**BY_TICKETS, "sender": sender}, content=written(f"From: {BOB}")).answer == "250 2.0.0"


@pytest.mark.holds("S9", "T39")
@pytest.mark.parametrize("head", [f"From: {FRIEND}, {BOB}\r\nSender: {CAROL}", "X-From: nobody"], ids=["others", "none"])
def test_an_account_that_may_writes_any_author(head):
    record = submit(**BY_TICKETS, content=written(head))
    assert record.answer == "250 2.0.0"
    assert len(mailboxes(record.message_id)) == 1


@pytest.mark.parametrize("client", [STRANGER, TRUSTED], ids=["outside", "inside"])
def test_what_no_account_sends_has_any_author(client):
    assert client.converse(sender=client.sender, recipients=[BOB], content=written(f"From: {FRIEND}")).answer == "250 2.0.0"


# --- Passwords that are guessed ---------------------------------------------------------------------------------------


RIGHT = {"port": 465, "tls": "implicit", "username": ALICE, "password": "alice-secret", "stop_after": "login"}
WRONG = {**RIGHT, "password": "guess"}


@pytest.mark.holds("S9", "T40")
def test_who_logs_in_too_often_is_asked_to_come_back_and_others_are_not(began):
    limit = 30  # docs/outbound-mail.md
    client = newcomer()
    # Right ones count as well, and are answered at once.
    for _pair in range(limit // 2 - 1):
        assert [record.answer for record in client.converse_at_once([RIGHT, RIGHT])] == ["235 2.7.0"] * 2
    assert [client.converse(**WRONG).answer for _guess in range(3)] == ["535 5.7.8", "535 5.7.8", "450 4.7.1"]
    assert client.converse(**RIGHT).answer == "450 4.7.1"
    assert newcomer().converse(**RIGHT).answer == "235 2.7.0"
    line = wait_for_journal(began, "AUTH command rate limit exceeded")[0]
    assert re.search(rf"\[{re.escape(client.source_address)}\]:\d+ for service submissions", line), line


@pytest.mark.holds("S9", "T40")
def test_each_new_wrong_password_of_a_client_is_answered_later_and_others_do_not_wait(gateway):
    client = newcomer()
    records = [client.converse(port=587, tls="require", username=ALICE, password=guess, stop_after="login") for guess in ("first", "second", "third")]
    # Postfix does not wait for Dovecot for more than 10 seconds.
    assert records[0].answer == "535 5.7.8"
    assert {record.answer for record in records[1:]} <= {"535 5.7.8", "454 4.7.0"}
    seconds = [record.reply["seconds"] for record in records]
    assert seconds[0] < seconds[1] < seconds[2], seconds
    assert seconds[2] > 5, seconds
    other = submit(stop_after="login")
    assert other.answer == "235 2.7.0"
    assert other.reply["seconds"] < min(2, seconds[0])
    assert client.source_address in gateway.run("journalctl --quiet --unit dovecot --lines 20 --grep 'Password mismatch'").stdout


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
