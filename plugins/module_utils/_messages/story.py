# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A story as text that can be read out on the phone.

Private to antispam.gateway. What comes from mail is shown with its control characters escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from . import times

WIDTH = 110
_LABEL = 12
# Of many recipients with the same fate, so many are named.
MAX_NAMED = 10
_CONTENTS = {
    "Clean": "nothing was found",
    "CatchAll": "nothing was found",
    "CleanTag": "nothing was found",
    "Spammy": "probably spam",
    "Spam": "spam",
    "Virus": "a virus",
    "Banned": "a refused attachment",
    "Unchecked": "something that no scanner can open, or not judged to the end",
    "UncheckedEncrypted": "something encrypted, which no scanner can open",
    "BadHdr": "a damaged header",
    "BadHeader": "a damaged header",
    "Oversized": "too large",
    "MTA-BLOCKED": "refused behind the scan",
}
_SCREENED = {
    "PASS OLD": "known to postscreen, let through",
    "PASS NEW": "new to postscreen, tested and let through",
    "ALLOWLISTED": "on the list of clients that pass",
    "WHITELISTED": "on the list of clients that pass",
    "DENYLISTED": "on the list of clients that are refused",
    "BLACKLISTED": "on the list of clients that are refused",
}


def printable(text: str) -> str:
    """Return a text without characters that do something on a terminal, or that change the order in which it reads."""
    return "".join(each if each.isprintable() or each == " " else each.encode("unicode_escape").decode("ascii") for each in text)


def render(stories: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> str:
    """Return stories as text, the latest last, and what may be missing."""
    parts = ["\n".join(_story(story)) for story in reversed(stories)]
    parts += [_gap(gap) for gap in gaps]
    return "\n\n".join(parts)


def _gap(gap: dict[str, Any]) -> str:
    since = f"from {times.shown(gap['began'])} " if gap["began"] is not None else ""
    return "\n".join(_said("incomplete", f"records may be missing {since}until {times.shown(gap['ended'])}: {gap['reason']}"))


def _said(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(printable(text), WIDTH - _LABEL, break_on_hyphens=False) or [""]
    return [(label if number == 0 else "").ljust(_LABEL) + line for number, line in enumerate(lines)]


def _story(story: dict[str, Any]) -> Iterator[str]:
    yield f"{times.shown(story['time'])}  {printable(headline(story))}"
    connection = story["connection"]
    if connection:
        yield from _connection(connection, story.get("direction", ""))
    if story["kind"] == "message":
        yield from _message(story)
    for each in story["refused_recipients"]:
        yield from _said("refused", _refusal(each))
    if story["kind"] == "message":
        yield from _fate(story)
    elif connection and connection["broken"]:
        yield from _said("ended", connection["broken"])


def headline(story: dict[str, Any]) -> str:
    """Return in one line what became of it."""
    if story["kind"] == "connection":
        refused = story["refused_recipients"]
        if not refused:
            return "A connection that brought no message"
        return "Refused before a message was sent" if any(each["answer"][:1] == "5" for each in refused) else "Asked to come back, before a message was sent"
    return outcome(story)


def outcome(story: dict[str, Any]) -> str:
    """Return what became of a message."""
    states = {recipient["state"] for recipient in story["recipients"]} - {""}
    answer: str = story["answer"] or next((each["answer"] for each in story["recipients"] if each["answer"]), "")
    if answer[:1] == "5":
        return "Refused"
    if answer[:1] == "4":
        return "Not taken: the client was asked to come back"
    if states & {"bounced", "expired"}:
        return "Returned to its sender" + (" for some recipients" if "sent" in states else "")
    if "deferred" in states and not story["gone"]:
        return "Waits in the queue"
    if states == {"sent"}:
        return "Delivered"
    if story["gone"]:
        return "Left the queue"
    return "In the queue" if story["queued"] else "Nothing is known of what became of it"


def _connection(connection: dict[str, Any], direction: str) -> Iterator[str]:
    name = connection["name"] if connection["name"] not in ("", "unknown") else "no name"
    text = f"{connection['address']} ({name})"
    if connection["helo"]:
        text += f", which called itself {connection['helo']}"
    if connection["listener"] == "submission":
        text += ", on a port for accounts"
    yield from _said("from client", text)
    if connection["login"]:
        yield from _said("account", connection["login"])
    elif direction == "out":
        yield from _said("account", "none: a trusted host")
    if connection["screened"]:
        yield from _said("postscreen", "; ".join(_SCREENED.get(each, each) for each in connection["screened"].split("; ")))
    yield from _said("encrypted", connection["tls"] or "no")


def _message(story: dict[str, Any]) -> Iterator[str]:
    if story["direction"] == "made here":
        yield from _said("made here", f"a report about {story['about']}" if story["about"] else "by a program of the gateway")
    sender = story["sender"]
    if sender is not None:
        author = story["author"]
        yield from _said("sender", (sender or "<> (a report, or a program)") + (f"; From says {author}" if author and author != sender else ""))
    if story["subject"]:
        yield from _said("subject", story["subject"])
    ids = [f"message-id {story['message_id']}" if story["message_id"] else "", f"id={story['amavis_id']}" if story["amavis_id"] else ""]
    ids += [f"queued as {each}" for each in story["queue_ids"]]
    yield from _said("ids", ", ".join(each for each in ids if each) or "none")
    if story["verdict"]:
        yield from _said("verdict", verdict(story))
        tests = story["report"].get("tests") or {}
        if tests:
            ordered = sorted(tests.items(), key=lambda each: (-abs(each[1]), each[0]))
            yield from _said("rules", ", ".join(f"{name} {points:+g}" for name, points in ordered))
    if story["report"].get("authentication"):
        yield from _said("proof", story["report"]["authentication"].strip(" ;"))
    if story["report"].get("cut"):
        yield from _said("cut", f"too long to be kept whole: {', '.join(story['report']['cut'])}")


def verdict(story: dict[str, Any]) -> str:
    """Return what the scanners have found, with points and limits."""
    report = story["report"]
    text: str = _CONTENTS.get(story["verdict"], story["verdict"])
    if report.get("virusnames"):
        text += f": {', '.join(report['virusnames'])}"
    if report.get("banned"):
        text += f": {report['banned']}"
    if story["score"] is not None:
        text += f"; {story['score']:g} points"
        limits = report.get("limits") or {}
        named = [f"{word} from {limits[name]:g}" for name, word in (("tag2", "marked"), ("kill", "refused")) if name in limits]
        text += f" ({', '.join(named)})" if named else ""
    seconds = (report.get("elapsed") or {}).get("Total")
    return text + (f"; looked at for {seconds:.1f} s" if isinstance(seconds, (int, float)) else "")


def _refusal(refusal: dict[str, Any]) -> str:
    text = f"{refusal['recipient'] or refusal['sender'] or ''} at {refusal['step']}: {refusal['answer']}".strip()
    return text + (f" ({refusal['times']} times)" if refusal["times"] > 1 else "")


def _fate(story: dict[str, Any]) -> Iterator[str]:
    """The answer to the client, and what became of each recipient; those with the same fate stand together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for recipient in story["recipients"]:
        address = recipient["address"] + (f" (was {recipient['original']})" if recipient["original"] else "")
        attempts = tuple(_attempt(each) for each in recipient["deliveries"])
        fate = attempts[-3:] if attempts else (_without_attempt(story, recipient),)
        groups.setdefault(fate, []).append(address)
    for fate, addresses in groups.items():
        more = len(addresses) - MAX_NAMED
        yield from _said("to", ", ".join(addresses[:MAX_NAMED]) + (f" and {more} more" if more > 0 else ""))
        for each in fate:
            if each:
                yield from _said("", each)
    if story["answer"]:
        yield from _said("answer", story["answer"])
    for event in story["events"]:
        yield from _said("then", f"{times.shown(event['time'])} {event['text']}")


def _without_attempt(story: dict[str, Any], recipient: dict[str, Any]) -> str:
    if recipient["answer"][:1] in ("4", "5") and not story["answer"]:
        return f"answered {recipient['answer']}"
    # Postfix delivers once to an address that several recipients lead to.
    return "leads to the same mailbox as another recipient" if story["gone"] and recipient["answer"][:1] == "2" else ""


def _attempt(delivery: dict[str, Any]) -> str:
    said = {"sent": "delivered to", "deferred": "waits for", "bounced": "refused by", "expired": "given up for"}.get(delivery["status"], delivery["status"])
    relay = delivery["relay"] if delivery["relay"] != "none" else "its next hop"
    times_ = f", tried {delivery['times']} times since {times.shown(delivery['first'])}" if delivery["times"] > 1 else ""
    return f"{times.shown(delivery['last'])} {said} {relay}{times_}: {delivery['text']}"
