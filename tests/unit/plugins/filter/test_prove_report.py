# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.antispam.gateway.plugins.filter.prove_report import prove_report

RELAY = {"what": "relay attempt", "promise": {"step": "rcpt", "code": 554, "enhanced_code": "5.7.1"}, "trusted_may": True}
EARLY = {"what": "early talker", "promise": {"step": "rcpt", "code": 550, "enhanced_code": "5.5.1"}, "known_may": True}
TESTED, NOT_TESTED = ["220-mx1.example.com ESMTP", "220 mx1.example.com ESMTP"], ["220 mx1.example.com ESMTP"]
SPAM = {"what": "GTUBE (spam)", "promise": {"step": "end_of_data", "code": 554, "enhanced_code": "5.7.0", "text": "spam"}}


def conversation(case, code, enhanced_code, text="Ok", step=None, local_address="203.0.113.20"):
    reply = {"step": step or case["promise"]["step"], "code": code, "enhanced_code": enhanced_code, "text": text, "seconds": 0.25}
    verdict = {2: "accepted", 4: "deferred", 5: "refused"}[code // 100]
    return {
        "item": case,
        "host": "mx1.example.com",
        "port": 25,
        "peer_address": "203.0.113.10",
        "local_address": local_address,
        "verdict": verdict,
        "reply": reply,
        "replies": [reply],
        "tls": None,
    }


def test_the_table():
    report = prove_report(
        [
            conversation(SPAM, 554, "5.7.0", "Reject, id=1-01 - SPAM"),
            conversation(RELAY, 250, "2.1.5"),
            {"item": {**SPAM, "what": "EICAR"}, "failed": False, "msg": "mx1.example.com[203.0.113.10]:25, at connect: connection refused."},
        ]
    )
    assert report["table"] == [
        "mx1.example.com (203.0.113.10 port 25), asked from 203.0.113.20",
        "VERDICT  SECONDS  WHAT WAS SENT  WHAT THE GATEWAY ANSWERED",
        "ok          0.25  GTUBE (spam)   554 5.7.0 Reject, id=1-01 - SPAM",
        "NOT OK      0.25  relay attempt  250 2.1.5 Ok",
        "                                 promised: 554 5.7.1 at RCPT",
        "NOT OK            EICAR          mx1.example.com[203.0.113.10]:25, at connect: connection refused.",
        "                                 promised: 554 5.7.0 with 'spam' at the end of DATA",
    ]
    assert report["not_ok"] == ["relay attempt", "EICAR"]


@pytest.mark.parametrize(
    ("code", "enhanced_code", "text", "step"),
    [
        (550, "5.7.0", "spam", "end_of_data"),
        (554, "5.7.1", "spam", "end_of_data"),
        (554, None, "spam", "end_of_data"),
        (554, "5.7.0", "INFECTED", "end_of_data"),
        (554, "5.7.0", "spam", "rcpt"),
        (250, "2.0.0", "queued as X", "end_of_data"),
        (451, "4.3.0", "spam", "end_of_data"),
    ],
)
def test_another_reply_is_not_ok(code, enhanced_code, text, step):
    assert prove_report([conversation(SPAM, code, enhanced_code, text, step)])["not_ok"] == ["GTUBE (spam)"]


def test_the_reply_at_the_promised_step_counts():
    result = conversation(RELAY, 554, "5.7.1", "Relay access denied")
    result["replies"].append(dict(result["reply"], step="quit", code=221))
    assert prove_report([result])["not_ok"] == []


@pytest.mark.parametrize("local_address", ["198.51.100.25", "127.0.0.1", "::1", "2001:db8:100::25"])
def test_a_trusted_client_may_relay(local_address):
    report = prove_report([conversation(RELAY, 250, "2.1.5", local_address=local_address)], ["198.51.100.0/24", "[2001:db8:100::]/64"])
    assert report["not_ok"] == []
    assert report["table"][2].startswith("not applicable")


@pytest.mark.parametrize("code", [450, 550])
def test_a_trusted_client_with_another_refusal_is_not_ok(code):
    report = prove_report([conversation(RELAY, code, None, local_address="198.51.100.25")], ["198.51.100.0/24"])
    assert report["not_ok"] == ["relay attempt"]


def test_only_a_row_that_says_so_excuses_a_trusted_client():
    report = prove_report([conversation(SPAM, 250, "2.0.0", local_address="198.51.100.25")], ["198.51.100.0/24"])
    assert report["not_ok"] == ["GTUBE (spam)"]


def greeted(result, lines):
    """Put the greeting before what was replied."""
    greeting = {"step": "connect", "code": 220, "enhanced_code": None, "text": "", "lines": lines, "seconds": 6.0}
    return {**result, "replies": [greeting, *result["replies"]]}


def test_a_client_that_was_not_tested_may_talk_early():
    report = prove_report([greeted(conversation(EARLY, 250, "2.1.5"), NOT_TESTED)])
    assert report["not_ok"] == []
    assert report["table"][2].startswith("not applicable")
    assert report["table"][2].endswith("250 2.1.5 Ok (known: 203.0.113.20 was not tested again)")


def test_a_client_that_was_tested_may_not_talk_early():
    report = prove_report([greeted(conversation(EARLY, 250, "2.1.5"), TESTED)])
    assert report["not_ok"] == ["early talker"]
    assert report["table"][3].endswith("promised: 550 5.5.1 at RCPT")


def test_a_greeting_that_was_not_finished_is_a_test():
    assert prove_report([greeted(conversation(EARLY, 250, "2.1.5"), TESTED[:1])])["not_ok"] == ["early talker"]


@pytest.mark.parametrize("lines", [TESTED, NOT_TESTED])
def test_an_early_talker_that_is_refused_as_promised_is_ok(lines):
    report = prove_report([greeted(conversation(EARLY, 550, "5.5.1", "Protocol error"), lines)])
    assert report["not_ok"] == []
    assert report["table"][2].startswith("ok ")


@pytest.mark.parametrize(("code", "enhanced_code"), [(450, "4.3.2"), (550, "5.7.1"), (554, "5.5.1")])
def test_another_refusal_of_a_client_that_was_not_tested_is_not_ok(code, enhanced_code):
    assert prove_report([greeted(conversation(EARLY, code, enhanced_code), NOT_TESTED)])["not_ok"] == ["early talker"]


def test_only_a_row_that_says_so_excuses_a_client_that_was_not_tested():
    rows = [{**EARLY, "known_may": False}, {key: value for key, value in EARLY.items() if key != "known_may"}, RELAY]
    report = prove_report([greeted(conversation(each, 250, "2.1.5"), NOT_TESTED) for each in rows])
    assert report["not_ok"] == ["early talker", "early talker", "relay attempt"]


def test_a_trusted_client_that_was_tested_is_not_excused():
    """Trusted clients are not tested: this one did not pass for one."""
    report = prove_report([greeted(conversation(EARLY, 250, "2.1.5", local_address="198.51.100.25"), TESTED)], ["198.51.100.0/24"])
    assert report["not_ok"] == ["early talker"]


def test_a_row_that_was_skipped():
    report = prove_report([{"item": {**SPAM, "not_applicable": "no list"}, "skipped": True}])
    assert report["not_ok"] == []
    assert report["table"][1].split(maxsplit=4)[:2] == ["not", "applicable"]
    assert report["table"][1].endswith("no list")


def test_a_wrong_network():
    with pytest.raises(AnsibleFilterError, match="trusted_networks"):
        prove_report([], ["198.51.100.0/99"])


@pytest.mark.parametrize(("enhanced_code", "text"), [("4.2.0", "Greylisted"), ("4.3.2", "Service currently unavailable")])
def test_a_new_client_that_is_put_off_proves_nothing_where_the_gateway_does_that(enhanced_code, text):
    results = [conversation(SPAM, 450, enhanced_code, text, "rcpt")]
    assert prove_report(results)["not_ok"] == ["GTUBE (spam)"]
    report = prove_report(results, puts_off=True)
    assert report["not_ok"] == []
    assert report["table"][2].endswith("(a new client: ask again in some minutes)")


@pytest.mark.parametrize("enhanced_code", ["4.7.1", "4.1.8", None])
def test_another_deferral_is_not_ok_there_either(enhanced_code):
    assert prove_report([conversation(SPAM, 450, enhanced_code, "No", "rcpt")], puts_off=True)["not_ok"] == ["GTUBE (spam)"]


SENT = {"recipient": "alice@example.com", "relay": "mail.inside.example.com[198.51.100.25]:25", "status": "sent", "text": "250 2.0.0 Ok: queued as 1"}
DEFERRED = {**SENT, "relay": "none", "status": "deferred", "text": "connect to mail.inside.example.com[198.51.100.25]:25: Connection refused"}


@pytest.mark.parametrize(
    ("followed", "verdict", "words"),
    [
        ({"seen": True, "sent": True, "deliveries": [SENT]}, "ok", "sent, mail.inside.example.com[198.51.100.25]:25: 250 2.0.0 Ok: queued as 1"),
        ({"seen": True, "sent": False, "deliveries": [SENT, DEFERRED]}, "NOT OK", "Connection refused"),
        ({"seen": True, "sent": False, "deliveries": []}, "NOT OK", "no delivery was tried"),
        ({"seen": False, "sent": False, "deliveries": []}, "not seen", "this needs a login"),
        ({"unreachable": True, "msg": "Permission denied (publickey)."}, "not seen", "Permission denied (publickey)."),
    ],
)
def test_the_clean_message_is_followed_to_its_next_hop(followed, verdict, words):
    report = prove_report([conversation(SPAM, 554, "5.7.0", "spam")], followed=followed)
    (line,) = [line for line in report["table"] if "on its way" in line]
    assert line.startswith(verdict + " ")
    assert words in line
    assert report["not_ok"] == (["clean mail, on its way"] if verdict == "NOT OK" else [])


def test_nothing_is_followed_where_no_clean_message_was_taken():
    assert not [line for line in prove_report([], followed={"skipped": True})["table"] if "on its way" in line]
