# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies: what two domains answer to the same message, one verdict a message, and every recipient is reached in the end."""

import pytest
from _faults import stopped
from _network import ALICE, BOB, ENCRYPTED_ZIP, STRANGER, TRUSTED, cursor, gateway, journal, mailboxes, message, newcomer, wait_for_journal, wait_until
from _playbook import run

CAROL, STAFF = "carol@example.com", "anybody@staff.example.com"
POLICIES = [
    # Mail with 7 points is refused by the site, and delivered here.
    {"name": "lenient", "domains": ["staff.example.com"], "spam_kill_level": 9, "allowed_extensions": ["exe"]},
    {
        "name": "strict",
        "recipients": [CAROL],
        "spam_kill_level": 3,
        "spam_tag2_level": 2,
        "encrypted_content": "refuse",
        "allowed_senders": ["friend@example.org"],
        "denied_senders": [".rival.example.org"],
    },
]
SEVEN = "This is worth seven points.\n"


@pytest.fixture(name="policies", scope="module", autouse=True)
def _policies(network):
    done = run(variables={"gateway_policies": POLICIES})
    assert done.rc == 0, done
    yield
    done = run()
    assert done.rc == 0, done
    assert gateway().run("systemctl is-active gateway-policy-service").stdout.strip() != "active"


def send(content, *recipients, client=STRANGER, **more):
    return client.converse(recipients=list(recipients), content=content, **more)


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        (message(SEVEN), {BOB: "554 5.7.0", STAFF: "250 2.0.0", CAROL: "554 5.7.0"}),
        (message(attachments=[("setup.exe", b"just text")]), {BOB: "554 5.7.0", STAFF: "250 2.0.0", CAROL: "554 5.7.0"}),
        (message(attachments=[("setup.js", b"just text")]), {BOB: "554 5.7.0", STAFF: "554 5.7.0", CAROL: "554 5.7.0"}),
        (message(attachments=[("secret.zip", ENCRYPTED_ZIP)]), {BOB: "250 2.0.0", STAFF: "250 2.0.0", CAROL: "554 5.7.0"}),
    ],
    ids=["seven points", "a program", "a script", "an encrypted archive"],
)
def test_the_same_message_is_judged_by_the_policy_of_its_recipient(content, answers):
    for recipient, answer in answers.items():
        assert send(content, recipient).answer == answer, recipient


@pytest.mark.parametrize("sample", ["gtube", "eicar"])
def test_every_policy_refuses_what_is_surely_spam_or_a_virus(sample):
    for recipient in (BOB, STAFF, CAROL):
        assert STRANGER.converse(sample=sample, recipients=[recipient]).answer == "554 5.7.0"


def test_senders_are_listed_for_a_policy_alone():
    assert send(message(SEVEN), CAROL, sender="friend@example.org").answer == "250 2.0.0"
    assert send(message(SEVEN), BOB, sender="friend@example.org").answer == "554 5.7.0"
    assert send(message(), CAROL, sender="sales@sub.rival.example.org").answer in ("554 5.7.0", "450 4.1.8")


def test_a_recipient_of_another_policy_is_put_off_and_the_others_get_the_message():
    record = send(message(), BOB, STAFF, ALICE, CAROL)
    assert record.answers("rcpt") == ["250 2.1.5", "452 4.5.3", "250 2.1.5", "452 4.5.3"]
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE, BOB]


def test_a_message_has_one_verdict_whoever_comes_first():
    record = send(message(SEVEN), STAFF, BOB)
    assert (record.answers("rcpt"), record.answer) == (["250 2.1.5", "452 4.5.3"], "250 2.0.0")
    assert mailboxes(record.message_id) == ["all@staff.example.com"]
    record = send(message(SEVEN), BOB, STAFF)
    assert (record.answers("rcpt"), record.answer) == (["250 2.1.5", "452 4.5.3"], "554 5.7.0")
    assert mailboxes(record.message_id) == []


def test_a_recipient_who_does_not_exist_decides_nothing():
    record = send(message(), "nobody@example.com", STAFF)
    assert record.answers("rcpt") == ["550 5.1.1", "250 2.1.5"]


def test_the_postmaster_goes_with_every_policy():
    record = send(message(), "postmaster@example.com", CAROL)
    assert record.answers("rcpt") == ["250 2.1.5", "250 2.1.5"]


def test_a_report_of_delivery_is_not_put_off_and_has_one_verdict():
    record = send(message(SEVEN), STAFF, BOB, sender="")
    assert record.answers("rcpt") == ["250 2.1.5", "250 2.1.5"]
    assert (record.answer, mailboxes(record.message_id)) == ("554 5.7.0", [])


def test_a_trusted_host_comes_back_and_an_account_need_not():
    assert send(message(sender=ALICE), BOB, STAFF, client=TRUSTED).answers("rcpt") == ["250 2.1.5", "452 4.5.3"]
    login = {"port": 587, "tls": "require", "username": ALICE, "password": "alice-secret", "sender": ALICE}
    record = send(message(sender=ALICE), BOB, STAFF, CAROL, **login)
    assert record.answers("rcpt") == ["250 2.1.5"] * 3
    assert len(mailboxes(record.message_id)) == 3


@pytest.mark.parametrize("stress", ["", "yes"], ids=["at ease", "under stress"])
def test_one_of_a_policy_and_a_hundred_of_another_are_all_reached(stress):
    recipients = [CAROL, *(f"person{number}@staff.example.com" for number in range(100))]
    if stress:
        gateway().check_output("postconf -e stress=yes && postfix reload && sleep 1")
    try:
        content = message(recipients=[CAROL])
        record = send(content, *recipients)
        assert record.answers("rcpt") == ["250 2.1.5"] + ["452 4.5.3"] * 100
        assert record.answer == "250 2.0.0"
        # Its client comes back with those who are left.
        again = send(content, *recipients[1:])
        assert again.answers("rcpt") == ["250 2.1.5"] * 100
        assert again.answer == "250 2.0.0"
        assert mailboxes(content["Message-ID"]).count(CAROL) == 1
    finally:
        if stress:
            gateway().check_output("postconf -X stress && postfix reload && sleep 1")


def test_who_guesses_recipients_is_told_to_go():
    record = newcomer().converse(recipients=[f"guess{number}@example.com" for number in range(15)], stop_after="rcpt", may_break_off=True)
    assert record.answers("rcpt") == ["550 5.1.1"] * 10 + ["421 4.7.0"]


def test_while_the_service_is_down_clients_come_back():
    began = cursor()
    # Postfix has a connection to it.
    assert STRANGER.converse(stop_after="rcpt").answer == "250 2.1.5"
    with stopped("gateway-policy-service"):
        assert "timed out" not in journal(began, units=["gateway-policy-service"]), "it ends when it is told to"
        assert STRANGER.converse(stop_after="rcpt").answer == "451 4.3.0"
    assert wait_for_journal(began, "Please try again later")
    wait_until(lambda: STRANGER.converse(stop_after="rcpt").answer == "250 2.1.5", "the service")


def test_the_service_comes_back_by_itself():
    pid = gateway().check_output("systemctl show --property=MainPID --value gateway-policy-service").strip()
    gateway().check_output(f"kill -KILL {pid}")
    wait_until(lambda: STRANGER.converse(stop_after="rcpt").answer == "250 2.1.5", "the service")
