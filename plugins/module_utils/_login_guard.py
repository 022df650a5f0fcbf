# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-login-guard: bounds how many passwords of one account are tried in an hour, however many addresses try them.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-login-guard; the role login_guard runs it,
so nothing but the standard library is imported here.

It stands between Postfix (smtpd_sasl_path) and Dovecot, and relays Dovecot's authentication protocol. Once an account has
had as many wrong passwords as the site allows in an hour, the password of a further attempt is replaced by a wrong one
before Dovecot sees it. So the answer, and the time that it takes, are those of any wrong password. Networks from which the
account has logged in before have a count of their own, so that whoever guesses elsewhere does not lock its owner out.

Names that are no account are passed on and not counted: Dovecot refuses them anyway, and they take no memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import collections
import contextlib
import hashlib
import hmac
import ipaddress
import itertools
import json
import os
import pathlib
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

SETTINGS = pathlib.Path("/etc/gateway-login-guard.json")
HOUR, DAY = 3600, 86400
# How long a network is known after the last login, and how many each account has at most.
KEPT, NETWORKS = 30 * DAY, 32
# How many known networks have a count at a time.
COUNTED = 10_000
# Dovecot takes lines of 8192 bytes from its clients. An smtpd(8) process has one connection, and one attempt at a time.
LINE, CONNECTIONS, AT_ONCE, WAITING = 16_384, 2000, 16, 512
# Seconds for which Dovecot holds an answer back (auth_failure_delay), for which it may be out of reach, as when it is restarted (Postfix waits for 10), and
# for which attempts under way are waited for in the end.
FAILURE_DELAY, CONNECT, LINGER = 2.0, 8.0, 3.0
# How many addresses the journal names.
SHOWN = 20


class Rubbish(Exception):
    """What was read is not the protocol."""


def network_of(address: str) -> str:
    """Return the network that a client may move about in, '' where there is no address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))


def log(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Known:
    """The networks that accounts have logged in from, in a file."""

    def __init__(self, path: pathlib.Path, accounts: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._writable = True
        self._networks: dict[str, dict[str, float]] = {account: {} for account in accounts}
        try:
            self._read(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # Who logs in from now on is known again.
            log(f"{path} cannot be read, so that no network is known: {error}")

    def _read(self, content: dict[str, dict[str, float]]) -> None:
        now = self._clock()
        for account, networks in content.items():
            if account not in self._networks:
                continue
            for network, seen in sorted(networks.items(), key=lambda item: float(item[1]))[-NETWORKS:]:
                ipaddress.ip_network(network)
                self._networks[account][network] = min(float(seen), now)

    def has(self, account: str, network: str) -> bool:
        return self._networks.get(account, {}).get(network, -KEPT) + KEPT > self._clock()

    def add(self, account: str, network: str) -> None:
        """Note a login."""
        now, networks = self._clock(), self._networks.get(account)
        if networks is None or not network:
            return
        # The file need not be written for each of many logins in a day.
        if self.has(account, network) and networks[network] + DAY > now:
            return
        networks[network] = now
        for old in sorted(networks, key=lambda name: networks[name])[:-NETWORKS]:
            del networks[old]
        self._write()

    def _write(self) -> None:
        oldest = self._clock() - KEPT
        content = {account: {network: round(seen) for network, seen in networks.items() if seen > oldest} for account, networks in self._networks.items()}
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(content), encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            if self._writable:
                log(f"{self._path} cannot be written, so that networks are forgotten when this service ends: {error}")
            self._writable = False
        else:
            self._writable = True


class Tally:
    """Wrong passwords of an account within an hour: those of its known networks each, or of all others together."""

    def __init__(self, known_network: str) -> None:
        self.known_network = known_network
        # {what tells a wrong password from others: (when, address)}, oldest first. As many as the limit at most.
        self.wrong: collections.OrderedDict[bytes | int, tuple[float, str]] = collections.OrderedDict()
        # Attempts that Dovecot has not answered yet. Each may turn out wrong.
        self.under_way = 0
        self.refused = 0
        self.logged = -float(HOUR)

    def count(self, now: float) -> int:
        while self.wrong and next(iter(self.wrong.values()))[0] <= now - HOUR:
            self.wrong.popitem(last=False)
        return len(self.wrong)


class Attempt:
    """One password that somebody tries."""

    def __init__(self, account: str = "", tally: Tally | None = None, mark: bytes | int = 0, address: str = "") -> None:
        self.account, self.tally, self.mark, self.address = account, tally, mark, address
        # Whether it is under way, and whether it is not to succeed.
        self.counts = self.refused = False


class Guard:
    """Who may try a password."""

    def __init__(self, limit: int, accounts: Iterable[str], known: Known, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._known, self._clock = limit, known, clock
        self._accounts = {account: Tally("") for account in accounts}
        self._networks: collections.OrderedDict[tuple[str, str], Tally] = collections.OrderedDict()
        self._key = secrets.token_bytes(32)
        self._serial = itertools.count()

    def _tally(self, account: str, address: str) -> Tally | None:
        network = network_of(address)
        if account not in self._accounts or not self._known.has(account, network):
            return self._accounts.get(account)
        tally = self._networks.setdefault((account, network), Tally(network))
        self._networks.move_to_end((account, network))
        if len(self._networks) > COUNTED:
            self._networks.popitem(last=False)
        return tally

    def wrong_one(self, account: str, password: bytes) -> bytes:
        """Return a password that is wrong, the same for the same: Dovecot has another one wait longer."""
        return hmac.new(self._key, account.encode() + b"\0" + password, hashlib.sha256).hexdigest().encode("ascii")

    def begin(self, account: str, address: str, password: bytes) -> Attempt:
        """Somebody tries a password. end(), or login(), follows."""
        tally = self._tally(account, address)
        if tally is None:
            return Attempt(account)
        # At home, a program that goes on with an old password is not guessing.
        mark: bytes | int = self.wrong_one(account, password)[:16] if tally.known_network else next(self._serial)
        attempt = Attempt(account, tally, mark, address)
        if mark in tally.wrong:
            return attempt
        if self._is_full(tally):
            attempt.refused = True
            tally.refused += 1
            self._log(account, tally)
        else:
            attempt.counts = True
            tally.under_way += 1
        return attempt

    def _is_full(self, tally: Tally) -> bool:
        return tally.count(self._clock()) + tally.under_way >= self._limit

    def end(self, attempt: Attempt, wrong: bool) -> None:
        """Dovecot has answered, or nobody waits for its answer any more."""
        if attempt.tally and attempt.counts:
            attempt.counts = False
            attempt.tally.under_way -= 1
            if wrong:
                self._count(attempt.account, attempt.tally, attempt.mark, attempt.address)

    def count(self, account: str, address: str) -> None:
        """Count a wrong password that begin() was not asked about."""
        if tally := self._tally(account, address):
            self._count(account, tally, next(self._serial), address)

    def _count(self, account: str, tally: Tally, mark: bytes | int, address: str) -> None:
        now = self._clock()
        tally.wrong[mark] = (now, address)
        tally.wrong.move_to_end(mark)
        while len(tally.wrong) > self._limit:
            tally.wrong.popitem(last=False)
        self._log(account, tally)

    def login(self, attempt: Attempt, account: str, address: str) -> bool:
        """The password was right. Return whether it counts. account: whose it was, as Dovecot says."""
        self.end(attempt, wrong=False)
        if attempt.refused:
            return False
        tally = None if account == attempt.account else self._tally(account, address)
        if tally and self._is_full(tally):
            tally.refused += 1
            self._log(account, tally)
            return False
        self._known.add(account, network_of(address))
        return True

    def _log(self, account: str, tally: Tally) -> None:
        """Say it once an hour."""
        now = self._clock()
        # Until Dovecot has answered those under way, they are no wrong passwords.
        if tally.logged + HOUR > now or tally.count(now) < self._limit:
            return
        tally.logged = now
        addresses = list(dict.fromkeys(address for _when, address in tally.wrong.values()))
        number = "1 address" if len(addresses) == 1 else f"{len(addresses)} addresses"
        more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
        if tally.known_network:
            what = f"logins of this account from {tally.known_network} are refused"
        else:
            what = "logins of this account are refused, except from networks that it has logged in from before"
        log(
            f"account {account}: {tally.count(now)} wrong passwords within an hour, from {number} ({', '.join(addresses[:SHOWN])}{more});"
            f" {what}; refused before this line: {tally.refused}"
        )
        tally.refused = 0


class Exchange:
    """An AUTH command and what follows it."""

    def __init__(self, mechanism: bytes, address: str) -> None:
        self.mechanism, self.address = mechanism, address
        # What LOGIN has said first.
        self.name: bytes | None = None
        self.attempt: Attempt | None = None


class Conversation:
    """What one connection of Postfix's and Dovecot say to each other."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._exchanges: dict[bytes, Exchange] = {}
        self._greeted = False

    def from_postfix(self, line: bytes) -> bytes:
        """Return the line that Dovecot gets."""
        command, _tab, rest = line.partition(b"\t")
        if command in (b"VERSION", b"CPID"):
            return line
        number, tab, rest = rest.partition(b"\t")
        if not number.isdigit() or len(number) > 10:
            raise Rubbish(f"{command[:10]!r} without a number")
        if command == b"AUTH":
            return self._auth(number, rest)
        if command == b"CONT" and number in self._exchanges:
            return b"\t".join([command, number]) + tab + self._said(self._exchanges[number], rest)
        if command == b"CANCEL":
            self._close(self._exchanges.pop(number, None))
            return line
        raise Rubbish(f"{command[:10]!r} out of turn")

    def _auth(self, number: bytes, rest: bytes) -> bytes:
        if number in self._exchanges or len(self._exchanges) >= AT_ONCE:
            raise Rubbish("too many attempts at once")
        # resp comes last, and whatever is in it belongs to it.
        head, found, response = rest.partition(b"\tresp=")
        mechanism, *parameters = head.split(b"\t")
        address = next((value[4:] for value in parameters if value.startswith(b"rip=")), b"").decode("ascii", "replace")
        # It is written into the journal.
        exchange = Exchange(mechanism.upper(), address if network_of(address) else "")
        self._exchanges[number] = exchange
        if response:
            response = self._said(exchange, response)
        return b"\t".join([b"AUTH", number, head]) + found + response

    def _said(self, exchange: Exchange, encoded: bytes) -> bytes:
        """Return what Dovecot gets for something that the client has said, in base64."""
        if exchange.attempt or exchange.mechanism not in (b"PLAIN", b"LOGIN"):
            return encoded
        try:
            said = base64.b64decode(encoded)
        except binascii.Error:
            return encoded
        if exchange.mechanism == b"LOGIN":
            if exchange.name is None:
                exchange.name = said
                return encoded
            head, name, password = b"", exchange.name, said
        else:
            # RFC 4616. Dovecot ends the password at a third null.
            authorised, null, rest = said.partition(b"\0")
            name, another, password = rest.partition(b"\0")
            if not (null and another):
                return encoded
            head = authorised + null + name + another
        # auth_username_format
        account = name.lower().decode("utf-8", "replace")
        password = password.partition(b"\0")[0]
        exchange.attempt = self._guard.begin(account, exchange.address, password)
        if not exchange.attempt.refused or not password:
            return encoded
        return base64.b64encode(head + self._guard.wrong_one(account, password))

    def from_dovecot(self, line: bytes) -> tuple[bytes, float]:
        """Return the line that Postfix gets, and how many seconds later."""
        command, *fields = line.split(b"\t")
        if command not in (b"OK", b"FAIL"):
            self._greeted |= command == b"DONE"
            return line, 0.0
        number = fields[0] if fields else b""
        if (exchange := self._exchanges.pop(number, None)) is None:
            raise Rubbish(f"{command!r} of Dovecot out of turn")
        attempt = exchange.attempt or Attempt()
        given = next((field[5:] for field in fields if field.startswith(b"user=")), b"")
        account = given.decode("utf-8", "replace") or attempt.account
        if command == b"OK":
            if self._guard.login(attempt, account, exchange.address):
                return line, 0.0
            return b"\t".join([b"FAIL", number, b"user=" + given]), FAILURE_DELAY
        temporary = b"temp" in fields or b"code=temp_fail" in fields
        self._guard.end(attempt, wrong=not temporary)
        # With other settings of Dovecot's, several names may lead to one account.
        if account != attempt.account and not temporary:
            self._guard.count(account, exchange.address)
        return line, 0.0

    def _close(self, exchange: Exchange | None, wrong: bool = True) -> None:
        if exchange and exchange.attempt:
            self._guard.end(exchange.attempt, wrong)

    @property
    def busy(self) -> bool:
        """Whether Postfix waits for something."""
        return not self._greeted or bool(self._exchanges)

    def ended(self, by_postfix: bool) -> None:
        """The connection has ended. Postfix does not wait for long, and a client may go: that is no way to guess for nothing."""
        while self._exchanges:
            self._close(self._exchanges.popitem()[1], wrong=by_postfix)


class Service:
    """Takes connections of Postfix's, and makes one to Dovecot for each."""

    def __init__(self, guard: Guard, dovecot: str) -> None:
        self._guard, self._dovecot = guard, dovecot
        self._conversations: set[Conversation] = set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(self._guard)
        self._conversations.add(conversation)
        try:
            if len(self._conversations) <= CONNECTIONS:
                await self._relay(conversation, reader, writer)
        except OSError as error:
            log(f"a connection ended, since Dovecot is not there: {type(error).__name__} {error}")
        finally:
            self._conversations.discard(conversation)
            writer.close()

    async def finish(self) -> None:
        """Wait for what is under way, for a moment."""
        deadline = time.monotonic() + LINGER
        while True:
            # A connection that was taken just now is among them after that.
            await asyncio.sleep(0.1)
            if not any(conversation.busy for conversation in self._conversations) or time.monotonic() > deadline:
                return

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An smtpd(8) process that finds no Dovecot when it begins gives up, and master(8) starts no other one for a minute: so wait for it."""
        deadline = time.monotonic() + CONNECT
        while True:
            try:
                return await asyncio.wait_for(asyncio.open_unix_connection(self._dovecot, limit=LINE), CONNECT)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _relay(self, conversation: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dovecot = await self._connect()

        async def there() -> None:
            while (line := await _line(reader)) is not None:
                dovecot[1].write(conversation.from_postfix(line) + b"\n")
                await dovecot[1].drain()

        async def back() -> None:
            while (line := await _line(dovecot[0])) is not None:
                answer, wait = conversation.from_dovecot(line)
                await asyncio.sleep(wait)
                writer.write(answer + b"\n")
                await writer.drain()

        ways = [asyncio.create_task(there()), asyncio.create_task(back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                if way.done() and (error := way.exception()):
                    log(f"a connection was cut off: {type(error).__name__} {error}")
        finally:
            conversation.ended(by_postfix=ways[0].done())
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            dovecot[1].close()


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line without its end, None where there is none; raise Rubbish for one that is too long."""
    try:
        return (await reader.readuntil(b"\n"))[:-1]
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise Rubbish("a line is too long") from error


def listener(path: pathlib.Path) -> tuple[socket.socket, bool]:
    """Return the socket that Postfix connects to, and whether it is the one from before a restart, which systemd has kept (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        kept = socket.socket(fileno=3)
        if kept.getsockname() == str(path) and path.exists():
            return kept, True
        kept.close()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    made.bind(str(path))
    os.umask(before)
    made.listen(WAITING)
    return made, False


def ready(keep: list[socket.socket]) -> None:
    """Tell systemd that the socket is there, and let it keep it (sd_notify(3)): then connections wait while this service is restarted."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.connect("\0" + address[1:] if address.startswith("@") else address)
            for kept in keep:
                socket.send_fds(notified, [b"FDSTORE=1"], [kept.fileno()])
            notified.sendall(b"READY=1")


async def serve(service: Service, path: pathlib.Path) -> None:
    listening, kept = listener(path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_unix_server(service.talk, sock=listening, limit=LINE, backlog=WAITING)
    ready([] if kept else [listening])
    await stop.wait()
    # Closing the server would remove the socket (asyncio of Python 3.13), and wait for connections that smtpd(8) processes keep (3.12).
    loop.remove_reader(server.sockets[0].fileno())
    await service.finish()


def main() -> None:
    settings: dict[str, Any] = json.loads(SETTINGS.read_text(encoding="utf-8"))
    accounts = [name.lower() for name in settings["accounts"]]
    os.umask(0o077)
    guard = Guard(settings["limit"], accounts, Known(pathlib.Path(settings["state"]), accounts))
    asyncio.run(serve(Service(guard, settings["dovecot"]), pathlib.Path(settings["socket"])))


if __name__ == "__main__":
    main()
