# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a service whether it is there, by its port or its socket.

Private to antispam.gateway.
"""

from __future__ import annotations

import socket
from typing import TypedDict


class Probe(TypedDict):
    """What is sent to a service, and how its answer begins."""

    address: str  # host:port, or the path of a UNIX socket
    send: str
    expect: str


def connect(address: str) -> socket.socket:
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(address)
        return connection
    host, port = host_and_port(address)
    return socket.create_connection((host, port), timeout=5)


def host_and_port(address: str) -> tuple[str, int]:
    """Return both parts of an address such as [::1]:25, or raise ValueError."""
    host, _colon, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"wait_for: '{address}' is neither host:port nor the path of a socket")
    return host.strip("[]"), int(port)


def unanswered(probe: Probe, left: float) -> str:
    """Return '' if the service gives the expected answer; an open port alone may still be systemd's."""
    answer = b""
    expected = probe["expect"].encode()
    try:
        with connect(probe["address"]) as connection:
            connection.settimeout(left)
            connection.sendall(probe["send"].encode())
            while len(answer) < len(expected):
                received = connection.recv(512)
                if not received:
                    break
                answer += received
    except OSError as error:
        return f"{probe['address']} does not answer ({error})"
    if answer.startswith(expected):
        return ""
    return f"{probe['address']} answers {answer.decode('ascii', 'replace').strip()!r} in place of {probe['expect'].strip()!r}"
