# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to teach the gateway: addresses for the site's own people, folders of mailboxes, and the command gateway-bayes."""

import contextlib
import email.message
import email.policy
import json

import pytest
from _faults import stopped, write
from _network import ALICE, BOB, STRANGER, TRUSTED, cursor, gateway, mailboxes, message, outside, queue, wait_until
from ansible_collections.antispam.gateway.plugins.module_utils import _samples

TEACHES = {"spam": "spam@example.com", "ham": "ham@example.com"}
MAILBOX = "teacher@example.org"


def status():
    return json.loads(gateway().check_output("gateway-bayes --json status"))


def counts():
    known = status()
    return known["spam"], known["ham"]


@pytest.fixture(name="nothing_learned", autouse=True)
def _nothing_learned(network):
    gateway().check_output("gateway-bayes reset")
    yield
    gateway().check_output("gateway-bayes reset")


def report(*attached, recipients=(TEACHES["spam"],)):
    """A message to which others are attached, as mail programs forward them."""
    built = message("You did not see this.\n", sender=ALICE, recipients=recipients)
    for each in attached:
        inner = email.message.EmailMessage(policy=email.policy.SMTP)
        inner.set_content(each)
        for name, value in {"From": "x@example.org", "To": ALICE, "Subject": "Offer", "Message-ID": f"<{abs(hash(each))}@example.org>"}.items():
            inner[name] = value
        built.add_attachment(inner)
    return built


def by_account(content, recipients=(TEACHES["spam"],), **more):
    login = {"port": 587, "tls": "require", "username": ALICE, "password": "alice-secret", "sender": ALICE}
    return STRANGER.converse(**login, recipients=list(recipients), content=content, **more)


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [_samples.GTUBE, _samples.EICAR], ids=["spam", "a virus"])
def test_what_an_account_forwards_is_learned_and_not_refused_and_not_delivered(text):
    record = by_account(report(f"{text}\n"))
    assert record.answer == "250 2.0.0"
    wait_until(lambda: counts() == (1, 0), "the message to be learned")
    assert mailboxes(record.message_id) == []
    assert status()["taught"][ALICE]["spam"] == 1


def test_a_trusted_host_teaches_too_and_the_other_address_corrects():
    TRUSTED.converse(recipients=[TEACHES["spam"]], content=report("an offer\n"))
    wait_until(lambda: counts() == (1, 0), "the message to be learned")
    TRUSTED.converse(recipients=[TEACHES["ham"]], content=report("an offer\n", recipients=[TEACHES["ham"]]))
    wait_until(lambda: counts() == (0, 1), "the message to be learned the other way")


@pytest.mark.parametrize("address", TEACHES.values())
def test_for_a_stranger_the_addresses_do_not_exist(address):
    known = STRANGER.converse(recipients=[address], stop_after="rcpt")
    other = STRANGER.converse(recipients=["nobody@example.com"], stop_after="rcpt")
    assert known.answer == "550 5.1.1"
    assert known.text.replace(address, "nobody@example.com") == other.text


@pytest.mark.parametrize("recipients", [[TEACHES["spam"], BOB], list(TEACHES.values())], ids=["a person too", "both addresses"])
def test_a_report_goes_to_one_address_alone(recipients):
    record = by_account(report("an offer\n", recipients=recipients), recipients)
    assert record.answer == "554 5.7.0"
    assert "forward the message as an attachment, to this address alone" in record.text
    assert (mailboxes(record.message_id), counts()) == ([], (0, 0))


def test_what_cannot_be_learned_is_refused_with_what_to_do():
    record = by_account(message("This was spam.\n", sender=ALICE, recipients=[TEACHES["spam"]]))
    assert record.answer == "554 5.7.0"
    assert "forward the message as an attachment" in record.text


def test_a_report_waits_for_a_store_that_is_down():
    with stopped("redis-server"):
        assert by_account(report("an offer\n")).answer == "250 2.0.0"
        wait_until(lambda: [each["queue_name"] for each in queue(gateway())] == ["deferred"], "the report to be deferred")
    wait_until(lambda: gateway().run("gateway-bayes status").rc == 0, "the store")
    gateway().check_output("postqueue -f")
    wait_until(lambda: counts() == (1, 0), "the report to be learned")
    wait_until(lambda: queue(gateway()) == [], "the queue")


# --- Mailboxes --------------------------------------------------------------------------------------------------------


def put(folder, *texts):
    """Put messages into a folder of the mailbox."""
    for text in texts:
        content = bytes(message(f"{text}\n")).decode()
        outside().check_output(f"printf %s | doveadm save -u {MAILBOX} -m {folder}", content)


@pytest.fixture(name="mailbox")
def _mailbox():
    def empty():
        outside().run(f"doveadm mailbox delete -r -s -u {MAILBOX} Junk Archive; doveadm mailbox create -u {MAILBOX} Junk Archive")

    # These tests say when it is read.
    gateway().check_output("systemctl stop gateway-bayes-mailboxes.timer")
    empty()
    yield
    empty()
    gateway().check_output("systemctl start gateway-bayes-mailboxes.timer")


def read(settings=None, options=""):
    """Read the mailboxes as the timer does; with other settings than the gateway's, by hand."""
    if settings is None:
        # More starts than systemd allows in ten seconds.
        done = gateway().run("systemctl reset-failed gateway-bayes-mailboxes.service; systemctl start gateway-bayes-mailboxes.service")
        said = gateway().check_output("journalctl --quiet --no-pager --output=cat --unit=gateway-bayes-mailboxes.service --lines=20")
        return done.rc, said
    write("/run/mailboxes.json", json.dumps(settings))
    done = gateway().run(f"gateway-bayes-mailboxes --settings /run/mailboxes.json {options}; rc=$?; rm /run/mailboxes.json; exit $rc")
    return done.rc, done.stdout + done.stderr


def test_folders_teach_each_message_once_and_stay_as_they_are(mailbox):
    put("Junk", "an offer", "another offer")
    put("Archive", "the minutes")
    assert read()[0] == 0
    assert counts() == (2, 1)
    taught = status()["taught"][f"{MAILBOX} at mail.example.org"]
    assert (taught["spam"], taught["ham"]) == (2, 1)
    put("Junk", "a third offer")
    assert read()[0] == 0
    assert counts() == (3, 1)
    flags = outside().check_output(f"doveadm fetch -u {MAILBOX} flags mailbox Junk")
    assert "Seen" not in flags


def test_a_message_that_is_moved_out_of_junk_is_learned_as_ham(mailbox):
    put("Junk", "an offer")
    read()
    assert counts() == (1, 0)
    outside().check_output(f"doveadm move -u {MAILBOX} Archive mailbox Junk all")
    read()
    assert counts() == (0, 1)


def test_a_store_that_was_emptied_is_taught_again(mailbox):
    put("Junk", "an offer")
    read()
    gateway().check_output("gateway-bayes reset")
    read()
    assert counts() == (1, 0)


def test_of_a_folder_of_100_000_messages_the_newest_5000_teach(mailbox):
    # As Dovecot's Maildir has them; message 100,000 is the newest.
    letter = "From: x@example.org\nMessage-ID: <{number}@example.org>\nSubject: Offer\n\noffer number{number}\n"
    program = f"""
import os
os.chdir("/srv/imap/{MAILBOX}/.Junk/cur")
for number in range(1, 100_001):
    with open(f"{{1_700_000_000 + number}}.M{{number}}.mail:2,", "w") as stream:
        stream.write({letter!r}.format(number=number))
"""
    outside().check_output("setpriv --reuid 5000 --regid 5000 --clear-groups python3 -c %s", program)
    settings = json.loads(gateway().check_output("cat /etc/gateway-bayes.json"))
    # One portion is enough to see where it begins; all of them take minutes.
    rc, said = read(settings, "--seconds 0")
    assert rc == 0
    assert f"{MAILBOX} at mail.example.org: Junk: 100 of 100 messages learned as spam; the next run goes on with it" in said
    assert counts() == (100, 0)
    for number, known in ((95_000, "0 known before"), (95_001, "1 known before"), (95_100, "1 known before"), (95_101, "0 known before")):
        write("/run/offer.eml", letter.format(number=number))
        assert known in gateway().check_output("gateway-bayes learn --spam /run/offer.eml; rm /run/offer.eml"), number


@contextlib.contextmanager
def silent_server(port):
    """A server on the gateway that takes connections and never says a word."""
    program = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(300)"
    gateway().check_output(f"systemd-run --collect --unit=silent-server python3 -c {json.dumps(program)}")
    try:
        wait_until(lambda: gateway().run(f"ss --no-header --listening --tcp 'sport = :{port}'").stdout, "the silent server")
        yield
    finally:
        gateway().run("systemctl stop silent-server")


def test_a_mailbox_that_cannot_be_read_is_named_and_the_others_are_read(mailbox):
    put("Junk", "an offer")
    settings = json.loads(gateway().check_output("cat /etc/gateway-bayes.json"))
    (good,) = settings["mailboxes"]
    wrong = good | {"password": "a wrong one"}
    slow = good | {"host": "127.0.0.1", "port": 9930, "username": "slow@example.org"}
    # Its certificate is not for this name.
    untrusted = good | {"host": "2001:db8:113::53"}
    lost = good | {"spam_folders": ["Nowhere", "Junk"], "ham_folders": []}
    with silent_server(9930):
        rc, said = read(settings | {"mailboxes": [wrong, slow, untrusted, lost]}, "--answer 15")
    assert rc == 1
    assert "teacher@example.org at mail.example.org:993" in said and "AUTHENTICATIONFAILED" in said
    assert "slow@example.org at 127.0.0.1:9930" in said and "timed out" in said
    assert "certificate is not valid for" in said
    assert "Nowhere" in said
    assert "a wrong one" not in said and good["password"] not in said
    assert counts()[0] == 1


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_state_is_shown_and_a_message_can_be_taken_back():
    write("/run/offer.eml", bytes(message("an offer\n")).decode().replace("\r\n", "\n"))
    try:
        gateway().check_output("gateway-bayes learn --spam --by carol /run/offer.eml")
        assert "1 spam and 0 ham are learned; SpamAssassin does not judge by it yet: it needs 200 of each" in gateway().check_output("gateway-bayes status")
        assert "1 known before" in gateway().check_output("gateway-bayes learn --spam --by carol /run/offer.eml")
        assert status()["taught"]["carol"]["spam"] == 1
        gateway().check_output("gateway-bayes forget --by carol /run/offer.eml")
        assert (counts(), status()["taught"]["carol"]["spam"]) == ((0, 0), 0)
        assert "1 learned" in gateway().check_output("gateway-bayes learn --ham --by carol /run/offer.eml")
    finally:
        gateway().check_output("rm /run/offer.eml")


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "it is empty"), ("just some text\n", "it does not begin with a header field")],
)
def test_a_broken_message_is_named_and_not_learned(content, said):
    gateway().check_output("mkdir /run/broken")
    try:
        gateway().check_output("printf %s > /run/broken/one", content)
        shown = gateway().check_output("gateway-bayes learn --spam /run/broken")
        assert f"/run/broken/one: {said}" in shown
        assert counts() == (0, 0)
    finally:
        gateway().check_output("rm -r /run/broken")


def test_nothing_is_said_to_be_learned_while_the_store_is_down():
    began = cursor()
    write("/run/offer.eml", bytes(message("an offer\n")).decode().replace("\r\n", "\n"))
    with stopped("redis-server"):
        done = gateway().run("gateway-bayes learn --spam /run/offer.eml")
    assert done.rc == 1 and "see that redis-server.service runs, then try again" in done.stderr, began
    gateway().check_output("rm /run/offer.eml")
