# SPDX-License-Identifier: GPL-3.0-or-later
"""Against a name server of one thread, which answers as a test says."""

from __future__ import annotations

import errno
import random
import socket
import socketserver
import struct
import threading
import time

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _dns

CNAME = 5
# The name of the question, as RFC 1035 section 4.1.4 points to it.
ASKED = b"\xc0\x0c"
QUESTION = b"\x03mx1\x07example\x03com\x00\x00\x01\x00\x01"


class NameServer(socketserver.UDPServer):
    """`answer` returns the datagrams that follow a question; by default none do."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Datagram)
        self.port = self.server_address[1]
        self.questions = []
        self.stopped = threading.Event()
        self.answer = lambda question: []

    def ask(self, name="mx1.example.com", kind=_dns.A, timeout=10, tries=1):
        """A good answer ends the test before the time is up."""
        return _dns.ask("127.0.0.1", name, kind, timeout=timeout, tries=tries, port=self.port)

    def asked(self, times):
        """Return the questions once so many have come."""
        deadline = time.monotonic() + 10
        while len(self.questions) < times and time.monotonic() < deadline:
            self.stopped.wait(0.005)
        return self.questions


class _Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        question, connection = self.request
        self.server.questions.append(question)
        for datagram in self.server.answer(question):
            connection.sendto(datagram, self.client_address)


@pytest.fixture
def server(serve):
    nameserver = serve(NameServer())
    yield nameserver
    nameserver.stopped.set()


def message(question, *records, rcode=0, number=None, flags=0x8180):
    """An answer to a question that the server received."""
    if number is None:
        (number,) = struct.unpack("!H", question[:2])
    return struct.pack("!6H", number, flags | rcode, 1, len(records), 0, 0) + question[12:] + b"".join(records)


def record(kind, data, name=ASKED):
    return name + struct.pack("!2HIH", kind, 1, 60, len(data)) + data


def a(address, name=ASKED):
    return record(_dns.A, socket.inet_aton(address), name)


def other(question):
    """Another number than that of the question."""
    return struct.unpack("!H", question[:2])[0] ^ 1


# ---- the question ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "asked"),
    [
        ("mx1.example.com", _dns.A, QUESTION),
        ("mx1.example.com.", _dns.A, QUESTION),
        ("MX1.example.com", _dns.A, b"\x03MX1\x07example\x03com\x00\x00\x01\x00\x01"),
        ("example.com", _dns.MX, b"\x07example\x03com\x00\x00\x0f\x00\x01"),
        ("example.com", _dns.AAAA, b"\x07example\x03com\x00\x00\x1c\x00\x01"),
        (".", _dns.SOA, b"\x00\x00\x06\x00\x01"),
        ("a" * 63 + ".example", _dns.A, b"\x3f" + b"a" * 63 + b"\x07example\x00\x00\x01\x00\x01"),
    ],
)
def test_the_question_is_one_of_rfc_1035_that_desires_recursion(server, name, kind, asked):
    server.answer = lambda question: [message(question)]
    server.ask(name, kind)
    assert [question[2:] for question in server.questions] == [bytes.fromhex("01000001000000000000") + asked]


def test_every_try_has_a_number_that_nobody_knows(server, monkeypatch):
    numbers = iter([0, 65535])

    def randbelow(limit):
        assert limit == 65536
        return next(numbers)

    monkeypatch.setattr(_dns.secrets, "randbelow", randbelow)
    with pytest.raises(_dns.Unanswered):
        server.ask(timeout=0.05, tries=2)
    assert [question[:2] for question in server.asked(2)] == [b"\x00\x00", b"\xff\xff"]


@pytest.mark.parametrize(("address", "family"), [("192.0.2.53", socket.AF_INET), ("2001:db8::53", socket.AF_INET6), ("::1", socket.AF_INET6)])
def test_a_server_is_asked_at_port_53_in_its_own_family(monkeypatch, address, family):
    asked = []

    class Socket:
        def __init__(self, *arguments):
            asked.append(arguments)

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            pass

        def connect(self, target):
            asked.append(target)
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Socket)
    with pytest.raises(_dns.Unanswered, match=r"^Network is unreachable$"):
        _dns.ask(address, "example.com", _dns.A, tries=1)
    assert asked == [(family, socket.SOCK_DGRAM), (address, 53)]


# ---- the answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [ASKED, b"\x03mx1\x07example\x03com\x00", b"\x03mx1\xc0\x10", b"\x00", b"\xff\xff"],
    ids=["a pointer", "written out", "a label and a pointer", "the root", "a pointer out of the message"],
)
def test_an_address_is_found_however_its_name_is_written(server, name):
    server.answer = lambda question: [message(question, a("192.0.2.25", name), a("192.0.2.26", name))]
    assert server.ask() == ("NOERROR", ["192.0.2.25", "192.0.2.26"], 2)


def test_an_alias_stands_before_the_address(server):
    server.answer = lambda question: [message(question, record(CNAME, b"\x04mail\xc0\x10"), a("192.0.2.25", b"\xc0\x2d"))]
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def test_an_alias_of_nothing_is_no_record_of_the_kind(server):
    server.answer = lambda question: [message(question, record(CNAME, b"\x04mail\xc0\x10"), rcode=3)]
    assert server.ask() == ("NXDOMAIN", [], 0)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(_dns.AAAA, socket.inet_pton(socket.AF_INET6, "2001:db8::25")), (_dns.MX, b"\x00\x0a\xc0\x0c"), (_dns.SOA, b"\x00\x00" + bytes(20))],
    ids=["AAAA", "MX", "SOA"],
)
def test_records_of_the_asked_kind_are_counted(server, kind, data):
    server.answer = lambda question: [message(question, record(kind, data), record(CNAME, ASKED), record(kind, data), a("192.0.2.25"))]
    assert server.ask(kind=kind) == ("NOERROR", ["192.0.2.25"], 2)


def test_an_address_of_another_length_is_none(server):
    server.answer = lambda question: [message(question, record(_dns.A, b"\xc0\x00\x02"), record(_dns.A, bytes(16)), a("192.0.2.25"))]
    assert server.ask()[1] == ["192.0.2.25"]


def test_a_server_need_not_repeat_the_question(server):
    server.answer = lambda question: [question[:2] + struct.pack("!5H", 0x8180, 0, 1, 0, 0) + a("192.0.2.25", b"\x00")]
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def test_what_is_said_besides_is_not_the_answer(server):
    """Authority and additional records, as of a referral, are addresses of others."""

    def answer(question):
        whole = message(question, a("192.0.2.25"), a("198.51.100.7"))
        return [whole[:6] + struct.pack("!3H", 1, 0, 1) + whole[12:]]

    server.answer = answer
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


@pytest.mark.parametrize(
    ("rcode", "name"),
    [(0, "NOERROR"), (1, "FORMERR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED"), (9, "RCODE 9"), (15, "RCODE 15")],
)
def test_an_answer_without_records_has_its_code(server, rcode, name):
    server.answer = lambda question: [message(question, rcode=rcode)]
    assert server.ask(tries=2) == (name, [], 0)
    assert len(server.questions) == 1


# ---- what is no answer -------------------------------------------------------------------------------------------


def test_an_answer_to_another_question_is_passed_over(server):
    server.answer = lambda question: [message(question, a("198.51.100.7"), number=other(question)), message(question, a("192.0.2.25"))]
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def test_a_question_that_comes_back_is_no_answer(server):
    server.answer = lambda question: [question, message(question, a("198.51.100.7"), flags=0x0100), message(question, a("192.0.2.25"))]
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def test_garbage_is_passed_over(server):
    chance = random.Random(53)

    def answer(question):
        number = question[:2]
        return [
            b"",
            b"\x00",
            number,
            number + b"\x81\x80",
            # Many records are promised, and none are there.
            number + struct.pack("!5H", 0x8180, 1, 65535, 0, 0) + question[12:],
            number + struct.pack("!5H", 0x8180, 65535, 1, 0, 0) + question[12:],
            # A name that has no end.
            number + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + b"\x3f" * 200,
            *(struct.pack("!H", other(question)) + chance.randbytes(length) for length in range(1, 400, 9)),
            message(question, a("192.0.2.25")),
        ]

    server.answer = answer
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def truncated(lost):
    """Answers that end too early, and a whole one."""

    def answer(question):
        whole = message(question, a("198.51.100.7"), a("198.51.100.8"))
        return [whole[: len(whole) - length] for length in lost] + [message(question, a("192.0.2.25"))]

    return answer


def test_a_truncated_datagram_is_passed_over_wherever_it_ends(server):
    whole = 12 + len(QUESTION) + 2 * 16
    # Behind the last header of a record.
    server.answer = truncated(range(5, whole + 1))
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


@pytest.mark.parametrize("lost", [1, 4])
def test_a_truncated_datagram_is_passed_over_if_only_the_address_is_cut(server, lost):
    server.answer = lambda question: [message(question, a("198.51.100.7"))[:-lost], message(question, a("192.0.2.25"))]
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


def test_only_the_server_that_was_asked_answers(server):
    def answer(question):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
            somebody.bind(("127.0.0.1", 0))
            somebody.sendto(message(question, a("198.51.100.7")), server.client)
        return [message(question, a("192.0.2.25"))]

    def verify_request(request, client_address):
        server.client = client_address
        return True

    server.verify_request = verify_request
    server.answer = answer
    assert server.ask() == ("NOERROR", ["192.0.2.25"], 1)


# ---- no answer ---------------------------------------------------------------------------------------------------


def unanswered(server, **arguments):
    """Return the reason and the seconds that it took."""
    started = time.monotonic()
    with pytest.raises(_dns.Unanswered) as raised:
        server.ask(**arguments)
    return str(raised.value), time.monotonic() - started


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_server_that_is_silent_is_asked_again_and_given_up_in_time(server, tries):
    reason, seconds = unanswered(server, timeout=0.1, tries=tries)
    assert reason == "no answer within 0.1 s"
    assert tries * 0.1 <= seconds < tries * 0.1 + 2
    assert len(server.asked(tries)) == tries


def test_a_question_that_was_lost_is_asked_again(server):
    server.answer = lambda question: [message(question, a("192.0.2.25"))] if len(server.questions) == 2 else []
    assert server.ask(timeout=0.5, tries=2) == ("NOERROR", ["192.0.2.25"], 1)


def test_an_answer_to_the_try_before_does_not_count(server, monkeypatch):
    numbers = iter([1, 2])
    monkeypatch.setattr(_dns.secrets, "randbelow", lambda limit: next(numbers))
    server.answer = lambda question: [message(server.questions[-2], a("198.51.100.7"))] if len(server.questions) == 2 else []
    assert unanswered(server, timeout=0.1, tries=2)[0] == "no answer within 0.1 s"
    assert len(server.asked(2)) == 2


def test_wrong_answers_do_not_prolong_the_time(server):
    def answer(question):
        while not server.stopped.wait(0.02):
            yield message(question, a("198.51.100.7"), number=other(question))

    server.answer = answer
    reason, seconds = unanswered(server, timeout=0.2)
    assert reason == "no answer within 0.2 s"
    assert seconds < 2


def test_a_flood_of_wrong_answers_does_not_prolong_the_time(monkeypatch):
    started = time.monotonic()

    class Socket:
        """Whoever looks finds something to receive."""

        def __init__(self, *arguments):
            pass

        def __enter__(self):
            return self

        def ignored(self, *arguments):
            pass

        __exit__ = connect = send = settimeout = ignored

        def recv(self, size):
            if time.monotonic() - started > 1:
                pytest.fail("it goes on after the time")
            return b"garbage"

    monkeypatch.setattr(socket, "socket", Socket)
    with pytest.raises(_dns.Unanswered):
        _dns.ask("192.0.2.53", "example.com", _dns.A, timeout=0.1, tries=1)


def test_a_closed_port_is_said_at_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(_dns.Unanswered, match=r"^Connection refused$"):
        _dns.ask("127.0.0.1", "example.com", _dns.A, timeout=30, port=port)
    assert time.monotonic() - started < 10
