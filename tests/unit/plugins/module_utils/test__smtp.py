# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import hashlib
import io
import json
import re
import socket
import sys
import threading
import time
import types
import zipfile

import _speakers
import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _samples, _smtp

ALICE = "alice@example.com"
BOB = "bob@example.com"
EICAR_SHA256 = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
GTUBE_SHA256 = "4418994365912e23b756ec7f14960f1a89230e44e6acb74de055db7c092f8b9c"


def talk(server, **arguments):
    arguments = {"recipients": [ALICE], "helo": "client.example.org", "timeout": 10, **arguments}
    return _smtp.converse(host="127.0.0.1", port=server.port, **arguments)


def steps(result):
    return [reply["step"] for reply in result["replies"]]


# ---- what is said and what is returned ---------------------------------------------------------------------------


def test_a_whole_conversation_returns_every_reply(smtp_server):
    result = talk(smtp_server, sender="sender@example.org")
    assert steps(result) == ["connect", "helo", "mail", "rcpt", "data", "end_of_data", "quit"]
    assert [reply["code"] for reply in result["replies"]] == [220, 250, 250, 250, 354, 250, 221]
    assert [reply["command"] for reply in result["replies"]] == [
        "",
        "EHLO client.example.org",
        f"MAIL FROM:<sender@example.org> SIZE={result['message_size']}",
        "RCPT TO:<alice@example.com>",
        "DATA",
        ".",
        "QUIT",
    ]
    assert result["verdict"] == "accepted"
    assert result["refused_at"] is None
    assert result["queue_id"] == "4dVbQ60Jm2z1J"
    assert result["reply"] == result["replies"][5]
    assert result["local_address"] == result["peer_address"] == "127.0.0.1"
    assert result["message_id"].encode() in smtp_server.data
    assert result["bytes_sent"] == result["message_size"] == len(smtp_server.data) - len(b".\r\n")


def test_a_reply_of_several_lines_is_kept_whole(smtp_server):
    smtp_server.answers["RCPT"] = "550-5.1.1 The address does not exist.\r\n550 5.1.1 Ask postmaster@example.com"
    reply = talk(smtp_server)["reply"]
    assert reply["text"] == "The address does not exist.\nAsk postmaster@example.com"
    assert reply["lines"] == ["550-5.1.1 The address does not exist.", "550 5.1.1 Ask postmaster@example.com"]
    assert (reply["code"], reply["enhanced_code"]) == (550, "5.1.1")


def test_the_extensions_are_returned(smtp_server):
    assert talk(smtp_server, stop_after="helo")["extensions"] == ["PIPELINING", "SIZE 52428800", "ENHANCEDSTATUSCODES"]


@pytest.mark.parametrize(
    ("answer", "enhanced_code", "text"),
    [
        ("250 2.1.5 Ok", "2.1.5", "Ok"),
        ("550 5.7.1", "5.7.1", ""),
        ("550 5.123.456 Far out", "5.123.456", "Far out"),
        ("550 No such user", None, "No such user"),
        ("550 5.1.1.1 is not a status code", None, "5.1.1.1 is not a status code"),
        ("550 2.0.0 of another class", None, "2.0.0 of another class"),
        ("250", None, ""),
    ],
)
def test_enhanced_codes(smtp_server, answer, enhanced_code, text):
    smtp_server.answers["RCPT"] = answer
    reply = talk(smtp_server, stop_after="rcpt")["reply"]
    assert (reply["enhanced_code"], reply["text"]) == (enhanced_code, text)


def test_the_null_sender(smtp_server):
    talk(smtp_server, sender="")
    assert smtp_server.commands[1].startswith("MAIL FROM:<> SIZE=")


def test_size_is_announced_only_if_the_server_offers_it(smtp_server):
    smtp_server.answers["EHLO"] = "250 fake.example.net"
    talk(smtp_server, sender="sender@example.org")
    assert smtp_server.commands[1] == "MAIL FROM:<sender@example.org>"


def test_eight_bit_text_is_announced(smtp_server):
    smtp_server.answers["EHLO"] = "250-fake.example.net\r\n250 8BITMIME"
    talk(smtp_server, content="Subject: x\n\nÄpfel\n")
    assert smtp_server.commands[1] == "MAIL FROM:<> BODY=8BITMIME"


def test_a_server_without_ehlo_is_greeted_with_helo(smtp_server):
    smtp_server.answers["EHLO"] = "502 5.5.1 Not implemented"
    result = talk(smtp_server)
    assert result["verdict"] == "accepted"
    assert smtp_server.verbs[:2] == ["EHLO", "HELO"]


def test_without_a_name_the_address_greets(smtp_server, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "laptop")
    assert talk(smtp_server, helo=None, stop_after="helo")["helo"] == "[127.0.0.1]"
    assert smtp_server.commands[0] == "EHLO [127.0.0.1]"


def test_the_source_address_is_used(smtp_server):
    assert talk(smtp_server, source_address="127.0.0.9", stop_after="connect")["local_address"] == "127.0.0.9"


# ---- refusals: where the conversation ends -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "answers", "said"),
    [
        ("connect", {"connect": "554 5.7.1 Go away"}, ["QUIT"]),
        ("helo", {"EHLO": "550 5.7.1 Not you"}, ["EHLO", "QUIT"]),
        ("mail", {"MAIL": "552 5.3.4 Too large"}, ["EHLO", "MAIL", "QUIT"]),
        ("rcpt", {"RCPT": "550 5.1.1 Unknown"}, ["EHLO", "MAIL", "RCPT", "QUIT"]),
        ("data", {"DATA": "554 5.5.1 No"}, ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]),
        ("end_of_data", {"end_of_data": "554 5.7.0 Reject, id=1-01 - spam"}, ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]),
    ],
)
def test_a_refusal_ends_the_conversation_with_quit(smtp_server, step, answers, said):
    smtp_server.answers.update(answers)
    result = talk(smtp_server)
    assert (result["verdict"], result["refused_at"]) == ("refused", step)
    assert result["reply"]["step"] == step
    assert smtp_server.verbs == said
    assert result["queue_id"] is None


def test_4xx_is_deferred(smtp_server):
    smtp_server.answers["end_of_data"] = "451 4.3.0 Try again later"
    result = talk(smtp_server)
    assert (result["verdict"], result["refused_at"]) == ("deferred", "end_of_data")


def test_one_accepted_recipient_is_enough(smtp_server):
    smtp_server.answers["RCPT"] = ["550 5.1.1 Unknown", "250 2.1.5 Ok"]
    result = talk(smtp_server, recipients=[ALICE, BOB])
    assert result["verdict"] == "accepted"
    assert smtp_server.verbs.count("RCPT") == 2


def test_one_deferred_recipient_defers_the_message(smtp_server):
    smtp_server.answers["RCPT"] = ["450 4.1.1 Later", "550 5.1.1 Unknown"]
    result = talk(smtp_server, recipients=[ALICE, BOB])
    assert (result["verdict"], result["refused_at"]) == ("deferred", "rcpt")
    assert "DATA" not in smtp_server.verbs


@pytest.mark.parametrize(
    ("stop_after", "said"),
    [
        ("connect", ["QUIT"]),
        ("helo", ["EHLO", "QUIT"]),
        ("mail", ["EHLO", "MAIL", "QUIT"]),
        ("rcpt", ["EHLO", "MAIL", "RCPT", "QUIT"]),
    ],
)
def test_stop_after_never_reaches_data(smtp_server, stop_after, said):
    result = talk(smtp_server, stop_after=stop_after)
    assert result["verdict"] == "accepted"
    assert smtp_server.verbs == said
    assert result["bytes_sent"] == 0


def test_421_ends_the_list_of_recipients(smtp_server):
    smtp_server.answers["RCPT"] = ["421 4.3.2 Shutting down"]
    result = talk(smtp_server, recipients=[ALICE, BOB])
    assert (result["verdict"], result["refused_at"]) == ("deferred", "rcpt")


# ---- failures ----------------------------------------------------------------------------------------------------


def test_no_server(smtp_server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(_smtp.SmtpError, match=rf"^127\.0\.0\.1:{port}, at connect: connection refused\. Check"):
            _smtp.converse(host="127.0.0.1", port=port, recipients=[ALICE])


def test_a_failure_names_the_address_that_was_tried(smtp_server):
    smtp_server.answers["EHLO"] = smtp_server.DROP
    with pytest.raises(_smtp.SmtpError, match=rf"^localhost\[127\.0\.0\.1\]:{smtp_server.port}, at EHLO "):
        _smtp.converse(host="localhost", port=smtp_server.port, recipients=[ALICE], timeout=10)


def test_an_address_that_hangs_leaves_time_for_the_next(smtp_server, monkeypatch):
    entry = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hanging:
        # The queue of this listener is full: the kernel leaves any further connection without an answer.
        waiting = [socket.socket() for _each in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(hanging.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [(*entry, hanging.getsockname()), (*entry, smtp_server.server_address)])
        result = talk(smtp_server, timeout=2)
        for client in waiting:
            client.close()
    assert result["verdict"] == "accepted"
    assert result["seconds"] >= 1


def test_an_unknown_name():
    with pytest.raises(_smtp.SmtpError, match=r"^gateway\.invalid:25, at connect: the name does not resolve\. Check"):
        _smtp.converse(host="gateway.invalid", recipients=[ALICE])


def test_a_name_that_is_none():
    with pytest.raises(_smtp.SmtpError, match="the name does not resolve"):
        _smtp.converse(host="mx1..example.com", recipients=[ALICE])


def test_a_source_address_of_another_machine(smtp_server):
    with pytest.raises(_smtp.SmtpError, match=r"cannot connect from 192\.0\.2\.77\. Give an address of this machine"):
        talk(smtp_server, source_address="192.0.2.77")


@pytest.mark.parametrize(
    ("step", "at"),
    [("connect", "connect"), ("MAIL", "MAIL FROM:<>"), ("RCPT", "RCPT TO:<alice@example.com>"), ("end_of_data", "the end of DATA")],
)
def test_a_dropped_connection(smtp_server, step, at):
    smtp_server.answers[step] = smtp_server.DROP
    with pytest.raises(_smtp.SmtpError) as caught:
        talk(smtp_server)
    assert f":{smtp_server.port}, at {at}" in str(caught.value)
    assert "the server dropped the connection. Its log says why." in str(caught.value)
    assert caught.value.result["verdict"] is None


def test_the_replies_before_a_failure_are_kept(smtp_server):
    smtp_server.answers["DATA"] = smtp_server.DROP
    with pytest.raises(_smtp.SmtpError) as caught:
        talk(smtp_server)
    assert steps(caught.value.result) == ["connect", "helo", "mail", "rcpt"]


def test_what_a_server_says_in_the_middle_of_a_message_is_kept(smtp_server):
    smtp_server.answers["in_data"] = "421 4.3.0 Shutting down"
    result = talk(smtp_server, sample="oversize", size=20_000_000)
    assert (result["verdict"], result["refused_at"]) == ("deferred", "end_of_data")
    assert result["bytes_sent"] == 0


@pytest.mark.parametrize("step", ["connect", "EHLO", "end_of_data"])
def test_the_timeout_is_for_the_whole_conversation(smtp_server, step):
    smtp_server.answers[step] = smtp_server.SILENCE
    started = time.monotonic()
    with pytest.raises(_smtp.SmtpError, match=r"no answer within the timeout of 0\.5 seconds"):
        talk(smtp_server, timeout=0.5)
    assert time.monotonic() - started < 5


def test_a_server_that_never_ends_its_answer(smtp_server):
    smtp_server.answers["connect"] = "220-more\r\n" * 9000 + "220 at last"
    with pytest.raises(_smtp.SmtpError, match="does not speak SMTP"):
        talk(smtp_server)


def test_another_protocol(smtp_server):
    smtp_server.answers["connect"] = "SSH-2.0-OpenSSH_9.2"
    with pytest.raises(_smtp.SmtpError, match=r"it does not speak SMTP: it answered 'SSH-2\.0-OpenSSH_9\.2'\. Check host and port"):
        talk(smtp_server)


def test_a_server_that_is_silent_at_quit_is_no_failure(smtp_server):
    smtp_server.answers["QUIT"] = smtp_server.DROP
    assert talk(smtp_server)["verdict"] == "accepted"


@pytest.mark.parametrize(
    "arguments",
    [
        {"recipients": ["alice@example.com>\r\nDATA"]},
        {"recipients": ["älice@example.com"]},
        {"sender": "x> SIZE=1"},
        {"helo": "client\nRSET"},
        {"recipients": []},
        {"stop_after": "quit"},
        {"tls": "sometimes"},
        {"sample": "ham"},
        {"timeout": 0},
        {"early": True},
        {"early": True, "tls": "require"},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_said(smtp_server, arguments):
    with pytest.raises(_smtp.SmtpError, match=next(iter(arguments))):
        talk(smtp_server, **arguments)
    assert not smtp_server.commands


def test_a_newline_in_a_header_is_refused(smtp_server):
    with pytest.raises(_smtp.SmtpError, match="check subject, headers and sender"):
        talk(smtp_server, subject="x\r\nBcc: bob@example.com")
    assert "MAIL" not in smtp_server.verbs


# ---- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_server(smtp_server, certificate):
    smtp_server.certificate = certificate
    smtp_server.answers["EHLO"] = "250-fake.example.net\r\n250 STARTTLS"
    return smtp_server


def test_starttls_is_used_when_it_is_offered(tls_server):
    result = talk(tls_server)
    assert result["verdict"] == "accepted"
    assert steps(result)[:4] == ["connect", "helo", "starttls", "helo"]
    assert result["tls"]["protocol"] in ("TLSv1.2", "TLSv1.3")
    assert result["tls"]["cipher"]
    assert result["tls"]["verified"] is False


def test_tls_never(tls_server):
    result = talk(tls_server, tls="never")
    assert result["tls"] is None
    assert "STARTTLS" not in tls_server.verbs


def test_tls_may_without_an_offer(smtp_server):
    result = talk(smtp_server, tls="may")
    assert (result["verdict"], result["tls"]) == ("accepted", None)


def test_tls_require_without_an_offer(smtp_server):
    with pytest.raises(_smtp.SmtpError, match="does not offer STARTTLS"):
        talk(smtp_server, tls="require")
    assert smtp_server.verbs == ["EHLO", "QUIT"]


def test_a_certificate_is_verified_on_demand(tls_server, certificate):
    result = _smtp.converse(host="localhost", port=tls_server.port, recipients=[ALICE], validate_certs=True, ca_path=str(certificate), timeout=10)
    assert result["tls"]["verified"] is True


def test_an_untrusted_certificate_is_refused_on_demand(tls_server):
    with pytest.raises(_smtp.SmtpError, match="at the TLS handshake: its certificate is not trusted: .* ca_path"):
        talk(tls_server, validate_certs=True)
    assert "MAIL" not in tls_server.verbs


def named(server, certificate, *names):
    arguments = {"host": "localhost", "port": server.port, "stop_after": "helo", "timeout": 10}
    return _smtp.converse(validate_certs=True, ca_path=str(certificate), certificate_names=names, **arguments)


@pytest.mark.parametrize("names", [["LOCALHOST"], ["mail.example.org", "localhost"]], ids=["one", "one of several"])
def test_a_certificate_may_be_for_a_name_that_is_given(tls_server, certificate, names):
    assert named(tls_server, certificate, *names)["tls"]["verified"] is True


@pytest.mark.parametrize("names", [["mail.example.org"], [".localhost"], ["sub.localhost", ".example.org"]])
def test_a_certificate_for_none_of_the_names_is_refused(tls_server, certificate, names):
    with pytest.raises(_smtp.SmtpError, match=f"its certificate is not trusted: .*it is for localhost.*, not for {re.escape(' or '.join(names))}"):
        named(tls_server, certificate, *names)
    assert "MAIL" not in tls_server.verbs


def test_names_that_are_given_do_not_make_an_authority_trusted(tls_server):
    with pytest.raises(_smtp.SmtpError, match="its certificate is not trusted: self"):
        talk(tls_server, validate_certs=True, certificate_names=["localhost"])


@pytest.mark.parametrize(
    ("held", "wanted", "is_one"),
    [
        ("*.example.com", "mail.example.com", True),
        ("*.example.com", "a.mail.example.com", False),
        ("*.example.com", "example.com", False),
        ("mail.example.com", ".example.com", True),
        ("example.com", ".example.com", False),
        ("mail.example.com.example.org", "mail.example.com", False),
    ],
)
def test_wildcards_of_certificates_and_of_policies(held, wanted, is_one):
    sock = types.SimpleNamespace(getpeercert=lambda: {"subjectAltName": (("DNS", held), ("IP Address", "192.0.2.1"))})
    if is_one:
        _smtp._check_names(sock, [wanted])
    else:
        with pytest.raises(OSError, match=f"it is for {re.escape(held)}, not for "):
            _smtp._check_names(sock, [wanted])


def test_a_missing_ca_file(tls_server):
    with pytest.raises(_smtp.SmtpError, match="ca_path /nonexistent.pem does not exist"):
        talk(tls_server, validate_certs=True, ca_path="/nonexistent.pem")


def test_starttls_refused(tls_server):
    tls_server.answers["STARTTLS"] = "454 4.7.0 TLS not available"
    result = talk(tls_server)
    assert (result["verdict"], result["refused_at"]) == ("deferred", "starttls")


def test_what_was_offered_before_tls_counts_no_more(tls_server):
    tls_server.answers["EHLO"] = ["250-fake.example.net\r\n250-SIZE 1000000\r\n250 STARTTLS", "502 5.5.1 Not implemented"]
    assert talk(tls_server)["verdict"] == "accepted"
    assert "MAIL FROM:<>" in tls_server.commands


def test_clear_text_after_starttls_is_not_taken_for_an_answer(tls_server):
    tls_server.answers["STARTTLS"] = "220 2.0.0 Ready\r\n250 2.0.0 injected"
    with pytest.raises(_smtp.SmtpError, match="in clear text after its answer to STARTTLS"):
        talk(tls_server)


@pytest.fixture
def implicit_server(tls_server):
    tls_server.implicit_tls = True
    tls_server.answers["EHLO"] = "250-fake.example.net\r\n250 SIZE 1000000"
    return tls_server


def test_with_implicit_tls_nothing_is_said_in_clear_text(implicit_server):
    result = talk(implicit_server, tls="implicit")
    assert result["verdict"] == "accepted"
    assert steps(result)[:3] == ["connect", "helo", "mail"]
    assert "STARTTLS" not in implicit_server.verbs
    assert result["tls"]["protocol"] in ("TLSv1.2", "TLSv1.3")
    assert result["extensions"] == ["SIZE 1000000"]


def test_with_implicit_tls_a_certificate_is_verified_on_demand(implicit_server, certificate):
    arguments = {"port": implicit_server.port, "recipients": [ALICE], "tls": "implicit", "validate_certs": True, "timeout": 10}
    assert _smtp.converse(host="localhost", ca_path=str(certificate), **arguments)["tls"]["verified"] is True
    implicit_server.commands.clear()
    with pytest.raises(_smtp.SmtpError, match="at the TLS handshake: its certificate is not trusted"):
        _smtp.converse(host="localhost", **arguments)
    assert not implicit_server.commands


def test_implicit_tls_with_a_server_that_speaks_first_is_a_failure(smtp_server):
    with pytest.raises(_smtp.SmtpError, match="at the TLS handshake: TLS failed") as caught:
        talk(smtp_server, tls="implicit")
    assert steps(caught.value.result) == []


def trusting(server, ca_path):
    return _smtp.converse(host="localhost", port=server.port, validate_certs=True, ca_path=str(ca_path), stop_after="helo", timeout=10)["tls"]["verified"]


def test_what_is_trusted_besides_the_system_does_not_take_its_place(tls_server, certificate, gateway_certificate, monkeypatch):
    with pytest.raises(_smtp.SmtpError, match="its certificate is not trusted"):
        trusting(tls_server, gateway_certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert trusting(tls_server, gateway_certificate) is True
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway_certificate))
    assert trusting(tls_server, certificate) is True


# ---- login -------------------------------------------------------------------------------------------------------

PASSWORD = 'corréct horse:\\battery" staple'
LOGIN = {"username": "alice@example.com", "password": PASSWORD}
PLAIN = base64.b64encode(f"\0alice@example.com\0{PASSWORD}".encode()).decode()


@pytest.fixture
def login_server(tls_server):
    tls_server.answers["EHLO"] = ["250-fake.example.net\r\n250 STARTTLS", "250-fake.example.net\r\n250 AUTH LOGIN PLAIN"]
    return tls_server


def assert_no_password(text):
    """Neither as it is, nor as JSON or base64 has it."""
    for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], json.dumps(PASSWORD, ensure_ascii=False)[1:-1], PLAIN, base64.b64encode(PASSWORD.encode()).decode()):
        assert secret not in text


def test_a_login_comes_after_tls_and_before_the_message(login_server):
    result = talk(login_server, tls="require", **LOGIN)
    assert result["verdict"] == "accepted"
    assert login_server.verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]
    assert f"AUTH PLAIN {PLAIN}" in login_server.commands
    reply = next(reply for reply in result["replies"] if reply["step"] == "login")
    assert (reply["command"], reply["code"]) == ("AUTH PLAIN", 235)


def test_a_login_works_with_implicit_tls(implicit_server):
    implicit_server.answers["EHLO"] = "250-fake.example.net\r\n250 auth plain"
    assert talk(implicit_server, tls="implicit", **LOGIN)["verdict"] == "accepted"
    assert implicit_server.verbs == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]


def test_stopping_after_the_login(login_server):
    result = talk(login_server, tls="require", stop_after="login", recipients=[], **LOGIN)
    assert (result["verdict"], result["reply"]["step"]) == ("accepted", "login")
    assert login_server.verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("535 5.7.8 Error: authentication failed", "refused"), ("454 4.7.0 Temporary authentication failure", "deferred"), ("530 5.7.0 No", "refused")],
)
@pytest.mark.parametrize("stop_after", ["login", "data"])
def test_a_login_that_is_refused_is_a_result_and_the_end(login_server, answer, verdict, stop_after):
    login_server.answers["AUTH"] = answer
    result = talk(login_server, tls="require", stop_after=stop_after, **LOGIN)
    assert (result["verdict"], result["refused_at"], result["reply"]["lines"]) == (verdict, "login", [answer])
    assert login_server.verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


@pytest.mark.parametrize("answer", ["334 ", "250 2.0.0 Ok"])
def test_an_answer_that_is_no_yes_is_no_login(login_server, answer):
    login_server.answers["AUTH"] = answer
    result = talk(login_server, tls="require", **LOGIN)
    assert (result["verdict"], result["refused_at"]) == ("refused", "login")
    assert "MAIL" not in login_server.verbs


@pytest.mark.parametrize("answers", [{}, {"AUTH": "535 5.7.8 No"}, {"MAIL": "550 5.7.1 No"}])
def test_no_result_holds_the_password(login_server, answers):
    login_server.answers.update(answers)
    assert_no_password(json.dumps(talk(login_server, tls="require", **LOGIN), ensure_ascii=False))


@pytest.mark.parametrize("step", ["AUTH", "MAIL"])
def test_no_failure_holds_the_password(login_server, step):
    login_server.answers[step] = login_server.DROP
    with pytest.raises(_smtp.SmtpError, match="the server dropped the connection") as caught:
        talk(login_server, tls="require", **LOGIN)
    assert_no_password(str(caught.value) + json.dumps(caught.value.result, ensure_ascii=False))
    assert ("at AUTH PLAIN" in str(caught.value)) == (step == "AUTH")


@pytest.mark.parametrize("offer", ["250 SIZE 1000", "250 AUTH LOGIN CRAM-MD5", "250 AUTH=PLAIN", "250 AUTH PLAINTEXT", "250 AUTH"])
def test_a_server_that_does_not_take_this_login_is_a_failure(login_server, offer):
    login_server.answers["EHLO"][1] = "250-fake.example.net\r\n" + offer
    with pytest.raises(_smtp.SmtpError, match="the server does not offer AUTH PLAIN"):
        talk(login_server, tls="require", **LOGIN)
    assert login_server.verbs == ["EHLO", "STARTTLS", "EHLO", "QUIT"]


@pytest.mark.parametrize("tls", ["never", "may"])
def test_there_is_no_login_without_tls(login_server, tls):
    with pytest.raises(_smtp.SmtpError, match="a login is for a conversation with TLS only: set tls to require or implicit") as caught:
        talk(login_server, tls=tls, **LOGIN)
    assert not login_server.commands
    assert_no_password(str(caught.value))


@pytest.mark.parametrize(("offer", "verdict"), [("250 AUTH PLAIN", None), ("250-STARTTLS\r\n250 AUTH PLAIN", "deferred")])
def test_there_is_no_login_where_tls_does_not_begin(login_server, offer, verdict):
    login_server.answers.update({"EHLO": "250-fake.example.net\r\n" + offer, "STARTTLS": "454 4.7.0 TLS not available"})
    if verdict:
        result = talk(login_server, tls="require", **LOGIN)
        assert (result["verdict"], result["refused_at"]) == (verdict, "starttls")
    else:
        with pytest.raises(_smtp.SmtpError, match="does not offer STARTTLS"):
            talk(login_server, tls="require", **LOGIN)
    assert "AUTH" not in login_server.verbs


def test_a_login_that_is_to_be_tried_needs_a_name(login_server):
    with pytest.raises(_smtp.SmtpError, match="stop_after is login, but there is no username"):
        talk(login_server, tls="require", stop_after="login")
    assert not login_server.commands


# ---- messages ----------------------------------------------------------------------------------------------------


def parsed(sample, **arguments):
    data = _samples.sample_message(sample, "sender@example.org", [ALICE], "example.org", **arguments)
    return data, email.message_from_bytes(data, policy=email.policy.default)


@pytest.mark.parametrize("sample", ["clean", "gtube", "eicar", "eicar_zip"])
def test_samples_are_well_formed(sample):
    data, message = parsed(sample)
    assert not message.defects
    for name in ("Date", "Message-ID", "From", "To", "Subject", "MIME-Version", "Content-Type"):
        assert message[name], name
    assert message["From"] == "Mail Gateway Test <sender@example.org>"
    assert message["To"] == ALICE
    assert data.endswith(b"\r\n")
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert max(map(len, data.split(b"\r\n"))) <= 998


def test_a_sample_of_the_null_sender_has_an_author():
    data = _samples.sample_message("clean", "", [ALICE], "client.example.org")
    assert email.message_from_bytes(data)["From"] == "Mail Gateway Test <MAILER-DAEMON@client.example.org>"


def test_the_clean_sample_has_neither_test_string():
    data, message = parsed("clean")
    assert b"GTUBE" not in data
    assert b"EICAR" not in data
    assert not message.is_multipart()


def test_gtube_is_the_one_that_spam_filters_know():
    assert hashlib.sha256(_samples.GTUBE.encode()).hexdigest() == GTUBE_SHA256
    assert _samples.GTUBE in parsed("gtube")[1].get_content().splitlines()


def test_eicar_is_the_one_that_virus_scanners_know():
    (attachment,) = parsed("eicar")[1].iter_attachments()
    assert hashlib.sha256(attachment.get_content()).hexdigest() == EICAR_SHA256


def test_the_zip_holds_eicar_compressed():
    (attachment,) = parsed("eicar_zip")[1].iter_attachments()
    assert attachment.get_content_type() == "application/zip"
    assert _samples.EICAR.encode() not in attachment.get_content()
    with zipfile.ZipFile(io.BytesIO(attachment.get_content())) as archive:
        (name,) = archive.namelist()
        assert hashlib.sha256(archive.read(name)).hexdigest() == EICAR_SHA256


@pytest.mark.parametrize("size", [2000, 2001, 2063, 2064, 100000])
def test_oversize_is_as_large_as_asked(size):
    data = parsed("oversize", size=size)[0]
    assert len(data) == size
    assert data.endswith(b"\r\n")
    assert max(map(len, data.split(b"\r\n"))) <= 998


def test_headers_are_added_and_replaced():
    message = parsed("clean", subject="Hello", headers={"X-Test": 1, "From": "other@example.net"})[1]
    assert message["Subject"] == "Hello"
    assert message["X-Test"] == "1"
    assert message.get_all("From") == ["other@example.net"]


def test_the_size_is_announced_before_anything_is_sent(smtp_server):
    smtp_server.answers["MAIL"] = "552 5.3.4 Message size exceeds fixed limit"
    result = talk(smtp_server, sample="oversize", size=60000)
    assert smtp_server.commands[1] == "MAIL FROM:<> SIZE=60000"
    assert (result["refused_at"], result["bytes_sent"]) == ("mail", 0)


def test_dots_are_stuffed_and_lines_end_with_crlf(smtp_server):
    content = "Message-ID: <1@example.org>\nSubject: dots\n\n.\n..two\r\nmiddle . dot\r.end"
    result = talk(smtp_server, content=content)
    assert smtp_server.data == b"Message-ID: <1@example.org>\r\nSubject: dots\r\n\r\n..\r\n...two\r\nmiddle . dot\r\n..end\r\n.\r\n"
    assert result["message_id"] == "<1@example.org>"
    assert result["message_size"] == result["bytes_sent"] - 3  # without the dots that were stuffed
    assert result["verdict"] == "accepted"


def test_the_time_of_the_verdict_is_measured(smtp_server):
    result = talk(smtp_server)
    assert 0 <= result["reply"]["seconds"] <= result["seconds"] < 10


# ---- scripts: what no honest client would do ---------------------------------------------------------------------


def test_a_script_is_sent_as_it_is(smtp_server):
    body = "Subject: x\r\n\r\nfirst\n.\n\xff\r\n.\r\n"
    result = talk(smtp_server, script=["", "EHLO c.example.org\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<a@example.com>\r\n", "DATA\r\n", body, "QUIT\r\n"])
    assert smtp_server.data == body.encode("latin-1")
    assert [reply["code"] for reply in result["replies"]] == [220, 250, 250, 250, 354, 250, 221]
    assert result["verdict"] is None


def test_a_script_may_talk_before_its_turn(smtp_server):
    result = talk(smtp_server, script=[{"send": "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\nQUIT\r\n", "replies": 0}])
    assert smtp_server.verbs == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert [reply["code"] for reply in result["replies"]] == [220, 250, 250, 250, 221]


def test_a_script_that_is_thrown_out_is_a_result(smtp_server):
    smtp_server.answers["MAIL"] = "421 4.7.0 Improper use of SMTP command pipelining"
    result = talk(smtp_server, script=["", "EHLO c\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<a@example.com>\r\n", "QUIT\r\n"])
    assert [reply["code"] for reply in result["replies"]] == [220, 250, 421]


def test_a_script_may_send_slowly(smtp_server):
    started = time.monotonic()
    talk(smtp_server, script=["", {"send": "EHLO c\r\n", "chunk": 2, "pause": 0.05}, "QUIT\r\n"])
    assert smtp_server.commands[0] == "EHLO c"
    assert time.monotonic() - started >= 4 * 0.05


def test_a_slow_script_keeps_the_deadline(smtp_server):
    started = time.monotonic()
    with pytest.raises(_smtp.SmtpError, match="no answer within"):
        talk(smtp_server, timeout=0.3, script=["", {"send": "EHLO c\r\n", "chunk": 1, "pause": 30}])
    assert time.monotonic() - started < 5


# ---- clients that do not listen ----------------------------------------------------------------------------------


class Listener:
    """A server that greets only who has spoken; `lines` is what it heard, `before` what of it before the greeting."""

    def __init__(self, replies, greeting="220-wait a moment\r\n220 fake.example.net ESMTP"):
        self.replies, self.greeting = replies, greeting
        self.lines, self.before = [], None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def serve(self):
        connection, _address = self.listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            while line := stream.readline():
                self.lines.append(line.decode("ascii").rstrip())
                if self.before is None:
                    self.before = list(self.lines)
                    stream.write(self.greeting.encode("ascii") + b"\r\n")
                stream.write(self.replies.pop(0).encode("ascii") + b"\r\n")


@contextlib.contextmanager
def listening(*replies, **greeting):
    server = Listener(list(replies), **greeting)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    thread.join(10)
    assert not thread.is_alive()
    server.listener.close()


def test_an_early_talker_does_not_wait_for_the_greeting():
    with listening("250-fake.example.net\r\n250 SIZE 1000", "250 2.1.0 Ok", "550 5.5.1 Protocol error", "221 2.0.0 Bye") as server:
        result = talk(server, early=True, tls="never", stop_after="rcpt")
    assert server.before == ["EHLO client.example.org"]
    assert [line.split(" ")[0] for line in server.lines] == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert steps(result) == ["connect", "helo", "mail", "rcpt", "quit"]
    assert [reply["code"] for reply in result["replies"]] == [220, 250, 250, 550, 221]
    assert result["replies"][0]["lines"] == ["220-wait a moment", "220 fake.example.net ESMTP"]
    assert result["replies"][1]["command"] == "EHLO client.example.org"
    assert result["extensions"] == ["SIZE 1000"]
    assert (result["verdict"], result["refused_at"]) == ("refused", "rcpt")


def test_a_greeting_that_is_not_finished_is_one_and_what_follows_is_kept():
    """postscreen(8) begins it, waits for who talks into it, and then answers what they said."""
    replies = ["250-fake.example.net\r\n250 SIZE 1000", "250 2.1.0 Ok", "550 5.5.1 Protocol error", "221 2.0.0 Bye"]
    with listening(*replies, greeting="220-wait a moment\r\n220-still") as server:
        result = talk(server, early=True, tls="never", stop_after="rcpt")
    assert steps(result) == ["connect", "helo", "mail", "rcpt", "quit"]
    assert result["replies"][0]["lines"] == ["220-wait a moment", "220-still"]
    assert result["replies"][1]["lines"] == ["250-fake.example.net", "250 SIZE 1000"]
    assert (result["verdict"], result["refused_at"]) == ("refused", "rcpt")


def test_who_is_not_early_waits_for_the_greeting():
    with listening() as server:
        with pytest.raises(_smtp.SmtpError, match="no answer within"):
            talk(server, tls="never", timeout=0.2)
    assert server.lines == []


def test_an_early_talker_greets_once(smtp_server):
    result = talk(smtp_server, early=True, tls="never")
    assert smtp_server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert result["verdict"] == "accepted"
    assert result["helo"] == "client.example.org"


def test_an_early_talker_without_a_name_greets_with_its_address(smtp_server, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "laptop")
    assert talk(smtp_server, early=True, tls="never", helo=None, stop_after="helo")["helo"] == "[127.0.0.1]"
    assert smtp_server.commands[0] == "EHLO [127.0.0.1]"


def test_an_early_talker_that_is_refused_at_once(smtp_server):
    smtp_server.answers["connect"] = "554 5.7.1 Go away"
    result = talk(smtp_server, early=True, tls="never")
    assert (result["verdict"], result["refused_at"]) == ("refused", "connect")


def test_an_early_talker_says_helo_to_a_server_without_ehlo(smtp_server):
    smtp_server.answers["EHLO"] = "502 5.5.1 Not implemented"
    result = talk(smtp_server, early=True, tls="never", stop_after="rcpt", timeout=1)
    assert smtp_server.verbs == ["EHLO", "HELO", "MAIL", "RCPT", "QUIT"]
    assert result["verdict"] == "accepted"


def test_an_early_talker_has_to_wait_for_the_reply_to_what_it_said(smtp_server):
    with pytest.raises(_smtp.SmtpError, match="early sends EHLO"):
        talk(smtp_server, early=True, tls="never", stop_after="connect")


# ---- on another host ---------------------------------------------------------------------------------------------


def test_it_runs_where_there_is_no_ansible(smtp_server):
    """As tests/gateway sends it to the hosts that speak to a gateway."""
    conversations = [{"host": "127.0.0.1", "port": smtp_server.port, "recipients": [ALICE], "timeout": 10}, {"host": "mx1..example.com", "recipients": [ALICE]}]
    speaker = _speakers.Speaker(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            'import os, shlex, sys; words = shlex.split(sys.argv[1]); os.execv(sys.executable, [words[0], "-I", "-S", *words[1:]])',
        ]
    )
    held, failed = speaker.hold(conversations).result(timeout=30)
    (again,) = speaker.hold(conversations[:1]).result(timeout=30)
    assert again["queue_id"] == held["queue_id"]
    assert held["queue_id"] == "4dVbQ60Jm2z1J"
    assert "the name does not resolve" in failed["error"]
