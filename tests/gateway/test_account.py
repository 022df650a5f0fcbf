# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-account: an account that was stolen is stopped at once, with what it has queued, and comes back."""

import json
import shlex
import subprocess

import pytest
from _network import ALICE, BOB, GATEWAY_ADDRESS, OUTSIDE, STRANGER, deliveries, gateway, inside, mailboxes, queue, settle, ssh, wait_until

BY_ALICE = {"port": 587, "tls": "require", "username": ALICE, "password": "alice-secret", "sender": ALICE, "recipients": [BOB]}
BY_BOB = {**BY_ALICE, "username": BOB, "password": "bob-secret", "sender": BOB, "recipients": [ALICE]}
SUSPENDED = "421 4.7.0"


def account(*words):
    return json.loads(gateway().check_output(" ".join(["gateway-account", *words, "--json"])))


@pytest.fixture(name="back", autouse=True)
def _back(network):
    settle()
    yield
    gateway().run(f"gateway-account resume {ALICE} --release; postqueue -f")
    settle()


@pytest.mark.holds("T44")
def test_a_suspended_account_sends_nothing_others_do_and_it_comes_back():
    assert account("suspend", ALICE)["changed"] is True
    assert account("suspend", ALICE)["changed"] is False
    assert account("list")["suspended"] == [ALICE]
    gateway().check_output("systemctl restart 'postfix*'")
    record = STRANGER.converse(**BY_ALICE, may_break_off=True)
    assert record.answers("rcpt") == [SUSPENDED]
    assert STRANGER.converse(**BY_BOB).answer == "250 2.0.0"
    # Mail for the account goes on.
    assert STRANGER.converse(recipients=[ALICE]).answer == "250 2.0.0"
    assert account("resume", ALICE) == {"changed": True, "on_hold": 0, "released": 0}
    assert STRANGER.converse(**BY_ALICE).answer == "250 2.0.0"


# Logs in, says so, waits for a line on its standard input, and sends.
SESSION = f"""
import smtplib, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
session = smtplib.SMTP("{{gateway}}", 587, local_hostname="client.example.org", source_address=("{STRANGER.source_address}", 0))
session.starttls(context=context)
session.login("{ALICE}", "alice-secret")
assert session.mail("{ALICE}")[0] == 250 and session.rcpt("{BOB}")[0] == 250
print("ready", flush=True)
sys.stdin.readline()
print(*session.docmd("DATA"))
try:
    print(*session.docmd("NOOP"))
except smtplib.SMTPServerDisconnected:
    print("closed")
"""


@pytest.mark.holds("T44")
def test_a_session_that_is_open_ends():
    program = SESSION.format(gateway=GATEWAY_ADDRESS)
    session = subprocess.Popen([*ssh(OUTSIDE), shlex.join(["python3", "-c", program])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert session.stdout.readline() == "ready\n"
    account("suspend", ALICE)
    said, _nothing = session.communicate("\n", timeout=60)
    assert said.startswith("421 ") and "This account is suspended" in said
    assert said.endswith("closed\n")


@pytest.mark.holds("T44")
def test_what_the_account_has_in_the_queue_is_held_and_counted_and_goes_when_it_is_said():
    inside().check_output("systemctl stop postfix")
    try:
        sent = STRANGER.converse(**BY_ALICE)
        other = STRANGER.converse(**BY_BOB)
        wait_until(lambda: [entry["queue_name"] for entry in queue(gateway())] == ["deferred"] * 2, "the mail to wait")
        assert account("suspend", ALICE, "--dry-run")["on_hold"] == 1
        assert account("list")["suspended"] == []
        assert account("suspend", ALICE) == {"changed": True, "on_hold": 1, "released": 0}
    finally:
        inside().check_output("systemctl start postfix")
    gateway().check_output("postqueue -f")
    wait_until(lambda: len(queue(gateway())) == 1, "what others have sent to be delivered")
    wait_until(lambda: [each.mailbox for each in deliveries(other.message_id, settled=False)] == [ALICE], "it to arrive")
    assert deliveries(sent.message_id, settled=False) == []
    assert account("resume", ALICE) == {"changed": True, "on_hold": 1, "released": 0}
    assert account("resume", ALICE, "--release") == {"changed": True, "on_hold": 0, "released": 1}
    gateway().check_output("postqueue -f")
    assert mailboxes(sent.message_id) == [BOB]


def test_who_is_no_account_is_named_with_those_who_are():
    done = gateway().run("gateway-account suspend nobody@example.com")
    assert done.rc == 2
    assert done.stderr.startswith("gateway-account: nobody@example.com is no account of this gateway; those are alice@example.com, bob@example.com, ")
