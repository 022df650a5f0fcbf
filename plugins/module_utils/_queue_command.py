# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-queue: look at the mail that waits, and hold, release, flush or delete what is meant.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-queue. postqueue(1) says what waits, as JSON, and
postsuper(1) does what is asked for; what this adds is which messages are meant, and a look at what became of them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

QUEUES = ("active", "deferred", "hold", "incoming", "maildrop")
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
# Seconds that one program of Postfix may take.
_PATIENCE = 300
# So many recipients of a message are shown, each with its reason; --json has all.
_SHOWN = 5
_EPILOG = """All that is given must hold. hold, release, flush and delete want at least one condition, or --all.

exit status: 0 something was found, 1 nothing was found, 2 the question or the queue cannot be used.

Examples: gateway-queue --to @example.com
          gateway-queue hold --from alice@example.com
          gateway-queue delete --reason 'Host not found' --older-than 2d --dry-run
"""


class QueueError(Exception):
    """Why nothing can be said of the queue, or why what was asked for was not done."""


class Conditions(NamedTuple):
    """Which messages are meant. An address '@example.com' is every one of the domain, '<>' the null sender."""

    sender: str = ""
    recipient: str = ""
    reason: str = ""
    # Seconds.
    older_than: int = 0
    queue: str = ""
    queue_ids: Sequence[str] = ()

    def meet(self, message: dict[str, Any], now: float) -> bool:
        """Whether this message, as postqueue -j has it, is meant."""
        recipients = message["recipients"]
        return bool(
            (not self.sender or _is(message["sender"], self.sender))
            and (not self.recipient or any(_is(each["address"], self.recipient) for each in recipients))
            and (not self.reason or any(self.reason.lower() in each.get("delay_reason", "").lower() for each in recipients))
            and now - message["arrival_time"] >= self.older_than
            and (not self.queue or message["queue_name"] == self.queue)
            and (not self.queue_ids or message["queue_id"] in self.queue_ids)
        )


def _is(address: str, wanted: str) -> bool:
    address, wanted = address.lower(), wanted.lower()
    if wanted == "<>":
        return not address
    wanted = wanted.removeprefix("<").removesuffix(">")
    return address.endswith(wanted) if wanted.startswith("@") else address == wanted


def _run(*command: str, given: str = "") -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, errors="surrogateescape", timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(f"{command[0]} cannot be used: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode} and said nothing"
        raise QueueError(f"{' '.join(command)}: {said}")
    return done.stdout


def waiting() -> list[dict[str, Any]]:
    """Return what waits in the queue, as postqueue -j has it, the oldest first; or raise QueueError."""
    found = [json.loads(line) for line in _run("postqueue", "-j").splitlines()]
    return sorted(found, key=lambda message: message["arrival_time"])


def _in_hand(action: str, message: dict[str, Any]) -> bool:
    """Whether an action has something to do with a message."""
    held: bool = message["queue_name"] == "hold"
    return {"list": True, "hold": not held, "release": held, "flush": not held, "delete": True}[action]


def act(action: str, messages: Sequence[dict[str, Any]]) -> None:
    """Do it to these messages, and see that it was done; or raise QueueError."""
    ids = [message["queue_id"] for message in messages]
    if action == "flush":
        for queue_id in ids:
            # One that has left the queue meanwhile is no error.
            _run("postqueue", "-i", queue_id)
        return
    option = {"hold": "-h", "release": "-H", "delete": "-d"}[action]
    _run("postsuper", option, "-", given="".join(f"{queue_id}\n" for queue_id in ids))
    now = {message["queue_id"]: message["queue_name"] for message in waiting()}
    # What is not there any more was delivered, or refused by the next hop, before.
    wrong = [each for each in ids if each in now and (action == "delete" or (now[each] == "hold") != (action == "hold"))]
    if wrong:
        raise QueueError(f"Postfix has not done it to {', '.join(wrong)}; a message that is being delivered cannot be changed: try again")


def shape(message: dict[str, Any], now: float) -> dict[str, Any]:
    """Return a message as --json shows it: age in seconds, size in bytes."""
    return {
        "queue_id": message["queue_id"],
        "queue": message["queue_name"],
        "age": max(0, round(now - message["arrival_time"])),
        "size": message["message_size"],
        "sender": message["sender"],
        "recipients": [{"address": each["address"], "reason": each.get("delay_reason", "")} for each in message["recipients"]],
    }


def seconds(text: str) -> int:
    """Return how long 30m, 2h, 3d or 1w is; raise ValueError."""
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if not match:
        raise ValueError(f"'{text}' is no length of time; write it as 30m, 2h, 3d or 1w")
    return int(match[1]) * _UNITS[match[2]]


def _plain(text: str) -> str:
    """Addresses and reasons come from strangers: nothing in them moves a terminal's cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text)


def _length(age: int) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if age >= unit:
            return f"{age // unit} {name}"
    return f"{age} s"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{-(-size // 1024)} KiB"


def render(messages: Iterable[dict[str, Any]]) -> str:
    """Return messages, as shape() has them, as text."""
    lines: list[str] = []
    for message in messages:
        sender = _plain(message["sender"]) or "<>"
        lines.append(f"{message['queue_id']}  {message['queue']}  {_length(message['age'])}  {_size(message['size'])}  from {sender}")
        recipients = message["recipients"]
        for each in recipients[:_SHOWN]:
            reason = f": {_plain(each['reason'])}" if each["reason"] else ""
            lines.append(f"    to {_plain(each['address'])}{reason}")
        if len(recipients) > _SHOWN:
            lines.append(f"    and {len(recipients) - _SHOWN} more recipients")
    return "\n".join(lines)


def _sum(messages: Sequence[dict[str, Any]]) -> str:
    count = "one message" if len(messages) == 1 else f"{len(messages):,} messages"
    held = sum(message["queue"] == "hold" for message in messages)
    return f"{count}, {held:,} of them on hold; the oldest waits for {_length(max(message['age'] for message in messages))}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gateway-queue",
        description="Look at the mail that waits, and hold, release, flush or delete what is meant.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=("list", "hold", "release", "flush", "delete"), default="list", help="default: %(default)s")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", default="", help="envelope sender; @example.com for all of a domain, '<>' for reports")
    parser.add_argument("--to", dest="recipient", metavar="ADDRESS", default="", help="a recipient that is still to be reached; @example.com for a domain")
    parser.add_argument("--reason", metavar="TEXT", default="", help="a part of what the next hop has said, in capitals or not")
    parser.add_argument("--older-than", metavar="LENGTH", default="", help="30m, 2h, 3d or 1w")
    parser.add_argument("--queue", choices=QUEUES, default="", help="the queue of Postfix that it is in")
    parser.add_argument("--id", dest="queue_ids", metavar="ID", action="append", default=[], help="a queue id; may be given more than once")
    parser.add_argument("--all", action="store_true", help="every message, where no condition is given")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and show what would be changed")
    parser.add_argument("--json", action="store_true", help="ages in seconds, sizes in bytes")
    options = parser.parse_args()
    try:
        age = seconds(options.older_than) if options.older_than else 0
    except ValueError as error:
        parser.error(f"--older-than: {error}")
    conditions = Conditions(options.sender, options.recipient, options.reason, age, options.queue, options.queue_ids)
    if options.action != "list" and not options.all and conditions == Conditions(queue_ids=[]):
        parser.error(f"{options.action}: say which messages are meant, or --all")
    try:
        now = time.time()
        found = [message for message in waiting() if conditions.meet(message, now) and _in_hand(options.action, message)]
        if options.action != "list" and found and not options.dry_run:
            act(options.action, found)
    except QueueError as error:
        sys.stderr.write(f"gateway-queue: {error}\n")
        return 2
    shown = [shape(message, now) for message in found]
    if options.json:
        sys.stdout.write(json.dumps({"messages": shown}, indent=1) + "\n")
    elif not shown:
        sys.stdout.write("no such message waits\n" if options.action == "list" else f"there is no such message to {options.action}\n")
    else:
        past = {"hold": "put on hold", "release": "released", "flush": "tried again", "delete": "deleted"}
        done = "" if options.action == "list" else f"{'would be ' if options.dry_run else ''}{past[options.action]}: "
        sys.stdout.write(f"{render(shown)}\n\n{done}{_sum(shown)}\n")
    return 0 if shown else 1


if __name__ == "__main__":
    raise SystemExit(main())
