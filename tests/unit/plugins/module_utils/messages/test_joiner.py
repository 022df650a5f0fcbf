# SPDX-License-Identifier: GPL-3.0-or-later
"""From the lines of one message to one record."""

from __future__ import annotations

import random

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._messages import queries, story
from ansible_collections.antispam.gateway.plugins.module_utils._messages.joiner import Entry, Joiner
from ansible_collections.antispam.gateway.plugins.module_utils._messages.privacy import Privacy
from real_runs import RELEASES, entries

TABLES = ("message", "session", "recipient", "delivery", "refusal", "event", "queue")
CLIENT = "m.example.org[192.0.2.1]:7"


def told(database, privacy, **question):
    return queries.find(database, privacy, queries.Question(limit=1000, **question))


def dump(database):
    return {table: [tuple(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY 1, 2")] for table in TABLES}


@pytest.mark.parametrize("release", RELEASES)
def test_a_real_run_is_told_as_it_was(release, database, privacy, record):
    record(*entries(release))
    stories = told(database, privacy)
    outcomes = sorted(story.headline(each) for each in stories)
    assert outcomes.count("Refused") == 2
    assert outcomes.count("Refused before a message was sent") == 2
    assert outcomes.count("Delivered") == len(outcomes) - 4
    messages = [each for each in stories if each["kind"] == "message"]
    # Each has what Postfix says in front, what amavis says, and, unless it was refused, what the queue says.
    assert all(each["connection"] and each["verdict"] and each["answer"] and each["message_id"] for each in messages)
    assert all(bool(each["queue_ids"]) == bool(each["gone"]) == (each["answer"][0] == "2") for each in messages)
    assert {each["connection"]["login"] for each in messages} == {"", "alice@example.com"}
    assert not database.execute("SELECT count(*) FROM pending").fetchone()[0]


@pytest.mark.parametrize("release", RELEASES)
def test_a_recorder_that_is_started_anew_between_any_two_lines_makes_the_same_record(release, database, privacy, record, tmp_path):
    given = entries(release)
    record(*given)
    whole = dump(database)
    for table in TABLES:
        database.execute(f"DELETE FROM {table}")
    database.execute("DELETE FROM sqlite_sequence")
    for entry in given:
        record(entry)
    assert dump(database) == whole


@pytest.mark.parametrize("release", RELEASES)
def test_the_report_of_amavis_may_come_before_or_after_the_lines_around_it(release, database, privacy, record):
    given = entries(release)
    record(*given)
    expected = [(each["time"] // 10_000, story.headline(each), each.get("queue_ids")) for each in told(database, privacy)]
    for table in TABLES:
        database.execute(f"DELETE FROM {table}")
    reports = [number for number, entry in enumerate(given) if entry.report]
    for number in reports:
        other = number + random.Random(number).choice([-2, -1, 1, 2])
        given[number], given[other] = given[other], given[number]
    record(*given)
    assert [(each["time"] // 10_000, story.headline(each), each.get("queue_ids")) for each in told(database, privacy)] == expected


def line(text, program="smtpd", time=1000, process="1"):
    return Entry(time, f"postfix/{program}", process, text)


def test_an_answer_without_a_scan_is_a_story(database, privacy, record):
    record(
        line(f"connect from {CLIENT}"),
        line(f"NOQUEUE: client={CLIENT}"),
        line("proxy-reject: END-OF-MESSAGE: 451 4.3.0 Error: queue file write error; from=<a@example.org> to=<b@example.com> proto=ESMTP helo=<m>"),
        line(f"disconnect from {CLIENT}"),
    )
    (only,) = told(database, privacy, recipient="b@example.com")
    assert story.headline(only) == "Not taken: the client was asked to come back"
    assert only["connection"]["helo"] == "m"


def test_an_id_that_amavis_uses_again_is_another_message(database, privacy, record):
    answer = "proxy-reject: END-OF-MESSAGE: 554 5.7.0 Reject, id=12345-01 - no; from=<a@example.org> to=<b@example.com> proto=ESMTP helo=<m>"
    for time in (0, 30_000_000):
        record(line(f"connect from {CLIENT}", time=time), line(answer, time=time), line(f"disconnect from {CLIENT}", time=time))
    assert len(told(database, privacy, refusal_id="12345-01")) == 2


def test_a_clock_that_jumps_changes_neither_the_order_nor_the_record(database, privacy, record):
    given = entries("debian13")
    half = len(given) // 2
    record(*given[:half], *[entry._replace(time=entry.time - 10_000_000_000) for entry in given[half:]])
    assert len(told(database, privacy)) == len([entry for entry in given if entry.report]) + 2


def test_a_report_of_non_delivery_names_what_it_is_about(database, privacy, record):
    record(
        line("AAAAAAAAAA: from=<a@example.org>, size=1, nrcpt=1 (queue active)", "qmgr"),
        line("AAAAAAAAAA: to=<b@example.com>, relay=x, delay=1, delays=1, dsn=5.1.1, status=bounced (550 no)", "smtp"),
        line("AAAAAAAAAA: sender non-delivery notification: BBBBBBBBBB", "bounce"),
        line("BBBBBBBBBB: from=<>, size=1, nrcpt=1 (queue active)", "qmgr"),
        line("AAAAAAAAAA: removed", "qmgr"),
    )
    first, second = reversed(told(database, privacy))
    assert (story.headline(first), second["about"], second["direction"]) == ("Returned to its sender", "AAAAAAAAAA", "made here")


def test_what_postfix_asks_itself_is_no_mail(database, privacy, record):
    record(
        line("AAAAAAAAAA: message-id=<x>", "cleanup"),
        line("AAAAAAAAAA: from=<double-bounce@mx1.example.com>, size=1, nrcpt=1 (queue active)", "qmgr"),
        line("AAAAAAAAAA: to=<b@example.com>, relay=x, delay=1, delays=1, dsn=2.1.5, status=deliverable (250 ok)", "smtp"),
        line("AAAAAAAAAA: removed", "qmgr"),
    )
    assert told(database, privacy) == []


def test_refusals_of_one_connection_are_bounded(database, privacy, record):
    reject = "NOQUEUE: reject: RCPT from {}: 550 5.1.1 <{}@example.com>: no; from=<a@b.c> to=<{}@example.com> proto=ESMTP helo=<h>"
    record(line(f"connect from {CLIENT}"), *[line(reject.format(CLIENT, number, number)) for number in range(500)])
    rows = database.execute("SELECT count(*), sum(times) FROM refusal").fetchone()
    assert tuple(rows) == (100, 500)


@pytest.mark.parametrize(
    "report", ["", "[]", "{", "null", '{"log_id": 1, "queued_as": 3}', '{"log_id": "1-1", "subject": "\\ud800", "answers": [{"to": ["\\udc00"]}]}']
)
def test_a_report_that_is_none_hurts_nobody(report, database, record):
    record(Entry(1, "amavis", "1", "", report), line(f"connect from {CLIENT}"))
    assert database.execute("SELECT count(*) FROM session").fetchone()[0] == 1


def test_with_hashes_no_address_and_no_subject_stands_in_the_store(database, record, tmp_path):
    hashed = Privacy("hash", "hash", b"key")
    record(*entries("debian13"), privacy=hashed)
    content = " ".join(str(row) for row in database.iterdump())
    assert [each for each in ("alice@example.com", "sender@example.org", "postmaster@example.com", "About") if each in content] == []
    for question in ({"recipient": "ALICE@Example.com"}, {"recipient": "@EXAMPLE.com"}, {"subject": "test"}, {"sender": "sender@example.org"}):
        assert told(database, hashed, **question)
    assert told(database, Privacy("hash", "hash", b"another key"), recipient="alice@example.com") == []


def test_no_statement_goes_through_a_whole_table(database, privacy):
    """Or the recorder becomes slower with each message."""
    plans = []

    class Explaining:
        def execute(self, statement, values=()):
            plans.extend((row[3], statement) for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            return database.execute(statement, values)

    joiner = Joiner(Explaining(), privacy)
    for entry in entries("debian13"):
        joiner.take(entry)
    assert len(plans) > 100
    assert [plan for plan in plans if plan[0].startswith("SCAN") and "CONSTANT ROW" not in plan[0]] == []
