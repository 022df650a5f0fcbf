# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-trace: where is my mail?

Private to antispam.gateway.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sqlite3
import sys
import time
from typing import Any

from . import queries, store, story, times
from .privacy import Privacy, key_of
from .recorder import CONFIGURATION, DIRECTORY

_STATUS = """exit status: 0 something was found, 1 nothing was found, 2 the question or the store cannot be used.

Example: gateway-trace --to bob@example.com --last 2h
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gateway-trace",
        description="Tell what happened to messages: who connected, what was answered, what the scanners found, where the message went.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", default="", help="envelope sender or address in From; @example.com for all of a domain")
    parser.add_argument("--to", dest="recipient", metavar="ADDRESS", default="", help="recipient; @example.com for all of a domain")
    parser.add_argument("--message-id", metavar="ID", default="", help="the Message-ID field, with or without brackets")
    parser.add_argument("--queue-id", metavar="ID", default="", help="the word behind 'queued as' in a 250")
    parser.add_argument("--id", dest="refusal_id", metavar="ID", default="", help="the word behind 'id=' in a refusal")
    parser.add_argument("--subject", metavar="WORDS", default="", help="words that all stand in the subject, in any order")
    parser.add_argument("--client", metavar="ADDRESS", default="", help="IP address of the client; its connections without a message are told too")
    parser.add_argument("--since", metavar="TIME", help="2026-03-01, '2026-03-01 14:30', 14:30, today or yesterday, in the time zone of the host")
    parser.add_argument("--until", metavar="TIME", help="written as --since")
    parser.add_argument("--last", metavar="LENGTH", help="30m, 2h, 3d or 1w, instead of --since")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="so many stories at most, the latest (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the stories as JSON; times are milliseconds since 1970")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path(DIRECTORY), help=argparse.SUPPRESS)
    parser.add_argument("--configuration", type=pathlib.Path, default=pathlib.Path(CONFIGURATION), help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        question = _question(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        found = _answer(question, options.directory, options.configuration)
    except (store.StoreError, OSError, sqlite3.DatabaseError) as error:
        sys.stderr.write(f"gateway-trace: {error}\n")
        return 2
    text = _text(found, question.limit)
    sys.stdout.write((json.dumps(found | {"text": text.splitlines()}, indent=1) if options.json else text) + "\n")
    return 0 if found["stories"] else 1


def _text(found: dict[str, Any], limit: int) -> str:
    told = story.render(found["stories"], found["gaps"])
    if not found["stories"]:
        records = found["records"]
        since = (
            f"; there are records of {records['messages']} messages since {times.shown(records['first'])}"
            if records["messages"]
            else "; there are no records yet"
        )
        return f"nothing was found{since}" + (f"\n\n{told}" if told else "")
    return told + (f"\n\nThese are the latest {limit}; --limit shows more." if len(found["stories"]) == limit else "")


def _question(options: argparse.Namespace) -> queries.Question:
    now = round(time.time() * 1000)
    if options.last and options.since:
        raise ValueError("--last and --since exclude each other")
    if not 1 <= options.limit <= queries.MAX_LIMIT:
        raise ValueError(f"--limit is a number from 1 to {queries.MAX_LIMIT}")
    since = now - times.seconds(options.last) * 1000 if options.last else times.milliseconds(options.since, now) if options.since else None
    until = times.milliseconds(options.until, now) if options.until else None
    return queries.Question(
        sender=_address(options.sender),
        recipient=_address(options.recipient),
        message_id=options.message_id,
        queue_id=options.queue_id,
        refusal_id=options.refusal_id,
        subject=options.subject,
        client=options.client.strip("[]"),
        since=since,
        until=until,
        limit=options.limit,
    )


def _address(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") and len(text) > 2 else text


def _answer(question: queries.Question, directory: pathlib.Path, configuration: pathlib.Path) -> dict[str, Any]:
    settings = json.loads(configuration.read_text(encoding="utf-8"))
    privacy = Privacy(settings["addresses"], settings["subjects"], key_of(directory / store.KEY_NAME))
    database = store.connect(directory / store.NAME)
    try:
        return {
            "stories": queries.find(database, privacy, question),
            "gaps": queries.gaps(database, question.since, question.until),
            "records": queries.bounds(database),
        }
    finally:
        database.close()
