# SPDX-License-Identifier: GPL-3.0-or-later
"""How the recorder reads the journal, with a stand-in for systemd's reader."""

from __future__ import annotations

import datetime
import sys
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._messages.joiner import Entry
from ansible_collections.antispam.gateway.plugins.module_utils._messages.journal import Gap, Journal

BASE = 1_700_000_000


def item(number, text="x", identifier="postfix/smtpd", **more):
    when = datetime.datetime.fromtimestamp(BASE + number, datetime.timezone.utc)
    return {"__CURSOR": f"c{number}", "__REALTIME_TIMESTAMP": when, "MESSAGE": text, "SYSLOG_IDENTIFIER": identifier, "SYSLOG_PID": 7, **more}


class Reader:
    def __init__(self, items):
        self.items, self.at, self.matches = items, 0, []

    def __call__(self, **_arguments):
        return self

    def add_match(self, **match):
        self.matches.append(match)

    def add_disjunction(self):
        self.matches.append(None)

    def seek_realtime(self, seconds):
        self.at = next(
            (at for at, each in enumerate(self.items) if isinstance(each, dict) and each["__REALTIME_TIMESTAMP"].timestamp() >= seconds), len(self.items)
        )

    def seek_cursor(self, cursor):
        # As sd-journal does: the entry, or the one that comes nearest after it.
        number = int(cursor[1:])
        self.at = next((at for at, each in enumerate(self.items) if isinstance(each, dict) and int(each["__CURSOR"][1:]) >= number), len(self.items))

    def get_next(self):
        if self.at >= len(self.items):
            return {}
        self.at += 1
        found = self.items[self.at - 1]
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, _seconds):
        pass


@pytest.fixture(name="open_journal")
def _open_journal(monkeypatch):
    def open_journal(items, cursor="", last_time=None, oldest=0):
        reader = Reader(items)
        module = types.ModuleType("systemd")
        module.journal = types.SimpleNamespace(Reader=reader)
        monkeypatch.setitem(sys.modules, "systemd", module)
        return Journal(cursor, last_time, oldest)

    return open_journal


def test_it_goes_on_behind_the_cursor(open_journal):
    journal = open_journal([item(number, str(number)) for number in range(5)], "c2", BASE * 1000)
    assert journal.lost() is None
    assert [entry.text for entry in journal.read(10)] == ["3", "4"]
    assert (journal.cursor, journal.more) == ("c4", False)


def test_a_journal_that_was_vacuumed_is_a_gap_and_its_first_entry_is_read(open_journal):
    journal = open_journal([item(number, str(number)) for number in range(5, 7)], "c2", (BASE + 2) * 1000)
    assert journal.lost() == Gap((BASE + 2) * 1000, (BASE + 5) * 1000, "the journal was deleted, rotated away or damaged before it was read")
    assert [entry.text for entry in journal.read(10)] == ["5", "6"]


def test_the_first_time_it_begins_as_far_back_as_records_are_kept(open_journal):
    journal = open_journal([item(number, str(number)) for number in range(5)], oldest=(BASE + 3) * 1000)
    assert [entry.text for entry in journal.read(10)] == ["3", "4"]


def test_what_cannot_be_read_is_a_gap_and_what_was_read_before_is_kept(open_journal):
    journal = open_journal([item(0, "0"), OSError(74, "Bad message"), item(10_000_000_000 - BASE, "later")])
    before, gap = journal.read(10)
    assert before.text == "0"
    assert gap.reason.startswith("the journal could not be read")
    assert (journal.cursor, journal.more) == ("c0", True)
    assert [entry.text for entry in journal.read(10)] == ["later"]


def test_lines_that_were_dropped_are_a_gap(open_journal):
    dropped = [item(1, f"Suppressed 77 messages from {unit}", "systemd-journald") for unit in ("postfix.service", "other.service")]
    (gap,) = open_journal(dropped).read(10)
    assert gap.reason == "the journal has dropped 77 lines of postfix.service, which wrote too fast"


def test_a_report_counts_only_if_amavis_has_sent_it(open_journal):
    report = {"AMAVIS_REPORT": "{}"}
    items = [item(1, "", "amavis", _SYSTEMD_UNIT="amavis.service", **report), item(2, "", "amavis", _SYSTEMD_UNIT="postfix.service", **report)]
    assert [entry.report for entry in open_journal(items).read(10)] == ["{}"]


def test_bytes_and_lists_are_text(open_journal):
    (entry,) = open_journal([item(1, [b"\xff a", "b"])]).read(10)
    assert entry == Entry((BASE + 1) * 1000, "postfix/smtpd", "7", "\ufffd a", "")
