# SPDX-License-Identifier: GPL-3.0-or-later
"""Pen pals: who answers mail of the site has points in his favour, if he proves who he is; and a store that is lost costs nothing but that."""

import contextlib
import time
import uuid

import dkim
import pytest
from _faults import FILES, added, main_process, reload_amavis, stopped
from _network import ALICE, BOB, STRANGER, TRUSTED, cursor, deliveries, gateway, message, newcomer, wait_for_journal, wait_until, windows_program
from ansible_collections.antispam.gateway.plugins.module_utils import _samples

STORE = "/run/redis/amavis.sock"
# Of the first the key is at hand, the second signs nothing. 203.0.113.20 may send for both of them (SPF).
SIGNS, FRIEND = "author@reject.example.org", "author@softly.example.org"
KEY = FILES / "test._domainkey.reject.example.org.pem"
# One more than the gateway takes.
SPAM = "This is worth seven points.\n"


@pytest.fixture(name="nobody_known", autouse=True)
def _nobody_known(network):
    gateway().check_output(f"redis-cli -s {STORE} -n 1 flushdb")
    yield
    gateway().check_output(f"redis-cli -s {STORE} -n 1 flushdb")


def write_to(recipients, author=ALICE, client=TRUSTED, answer="250 2.0.0", text="How are you?\n", headers=None, **arguments):
    """Somebody writes, and the answer is this; return the Message-ID."""
    record = client.converse(recipients=recipients, content=message(text, sender=author, recipients=recipients, headers=headers), **arguments)
    assert record.answer == answer, record
    return record.message_id


def letter(author=SIGNS, text=SPAM, answers=None, **more):
    headers = {"In-Reply-To": answers} if answers else None
    return message(text, sender=author, headers=headers, **more)


def signed(content, **options):
    text = bytes(content)
    return dkim.sign(text, b"test", b"reject.example.org", KEY.read_bytes(), include_headers=[b"from", b"subject", b"message-id"], **options) + text


def is_taken(content, recipients=(ALICE,), sender=SIGNS, client=STRANGER):
    """Whether a message is taken; then it had the points, and everybody has it."""
    record = client.converse(sender=sender, recipients=list(recipients), content=content)
    assert record.answer in ("250 2.0.0", "554 5.7.0"), record
    if record.answer == "554 5.7.0":
        assert "looks like spam" in record.text and deliveries(record.message_id) == []
        return False
    delivered = deliveries(record.message_id)
    assert sorted(each.mailbox for each in delivered) == sorted(recipients)
    assert all("GATEWAY_PEN_PAL=-4" in each.message["X-Spam-Status"] for each in delivered)
    return True


# --- Who is one -------------------------------------------------------------------------------------------------------


def test_who_was_written_to_and_signs_has_points():
    assert not is_taken(signed(letter()))
    write_to([SIGNS])
    assert is_taken(signed(letter()))
    # From wherever it comes, as mail programs and lists send it.
    assert is_taken(signed(letter()), sender="other@softly.example.org", client=newcomer())


def test_who_names_the_message_that_he_was_sent_has_points_without_a_signature():
    sent = write_to([FRIEND])
    assert is_taken(letter(FRIEND, answers=sent), sender=FRIEND)
    assert is_taken(message(SPAM, sender=FRIEND, headers={"References": f"<first@softly.example.org> {sent}"}), sender=FRIEND)


def test_an_address_that_anybody_may_write_is_no_proof():
    """SPF passes here, as it does at a host that sends for many."""
    sent = write_to([FRIEND])
    write_to([SIGNS])
    assert not is_taken(letter())
    assert not is_taken(letter(FRIEND), sender=FRIEND)
    assert not is_taken(letter(FRIEND, answers=f"<{uuid.uuid4()}@example.org>"), sender=FRIEND)
    # Of another one's letter.
    assert not is_taken(letter(SIGNS, answers=sent))
    assert not is_taken(signed(letter()).replace(b"worth seven points", b"worth seven points!"))


def test_a_signature_that_lets_text_be_added_is_no_proof():
    write_to([SIGNS])
    text = signed(letter(text="Hello.\n"), length=True) + SPAM.encode()
    assert not is_taken(text)


def test_two_authors_are_none():
    write_to([SIGNS])
    two = bytes(letter())
    assert not is_taken(signed(two.replace(b"From: ", b"From: other@reject.example.org, ", 1)))
    assert not is_taken(b"From: other@reject.example.org\r\n" + signed(two))


def test_who_claims_to_be_of_the_site_has_none():
    sent = write_to([BOB, FRIEND])
    assert not is_taken(letter(ALICE, answers=sent), recipients=[BOB], sender="sender@example.org")


def test_another_recipient_has_written_to_nobody():
    sent = write_to([SIGNS, FRIEND])
    assert not is_taken(signed(letter()), recipients=[BOB])
    assert not is_taken(letter(FRIEND, answers=sent), recipients=[BOB], sender=FRIEND)


@pytest.mark.holds("T22")
def test_one_message_has_one_answer_for_all_its_recipients():
    write_to([SIGNS])
    assert not is_taken(signed(letter()), recipients=[ALICE, BOB])
    write_to([SIGNS], author=BOB)
    assert is_taken(signed(letter()), recipients=[ALICE, BOB])


# --- What does not make one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "arguments"),
    [
        ({}, {"sender": ""}),
        ({"Auto-Submitted": "auto-replied"}, {}),
        ({"Precedence": "bulk"}, {}),
        ({"List-Id": "<news.example.com>"}, {}),
        ({"X-Auto-Response-Suppress": "All"}, {}),
        # What is forwarded for others.
        ({}, {"author": FRIEND, "sender": FRIEND}),
        ({}, {"sender": "srs0=x=y=softly.example.org=author@forwarder.example.org"}),
    ],
    ids=["null sender", "Auto-Submitted", "Precedence", "List-Id", "X-Auto-Response-Suppress", "other author", "other sender"],
)
def test_what_a_program_sends_makes_nobody_a_pen_pal(headers, arguments):
    sent = write_to([SIGNS], headers=headers, **arguments)
    assert not is_taken(signed(letter(answers=sent)))


def test_mail_from_outside_makes_nobody_a_pen_pal():
    write_to([BOB], author=SIGNS, client=STRANGER, sender=SIGNS)
    assert not is_taken(signed(letter()))
    assert not is_taken(signed(letter()), recipients=[BOB])


def test_mail_that_did_not_leave_makes_nobody_a_pen_pal():
    write_to([SIGNS], text=SPAM, answer="554 5.7.0")
    assert not is_taken(signed(letter()))


def test_a_message_to_very_many_makes_nobody_a_pen_pal():
    write_to([SIGNS, *(f"friend{number}@reject.example.org" for number in range(20))])
    assert not is_taken(signed(letter()))


def test_what_an_account_sends_counts_too():
    login = {"port": 587, "tls": "require", "username": ALICE, "password": "alice-secret", "sender": ALICE}
    write_to([SIGNS], client=STRANGER, **login)
    assert is_taken(signed(letter()))


# --- What the points are no help for ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "attachments"),
    [(f"{_samples.EICAR}\n", ()), (f"{_samples.GTUBE}\n", ()), ("Hello.\n", [("hello.exe", windows_program())]), (SPAM * 2 + "surelyspam\n", ())],
    ids=["a virus", "GTUBE", "a program", "more points"],
)
def test_a_pen_pal_sends_no_virus_no_program_and_no_sure_spam(text, attachments):
    sent = write_to([SIGNS])
    with added("etc/spamassassin/zz_sure_points.cf"):
        record = STRANGER.converse(sender=SIGNS, content=signed(letter(text=text, answers=sent, attachments=attachments)))
    assert record.answer == "554 5.7.0"


def test_a_pen_pal_is_refused_where_his_domain_asks_for_it():
    """The message names the right one, so that without DMARC it had the points."""
    sent = write_to([SIGNS])
    assert STRANGER.converse(sender=SIGNS, content=letter(text="Hello.\n", answers=sent)).answer == "250 2.0.0"
    record = newcomer().converse(sender=SIGNS, content=letter(answers=sent))
    assert record.answer == "554 5.7.0"


def test_what_the_site_says_of_a_sender_comes_first():
    """partner@example.org has -5 points by gateway_sender_scores."""
    sent = write_to(["partner@example.org"])
    record = STRANGER.converse(sender="partner@example.org", content=letter("partner@example.org", answers=sent))
    (delivered,) = deliveries(record.message_id)
    assert "AM.WBL=-5" in delivered.message["X-Spam-Status"]
    assert "GATEWAY_PEN_PAL" not in delivered.message["X-Spam-Status"]


# --- The store --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def down():
    with stopped("redis-server"):
        yield


@contextlib.contextmanager
def hanging():
    pid = main_process("redis-server")
    gateway().check_output(f"kill -STOP {pid}")
    try:
        yield
    finally:
        gateway().check_output(f"kill -CONT {pid}")


@contextlib.contextmanager
def out_of_reach():
    """A store that refuses what it is asked."""
    gateway().check_output(f"redis-cli -s {STORE} config set requirepass unknown")
    try:
        yield
    finally:
        gateway().check_output(f"redis-cli -s {STORE} --no-auth-warning -a unknown config set requirepass ''")


@pytest.mark.parametrize("fault", [down, hanging, out_of_reach], ids=["down", "stopped", "refusing"])
@pytest.mark.parametrize("bayes", [True, False], ids=["with Bayes", "without Bayes"])
def test_without_the_store_mail_is_judged_by_everything_else_in_time(fault, bayes):
    with contextlib.ExitStack() as stack:
        # No worker has given the store up, or has a connection to one of before.
        if not bayes:
            stack.enter_context(added("etc/spamassassin/zz_no_bayes.cf"))
        else:
            reload_amavis()
        write_to([SIGNS])
        assert is_taken(signed(letter()))
        began = cursor()
        stack.enter_context(fault())
        seconds = []
        for expected, send in (
            ("554 5.7.0", lambda: STRANGER.converse(sender=SIGNS, content=signed(letter()))),
            ("250 2.0.0", lambda: STRANGER.converse(sender=SIGNS, content=signed(letter(text="Hello.\n")))),
            ("250 2.0.0", lambda: TRUSTED.converse(recipients=[SIGNS], content=message(sender=ALICE, recipients=[SIGNS]))),
        ):
            start = time.monotonic()
            assert send().answer == expected
            seconds.append(time.monotonic() - start)
        assert max(seconds) < 6, seconds
        # Whichever asks first.
        assert wait_for_journal(began, "the store is not asked for 30 s")
        if not bayes:
            assert wait_for_journal(began, "pen pals: the store is not asked for 30 s")


def test_a_store_that_comes_back_counts_again():
    gateway().check_output(f"kill -KILL {main_process('redis-server')}")
    wait_until(lambda: gateway().run(f"redis-cli -s {STORE} ping").stdout == "PONG\n", "redis")

    def known():
        write_to([SIGNS])
        return is_taken(signed(letter()))

    wait_until(known, "the store to be asked again", 60)


def test_no_address_and_no_message_stand_in_the_store_and_all_is_forgotten_some_day():
    write_to([SIGNS, FRIEND])
    keys = gateway().check_output(f"redis-cli -s {STORE} -n 1 keys '*'").split()
    assert len(keys) == 4 and not any("@" in key or "example" in key for key in keys)
    for key in keys:
        assert 0 < int(gateway().check_output(f"redis-cli -s {STORE} -n 1 ttl {key}")) <= 30 * 86400
