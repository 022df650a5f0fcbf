# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _policy_service
from ansible_collections.antispam.gateway.plugins.module_utils._policy_service import DUNNO, OTHER_POLICY, TOO_MANY_ERRORS, Policies

MEMBERS = {"example.net": "strict", "bob@example.net": "lenient", "archive@example.com": "lenient"}


@pytest.fixture(name="policies")
def _policies():
    return Policies(MEMBERS, ["postmaster", "abuse"])


def ask(policies, recipient, instance="1", context="class", **more):
    request = {"protocol_state": "RCPT", "policy_context": context, "client_address": "192.0.2.1", "client_port": "1", "sender": "a@example.org"}
    return policies.answer(request | {"instance": instance, "recipient": recipient} | more)


@pytest.mark.parametrize(
    ("recipient", "policy"),
    [
        ("alice@example.net", "strict"),
        ("BOB@Example.NET", "lenient"),
        ("alice@example.com", ""),
        ("archive@example.com", "lenient"),
        ("Postmaster@example.net", None),
        ("x@sub.example.net", ""),
    ],
)
def test_the_policy_of_a_recipient(policies, recipient, policy):
    assert policies.policy_of(recipient) == policy


def test_the_first_recipient_decides_and_each_transaction_anew(policies):
    assert [ask(policies, f"{name}@example.net").action for name in ("alice", "bob", "carol", "abuse")] == [DUNNO, OTHER_POLICY, DUNNO, DUNNO]
    assert [ask(policies, f"{name}@example.net", "2").action for name in ("bob", "alice")] == [DUNNO, OTHER_POLICY]


def test_a_recipient_that_goes_with_every_policy_decides_nothing(policies):
    assert [ask(policies, name).action for name in ("postmaster@example.com", "alice@example.net")] == [DUNNO, DUNNO]


def test_a_report_of_delivery_is_not_put_off(policies):
    assert [ask(policies, name, sender="").action for name in ("alice@example.com", "alice@example.net")] == [DUNNO, DUNNO]


@pytest.mark.parametrize(("stress", "errors"), [("", 10), ("yes", 1)])
def test_a_client_that_errs_is_told_to_go(policies, stress, errors):
    for _number in range(errors):
        assert ask(policies, "nobody@example.com", context="guard", stress=stress).action == DUNNO
    assert ask(policies, "nobody@example.com", context="guard", stress=stress).action == TOO_MANY_ERRORS


def test_a_client_that_errs_waits(policies):
    assert [ask(policies, "nobody@example.com", context="guard").wait for _number in range(5)] == [0, 0, 0, 2, 2]


@pytest.mark.parametrize("stress", ["", "yes"])
def test_a_recipient_of_another_policy_is_no_error(policies, stress):
    assert [ask(policies, "alice@example.com", context=context, stress=stress).action for context in ("guard", "class")] == [DUNNO, DUNNO]
    for number in range(100):
        guarded = ask(policies, f"{number}@example.net", context="guard", stress=stress)
        assert (guarded.action, guarded.wait) == (DUNNO, 0)
        assert ask(policies, f"{number}@example.net", stress=stress).action == OTHER_POLICY


def test_what_is_over_is_forgotten(policies, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(_policy_service.time, "monotonic", lambda: now)
    ask(policies, "alice@example.net")
    now += 7200
    ask(policies, "alice@example.com", "2", client_port="2")
    assert (len(policies._transactions), len(policies._conversations)) == (1, 1)
