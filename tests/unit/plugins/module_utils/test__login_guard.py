# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _login_guard
from ansible_collections.antispam.gateway.plugins.module_utils._login_guard import HOUR, Conversation, Guard, Known, Rubbish, Service, network_of

ALICE, BOB = "alice@example.com", "bob@example.com"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.9"
PASSWORDS = {ALICE: b"alice-secret", BOB: b"bob-secret"}
LIMIT = 5


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="state")
def _state(tmp_path):
    return tmp_path / "networks.json"


class Setup:
    """A guard, and what Dovecot would say."""

    def __init__(self, state, clock):
        self.known = Known(state, PASSWORDS, clock)
        self.guard = Guard(LIMIT, PASSWORDS, self.known, clock)
        self.heard = []

    def auth(self, conversation, name, password, address, mechanism="PLAIN"):
        if mechanism == "PLAIN":
            return [conversation.from_postfix(auth(1, encoded(b"\0" + name.encode() + b"\0" + password), address))]
        lines = [conversation.from_postfix(auth(1, None, address, b"LOGIN"))]
        return lines + [conversation.from_postfix(b"CONT\t1\t" + encoded(said)) for said in (name.encode(), password)]

    def try_one(self, name, password=b"guess", address=ELSEWHERE, mechanism="PLAIN"):
        """Return whether Postfix hears OK."""
        conversation = Conversation(self.guard)
        said = base64.b64decode(self.auth(conversation, name, password, address, mechanism)[-1].rpartition(b"resp=" if mechanism == "PLAIN" else b"\t")[2])
        heard = said.split(b"\0")[2] if mechanism == "PLAIN" else said
        self.heard.append(heard)
        account = name.lower()
        right = PASSWORDS.get(account) == heard
        answer, wait = conversation.from_dovecot((b"OK" if right else b"FAIL") + b"\t1\tuser=" + account.encode())
        assert wait == 0
        return answer.startswith(b"OK")


def encoded(said):
    return base64.b64encode(said)


def auth(number, response, address=ELSEWHERE, mechanism=b"PLAIN"):
    line = b"AUTH\t%d\t%s\tservice=smtp\tnologin\tlip=192.0.2.1\trip=%s\tsecured" % (number, mechanism, address.encode())
    return line if response is None else line + b"\tresp=" + response


@pytest.fixture(name="setup")
def _setup(state, clock):
    return Setup(state, clock)


def guess(setup, times, name=ALICE, network="203.0.113"):
    for number in range(times):
        assert not setup.try_one(name, b"guess", f"{network}.{number % 250}")


# ---- the count -------------------------------------------------------------------------------------------------------


def test_after_so_many_wrong_passwords_no_other_one_is_looked_at(setup):
    guess(setup, LIMIT)
    assert setup.heard == [b"guess"] * LIMIT
    assert not setup.try_one(ALICE, b"alice-secret")
    assert setup.heard[-1] not in (b"alice-secret", b"guess")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_one_less_lets_the_right_one_in(setup, mechanism):
    guess(setup, LIMIT - 1)
    assert setup.try_one(ALICE, b"alice-secret", mechanism=mechanism)


def test_both_mechanisms_and_any_case_are_one_count(setup):
    for number in range(LIMIT):
        setup.try_one([ALICE, ALICE.upper()][number % 2], b"guess", f"203.0.113.{number}", ["PLAIN", "LOGIN"][number % 2])
    for mechanism in ("PLAIN", "LOGIN"):
        assert not setup.try_one(ALICE.title(), b"alice-secret", mechanism=mechanism)


def test_another_account_is_not_disturbed(setup):
    guess(setup, 3 * LIMIT)
    assert setup.try_one(BOB, b"bob-secret")


def test_what_is_an_hour_old_does_not_count(setup, clock):
    guess(setup, LIMIT - 1)
    clock.now += HOUR - 1
    guess(setup, 1)
    assert not setup.try_one(ALICE, b"alice-secret")
    clock.now += 1
    assert setup.try_one(ALICE, b"alice-secret")


def test_attempts_that_were_refused_do_not_make_it_longer(setup, clock):
    guess(setup, LIMIT)
    for _minute in range(60):
        clock.now += 60
        setup.try_one(ALICE, b"guess")
    # Only the last one was looked at.
    assert setup.heard.count(b"guess") == LIMIT + 1
    assert setup.try_one(ALICE, b"alice-secret")


def test_guesses_at_the_same_time_are_not_more_than_the_limit(setup):
    conversations = [Conversation(setup.guard) for _connection in range(LIMIT + 2)]
    asked = [setup.auth(conversation, ALICE, b"guess", f"203.0.113.{number}")[0] for number, conversation in enumerate(conversations)]
    assert [encoded(b"\0" + ALICE.encode() + b"\0guess") in line for line in asked] == [True] * LIMIT + [False] * 2
    # One that has gone without an answer counts as wrong, unless it was Dovecot that went.
    for conversation in conversations[1:]:
        conversation.ended(by_postfix=True)
    conversations[0].ended(by_postfix=False)
    assert setup.try_one(ALICE, b"alice-secret")
    guess(setup, 1)
    assert not setup.try_one(ALICE, b"alice-secret", "203.0.113.200")


def test_a_failure_for_the_time_being_does_not_count(setup):
    for failure in (b"temp", b"code=temp_fail"):
        for _attempt in range(LIMIT):
            conversation = Conversation(setup.guard)
            setup.auth(conversation, ALICE, b"alice-secret", ELSEWHERE)
            assert conversation.from_dovecot(b"FAIL\t1\tuser=" + ALICE.encode() + b"\t" + failure)[0].startswith(b"FAIL")
    assert setup.try_one(ALICE, b"alice-secret")


def test_a_million_names_take_no_memory_and_free_nobody(setup):
    guess(setup, LIMIT)
    for number in range(2000):
        setup.try_one(f"user{number}@example.com", b"guess", f"203.0.{number % 250}.1")
    assert not setup.try_one(ALICE, b"alice-secret")
    assert len(setup.guard._accounts) == len(PASSWORDS)
    assert not setup.guard._networks


# ---- what nobody can tell --------------------------------------------------------------------------------------------


def test_the_same_password_is_replaced_by_the_same_and_another_by_another(setup):
    guess(setup, LIMIT)
    for password in (b"one", b"one", b"two", b"alice-secret", b"alice-secret\0more"):
        assert not setup.try_one(ALICE, password)
    one, again, two, right, more = setup.heard[LIMIT:]
    assert one == again != two
    # Dovecot ends a password at a null.
    assert right == more
    assert len({one, two, right}) == 3


def test_the_rest_of_the_command_stays_as_it_is(setup):
    guess(setup, LIMIT)
    response = encoded(b"\0Alice@Example.com\0alice-secret")
    line = Conversation(setup.guard).from_postfix(auth(7, response))
    assert line.partition(b"resp=")[0] == auth(7, b"").partition(b"resp=")[0]
    assert base64.b64decode(line.partition(b"resp=")[2]).startswith(b"\0Alice@Example.com\0")


def test_a_password_that_was_refused_is_refused_whatever_dovecot_says(setup):
    guess(setup, LIMIT)
    conversation = Conversation(setup.guard)
    setup.auth(conversation, ALICE, b"", ELSEWHERE)
    assert conversation.from_dovecot(b"OK\t1\tuser=" + ALICE.encode())[0] == b"FAIL\t1\tuser=" + ALICE.encode()


@pytest.mark.parametrize("line", [auth(1, encoded(b"\0alice\0alice-secret")), auth(1, b"c2NyYW0=", mechanism=b"SCRAM-SHA-256"), auth(1, b"!")])
def test_it_is_the_account_that_dovecot_names_that_counts(setup, line):
    """By auth_username_format, or by a mechanism that hides the name."""
    answers = []
    for last in [b"FAIL"] * LIMIT + [b"OK"]:
        conversation = Conversation(setup.guard)
        assert conversation.from_postfix(line) == line
        answers.append(conversation.from_dovecot(last + b"\t1\tuser=" + ALICE.encode()))
    assert answers[-1] == (b"FAIL\t1\tuser=" + ALICE.encode(), _login_guard.FAILURE_DELAY)
    assert not setup.try_one(ALICE, b"alice-secret")


# ---- the networks that an account has logged in from -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("unknown", ""),
        ("", ""),
        ("192.0.2.7\nx", ""),
    ],
)
def test_a_client_moves_about_in_its_network(address, network):
    assert network_of(address) == network


def test_an_owner_goes_on_from_where_the_account_has_logged_in(setup, state, clock):
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    guess(setup, 2 * LIMIT)
    assert setup.try_one(ALICE, b"alice-secret", "192.0.2.99")
    assert not setup.try_one(ALICE, b"alice-secret", "192.0.3.7")
    # A restart does not forget it, nor do two weeks.
    clock.now += 14 * 86400
    later = Setup(state, clock)
    guess(later, LIMIT)
    assert later.try_one(ALICE, b"alice-secret", HOME)
    assert not later.try_one(ALICE, b"alice-secret", ELSEWHERE)
    clock.now += 31 * 86400
    later = Setup(state, clock)
    guess(later, LIMIT)
    assert not later.try_one(ALICE, b"alice-secret", HOME)


def test_a_known_network_has_a_count_of_its_own(setup):
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    assert setup.try_one(ALICE, b"alice-secret", ELSEWHERE)
    for number in range(LIMIT):
        setup.try_one(ALICE, b"guess %d" % number, HOME)
    assert not setup.try_one(ALICE, b"alice-secret", HOME)
    assert setup.try_one(ALICE, b"alice-secret", ELSEWHERE)
    assert setup.try_one(ALICE, b"alice-secret", "203.0.113.1")


def test_a_program_with_an_old_password_does_not_lock_its_network_out(setup):
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    for _minute in range(3 * LIMIT):
        assert not setup.try_one(ALICE, b"old", HOME)
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    assert setup.try_one(ALICE, b"alice-secret", ELSEWHERE)


def test_what_is_remembered_is_bounded(setup, state, clock, monkeypatch):
    monkeypatch.setattr(_login_guard, "NETWORKS", 3)
    monkeypatch.setattr(_login_guard, "COUNTED", 2)
    for number in range(5):
        clock.now += 1
        assert setup.try_one(ALICE, b"alice-secret", f"203.0.{number}.1")
    assert list(json.loads(state.read_text())[ALICE]) == ["203.0.2.0/24", "203.0.3.0/24", "203.0.4.0/24"]
    for number in range(5):
        setup.try_one(ALICE, b"guess", f"203.0.{number}.1")
    assert len(setup.guard._networks) == 2
    # A file with more in it is cut as well.
    state.write_text(json.dumps({ALICE: {f"203.0.{number}.0/24": clock.now - number for number in range(9)}, "gone@example.com": {}}))
    assert len(Known(state, PASSWORDS, clock)._networks[ALICE]) == 3


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"alice@example.com": 1}', b'{"alice@example.com": {"x": 1}}', b'{"alice@example.com": {"192.0.2.0/24": []}}']
)
def test_a_file_that_is_none_is_begun_anew(state, clock, capsys, content):
    state.write_bytes(content)
    setup = Setup(state, clock)
    assert f"{state} cannot be read" in capsys.readouterr().err
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    assert json.loads(state.read_text())[ALICE] == {"192.0.2.0/24": clock.now}


def test_a_time_that_is_none_does_no_harm(state, clock):
    state.write_text('{"alice@example.com": {"192.0.2.0/24": NaN, "198.51.100.0/24": 1e300}}')
    setup = Setup(state, clock)
    assert setup.try_one(ALICE, b"alice-secret", "203.0.113.1")
    assert set(json.loads(state.read_text())[ALICE]) == {"198.51.100.0/24", "203.0.113.0/24"}


def test_a_file_that_cannot_be_written_is_no_obstacle(tmp_path, clock, capsys):
    setup = Setup(tmp_path / "missing" / "networks.json", clock)
    assert setup.try_one(ALICE, b"alice-secret", HOME)
    assert setup.try_one(BOB, b"bob-secret", HOME)
    assert capsys.readouterr().err.count("cannot be written") == 1


# ---- the journal -----------------------------------------------------------------------------------------------------


def test_the_journal_names_account_count_and_addresses_once_an_hour(setup, clock, capsys):
    guess(setup, LIMIT + 20)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"account {ALICE}: 5 wrong passwords within an hour, from 5 addresses (203.0.113.0, 203.0.113.1, 203.0.113.2, 203.0.113.3, 203.0.113.4);"
        " logins of this account are refused, except from networks that it has logged in from before; refused before this line: 0"
    )
    clock.now += HOUR
    guess(setup, LIMIT + 20)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("refused before this line: 20")


def test_the_journal_says_it_when_all_are_answered(setup, capsys):
    conversations = [Conversation(setup.guard) for _connection in range(LIMIT + 1)]
    for number, conversation in enumerate(conversations):
        setup.auth(conversation, ALICE, b"guess", f"203.0.113.{number}")
    for conversation in conversations:
        conversation.from_dovecot(b"FAIL\t1\tuser=" + ALICE.encode())
    (line,) = capsys.readouterr().err.splitlines()
    assert "5 wrong passwords" in line
    assert line.endswith("refused before this line: 1")


def test_a_known_network_is_named(setup, capsys):
    setup.try_one(ALICE, b"alice-secret", HOME)
    for number in range(LIMIT):
        setup.try_one(ALICE, b"guess %d" % number, HOME)
    (line,) = capsys.readouterr().err.splitlines()
    assert "from 1 address (192.0.2.7); logins of this account from 192.0.2.0/24 are refused;" in line


def test_no_client_writes_into_the_journal(setup, capsys):
    for _attempt in range(LIMIT):
        conversation = Conversation(setup.guard)
        conversation.from_postfix(auth(1, encoded(b"\0" + ALICE.encode() + b"\0guess"), "x\naccount bob"))
        conversation.from_dovecot(b"FAIL\t1\tuser=mallory\nbob@example.com")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"account {ALICE}: 5 wrong passwords within an hour, from 1 address ();")


# ---- rubbish ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [b"", b"\t", b"HELO", b"AUTH", b"AUTH\tx\tPLAIN", b"AUTH\t12345678901\tPLAIN", b"CONT\t1\tAA==", b"CONT", b"CANCEL", b"\xff\xfe", b"auth\t1\tPLAIN"]
)
def test_what_is_not_the_protocol_ends_the_connection(setup, line):
    with pytest.raises(Rubbish):
        Conversation(setup.guard).from_postfix(line)


@pytest.mark.parametrize("line", [b"VERSION\t1\t2", b"CPID\t17", b"CANCEL\t3", b"AUTH\t1\tPLAIN", b"AUTH\t1\tLOGIN\tservice=smtp\tresp=", b"AUTH\t1"])
def test_what_is_the_protocol_passes_as_it_is(setup, line):
    conversation = Conversation(setup.guard)
    assert conversation.from_postfix(line).rstrip(b"\t") == line
    for answer in (b"VERSION\t1\t2", b"MECH\tPLAIN\tplaintext", b"DONE", b"CUID\t3", b"", b"OKAY\t1"):
        assert conversation.from_dovecot(answer) == (answer, 0)


def test_attempts_without_end_are_cut_off(setup):
    conversation = Conversation(setup.guard)
    with pytest.raises(Rubbish):
        for number in range(1000):
            conversation.from_postfix(auth(number, None))
    assert len(conversation._exchanges) <= 16
    with pytest.raises(Rubbish):
        conversation.from_postfix(auth(0, None))


@pytest.mark.parametrize("line", [b"OK\t9\tuser=alice@example.com", b"OK", b"FAIL\t9"])
def test_an_answer_to_nothing_ends_the_connection(setup, line):
    with pytest.raises(Rubbish):
        Conversation(setup.guard).from_dovecot(line)


# ---- over sockets ----------------------------------------------------------------------------------------------------


def relay(setup, tmp_path, talk, dovecot=None):
    """Have talk(reader, writer) speak to a guard; dovecot(reader, writer) speaks behind it."""

    async def answer(reader, writer):
        writer.write(b"VERSION\t1\t2\nDONE\n")
        while line := await reader.readline():
            if line.startswith(b"AUTH"):
                right = encoded(b"\0alice@example.com\0alice-secret") in line
                writer.write((b"OK" if right else b"FAIL") + b"\t" + line.split(b"\t")[1] + b"\tuser=alice@example.com\n")
        writer.close()

    async def run():
        behind = await asyncio.start_unix_server(dovecot or answer, tmp_path / "dovecot")
        front = await asyncio.start_unix_server(Service(setup.guard, str(tmp_path / "dovecot")).talk, tmp_path / "guard", limit=_login_guard.LINE)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "guard")
        result = await asyncio.wait_for(talk(reader, writer), 10)
        writer.close()
        front.close()
        behind.close()
        return result

    return asyncio.run(run())


def test_a_conversation_is_relayed(setup, tmp_path):
    async def talk(reader, writer):
        assert await reader.readline() == b"VERSION\t1\t2\n"
        assert await reader.readline() == b"DONE\n"
        answers = []
        for number in range(LIMIT + 1):
            password = b"alice-secret" if number in (0, LIMIT + 1) else b"guess %d" % number
            # In pieces, as they may come.
            line = auth(number, encoded(b"\0alice@example.com\0" + password), f"203.0.{number}.1") + b"\n"
            writer.write(line[:10])
            await writer.drain()
            writer.write(line[10:])
            answers.append((await reader.readline()).split(b"\t")[0])
        writer.write(auth(99, encoded(b"\0alice@example.com\0alice-secret")) + b"\n")
        return [*answers, (await reader.readline()).split(b"\t")[0]]

    assert relay(setup, tmp_path, talk) == [b"OK"] + [b"FAIL"] * (LIMIT + 1)


@pytest.mark.parametrize("sent", [b"x" * 100_000, b"rubbish\n", b"AUTH\t1\tPLAIN\tresp=" + b"A" * 20_000 + b"\n"])
def test_who_sends_rubbish_or_lines_without_end_is_cut_off(setup, tmp_path, capsys, sent):
    async def talk(reader, writer):
        writer.write(sent)
        return await reader.read()

    assert relay(setup, tmp_path, talk) in (b"VERSION\t1\t2\nDONE\n", b"")
    assert "Rubbish" in capsys.readouterr().err


def test_without_dovecot_the_connection_ends(setup, tmp_path):
    async def gone(reader, writer):
        writer.close()

    async def talk(reader, writer):
        return await reader.read()

    assert relay(setup, tmp_path, talk, gone) == b""
    (tmp_path / "dovecot").unlink(missing_ok=True)


def test_connections_have_a_bound(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(_login_guard, "CONNECTIONS", 1)

    async def talk(reader, writer):
        assert await reader.readline()
        second, other = await asyncio.open_unix_connection(tmp_path / "guard")
        assert await second.read() == b""
        other.close()

    relay(setup, tmp_path, talk)


def test_a_connection_waits_for_dovecot(setup, tmp_path):
    async def greet(reader, writer):
        writer.write(b"VERSION\t1\t2\n")
        writer.close()

    async def run():
        front = await asyncio.start_unix_server(Service(setup.guard, str(tmp_path / "dovecot")).talk, tmp_path / "guard")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "guard")
        await asyncio.sleep(0.2)
        behind = await asyncio.start_unix_server(greet, tmp_path / "dovecot")
        answer = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        front.close()
        behind.close()
        return answer

    assert asyncio.run(run()) == b"VERSION\t1\t2\n"


def test_dovecot_is_not_waited_for_without_end(setup, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_login_guard, "CONNECT", 0.2)

    async def run():
        front = await asyncio.start_unix_server(Service(setup.guard, str(tmp_path / "dovecot")).talk, tmp_path / "guard")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "guard")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        front.close()
        return answer

    assert asyncio.run(run()) == b""
    assert "Dovecot is not there: FileNotFoundError" in capsys.readouterr().err


PROGRAM = """
import os, pathlib, signal, socket, sys, threading, time
sys.path.insert(0, {directory!r})
import _login_guard
_login_guard.SETTINGS = pathlib.Path({settings!r})
if sys.argv[1:]:
    os.dup2(int(sys.argv[1]), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
_login_guard.main()
"""


def test_the_socket_stays_while_the_service_is_restarted(tmp_path):
    """As systemd does it: the socket is passed on."""
    path, notified = tmp_path / "guard", tmp_path / "notify"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"limit": 5, "accounts": [ALICE], "socket": str(path), "dovecot": str(tmp_path / "dovecot"), "state": "/nowhere/state"}))
    program = PROGRAM.format(directory=str(pathlib.Path(_login_guard.__file__).parent), settings=str(settings))
    path.write_text("left by another")

    def begin(*arguments, **more):
        return subprocess.Popen([sys.executable, "-B", "-c", program, *arguments], env={"NOTIFY_SOCKET": str(notified)}, **more)

    def end(process):
        process.terminate()
        assert process.wait(10) == 0

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notified))
        manager.settimeout(20)
        first = begin()
        text, (kept,), _flags, _address = socket.recv_fds(manager, 100, 1)
        assert text == b"FDSTORE=1"
        assert manager.recv(100) == b"READY=1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        end(first)
        # Between the two nobody takes it.
        with socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as dovecot:
            waiting.settimeout(20)
            waiting.connect(str(path))
            dovecot.bind(str(tmp_path / "dovecot"))
            dovecot.listen()
            dovecot.settimeout(20)
            second = begin(str(kept), pass_fds=[kept])
            assert manager.recv(100) == b"READY=1"
            with dovecot.accept()[0] as connection:
                connection.sendall(b"DONE\n")
                assert waiting.recv(100) == b"DONE\n"
                end(second)
        assert path.exists()
        os.close(kept)
