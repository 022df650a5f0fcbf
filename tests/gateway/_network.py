# SPDX-License-Identifier: GPL-3.0-or-later
"""The test network, as the tests see it.

``tools/testnet up`` builds it; this module only talks to it, over SSH with ``.work/ssh_config`` (one connection a host,
kept open: a command takes some 20 ms).

Clients
    Hosts that hold SMTP conversations with the gateway: ``STRANGER``, ``WRONG_REVERSE_NAME``, ``NO_REVERSE_NAME``,
    ``TRUSTED`` and each ``newcomer()``. ``client.converse(...)`` takes the arguments of ``plugins/module_utils/_smtp.py`` and returns a
    ``Record``::

        record = STRANGER.converse(recipients=["bob@example.com"], sample="gtube")
        assert record.answer == "554 5.7.0"

Mailboxes
    ``deliveries(text)`` are the messages with that text, a Message-ID for example, in any mailbox of the network once
    all mail has come to rest: those behind the gateway, and those of the outside mail server, where a bounce would
    arrive.

The gateway
    ``gateway()``, ``inside()`` and ``outside()`` are testinfra hosts (fixtures have the same names); ``queue()``,
    ``settle()``, ``cursor()`` and ``journal()`` are about mail that is under way and about what was logged.

Nothing waits for seconds: ``wait_until`` waits for a condition, with a deadline.
"""

from __future__ import annotations

import atexit
import base64
import dataclasses
import email
import email.message
import email.policy
import email.utils
import functools
import json
import random
import shlex
import struct
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import _speakers
import testinfra

CHECKOUT = Path(__file__).resolve().parents[2]
SSH_CONFIG = CHECKOUT / ".work" / "ssh_config"

GATEWAY, INSIDE, OUTSIDE = "mx1.example.com", "mail.inside.example.com", "ns.example.org"
GATEWAY_ADDRESS = "203.0.113.10"  # from outside
GATEWAY_INSIDE_ADDRESS = "198.51.100.10"
ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"
POSTMASTER = ALICE  # gateway_postmaster of the test inventory
UNITS = ("amavis*", "postfix*", "clamav*", "spamassassin*", "unbound*", "postgrey*", "redis*")

# --- Hosts ------------------------------------------------------------------------------------------------------------

_sockets = tempfile.TemporaryDirectory(prefix="antispam-ssh-")


@functools.lru_cache(maxsize=None)
def machine(name):
    """A host of the network, for testinfra."""
    atexit.register(_disconnect, name)
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(SSH_CONFIG), controlpath=f"{_sockets.name}/{name}")


def _disconnect(name):
    subprocess.run([*ssh(name), "-O", "exit"], capture_output=True, check=False)


def gateway():
    return machine(GATEWAY)


def inside():
    return machine(INSIDE)


def outside():
    return machine(OUTSIDE)


def ssh(name):
    return ["ssh", "-F", str(SSH_CONFIG), "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={_sockets.name}/{name}", name]


def start(name, command, data=""):
    """Start a command (a list) on a host with ``data`` as its input, and return the Popen object."""
    process = subprocess.Popen([*ssh(name), shlex.join(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write(data)
    process.stdin.close()
    process.stdin = None  # so that communicate() leaves it alone
    return process


def wait_until(condition, what, seconds=30):
    """Wait until ``condition()`` is true and return its value; ``what`` completes the sentence "gave up waiting for"."""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"gave up waiting for {what() if callable(what) else what} after {seconds} s")
        # A condition is a command on a host, and takes its share of the processor from what is waited for: the longer that takes, the seldomer it is asked.
        time.sleep(min(0.5, max(0.05, waited / 5)))


# --- SMTP conversations -----------------------------------------------------------------------------------------------


class Record(dict):
    """What was said in a conversation: the result of ``converse()`` of _smtp.py, readable as attributes too.

    ``answer`` is the last reply short, such as "550 5.1.1"; ``answers("rcpt")`` are those of one step.
    """

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @staticmethod
    def _short(reply):
        return " ".join(filter(None, [str(reply["code"]), reply["enhanced_code"]]))

    @property
    def answer(self):
        return self._short(self["reply"]) if self["reply"] else None

    @property
    def text(self):
        return self["reply"]["text"] if self["reply"] else ""

    def answers(self, step="script"):
        return [self._short(reply) for reply in self["replies"] if reply["step"] == step]

    def __repr__(self):
        lines = [f"conversation of {self.get('local_address')} with {self.get('peer_address')}, Message-ID {self.get('message_id')}:"]
        for reply in self.get("replies", []):
            lines.append(f"  C: {reply['command'][:100]!r}")
            lines += [f"  S: {line}  ({reply['seconds']} s)" for line in reply["lines"]]
        if "error" in self:
            lines.append(f"  {self['error']}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Client:
    """A host that speaks SMTP to the gateway, with the name, the address and the sender that it uses."""

    on: str
    source_address: str
    helo: str
    sender: str = "sender@example.org"
    host: str = GATEWAY_ADDRESS

    def converse(self, may_break_off=False, **arguments):
        """Hold one conversation and return its Record.

        The arguments are those of converse() in _smtp.py; to alice, if nothing else is said. ``content`` may be a
        message object too, or [text, times] pairs, as may ``send`` in a script. A conversation that cannot be held to
        its end (no connection, no answer) is an error, unless it ``may_break_off``: then the record says why in
        ``error``.
        """
        return self.finish(self.begin(**arguments), may_break_off)

    def begin(self, **arguments):
        """Start a conversation and come back at once; ``finish`` waits for its end."""
        return self._start([arguments])

    def finish(self, begun, may_break_off=False):
        return self._finish(begun, may_break_off)[0]

    def converse_at_once(self, conversations, may_break_off=False):
        """Hold several conversations (a list of dictionaries, each the arguments of one) at the same time."""
        return self._finish(self._start(conversations), may_break_off)

    def _start(self, conversations):
        specs = []
        for arguments in conversations:
            spec = dataclasses.asdict(self)
            del spec["on"]
            spec.update({"recipients": [ALICE], "timeout": 120}, **arguments)
            if "script" in spec:
                spec["recipients"] = []
            if isinstance(spec.get("content"), (bytes, email.message.Message)):
                spec["content"] = bytes(spec["content"]).decode("utf-8")
            specs.append(spec)
        return _speakers.speaker(self.on, ssh(self.on)).hold(specs)

    @staticmethod
    def _finish(begun, may_break_off):
        records = [Record(result) for result in begun.result()]
        for record in records:
            if "error" in record and not may_break_off:
                raise AssertionError(f"{record['error']}\n{record!r}")
        return records


_addresses = {}  # of each subnet, those that no test has used yet


def newcomer(subnet=None, **about):
    """A client with a reverse name that the gateway has not seen before, no two of them with the same address.

    Subnets 1 to 7 of 198.18.0.0/16 stand in lists: those of the zone example.org, and those of the inventory, which has other
    plans for the hosts 1 and 200.
    """
    subnet = random.randint(64, 199) if subnet is None else subnet
    unused = _addresses.setdefault(subnet, random.sample([number for number in range(2, 255) if number != 200], 252))
    return Client(**{"on": OUTSIDE, "source_address": f"198.18.{subnet}.{unused.pop()}", "helo": "client.example.org", **about})


STRANGER = Client(OUTSIDE, "203.0.113.20", "mail.example.org")
WRONG_REVERSE_NAME = Client(OUTSIDE, "203.0.113.21", "mismatch.example.org")
NO_REVERSE_NAME = Client(OUTSIDE, "203.0.113.22", "nameless.example.org")
TRUSTED = Client(INSIDE, "198.51.100.25", "mail.inside.example.com", sender=ALICE, host=GATEWAY_INSIDE_ADDRESS)


def message(text="A message of the tests.\n", attachments=(), headers=None, sender="sender@example.org", recipients=(ALICE,)):
    """A well-formed message with an own Message-ID; an attachment is (file name, content)."""
    built = email.message.EmailMessage(policy=email.policy.SMTP)
    built["Date"] = email.utils.formatdate()
    built["Message-ID"] = f"<{uuid.uuid4()}@example.org>"
    built["From"] = sender
    built["To"] = ", ".join(recipients)
    built["Subject"] = "Test"
    built.set_content(text)
    for name, content in attachments:
        built.add_attachment(content, "application", "octet-stream", filename=name)
    for name, value in (headers or {}).items():
        del built[name]
        built[name] = value
    return built


# zip -X -P secret secret.zip notes.txt
ENCRYPTED_ZIP = base64.b64decode(
    "UEsDBAoACQAAAAAAIVyumvJSFgAAAAoAAAAJAAAAbm90ZXMudHh0E3ONmggE6yGSnCuOfSbSWj2xyrCQLVBLBwiumvJSFgAAAAoAAABQSwECHgMK"
    "AAkAAAAAACFcrpryUhYAAAAKAAAACQAAAAAAAAABAAAApIEAAAAAbm90ZXMudHh0UEsFBgAAAAABAAEANwAAAE0AAAAAAA=="
)


# --- Mailboxes --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Delivery:
    """A message in a mailbox: ``mailbox`` is an address; where all addresses of a domain are one mailbox, as those of
    staff.example.com and of the outside domains in molecule/shared/README.md are, all@."""

    mailbox: str
    message: email.message.EmailMessage


def windows_program():
    """The head of one: what file(1) goes by."""
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    pe = b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, 224, 0x102)
    optional = struct.pack("<H", 0x10B).ljust(40, b"\0") + struct.pack("<HHHHHH", 4, 0, 0, 0, 4, 0)
    return (dos + pe + optional.ljust(68, b"\0") + struct.pack("<H", 2)).ljust(1024, b"\0")


def deliveries(text, settled=True):
    """Every message of every mailbox, on both mail servers, that has the text in it; waits for mail under way first."""
    if settled:
        settle()
    return [delivery for server in (inside(), outside()) for delivery in _deliveries_on(server, text)]


def _deliveries_on(server, text):
    found = server.run("cd /srv/mail && grep --recursive --files-with-matches --fixed-strings --no-messages --regexp=%s .", text)
    result = []
    for path in found.stdout.splitlines():
        _dot, domain, user = path.split("/")[:3]
        content = server.run("cat /srv/mail/%s", path).stdout_bytes
        result.append(Delivery(f"{user}@{domain}", email.message_from_bytes(content, policy=email.policy.default)))
    return result


def mailboxes(text):
    """The mailboxes that a message arrived in, one entry an arrival, sorted: ``["alice@example.com"]`` is "once"."""
    return sorted(delivery.mailbox for delivery in deliveries(text))


def empty_mailboxes():
    for server in (inside(), outside()):
        server.check_output("find /srv/mail -type f -path '*/new/*' -delete")


# --- Mail under way, and the journal ----------------------------------------------------------------------------------


def queue(host):
    """The messages in a host's mail queue."""
    return [json.loads(line) for line in host.check_output("postqueue -j").splitlines()]


def settle(seconds=30):
    """Wait until no host has mail in its queue: what will arrive has arrived then, and bounces too."""

    def under_way():
        return next((entries for host in (gateway(), inside(), outside()) if (entries := queue(host))), [])

    wait_until(lambda: not under_way(), lambda: f"the queues to become empty, which hold {under_way()}", seconds)


def cursor():
    """A place in the gateway's journal: now."""
    return gateway().check_output("journalctl --quiet --lines=0 --show-cursor").strip().removeprefix("-- cursor: ")


def journal(since, *options, units=UNITS):
    """The lines that the services of the mail path have logged since a cursor; more options as journalctl has them."""
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=short-iso-precise",
        f"--after-cursor={since}",
        *[f"--unit={unit}" for unit in units],
        *options,
    ]
    return gateway().run(shlex.join(command)).stdout


def wait_for_journal(since, text, seconds=30):
    """Wait until a line with the text (no pattern) has been logged since the cursor, and return these lines."""

    def lines():
        return [line for line in journal(since).splitlines() if text in line]

    return wait_until(lines, f"a line with {text!r} in the gateway's journal", seconds)


def postconf(*names):
    """The values of Postfix parameters on the gateway, as ``postconf -hx`` says them."""
    values = gateway().check_output(shlex.join(["postconf", "-hx", *names])).split("\n")
    return values[0] if len(names) == 1 else values


def debian():
    """Major version of Debian on the gateway."""
    return int(gateway().system_info.release.split(".")[0])
