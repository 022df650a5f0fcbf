# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, connections and workers: large mail is scanned, too large mail refused, and no client holds the gateway."""

import base64
import json

import pytest
from _network import ALICE, BOB, OUTSIDE, STRANGER, TRUSTED, gateway, mailboxes, message, start, wait_for_journal

LIMIT = 52428800
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-" + "TEST-FILE!$H+H*"
LINE = base64.b64encode(bytes(range(57))).decode() + "\r\n"


def large(size):
    """A message of ``size`` bytes, most of them a picture, as [text, times] pairs."""
    built = message(attachments=[("picture.jpg", b"@@")])
    head, tail = built.as_string().replace("application/octet-stream", "image/jpeg").split(base64.b64encode(b"@@").decode())
    room = size - len(head) - len(tail)
    rest = room % len(LINE) or len(LINE)
    return [[head, 1], [LINE, (room - rest) // len(LINE)], ["A" * max(rest - 2, 0) + "\r\n", 1], [tail, 1]], built["Message-ID"]


# --- Sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S3")
def test_a_message_that_announces_too_large_a_size_is_refused_at_mail():
    record = STRANGER.converse(script=["", "EHLO mail.example.org\r\n", f"MAIL FROM:<sender@example.org> SIZE={LIMIT + 1}\r\n", "QUIT\r\n"])
    assert record.answers()[2] == "552 5.3.4"


@pytest.mark.holds("S3", "S8")
def test_a_message_that_turns_out_too_large_is_refused_at_the_end_of_data():
    content, message_id = large(LIMIT + 100_000)
    record = STRANGER.converse(
        script=["", "EHLO mail.example.org\r\n", "MAIL FROM:<sender@example.org>\r\n", f"RCPT TO:<{ALICE}>\r\n", "DATA\r\n"]
        + [{"send": content + [[".\r\n", 1]]}, "QUIT\r\n"]
    )
    assert record.answers()[4:6] == ["354", "552 5.3.4"]
    assert mailboxes(message_id) == []


@pytest.mark.holds("S3", "T10", "T2")
def test_a_message_just_as_large_as_allowed_arrives_though_its_headers_grow():
    content, message_id = large(LIMIT)
    record = STRANGER.converse(content=content)
    assert record.message_size == LIMIT
    assert record.answer == "250 2.0.0"
    assert mailboxes(message_id) == [ALICE]


@pytest.mark.holds("T10")
def test_a_virus_at_the_end_of_a_large_message_is_found():
    built = message(attachments=[("large.dat", b"@@"), ("eicar.txt", EICAR.encode())])
    head, tail = built.as_string().split(base64.b64encode(b"@@").decode())
    record = STRANGER.converse(content=[[head, 1], [LINE, 600_000], [tail, 1]])
    assert record.message_size > 0.85 * LIMIT
    assert record.answer == "554 5.7.0"
    assert "contains a virus: " in record.text


# --- Connections and workers ------------------------------------------------------------------------------------------

CONNECT = """
import json, socket, sys
connections, first_words = [], []
for address, times in json.load(sys.stdin):
    for _time in range(times):
        connections.append(socket.create_connection(("203.0.113.10", 25), 20, (address, 0)))
        first_words.append(connections[-1].recv(100).decode()[:3])
json.dump(first_words, sys.stdout)
"""


def greetings(*addresses_and_times):
    """First words to connections that are all held open at the same time."""
    out, err = start(OUTSIDE, ["python3", "-c", CONNECT], json.dumps(addresses_and_times)).communicate()
    assert out, err
    return json.loads(out)


@pytest.fixture(name="workers", scope="module")
def _workers():
    """How many worker processes amavis has."""
    host = gateway()
    master = host.check_output("systemctl show --property=MainPID --value amavis.service")
    return len(host.check_output(f"pgrep --parent {master}").split())


@pytest.mark.holds("S1", "D9")
def test_one_client_holds_at_most_half_of_the_workers(workers):
    assert workers >= 2
    half = workers // 2
    assert greetings(["203.0.113.20", half + 1], ["203.0.113.21", 1]) == ["220"] * half + ["421", "220"]


@pytest.mark.holds("S1", "T1", "D9")
def test_more_mail_at_once_than_there_are_workers_only_waits(workers):
    records = TRUSTED.converse_at_once([{"recipients": [BOB]}] * 3 * workers)
    assert [record.answer for record in records] == ["250 2.0.0"] * 3 * workers
    assert [mailboxes(record.message_id) for record in records] == [[BOB]] * 3 * workers


@pytest.mark.holds("S1", "T2")
def test_a_slow_client_takes_no_worker_while_it_sends(began, gateway):
    content = message()
    slow = {"send": content.as_string() + ".\r\n", "chunk": 64, "pause": 0.25}
    client = STRANGER.begin(
        script=["", "EHLO mail.example.org\r\n", "MAIL FROM:<sender@example.org>\r\n", f"RCPT TO:<{ALICE}>\r\n", "DATA\r\n", slow, "QUIT\r\n"]
    )
    wait_for_journal(began, "NOQUEUE: client=")
    to_amavis = gateway.check_output("ss --no-header --numeric --tcp state established dport = :10024")
    assert not client.done(), "the client was to be still sending"
    assert to_amavis == ""
    assert STRANGER.finish(client).answers()[5] == "250 2.0.0"


@pytest.mark.holds("D5", "T1", "T2", "D19")
def test_the_limits_fit_each_other(gateway, workers):
    def amavis(name):
        return gateway.check_output(rf"sed -nE 's/^\${name} = ([0-9]+);$/\1/p' /etc/amavis/conf.d/50-user")

    def front(name):
        return gateway.check_output(f"postconf -hP smtpd/pass/{name}").rstrip("s")

    scan = int(gateway.check_output("awk '$1 == \"time_limit\" { print $2 }' /etc/spamassassin/local.cf"))
    child, proxy = int(amavis("child_timeout")), int(front("smtpd_proxy_timeout"))
    assert scan < child < proxy < 600
    processes = int(gateway.check_output("postconf -hF smtpd/pass/process_limit"))
    # With what a scan takes when nothing is wrong, the last in line gets its turn in time.
    assert -(-processes // workers) * 5 < proxy
    assert processes > 100
    assert int(gateway.check_output("postconf -hx postscreen_pre_queue_limit")) >= processes
    inner = int(gateway.check_output("postconf -h message_size_limit"))
    assert LIMIT == int(front("message_size_limit")) < inner
    assert int(gateway.check_output("postconf -h queue_minfree")) >= 1.5 * inner
