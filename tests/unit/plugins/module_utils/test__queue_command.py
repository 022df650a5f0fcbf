# SPDX-License-Identifier: GPL-3.0-or-later
"""Which messages are meant, and what is shown of them; tests/gateway/test_queue_command.py acts on a real queue."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _queue_command

NOW = 1_800_000_000
REFUSED = "connect to mail.example.net[203.0.113.9]:25: Connection refused"


def message(**about):
    return {
        "queue_name": "deferred",
        "queue_id": "4cXh2k1Zr8z5k",
        "arrival_time": NOW - 7200,
        "message_size": 1500,
        "sender": "Alice@example.com",
        "recipients": [{"address": "bob@example.net", "delay_reason": REFUSED}, {"address": "carol@example.org"}],
        **about,
    }


@pytest.mark.parametrize(
    ("conditions", "meant"),
    [
        ({}, True),
        ({"sender": "alice@EXAMPLE.com"}, True),
        ({"sender": "<alice@example.com>"}, True),
        ({"sender": "@example.com"}, True),
        ({"sender": "lice@example.com"}, False),
        ({"sender": "@ample.com"}, False),
        ({"sender": "<>"}, False),
        ({"recipient": "carol@example.org"}, True),
        ({"recipient": "@example.net", "reason": "CONNECTION refused"}, True),
        ({"recipient": "dave@example.net"}, False),
        ({"reason": "timed out"}, False),
        ({"older_than": 7200}, True),
        ({"older_than": 7201}, False),
        ({"queue": "deferred"}, True),
        ({"queue": "hold"}, False),
        ({"queue_ids": ["other", "4cXh2k1Zr8z5k"]}, True),
        ({"queue_ids": ["4cxh2k1zr8z5k"]}, False),
        ({"sender": "@example.com", "recipient": "nobody@example.org"}, False),
    ],
)
def test_a_message_is_meant_where_all_that_is_given_holds(conditions, meant):
    assert _queue_command.Conditions(**conditions).meet(message(), NOW) is meant


def test_a_report_has_no_sender():
    assert _queue_command.Conditions(sender="<>").meet(message(sender=""), NOW)
    assert "from <>" in _queue_command.render([_queue_command.shape(message(sender=""), NOW)])


@pytest.mark.parametrize("text", ["2", "2 h", "-2h", "h", "2y", "1234567h"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="write it as 30m, 2h, 3d or 1w"):
        _queue_command.seconds(text)


def test_what_is_shown():
    assert _queue_command.render([_queue_command.shape(message(), NOW)]).splitlines() == [
        "4cXh2k1Zr8z5k  deferred  2 h  2 KiB  from Alice@example.com",
        f"    to bob@example.net: {REFUSED}",
        "    to carol@example.org",
    ]


def test_many_recipients_are_counted():
    many = [{"address": f"person{number}@example.org"} for number in range(1000)]
    assert _queue_command.render([_queue_command.shape(message(recipients=many), NOW)]).endswith("    and 995 more recipients")


def test_what_strangers_write_moves_no_cursor():
    hostile = message(sender='"\x1b[31m"@example.org', recipients=[{"address": "bob@example.net", "delay_reason": "no\x07\u202e\udcff"}])
    shown = _queue_command.render([_queue_command.shape(hostile, NOW)])
    assert all(each.isprintable() or each == "\n" for each in shown)
    assert r"\x1b[31m" in shown
