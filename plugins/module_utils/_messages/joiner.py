# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins what Postfix and amavis say of a message into one record.

Private to antispam.gateway. Before the queue there is no queue id. A connection is known by the client's address and port, which
Postfix writes into each line and passes on to amavis (XFORWARD); the lines that lack them by the process that writes them. amavis says
under which queue id the message came back. What is said twice, or in another order, gives the same record. Nothing is kept in
memory, so that a recorder that is killed goes on where its last transaction has ended.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any, NamedTuple

from . import grammar
from .privacy import Privacy

# Listeners behind the filter: what comes there has come in elsewhere.
BEHIND = ("postfix/reinject", "postfix/originating")
HOUR = 3_600_000
MAX_TEXT = 1000
MAX_SUBJECT = 400
# So many refusals of one connection stand one by one.
MAX_REFUSALS = 100
_QUEUED_AS = re.compile(r"queued as ([0-9A-Za-z]{5,})\b")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_ID = re.compile(r"\bid=(\d{5,}-\d+(?:-\d+)?)\b")


class Entry(NamedTuple):
    """An entry of the journal. report: the JSON text that the hook of amavis has sent."""

    time: int  # milliseconds
    identifier: str
    process: str
    text: str = ""
    report: str = ""


class Joiner:
    """Writes entries into the store, within the caller's transaction."""

    def __init__(self, database: sqlite3.Connection, privacy: Privacy) -> None:
        self._do, self._privacy = database.execute, privacy

    def take(self, entry: Entry) -> bool:
        """Take an entry; return whether it said something."""
        if entry.report:
            return self._report(entry)
        line = grammar.parse(entry.identifier, entry.text)
        if line is None:
            return False
        if line.kind in _OF_CONNECTION:
            if entry.identifier.startswith(BEHIND):
                return False
            getattr(self, f"_{line.kind}")(entry, line)
        else:
            getattr(self, "_" + line.kind.replace(" ", "_"))(entry, line)
        return True

    # --- Connections --------------------------------------------------------------------------------------------------

    def _session(self, entry: Entry, line: grammar.Line, open_only: bool = False) -> int | None:
        """Return the connection that a line is about."""
        return self._of_client(line.address, line.port, open_only) if line.port else self._of_process(entry)

    def _of_client(self, address: str, port: int, open_only: bool = False) -> int | None:
        found = self._do("SELECT id, ended FROM session WHERE client = ? ORDER BY id DESC LIMIT 1", (f"{address} {port}",)).fetchone()
        return found[0] if found and not (open_only and found[1]) else None

    def _of_process(self, entry: Entry) -> int | None:
        """Return the connection that a process serves, for lines that do not name the client."""
        found = self._do("SELECT id FROM session WHERE process = ? AND ended IS NULL AND process != '' ORDER BY id DESC LIMIT 1", (_process(entry),)).fetchone()
        return found[0] if found else None

    def _any_session(self, entry: Entry, line: grammar.Line) -> int:
        """Return the connection that a line is about, a new one if its beginning was not seen."""
        found = self._session(entry, line)
        return found if found is not None else self._begin(entry, line)

    def _begin(self, entry: Entry, line: grammar.Line) -> int:
        listener = _listener(entry.identifier)
        cursor = self._do(
            "INSERT INTO session (began, listener, client, address, port, name, process) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.time, listener, f"{line.address} {line.port}", line.address, line.port, line.name, _process(entry)),
        )
        return int(cursor.lastrowid or 0)

    def _connected(self, entry: Entry, line: grammar.Line) -> None:
        session = self._session(entry, line, open_only=True) if line.port else None
        if session is None:
            self._begin(entry, line)
        elif not entry.identifier.endswith("/postscreen"):
            # postscreen has let the client through to this process.
            self._do("UPDATE session SET process = ?, name = ? WHERE id = ?", (_process(entry), line.name, session))

    def _screened(self, entry: Entry, line: grammar.Line) -> None:
        self._do(
            "UPDATE session SET screened = substr(screened || CASE screened WHEN '' THEN '' ELSE '; ' END || ?, 1, 500) WHERE id = ?",
            (line.text, self._any_session(entry, line)),
        )

    def _encrypted(self, entry: Entry, line: grammar.Line) -> None:
        self._do("UPDATE session SET tls = ? WHERE id = ?", (line.text[:200], self._any_session(entry, line)))

    def _begun(self, entry: Entry, line: grammar.Line) -> None:
        session = self._any_session(entry, line)
        if line.login:
            self._do("UPDATE session SET login = ? WHERE id = ?", (self._privacy.address(line.login), session))

    def _broken(self, entry: Entry, line: grammar.Line) -> None:
        self._do("UPDATE session SET broken = ? WHERE id = ?", (line.text, self._any_session(entry, line)))

    def _disconnected(self, entry: Entry, line: grammar.Line) -> None:
        session = self._session(entry, line)
        if session is not None:
            self._do("UPDATE session SET ended = ? WHERE id = ?", (entry.time, session))
            if line.text.startswith("HANGUP"):
                self._do("UPDATE session SET broken = 'the client hung up' WHERE id = ?", (session,))

    def _refused(self, entry: Entry, line: grammar.Line) -> None:
        session = self._any_session(entry, line)
        if line.helo:
            self._do("UPDATE session SET helo = ? WHERE id = ?", (line.helo[:255], session))
        keep, answer = self._privacy, self._privacy.text(line.text)[:MAX_TEXT]
        sender, recipient = line.sender, line.recipient
        same = self._do(
            # The plus signs keep SQLite from going through all refusals of one sender.
            "SELECT id FROM refusal WHERE session = ? AND +message IS NULL AND step = ? AND +sender_key IS ? AND +recipient_key IS ? AND answer = ?",
            (session, line.step, _or_none(keep.key, sender), _or_none(keep.key, recipient), answer),
        ).fetchone()
        if same is None and self._do("SELECT count(*) FROM refusal WHERE session = ?", (session,)).fetchone()[0] >= MAX_REFUSALS:
            same = self._do("SELECT max(id) FROM refusal WHERE session = ?", (session,)).fetchone()
        if same:
            self._do("UPDATE refusal SET times = times + 1 WHERE id = ?", (same[0],))
            return
        self._do(
            "INSERT INTO refusal (session, time, step, sender, sender_key, recipient, recipient_key, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(session, entry.time, line.step, _or_none(keep.address, sender), _or_none(keep.key, sender)),
                *(_or_none(keep.address, recipient), _or_none(keep.key, recipient), answer),
            ),
        )

    def _answered(self, entry: Entry, line: grammar.Line) -> None:
        """The front listener has passed on the answer of amavis, or what it says where there is none."""
        session = self._of_process(entry)
        queued, named = _QUEUED_AS.search(line.text), _ID.search(line.text)
        message = self._by_queue_id(queued[1]) if queued else None
        if message is None and named:
            message = self._by_amavis_id(named[1], entry.time)
        if message is None:
            message = self._new_message(entry, session, amavis_id=named[1] if named else "")
            if line.recipient:
                self._recipient(message, entry, line.recipient, answer=line.text)
        if queued:
            self._name(message, queued[1])
        answer = self._privacy.text(line.text)[:MAX_TEXT]
        self._do("UPDATE message SET answer = ?, answered = ?, session = coalesce(session, ?) WHERE id = ?", (answer, entry.time, session, message))
        if line.sender is not None:
            self._sender(message, line.sender)
        if session is None:
            return
        self._do("UPDATE session SET helo = ?, mails = mails + 1 WHERE id = ?", (line.helo[:255], session))
        # The recipients that were refused before are a part of this message.
        self._do(
            "UPDATE refusal SET message = ? WHERE session = ? AND +message IS NULL AND +sender_key IS ?",
            (message, session, _or_none(self._privacy.key, line.sender)),
        )

    # --- Messages -----------------------------------------------------------------------------------------------------

    def _by_queue_id(self, queue_id: str) -> int | None:
        row = self._do("SELECT message FROM queue WHERE queue_id = ?", (queue_id,)).fetchone()
        return row[0] if row else None

    def _by_amavis_id(self, amavis_id: str, time: int) -> int | None:
        """amavis counts anew when its processes do, so that an id is that of a message for a while only."""
        row = self._do("SELECT id, time FROM message WHERE amavis_id = ? AND amavis_id != '' ORDER BY id DESC LIMIT 1", (amavis_id,)).fetchone()
        return row[0] if row and abs(time - row[1]) < HOUR else None

    def _new_message(self, entry: Entry, session: int | None, amavis_id: str = "") -> int:
        cursor = self._do("INSERT INTO message (session, time, amavis_id) VALUES (?, ?, ?)", (session, entry.time, amavis_id))
        return int(cursor.lastrowid or 0)

    def _name(self, message: int, queue_id: str) -> None:
        """Note under which queue id a message is known, with what was said of it before."""
        self._do("INSERT INTO queue VALUES (?, ?) ON CONFLICT (queue_id) DO NOTHING", (queue_id, message))
        known = self._do("DELETE FROM pending WHERE queue_id = ? RETURNING session, message_id", (queue_id,)).fetchone()
        if known:
            self._do(
                "UPDATE message SET session = coalesce(session, ?), message_id = CASE message_id WHEN '' THEN ? ELSE message_id END WHERE id = ?",
                (known[0], known[1], message),
            )

    def _sender(self, message: int, sender: str) -> None:
        self._do("UPDATE message SET sender = ?, sender_key = ? WHERE id = ?", (self._privacy.address(sender), self._privacy.key(sender), message))

    def _in_queue(self, entry: Entry, queue_id: str) -> int:
        """Return the message in the queue, a new one if nothing was known of it."""
        message = self._by_queue_id(queue_id)
        if message is None:
            message = self._new_message(entry, None)
            self._name(message, queue_id)
        return message

    def _queued(self, entry: Entry, line: grammar.Line) -> None:
        """A message is on its way back from amavis. Only qmgr(8) says that it is in the queue: the conversation may be given up."""
        session = self._session(entry, line) if line.port else None
        self._do("INSERT INTO pending (queue_id, time, session) VALUES (?, ?, ?) ON CONFLICT (queue_id) DO NOTHING", (line.queue_id, entry.time, session))

    def _local(self, entry: Entry, line: grammar.Line) -> None:
        message = self._in_queue(entry, line.queue_id)
        self._sender(message, line.sender or "")
        self._do("UPDATE message SET direction = 'made here' WHERE id = ?", (message,))

    def _named(self, entry: Entry, line: grammar.Line) -> None:
        message, message_id = self._by_queue_id(line.queue_id), grammar.message_id(line.text)
        if message is not None:
            self._do("UPDATE message SET message_id = ? WHERE id = ? AND message_id = ''", (message_id, message))
        else:
            self._do(
                "INSERT INTO pending (queue_id, time, message_id) VALUES (?, ?, ?) ON CONFLICT (queue_id) DO UPDATE SET message_id = excluded.message_id",
                (line.queue_id, entry.time, message_id),
            )

    def _active(self, entry: Entry, line: grammar.Line) -> None:
        """qmgr(8) has the message. Postfix's own questions whether a recipient exists are no mail."""
        sender = line.sender or ""
        message = self._by_queue_id(line.queue_id)
        if message is None and sender.startswith("double-bounce@"):
            return
        message = self._in_queue(entry, line.queue_id) if message is None else message
        self._do("UPDATE message SET size = coalesce(size, ?), queued = coalesce(queued, ?), gone = NULL WHERE id = ?", (line.number, entry.time, message))
        if self._do("SELECT sender FROM message WHERE id = ?", (message,)).fetchone()[0] is None:
            self._sender(message, sender)

    def _delivered(self, entry: Entry, line: grammar.Line) -> None:
        message = self._by_queue_id(line.queue_id)
        if message is None:
            return
        if line.status in ("deliverable", "undeliverable"):
            # Somebody has asked whether there is such a recipient (sendmail -bv). That is no mail.
            self._do("DELETE FROM queue WHERE queue_id = ?", (line.queue_id,))
            self._do("DELETE FROM message WHERE id = ? AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = message.id)", (message,))
            return
        keep = self._privacy
        recipient = self._recipient(message, entry, line.recipient or "", line.original or "", state=line.status)
        text = keep.text(line.text)[:MAX_TEXT]
        last = self._do("SELECT id, relay, status, text FROM delivery WHERE recipient = ? ORDER BY id DESC LIMIT 1", (recipient,)).fetchone()
        # A message that waits for days has some hundred attempts of the same kind.
        if last and tuple(last)[1:] == (line.relay, line.status, text):
            self._do("UPDATE delivery SET last = ?, times = times + 1 WHERE id = ?", (entry.time, last[0]))
        else:
            self._do(
                "INSERT INTO delivery (recipient, first, last, relay, status, dsn, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (recipient, entry.time, entry.time, line.relay[:300], line.status, line.dsn, text),
            )

    def _removed(self, entry: Entry, line: grammar.Line) -> None:
        self._do("UPDATE message SET gone = ? WHERE id = ?", (entry.time, self._by_queue_id(line.queue_id)))

    def _removed_by_hand(self, entry: Entry, line: grammar.Line) -> None:
        message = self._by_queue_id(line.queue_id)
        if message is not None:
            self._event(message, entry, "deleted from the queue by hand")
            self._removed(entry, line)

    def _noted(self, entry: Entry, line: grammar.Line) -> None:
        message = self._by_queue_id(line.queue_id)
        if message is not None:
            self._event(message, entry, line.text)

    def _reported(self, entry: Entry, line: grammar.Line) -> None:
        """bounce(8) tells the sender something, by a message of its own."""
        message = self._by_queue_id(line.queue_id)
        if message is None:
            return
        self._event(message, entry, f"{line.text} sent as {line.status}")
        child = self._in_queue(entry, line.status)
        self._do("UPDATE message SET parent = ?, direction = 'made here' WHERE id = ?", (message, child))

    def _event(self, message: int, entry: Entry, text: str) -> None:
        self._do("INSERT INTO event (message, time, text) VALUES (?, ?, ?)", (message, entry.time, text))

    def _recipient(self, message: int, entry: Entry, address: str, original: str = "", answer: str = "", state: str = "") -> int:
        """Return a recipient of a message, known by its address as the client gave it, or as Postfix has made it of that."""
        keep, asked = self._privacy, self._privacy.key(original or address)
        row = self._do("SELECT id FROM recipient WHERE message = ? AND (+key = ? OR +original_key = ?)", (message, keep.key(address), asked)).fetchone()
        if row is None and original:
            row = self._do("SELECT id FROM recipient WHERE message = ? AND +key = ? AND +original_key = ''", (message, asked)).fetchone()
            if row:
                self._do(
                    "UPDATE recipient SET address = ?, key = ?, original = address, original_key = key WHERE id = ?",
                    (keep.address(address), keep.key(address), row[0]),
                )
        if row is None:
            cursor = self._do(
                "INSERT INTO recipient (message, time, address, key, original, original_key) VALUES (?, ?, ?, ?, ?, ?)",
                (message, entry.time, keep.address(address), keep.key(address), keep.address(original), keep.key(original) if original else ""),
            )
            number = int(cursor.lastrowid or 0)
        else:
            number = row[0]
        if answer:
            self._do("UPDATE recipient SET answer = ? WHERE id = ?", (keep.text(answer)[:MAX_TEXT], number))
        if state:
            self._do("UPDATE recipient SET state = ? WHERE id = ?", (state, number))
        return number

    # --- amavis -------------------------------------------------------------------------------------------------------

    def _report(self, entry: Entry) -> bool:
        try:
            # Halves of a pair would be no text.
            report = json.loads(_SURROGATE.sub("?", entry.report))
            amavis_id, queue_ids = str(report["log_id"]), [str(each) for each in report.get("queued_as") or []]
        except (ValueError, KeyError, TypeError):
            return False
        keep = self._privacy
        message = next((found for found in map(self._by_queue_id, queue_ids) if found is not None), None)
        if message is None:
            message = self._by_amavis_id(amavis_id, entry.time)
        if message is None:
            message = self._new_message(entry, None)
        address, port = grammar.client(f"[{report.get('client_ip') or ''}]:{report.get('client_port') or 0}")[1:]
        session = self._of_client(address, port) if port else None
        for queue_id in queue_ids:
            self._name(message, queue_id)
        self._sender(message, str(report.get("mail_from") or ""))
        subject, author = str(report.get("subject") or ""), " ".join(report.get("author") or [])
        self._do(
            "UPDATE message SET session = coalesce(session, ?), amavis_id = ?, mail_id = ?, message_id = ?, subject = ?, words = ?, author = ?,"
            " author_key = ?, size = ?, direction = ?, verdict = ?, score = ?, report = ? WHERE id = ?",
            (
                *(session, amavis_id, str(report.get("mail_id") or ""), grammar.message_id(str(report.get("message_id") or ""))),
                *(keep.subject(subject)[:MAX_SUBJECT], keep.words(subject[:MAX_SUBJECT]), keep.address(author), keep.key(author)),
                *(report.get("size"), "out" if report.get("originating") else "in", str(report.get("content_type") or ""), report.get("spam_score")),
                *(json.dumps(_kept(report), ensure_ascii=False), message),
            ),
        )
        for group in report.get("answers") or []:
            for recipient in group.get("to") or []:
                self._recipient(message, entry, str(recipient), answer=str(group.get("text") or ""))
        return True


_OF_CONNECTION = ("connected", "screened", "encrypted", "begun", "broken", "disconnected", "refused", "answered")
# Of a report, what stands in no column and says how the verdict came about.
_IN_REPORT = (
    *("tests", "limits", "policy_banks", "virusnames", "banned", "checks_performed", "dkim_valid_sig", "authentication", "elapsed", "rcpt_num", "cut"),
    *("actions_performed", "ccat"),
)


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in _IN_REPORT if report.get(name) not in (None, [], {}, "")}


def _process(entry: Entry) -> str:
    """postscreen is one process for all clients."""
    return "" if entry.identifier.endswith(("/postscreen", "/tlsproxy")) else f"{entry.identifier}[{entry.process}]"


def _listener(identifier: str) -> str:
    return "submission" if identifier.startswith("postfix/submission") else "smtp"


def _or_none(function: Any, value: str | None) -> str | None:
    return None if value is None else function(value)
