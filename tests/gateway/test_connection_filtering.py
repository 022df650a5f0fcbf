# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection filtering: who is no mail server, or stands in a list, is refused before an smtpd or a scanner is busy with it."""

import json
import time

import pytest
from _network import ALICE, OUTSIDE, STRANGER, TRUSTED, Client, gateway, journal, mailboxes, newcomer, postconf, start, wait_until

HELLO, MAIL, RCPT = "EHLO client.example.org\r\n", "MAIL FROM:<sender@example.org>\r\n", f"RCPT TO:<{ALICE}>\r\n"


def was_tested(record):
    """Whether postscreen made the client wait: it greets with a first line, to see who talks then, and a second one."""
    return len(record.replies[0]["lines"]) > 1


def smtpd_lines(began, client):
    """What an smtpd process has logged about a client."""
    return [line for line in journal(began).splitlines() if "postfix/smtpd[" in line and f"[{client.source_address}]" in line]


# --- Who talks too early ----------------------------------------------------------------------------------------------


@pytest.mark.holds("S10", "D20", "T14")
def test_an_early_talker_is_refused_by_postscreen_and_no_smtpd_is_started_for_it(began):
    client = newcomer()
    record = client.converse(early=True, tls="never")
    assert (record.reply["step"], record.answer) == ("rcpt", "550 5.5.1")
    assert f"PREGREET {len('EHLO client.example.org') + 2} " in journal(began)
    assert smtpd_lines(began, client) == []


@pytest.mark.holds("S10", "D20", "T14")
def test_a_new_client_is_tested_once_and_then_known(began):
    client = newcomer()
    first = client.converse()
    assert (was_tested(first), first.answer, mailboxes(first.message_id)) == (True, "250 2.0.0", [ALICE])
    second = client.converse()
    assert (was_tested(second), second.answer) == (False, "250 2.0.0")
    assert smtpd_lines(began, client)


@pytest.mark.holds("S10", "T14")
def test_a_trusted_host_sees_no_delay(began):
    record = TRUSTED.converse()
    assert (was_tested(record), record.answer) == (False, "250 2.0.0")
    assert f"PASS NEW [{TRUSTED.source_address}]" not in journal(began)


# --- Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S10", "D20", "T14")
def test_a_listed_client_is_refused_with_the_name_of_the_list(began):
    client = newcomer(1)
    record = client.converse()
    assert (record.reply["step"], record.answer) == ("rcpt", "550 5.7.1")
    assert "bl.example.org" in record.text
    assert smtpd_lines(began, client) == []


@pytest.mark.holds("T33")
def test_the_key_of_a_list_stays_secret():
    record = newcomer(5).converse()
    assert record.answer == "550 5.7.1"
    assert "dq.example.org" in record.text
    assert "test-key-of-a-customer" not in repr(record)


@pytest.mark.holds("S10", "D20")
def test_a_client_in_a_list_of_friends_is_not_refused_and_does_not_wait():
    record = newcomer(2).converse()
    assert record.answer == "250 2.0.0"
    assert record.replies[0]["seconds"] < int(postconf("postscreen_greet_wait").removesuffix("s"))


@pytest.mark.holds("T15")
def test_the_answer_of_a_list_to_a_resolver_that_it_does_not_serve_refuses_nobody():
    assert newcomer(3).converse(stop_after="rcpt").answer == "250 2.1.5"


@pytest.mark.holds("S10")
def test_a_list_of_little_weight_refuses_nobody_alone():
    assert newcomer(4).converse(stop_after="rcpt").answer == "250 2.1.5"


# --- The site's own lists ---------------------------------------------------------------------------------------------


@pytest.mark.holds("S10")
def test_a_client_in_the_denylist_is_refused(began):
    client = newcomer(6)
    record = client.converse()
    assert (record.reply["step"], record.answer) == ("rcpt", "550 5.3.2")
    assert smtpd_lines(began, client) == []


@pytest.mark.holds("S10")
@pytest.mark.parametrize("address", ["198.18.7.1", "198.18.1.200", "198.18.6.200"], ids=["unlisted", "in a list", "in a denied network"])
def test_a_client_in_the_allowlist_passes_at_once(address):
    record = newcomer(source_address=address).converse()
    assert (was_tested(record), record.answer) == (False, "250 2.0.0")


# --- With the DNS down ------------------------------------------------------------------------------------------------


@pytest.fixture(name="dns_down")
def _dns_down(outside):
    outside.check_output("systemctl stop named")
    yield
    outside.check_output("systemctl start named")
    wait_until(lambda: outside.run("dig +short +time=1 +tries=1 @203.0.113.53 mail.example.org").stdout, "the name server")
    # What it could not find out is forgotten.
    gateway().check_output("unbound-control reload")
    wait_until(lambda: gateway().run("getent ahosts mail.example.org").rc == 0, "the gateway's resolver")


@pytest.mark.holds("S10", "T15")
def test_while_the_dns_is_down_a_known_good_sender_is_served_and_nobody_is_refused_for_good(outside, request):
    arguments = {"sender": "sender@brief.example.org"}
    assert STRANGER.converse(**arguments).answer == "250 2.0.0"
    request.getfixturevalue("dns_down")
    # The answers about the sender's domain are good for one second; nothing shows when it is over.
    time.sleep(1.1)
    known = STRANGER.converse(**arguments)
    assert known.answer == "250 2.0.0"
    # SpamAssassin waits for its own lists, 15 s at most.
    assert known.seconds < 30
    new = newcomer().converse(stop_after="rcpt")
    assert new.answer[0] in "24"


# --- Abuse ------------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S10", "S7")
def test_a_harvester_waits_longer_and_longer_and_is_thrown_out():
    client = newcomer(7)
    guesses = [f"RCPT TO:<guess{number}@example.com>\r\n" for number in range(12)]
    record = client.converse(script=["", HELLO, MAIL, *guesses, "QUIT\r\n"])
    answered = record.replies[3:]
    assert record.answers()[3:] == ["550 5.1.1"] * 10 + ["421 4.7.0"]
    assert all(reply["seconds"] < 1 for reply in answered[:3])
    assert all(reply["seconds"] > 1.5 for reply in answered[4:10])


CONNECT = """
import json, socket, sys
address, times = json.load(sys.stdin)
first_words = []
for _time in range(times):
    with socket.create_connection(("203.0.113.10", 25), 20, (address, 0)) as connection:
        first_words.append(connection.recv(100).decode()[:9])
        if first_words[-1].startswith("220"):
            connection.sendall(b"QUIT\\r\\n")
            connection.recv(100)
json.dump(first_words, sys.stdout)
"""


@pytest.mark.holds("S10")
def test_a_client_that_connects_too_often_is_put_off_and_others_are_not():
    limit = int(postconf_front("smtpd_client_connection_rate_limit"))
    out, err = start(OUTSIDE, ["python3", "-c", CONNECT], json.dumps([newcomer(7).source_address, limit + 5])).communicate()
    assert out, err
    assert [words[:3] for words in json.loads(out)[:limit]] == ["220"] * limit
    assert json.loads(out)[limit:] == ["421 4.7.0"] * 5
    assert STRANGER.converse(stop_after="rcpt").answer == "250 2.1.5"


@pytest.mark.holds("S10")
def test_a_client_that_begins_too_many_messages_is_put_off():
    limit = int(postconf_front("smtpd_client_message_rate_limit"))
    client = newcomer(7)
    each = 90
    answers = []
    for first in range(0, limit + 1, each):
        count = min(each, limit + 1 - first)
        answers += client.converse(script=["", HELLO, *[MAIL, "RSET\r\n"] * count, "QUIT\r\n"]).answers()[2 : 2 + 2 * count : 2]
    assert set(answers[:limit]) == {"250 2.1.0"}
    assert answers[limit] == "450 4.7.1"


@pytest.mark.holds("S10")
def test_a_client_that_names_too_many_recipients_is_put_off():
    limit = int(postconf_front("smtpd_client_recipient_rate_limit"))
    client = newcomer(7)
    each = 900
    answers = []
    for first in range(0, limit + 1, each):
        count = min(each, limit + 1 - first)
        answers += client.converse(script=["", HELLO, MAIL, *[RCPT] * count, "QUIT\r\n"]).answers()[3 : 3 + count]
    assert set(answers[:limit]) == {"250 2.1.5"}
    assert answers[limit] == "450 4.7.1"


def postconf_front(name):
    return gateway().check_output("postconf -hP smtpd/pass/%s", name)


# --- The greeting -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("S10", "S3")
@pytest.mark.parametrize(
    ("helo", "answer"),
    [
        ("mx1.example.com", "550 5.7.1"),
        ("client", "504 5.5.2"),
        ("client..example.org", "501 5.5.2"),
        ("[203.0.113.20]", "250 2.1.5"),
        ("client.example.org", "250 2.1.5"),
    ],
)
def test_a_greeting_with_no_host_name_or_with_ours_is_refused(helo, answer):
    assert STRANGER.converse(helo=helo, stop_after="rcpt").answer == answer


@pytest.mark.holds("S10", "S9")
def test_a_trusted_host_may_greet_as_it_likes():
    assert Client(TRUSTED.on, TRUSTED.source_address, "printer", host=TRUSTED.host).converse(stop_after="rcpt").answer == "250 2.1.5"


# --- The resolver -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("T15")
def test_the_gateway_asks_its_own_resolver(gateway):
    assert gateway.check_output("grep ^nameserver /etc/resolv.conf") == "nameserver 127.0.0.1"
    assert "client.example.org" in gateway.check_output("getent hosts 198.18.64.1")


@pytest.mark.holds("T15")
def test_nobody_else_can_ask_it(outside, inside):
    assert outside.run("dig +short +time=1 +tries=1 @203.0.113.10 mail.example.org").rc == 9
    assert outside.run("dig +short +time=1 +tries=1 @198.51.100.10 mail.example.org").rc == 9


@pytest.mark.holds("T15")
def test_an_answer_with_wrong_signatures_is_no_answer(outside):
    assert outside.check_output("dig +short @203.0.113.53 bogus.example.org") == "203.0.113.20"
    assert gateway().run("getent ahosts bogus.example.org").rc != 0
    assert STRANGER.converse(sender="sender@bogus.example.org", stop_after="rcpt").answer == "450 4.1.8"


@pytest.mark.holds("T15")
def test_the_dns_lists_are_those_that_answered():
    assert [site.split("=")[0] for site in postconf("postscreen_dnsbl_sites").replace(",", " ").split()] == [
        "bl.example.org",
        "test-key-of-a-customer.dq.example.org",
        "low.example.org",
        "wl.example.org",
    ]
