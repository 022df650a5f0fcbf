# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real SMTP conversation, every reply kept.

Private to antispam.gateway. ``converse(host=..., ...)`` returns what was said. This file imports nothing of Ansible, so that
it runs wherever there is a Python: the tests of a gateway send it to the hosts that speak to it.
"""

from __future__ import annotations

import base64
import dataclasses
import email.parser
import errno
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict

from ansible_collections.antispam.gateway.plugins.module_utils import _samples

STOPS = ("connect", "helo", "login", "mail", "rcpt", "data")
TLS = ("never", "may", "require", "implicit")

_REPLY_LINE = re.compile(r"([2-5][0-9][0-9])(?:([ -])(.*))?")
_ENHANCED_CODE = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_QUEUE_ID = re.compile(r"queued as ([0-9A-Za-z]+)")
_MAX_REPLY_BYTES = 64 * 1024
_QUIT_SECONDS = 10


class Reply(TypedDict):
    """One reply of the server. ``text`` is without codes, ``seconds`` count from the last byte sent to the end of the reply."""

    step: str  # one of STOPS, or starttls, end_of_data, quit, script
    command: str  # what was sent, without the password
    code: int
    enhanced_code: str | None  # RFC 3463
    text: str
    lines: list[str]  # as they came
    seconds: float


class Tls(TypedDict):
    """What was agreed on in the handshake."""

    protocol: str | None
    cipher: str
    bits: int
    verified: bool


class Record(TypedDict):
    """What was said in a conversation. What it did not get to is None."""

    host: str
    port: int
    peer_address: str | None
    local_address: str | None
    helo: str | None
    sender: str
    recipients: list[str]
    replies: list[Reply]
    reply: Reply | None  # the last one before QUIT, which decided
    verdict: str | None  # accepted, deferred (4xx) or refused (5xx)
    refused_at: str | None  # the step
    extensions: list[str]
    tls: Tls | None
    message_id: str | None
    message_size: int | None  # bytes, as announced with SIZE
    bytes_sent: int  # after DATA
    queue_id: str | None
    seconds: float | None


class Line(TypedDict, total=False):
    """A line of a script; see Conversation."""

    send: Required[str]
    replies: int
    chunk: int  # bytes
    pause: float  # seconds after each chunk


class SmtpError(Exception):
    """The conversation could not be held to its end; ``result`` is the Record until then, empty after a wrong argument."""

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}


def converse(**arguments: Any) -> Record:
    """Hold the conversation and return its record; see Conversation for the arguments. Raises SmtpError."""
    return Conversation(**arguments).hold()


def crlf(data: bytes) -> bytes:
    """Return the same text with every line ended by CRLF, the last one too."""
    data = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    return data if data.endswith(b"\r\n") or not data else data + b"\r\n"


def dot_stuffed(data: bytes) -> bytes:
    """Return a text with CRLF line ends as DATA carries it (RFC 5321 section 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"..", data)


# ---- the connection -----------------------------------------------------------------------------------------------


class _Closed(ConnectionError):
    pass


class _OtherName(OSError):
    """The server's certificate is for none of the names that are wanted."""


class _NoSMTP(OSError):
    pass


class _Wire:
    """A TCP or TLS connection that keeps one deadline over everything it does: ``timeout`` in seconds, from now on."""

    def __init__(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self.peer = ""
        self.local = ""
        self._sock: socket.socket | None = None
        self._buffer = b""

    def _wait_at_most(self, share: int = 1) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline")
        return left / share

    def _ready(self) -> socket.socket:
        """Return the socket, which from now on waits until the deadline and no longer."""
        if not self._sock:
            raise _Closed("not connected")
        self._sock.settimeout(self._wait_at_most())
        return self._sock

    def connect(self, host: str, port: int, source_address: str | None) -> None:
        """To the first address of the host that answers; none of them may use up the time of the others."""
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc
        if source_address:
            wanted = socket.AF_INET6 if ":" in source_address else socket.AF_INET
            addresses = [entry for entry in addresses if entry[0] == wanted] or addresses
        for position, (family, kind, protocol, _name, address) in enumerate(addresses):
            self.peer = str(address[0])
            self._sock = socket.socket(family, kind, protocol)
            try:
                self._sock.settimeout(self._wait_at_most(share=len(addresses) - position))
                if source_address:
                    self._sock.bind((source_address, 0))
                self._sock.connect(address)
                self.local = self._sock.getsockname()[0]
                return
            except OSError:
                self.close()
                if position == len(addresses) - 1:
                    raise

    def start_tls(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        if self._buffer:
            raise _NoSMTP(f"it sent {self._buffer[:80]!r} in clear text after its answer to STARTTLS")
        sock = context.wrap_socket(self._ready(), server_hostname=host)
        self._sock = sock
        return sock

    def send(self, data: bytes, chunk: int = 0, pause: float = 0.0) -> None:
        for start in range(0, len(data), chunk or len(data) or 1):
            self._ready().sendall(data[start : start + chunk] if chunk else data)
            if pause:
                time.sleep(min(pause, self._wait_at_most()))

    def line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MAX_REPLY_BYTES:
                raise _NoSMTP("it sent a line without end")
            received = self._ready().recv(4096)
            if not received:
                raise _Closed("closed")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "backslashreplace")

    def reply(self) -> list[str]:
        """One reply of one or more lines, as they came."""
        lines: list[str] = []
        while True:
            line = self.line()
            match = _REPLY_LINE.fullmatch(line)
            if not match or sum(map(len, lines)) > _MAX_REPLY_BYTES:
                raise _NoSMTP(f"it does not speak SMTP: it answered {line[:80]!r}")
            if lines and line[:3] != lines[0][:3]:
                # postscreen(8) does not finish its greeting when the client talks into it.
                self._buffer = line.encode("utf-8") + b"\r\n" + self._buffer
                return lines
            lines.append(line)
            if match.group(2) != "-":
                return lines

    def close(self) -> None:
        if self._sock:
            self._sock.close()
            self._sock = None


# ---- the conversation ---------------------------------------------------------------------------------------------


# Without a repr, which would hold the password.
@dataclasses.dataclass(repr=False)
class Conversation:
    """What to say, and the record of what was said.

    ``stop_after`` ends the conversation politely after that step; ``data`` is the whole of it. ``timeout`` (seconds)
    is the limit of the whole conversation. ``content`` (str or bytes, header and body) takes the place of the sample.
    ``certificate_names`` are the names of which the server's certificate needs one, with ``validate_certs``, in place of ``host``; ``.example.com``
    stands for every name below it.
    ``early`` sends EHLO before the server has greeted, as clients do that do not listen.
    ``username`` and ``password`` log in with AUTH PLAIN (RFC 4954), and never without TLS. The record does not hold them.

    ``script`` takes the place of the dialogue after the connection, for what no honest client would do. It is a list
    of texts to send as they are (``""`` sends nothing: the greeting comes by itself); after each, one reply is
    awaited. ``{"send": text, "replies": 0, "chunk": 1, "pause": 0.1}`` in place of a text awaits another number of
    replies, or sends it in pieces. At the end, every reply is read until the server closes the connection, so the last
    line is QUIT; a server that hangs up before is no failure. A character of ``send`` is one byte (U+0000 to U+00FF).
    """

    host: str
    port: int = 25
    source_address: str | None = None
    helo: str | None = None
    sender: str = ""
    recipients: Sequence[str] = ()
    tls: str = "may"
    validate_certs: bool = False
    ca_path: str | None = None
    certificate_names: Sequence[str] = ()
    sample: str | None = None
    content: str | bytes | None = None
    subject: str | None = None
    headers: Mapping[str, object] | None = None
    size: int | None = None
    timeout: float = 300
    stop_after: str = "data"
    script: Sequence[str | Line] | None = None
    early: bool = False
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        self.wire = _Wire(self.timeout)
        self.extensions: dict[str, str] = {}
        self.doing = "connect"  # for error messages: what was asked last
        self.record = Record(
            host=self.host,
            port=self.port,
            peer_address=None,
            local_address=None,
            helo=self.helo,
            sender=self.sender,
            recipients=list(self.recipients),
            replies=[],
            reply=None,
            verdict=None,
            refused_at=None,
            extensions=[],
            tls=None,
            message_id=None,
            message_size=None,
            bytes_sent=0,
            queue_id=None,
            seconds=None,
        )

    def hold(self) -> Record:
        """Hold the conversation and return its record; raises SmtpError."""
        started = time.monotonic()
        self._check_arguments()
        try:
            self.wire.connect(self.host, self.port, self.source_address)
            self.record["local_address"] = self.wire.local
            if self.tls == "implicit":
                self._shake_hands()
            if self.script is None:
                self._dialogue()
                self._quit()
            else:
                self._play(self.script)
            self._judge()
        except SmtpError:
            self._quit()
            raise
        except OSError as exc:
            raise SmtpError(self._explanation(exc), self.record) from exc
        finally:
            self.wire.close()
            self.record["peer_address"] = self.wire.peer or None
            self.record["seconds"] = round(time.monotonic() - started, 3)
        return self.record

    def _check_arguments(self) -> None:
        for name, value, choices in (
            ("stop_after", self.stop_after, STOPS),
            ("tls", self.tls, TLS),
            ("sample", self.sample or "clean", tuple(_samples.SUBJECTS)),
        ):
            if value not in choices:
                raise SmtpError(f"{name} is {value!r}, it must be one of {', '.join(choices)}")
        if not 0 < self.port < 65536:
            raise SmtpError(f"port is {self.port}, it must be from 1 to 65535")
        if self.username and self.tls in ("never", "may"):
            raise SmtpError("a login is for a conversation with TLS only: set tls to require or implicit")
        if self.stop_after == "login" and not self.username:
            raise SmtpError("stop_after is login, but there is no username")
        if self.early and self.tls != "never":
            raise SmtpError("early is for a conversation without TLS: set tls to never")
        if self.early and self.stop_after == "connect":
            raise SmtpError("early sends EHLO: set stop_after to helo or a later step")
        if self.timeout <= 0:
            raise SmtpError(f"timeout is {self.timeout}, it must be more than 0 seconds")
        if self.script is None and self.stop_after in ("rcpt", "data") and not self.recipients:
            raise SmtpError("recipients is empty: name at least one, or stop_after mail")
        words = [("helo", self.helo or ""), ("sender", self.sender)] + [("recipients", each) for each in self.recipients]
        for name, word in words:
            if not re.fullmatch(r"[ !-;=?-~]*", word):
                raise SmtpError(f"{name}: {word!r} cannot be sent in an SMTP command: use printable ASCII without < and >")

    def _dialogue(self) -> None:
        if self.early:
            self.wire.send(b"EHLO " + self._name().encode("ascii") + b"\r\n")
        if not _is_yes(self._ask("connect")) or self.stop_after == "connect":
            return
        if not self._say_hello():
            return
        if self.tls in ("may", "require") and not self._start_tls():
            return
        if self.stop_after == "helo":
            return
        if self.username and not self._log_in() or self.stop_after == "login":
            return
        message = self._message()
        if not _is_yes(self._ask("mail", f"MAIL FROM:<{self.sender}>{self._mail_parameters(message)}")):
            return
        if self.stop_after == "mail":
            return
        accepted = False
        for recipient in self.recipients:
            reply = self._ask("rcpt", f"RCPT TO:<{recipient}>")
            accepted = _is_yes(reply) or accepted
            if reply["code"] == 421:
                return
        if self.stop_after == "rcpt" or not accepted:
            return
        if self._ask("data", "DATA")["code"] // 100 != 3:
            return
        self.doing = "the message"
        stuffed = dot_stuffed(message)
        try:
            self.wire.send(stuffed + b".\r\n")
            self.record["bytes_sent"] = len(stuffed)
            self.doing = "the end of DATA"
        except ConnectionError:
            pass  # a server that hangs up in the middle may have said why
        self._note("end_of_data", ".")

    def _play(self, script: Sequence[str | Line]) -> None:
        try:
            for each in script:
                line = Line(send=each) if isinstance(each, str) else each
                data = line["send"].encode("latin-1")
                self.doing = repr(line["send"][:60])
                self.wire.send(data, line.get("chunk", 0), line.get("pause", 0))
                self.record["bytes_sent"] += len(data)
                for _reply in range(line.get("replies", 1)):
                    self._note("script", line["send"][:200])
        except ConnectionError:
            pass  # to be thrown out is a result here
        while True:
            try:
                self._note("script", "")
            except ConnectionError:
                return

    def _ask(self, step: str, command: str = "") -> Reply:
        """Send a command, note the reply and return it."""
        self.doing = command or step
        if command and self.early and step == "helo":
            self.early = False  # it was sent before
        elif command:
            self.wire.send(command.encode("ascii") + b"\r\n")
        return self._note(step, command)

    def _note(self, step: str, command: str) -> Reply:
        """Wait for the reply to what was just sent, note it and return it."""
        since = time.monotonic()
        lines = self.wire.reply()
        code = int(lines[0][:3])
        texts = [line[4:] for line in lines]
        enhanced = _ENHANCED_CODE.match(texts[0])
        enhanced_code = None
        if enhanced and enhanced.group(1)[0] == lines[0][0]:
            enhanced_code = enhanced.group(1)
            texts = [_ENHANCED_CODE.sub("", text, count=1) if text.startswith(enhanced_code) else text for text in texts]
        reply = Reply(
            step=step,
            command=command,
            code=code,
            enhanced_code=enhanced_code,
            text="\n".join(texts),
            lines=lines,
            seconds=round(time.monotonic() - since, 3),
        )
        self.record["replies"].append(reply)
        if step != "quit":
            self.record["reply"] = reply
        return reply

    def _say_hello(self) -> bool:
        self.extensions = {}  # RFC 3207 4.2: what was offered before TLS counts no more
        name = self._name()
        reply = self._ask("helo", "EHLO " + name)
        if _is_yes(reply):
            lines = reply["text"].split("\n")[1:]
            self.record["extensions"] = lines
            self.extensions = {line.split(" ")[0].upper(): line for line in lines}
            return True
        # RFC 5321 3.2: a server may be too old for EHLO.
        return reply["code"] in (500, 502) and _is_yes(self._ask("helo", "HELO " + name))

    def _name(self) -> str:
        """Return the name to greet with; by default that of this machine."""
        if not self.helo:
            self.helo = self.record["helo"] = self._own_name()
        return self.helo

    def _own_name(self) -> str:
        name = socket.getfqdn()
        if "." in name and not name.startswith("localhost"):
            return name
        return f"[IPv6:{self.wire.local}]" if ":" in self.wire.local else f"[{self.wire.local}]"

    def _start_tls(self) -> bool:
        if "STARTTLS" not in self.extensions:
            if self.tls == "require":
                raise SmtpError(f"{self._place()}: the server does not offer STARTTLS, and tls is require", self.record)
            return True
        if not _is_yes(self._ask("starttls", "STARTTLS")):
            return False
        self._shake_hands()
        return self._say_hello()

    def _shake_hands(self) -> None:
        context = ssl.create_default_context()
        if self.ca_path:
            context.load_verify_locations(self.ca_path)
        if not self.validate_certs or self.certificate_names:
            context.check_hostname = False
        if not self.validate_certs:
            context.verify_mode = ssl.CERT_NONE
        self.doing = "the TLS handshake"
        sock = self.wire.start_tls(context, self.host)
        if self.validate_certs and self.certificate_names:
            _check_names(sock, self.certificate_names)
        # It is None before the handshake only.
        cipher, _protocol, bits = sock.cipher() or ("", "", 0)
        self.record["tls"] = Tls(protocol=sock.version(), cipher=cipher, bits=bits, verified=self.validate_certs)

    def _log_in(self) -> bool:
        if "PLAIN" not in self.extensions.get("AUTH", "").upper().split():
            raise SmtpError(f"{self._place()}: the server does not offer AUTH PLAIN", self.record)
        self.doing = "AUTH PLAIN"
        secret = base64.b64encode(f"\0{self.username}\0{self.password}".encode())
        self.wire.send(b"AUTH PLAIN " + secret + b"\r\n")
        return self._note("login", "AUTH PLAIN")["code"] == 235

    def _message(self) -> bytes:
        """Return the message with CRLF line ends."""
        if self.content is None:
            domain = self.sender.rpartition("@")[2] or self._name()
            try:
                data = _samples.sample_message(self.sample or "clean", self.sender, self.recipients, domain, self.subject, self.headers, self.size)
            except (ValueError, LookupError, AttributeError, TypeError) as exc:
                raise SmtpError(f"the sample message cannot be built, check subject, headers and sender: {exc}", self.record) from exc
        else:
            data = crlf(self.content if isinstance(self.content, bytes) else self.content.encode("utf-8"))
        self.record["message_size"] = len(data)
        header = data.partition(b"\r\n\r\n")[0]
        self.record["message_id"] = email.parser.BytesHeaderParser().parsebytes(header).get("Message-ID")
        return data

    def _mail_parameters(self, message: bytes) -> str:
        parameters = ""
        if "SIZE" in self.extensions:
            parameters += f" SIZE={len(message)}"
        if "8BITMIME" in self.extensions and not message.isascii():
            parameters += " BODY=8BITMIME"
        return parameters

    def _quit(self) -> None:
        """Leave politely. Everything has been said by now: a server that does not answer this is no error."""
        self.wire.deadline = min(self.wire.deadline, time.monotonic() + _QUIT_SECONDS)
        try:
            self._ask("quit", "QUIT")
        except OSError:
            pass

    def _judge(self) -> None:
        """``accepted`` if the last step asked for was; a refusal is final (5xx) or, as Postfix says, deferred (4xx)."""
        reply = self.record["reply"]
        if not reply or reply["step"] == "script":
            return
        asked = [each for each in self.record["replies"] if each["step"] == "rcpt"]
        if reply["step"] != "rcpt":
            asked = [reply]
        classes = {each["code"] // 100 for each in asked}
        # RFC 4954 section 6: no other code is a login.
        said_yes = reply["code"] == 235 if reply["step"] == "login" else bool(classes & {2, 3})
        if said_yes:
            self.record["verdict"] = "accepted"
        else:
            self.record["verdict"] = "deferred" if 4 in classes else "refused"
            self.record["refused_at"] = reply["step"]
        queued = _QUEUE_ID.search(reply["text"])
        if queued:
            self.record["queue_id"] = queued.group(1)

    def _place(self) -> str:
        address = f"[{self.wire.peer}]" if self.wire.peer not in ("", self.host) else ""
        return f"{self.host}{address}:{self.port}"

    def _explanation(self, exc: OSError) -> str:
        """One sentence: where, at which step, what happened; and one: what to do about it."""
        if isinstance(exc, socket.gaierror):
            cause, way_out = "the name does not resolve", "Check the host name, or give its address"
        elif isinstance(exc, ConnectionRefusedError):
            cause, way_out = "connection refused", "Check that the mail server runs and listens on this port"
        elif isinstance(exc, (ConnectionError, ssl.SSLEOFError)) and self.wire.local:
            cause, way_out = "the server dropped the connection", "Its log says why"
        elif isinstance(exc, TimeoutError):
            cause = f"no answer within the timeout of {self.timeout:g} seconds"
            way_out = (
                "Check the address, and whether a firewall is in the way" if not self.record["replies"] else "Look into the server's log, or give it more time"
            )
        elif isinstance(exc, ssl.SSLCertVerificationError):
            cause = f"its certificate is not trusted: {exc.verify_message}"
            way_out = "Give the issuer's certificate as ca_path, or set validate_certs to false"
        elif isinstance(exc, _OtherName):
            cause, way_out = f"its certificate is not trusted: {exc}", "Name one of its names, or correct the certificate"
        elif isinstance(exc, ssl.SSLError):
            cause, way_out = f"TLS failed: {exc.reason or exc}", "Look into the server's log, or set tls to never"
        elif isinstance(exc, _NoSMTP):
            cause, way_out = str(exc), "Check host and port"
        elif exc.errno == errno.EADDRNOTAVAIL and self.source_address:
            cause = f"cannot connect from {self.source_address}"
            way_out = "Give an address of this machine as source_address"
        elif isinstance(exc, FileNotFoundError) and self.ca_path:
            cause, way_out = f"ca_path {self.ca_path} does not exist", "Give a file of PEM certificates"
        else:
            cause, way_out = exc.strerror or str(exc), "Check the address, and the way to it from here"
        return f"{self._place()}, at {self.doing}: {cause}. {way_out}."


def _check_names(sock: ssl.SSLSocket, wanted: Sequence[str]) -> None:
    """Raise _OtherName unless the certificate is for one of some names. Wildcards count as RFC 6125 section 6.4.3 has them."""
    # typeshed has more than pairs of kind and value there.
    alternative: Any = (sock.getpeercert() or {}).get("subjectAltName", ())
    held = [value.lower() for kind, value in alternative if kind == "DNS"]
    for pattern in map(str.lower, wanted):
        for name in held:
            if pattern.startswith("."):
                if name.endswith(pattern):
                    return
            elif name == pattern or name.startswith("*.") and name[1:] == "." + pattern.partition(".")[2]:
                return
    raise _OtherName(f"it is for {', '.join(held) or 'no name'}, not for {' or '.join(wanted)}")


def _is_yes(reply: Reply) -> bool:
    """RFC 5321 section 4.2.1: positive completion."""
    return reply["code"] // 100 == 2
