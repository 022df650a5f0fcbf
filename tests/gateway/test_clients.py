# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may send: what a client has to say and to be, and what is asked of its sender address."""

import pytest
from _network import (
    ALICE,
    GATEWAY_INSIDE_ADDRESS,
    NO_REVERSE_NAME,
    OUTSIDE,
    STRANGER,
    TRUSTED,
    WRONG_REVERSE_NAME,
    Client,
    debian,
    journal,
    mailboxes,
    message,
)

MAIL = "MAIL FROM:<sender@example.org>\r\n"
RCPT = f"RCPT TO:<{ALICE}>\r\n"


def answers(*script, client=STRANGER):
    """The answer to each command after the greeting."""
    return client.converse(script=["", *script, "QUIT\r\n"]).answers()[1 : len(script) + 1]


# --- The client -------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S3", "D3")
def test_a_client_that_says_no_helo_is_refused():
    assert answers(MAIL) == ["503 5.5.1"]


@pytest.mark.holds("S3", "D3")
def test_helo_is_enough_for_an_old_client():
    assert answers("HELO mail.example.org\r\n", MAIL, RCPT) == ["250", "250 2.1.0", "250 2.1.5"]


@pytest.mark.holds("D4", "S3")
def test_a_client_without_a_reverse_name_is_deferred_not_refused():
    record = NO_REVERSE_NAME.converse()
    assert record.reply["step"] == "rcpt"
    assert record.answer == "450 4.7.1"


@pytest.mark.holds("D4", "S3")
def test_a_sender_without_forward_confirmed_reverse_name_is_not_lost():
    record = WRONG_REVERSE_NAME.converse()
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.fixture(name="trusted_without_name")
def _trusted_without_name(outside):
    outside.check_output("ip address replace 198.51.100.54/24 dev inside0")
    yield Client(OUTSIDE, "198.51.100.54", "printer", host=GATEWAY_INSIDE_ADDRESS)
    outside.check_output("ip address delete 198.51.100.54/24 dev inside0")


@pytest.mark.holds("S3", "S9")
def test_a_trusted_client_needs_no_reverse_name(trusted_without_name):
    assert trusted_without_name.converse(stop_after="rcpt", sender="printer@example.com").answer == "250 2.1.5"


# --- The sender -------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S3")
def test_a_sender_domain_that_does_not_exist_is_deferred():
    assert STRANGER.converse(sender="sender@nowhere.example.org", stop_after="rcpt").answer == "450 4.1.8"


@pytest.mark.holds("S3")
def test_a_sender_without_a_full_domain_is_refused():
    assert STRANGER.converse(sender="sender@localhost", stop_after="rcpt").answer == "504 5.5.2"


@pytest.mark.holds("S3")
@pytest.mark.parametrize("path", ["sender@example.org", "<sender@example.org", "sender example.org", "<Some Sender> <sender@example.org>"])
def test_a_sender_that_is_not_written_as_the_rfc_says_is_refused(path):
    assert answers("EHLO mail.example.org\r\n", f"MAIL FROM:{path}\r\n")[-1] in ("501 5.1.7", "501 5.5.4", "555 5.5.4")


# --- What is offered --------------------------------------------------------------------------------------------------


@pytest.mark.holds("T9", "D16")
def test_only_what_the_whole_path_supports_is_offered():
    offered = STRANGER.converse(stop_after="helo", tls="never").extensions
    assert sorted(offered) == ["8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "SIZE 52428800", "STARTTLS"]


@pytest.mark.holds("T9", "D16")
@pytest.mark.parametrize("client", [STRANGER, TRUSTED], ids=["stranger", "trusted"])
def test_authentication_is_not_offered_over_tls_either(client):
    offered = client.converse(stop_after="helo", tls="require").extensions
    assert sorted(offered) == ["8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "SIZE 52428800"]


@pytest.mark.holds("S3", "T9")
@pytest.mark.parametrize(
    "command",
    [
        f"VRFY {ALICE}",
        "EXPN staff",
        "ETRN example.com",
        "AUTH PLAIN AAAA",
        "XFORWARD NAME=mail.example.com",
        "XCLIENT NAME=mail.example.com",
        "BDAT 5 LAST",
    ],
)
def test_what_is_not_offered_is_not_done(command):
    assert answers("EHLO mail.example.org\r\n", command + "\r\n")[-1][0] == "5"


# --- Talking before one's turn ----------------------------------------------------------------------------------------


@pytest.mark.holds("D16")
def test_a_message_sent_before_the_go_ahead_is_refused():
    content = message()
    record = STRANGER.converse(script=["", "EHLO mail.example.org\r\n", MAIL, RCPT, "DATA\r\n" + content.as_string() + ".\r\nQUIT\r\n"])
    # Debian 13 hangs up then, Debian 12 goes on.
    assert record.answers()[4] == ("503 5.5.0" if debian() == 12 else "554 5.5.0")
    assert mailboxes(content["Message-ID"]) == []


@pytest.mark.holds("S1")
def test_pipelining_as_the_rfc_allows_it_is_welcome():
    content = message()
    record = STRANGER.converse(
        script=["", "EHLO mail.example.org\r\n", {"send": MAIL + RCPT + "DATA\r\n", "replies": 3}, content.as_string() + ".\r\n", "QUIT\r\n"]
    )
    assert record.answers()[2:6] == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert mailboxes(content["Message-ID"]) == [ALICE]


@pytest.mark.holds("T17")
def test_a_long_from_line_at_the_start_of_data_panics_no_process(began):
    if debian() == 12:
        pytest.skip("Debian 12's Postfix panics: gateway_accept_debian12_postfix_panic accepts just this")
    content = "From " + 3000 * "x" + "\r\n" + message().as_string()
    record = STRANGER.converse(script=["", "EHLO mail.example.org\r\n", MAIL, RCPT, "DATA\r\n", content + ".\r\n", "QUIT\r\n"])
    assert len(record.replies) == 7
    assert record.answers()[5][0] in "25"
    assert "panic" not in journal(began) and "signal" not in journal(began)
