# SPDX-License-Identifier: GPL-3.0-or-later
"""Guesses at the password of one account, from many addresses."""

import pytest
from _network import ALICE, STRANGER, mailboxes, newcomer, wait_for_journal, wait_until

LIMIT = 50  # gateway_wrong_passwords_per_hour, by default
UNIT = "gateway-login-guard.service"
TICKETS = "tickets@staff.example.com"
RIGHT = {"port": 465, "tls": "implicit", "username": TICKETS, "password": "bob-secret", "stop_after": "login"}
WRONG = {**RIGHT, "password": "guess"}
LOGGED_IN, NOT_LOGGED_IN = "235 2.7.0", "535 5.7.8"
REFUSED = f"account {TICKETS}: {LIMIT} wrong passwords within an hour, from {LIMIT} addresses ("


@pytest.fixture(name="fresh", autouse=True)
def _fresh(gateway):
    """Nobody has guessed yet, nor logged in."""
    forget(gateway)
    yield
    forget(gateway)


def forget(gateway):
    gateway.check_output(f"systemctl stop {UNIT} && rm -f /var/lib/gateway-login-guard/networks.json && systemctl start {UNIT}")


def guess(times):
    """Guess from so many addresses, in several networks."""
    clients = [newcomer(64 + number) for number in range(times)]
    answers = []
    for some in [clients[start : start + 4] for start in range(0, times, 4)]:
        conversations = [{**WRONG, "source_address": client.source_address} for client in some]
        answers += [record.answer for record in some[0].converse_at_once(conversations)]
    return answers


@pytest.mark.holds("S9", "T42")
def test_many_addresses_have_so_many_guesses_at_one_account_and_its_owner_goes_on(gateway, began):
    home = newcomer(200)
    neighbour = newcomer(200)
    assert home.converse(**RIGHT).answer == LOGGED_IN
    # What is known outlasts this.
    gateway.check_output(f"systemctl restart {UNIT}")
    assert newcomer(201).converse(**WRONG).answer == NOT_LOGGED_IN
    assert newcomer(202).converse(**RIGHT).answer == LOGGED_IN, "one wrong password is nothing"
    assert set(guess(LIMIT - 1)) == {NOT_LOGGED_IN}
    (line,) = [line for line in wait_for_journal_of_guard(gateway, began) if REFUSED in line]
    assert "logins of this account are refused, except from networks that it has logged in from before" in line

    # The right password, from where nobody knows it; on both ports.
    thieves = [newcomer(203), newcomer(204)]
    records = [thieves[0].converse(**RIGHT), thieves[1].converse(**{**RIGHT, "port": 587, "tls": "require"})]
    assert [record.answer for record in records] == [NOT_LOGGED_IN] * 2
    # In another spelling too.
    assert newcomer(205).converse(**{**RIGHT, "username": TICKETS.upper()}).answer == NOT_LOGGED_IN
    # No answer tells that it was right, nor that this account is refused.
    other = newcomer(206).converse(**{**WRONG, "username": "nobody@staff.example.com"})
    assert records[0].text == other.text
    # Nor does the time that it takes: Dovecot has looked at a password, and at a wrong one.
    looked_at = gateway.check_output("journalctl --quiet --no-pager --unit dovecot --grep 'Password mismatch'")
    assert all(thief.source_address in looked_at for thief in thieves)

    for client in (home, neighbour, newcomer(202)):
        assert client.converse(**RIGHT).answer == LOGGED_IN
    assert newcomer(207).converse(**{**RIGHT, "username": ALICE, "password": "alice-secret"}).answer == LOGGED_IN
    # More of the same is not said again.
    guess(3)
    assert len([line for line in journal_of_guard(gateway, began).splitlines() if f"account {TICKETS}" in line]) == 1


@pytest.mark.holds("S9", "T42")
def test_while_the_guard_is_stopped_nobody_logs_in_and_mail_from_outside_passes(gateway):
    gateway.check_output(f"systemctl stop {UNIT}")
    try:
        record = newcomer(210).converse(**{**RIGHT, "port": 587, "tls": "require"}, may_break_off=True)
        # 454 of a smtpd(8) that knows what Dovecot offers, and no connection to one that does not.
        assert record.reply is None or 400 <= record.reply["code"] < 500, record
        assert record.answer != LOGGED_IN
        from_outside = STRANGER.converse()
        assert from_outside.answer == "250 2.0.0"
        assert mailboxes(from_outside.message_id) == [ALICE]
    finally:
        gateway.check_output(f"systemctl start {UNIT}")
    # master(8) waits a minute before it starts a daemon again that has died.
    wait_until(lambda: newcomer(211).converse(**{**RIGHT, "port": 587, "tls": "require"}, may_break_off=True).answer == LOGGED_IN, "a login", 120)


AWAY = {
    "Dovecot is stopped": ("stop dovecot.service", "start dovecot.service"),
    "the guard is restarted": (f"kill --signal=STOP {UNIT}", f"restart {UNIT}"),
    "the guard has died": (f"kill --signal=STOP {UNIT}", f"kill --signal=KILL {UNIT}"),
}


@pytest.mark.holds("S9", "T42")
@pytest.mark.parametrize("before, after", AWAY.values(), ids=AWAY)
def test_a_login_waits_while_the_guard_or_dovecot_comes_back(gateway, began, before, after):
    client = newcomer(212)
    # A new smtpd(8) process asks what there is to log in with, and dies where nobody answers.
    gateway.check_output("postfix reload")
    gateway.check_output(f"systemctl {before}")
    try:
        login = client.begin(**RIGHT)
        wait_for_journal(began, f"connect from unknown[{client.source_address}]")
    finally:
        gateway.check_output(f"systemctl {after}")
    assert client.finish(login).answer == LOGGED_IN


@pytest.mark.holds("T42")
def test_the_guard_comes_back_after_a_reboot_and_is_nobody(gateway):
    service = gateway.service(UNIT.removesuffix(".service"))
    assert service.is_running
    assert service.is_enabled
    shown = dict(line.split("=", 1) for line in gateway.check_output(f"systemctl show --property=User,MainPID,Restart,NoNewPrivileges {UNIT}").splitlines())
    assert (shown["User"], shown["Restart"], shown["NoNewPrivileges"]) == ("gateway-login-guard", "always", "yes")
    assert gateway.check_output(f"stat -c %U /proc/{shown['MainPID']}") == "gateway-login-guard"
    socket = gateway.check_output("stat -c '%U %G %a' /run/gateway-login-guard/auth")
    assert socket == "gateway-login-guard postfix 660"
    # Nobody else may ask it for passwords, nor read who was where.
    assert gateway.run("su -s /bin/sh nobody -c 'ls /run/gateway-login-guard /var/lib/gateway-login-guard'").rc != 0


def journal_of_guard(gateway, since):
    return gateway.check_output(f"journalctl --quiet --output=cat --unit={UNIT} --after-cursor='{since}'")


def wait_for_journal_of_guard(gateway, since):
    return wait_until(lambda: [line for line in journal_of_guard(gateway, since).splitlines() if REFUSED in line], "a line of the guard")
