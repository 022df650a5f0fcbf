# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import pathlib
import socket
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _host


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose files are those below a directory; the fixture writes them."""
    monkeypatch.setattr(_host, "pathlib", types.SimpleNamespace(Path=lambda path: tmp_path / str(path).lstrip("/")))

    def write(path, text):
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    write.root = tmp_path
    return write


# ---- what the host is --------------------------------------------------------------------------------------------


def test_os_release_is_read_with_and_without_quotes(host):
    host("/etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n# VERSION_ID="1"\n\nVERSION_ID="13"\nID=debian\nID_LIKE=\'none\'\n')
    assert _host.os_release() == ("debian", "13")


def test_os_release_without_a_version(host):
    """So it is on Debian testing and unstable."""
    host("/etc/os-release", "ID=debian\n")
    assert _host.os_release() == ("debian", "")


def test_the_resolvers_of_the_host_are_read(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_bytes(
        b"# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nsearch example.com nameserver\nnameserver\n"
        b"nameserver 192.0.2.53\n  nameserver\t2001:db8::53   # caf\xe9\nnameservers 192.0.2.3\noptions edns0\nnameserver fe80::1%eth0"
    )
    assert _host.resolv_conf(path) == ["192.0.2.53", "2001:db8::53", "fe80::1%eth0"]


def test_a_host_without_the_file_has_no_resolvers(tmp_path):
    assert _host.resolv_conf(tmp_path / "resolv.conf") == []
    assert _host.resolv_conf(tmp_path) == []


def test_the_cpus_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5})
    assert _host.cpus() == 3


@pytest.mark.parametrize(
    ("bound", "mib"),
    [(None, 4000), ("max\n", 4000), (f"{2048 * 1024 * 1024}\n", 2048), (f"{1 << 62}\n", 4000)],
)
def test_the_memory_is_that_of_the_host_or_of_its_control_group(host, bound, mib):
    host("/proc/meminfo", f"MemTotal:       {4000 * 1024} kB\nMemFree:        1 kB\n")
    if bound:
        host("/sys/fs/cgroup/memory.max", bound)
    assert _host.memory_mib() == mib


def test_a_package_is_installed_only_where_dpkg_says_so(tmp_path):
    states = {
        "exim4-daemon-light": "install ok installed",
        "sendmail-bin": "deinstall ok config-files",
        "nullmailer": "install ok half-installed",
        "opensmtpd": "hold ok installed",
        "dma": "install ok unpacked",
        "ssmtp": "purge ok not-installed",
        "exim4-base": "install ok installed",
    }
    status = tmp_path / "status"
    status.write_bytes(
        b"".join(
            f"Package: {name}\nStatus: {state}\nConffiles:\n /etc/x 0123\nDescription: Status: install ok installed\n caf\xe9\n\n".encode("latin-1")
            for name, state in states.items()
        )
    )
    assert _host.installed(status) == ["exim4-daemon-light", "opensmtpd", "exim4-base"]


def test_a_host_without_dpkg_has_no_packages(tmp_path):
    assert _host.installed(tmp_path / "status") == []


# ---- who listens -------------------------------------------------------------------------------------------------


TABLE = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address, port, state="0A", inode=1000):
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"


def process(host, pid, name, *inodes):
    host(f"/proc/{pid}/comm", name + "\n")
    descriptors = host.root / f"proc/{pid}/fd"
    descriptors.mkdir()
    (descriptors / "0").symlink_to("/dev/null")
    for number, inode in enumerate(inodes, 3):
        (descriptors / str(number)).symlink_to(f"socket:[{inode}]")
    return descriptors


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
@pytest.mark.parametrize("address", ["00000000", "0100007F", "00000000000000000000000001000000"])
def test_the_process_on_a_port_is_named(host, table, address):
    host(f"/proc/net/{table}", TABLE + row("0100007F", 24, inode=999) + row(address, 25))
    process(host, 50, "sshd", 999)
    process(host, 60, "exim4", 5, 1000)
    assert _host.listeners(25) == {"exim4"}


LOOPBACK = {
    "127.0.0.1": "0100007F",
    "127.0.0.1, big-endian": "7F000001",
    "0.0.0.0": "00000000",
    "::1": "00000000000000000000000001000000",
    "::1, big-endian": "00000000000000000000000000000001",
    "::": "00000000000000000000000000000000",
}
ELSEWHERE = {
    "127.0.0.53": "3500007F",
    "127.0.0.54": "3600007F",
    "192.0.2.53": "350200C0",
    "127.0.0.53, big-endian": "7F000035",
    "2001:db8::53": "B80D0120000000000000000035000000",
    "::ffff:192.0.2.53": "0000000000000000FFFF0000350200C0",
}


@pytest.mark.parametrize("address", LOOPBACK.values(), ids=LOOPBACK.keys())
def test_who_would_be_in_the_way_on_the_loopback_interface_is_named(host, address):
    host("/proc/net/" + ("tcp" if len(address) == 8 else "tcp6"), TABLE + row(address, 53) + row(address, 54, inode=999))
    process(host, 50, "sshd", 999)
    process(host, 60, "named", 1000)
    assert _host.listeners(53, loopback_only=True) == _host.listeners(53) == {"named"}


@pytest.mark.parametrize("address", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_who_listens_elsewhere_is_not_in_the_way_on_the_loopback_interface(host, address):
    host("/proc/net/" + ("tcp" if len(address) == 8 else "tcp6"), TABLE + row(address, 53))
    process(host, 60, "systemd-resolve", 1000)
    assert _host.listeners(53, loopback_only=True) == set()
    assert _host.listeners(53) == {"systemd-resolve"}


@pytest.mark.parametrize("address", ["0000000000000000FFFF00000100007F", "0000000000000000FFFF000000000000"], ids=["::ffff:127.0.0.1", "::ffff:0.0.0.0"])
def test_who_listens_on_the_loopback_interface_with_an_ipv6_socket_is_in_the_way(host, address):
    host("/proc/net/tcp6", TABLE + row(address, 53))
    process(host, 60, "java", 1000)
    assert _host.listeners(53, loopback_only=True) == {"java"}


def test_only_those_that_are_in_the_way_on_the_loopback_interface_are_named(host):
    host("/proc/net/tcp", TABLE + row("3500007F", 53) + row("0100007F", 53, inode=1001) + row("0100007F", 53, state="01", inode=1002))
    for pid, (name, inode) in enumerate([("systemd-resolve", 1000), ("dnsmasq", 1001), ("dig", 1002)], 60):
        process(host, pid, name, inode)
    assert _host.listeners(53, loopback_only=True) == {"dnsmasq"}


@pytest.mark.parametrize(("address", "in_the_way"), [("127.0.0.1", True), ("0.0.0.0", True), ("127.0.0.53", False)])
def test_a_listener_of_this_process_is_in_the_way_where_it_is(address, in_the_way):
    """In the real tables: the kernel writes addresses as it does on this machine."""
    with socket.create_server((address, 0)) as server:
        assert bool(_host.listeners(server.getsockname()[1], loopback_only=True)) == in_the_way


def test_a_connection_is_no_listener(host):
    host("/proc/net/tcp", TABLE + row("0100007F", 25, state="01") + row("0100007F", 25, state="06"))
    process(host, 60, "smtp", 1000)
    assert _host.listeners(25) == set()


def test_a_port_is_read_as_hexadecimal(host):
    host("/proc/net/tcp", TABLE + row("00000000", 10024))
    process(host, 60, "amavisd", 1000)
    assert _host.listeners(10024) == {"amavisd"}
    assert _host.listeners(2728) == set()


def test_nobody_listens_where_there_is_no_table(host):
    assert _host.listeners(25) == set()


def test_a_listener_whose_process_is_not_seen_is_unknown(host):
    host("/proc/net/tcp", TABLE + row("00000000", 25))
    process(host, 50, "sshd", 999)
    host("/proc/70/comm", "gone\n")
    assert _host.listeners(25) == {_host.UNKNOWN}


def test_all_processes_of_a_port_are_named(host):
    """Children of master(8) hold its sockets, and may have a lower process id."""
    host("/proc/net/tcp", TABLE + row("00000000", 25) + row("0100007F", 25, inode=1001))
    process(host, 50, "smtpd", 1000)
    process(host, 60, "master", 1000, 1001)
    process(host, 70, "sshd", 999)
    assert _host.listeners(25) == {"smtpd", "master"}


def test_a_descriptor_that_goes_away_does_not_hide_the_others(host):
    host("/proc/net/tcp", TABLE + row("00000000", 25))
    descriptors = process(host, 60, "exim4", 1000)
    (descriptors / "0").unlink()
    (descriptors / "0").write_text("readlink() fails here, as for a descriptor that was just closed")
    (descriptors / "1").write_text("")
    assert _host.listeners(25) == {"exim4"}


def test_a_listener_of_this_process_is_found_in_the_real_tables():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _host.listeners(port) == {pathlib.Path("/proc/self/comm").read_text().strip()}
    assert _host.listeners(port) == set()


# ---- what it reaches ---------------------------------------------------------------------------------------------


def resolves_to(monkeypatch, *targets):
    """Let every name resolve to these (family, address, port)."""
    found = [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address, port in targets]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return port


def test_a_next_hop_that_answers_is_no_news():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert _host.reach("127.0.0.1", server.getsockname()[1]) == ("", "", {"127.0.0.1"})


def test_a_next_hop_that_does_not_answer_is_a_warning(closed_port):
    problem, warning, addresses = _host.reach("127.0.0.1", closed_port)
    assert problem == ""
    assert warning.startswith(f"127.0.0.1 port {closed_port} does not answer (")
    assert addresses == {"127.0.0.1"}


def test_a_next_hop_that_never_answers_is_a_warning_in_time(monkeypatch):
    monkeypatch.setattr(_host, "CONNECT_TIMEOUT", 0.2)
    # A full backlog: the kernel answers no further connection.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first, socket.socket() as second:
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        _problem, warning, _addresses = _host.reach("127.0.0.1", server.getsockname()[1])
    assert "does not answer (timed out)" in warning


def test_a_next_hop_that_does_not_resolve_is_a_problem(monkeypatch):
    def getaddrinfo(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    problem, warning, addresses = _host.reach("mail.example.com", 25)
    assert problem == "mail.example.com does not resolve on this host (Name or service not known)"
    assert (warning, addresses) == ("", set())


def test_every_address_of_a_next_hop_is_tried(monkeypatch, closed_port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        resolves_to(monkeypatch, (socket.AF_INET, "127.0.0.1", closed_port), (socket.AF_INET, "127.0.0.1", server.getsockname()[1]))
        assert _host.reach("mail.example.com", 25) == ("", "", {"127.0.0.1"})


def test_a_host_without_ipv6_reaches_a_next_hop_by_ipv4(monkeypatch):
    real = socket.socket

    def without_ipv6(family=socket.AF_INET, *arguments):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments)

    with socket.create_server(("127.0.0.1", 0)) as server:
        resolves_to(monkeypatch, (socket.AF_INET6, "2001:db8::25", 25), (socket.AF_INET, "127.0.0.1", server.getsockname()[1]))
        monkeypatch.setattr(socket, "socket", without_ipv6)
        assert _host.reach("mail.example.com", 25) == ("", "", {"2001:db8::25", "127.0.0.1"})
        resolves_to(monkeypatch, (socket.AF_INET6, "2001:db8::25", 25))
        assert "Address family not supported" in _host.reach("mail.example.com", 25)[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "0.0.0.0"])
def test_an_address_that_can_be_bound_is_of_this_host(address):
    assert _host.is_own(address)


def test_an_ipv6_address_is_bound_as_one(monkeypatch):
    families = []

    def without_any(family, kind):
        families.append(family)
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "socket", without_any)
    assert not _host.is_own("2001:db8::25")
    assert not _host.is_own("192.0.2.25")
    assert families == [socket.AF_INET6, socket.AF_INET]


@pytest.mark.parametrize("address", ["192.0.2.25", "2001:db8::25"])
def test_an_address_that_cannot_be_bound_is_of_another(address):
    assert not _host.is_own(address)


def test_a_program_that_runs_is_found_by_its_name():
    own = pathlib.Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert _host.running(("no-such-program", own)) == [own]
