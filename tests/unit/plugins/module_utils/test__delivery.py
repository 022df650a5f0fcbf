# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix's own faults, told from those of clients and next hops; and waiting no longer than until one is seen."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _delivery

DIED = "Nov 27 12:00:00 mx1 postfix/smtpd[1]: fatal: bad numerical configuration: smtpd_hard_error_limit = many"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (DIED, ["smtpd: fatal: bad numerical configuration: smtpd_hard_error_limit = many"]),
        ("Nov 27 12:00:00 mx1 postfix/relay/smtp[1]: fatal: bad boolean", ["smtp: fatal: bad boolean"]),
        ("Nov 27 12:00:00 mx1 postfix/smtpd[1]: panic: smtpd_proxy_cmd: x", []),
        ("Nov 27 12:00:00 mx1 postfix/sendmail[1]: fatal: usage", []),
        ("Nov 27 12:00:00 mx1 postfix/smtp[1]: 4jb: to=<a@example.com>, status=deferred (fatal: not ours)", []),
    ],
)
def test_what_daemons_died_of(line, found):
    assert _delivery.faults([line, line]) == found


def test_a_call_that_returns_is_awaited():
    done = []
    _delivery.watch(lambda: (time.sleep(0.1), done.append(1))[0], lambda: "")
    assert done == [1]


def test_what_a_call_raises_is_raised():
    def call():
        raise _delivery.Fault("port 25 answers '250 2.0.0'")

    with pytest.raises(_delivery.Fault, match="port 25 answers"):
        _delivery.watch(call, lambda: "")


def test_a_daemon_that_dies_ends_the_wait_for_its_answer():
    never = threading.Event()
    started = time.monotonic()
    with pytest.raises(_delivery.Fault, match="smtpd: fatal"):
        _delivery.watch(lambda: never.wait(30) and None, lambda: "Postfix says: smtpd: fatal")
    assert time.monotonic() - started < 10
    never.set()
