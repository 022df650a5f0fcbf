# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import json
import pathlib
import shutil
import socket
import subprocess
import types

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.antispam.gateway.plugins.module_utils import _dns, _host, _smtp
from ansible_collections.antispam.gateway.plugins.modules import site

SITE = {
    "hostname": "mx1.example.com",
    "domains": [
        {"name": "Example.com", "next_hop": "[mail.inside.example.com]"},
        {"name": "example.net", "next_hop": "[2001:db8::25]:26", "verify_recipients": True},
    ],
    "recipients": ["Alice@example.com"],
    "postmaster": "alice@example.com",
    "trusted_networks": ["198.51.100.0/24", "2001:db8::/32"],
    "sender_scores": {"newsletter@example.org": "-2.5"},
}
ROLE = pathlib.Path(__file__).resolve().parents[4] / "roles" / "gateway"


class NextHop:
    """A mail server that the gateway speaks to, with a certificate that is right; a test makes it another one."""

    def __init__(self):
        self.extensions = ["PIPELINING", "SIZE 104857600", "STARTTLS", "8BITMIME"]
        # Why there is no conversation, none with TLS, and none with a verified certificate.
        self.unreachable = self.tls_failure = self.untrusted = ""
        # The step that is refused, and how.
        self.refused_at, self.refusal = None, ""


class Host:
    """A plain host that is good for a gateway; a test makes it another one."""

    release = ("debian", "13")
    cpus, memory = 4, 8192
    free: dict = {}
    packages: tuple = ()
    ports: dict = {}
    addresses: dict = {}
    own = ("127.0.0.1", "203.0.113.10")

    def __init__(self):
        self.next_hops = collections.defaultdict(NextHop)
        # Arguments of every conversation.
        self.conversations = []

    def converse(self, host, port, helo, tls, stop_after, timeout, validate_certs=False, ca_path=None):
        """As _smtp.converse does, without a network."""
        self.conversations.append({"host": host, "port": port, "helo": helo, "tls": tls, "validate_certs": validate_certs, "ca_path": ca_path})
        assert (stop_after, 0 < timeout <= 30) == ("helo", True)
        hop = self.next_hops[host]
        result = {"extensions": hop.extensions, "tls": None, "verdict": "accepted", "refused_at": None, "reply": {"lines": ["250 Ok"]}}
        if hop.unreachable:
            raise _smtp.SmtpError(hop.unreachable)
        if hop.refused_at == "starttls" and tls == "never":
            return result
        if hop.refused_at:
            extensions = hop.extensions if hop.refused_at == "starttls" else []
            return {**result, "extensions": extensions, "verdict": "refused", "refused_at": hop.refused_at, "reply": {"lines": [hop.refusal]}}
        if tls == "never":
            return result
        if hop.tls_failure or hop.untrusted and validate_certs:
            raise _smtp.SmtpError(hop.tls_failure or hop.untrusted)
        return {**result, "tls": {"protocol": "TLSv1.3"}}


@pytest.fixture
def host(monkeypatch, tmp_path):
    example = Host()
    example.ports, example.addresses = {}, {}
    monkeypatch.setattr(site._smtp, "converse", example.converse)
    example.free = {"spool": 50 * 1024**3, "lib": 50 * 1024**3}

    def getaddrinfo(name, port, *arguments, **options):
        found = example.addresses.get(name, ["198.51.100.25"])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    class Socket:
        """Every address answers but those that begin with 192.0.2; those of this host can be bound."""

        def __init__(self, *arguments):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            pass

        def settimeout(self, seconds):
            pass

        def connect(self, target):
            if target[0].startswith("192.0.2."):
                raise OSError(111, "Connection refused")

        def bind(self, target):
            if target[0] not in example.own:
                raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(_host, "socket", types.SimpleNamespace(**{**vars(socket), "getaddrinfo": getaddrinfo, "socket": Socket}))
    monkeypatch.setattr(_host, "os_release", lambda: example.release)
    monkeypatch.setattr(_host, "cpus", lambda: example.cpus)
    monkeypatch.setattr(_host, "memory_mib", lambda: example.memory)
    monkeypatch.setattr(_host, "installed", lambda packages: [name for name in example.packages if name in packages])
    monkeypatch.setattr(_host, "listeners", lambda port, loopback_only=False: example.ports.get(port, set()))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=example.free[str(path).split("/")[2]]))
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text("#!/bin/sh\nexit ${FAKE_SYSTEMCTL:-3}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    return example


@pytest.fixture
def run(host, capfd, monkeypatch):
    def run_module(check_mode=False, **arguments):
        run_module.warnings = []
        monkeypatch.setattr(AnsibleModule, "warn", lambda module, text: run_module.warnings.append(text))
        with patch_module_args({**SITE, **arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit) as ended:
            site.main()
        result = json.loads(capfd.readouterr().out)
        assert bool(ended.value.code) == result.get("failed", False)
        assert not result.get("changed", False)
        return result

    return run_module


@pytest.fixture
def only_problem(run):
    def run_module(**arguments):
        result = run(**arguments)
        assert result["failed"]
        assert len(result["problems"]) == 1, result["problems"]
        return result["problems"][0]

    return run_module


# ---- a site that is good -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])
def test_every_setting_is_derived_from_the_one_description(run, check_mode):
    result = run(check_mode=check_mode)
    assert run.warnings == []
    assert result["debian"] == "13"
    derived = result["site"]
    assert derived["hostname"] == "mx1.example.com"
    assert derived["postmaster"] == "alice@example.com"
    assert derived["domains"] == ["example.com", "example.net"]
    assert derived["trusted_networks"] == ["198.51.100.0/24", "2001:db8::/32"]
    assert derived["postfix_networks"] == ["198.51.100.0/24", "[2001:db8::]/32"]
    assert derived["sender_scores"] == {"newsletter@example.org": -2.5}
    tables = derived["tables"]
    assert tables["relay_domains"] == {"example.com": "OK", "example.net": "OK"}
    assert tables["transport"] == {"example.com": "relay:[mail.inside.example.com]", "example.net": "relay:[2001:db8::25]:26"}
    assert tables["verify_recipients"] == {"example.net": "reject_unverified_recipient"}
    assert derived["relay_recipients"] == ["@example.net", "alice@example.com"]
    assert tables["virtual"]["postmaster@example.net"] == "alice@example.com"
    assert tables["aliases"]["root"] == "alice@example.com"
    assert derived["limits"]["workers"] == 10


@pytest.mark.parametrize("sourced", [[[]], [["Example.com"]], [["example.net"], ["example.com"]]])
def test_a_domain_whose_recipients_are_read_elsewhere_needs_none_in_the_inventory(run, sourced):
    result = run(recipients=[], sourced_domains=sourced)
    assert "failed" not in result
    assert result["site"]["relay_recipients"] == ["@example.net"]


def test_a_domain_that_no_source_feeds_needs_recipients(only_problem):
    assert "nothing says who receives mail in example.com" in only_problem(recipients=[], sourced_domains=[["example.net"]])


def test_a_source_for_a_domain_that_is_not_relayed_is_a_mistake(only_problem):
    problem = only_problem(sourced_domains=[[], ["example.com", "example.org"]])
    assert problem.startswith("gateway_recipient_sources[1].domains: example.org is not in gateway_domains")


def test_the_limits_follow_the_host(run, host):
    host.cpus, host.memory = 1, 2400
    limits = run()["site"]["limits"]
    assert (limits["cpus"], limits["memory_mib"], limits["workers"]) == (1, 2400, 3)
    assert run(official_databases=False)["site"]["limits"]["clamd_concurrent_reload"] is True


@pytest.mark.parametrize("workers", [6, "6"])
def test_a_limit_may_be_given_as_text(run, workers):
    """So it arrives from --extra-vars and from templates."""
    limits = run(limits={"workers": workers, "clamd_concurrent_reload": "no"})["site"]["limits"]
    assert (limits["workers"], limits["smtpd_processes"], limits["clamd_concurrent_reload"]) == (6, 124, False)


def test_the_module_knows_the_limits_that_the_role_does():
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]["gateway_limits"]["options"]
    documented = yaml.safe_load(site.DOCUMENTATION)["options"]["limits"]["suboptions"]
    assert {name: option["type"] for name, option in documented.items()} == {name: option["type"] for name, option in options.items()}
    assert set(documented) == {*site.LIMITS, "clamd_concurrent_reload"}


def test_the_documented_result_is_the_result(run):
    documented = yaml.safe_load(site.RETURN)
    result = run()
    assert set(documented) <= set(result)
    assert set(documented["site"]["contains"]) == set(result["site"])
    for name in result["site"]["tables"]:
        assert name in documented["site"]["contains"]["tables"]["description"]


# ---- mistakes ----------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once(run, host):
    host.release, host.packages, host.ports, host.memory = ("ubuntu", "24.04"), ("exim4-daemon-light",), {25: {"exim4"}}, 512
    host.addresses = {"mail.inside.example.com": []}
    result = run(
        hostname="mx1",
        trusted_networks=["127.0.0.1/8"],
        tls_certificate_file="/no/such/file",
        variables=["gateway_domain"],
        known_variables=["gateway_domains"],
        reserved_prefixes=["gateway_"],
    )
    assert result["failed"]
    assert result["msg"].startswith(f"Nothing was changed: the site has {len(result['problems'])} mistakes.\n- ")
    for words in (
        "gateway_domain: no role of antispam.gateway knows this variable; did you mean gateway_domains?",
        "gateway_hostname: 'mx1' is not fully qualified",
        "gateway_trusted_networks[0]: '127.0.0.1/8' has host bits set",
        "operating system: ubuntu 24.04 is not supported",
        "exim4-daemon-light",
        "port 25 is taken by exim4",
        "gateway_tls_certificate_file: /no/such/file",
        "gateway_tls_key_file: it is empty",
        "gateway_domains[0].next_hop: mail.inside.example.com does not resolve",
        "gateway_limits: memory: ",
    ):
        assert words in result["msg"]
        assert any(words in problem for problem in result["problems"])


def test_one_mistake_is_one(run):
    assert run(hostname="mx1")["msg"].startswith("Nothing was changed: the site has one mistake.\n- gateway_hostname: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limits": {"wrokers": 4}}, "wrokers"),
        ({"limits": {"workers": "many"}}, "many"),
        ({"domains": [{"name": "example.com"}]}, "next_hop"),
        ({"domains": [{"name": "example.com", "next_hop": "[mail.example.com]", "verfy_recipients": True}]}, "verfy_recipients"),
        ({"message_size_limit": "50M"}, "50M"),
    ],
)
def test_a_mistake_of_form_is_named(run, arguments, words):
    result = run(**arguments)
    assert result["failed"]
    assert words in result["msg"]


def test_a_next_hop_that_was_left_empty_is_a_mistake(only_problem):
    problem = only_problem(domains=[{"name": "example.com", "next_hop": None}])
    assert "gateway_domains[0].next_hop" in problem


def test_limits_that_contradict_each_other_come_with_the_arithmetic(only_problem):
    problem = only_problem(limits={"workers": 40, "usual_scan": 60, "smtpd_processes": 200})
    memory = "300 MiB for the system + 2600 MiB for clamd + 40 workers x 150 MiB = 8900 MiB, but the host has 8192 MiB"
    assert problem.startswith(f"gateway_limits: memory: {memory}")
    assert "5 rounds x usual_scan 60 s = 300 s" in problem


def test_a_disk_without_room_for_the_queue_is_a_mistake(only_problem, host):
    host.free["spool"] = 100 * 1024**2
    problem = only_problem()
    assert f"queue_minfree is {1000 * 1024**2} bytes" in problem
    assert f"{100 * 1024**2} bytes free" in problem
    assert "452" in problem


def test_a_disk_without_room_to_unpack_is_a_mistake(run, only_problem, host):
    host.free["lib"] = 500 * 1024**2
    problem = only_problem()
    assert f"unpack_quota is {500 * 1024**2} bytes" in problem
    assert f"{500 * 1024**2} bytes free" in problem
    assert "450" in problem
    assert "failed" not in run(limits={"unpack_quota": 400 * 1024**2})


# ---- the platform ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [("debian", "11"), ("debian", "14"), ("debian", ""), ("ubuntu", "24.04"), ("", "")])
def test_another_system_is_refused(only_problem, host, release):
    host.release = release
    assert "operating system: " in (problem := only_problem())
    assert "use Debian 13" in problem


def test_debian_12_is_refused_with_the_reason_until_it_is_accepted(run, only_problem, host):
    host.release = ("debian", "12")
    problem = only_problem()
    for words in ("Debian 12", "smtpd_proxy_filter", "2048", "gateway_accept_debian12_postfix_panic: true"):
        assert words in problem
    assert run(accept_debian12=True)["debian"] == "12"


def test_debian_13_needs_nothing_to_be_accepted(run):
    assert run(accept_debian12=True)["debian"] == "13"


def test_another_mta_is_a_mistake(only_problem, host):
    host.packages = ("exim4-daemon-light", "postfix")
    problem = only_problem()
    assert "exim4-daemon-light" in problem
    assert "postfix" not in problem


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ({25: {"exim4"}}, "port 25 is taken by exim4"),
        ({25: {"smtpd"}}, "port 25 is taken by smtpd"),
        ({10024: {"python3"}}, "port 10024 is taken by python3"),
        ({10025: {"nc", "socat"}}, "port 10025 is taken by nc, socat"),
        ({25: {_host.UNKNOWN}}, "port 25 is taken by an unknown process"),
    ],
)
def test_a_port_that_is_taken_is_a_mistake(only_problem, host, ports, words):
    host.ports = ports
    assert words in only_problem()


@pytest.mark.parametrize(
    "ports", [{}, {587: {"exim4"}}, {25: {"master"}, 10025: {"master"}, 10024: {"/usr/sbin/amavi"}}, {25: {"smtpd", "master", "smtp"}}]
)
def test_the_gateway_itself_is_not_in_its_own_way(run, host, ports):
    host.ports = ports
    assert "failed" not in run()


def test_an_unknown_process_is_ours_where_our_service_runs(run, host, monkeypatch):
    """An unprivileged /proc does not show the processes of others."""
    host.ports = {port: {_host.UNKNOWN} for port in (25, 10024, 10025)}
    monkeypatch.setenv("FAKE_SYSTEMCTL", "0")
    assert "failed" not in run()


def test_a_named_process_is_not_ours_because_our_service_runs(only_problem, host, monkeypatch):
    host.ports = {25: {"exim4"}}
    monkeypatch.setenv("FAKE_SYSTEMCTL", "0")
    assert "port 25 is taken by exim4" in only_problem()


# ---- resolvers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [{"named"}, {"dnsmasq", "unbound"}, {_host.UNKNOWN}])
def test_a_resolver_of_its_own_needs_port_53(run, only_problem, host, names):
    host.ports = {53: names}
    problem = only_problem(own_resolver=True)
    assert f"port 53 of the loopback interface is taken by {', '.join(names - {'unbound'})}; stop it" in problem
    for way_out in ("gateway_own_resolver: false", "gateway_nameservers"):
        assert way_out in problem
    assert "failed" not in run(own_resolver=False)
    assert "failed" not in run()


@pytest.mark.parametrize("names", [set(), {"unbound"}])
def test_a_port_53_that_is_free_or_its_own_is_no_problem(run, host, names):
    host.ports = {53: names}
    assert "failed" not in run(own_resolver=True)


def test_an_unknown_process_at_port_53_is_unbound_where_that_runs(run, only_problem, host, monkeypatch, tmp_path):
    host.ports = {53: {_host.UNKNOWN}}
    (tmp_path / "bin" / "systemctl").write_text('#!/bin/sh\n[ "$*" = "--quiet is-active unbound.service" ]\n')
    assert "failed" not in run(own_resolver=True)
    host.ports = {53: {"named"}}
    assert "port 53 of the loopback interface is taken by named" in only_problem(own_resolver=True)


def test_a_resolver_at_another_address_is_not_in_the_way(run, monkeypatch):
    """systemd-resolved has 127.0.0.53."""
    monkeypatch.setattr(_host, "listeners", lambda port, loopback_only=False: {"systemd-resolve"} if port == 53 and not loopback_only else set())
    assert "failed" not in run(own_resolver=True)


def test_port_25_may_not_be_taken_at_any_address(only_problem, monkeypatch):
    monkeypatch.setattr(_host, "listeners", lambda port, loopback_only=False: {"exim4"} if port == 25 and not loopback_only else set())
    assert "port 25 is taken by exim4" in only_problem(own_resolver=True)


@pytest.fixture
def dns(monkeypatch):
    """{address: response code, or None for no answer}."""

    class Answers(dict):
        """With what was asked."""

    answers = Answers()
    answers.asked = []

    def ask(server, name, kind):
        answers.asked.append((server, name, kind))
        if answers.get(server, "NOERROR") is None:
            raise _dns.Unanswered("Connection refused")
        return answers.get(server, "NOERROR"), [], 0

    monkeypatch.setattr(_dns, "ask", ask)
    return answers


def test_each_resolver_of_the_site_is_asked_for_the_root(run, dns):
    assert "failed" not in run(nameservers=["192.0.2.53", " 2001:DB8:0::53 "])
    assert dns.asked == [("192.0.2.53", ".", _dns.SOA), ("2001:db8::53", ".", _dns.SOA)]
    assert run.warnings == []


def test_nobody_is_asked_where_the_site_has_no_resolvers(run, dns):
    assert "failed" not in run()
    assert dns.asked == []


def test_a_resolver_that_does_not_know_the_root_is_one_all_the_same(run, dns):
    """So it is in a network that has no way out."""
    dns["192.0.2.53"] = "NXDOMAIN"
    assert "failed" not in run(nameservers=["192.0.2.53"])


def test_a_resolver_that_does_not_answer_is_a_mistake(only_problem, dns):
    dns["192.0.2.54"] = None
    problem = only_problem(nameservers=["192.0.2.53", "192.0.2.54"])
    assert problem.startswith("gateway_nameservers[1]: 192.0.2.54 does not answer (Connection refused); correct the address")


@pytest.mark.parametrize("rcode", ["REFUSED", "SERVFAIL", "NOTIMP"])
def test_a_name_server_that_does_not_serve_the_host_is_a_mistake(only_problem, dns, rcode):
    dns["192.0.2.53"] = rcode
    problem = only_problem(nameservers=["192.0.2.53"])
    assert problem.startswith(f"gateway_nameservers[0]: 192.0.2.53 answers {rcode}; let it serve this host")


@pytest.mark.parametrize("address", ["ns.example.com", "192.0.2.256", "192.0.2.53:53", "[2001:db8::53]"])
def test_a_resolver_that_is_no_address_is_a_mistake(only_problem, dns, address):
    assert only_problem(nameservers=[address, "192.0.2.53"]).startswith(f"gateway_nameservers[0]: '{address}' is not an IP address")
    assert dns.asked == [("192.0.2.53", ".", _dns.SOA)]


def test_every_resolver_that_fails_is_a_mistake_of_its_own(run, dns):
    dns.update({"192.0.2.53": None, "192.0.2.54": "REFUSED"})
    problems = run(nameservers=["192.0.2.53", "192.0.2.54", "x"])["problems"]
    assert [problem.partition(":")[0] for problem in problems] == ["gateway_nameservers[0]", "gateway_nameservers[1]", "gateway_nameservers[2]"]


# ---- clients -----------------------------------------------------------------------------------------------------


def test_clients_are_let_in_or_refused_by_the_longest_prefix(run):
    derived = run(client_allowlist=["192.0.2.25", "2001:db8::/32"], client_denylist=["192.0.2.0/24"])["site"]
    assert derived["client_access"] == [["192.0.2.25/32", "permit"], ["2001:db8::/32", "permit"], ["192.0.2.0/24", "reject"]]
    assert run()["site"]["client_access"] == []


@pytest.mark.parametrize("variable", ["client_allowlist", "client_denylist"])
def test_a_client_that_is_no_network_is_a_mistake(only_problem, variable):
    assert only_problem(**{variable: ["192.0.2.0/24", "192.0.2.25/24"]}).startswith(f"gateway_{variable}[1]: '192.0.2.25/24' has host bits set")
    assert only_problem(**{variable: ["mail.example.org"]}).startswith(f"gateway_{variable}[0]: 'mail.example.org' is not a network")


def test_a_client_that_is_let_in_and_refused_is_a_mistake(only_problem):
    problem = only_problem(client_allowlist=["192.0.2.25"], client_denylist=["198.51.100.0/24", "192.0.2.25/32"])
    assert problem == "gateway_client_denylist: 192.0.2.25/32 is in gateway_client_allowlist as well; keep one of them"


# ---- DNS lists ---------------------------------------------------------------------------------------------------

LIST_KEY = "k3y-0f-a-cust0mer"


def test_lists_that_are_right_are_no_news(run):
    lists = [{"domain": "bl.example.org", "weight": 2}, {"domain": "dq.example.net", "answers": "127.0.0.[2..11]", "key": LIST_KEY}]
    assert "failed" not in run(dnsbl_lists=lists)
    assert run.warnings == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dnsbl_lists": [{"domain": "bl"}]}, "gateway_dnsbl_lists[0]: 'bl' is not fully qualified"),
        ({"dnsbl_lists": [{"domain": "bl.example.org", "answers": "127.0.0"}]}, "gateway_dnsbl_lists[0]: '127.0.0' is not a filter of answers"),
        ({"dnsbl_lists": [{"domain": "bl.example.org", "answers": "127.[0..255].[0..255].2"}]}, "gateway_dnsbl_lists[0]: the filter '127.[0..255].[0..255].2'"),
        ({"dnsbl_lists": [{"domain": "bl.example.org"}] * 2, "dnsbl_threshold": 2}, "gateway_dnsbl_lists[1]: bl.example.org stands in the list twice"),
        ({"dnsbl_threshold": 0}, "gateway_dnsbl_threshold: 0 would refuse clients that no list names"),
    ],
)
def test_a_mistake_in_a_list_is_one_of_the_site(only_problem, arguments, words):
    assert only_problem(**arguments).startswith(words)


def test_a_list_that_refuses_alone_is_a_warning_until_it_is_trusted(run):
    assert "failed" not in run(dnsbl_lists=[{"domain": "bl.example.org", "weight": 3}])
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith("gateway_dnsbl_lists[0]: bl.example.org has the weight 3, so it alone reaches gateway_dnsbl_threshold 3")
    run(dnsbl_lists=[{"domain": "bl.example.org", "weight": 3, "refuses_alone": True}])
    assert run.warnings == []
    run(dnsbl_lists=[{"domain": "bl.example.org", "weight": 3}], dnsbl_threshold=4)
    assert [warning.partition(":")[0] for warning in run.warnings] == ["gateway_dnsbl_threshold"]


def test_the_threshold_is_3_and_a_weight_1_by_default(run):
    lists = [{"domain": f"{name}.example.org"} for name in ("a", "b", "c")]
    run(dnsbl_lists=lists)
    assert run.warnings == []
    run(dnsbl_lists=lists[:2])
    assert "all weights together are 2, so nobody reaches 3" in run.warnings[0]


def test_warnings_of_lists_and_of_next_hops_are_all_given(run, host):
    host.addresses = {"mail.inside.example.com": ["192.0.2.25"]}
    run(dnsbl_lists=[{"domain": "bl.example.org", "weight": 3}])
    assert [warning.partition(":")[0] for warning in run.warnings] == ["gateway_dnsbl_lists[0]", "gateway_domains[0].next_hop"]


@pytest.mark.parametrize("entry", [{"weight": 1}, {"weight": 0}, {"weight": 9}, {"answers": LIST_KEY}, {"key": LIST_KEY + "."}, {"weght": 1}])
def test_no_output_holds_the_key_of_a_list(host, capfd, entry):
    with patch_module_args({**SITE, "dnsbl_lists": [{"domain": "bl.example.org", "key": LIST_KEY, **entry}]}), pytest.raises(SystemExit):
        site.main()
    printed = capfd.readouterr().out
    assert "bl.example.org" in printed
    assert LIST_KEY not in printed


# ---- certificates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def keys(tmp_path_factory, certificate):
    """Another key, and the one of the certificate under a password."""
    directory = tmp_path_factory.mktemp("keys")
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", directory / "other"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "pkey", "-in", certificate, "-aes256", "-passout", "pass:secret", "-out", directory / "encrypted"], check=True, capture_output=True
    )
    (directory / "text").write_text("no key at all\n")
    return directory


def test_a_certificate_and_its_key_are_taken(run, gateway_certificate):
    assert "failed" not in run(tls_certificate_file=str(gateway_certificate), tls_key_file=str(gateway_certificate))


@pytest.mark.parametrize("name", ["other", "encrypted", "text"])
def test_a_key_that_does_not_open_the_certificate_is_a_mistake(only_problem, certificate, keys, name):
    problem = only_problem(tls_certificate_file=str(certificate), tls_key_file=str(keys / name))
    for words in ("gateway_tls_certificate_file", str(certificate), str(keys / name)):
        assert words in problem


def test_a_file_that_cannot_be_read_is_a_mistake(only_problem, certificate, tmp_path):
    assert f"gateway_tls_key_file: {tmp_path}/gone cannot be read on the gateway (No such file or directory)" in only_problem(
        tls_certificate_file=str(certificate), tls_key_file=str(tmp_path / "gone")
    )
    assert f"gateway_tls_certificate_file: {tmp_path} cannot be read" in only_problem(tls_certificate_file=str(tmp_path), tls_key_file=str(certificate))


@pytest.mark.parametrize(("given", "lacking"), [("certificate", "key"), ("key", "certificate")])
def test_half_a_pair_is_a_mistake(only_problem, certificate, given, lacking):
    assert only_problem(**{f"tls_{given}_file": str(certificate)}).startswith(f"gateway_tls_{lacking}_file: it is empty")


# ---- next hops ---------------------------------------------------------------------------------------------------


def hops(*texts):
    domains = [{"name": f"d{number}.example.com", "next_hop": text, "verify_recipients": True} for number, text in enumerate(texts)]
    return {"domains": domains, "recipients": []}


def test_a_next_hop_that_does_not_answer_is_a_warning(run, host):
    host.addresses = {"mail.inside.example.com": ["192.0.2.25"]}
    result = run()
    assert "failed" not in result
    assert len(run.warnings) == 1
    assert "gateway_domains[0].next_hop: mail.inside.example.com port 25 does not answer" in run.warnings[0]
    assert "Connection refused" in run.warnings[0]


def test_a_next_hop_that_does_not_resolve_is_a_mistake(only_problem, host):
    host.addresses = {"mail.inside.example.com": []}
    problem = only_problem()
    assert "gateway_domains[0].next_hop: mail.inside.example.com does not resolve on this host (Name or service not known)" in problem
    assert "correct" in problem


def test_a_domain_as_next_hop_may_have_mx_records_only(run, host):
    host.addresses = {"inside.example.com": []}
    result = run(**hops("inside.example.com"))
    assert "failed" not in result
    assert "only if it has MX records" in run.warnings[0]


def test_each_next_hop_is_asked_once(run, host):
    host.addresses = {"mail.inside.example.com": ["192.0.2.25"]}
    run(**hops("[mail.inside.example.com]", "[Mail.inside.example.com]:25", "[mail.inside.example.com]:26"))
    assert len(run.warnings) == 2


@pytest.mark.parametrize(
    ("next_hop", "addresses"),
    [
        ("[mx1.example.com]", ["127.0.1.1", "203.0.113.10"]),
        ("[mail.inside.example.com]", ["203.0.113.10"]),
        ("mail.inside.example.com", ["203.0.113.10"]),
        ("[mail.inside.example.com]:10024", ["127.0.0.1"]),
        ("[mail.inside.example.com]:10025", ["127.0.0.1"]),
    ],
)
def test_a_next_hop_that_is_the_gateway_itself_is_a_mistake(only_problem, host, next_hop, addresses):
    host.addresses = {next_hop.partition("]")[0].strip("["): addresses}
    problem = only_problem(**hops(next_hop))
    assert "gateway_domains[0].next_hop" in problem
    assert "is this gateway itself" in problem


def test_the_names_of_next_hops_are_those_that_the_dns_must_know(run):
    texts = ["[mail.example.com]", "[192.0.2.25]", "[2001:db8::25]:26", "Inside.example.com", "[MAIL.example.com]:26", "[a.example.com]"]
    assert run(**hops(*texts))["site"]["next_hop_names"] == ["a.example.com", "inside.example.com", "mail.example.com"]


def test_another_service_on_the_gateway_may_be_a_next_hop(run, host):
    host.addresses = {"127.0.0.1": ["127.0.0.1"]}
    assert "failed" not in run(**hops("[127.0.0.1]:24"))
