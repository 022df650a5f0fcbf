# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories as a person reads them, and the questions that lead to them."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._messages import queries, story, times
from ansible_collections.antispam.gateway.plugins.module_utils._messages.joiner import Entry
from real_runs import RELEASES, entries

NOW = 1_800_000_000_000


def find(database, privacy, **question):
    return queries.find(database, privacy, queries.Question(**question))


@pytest.mark.parametrize("release", RELEASES)
def test_the_story_of_a_real_refusal(release, database, privacy, record):
    record(*entries(release))
    (spam,) = [each for each in find(database, privacy) if each.get("verdict") == "Spam"]
    lines = story.render([spam], []).splitlines()
    assert lines[0].endswith("  Refused")
    labels = [line[:12].strip() for line in lines[1:] if line[0] != " "]
    assert labels == ["from client", "postscreen", "encrypted", "sender", "subject", "ids", "verdict", "rules", "proof", "to", "answer"]
    assert max(map(len, lines)) <= story.WIDTH


def test_gaps_are_told(database, privacy, record):
    database.execute("INSERT INTO gap (began, ended, reason) VALUES (1000, 2000, 'why')")
    assert len(queries.gaps(database, 1500, 3000)) == 1
    assert queries.gaps(database, 3000, None) == []
    assert "records may be missing from" in story.render([], queries.gaps(database, None, None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", "\\x1b[2J"), ("a\nb\rc\td", "a\\nb\\rc\\td"), ("\u202eexe", "\\u202eexe"), ("grüße 漢字", "grüße 漢字"), ("\x9b", "\\x9b")],
)
def test_what_mail_brings_does_nothing_on_a_terminal(text, shown):
    assert story.printable(text) == shown


def test_several_recipients_with_the_same_end_stand_together(database, privacy, record):
    lines = ["AAAAAAAAAA: from=<a@example.org>, size=1, nrcpt=99 (queue active)"]
    lines += [
        f"AAAAAAAAAA: to=<r{number}@example.com>, relay=mail[192.0.2.1]:25, delay=1, delays=1, dsn=4.4.1, status=deferred (timed out)" for number in range(99)
    ]
    record(*[Entry(1000, "postfix/qmgr", "1", line) for line in lines])
    text = story.render(find(database, privacy, recipient="r7@example.com"), [])
    assert "Waits in the queue" in text
    assert "and 89 more" in text
    assert len(text.splitlines()) < 12


def test_attempts_of_the_same_kind_are_counted(database, privacy, record):
    line = "AAAAAAAAAA: to=<b@example.com>, relay=none, delay=1, delays=1, dsn=4.4.1, status=deferred (connect to mail[192.0.2.1]:25: Connection refused)"
    record(
        Entry(0, "postfix/qmgr", "1", "AAAAAAAAAA: from=<a@b.c>, size=1, nrcpt=1 (queue active)"),
        *[Entry(n * 1000, "postfix/smtp", "1", line) for n in range(9)],
    )
    assert "tried 9 times since" in story.render(find(database, privacy), [])


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259200), ("1w", 604800)])
def test_lengths_of_time(text, seconds):
    assert times.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "25:00", "2h30"])
def test_what_is_no_time_says_how_to_write_one(text):
    with pytest.raises(ValueError, match="write it as"):
        times.milliseconds(text, NOW)
    with pytest.raises(ValueError, match="write it as"):
        times.seconds(text)


def test_times_are_those_of_the_host():
    assert times.shown(times.milliseconds("2026-03-01 14:30", NOW)) == "2026-03-01 14:30:00"
    assert times.milliseconds("yesterday", NOW) == times.milliseconds("today", NOW) - 86_400_000
    assert times.shown(times.milliseconds("9:05", NOW)).endswith(" 09:05:00")
