# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of type lmdb, looked at with the library alone and by processes that follow Postfix's protocol."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time

import lmdb
import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _lmdb
from hypothesis import given, settings
from hypothesis import strategies as st

OLD = {b"a@example.com": b"OK", b"b@example.com": b"x", b"c@example.com": b"OK"}


def make(path, entries):
    pairs = [(key + b"\0", value + b"\0") for key, value in sorted(entries.items())]
    _lmdb.write(path, iter(pairs), len(pairs), sum(len(key) + len(value) for key, value in pairs))


def raw(path):
    """What is in the file, byte for byte."""
    with lmdb.open(str(path), subdir=False, lock=False, readonly=True) as env, env.begin() as txn:
        return dict(txn.cursor())


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.lmdb"
    make(path, OLD)
    return path


def test_what_was_written_is_read(table):
    assert _lmdb.read(table) == OLD


def test_each_key_and_value_ends_with_one_nul(table):
    _lmdb.change(table, [(b"d@example.com", b"new")], [b"a@example.com"], [(b"b@example.com", b"y")])
    assert raw(table) == {b"b@example.com\0": b"y\0", b"c@example.com\0": b"OK\0", b"d@example.com\0": b"new\0"}


def test_a_change_is_made_in_place(table):
    table.chmod(0o640)
    before = table.stat()
    _lmdb.change(table, [(b"d@example.com", b"OK")], [b"a@example.com"], [(b"b@example.com", b"y")])
    assert _lmdb.read(table) == {b"b@example.com": b"y", b"c@example.com": b"OK", b"d@example.com": b"OK"}
    assert (table.stat().st_ino, stat.S_IMODE(table.stat().st_mode)) == (before.st_ino, 0o640)
    assert os.listdir(table.parent) == ["table.lmdb"], "Postfix knows no lock file"


@pytest.mark.parametrize(
    ("added", "removed", "changed"),
    [
        ([(b"a@example.com", b"OK")], [], []),
        ([], [b"nobody@example.com"], []),
        ([], [], [(b"nobody@example.com", b"OK")]),
        ([(b"d@example.com", b"OK"), (b"a@example.com", b"OK")], [b"c@example.com"], [(b"b@example.com", b"y")]),
        ([(b"d@example.com", b"OK")], [b"c@example.com", b"c@example.com"], []),
    ],
)
def test_a_change_that_does_not_fit_leaves_the_table_as_it_was(table, added, removed, changed):
    before = _lmdb.facts(table)[-2:]
    with pytest.raises(_lmdb.Conflict):
        _lmdb.change(table, added, removed, changed)
    assert (_lmdb.read(table), _lmdb.facts(table)[-2:]) == (OLD, before)


def test_a_table_grows_beyond_its_map(table):
    with lmdb.open(str(table), subdir=False, lock=False) as env:
        before = env.info()["map_size"]
    added = [(b"%050d@example.com" % number, b"x" * 1900) for number in range(20000)]
    for part in range(0, len(added), 5000):
        _lmdb.change(table, added[part : part + 5000], [], [])
    assert table.stat().st_size > before
    assert _lmdb.read(table) == OLD | dict(added)


def test_a_map_that_is_too_small_is_made_larger(table, monkeypatch):
    """Whatever was thought of the room that a change takes."""
    monkeypatch.setattr(_lmdb, "_SMALLEST_MAP", 1)
    monkeypatch.setattr(_lmdb, "_OVERHEAD", -60)
    added = [(b"%050d@example.com" % number, b"x") for number in range(20000)]
    _lmdb.change(table, added, [], [])
    assert _lmdb.read(table) == OLD | dict(added)


@settings(max_examples=60)
@given(st.dictionaries(st.binary(min_size=1, max_size=_lmdb.MAX_KEY), st.binary(max_size=3000), max_size=30), st.data())
def test_whatever_is_written_and_changed_is_read(entries, data):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/table"
        make(path, entries)
        assert _lmdb.read(path) == entries
        removed = data.draw(st.lists(st.sampled_from(sorted(entries)), unique=True)) if entries else []
        changed = {key: b"another" for key in entries if key not in removed and len(key) % 2}
        added = {key: b"new" for key in data.draw(st.sets(st.binary(min_size=1, max_size=_lmdb.MAX_KEY), max_size=5)) if key not in entries}
        _lmdb.change(path, list(added.items()), removed, list(changed.items()))
        assert _lmdb.read(path) == {key: value for key, value in entries.items() if key not in removed} | changed | added


def test_the_longest_key_is_as_long_as_lmdb_takes(tmp_path):
    make(tmp_path / "table", {b"x" * _lmdb.MAX_KEY: b"OK"})
    assert _lmdb.look_up(tmp_path / "table", [b"x" * _lmdb.MAX_KEY]) == {b"x" * _lmdb.MAX_KEY: b"OK"}
    for too_long in (lambda: make(tmp_path / "other", {b"x" * (_lmdb.MAX_KEY + 1): b"OK"}),
                     lambda: _lmdb.change(tmp_path / "table", [(b"x" * (_lmdb.MAX_KEY + 1), b"OK")], [], [])):  # fmt: skip
        with pytest.raises(_lmdb.Error):
            too_long()
    assert _lmdb.read(tmp_path / "table") == {b"x" * _lmdb.MAX_KEY: b"OK"}


@pytest.mark.parametrize("pairs", [[(b"b\0", b"1\0"), (b"a\0", b"1\0")], [(b"a\0", b"1\0"), (b"a\0", b"2\0")]], ids=["out of order", "twice"])
def test_entries_that_are_not_in_order_are_refused(tmp_path, pairs):
    with pytest.raises((_lmdb.Conflict, _lmdb.Error)):
        _lmdb.write(tmp_path / "table", iter(pairs), 2, 10)


def test_only_what_is_there_is_found(table):
    assert _lmdb.look_up(table, [b"a@example.com", b"a@example", b"nobody@example.com", b"b@example.com"]) == {b"a@example.com": b"OK", b"b@example.com": b"x"}


# ---- facts -------------------------------------------------------------------------------------------------------


def overwritten(path):
    aside = path.parent / "aside"
    make(aside, {b"a@example.com": b"OK", b"b@example.com": b"x", b"other@example.com": b"OK"})
    path.write_bytes(aside.read_bytes())


def replaced(path):
    make(path.parent / "aside", OLD)
    (path.parent / "aside").rename(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: _lmdb.change(path, [(b"d@example.com", b"OK")], [], []),
        lambda path: _lmdb.change(path, [(b"d@example.com", b"OK")], [b"a@example.com"], []),
        lambda path: _lmdb.change(path, [], [], [(b"a@example.com", b"x")]),
        overwritten,
        replaced,
    ],
)
def test_the_facts_differ_after_whatever_changes_a_table(table, change):
    before = _lmdb.facts(table)
    assert before[-1] == 3
    change(table)
    assert _lmdb.facts(table) != before


def test_the_facts_stay_while_a_table_is_only_read(table):
    before = _lmdb.facts(table)
    _lmdb.read(table), raw(table), _lmdb.look_up(table, [b"a@example.com"]), table.read_bytes()
    assert _lmdb.facts(table) == before


@pytest.mark.parametrize("content", [None, b"", b"x", b"garbage" * 3000, b"\0" * 65536])
def test_a_file_that_is_no_table_has_no_facts_and_no_entries(tmp_path, content):
    if content is not None:
        (tmp_path / "table").write_bytes(content)
    assert _lmdb.facts(tmp_path / "table") is None
    assert _lmdb.read(tmp_path / "table") is None


def test_a_table_that_was_cut_is_none(tmp_path):
    """Who reads beyond the end of a mapped file is killed."""
    make(tmp_path / "table", {b"%d@example.com" % number: b"OK" for number in range(5000)})
    os.truncate(tmp_path / "table", 16384)
    assert (_lmdb.facts(tmp_path / "table"), _lmdb.read(tmp_path / "table")) == (None, None)


def test_a_table_that_shrank_within_is_not_taken_for_one_that_was_cut(tmp_path):
    generator, path = random.Random(1), tmp_path / "table"
    entries = {b"%06d@example.com" % number: b"OK" for number in range(3000)}
    make(path, entries)
    for _round in range(30):
        removed = generator.sample(sorted(entries), min(len(entries) // 2, 800))
        added = {b"%06d@example.net" % generator.randrange(10**6): b"OK" for _number in range(300)}.items() - entries.items()
        _lmdb.change(path, list(added), removed, [])
        entries = {key: value for key, value in entries.items() if key not in removed} | dict(added)
        assert _lmdb.read(path) == entries


def test_a_host_without_the_library_says_what_to_install(monkeypatch):
    assert _lmdb.missing() == ""
    monkeypatch.setattr(_lmdb, "lmdb", None)
    assert "python3-lmdb" in _lmdb.missing()


# ---- processes ---------------------------------------------------------------------------------------------------


def forked(action):
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    return child


def end(*children):
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


SIZE = 400


def state(number):
    """A whole state of the table: every value says which."""
    return [(b"%04d@example.com" % index, b"%d" % number) for index in range(SIZE)]


def write_states(path, marker):
    """Replace every value in one transaction, over and over; own entries as well, one more each time."""
    number = 0
    while True:
        number += 1
        _lmdb.change(path, [(b"%d-%06d@example.net" % (marker, number), b"OK")], [], state(marker * 10**6 + number))


def assert_whole(entries):
    assert len({entries[key] for key, _value in state(0)}) == 1
    for marker in (1, 2):
        own = sorted(key for key in entries if key.endswith(b"@example.net") and key.startswith(b"%d-" % marker))
        assert own == [b"%d-%06d@example.net" % (marker, number) for number in range(1, len(own) + 1)]


def test_writers_that_are_killed_leave_a_state_that_was_committed(tmp_path):
    path, generator = tmp_path / "table", random.Random(2)
    deadline, kills, grown = time.monotonic() + 2, 0, 0
    while time.monotonic() < deadline:
        make(tmp_path / "new", dict(state(0)))
        (tmp_path / "new").rename(path)
        writers = [forked(lambda marker=marker: write_states(path, marker)) for marker in (1, 2)]
        until = time.monotonic() + generator.uniform(0.02, 0.15)
        while time.monotonic() < until:
            assert_whole(_lmdb.read(path))
        end(*writers)
        kills += 2
        entries = _lmdb.read(path)
        assert_whole(entries)
        grown += len(entries) - SIZE
        _lmdb.change(path, [(b"next@example.com", b"OK")], [], [])
        assert _lmdb.read(path) == entries | {b"next@example.com": b"OK"}
    assert kills > 4
    assert grown > kills


def test_a_reader_that_takes_the_shared_lock_sees_only_whole_states(tmp_path):
    path, number = tmp_path / "table", 0
    make(path, dict(state(0)))
    writers = [forked(lambda marker=marker: write_states(path, marker)) for marker in (1, 2)]
    try:
        with open(path, "rb") as lock:
            env = lmdb.open(str(path), subdir=False, lock=False, readonly=True, map_size=1 << 30)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                fcntl.lockf(lock, fcntl.LOCK_SH)
                with env.begin() as txn:
                    assert_whole({key[:-1]: value for key, value in txn.cursor()})
                fcntl.lockf(lock, fcntl.LOCK_UN)
                number += 1
            env.close()
    finally:
        end(*writers)
    assert number > 10


def test_a_writer_waits_for_a_reader_and_a_reader_does_not_wait_for_a_long_write(table, tmp_path):
    with open(table, "rb") as lock:
        fcntl.lockf(lock, fcntl.LOCK_SH)
        writer = forked(lambda: _lmdb.change(table, [(b"d@example.com", b"OK")], [], []))
        assert os.waitpid(writer, os.WNOHANG) == (0, 0)
        with lmdb.open(str(tmp_path / "table.lmdb"), subdir=False, lock=False, readonly=True) as env, env.begin() as txn:
            assert txn.get(b"d@example.com\0") is None
    os.waitpid(writer, 0)
    assert _lmdb.look_up(table, [b"d@example.com"])

    seen = []

    class Slow:
        """Entries that take until somebody has read the table."""

        def __iter__(self):
            reader = (
                "import fcntl, lmdb, sys\n"
                "env = lmdb.open(sys.argv[1], subdir=False, lock=False, readonly=True)\n"
                "fcntl.lockf(lock := open(sys.argv[1], 'rb'), fcntl.LOCK_SH | fcntl.LOCK_NB)\n"
                "print(env.begin().stat()['entries'])"
            )
            seen.append(subprocess.check_output([sys.executable, "-c", reader, str(table)]))
            return iter([b"a@example.com"])

        def __bool__(self):
            return True

    _lmdb.change(table, [], Slow(), [])
    assert seen == [b"4\n"]
    assert len(_lmdb.read(table)) == 3


def test_a_new_table_is_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        _lmdb.write(tmp_path / "table.lmdb", [(b"a\0", b"secret\0")], 1, 10)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "table.lmdb").stat().st_mode) == 0o600
