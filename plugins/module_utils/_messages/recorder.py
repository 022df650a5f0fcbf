# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-records: keeps what happened to each message.

Private to antispam.gateway. It follows the journal and writes into its store; what it has written and how far it has read stand in one
transaction, so that nothing is lost or counted twice when it is killed. It has no part in mail: it may stop, and mail goes on.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sqlite3
import sys
import time
from collections.abc import Iterable
from typing import Any

from . import store
from .joiner import Entry, Joiner
from .journal import Gap, Journal
from .privacy import Privacy, key_of

CONFIGURATION = "/etc/gateway-records.json"
DIRECTORY = "/var/lib/gateway-records"
BATCH = 2000
# Seconds until the disk is asked again whether it has room.
PAUSE = 30
PRUNE_EVERY = 60
# What systemd does not start again (RestartPreventExitStatus).
EXIT_NEWER_STORE = 3
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Damaged stores that are kept to be looked at.
_KEPT_ASIDE = 2


def now() -> int:
    return round(time.time() * 1000)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write(database: sqlite3.Connection, joiner: Joiner, entries: Iterable[Entry | Gap], **position: Any) -> None:
    """Write entries as one transaction, with how far the journal was read."""
    database.execute("BEGIN IMMEDIATE")
    with database:
        for entry in entries:
            if isinstance(entry, Gap):
                database.execute("INSERT INTO gap (began, ended, reason) VALUES (?, ?, ?)", entry)
                continue
            try:
                joiner.take(entry)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                # One entry that nobody has thought of is no reason to stop.
                say(f"an entry of {entry.identifier} was not understood and is left out: {error!r}")
        if position:
            store.set_meta(database, **position)


class Recorder:
    """One run over the journal, as long as the store can be written."""

    def __init__(self, settings: dict[str, Any], directory: pathlib.Path) -> None:
        self._settings, self._directory, self._pruned = settings, directory, 0.0

    @property
    def path(self) -> pathlib.Path:
        return self._directory / store.NAME

    def open(self) -> sqlite3.Connection:
        """Open the store; one that is damaged gets another name."""
        try:
            return store.connect(self.path, write=True)
        except store.Damaged as error:
            self.put_aside(error)
            return store.connect(self.path, write=True)

    def put_aside(self, error: Exception) -> None:
        say(f"the store of records is damaged ({error}): it is kept as {store.put_aside(self.path, now())}, and a new one is begun with what the journal has")
        aside = sorted(self.path.parent.glob(f"{self.path.name}.damaged-*[0-9]"))
        for old in aside[:-_KEPT_ASIDE]:
            for path in self.path.parent.glob(f"{old.name}*"):
                path.unlink()

    def follow(self, database: sqlite3.Connection, ready: Any) -> None:
        settings = self._settings
        privacy = Privacy(settings["addresses"], settings["subjects"], key_of(self._directory / store.KEY_NAME, create=True))
        joiner = Joiner(database, privacy)
        cursor, last = store.meta(database, "cursor"), store.meta(database, "time")
        journal = Journal(cursor, int(last) if last else None, now() - settings["days"] * store.DAY)
        ready()
        lost = journal.lost()
        if lost:
            say(f"records are missing: {lost.reason}")
            write(database, joiner, [lost])
        while True:
            cursor, entries = journal.cursor, journal.read(BATCH)
            for gap in entries:
                if isinstance(gap, Gap):
                    say(f"records are missing: {gap.reason}")
            if journal.cursor != cursor or entries:
                write(database, joiner, entries, cursor=journal.cursor, time=journal.last_time or "")
            self._prune(database)
            if not journal.more:
                journal.wait(PRUNE_EVERY)

    def _prune(self, database: sqlite3.Connection) -> None:
        if time.monotonic() - self._pruned < PRUNE_EVERY:
            return
        if not store.prune(database, now(), self._settings["days"], self._settings["max_bytes"]):
            self._pruned = time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway-records", description="Keep what happened to each message, as long as /etc/gateway-records.json says.")
    parser.add_argument("--configuration", type=pathlib.Path, default=pathlib.Path(CONFIGURATION), help="default: %(default)s")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path(DIRECTORY), help="where the store is; default: %(default)s")
    options = parser.parse_args()
    from systemd import daemon  # type: ignore[import-not-found,import-untyped,unused-ignore]

    recorder = Recorder(json.loads(options.configuration.read_text(encoding="utf-8")), options.directory)
    told = ""

    def ready() -> None:
        daemon.notify("READY=1")

    while True:
        try:
            recorder.follow(recorder.open(), ready)
        except store.NewerStore as error:
            say(f"nothing is recorded: {error}")
            return EXIT_NEWER_STORE
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                recorder.put_aside(error)
                continue
            # A full disk above all. What was not written stays in the journal.
            if str(error) != told:
                told = str(error)
                say(f"nothing is recorded for now: {error}. The journal keeps what happens meanwhile; the store is tried again every {PAUSE} s")
            ready()
            time.sleep(PAUSE)
