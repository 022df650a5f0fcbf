# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of records: one SQLite file, which one recorder writes and others read.

Private to antispam.gateway. A row's id says in which order the journal told it, whatever the clock said.
"""

from __future__ import annotations

import pathlib
import sqlite3
from typing import Any

VERSION = 1
NAME = "messages.sqlite3"
KEY_NAME = "key"
# Messages and sessions that go in one step, so that nobody waits long for the store.
PORTION = 500
# A clock that is so far behind the last record is wrong.
DAY = 86_400_000

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE session (
    id INTEGER PRIMARY KEY AUTOINCREMENT, began INTEGER NOT NULL, ended INTEGER, listener TEXT NOT NULL,
    client TEXT NOT NULL, address TEXT NOT NULL, port INTEGER NOT NULL, name TEXT NOT NULL DEFAULT '', helo TEXT NOT NULL DEFAULT '',
    screened TEXT NOT NULL DEFAULT '', tls TEXT NOT NULL DEFAULT '', login TEXT NOT NULL DEFAULT '', process TEXT NOT NULL DEFAULT '',
    broken TEXT NOT NULL DEFAULT '', mails INTEGER NOT NULL DEFAULT 0);
CREATE INDEX session_client ON session (client);
CREATE INDEX session_address ON session (address);
CREATE INDEX session_process ON session (process) WHERE ended IS NULL AND process != '';
CREATE INDEX session_began ON session (began);
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER, time INTEGER NOT NULL, parent INTEGER,
    amavis_id TEXT NOT NULL DEFAULT '', mail_id TEXT NOT NULL DEFAULT '', message_id TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '', words TEXT NOT NULL DEFAULT '', sender TEXT, sender_key TEXT, author TEXT NOT NULL DEFAULT '',
    author_key TEXT NOT NULL DEFAULT '', size INTEGER, direction TEXT NOT NULL DEFAULT '', verdict TEXT NOT NULL DEFAULT '', score REAL,
    answer TEXT NOT NULL DEFAULT '', answered INTEGER, queued INTEGER, gone INTEGER, report TEXT NOT NULL DEFAULT '');
CREATE INDEX message_time ON message (time);
CREATE INDEX message_session ON message (session);
CREATE INDEX message_amavis ON message (amavis_id) WHERE amavis_id != '';
CREATE INDEX message_mail ON message (mail_id) WHERE mail_id != '';
CREATE INDEX message_message_id ON message (message_id) WHERE message_id != '';
CREATE INDEX message_sender ON message (sender_key, time);
CREATE INDEX message_author ON message (author_key, time) WHERE author_key != '';
CREATE INDEX message_words ON message (words, time);
CREATE TABLE queue (queue_id TEXT PRIMARY KEY, message INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX queue_message ON queue (message);
CREATE TABLE pending (queue_id TEXT PRIMARY KEY, time INTEGER NOT NULL, session INTEGER, message_id TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, time INTEGER NOT NULL, address TEXT NOT NULL, key TEXT NOT NULL,
    original TEXT NOT NULL DEFAULT '', original_key TEXT NOT NULL DEFAULT '', answer TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT '');
CREATE INDEX recipient_message ON recipient (message);
CREATE INDEX recipient_key ON recipient (key, time);
CREATE INDEX recipient_original ON recipient (original_key, time) WHERE original_key != '';
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT, recipient INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, times INTEGER NOT NULL DEFAULT 1,
    relay TEXT NOT NULL, status TEXT NOT NULL, dsn TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX delivery_recipient ON delivery (recipient);
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, message INTEGER, time INTEGER NOT NULL, step TEXT NOT NULL, sender TEXT,
    sender_key TEXT, recipient TEXT, recipient_key TEXT, answer TEXT NOT NULL, times INTEGER NOT NULL DEFAULT 1);
CREATE INDEX refusal_session ON refusal (session);
CREATE INDEX refusal_message ON refusal (message) WHERE message IS NOT NULL;
CREATE INDEX refusal_sender ON refusal (sender_key, time) WHERE sender_key IS NOT NULL;
CREATE INDEX refusal_recipient ON refusal (recipient_key, time) WHERE recipient_key IS NOT NULL;
CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, time INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX event_message ON event (message);
CREATE TABLE gap (id INTEGER PRIMARY KEY AUTOINCREMENT, began INTEGER, ended INTEGER NOT NULL, reason TEXT NOT NULL);
"""


class StoreError(Exception):
    """The store cannot be used; the text says why, and what to do."""


class NewerStore(StoreError):
    """The store is of a version of the collection that comes after this one."""


class Damaged(StoreError):
    """The file is no store, or what is in it cannot be read."""


def connect(path: pathlib.Path, write: bool = False) -> sqlite3.Connection:
    """Open the store; raise NewerStore or Damaged where it cannot be used, sqlite3.OperationalError where it is not there or the disk is full."""
    if not write and not path.exists():
        raise StoreError(f"there is no {path}: the recorder (gateway-records.service) has recorded nothing yet")
    try:
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        database.row_factory = sqlite3.Row
        if write:
            _prepare(database)
        else:
            database.execute("PRAGMA query_only = 1")
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        # Reads a page of each table; a file that is something else ends here.
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path}: {error}") from error
    if version > VERSION:
        database.close()
        raise NewerStore(
            f"{path} has version {version} and this gateway knows version {VERSION}: a newer version of the collection has written it. "
            "Run that version's playbook again, or move the file away to begin a new one"
        )
    if version == 0 and tables and not write:
        raise Damaged(f"{path} is not a store of records")
    return database


def _prepare(database: sqlite3.Connection) -> None:
    empty = not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if empty:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute("PRAGMA journal_mode = WAL")
    # With the journal of the host behind it, what a power failure takes is read again.
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA journal_size_limit = 16777216")
    database.execute("PRAGMA cache_size = -16384")
    if empty:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


def put_aside(path: pathlib.Path, now: int) -> pathlib.Path:
    """Give a damaged store another name, and return it."""
    aside = path.with_name(f"{path.name}.damaged-{now // 1000}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def meta(database: sqlite3.Connection, name: str) -> str:
    row = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def set_meta(database: sqlite3.Connection, **values: Any) -> None:
    database.executemany("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", list(values.items()))


def size(database: sqlite3.Connection) -> int:
    """Return how many bytes the records take."""
    pages, free, page_size = (int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * page_size


def prune(database: sqlite3.Connection, now: int, days: int, max_bytes: int) -> bool:
    """Delete a portion of what is too old or too much; return whether there may be more. To be called outside of a transaction."""
    too_much = size(database) > max_bytes
    deleted = _prune_messages(database, now, days, too_much) + _prune_sessions(database, now, days, too_much)
    if deleted:
        # Give the room back to the disk, a part at a time as well. A page is one step of this statement, and execute() does one alone.
        database.executescript("PRAGMA incremental_vacuum(2000)")
    return deleted >= PORTION


def _old(database: sqlite3.Connection, table: str, column: str, now: int, days: int) -> int:
    """Return the id below which everything is older than so many days, 0 where nothing is."""
    newest = database.execute(f"SELECT {column} FROM {table} ORDER BY id DESC LIMIT 1").fetchone()
    # Says the clock a day before the last record, it is wrong, and so would be what it calls old.
    if newest is None or newest[0] > now + DAY:
        return 0
    limit = now - days * DAY
    kept = database.execute(f"SELECT min(id) FROM {table} WHERE {column} BETWEEN ? AND ?", (limit, now + DAY)).fetchone()[0]
    if kept is None:
        kept = database.execute(f"SELECT max(id) + 1 FROM {table} WHERE {column} < ?", (limit,)).fetchone()[0]
    return int(kept or 0)


def _portion(database: sqlite3.Connection, table: str, column: str, now: int, days: int, too_much: bool) -> list[int]:
    below = _old(database, table, column, now, days)
    query, values = (
        (f"SELECT id FROM {table} ORDER BY id LIMIT ?", (PORTION,))
        if too_much
        else (f"SELECT id FROM {table} WHERE id < ? ORDER BY id LIMIT ?", (below, PORTION))
    )
    return [row[0] for row in database.execute(query, values)]


def _prune_messages(database: sqlite3.Connection, now: int, days: int, too_much: bool) -> int:
    ids = _portion(database, "message", "time", now, days, too_much)
    if not ids:
        return 0
    marks = ",".join("?" * len(ids))
    database.execute("BEGIN IMMEDIATE")
    with database:
        database.execute(f"DELETE FROM delivery WHERE recipient IN (SELECT id FROM recipient WHERE message IN ({marks}))", ids)
        for table in ("recipient", "event", "queue", "refusal"):
            database.execute(f"DELETE FROM {table} WHERE message IN ({marks})", ids)
        database.execute(f"DELETE FROM message WHERE id IN ({marks})", ids)
    return len(ids)


def _prune_sessions(database: sqlite3.Connection, now: int, days: int, too_much: bool) -> int:
    ids = _portion(database, "session", "began", now, days, too_much)
    if not ids:
        return 0
    marks = ",".join("?" * len(ids))
    database.execute("BEGIN IMMEDIATE")
    with database:
        database.execute(f"DELETE FROM refusal WHERE session IN ({marks})", ids)
        database.execute(f"DELETE FROM session WHERE id IN ({marks})", ids)
        # What was begun and never came to the queue.
        database.execute("DELETE FROM pending WHERE time < ?", (now - DAY,))
        database.execute("DELETE FROM gap WHERE ended < ? AND ended < (SELECT min(began) FROM session)", (now - days * DAY,))
    return len(ids)
