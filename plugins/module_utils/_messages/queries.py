# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the store. Whoever reads it asks here, and nowhere else.

Private to antispam.gateway. A story is what happened to one message, or in one connection that brought no message.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from typing import Any

from . import grammar
from .privacy import Privacy

Story = dict[str, Any]
# Stories that one question may have.
MAX_LIMIT = 1000


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked for; all that is given must hold. Times are milliseconds."""

    sender: str = ""
    recipient: str = ""
    message_id: str = ""
    queue_id: str = ""
    refusal_id: str = ""
    subject: str = ""
    client: str = ""
    since: int | None = None
    until: int | None = None
    limit: int = 20


def find(database: sqlite3.Connection, privacy: Privacy, question: Question) -> list[Story]:
    """Return the stories that answer a question, the latest first."""
    found = [(row["time"], row["id"], "message") for row in _messages(database, privacy, question)]
    if not (question.message_id or question.queue_id or question.refusal_id or question.subject):
        found += [(row["began"], row["id"], "session") for row in _sessions(database, privacy, question)]
    found.sort(reverse=True)
    tell = {"message": message_story, "session": session_story}
    return [tell[kind](database, number) for _time, number, kind in found[: question.limit]]


def gaps(database: sqlite3.Connection, since: int | None, until: int | None) -> list[dict[str, Any]]:
    """Return what the journal did not have in a time."""
    query = "SELECT began, ended, reason FROM gap WHERE ended >= ? AND coalesce(began, ended) <= ? ORDER BY id DESC LIMIT 20"
    return [dict(row) for row in database.execute(query, (since or 0, until if until is not None else 1 << 62))]


def bounds(database: sqlite3.Connection) -> dict[str, Any]:
    """Return from when to when there are records, and how many."""
    # Each by itself is a look at the end of an index.
    parts = {"first": "min(time)", "last": "max(time)", "messages": "coalesce((SELECT max(id) FROM message) - min(id) + 1, 0)"}
    row = database.execute("SELECT " + ", ".join(f"(SELECT {part} FROM message) AS {name}" for name, part in parts.items())).fetchone()
    return dict(row)


# --- Which stories ----------------------------------------------------------------------------------------------------


def _between(column: str, question: Question) -> tuple[str, list[Any]]:
    conditions, values = [], []
    if question.since is not None:
        conditions.append(f"{column} >= ?")
        values.append(question.since)
    if question.until is not None:
        conditions.append(f"{column} <= ?")
        values.append(question.until)
    return " AND ".join(conditions), values


def _key_condition(privacy: Privacy, column: str, asked: str) -> tuple[str, list[str]]:
    """Return what a key column must be for an address, or for all of a domain."""
    key = privacy.key(asked)
    # A is what comes after @, so that the index has all of a domain between the two.
    return (f"{column} >= ? AND {column} < ?", [key, key[:-1] + "A"]) if asked.startswith("@") else (f"{column} = ?", [key])


def _messages(database: sqlite3.Connection, privacy: Privacy, question: Question) -> list[sqlite3.Row]:
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        conditions.append(condition)
        values.extend(more)

    if question.queue_id:
        add("id IN (SELECT message FROM queue WHERE queue_id = ?)", question.queue_id)
    if question.refusal_id:
        add(
            "id IN (SELECT id FROM message WHERE amavis_id = ? AND amavis_id != '' UNION ALL SELECT id FROM message WHERE mail_id = ? AND mail_id != '')",
            question.refusal_id,
            question.refusal_id,
        )
    if question.message_id:
        add("id IN (SELECT id FROM message WHERE message_id = ? AND message_id != '')", grammar.message_id(question.message_id))
    if question.sender:
        first, one = _key_condition(privacy, "sender_key", question.sender)
        second, _two = _key_condition(privacy, "author_key", question.sender)
        add(f"id IN (SELECT id FROM message WHERE {first} UNION ALL SELECT id FROM message WHERE {second} AND author_key != '')", *one, *one)
    if question.recipient:
        branches, bound = [], []
        for table, column, extra in (
            ("recipient", "key", ""),
            ("recipient", "original_key", " AND original_key != ''"),
            ("refusal", "recipient_key", " AND recipient_key IS NOT NULL AND message IS NOT NULL"),
        ):
            condition, one = _key_condition(privacy, column, question.recipient)
            branches.append(f"SELECT message FROM {table} WHERE {condition}{extra}")
            bound += one
        add(f"id IN ({' UNION ALL '.join(branches)})", *bound)
    if question.client:
        add("session IN (SELECT id FROM session WHERE address = ?)", question.client.lower())
    words = privacy.wanted(question.subject)
    for word in words:
        add("instr(words, ?) > 0", word)
    condition, bound_times = _between("time", question)
    if condition:
        add(condition, *bound_times)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    # The index of subjects has the words and the time: nothing else of a message is read while they are looked for.
    table = "message INDEXED BY message_words" if question.subject and len(conditions) == len(words) + bool(condition) else "message"
    return database.execute(f"SELECT id, time FROM {table} {where} ORDER BY id DESC LIMIT ?", [*values, question.limit]).fetchall()


def _sessions(database: sqlite3.Connection, privacy: Privacy, question: Question) -> list[sqlite3.Row]:
    """Connections that brought no message, or whose refusals belong to none."""
    conditions, values = [], []
    if question.sender or question.recipient:
        inner, bound = ["message IS NULL"], []
        for column, asked in (("sender_key", question.sender), ("recipient_key", question.recipient)):
            if asked:
                condition, one = _key_condition(privacy, column, asked)
                inner.append(f"{condition} AND {column} IS NOT NULL")
                bound += one
        conditions.append(f"id IN (SELECT session FROM refusal WHERE {' AND '.join(inner)})")
        values += bound
    elif question.client:
        conditions.append("(mails = 0 AND id NOT IN (SELECT session FROM message WHERE session IS NOT NULL AND session = session.id))")
    else:
        # The latest come first, so that few are looked at.
        conditions.append("EXISTS (SELECT 1 FROM refusal WHERE refusal.session = session.id AND +message IS NULL)")
    if question.client:
        conditions.append("address = ?")
        values.append(question.client.lower())
    condition, bound = _between("began", question)
    if condition:
        conditions.append(condition)
        values += bound
    return database.execute(f"SELECT id, began FROM session WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?", [*values, question.limit]).fetchall()


# --- What a story has -------------------------------------------------------------------------------------------------


def _session_facts(database: sqlite3.Connection, number: int | None) -> dict[str, Any] | None:
    row = database.execute("SELECT * FROM session WHERE id = ?", (number,)).fetchone() if number is not None else None
    if row is None:
        return None
    names = ("began", "ended", "listener", "address", "port", "name", "helo", "screened", "tls", "login", "broken")
    return {name: row[name] for name in names}


def _refusals(rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("time", "step", "sender", "recipient", "answer", "times")} for row in rows]


def message_story(database: sqlite3.Connection, number: int) -> Story:
    row = database.execute("SELECT * FROM message WHERE id = ?", (number,)).fetchone()
    story: Story = {"kind": "message", "connection": _session_facts(database, row["session"])}
    for name in (
        "time",
        "amavis_id",
        "mail_id",
        "message_id",
        "subject",
        "sender",
        "author",
        "size",
        "direction",
        "verdict",
        "score",
        "answer",
        "queued",
        "gone",
    ):
        story[name] = row[name]
    story["report"] = json.loads(row["report"]) if row["report"] else {}
    story["queue_ids"] = [each[0] for each in database.execute("SELECT queue_id FROM queue WHERE message = ?", (number,))]
    story["refused_recipients"] = _refusals(database.execute("SELECT * FROM refusal WHERE message = ? ORDER BY id", (number,)).fetchall())
    story["recipients"] = [
        _recipient(database, each) for each in database.execute("SELECT * FROM recipient WHERE message = ? ORDER BY id", (number,)).fetchall()
    ]
    story["events"] = [dict(each) for each in database.execute("SELECT time, text FROM event WHERE message = ? ORDER BY id", (number,))]
    parent = database.execute("SELECT queue_id FROM queue WHERE message = ?", (row["parent"],)).fetchone()
    story["about"] = parent[0] if parent else ""
    return story


def _recipient(database: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    attempts = database.execute("SELECT first, last, times, relay, status, dsn, text FROM delivery WHERE recipient = ? ORDER BY id", (row["id"],))
    return {**{name: row[name] for name in ("address", "original", "answer", "state")}, "deliveries": [dict(each) for each in attempts]}


def session_story(database: sqlite3.Connection, number: int) -> Story:
    refusals = _refusals(database.execute("SELECT * FROM refusal WHERE session = ? AND message IS NULL ORDER BY id", (number,)).fetchall())
    connection = _session_facts(database, number)
    return {"kind": "connection", "time": connection["began"] if connection else 0, "connection": connection, "refused_recipients": refusals}
