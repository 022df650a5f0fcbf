# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of Postfix's log, as Postfix 3.7 and 3.10 write them (smtpd.c, postscreen.c, log_adhoc.c, qmgr_active.c and others).

Private to antispam.gateway. A line says something of a connection, which is known by the client's address and port
(smtpd_client_port_logging), or of a message in the queue, which is known by its queue id. What is in no line of this
grammar is None: much of the log does not matter here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# An address in angle brackets: brackets and commas may stand in a quoted local part.
_ADDRESS = r'((?:[^<>"]|"(?:[^"\\]|\\.)*")*)'
_CLIENT = r"(?P<name>[^\s\[\]]*)\[(?P<address>[^\]\s]+)\](?::(?P<port>\d+))?"
# What smtpd and postscreen say of a conversation behind an answer. Postfix leaves no blank, bracket or quote in what stands in helo.
_ENVELOPE = (
    rf";(?: from=<{_ADDRESS}>)?,?(?: to=<{_ADDRESS}>)?,?(?: proto=(?P<protocol>[A-Z0-9]+))?,?(?: helo=<(?P<helo>[^<>]*)>)?"
    r"(?: sasl_username=<(?P<login>[^>]*)>)?$"
)
# An answer may quote the address that it is about, and the text of a sender: only brackets outside of quotes count.
_ANSWER = r'(?P<answer>(?:<(?:[^<>"]|"(?:[^"\\]|\\.)*")*>|[^<])*?)'
_QUEUE_ID = r"(?P<queue_id>[0-9A-F]{5,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,})"

_CONNECTION = re.compile(rf"(?P<what>connect from|CONNECT from|disconnect from|DISCONNECT|HANGUP after \S+ from|PASS (?:OLD|NEW)|DNSBL rank \d+ for) {_CLIENT}")
_LISTED = re.compile(rf"(?P<what>(?:ALLOW|DENY|WHITE|BLACK)LISTED) {_CLIENT}")
_PREGREET = re.compile(rf"(?P<what>PREGREET) (?P<bytes>\d+) after (?P<seconds>\S+) from {_CLIENT}: (?P<text>.*)", re.DOTALL)
_TLS = re.compile(rf"(?P<trust>\S+) TLS connection established from {_CLIENT}: (?P<tls>\S+ with cipher \S+)")
_BROKEN = re.compile(rf"(?P<what>lost connection|timeout|too many errors) after (?P<step>[A-Z-]+)(?: \(\d+ bytes\))? from {_CLIENT}")
_LOGIN_FAILED = re.compile(rf"warning: {_CLIENT}: (?P<text>SASL \S+ authentication failed.*)", re.DOTALL)
# An answer with one bracket alone is read as far as the first envelope.
_LAX = "(?P<answer>.*?)"
_REJECT, _REJECT_LAX = (
    re.compile(rf"NOQUEUE: (?:milter-)?reject: (?P<step>[A-Z-]+) from {_CLIENT}: {answer}(?:{_ENVELOPE})?$", re.DOTALL) for answer in (_ANSWER, _LAX)
)
_PROXY, _PROXY_LAX = (re.compile(rf"proxy-(?P<what>accept|reject): (?P<step>[A-Z-]+): {answer}{_ENVELOPE}", re.DOTALL) for answer in (_ANSWER, _LAX))
_CLIENT_LINE = re.compile(
    rf"(?:NOQUEUE|{_QUEUE_ID}): client={_CLIENT}(?:, sasl_method=[^,]*)?(?:, sasl_username=(?P<login>[^,]*))?(?:, sasl_sender=[^,]*)?"
    r"(?:, orig_queue_id=[^,]*)?(?:, orig_client=(?P<orig_client>\S+))?"
)
_ORIGINAL = re.compile(_CLIENT)
_DELIVERY = re.compile(
    rf"{_QUEUE_ID}: to=<{_ADDRESS}>(?:, orig_to=<{_ADDRESS}>)?, relay=(?P<relay>[^,]+),.*? dsn=(?P<dsn>[0-9.]+), status=(?P<status>[a-z-]+) \((?P<text>.*)\)$",
    re.DOTALL,
)
_ACTIVE = re.compile(rf"{_QUEUE_ID}: from=<{_ADDRESS}>, size=(?P<size>\d+), nrcpt=(?P<recipients>\d+)")
_EXPIRED = re.compile(rf"{_QUEUE_ID}: from=<{_ADDRESS}>, status=(?P<status>(?:force-)?expired), returned to sender")
_MESSAGE_ID = re.compile(rf"{_QUEUE_ID}: (?:resent-)?message-id=(?P<text>.*)", re.DOTALL)
_NOTIFICATION = re.compile(rf"{_QUEUE_ID}: (?P<text>(?:sender|postmaster) (?:non-delivery|delay|delivery status) notification): (?P<child>\S+)")
_LOCAL = re.compile(rf"{_QUEUE_ID}: uid=(?P<uid>\d+) from=<{_ADDRESS}>")
_REMOVED = re.compile(rf"{_QUEUE_ID}: removed$")
_OPERATOR = re.compile(rf"{_QUEUE_ID}: (?P<text>placed on hold|released from hold|requeued|expired|removed)$")


class Line(NamedTuple):
    """What a line says. Which of the rest is there depends on ``kind``."""

    kind: str
    queue_id: str = ""
    name: str = ""
    address: str = ""
    port: int = 0
    step: str = ""
    text: str = ""
    sender: str | None = None
    recipient: str | None = None
    original: str | None = None
    helo: str = ""
    protocol: str = ""
    login: str = ""
    relay: str = ""
    status: str = ""
    dsn: str = ""
    number: int = 0


def parse(identifier: str, text: str) -> Line | None:
    """Return what a line says. identifier: that of syslog, such as postfix/submission/smtpd."""
    program = identifier.rpartition("/")[2]
    reader = _READERS.get(program, _delivery)
    return reader(text)


def _of_client(kind: str, match: re.Match[str], **more: str | None) -> Line:
    found = match.groupdict()
    known = {name: found.get(name) or "" for name in ("name", "step", "text", "helo", "protocol", "login")}
    return Line(kind, **{**known, "address": _bare(found["address"]), "port": int(found.get("port") or 0), **more})  # type: ignore[arg-type]


def _bare(address: str) -> str:
    return address[5:].lower() if address[:5].lower() == "ipv6:" else address.lower()


def client(text: str) -> tuple[str, str, int]:
    """Return (name, address, port) of a client as Postfix writes it; all empty where it is none."""
    match = _ORIGINAL.match(text)
    return (match["name"], _bare(match["address"]), int(match["port"] or 0)) if match else ("", "", 0)


def message_id(text: str) -> str:
    """Return a Message-ID as it is kept: without its brackets, and bounded."""
    return text.strip().removeprefix("<").removesuffix(">")[:500]


def _reject(text: str) -> Line | None:
    match = _REJECT.match(text) or _REJECT_LAX.match(text)
    if not match:
        return None
    sender, recipient = match.groups()[_REJECT_SENDER : _REJECT_SENDER + 2]
    return _of_client("refused", match, text=match["answer"], sender=sender, recipient=recipient)


def _smtpd(text: str) -> Line | None:
    if text.startswith("proxy-"):
        match = _PROXY.match(text) or _PROXY_LAX.match(text)
        if not match:
            return None
        sender, recipient = match.groups()[_PROXY_SENDER : _PROXY_SENDER + 2]
        found = match.groupdict()
        said = Line("answered", text=found["answer"], sender=sender, recipient=recipient, status=found["what"], step=found["step"])
        return said._replace(helo=found["helo"] or "", protocol=found["protocol"] or "", login=found["login"] or "")
    if text.startswith("NOQUEUE: ") and (found_line := _reject(text)):
        return found_line
    match = _CONNECTION.match(text)
    if match:
        return _of_client("disconnected" if match["what"].startswith("disconnect") else "connected", match)
    match = _CLIENT_LINE.match(text)
    if match:
        if match["orig_client"]:
            name, address, port = client(match["orig_client"])
            return Line("queued", match["queue_id"] or "", name, address, port, login=match["login"] or "")
        return _of_client("queued" if match["queue_id"] else "begun", match, queue_id=match["queue_id"] or "")
    match = _TLS.match(text)
    if match:
        return _of_client("encrypted", match, text=match["tls"].replace(" with cipher ", " "))
    match = _BROKEN.match(text)
    if match:
        return _of_client("broken", match, text=f"{match['what']} after {match['step']}")
    match = _LOGIN_FAILED.match(text)
    if match:
        return _of_client("refused", match, step="AUTH")
    return None


def _postscreen(text: str) -> Line | None:
    if text.startswith("NOQUEUE: "):
        return _reject(text)
    match = _CONNECTION.match(text)
    if match:
        what = match["what"]
        kind = {"CONNECT": "connected", "DISCONNECT": "disconnected", "HANGUP": "disconnected"}.get(what.split(" ")[0], "screened")
        return _of_client(kind, match, text=what.removesuffix(" for"))
    match = _PREGREET.match(text)
    if match:
        return _of_client("screened", match, text=f"PREGREET after {match['seconds']} s")
    match = _LISTED.match(text)
    if match:
        return _of_client("screened", match, text=match["what"])
    return None


def _tlsproxy(text: str) -> Line | None:
    match = _TLS.match(text)
    return _of_client("encrypted", match, text=match["tls"].replace(" with cipher ", " ")) if match else None


def _cleanup(text: str) -> Line | None:
    match = _MESSAGE_ID.match(text)
    return Line("named", match["queue_id"], text=match["text"]) if match else None


def _qmgr(text: str) -> Line | None:
    match = _ACTIVE.match(text)
    if match:
        return Line("active", match["queue_id"], sender=match[2], number=int(match["size"]))
    match = _REMOVED.match(text)
    if match:
        return Line("removed", match["queue_id"])
    match = _EXPIRED.match(text)
    if match:
        return Line("noted", match["queue_id"], text=f"{match['status']}, returned to sender")
    return _delivery(text)


def _bounce(text: str) -> Line | None:
    match = _NOTIFICATION.match(text)
    return Line("reported", match["queue_id"], text=match["text"], status=match["child"]) if match else None


def _pickup(text: str) -> Line | None:
    match = _LOCAL.match(text)
    return Line("local", match["queue_id"], sender=match[3]) if match else None


def _postsuper(text: str) -> Line | None:
    match = _OPERATOR.match(text)
    return Line("removed by hand" if match and match["text"] == "removed" else "noted", match["queue_id"], text=match["text"]) if match else None


def _delivery(text: str) -> Line | None:
    match = _DELIVERY.match(text)
    if not match:
        return None
    return Line(
        "delivered",
        match["queue_id"],
        recipient=match[2],
        original=match[3],
        relay=match["relay"],
        dsn=match["dsn"],
        status=match["status"],
        text=match["text"],
    )


# Where the two addresses are among the groups of a pattern: the one behind the answer.
_REJECT_SENDER = _REJECT.groupindex["answer"]
_PROXY_SENDER = _PROXY.groupindex["answer"]

_READERS = {
    "smtpd": _smtpd,
    "postscreen": _postscreen,
    "tlsproxy": _tlsproxy,
    "cleanup": _cleanup,
    "qmgr": _qmgr,
    "bounce": _bounce,
    "defer": _bounce,
    "pickup": _pickup,
    "postsuper": _postsuper,
}
