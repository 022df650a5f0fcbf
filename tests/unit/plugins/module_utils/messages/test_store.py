# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of records: its version, its bounds, and what is done where it is damaged."""

from __future__ import annotations

import sqlite3

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._messages import recorder, store
from ansible_collections.antispam.gateway.plugins.module_utils._messages.journal import Gap
from real_runs import entries

DAY = store.DAY
NOW = 1_800_000_000_000


def count(database, table="message"):
    return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def fill(database, times):
    for time in times:
        session = database.execute("INSERT INTO session (began, listener, client, address, port) VALUES (?, 'smtp', 'a 1', 'a', 1)", (time,)).lastrowid
        message = database.execute("INSERT INTO message (session, time, report) VALUES (?, ?, ?)", (session, time, "x" * 2000)).lastrowid
        recipient = database.execute("INSERT INTO recipient (message, time, address, key) VALUES (?, ?, 'a@b', 'b@a')", (message, time)).lastrowid
        database.execute(
            "INSERT INTO delivery (recipient, first, last, relay, status, dsn, text) VALUES (?, ?, ?, 'r', 'sent', '2', '')", (recipient, time, time)
        )
        database.execute("INSERT INTO refusal (session, time, step, answer) VALUES (?, ?, 'RCPT', '550')", (session, time))


def prune(database, days=30, max_bytes=1 << 30, now=NOW):
    rounds = 0
    while store.prune(database, now, days, max_bytes):
        rounds += 1
    return rounds


def test_what_is_too_old_goes_in_portions_and_takes_with_it_what_belongs_to_it(database):
    fill(database, [NOW - 31 * DAY] * 1200 + [NOW - 29 * DAY] * 5)
    assert prune(database) == 2
    assert [count(database, table) for table in ("message", "session", "recipient", "delivery", "refusal")] == [5] * 5


def test_what_is_too_much_goes_the_oldest_first_and_gives_the_room_back(database, tmp_path):
    fill(database, [NOW + number for number in range(3000)])
    prune(database, max_bytes=2 << 20)
    assert 0 < count(database) < 1500
    assert database.execute("SELECT max(time) FROM message").fetchone()[0] == NOW + 2999
    assert store.size(database) <= 2 << 20
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / store.NAME).stat().st_size <= 4 << 20


@pytest.mark.parametrize(
    ("times", "left"),
    [
        ([NOW - DAY] * 3, 3),
        # A clock that was in the future for a while, and what came after it.
        ([NOW + 900 * DAY] * 3 + [NOW - DAY] * 2, 2),
        # A clock that was in the past for a while.
        ([NOW - DAY] * 3 + [NOW - 900 * DAY] * 2 + [NOW] * 2, 7),
    ],
    ids=["none", "ahead", "behind"],
)
def test_a_clock_that_jumped_while_recording_takes_nothing_away_that_is_young(database, times, left):
    fill(database, times)
    prune(database)
    assert count(database) == left


def test_a_clock_that_is_wrong_now_takes_nothing_away(database):
    fill(database, [NOW] * 10)
    prune(database, now=0)
    assert count(database) == 10


def test_a_newer_store_is_named_and_left_alone(tmp_path):
    path = tmp_path / store.NAME
    store.connect(path, write=True).execute(f"PRAGMA user_version = {store.VERSION + 1}")
    for write in (True, False):
        with pytest.raises(store.NewerStore, match=f"has version {store.VERSION + 1} and this gateway knows version {store.VERSION}"):
            store.connect(path, write)


def test_a_file_that_is_something_else_is_put_aside(tmp_path, capsys):
    path = tmp_path / store.NAME
    path.write_bytes(b"no store at all" * 1000)
    with pytest.raises(store.Damaged):
        store.connect(path)
    database = recorder.Recorder({}, tmp_path).open()
    assert count(database) == 0
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"no store")
    assert f"it is kept as {aside}, and a new one is begun" in capsys.readouterr().err


def test_only_the_last_damaged_stores_are_kept(tmp_path):
    for name in ("1000000001", "1000000002", "1000000003"):
        (tmp_path / f"{store.NAME}.damaged-{name}").write_text(name)
        (tmp_path / f"{store.NAME}.damaged-{name}-wal").write_text(name)
    (tmp_path / store.NAME).write_bytes(b"no store at all" * 1000)
    recorder.Recorder({}, tmp_path).open()
    assert len(list(tmp_path.glob("*.damaged-*"))) == 3


def test_a_question_before_there_is_a_store_says_so(tmp_path):
    with pytest.raises(store.StoreError, match=r"has recorded nothing yet"):
        store.connect(tmp_path / store.NAME)


def test_rows_and_cursor_are_one_transaction(database, record, privacy):
    """A disk that is full: neither is written, and both are later."""
    given = entries("debian13")
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        record(*given * 20, cursor="behind")
    assert (count(database, "session"), store.meta(database, "cursor")) == (0, "")
    database.execute("PRAGMA max_page_count = 100000")
    record(*given, cursor="behind")
    assert store.meta(database, "cursor") == "behind"


def test_an_entry_that_nobody_has_thought_of_is_left_out_and_named(database, record, monkeypatch, capsys):
    from ansible_collections.antispam.gateway.plugins.module_utils._messages import grammar

    monkeypatch.setattr(grammar, "parse", lambda _identifier, _text: int("odd"))
    record(entries("debian13")[0], Gap(None, 5, "why"), cursor="behind")
    assert (store.meta(database, "cursor"), count(database, "gap")) == ("behind", 1)
    assert "was not understood and is left out: ValueError(" in capsys.readouterr().err
