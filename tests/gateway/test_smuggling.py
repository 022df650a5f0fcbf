# SPDX-License-Identifier: GPL-3.0-or-later
"""SMTP smuggling: only CRLF "." CRLF ends a message; no other line ends make two messages out of one."""

import itertools

import pytest
from _network import ALICE, BOB, GATEWAY, STRANGER, Client, mailboxes, message

FIRST, SECOND = ALICE, BOB
LINE_ENDS = {"CR": "\r", "LF": "\n", "CRLF": "\r\n"}
VARIANTS = [pair for pair in itertools.product(LINE_ENDS, repeat=2) if pair != ("CRLF", "CRLF")]

LISTENERS = {
    "front": (STRANGER, 25),
    "reinjection": (Client(GATEWAY, "127.0.0.1", "localhost", host="127.0.0.1"), 10025),
}


@pytest.mark.holds("D18", "D8")
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("before, after", VARIANTS, ids="".join)
def test_a_bare_newline_never_splits_a_message(listener, before, after):
    client, port = LISTENERS[listener]
    outer, smuggled = message("The one message.\n", recipients=[FIRST]), message("Smuggled.\n", recipients=[SECOND])
    end_of_data = LINE_ENDS[before] + "." + LINE_ENDS[after]
    hidden = f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<{SECOND}>\r\nDATA\r\n{smuggled.as_string()}"
    record = client.converse(
        port=port,
        script=["", "EHLO mail.example.org\r\n", "MAIL FROM:<sender@example.org>\r\n", f"RCPT TO:<{FIRST}>\r\n", "DATA\r\n"]
        + [outer.as_string().rstrip("\r\n") + end_of_data + hidden + ".\r\n", "QUIT\r\n"],
    )
    assert record.answers()[4] == "354"
    # Refused, or one message of which all that follows is text.
    whole = mailboxes(smuggled["Message-ID"])
    assert whole in ([], [FIRST])
    assert mailboxes(outer["Message-ID"]) == whole


@pytest.mark.holds("D18")
def test_a_message_whose_lines_end_with_bare_newlines_arrives_whole():
    """Such clients exist, and what they send is harmless when it is normalised."""
    content = message("One.\nTwo.\n")
    record = STRANGER.converse(
        script=["", "EHLO mail.example.org\r\n", "MAIL FROM:<sender@example.org>\r\n", f"RCPT TO:<{FIRST}>\r\n", "DATA\r\n"]
        + [content.as_string().replace("\r\n", "\n") + "\r\n.\r\n", "QUIT\r\n"]
    )
    assert record.answers()[5] == "250 2.0.0"
    assert mailboxes(content["Message-ID"]) == [FIRST]
