# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that waits in Postfix's queue since before the gateway was set up.

Private to antispam.gateway. Nobody knows what has looked at it, so it is
scanned before it is delivered: handed to amavis as if it came in anew, and
removed once that has put it into the queue again. A message that is refused
stays on hold: its sender was told long ago that it was accepted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _smtp

# (arguments) -> (exit status, standard output, standard error), as AnsibleModule.run_command
Run = Callable[..., tuple[int, str, str]]

# So many times, half a second apart, nothing is under way.
QUIET = 6
# Seconds for one message: more than a scan may take.
PATIENCE = 300


class Message(NamedTuple):
    """A message in the queue."""

    queue_id: str
    sender: str
    recipients: list[str]  # those that have not got it yet

    def __str__(self) -> str:
        return f"{self.queue_id} from <{self.sender}> to {', '.join(f'<{address}>' for address in self.recipients)}"


class Record:
    """Which messages are on hold on our account, and which one is being handed over. It outlives a run that is killed."""

    def __init__(self) -> None:
        self.path = _files.STATE_DIRECTORY / "queued-mail"
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.held: list[str] = found.get("held", [])
        # Domains that the former set-up took mail for and the new one does not. It would have to return their mail.
        self.lost_domains: list[str] = found.get("lost_domains", [])
        # Handed to amavis, whose answer nobody has noted: it may have been delivered.
        self.sending: str = found.get("sending", "")

    @property
    def pending(self) -> bool:
        return self.path.exists()

    def write(self) -> None:
        _files.replace(self.path, json.dumps({"held": self.held, "lost_domains": self.lost_domains, "sending": self.sending}).encode(), (0, 0), 0o600)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def listed(run: Run) -> dict[str, str]:
    """Return {queue ID: name of the queue} of all messages (postqueue(1))."""
    _rc, out, _err = run(["postqueue", "-j"])
    found = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    return {each["queue_id"]: each["queue_name"] for each in found}


def read(run: Run, queue_id: str) -> Message | None:
    """Return the envelope of a message (postcat(1)), None where it has left the queue."""
    rc, out, _err = run(["postcat", "-qe", queue_id], encoding="latin-1")
    if rc:
        return None
    records = [line.partition(": ") for line in out.splitlines()]
    sender = next((value for name, _colon, value in records if name == "sender"), "")
    return Message(queue_id, sender, [value for name, _colon, value in records if name == "recipient"])


def hold(run: Run, timeout: float, lost_domains: Iterable[str] = ()) -> list[str]:
    """Let the old set-up deliver what it can in some seconds, put what is left on hold, and return its queue IDs.

    lost_domains: those that the new set-up does not take mail for.
    """
    record = Record()
    run(["postqueue", "-f"])
    deadline = time.monotonic() + timeout
    quiet = 0
    # What is deferred has just been tried, and is tried again in minutes only.
    while quiet < QUIET and time.monotonic() < deadline:
        queues = set(listed(run).values()) - {"hold"}
        if not queues:
            break
        quiet = 0 if queues - {"deferred"} else quiet + 1
        time.sleep(0.5)
    left = waiting(run)
    # Noted first: what a killed run has put on hold is found again.
    record.held = sorted({*record.held, *left})
    record.lost_domains = sorted({*record.lost_domains, *lost_domains})
    record.write()
    for queue_id in left:
        run(["postsuper", "-h", queue_id])
    return left


def waiting(run: Run) -> list[str]:
    """Return the queue IDs of what is not on hold."""
    return [queue_id for queue_id, queue in listed(run).items() if queue != "hold"]


def release(run: Run) -> list[str]:
    """Take off hold what hold() has put there, for the set-up that is there now; return the queue IDs."""
    record = Record()
    released = [queue_id for queue_id in record.held if queue_id != record.sending]
    for queue_id in released:
        run(["postsuper", "-H", queue_id])
    if not record.sending:
        record.remove()
    return released


def scan(run: Run, host: str, port: int) -> tuple[list[str], list[str]]:
    """Hand everything that hold() has put on hold to amavis; return (what is on its way, what stays on hold and why), a text a message."""
    record = Record()
    sent: list[str] = []
    kept: list[str] = []
    there = listed(run)
    if record.sending in there:
        kept.append(f"{record.sending}: a run was killed while it was handed to amavis, so it may have been delivered")
    for queue_id in record.held:
        message = read(run, queue_id) if queue_id in there and queue_id != record.sending else None
        if message is None:
            continue
        if not message.recipients:
            # All have got it; qmgr(8) removes it.
            run(["postsuper", "-H", queue_id])
            continue
        lost = [address for address in message.recipients if address.rpartition("@")[2].lower() in record.lost_domains]
        if lost:
            kept.append(f"{message}: this site takes no mail for {lost[0]} any more")
            continue
        record.sending = queue_id
        record.write()
        refusal = _hand_over(run, message, host, port)
        if refusal:
            kept.append(f"{message}: {refusal}")
        else:
            run(["postsuper", "-d", queue_id])
            sent.append(str(message))
        record.sending = ""
        record.write()
    record.remove()
    return sent, kept


def _hand_over(run: Run, message: Message, host: str, port: int) -> str:
    """Return '' once amavis has put the message into the queue again, else why it has not."""
    rc, out, err = run(["postcat", "-qbh", message.queue_id], encoding="latin-1")
    if rc:
        return f"postcat cannot read it: {err.strip()}"
    content = out.encode("latin-1")
    try:
        record = _smtp.converse(host=host, port=port, sender=message.sender, recipients=message.recipients, tls="never", content=content, timeout=PATIENCE)
    except _smtp.SmtpError as error:
        return f"it could not be scanned: {error}"
    # Whom amavis does not take as a recipient has not got it.
    refused = [reply for reply in record["replies"] if reply["step"] == "rcpt" and reply["code"] // 100 != 2]
    if record["verdict"] == "accepted" and not refused:
        return ""
    reply = refused[0] if refused else record["reply"]
    return " ".join(reply["lines"]) if reply else "there was no answer"
