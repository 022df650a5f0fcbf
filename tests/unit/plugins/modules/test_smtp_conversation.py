# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import functools
import json

import pytest
import yaml
from ansible_collections.antispam.gateway.plugins.module_utils import _samples
from ansible_collections.antispam.gateway.plugins.modules import smtp_conversation


@pytest.fixture
def run(call_main):
    return functools.partial(call_main, smtp_conversation)


def arguments(server, **more):
    return {"host": "127.0.0.1", "port": server.port, "recipients": ["alice@example.com"], "timeout": 10, **more}


def test_an_accepted_message_is_a_change(run, smtp_server):
    result = run(**arguments(smtp_server))
    assert result["changed"] is True
    assert result["verdict"] == "accepted"
    assert result["queue_id"] == "4dVbQ60Jm2z1J"
    assert b"Subject: Test: a clean message" in smtp_server.data


def test_a_refusal_is_a_result_and_no_change(run, smtp_server):
    smtp_server.answers["end_of_data"] = "554 5.7.0 Reject, id=00512-01 - spam"
    result = run(**arguments(smtp_server, sample="gtube"))
    assert result["changed"] is False
    assert (result["verdict"], result["refused_at"]) == ("refused", "end_of_data")
    assert (result["reply"]["code"], result["reply"]["enhanced_code"]) == (554, "5.7.0")
    assert _samples.GTUBE.encode() in smtp_server.data


def test_stopping_before_data_is_no_change(run, smtp_server):
    result = run(**arguments(smtp_server, stop_after="rcpt"))
    assert (result["changed"], result["verdict"]) == (False, "accepted")
    assert "DATA" not in smtp_server.verbs


def test_a_failure_names_the_place_and_keeps_the_replies(run, smtp_server):
    smtp_server.answers["MAIL"] = smtp_server.DROP
    result = run(**arguments(smtp_server))
    assert result["msg"].startswith(f"127.0.0.1:{smtp_server.port}, at MAIL FROM:<>")
    assert [reply["step"] for reply in result["replies"]] == ["connect", "helo"]


def test_check_mode_opens_no_connection(run, smtp_server):
    result = run(_ansible_check_mode=True, **arguments(smtp_server))
    assert result["skipped"] is True
    assert not smtp_server.commands
    assert not smtp_server.ended.is_set()


def test_a_message_and_a_sample_exclude_each_other(run, smtp_server):
    result = run(**arguments(smtp_server, content="Subject: x\n\nx\n", sample="clean"))
    assert "mutually exclusive" in result["msg"]
    assert not smtp_server.commands


def test_no_recipients(run, smtp_server):
    assert "recipients is empty" in run(**arguments(smtp_server, recipients=[]))["msg"]


def test_early_is_for_a_conversation_without_tls(run, smtp_server):
    assert "set tls to never" in run(**arguments(smtp_server, early=True))["msg"]
    assert not smtp_server.commands
    result = run(**arguments(smtp_server, early=True, tls="never", stop_after="rcpt"))
    assert result["verdict"] == "accepted"
    assert smtp_server.verbs == ["EHLO", "MAIL", "RCPT", "QUIT"]


def test_everything_that_is_returned_is_documented(run, smtp_server):
    documented = yaml.safe_load(smtp_conversation.RETURN)
    result = run(**arguments(smtp_server))
    assert set(result) - {"changed", "invocation"} == set(documented)
    assert set(result["reply"]) == set(documented["replies"]["contains"])


# ---- login -------------------------------------------------------------------------------------------------------

PASSWORD = "corréct horse:\\battery staple"
LOGIN = {"username": "alice@example.com", "password": PASSWORD}
PLAIN = base64.b64encode(f"\0alice@example.com\0{PASSWORD}".encode()).decode()


@pytest.fixture(params=["require", "implicit"])
def login_arguments(request, smtp_server, certificate):
    smtp_server.certificate = certificate
    smtp_server.implicit_tls = request.param == "implicit"
    smtp_server.answers["EHLO"] = "250-fake.example.net\r\n250-STARTTLS\r\n250 AUTH PLAIN"
    return arguments(smtp_server, tls=request.param, host="localhost", **LOGIN)


@pytest.fixture
def run_secretly(run, call_main):
    """Run the module; what it prints holds the password in no form."""

    def run_module(**arguments):
        result = run(**arguments)
        assert not call_main.warnings
        for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], PLAIN):
            assert secret not in json.dumps(result, ensure_ascii=False)
            assert secret not in call_main.printed
        return result

    return run_module


def test_a_login_that_is_taken_lets_the_message_in_and_is_in_no_result(run_secretly, smtp_server, login_arguments):
    result = run_secretly(**login_arguments)
    assert (result["changed"], result["verdict"]) == (True, "accepted")
    assert f"AUTH PLAIN {PLAIN}" in smtp_server.commands


def test_a_login_that_is_refused_is_a_result_and_no_change(run_secretly, smtp_server, login_arguments):
    smtp_server.answers["AUTH"] = "535 5.7.8 Error: authentication failed"
    result = run_secretly(**login_arguments)
    assert (result["changed"], result["verdict"], result["refused_at"]) == (False, "refused", "login")
    assert "MAIL" not in smtp_server.verbs


def test_a_login_may_be_all_that_is_tried(run_secretly, smtp_server, login_arguments):
    result = run_secretly(**login_arguments, stop_after="login")
    assert (result["changed"], result["verdict"], result["reply"]["step"]) == (False, "accepted", "login")
    assert "MAIL" not in smtp_server.verbs


def test_a_server_that_offers_no_login_is_a_failure(run_secretly, smtp_server, login_arguments):
    smtp_server.answers["EHLO"] = "250-fake.example.net\r\n250-STARTTLS\r\n250 AUTH GSSAPI"
    result = run_secretly(**login_arguments)
    assert result["failed"]
    assert "the server does not offer AUTH PLAIN" in result["msg"]
    assert "AUTH" not in smtp_server.verbs


@pytest.mark.parametrize("tls", ["never", "may"])
def test_there_is_no_login_without_tls(run_secretly, smtp_server, tls):
    result = run_secretly(**arguments(smtp_server, tls=tls, **LOGIN))
    assert "set tls to require or implicit" in result["msg"]
    assert not smtp_server.commands


@pytest.mark.parametrize("name", LOGIN)
def test_a_name_and_its_password_go_together(run_secretly, smtp_server, name):
    result = run_secretly(**arguments(smtp_server, tls="require", **{name: LOGIN[name]}))
    assert "parameters are required together: username, password" in result["msg"]
    assert not smtp_server.commands
