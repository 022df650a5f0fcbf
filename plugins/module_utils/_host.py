# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway host is like before anything on it is changed.

Private to antispam.gateway. Only reads.
"""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterable

CONNECT_TIMEOUT = 3
_LISTEN = "0A"
# 127.0.0.1, 0.0.0.0, ::1, :: and the first two mapped to IPv6, as proc_net(5) writes them, in either byte order.
_LOOPBACK = (
    *("0100007F", "7F000001", "00000000"),
    *("0" * 24 + "01000000", "0" * 31 + "1", "0" * 32),
    *("0" * 16 + mapped + address for mapped in ("FFFF0000", "0000FFFF") for address in ("0100007F", "7F000001", "00000000")),
)
UNKNOWN = "an unknown process"


def os_release(path: str = "/etc/os-release") -> tuple[str, str]:
    """Return (id, version) such as ('debian', '13')."""
    facts = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            facts[name] = value.strip("\"'")
    return facts.get("ID", ""), facts.get("VERSION_ID", "")


def cpus() -> int:
    """Return how many CPUs this host may use."""
    return len(os.sched_getaffinity(0))


def memory_mib() -> int:
    """Return the memory of the host, or of the control group that bounds it, in MiB."""
    line = next(line for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if line.startswith("MemTotal:"))
    total = int(line.split()[1]) // 1024
    try:
        bound = int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return total
    return min(total, bound // (1024 * 1024))


def installed(status: str = "/var/lib/dpkg/status") -> list[str]:
    """Return the names of the packages that dpkg(1) has installed."""
    found = []
    name = ""
    try:
        with open(status, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("Package: "):
                    name = line[9:].strip()
                elif line.startswith("Status: ") and line.endswith(" installed\n"):
                    found.append(name)
    except FileNotFoundError:
        pass
    return found


def listeners(port: int, loopback_only: bool = False) -> set[str]:
    """Return the names of the processes that listen on a TCP port; {UNKNOWN} where /proc does not tell.

    With loopback_only, those that would be in the way of a listener on 127.0.0.1 or ::1.
    """
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = pathlib.Path(table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            fields = row.split()
            address, _colon, number = fields[1].rpartition(":")
            if fields[3] == _LISTEN and int(number, 16) == port and (not loopback_only or address in _LOOPBACK):
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return set()
    names = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            for link in (process / "fd").iterdir():
                if _target(link) in inodes:
                    names.add((process / "comm").read_text(encoding="utf-8", errors="replace").strip())
                    break
        except OSError:
            continue
    return names or {UNKNOWN}


def resolv_conf(path: str = "/etc/resolv.conf") -> list[str]:
    """Return the addresses of resolv.conf(5)."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]


def running(names: Iterable[str]) -> list[str]:
    """Return which of the process names are those of a running process."""
    found = set()
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            found.add(comm.read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            continue
    return [name for name in names if name in found]


def _target(link: pathlib.Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def is_own(address: str) -> bool:
    """Return whether an IP address is one of this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def reach(host: str, port: int) -> tuple[str, str, set[str]]:
    """Return (problem, warning, addresses) of a next hop: does it resolve, and does it answer."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"{host} does not resolve on this host ({error.args[-1]})", "", set()
    addresses = {str(entry[4][0]) for entry in found}
    last: OSError | None = None
    for family, kind, protocol, _name, target in found:
        try:
            # A host without IPv6 has no such socket.
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(CONNECT_TIMEOUT)
                connection.connect(target)
                return "", "", addresses
        except OSError as error:
            last = error
    return "", f"{host} port {port} does not answer ({last}); mail for it waits in the queue until it does", addresses
