# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a Postfix take mail in and hand it out, and tells its own faults from those of others.

Private to antispam.gateway. Postfix's check looks at its files alone; a daemon
that dies of what stands in them is only seen when it is used. What a next hop
does is not Postfix's fault, and is none here.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _smtp

# (arguments) -> (exit status, standard output, standard error), as AnsibleModule.run_command
Run = Callable[..., tuple[int, str, str]]

# Seconds. A next hop may take longer to answer; that is no fault of this host.
PATIENCE = 20
# The log of daemons. Commands of users, and the client that stops a listener, are not theirs.
_FATAL = re.compile(r"postfix[^ \[]*/(?!sendmail|post(?:drop|queue|super|map|alias|cat|conf|log)\b)([a-z-]+)\[\d+\]: ((?:fatal|panic): .*)")
# What qmgr(8) writes where a delivery agent is not there, or dies (qmgr_deliver.c, qmgr_transport.c).
_AGENT_FAULT = re.compile(r"mail transport unavailable|unknown mail transport error")


# A message that a user of this host has handed in, with its queue ID (pickup.c); and any line about a message.
_PICKUP = re.compile(r"/pickup\[\d+\]: (\w+): uid=\d+ from=<>")
_MESSAGE = re.compile(r"\[\d+\]: (\w+): ")


class Fault(Exception):
    """Postfix does not do what it has to; the text says what it said."""


def _queue_id(line: str) -> str:
    match = _MESSAGE.search(line)
    return match[1] if match else ""


def journal(run: Run, since: float) -> list[str]:
    """Return what this host has logged since a time, in seconds since the epoch."""
    return run(["journalctl", "--no-pager", "--quiet", "--output=short", f"--since=@{since:.6f}"])[1].splitlines()


def faults(lines: list[str]) -> list[str]:
    """Return what daemons of Postfix died of, each once. A panic of smtpd(8) may be a client's doing (Postfix 3.7 has such a defect)."""
    found = [match for match in map(_FATAL.search, lines) if match]
    return list(dict.fromkeys(f"{match[1]}: {match[2]}" for match in found if (match[1], match[2][:5]) != ("smtpd", "panic")))


def converse(asked: dict[str, Any]) -> None:
    """Hold one conversation; raise Fault where it does not end as `expect` says, the beginning of a reply."""
    arguments = {name: value for name, value in asked.items() if name != "expect" and value is not None}
    place = f"{asked['host']} port {asked['port']}"
    try:
        record = _smtp.converse(**arguments, timeout=PATIENCE * 3)
    except _smtp.SmtpError as error:
        raise Fault(f"{place}: {error}") from error
    reply = record["reply"]
    said, step = (" ".join(reply["lines"]), reply["step"]) if reply else ("", "connect")
    if not said.startswith(asked["expect"]):
        raise Fault(f"{place} answers {said!r} at {step} in place of {asked['expect']}")


def watch(call: Callable[[], None], died: Callable[[], str]) -> None:
    """Call, and wait until it returns; raise what it raises, or Fault as soon as a daemon has died: its client would wait for a minute.

    died: says of what, '' as long as none has.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    # A daemon thread: nobody waits for a conversation that is given up.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1)
        said = died() if thread.is_alive() else ""
        if said:
            raise Fault(said)
    if raised:
        raise raised[0]


@contextlib.contextmanager
def sink(listen: str) -> Iterator[None]:
    """Run smtp-sink(1), which takes any mail and keeps none, on host:port."""
    process = subprocess.Popen(
        ["/usr/sbin/smtp-sink", "-u", "postfix", listen, "20"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def deliver(run: Run, addresses: list[str], listen: str) -> None:
    """Have each address verified by its real delivery agent, as far as RCPT; raise Fault where the agent is not there or dies.

    The null sender gets no report (sendmail(1), -bv).
    """
    since = time.time()
    with sink(listen):
        for address in addresses:
            rc, out, err = run(["/usr/sbin/sendmail", "-bv", "-f", "<>", address])
            if rc:
                raise Fault(f"sendmail -bv {address}: {(err or out).strip()}")
        waiting, missing = set(addresses), ""
        deadline = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            time.sleep(0.2)
            lines = journal(run, since)
            # Probes of an earlier run may still be on their way.
            ours = {match[1] for match in map(_PICKUP.search, lines) if match}
            for address in list(waiting):
                told = next((line for line in lines if f"to=<{address}>" in line and "status=" in line and _queue_id(line) in ours), "")
                if told and _AGENT_FAULT.search(told):
                    missing = missing or f"mail to {address} is not handed out: {told.partition('status=')[2]}"
                if told:
                    waiting.remove(address)
            if faults(lines):
                break
        # A probe that is still there has nobody to go to.
        lines = journal(run, since)
        for left in {match[1] for match in map(_PICKUP.search, lines) if match and not any(f" {match[1]}: removed" in line for line in lines)}:
            run(["/usr/sbin/postsuper", "-d", left])
        if missing:
            raise Fault(missing)
