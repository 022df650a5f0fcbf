# SPDX-License-Identifier: GPL-3.0-or-later
"""The module by itself, on a host that is made up. What follows from what it says is test__judge.py's matter."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.antispam.gateway.plugins.module_utils import _dns, _host
from ansible_collections.antispam.gateway.plugins.modules import survey

HOP = {"host": "mail.example.com", "port": 25}


@pytest.fixture
def run(host, capfd):
    def run_module(check_mode=False, **arguments):
        with patch_module_args({"hostname": "mx1.example.com", **arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit) as ended:
            survey.main()
        result = json.loads(capfd.readouterr().out)
        assert (ended.value.code, result["changed"]) == (0, False)
        return result

    return run_module


def test_the_documented_result_is_the_result(run):
    assert set(yaml.safe_load(survey.RETURN)) == set(run()) - {"changed", "invocation"}


@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])
def test_a_host_is_described(run, host, check_mode):
    host.packages, host.processes, host.ports = ("postfix", "sed"), {"dhcpcd", "sshd"}, {25: {"smtpd", "master"}, 53: {"unbound"}}
    found = run(check_mode, ports=[25, 587], processes=["dhclient", "dhcpcd"])
    assert (found["system"], found["cpus"], found["memory_mib"], found["packages"]) == (["debian", "13"], 4, 8192, ["postfix", "sed"])
    assert found["listeners"] == {"25": ["master", "smtpd"], "587": [], "loopback-53": ["unbound"]}
    assert (found["running"], found["resolvers"]) == (["dhcpcd"], ["192.0.2.1"])
    assert {what: free for what, (_place, free) in found["free"].items()} == {"queue": 50 * 1024**3, "scratch": 50 * 1024**3}


def test_units_are_active_or_not(run, tmp_path):
    (tmp_path / "bin" / "systemctl").write_text('#!/bin/sh\n[ "$*" = "--quiet is-active a.service" ]\n')
    assert run(units=["b.service", "a.service"])["active"] == ["a.service"]


def test_files_of_ours_have_our_header_among_their_first_lines(run, tmp_path):
    for name, text in {
        "ours": "#!/bin/sh\n# Managed by Ansible (antispam.gateway).\n",
        "theirs": "# Managed by Ansible\n",
        "late": "x" * 600 + "Managed by Ansible (antispam.gateway)",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    paths = [str(tmp_path / name) for name in ("ours", "theirs", "late", "binary", "gone", "")]
    assert run(marked_files=paths)["marked"] == paths[:1]


def test_resolvers_say_what_they_answer(run, monkeypatch):
    def ask(server, name, kind):
        if server == "192.0.2.53":
            raise _dns.Unanswered("no answer within 5 s")
        return "REFUSED" if server == "192.0.2.54" else "NOERROR", [], 0

    monkeypatch.setattr(_dns, "ask", ask)
    asked = run(nameservers=["192.0.2.53", "192.0.2.54", "192.0.2.55"])["nameservers"]
    assert asked == [{"unanswered": "no answer within 5 s"}, {"rcode": "REFUSED"}, {"rcode": ""}]


def test_servers_are_described_in_their_order(run, host):
    host.addresses = {"gone.example.com": [], "silent.example.com": ["192.0.2.25"], "me.example.com": ["203.0.113.10"]}
    host.next_hops["no.example.com"].refused_at, host.next_hops["no.example.com"].refusal = "connect", "554 no"
    host.next_hops["plain.example.com"].tls_failure = "no STARTTLS. Set tls to never."
    names = ["gone", "silent", "me", "no", "plain", "good"]
    found = run(servers=[{"host": f"{name}.example.com", "port": 25, "level": "encrypt"} for name in names])["servers"]
    assert found[0]["unresolved"].startswith("gone.example.com does not resolve")
    assert found[1]["unreachable"].startswith("silent.example.com port 25 does not answer")
    assert (found[2]["own"], found[3]["refusal"]) == (True, ["554 no"])
    assert (found[4]["tls"], "8BITMIME" in found[4]["extensions"]) == ("no STARTTLS", True)
    assert (found[5]["tls"], found[5]["own"], found[5]["unresolved"], found[5]["unreachable"]) == ("", False, "", "")
    assert {each["host"].partition(".")[0] for each in host.conversations} == {"no", "plain", "good"}


def test_a_server_that_mx_records_name_is_not_spoken_to(run, host):
    found = run(servers=[{**HOP, "converse": False, "level": "secure"}])["servers"]
    assert (set(found[0]), host.conversations) == ({"unresolved", "unreachable", "own"}, [])


@pytest.mark.parametrize(("names", "verified"), [([], False), (["mx.example.net", ".example.com"], True)])
def test_a_certificate_is_looked_at_for_the_names_that_it_may_be_for(run, host, names, verified):
    run(servers=[{"host": "mail.example.com", "port": 25, "level": "verify", "certificate_names": names}])
    spoken = host.conversations[-1]
    assert (spoken["tls"], spoken["validate_certs"], spoken["names"]) == ("require", verified, names)


def test_everybody_is_asked_at_once(run, host, monkeypatch):
    """Ten of each kind, none of whom goes on before all twenty are there."""
    all_there = threading.Barrier(20, timeout=10)
    monkeypatch.setattr(_host, "reach", lambda name, port: all_there.wait() and None or ("", "silent", set()))
    monkeypatch.setattr(_dns, "ask", lambda server, name, kind: all_there.wait() and None or ("NOERROR", [], 0))
    found = run(servers=[{"host": f"h{number}", "port": 25} for number in range(10)], nameservers=[f"192.0.2.{number}" for number in range(10)])
    assert [each["unreachable"] for each in found["servers"]] == ["silent"] * 10
    assert found["nameservers"] == [{"rcode": ""}] * 10


def test_a_server_that_does_not_answer_costs_no_more_than_its_timeout(run, host, monkeypatch):
    def connect(self, target):
        time.sleep(0.3)
        raise socket.timeout("timed out")

    monkeypatch.setattr(_host.socket.socket, "connect", connect)
    began = time.monotonic()
    run(servers=[{"host": f"h{number}", "port": 25} for number in range(60)])
    assert time.monotonic() - began < 3


class Redis(socketserver.StreamRequestHandler):
    """Knows the user mx1 and his password."""

    def handle(self):
        known = False
        while line := self.rfile.readline():
            words = []
            for _number in range(int(line[1:])):
                self.rfile.readline()
                words.append(self.rfile.readline().strip().decode())
            known = known or words == ["AUTH", "mx1", "s3cret-pässword"]
            self.wfile.write(b"+OK\r\n" if known else b"-WRONGPASS invalid\r\n" if words[0] == "AUTH" else b"-NOAUTH Authentication required.\r\n")


def test_a_store_is_logged_in_to(run):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Redis) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = {"host": "127.0.0.1", "port": server.server_address[1]}
        login = {"username": "mx1", "password": "s3cret-pässword"}
        assert run(store=store | login)["store"] == ""
        assert run(store=store)["store"] == "does not let this gateway in (NOAUTH Authentication required.)"
        assert run(store=store | login | {"password": "another"})["store"] == "does not let this gateway in (WRONGPASS invalid)"
        assert run(store=store | login | {"tls": True})["store"].startswith("does not answer (")
        server.shutdown()
    assert run(store=store)["store"] == "does not answer ([Errno 111] Connection refused)"
