# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to break the gateway, each put right again when its ``with`` block ends, also after a failure."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from _network import GATEWAY, gateway, start, wait_until

FILES = Path(__file__).resolve().parent / "files"
AMAVIS, CLAMD, FRONT, BACK = "127.0.0.1:10024", "/run/clamav/clamd.ctl", "127.0.0.1:25", "127.0.0.1:10025"
CLAMD_UNITS = ("clamav-daemon.socket", "clamav-daemon.service")

_PROBE = """
import socket, sys
address, text, expected = sys.argv[1:]
if address.startswith("/"):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
else:
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), 5)
connection.settimeout(5)
connection.sendall(text.encode())
sys.exit(not connection.recv(100).decode().startswith(expected))
"""


def answers(address):
    """Whether the service at an address of the gateway does its work."""
    text, expected = ("nPING\n", "PONG") if address == CLAMD else ("", "220 ")
    return gateway().run("python3 -c %s %s %s %s", _PROBE, address, text, expected).rc == 0


def wait_for_answer(*addresses, seconds=60):
    for address in addresses:
        wait_until(lambda address=address: answers(address), f"an answer of {address}", seconds)


def write(path, text, name=GATEWAY):
    """Write a file on a host, the gateway if nothing else is said."""
    process = start(name, ["sh", "-c", f"cat >{shlex.quote(path)}"], text)
    _out, err = process.communicate()
    assert process.returncode == 0, err


@contextlib.contextmanager
def stopped(*units):
    """systemd units that are not running."""
    host = gateway()
    host.check_output(f"systemctl stop {' '.join(units)}")
    try:
        yield
    finally:
        host.check_output(f"systemctl start {' '.join(units)}")
        wait_for_answer(CLAMD, AMAVIS, FRONT, BACK)


@contextlib.contextmanager
def clamd_stopped():
    """Its socket too: systemd would start clamd again when somebody connects."""
    with stopped(*CLAMD_UNITS):
        yield


@contextlib.contextmanager
def clamd_hanging():
    """clamd takes connections and never answers."""
    host = gateway()
    pid = main_process("clamav-daemon")
    host.check_output(f"kill -STOP {pid}")
    try:
        yield pid
    finally:
        host.run(f"kill -CONT {pid}")
        wait_for_answer(CLAMD)


@contextlib.contextmanager
def added(*paths):
    """Files of tests/gateway/files that lie in the gateway's configuration for a while, and amavis has read them."""
    try:
        for path in paths:
            write(f"/{path}", (FILES / path).read_text(encoding="utf-8"))
        reload_amavis()
        yield
    finally:
        gateway().check_output("rm -f " + " ".join(f"/{path}" for path in paths))
        reload_amavis()


@contextlib.contextmanager
def kept(*paths):
    """Files or directories of the gateway that are put back as they were."""
    host = gateway()
    copy = host.check_output("mktemp --directory")
    host.check_output(f"tar --create --file={copy}/kept.tar --absolute-names {' '.join(paths)}")
    try:
        yield
    finally:
        host.check_output(f"tar --extract --file={copy}/kept.tar --absolute-names && rm -r {copy}")


def main_process(unit):
    return int(gateway().check_output(f"systemctl show --property=MainPID --value {unit}"))


def workers():
    """Process ids of amavis's workers."""
    return set(gateway().run("pgrep --parent $(systemctl show --property=MainPID --value amavis)").stdout.split())


def reload_amavis():
    """Reload amavis and wait until every worker is a new one."""
    before = workers()
    gateway().check_output("systemctl reload-or-restart amavis")
    wait_until(lambda: (now := workers()) and not now & before, "new workers of amavis", seconds=60)
    wait_for_answer(AMAVIS)
