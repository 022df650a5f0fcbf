# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks one name server one question (RFC 1035).

Private to antispam.gateway. The C library's resolver cannot be told which
server to ask. dnspython could, but the preflight asks before the first package
is installed, so that a bare host without a usable resolver is left as it was.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from typing import NamedTuple

A, SOA, MX, AAAA = 1, 6, 15, 28
TIMEOUT = 5  # seconds for one try
TRIES = 2  # UDP may lose one
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
# A name that does not exist is an answer too.
ANSWERS = ("NOERROR", "NXDOMAIN")
_HEADER = struct.Struct("!6H")


class Unanswered(Exception):
    """The server gave no answer; the text says why."""


class Answer(NamedTuple):
    """What a server said."""

    rcode: str  # one of RCODES, or RCODE and its number
    addresses: list[str]  # of the A records
    found: int  # how many records of the asked kind came


def ask(server: str, name: str, kind: int, timeout: float = TIMEOUT, tries: int = TRIES, port: int = 53) -> Answer:
    """Ask for the records of one kind. `server` is an IP address, `timeout` the seconds for each of the tries. Raises Unanswered."""
    question = b"".join(bytes([len(label)]) + label for label in name.encode("ascii").split(b".") if label) + b"\0" + struct.pack("!2H", kind, 1)
    reason = f"no answer within {timeout} s"
    for _try in range(tries):
        number = secrets.randbelow(65536)
        try:
            # Connected, so that only the server's own datagrams are received.
            with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as connection:
                connection.connect((server, port))
                # Recursion desired.
                connection.send(_HEADER.pack(number, 0x0100, 1, 0, 0, 0) + question)
                return _receive(connection, number, kind, time.monotonic() + timeout)
        except TimeoutError:
            pass
        except OSError as error:
            reason = error.strerror or str(error)
    raise Unanswered(reason)


def refusal(server: str) -> str:
    """Return '' if a server is a resolver for this host that reaches the root of the DNS, else its response code; raises Unanswered."""
    rcode = ask(server, ".", SOA)[0]
    return "" if rcode in ANSWERS else rcode


def _receive(connection: socket.socket, number: int, kind: int, deadline: float) -> Answer:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(4096)
        try:
            found, flags, questions, answers, _authorities, _additional = _HEADER.unpack_from(data)
            if found == number and flags & 0x8000:
                records = _records(data, questions, answers)
                addresses = [socket.inet_ntoa(value) for type_, value in records if type_ == A and len(value) == 4]
                return Answer(RCODES.get(flags & 15, f"RCODE {flags & 15}"), addresses, sum(type_ == kind for type_, _value in records))
        except (struct.error, IndexError):
            continue


def _records(data: bytes, questions: int, answers: int) -> list[tuple[int, bytes]]:
    """Return (type, RDATA) of each answer; IndexError or struct.error says that the message is cut off."""
    at = _HEADER.size
    for _question in range(questions):
        at = _after_name(data, at) + 4
    records = []
    for _answer in range(answers):
        at = _after_name(data, at)
        type_, _class, _ttl, length = struct.unpack_from("!2HIH", data, at)
        at += 10 + length
        if at > len(data):
            raise IndexError("the record is cut off")
        records.append((type_, data[at - length : at]))
    return records


def _after_name(data: bytes, at: int) -> int:
    """Return where a name ends that begins here: with an empty label, or with a pointer (RFC 1035 section 4.1.4)."""
    while data[at]:
        if data[at] >= 0xC0:
            return at + 2
        at += 1 + data[at]
    return at + 1
