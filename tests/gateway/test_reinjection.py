# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back in, 127.0.0.1:10025: it takes what amavis has passed, whatever it is, and knows the real client."""

import pytest
from _network import GATEWAY, STRANGER, Client, wait_for_journal

LOCAL = Client(GATEWAY, "127.0.0.1", "localhost", host="127.0.0.1")


def asked(**arguments):
    return LOCAL.converse(port=10025, stop_after="rcpt", **arguments)


@pytest.mark.holds("S2", "D8")
@pytest.mark.parametrize(
    "sender, recipient",
    [
        ("sender@nowhere.example.org", "alice@example.com"),
        ("sender@localhost", "alice@example.com"),
        ("sender@example.org", "nobody@example.com"),
        ("sender@example.org", "friend@example.org"),
        ("sender@example.org", "postmaster"),
    ],
)
def test_nothing_is_judged_a_second_time(sender, recipient):
    assert asked(sender=sender, recipients=[recipient]).answer == "250 2.1.5"


@pytest.mark.holds("S2", "D8")
def test_amavis_may_tell_the_real_client():
    record = LOCAL.converse(port=10025, script=["", "EHLO localhost\r\n", "XFORWARD NAME=mail.example.org ADDR=203.0.113.20\r\n", "QUIT\r\n"])
    assert record.answers()[2] == "250 2.0.0"


@pytest.mark.holds("S2", "T9")
def test_it_offers_xforward_and_more_room_than_the_front_listener():
    offered = LOCAL.converse(port=10025, stop_after="helo").extensions
    assert "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT" in offered
    (size,) = [int(line.removeprefix("SIZE ")) for line in offered if line.startswith("SIZE ")]
    assert size > 52428800
    assert not {"CHUNKING", "STARTTLS", "SMTPUTF8"} & set(offered)


@pytest.mark.holds("S2")
def test_the_log_of_accepted_mail_names_the_real_client(began):
    record = STRANGER.converse()
    (line,) = wait_for_journal(began, f"{record.queue_id}: client=localhost[127.0.0.1]:")
    assert ", orig_client=mail.example.org[203.0.113.20]:" in line
