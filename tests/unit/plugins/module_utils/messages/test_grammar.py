# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of Postfix's log. Those of real runs are in debian12.jsonl and debian13.jsonl; here are the ones that are hard to come by."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._messages import grammar

ENVELOPE = "from=<a@example.org> to=<b@example.com> proto=ESMTP helo=<mail.example.org>"
HOSTILE = '"; from=<x@y> to=<z@w> proto=ESMTP helo=<h>"@example.com'


def test_a_quoted_address_does_not_pretend_to_be_an_envelope():
    text = f"NOQUEUE: reject: RCPT from m[192.0.2.1]:7: 550 5.1.1 <{HOSTILE}>: Recipient address rejected; from=<{HOSTILE}> to=<{HOSTILE}> proto=SMTP helo=<h>"
    line = grammar.parse("postfix/smtpd", text)
    assert (line.sender, line.recipient, line.text) == (HOSTILE, HOSTILE, f"550 5.1.1 <{HOSTILE}>: Recipient address rejected")


@pytest.mark.parametrize(
    ("identifier", "text", "expected"),
    [
        ("smtpd", "connect from unknown[2001:db8::1]:25", {"kind": "connected", "address": "2001:db8::1", "port": 25, "name": "unknown"}),
        ("smtpd", "lost connection after DATA (12 bytes) from m[192.0.2.1]:7", {"kind": "broken", "text": "lost connection after DATA", "port": 7}),
        ("smtpd", "timeout after END-OF-MESSAGE from m[192.0.2.1]:7", {"kind": "broken", "text": "timeout after END-OF-MESSAGE"}),
        (
            "submission/smtpd",
            "warning: m[192.0.2.1]:7: SASL PLAIN authentication failed: UGFzc3dvcmQ6, sasl_username=alice",
            {"kind": "refused", "step": "AUTH", "text": "SASL PLAIN authentication failed: UGFzc3dvcmQ6, sasl_username=alice"},
        ),
        (
            "smtpd",
            f"proxy-reject: END-OF-MESSAGE: 451 4.3.0 Error: queue file write error; {ENVELOPE}",
            {"kind": "answered", "status": "reject", "text": "451 4.3.0 Error: queue file write error", "sender": "a@example.org", "helo": "mail.example.org"},
        ),
        ("smtpd", f"proxy-reject: END-OF-MESSAGE: 554 5.7.0 one < bracket; {ENVELOPE}", {"text": "554 5.7.0 one < bracket", "recipient": "b@example.com"}),
        ("smtpd", "NOQUEUE: reject: MAIL from m[192.0.2.1]:7: 452 4.3.1 Insufficient system storage; proto=ESMTP helo=<h>", {"step": "MAIL", "sender": None}),
        ("postscreen", "NOQUEUE: reject: CONNECT from [192.0.2.1]:7: too many connections", {"kind": "refused", "text": "too many connections"}),
        ("postscreen", "DNSBL rank 4 for [192.0.2.1]:7", {"kind": "screened", "text": "DNSBL rank 4"}),
        ("postscreen", "BLACKLISTED [192.0.2.1]:7", {"kind": "screened", "text": "BLACKLISTED"}),
        ("postscreen", "HANGUP after 0.1 from [192.0.2.1]:7 in tests before SMTP handshake", {"kind": "disconnected", "port": 7}),
        ("qmgr", "4jcfcd3gCHzF2FS: from=<a@example.org>, status=expired, returned to sender", {"kind": "noted", "text": "expired, returned to sender"}),
        ("qmgr", "4jcfcd3gCHzF2FS: from=<>, size=12, nrcpt=1 (queue active)", {"kind": "active", "sender": "", "number": 12}),
        ("bounce", "4jcfcd3gCHzF2FS: sender non-delivery notification: 4jcfcd3gCHzF2FT", {"kind": "reported", "status": "4jcfcd3gCHzF2FT"}),
        ("pickup", "9B9AA19E07C: uid=0 from=<root>", {"kind": "local", "queue_id": "9B9AA19E07C", "sender": "root"}),
        ("postsuper", "4jcfcd3gCHzF2FS: removed", {"kind": "removed by hand"}),
        (
            "error",
            '4jcfcd3gCHzF2FS: to=<"a > b, c"@example.com>, orig_to=<d@example.com>, relay=none, delay=3, delays=2/1/0/0, dsn=4.4.1, status=deferred (a (b) c)',
            {"recipient": '"a > b, c"@example.com', "original": "d@example.com", "relay": "none", "status": "deferred", "text": "a (b) c", "dsn": "4.4.1"},
        ),
    ],
)
def test_what_a_line_says(identifier, text, expected):
    line = grammar.parse(f"postfix/{identifier}", text)
    assert {name: getattr(line, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text", ["", "x", "statistics: max connection rate 1/60s", "warning: dict_lmdb: no", "NOQUEUE: ", "4jcfcd3gCHzF2FS: to=<", "proxy-reject: " + "<" * 5000]
)
@pytest.mark.parametrize("program", ["smtpd", "postscreen", "qmgr", "cleanup", "smtp", "anvil", ""])
def test_other_lines_say_nothing(program, text):
    assert grammar.parse(f"postfix/{program}", text) is None
