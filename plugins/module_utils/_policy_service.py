# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-policy-service: keeps recipients of different policies out of one transaction (SMTPD_POLICY_README).

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-policy-service; the role policy_service runs it,
so nothing but the standard library is imported here.

Postfix asks twice about each RCPT. With policy_context=class it asks about a recipient that nothing else refuses: the
first one decides which policy the transaction has, and one with another policy gets 452 4.5.3, so that its client sends
it in a transaction of its own. With policy_context=guard it asks before anything else. To Postfix each 452 is an error of
the client, and it hangs up after a few of them, so where there are several policies it leaves this to the guard: an error
is a RCPT that did not get as far as the question about its policy.
"""

from __future__ import annotations

import asyncio
import collections
import json
import pathlib
import signal
import sys
import time
from typing import Any, NamedTuple

SETTINGS = pathlib.Path("/etc/gateway-policy-service.json")
DUNNO = "DUNNO"
OTHER_POLICY = "452 4.5.3 This recipient has another policy, please send to it in a transaction of its own"
TOO_MANY_ERRORS = "421 4.7.0 Error: too many errors"
# How many errors cost a client time, how many cost it the connection, and how many under stress (postconf(5): smtpd_soft_error_limit,
# smtpd_hard_error_limit, and STRESS_README); seconds for which it then waits.
SOFT, HARD, HARD_UNDER_STRESS, WAIT = 3, 10, 1, 2.0
# Seconds after which a conversation is forgotten, and how many are known at most.
KEPT, MOST = 3600, 100_000


class Conversation:
    """What is known of one connection of a client."""

    def __init__(self) -> None:
        self.asked = self.passed = 0
        self.seen = time.monotonic()


class Answer(NamedTuple):
    action: str
    wait: float = 0.0


class Policies:
    """Which policy each recipient has, and which each transaction."""

    def __init__(self, members: dict[str, str], everywhere: list[str]) -> None:
        """members: {address or domain, in lower case: name of its policy}; everywhere: local parts that go with every policy."""
        self._members = members
        self._everywhere = frozenset(everywhere)
        self._transactions: collections.OrderedDict[str, tuple[str, float]] = collections.OrderedDict()
        self._conversations: collections.OrderedDict[tuple[str, str], Conversation] = collections.OrderedDict()

    def policy_of(self, recipient: str) -> str | None:
        """Return the name of a recipient's policy, '' for the site's own, None where it goes with every one."""
        address = recipient.lower()
        local, _at, domain = address.rpartition("@")
        if local in self._everywhere:
            return None
        return self._members.get(address, self._members.get(domain, ""))

    def answer(self, request: dict[str, str]) -> Answer:
        """Return what Postfix is to do about a recipient."""
        if request.get("protocol_state") != "RCPT":
            return Answer(DUNNO)
        conversation = self._conversation(request)
        if request.get("policy_context") == "guard":
            return self._guarded(conversation, bool(request.get("stress")))
        conversation.passed += 1
        policy = self.policy_of(request.get("recipient", ""))
        # A report of delivery (RFC 5321 section 4.5.5) is for one person, and nobody is there to come back with it.
        if policy is None or not request.get("sender"):
            return Answer(DUNNO)
        first, _since = self._transactions.setdefault(request.get("instance", ""), (policy, time.monotonic()))
        self._forget_old()
        return Answer(DUNNO if first == policy else OTHER_POLICY)

    def _conversation(self, request: dict[str, str]) -> Conversation:
        key = (request.get("client_address", ""), request.get("client_port", ""))
        conversation = self._conversations.setdefault(key, Conversation())
        conversation.seen = time.monotonic()
        self._conversations.move_to_end(key)
        return conversation

    @staticmethod
    def _guarded(conversation: Conversation, stress: bool) -> Answer:
        errors = conversation.asked - conversation.passed
        conversation.asked += 1
        if errors >= (HARD_UNDER_STRESS if stress else HARD):
            return Answer(TOO_MANY_ERRORS)
        return Answer(DUNNO, WAIT if errors >= SOFT else 0.0)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - KEPT
        while self._transactions and (len(self._transactions) > MOST or next(iter(self._transactions.values()))[1] < oldest):
            self._transactions.popitem(last=False)
        while self._conversations and (len(self._conversations) > MOST or next(iter(self._conversations.values())).seen < oldest):
            self._conversations.popitem(last=False)


async def serve(policies: Policies, host: str, port: int) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: dict[str, str] = {}
        try:
            while line := await reader.readline():
                text = line.decode("utf-8", "surrogateescape").rstrip("\n")
                if text:
                    name, _equals, value = text.partition("=")
                    request[name] = value
                    continue
                answer = policies.answer(request)
                request = {}
                if answer.wait:
                    await asyncio.sleep(answer.wait)
                writer.write(f"action={answer.action}\n\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.LimitOverrunError, ValueError) as error:
            sys.stderr.write(f"a connection of Postfix ended: {error}\n")
        finally:
            writer.close()

    server = await asyncio.start_server(talk, host, port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    # Postfix keeps its connections open: since Python 3.12 the end of "async with server" would wait for them, and Postfix for the next service.
    server.close()


def main() -> None:
    settings: dict[str, Any] = json.loads(SETTINGS.read_text(encoding="utf-8"))
    asyncio.run(serve(Policies(settings["members"], settings["everywhere"]), settings["host"], settings["port"]))


if __name__ == "__main__":
    main()
