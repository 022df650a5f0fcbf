# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a site and its host: the action preflight, with the module survey in this process on a host that is made up."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import time
import types

import pytest
import yaml
from ansible.errors import AnsibleUndefinedVariable
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.antispam.gateway.plugins.action import preflight
from ansible_collections.antispam.gateway.plugins.module_utils import _dns, _host
from ansible_collections.antispam.gateway.plugins.modules import preflight as documentation
from ansible_collections.antispam.gateway.plugins.modules import survey
from ansible_collections.antispam.gateway.plugins.plugin_utils import _judge, _limits, _model
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
    # What would be another thing to look at.
    "own_resolver": False,
    "dnsbl_lists": [],
    "dkim_signing": False,
}
HASH = "$6$rasmuslerdorf$" + "Ab./" * 21 + "Ab"
ACCOUNT = {"name": "alice@example.com", "password": HASH}
ROLE = pathlib.Path(__file__).resolve().parents[4] / "roles" / "gateway"
UNDEFINED = "{{ no_such_variable }}"
OTHER_NAMES = {
    "official_databases": "clamav_official_databases",
    "custom_urls": "clamav_database_custom_urls",
    "unofficial_signatures": "clamav_unofficial_signatures",
}


def variables(smarthost=None, smarthost_tls=None, sourced_domains=(), variables=(), **arguments):
    """Return variables of a host. An argument is the variable gateway_NAME."""
    given = {OTHER_NAMES.get(name, f"gateway_{name}"): value for name, value in (SITE | arguments).items()}
    if smarthost:
        given["gateway_smarthost"] = {"next_hop": smarthost, **({"tls": smarthost_tls} if smarthost_tls else {})}
    if sourced_domains:
        sources = [{"domains": names} if names else {} for names in sourced_domains]
        given["gateway_recipient_sources"] = [{"path": "users.txt", **source} for source in sources]
    return {"inventory_hostname": "mx9.example.com"} | given | dict.fromkeys(variables, "x")


def template(value):
    if value == UNDEFINED:
        raise AnsibleUndefinedVariable("'no_such_variable' is undefined")
    return value


class Preflight(preflight.ActionModule):
    """The action without a connection; execute(name, arguments) runs a module."""

    def __init__(self, arguments, execute, check_mode=False):
        self._task = types.SimpleNamespace(args=arguments, async_val=0, check_mode=check_mode, action="preflight")
        self._templar = types.SimpleNamespace(template=template)
        self._loader = types.SimpleNamespace(get_basedir=lambda: "/nowhere")
        self._connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir="/nowhere"))
        self.execute = execute

    def _execute_module(self, name, arguments, task_vars):
        return self.execute(name.rpartition(".")[2], arguments)


@pytest.fixture
def modules(capfd):
    """Run a module of the host in this process; `replies` has the results of others, `given` their arguments."""

    def execute(name, arguments):
        execute.given.append((name, arguments))
        if name != "survey":
            return execute.replies[name]
        with patch_module_args(arguments), pytest.raises(SystemExit):
            survey.main()
        return json.loads(capfd.readouterr().out)

    execute.given, execute.replies = [], {}
    return execute


@pytest.fixture
def run(host, modules):
    def run_action(check_mode=False, only_the_site=False, without=(), **arguments):
        given = {name: value for name, value in variables(**arguments).items() if name not in without}
        result = Preflight({"survey": not only_the_site}, modules, check_mode).run(task_vars=given)
        run_action.warnings = result["warnings"]
        assert not result.get("changed", False)
        return json.loads(json.dumps(result))

    return run_action


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
    assert tables["transport"] == {
        "example.com": "relay:[mail.inside.example.com]",
        "example.net": "relay:[2001:db8::25]:26",
        _model.PROBE_DOMAIN: "smtp:[127.0.0.1]:10099",
    }
    assert tables["verify_recipients"] == {"example.net": "reject_unverified_recipient"}
    assert derived["relay_recipients"] == ["@example.net", "alice@example.com"]
    assert tables["virtual"]["postmaster@example.net"] == "alice@example.com"
    assert tables["aliases"]["root"] == "alice@example.com"
    assert derived["limits"]["workers"] == 10
    assert derived["prove_recipient"] == "alice@example.com"
    assert derived["listed_domains"] == ["example.com"]


def test_outbound_mail_is_derived_as_well(run):
    result = run(
        accounts=[{"name": "bob@example.net", "password": HASH}, {"name": "Alice@example.com ", "password": HASH, "senders": ["@example.net"]}],
        smarthost="[SMTP.example.org]:587",
        tls_policies={"example.org": "dane-only"},
        domains=[{**SITE["domains"][0], "next_hop_tls": "encrypt"}, SITE["domains"][1]],
        dkim_signing=True,
        dkim_domains=["Example.com"],
        dkim_selector="MX1",
        forwarders=["198.51.100.7"],
    )
    derived = result["site"]
    assert derived["tables"]["sender_logins"] == {
        "alice@example.com": "alice@example.com",
        "@example.net": "alice@example.com",
        "bob@example.net": "bob@example.net",
    }
    assert derived["tables"]["tls_policy"] == {"example.org": "dane-only", "[mail.inside.example.com]": "encrypt", "[smtp.example.org]:587": "secure"}
    assert derived["logins"] == ["bob@example.net", "alice@example.com"], "in the order of the passwords"
    assert derived["relayhost"] == "[smtp.example.org]:587"
    assert (derived["dkim_domains"], derived["dkim_selector"], derived["forwarders"]) == (["example.com"], "mx1", ["198.51.100.7/32"])
    assert derived["limits"]["submission_processes"] == derived["limits"]["workers"]


def test_a_site_without_outbound_settings_has_empty_ones(run):
    derived = run()["site"]
    assert (derived["tables"]["sender_logins"], derived["tables"]["tls_policy"], derived["logins"], derived["relayhost"]) == ({}, {}, [], "")
    assert (derived["dkim_domains"], derived["forwarders"]) == ([], [])
    assert "submission_processes" not in derived["limits"]


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


def test_options_of_sources_that_contradict_each_other_are_among_the_mistakes(run):
    scores = [{"path": "scores.txt"}, {"url": "https://example.com/scores", "page_size": 5}]
    problems = run(recipient_sources=[{"path": "users.txt", "column": "mail"}], sender_score_sources=scores, postmaster="nobody")["problems"]
    assert [problem.partition(" ")[0] for problem in problems] == [
        "gateway_postmaster:",
        "gateway_recipient_sources[0]",
        "gateway_sender_score_sources[1]",
    ]


def test_the_limits_follow_the_host(run, host):
    host.cpus, host.memory = 1, 2400
    limits = run()["site"]["limits"]
    assert (limits["cpus"], limits["memory_mib"], limits["workers"]) == (1, 2400, 3)
    assert run(official_databases=False, custom_urls=["https://db.example.org/local.ndb"])["site"]["limits"]["clamd_concurrent_reload"] is True


@pytest.mark.parametrize("workers", [6, "6"])
def test_a_limit_may_be_given_as_text(run, workers):
    """So it arrives from --extra-vars and from templates."""
    limits = run(limits={"workers": workers, "clamd_concurrent_reload": "no"})["site"]["limits"]
    assert (limits["workers"], limits["smtpd_processes"], limits["clamd_concurrent_reload"]) == (6, 124, False)


def test_every_limit_that_is_derived_may_be_given():
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]["gateway_limits"]["options"]
    derived = _limits.derive(4, 8192, 52428800, True, {}, submission=True)
    assert set(options) == set(derived) - {"cpus", "memory_mib", "message_size_limit"}
    assert {name for name, option in options.items() if option["type"] == "bool"} == {name for name, value in derived.items() if isinstance(value, bool)}


def test_the_documented_result_is_the_result(run):
    documented = yaml.safe_load(documentation.RETURN)
    assert {name for name, each in documented.items() if each["returned"] != "failure"} == set(run()) - {"changed", "warnings"}
    assert {name for name, each in documented.items() if each["returned"] == "failure"} == set(run(hostname="mx1")) - {"failed", "msg", "warnings"}
    assert set(run(only_the_site=True)) == {"changed", "warnings", "site"}


# ---- mistakes ----------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once(run, host):
    host.release, host.packages, host.ports, host.memory = ("ubuntu", "24.04"), ("exim4-daemon-light",), {25: {"exim4"}}, 512
    host.addresses = {"mail.inside.example.com": []}
    result = run(
        hostname="mx1",
        trusted_networks=["127.0.0.1/8"],
        tls_certificate_file="/no/such/file",
        variables=["gateway_domain"],
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"accounts": [{**ACCOUNT, "name": "alice@example.org"}]}, "gateway_accounts[0].name: alice@example.org is in example.org"),
        ({"accounts": [{**ACCOUNT, "senders": ["@example.org"]}]}, "gateway_accounts[0].senders[0]: @example.org is in example.org"),
        ({"smarthost": "[smtp.example.org]:465"}, "gateway_smarthost.next_hop: on port 465"),
        ({"tls_policies": {"example.org": "sercure"}}, "gateway_tls_policies['example.org']: 'sercure' does not begin"),
        ({"dkim_signing": True, "dkim_domains": ["example.org"]}, "gateway_dkim_domains[0]: example.org is not in gateway_domains"),
        ({"dkim_selector": "mx_1"}, "gateway_dkim_selector: 'mx_1' is not a selector"),
        ({"forwarders": ["0.0.0.0/0"]}, "gateway_forwarders[0]: 0.0.0.0/0 is everybody"),
        ({"protect_own_domains": True, "sender_authentication": False}, "gateway_protect_own_domains: with gateway_sender_authentication: false"),
        ({"domains": [{**SITE["domains"][1], "next_hop_tls": "secure"}, SITE["domains"][0]]}, "gateway_domains[0].next_hop_tls: [2001:db8::25]:26 is an"),
    ],
)
def test_a_mistake_about_outbound_mail_is_one_of_the_site(only_problem, arguments, words):
    assert only_problem(**arguments).startswith(words)


@pytest.mark.parametrize(
    "entry",
    [
        {"password": "hunter2-Correct.Horse"},
        {"password": HASH + ":hunter2-Correct.Horse"},
        {"password": HASH, "name": "alice"},
        {"password": HASH, "sendres": []},
        {"password": HASH},
    ],
)
def test_no_output_holds_the_password_of_an_account(run, modules, entry):
    printed = json.dumps([run(accounts=[{**ACCOUNT, **entry}]), modules.given])
    for secret in ("hunter2", "rasmuslerdorf", "Ab./Ab"):
        assert secret not in printed


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


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("amavis_penpals_bonus_score", 0, "0 is not more than 0 and at most 10"),
        ("amavis_penpals_bonus_score", 10.5, "10.5 is not more than 0 and at most 10"),
        ("amavis_penpals_days", 0, "0 is not from 1 to 365"),
        ("amavis_penpals_days", 366, "366 is not from 1 to 365"),
    ],
)
def test_points_of_pen_pals_have_bounds(run, name, value, words):
    model = _model.derive({**variables(), name: value}, template)
    assert [problem for problem in model.problems if name in problem and words in problem] == model.problems != []
    assert _model.derive({**variables(), name: 10}, template).problems == []


@pytest.mark.parametrize("number", [-1, 1, 4, 1001])
def test_guesses_at_an_account_have_bounds(only_problem, number):
    assert only_problem(wrong_passwords_per_hour=number) == (
        f"gateway_wrong_passwords_per_hour: {number} is not from 5 to 1000; write a number within that, or 0 for no limit"
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"accounts": [ACCOUNT]}, True),
        ({"accounts": [ACCOUNT], "wrong_passwords_per_hour": 5}, True),
        ({"accounts": [ACCOUNT], "wrong_passwords_per_hour": 1000}, True),
        ({"accounts": [ACCOUNT], "wrong_passwords_per_hour": 0}, False),
        ({}, False),
    ],
)
def test_the_login_guard_is_there_for_accounts(given, wanted):
    model = _model.derive(variables(**given), template)
    assert not [problem for problem in model.problems if "wrong_passwords" in problem]
    assert model.optional["login_guard"] is wanted


def test_the_store_is_there_for_bayes_and_for_pen_pals():
    for bayes, pen_pals in ((True, False), (False, True), (False, False)):
        model = _model.derive(variables(bayes=bayes, pen_pals=pen_pals), template)
        assert model.optional["redis"] is (bayes or pen_pals)


def test_a_next_hop_that_was_left_empty_is_a_mistake(only_problem):
    problem = only_problem(domains=[{"name": "example.com", "next_hop": None}])
    assert "gateway_domains[0].next_hop" in problem


def test_limits_that_contradict_each_other_come_with_the_arithmetic(only_problem):
    problem = only_problem(limits={"workers": 40, "usual_scan": 60, "smtpd_processes": 200})
    memory = "300 MiB for the system + 2600 MiB for clamd + 64 MiB for what is learned + 40 workers x 150 MiB = 8964 MiB, but the host has 8192 MiB"
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
    assert run(accept_debian12_postfix_panic=True)["debian"] == "12"


def test_unofficial_signatures_need_debian_13(run, only_problem, host):
    wanted = {"accept_debian12_postfix_panic": True, "unofficial_signatures": [{"name": "urlhaus"}]}
    assert "failed" not in run(**wanted)
    host.release = ("debian", "12")
    problem = only_problem(**wanted)
    assert problem.startswith("clamav_unofficial_signatures: this host runs Debian 12, which has no package fangfrisch; use Debian 13")


def test_debian_13_needs_nothing_to_be_accepted(run):
    assert run(accept_debian12_postfix_panic=True)["debian"] == "13"


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


@pytest.mark.parametrize("port", [465, 587])
def test_the_ports_for_submission_are_needed_where_there_are_accounts(run, only_problem, host, port):
    host.ports = {port: {"exim4"}}
    assert only_problem(accounts=[ACCOUNT]) == f"port {port} is taken by exim4; stop it or move it to another port"
    assert "failed" not in run()
    host.ports = {port: {"master"}}
    assert "failed" not in run(accounts=[ACCOUNT])


@pytest.mark.parametrize("ports", [{}, {587: {"exim4"}}, {25: {"master"}, 10025: {"master"}, 10024: {"/usr/sbin/amavi"}}, {25: {"smtpd", "master", "smtp"}}])
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
    assert sorted(dns.asked) == [("192.0.2.53", ".", _dns.SOA), ("2001:db8::53", ".", _dns.SOA)]
    assert run.warnings == []


def test_nobody_is_asked_where_the_site_has_no_resolvers(run, dns):
    assert "failed" not in run()
    assert dns.asked == []


def test_a_resolver_that_does_not_know_the_root_is_one_all_the_same(run, dns):
    """So it is in a network that is cut off."""
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
def test_no_output_holds_the_key_of_a_list(run, modules, entry):
    printed = json.dumps([run(dnsbl_lists=[{"domain": "bl.example.org", "key": LIST_KEY, **entry}]), modules.given])
    assert "gateway_dnsbl" in printed
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


@pytest.fixture(scope="session")
def certified(tmp_path_factory):
    """Make a certificate with its key in one file: for names, valid for days from the beginning to the end."""
    directory = tmp_path_factory.mktemp("certified")

    def make(*names, begin=-1, end=1):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a gateway")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now + datetime.timedelta(days=begin)).not_valid_after(now + datetime.timedelta(days=end))
        signed = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False).sign(key, hashes.SHA256())
        path = directory / f"{signed.serial_number}.pem"
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(secret + signed.public_bytes(pem))
        return str(path)

    return make


@pytest.mark.parametrize("names", [["mx1.example.com"], ["mail.example.org", "MX1.example.com"], ["*.example.com"]])
def test_a_certificate_may_be_for_other_names_as_well(run, certified, names):
    path = certified(*names)
    assert "failed" not in run(tls_certificate_file=path, tls_key_file=path)


@pytest.mark.parametrize("names", [["mx2.example.com"], ["example.com"], ["*.mx1.example.com"], ["mx1.example.com.example.org"]])
def test_a_certificate_for_another_name_is_a_mistake(only_problem, certified, names):
    path = certified(*names)
    problem = only_problem(tls_certificate_file=path, tls_key_file=path)
    assert problem == f"gateway_tls_certificate_file: {path} is not for mx1.example.com, which clients ask for; use one with this name"


def test_a_certificate_that_has_expired_is_a_mistake(only_problem, certified):
    path = certified("mx1.example.com", begin=-30, end=-2)
    until = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=2)
    problem = only_problem(tls_certificate_file=path, tls_key_file=path)
    assert problem.startswith(f"gateway_tls_certificate_file: {path} has expired ({until:%b} {until.day:2} ")
    assert problem.endswith(f" {until.year} GMT); renew it")


def test_a_certificate_that_has_expired_and_is_for_another_name_is_two_mistakes(run, certified):
    path = certified("mx2.example.com", begin=-30, end=-2)
    problems = run(tls_certificate_file=path, tls_key_file=path)["problems"]
    assert len(problems) == 2
    assert "has expired" in problems[0]
    assert "is not for mx1.example.com" in problems[1]


def test_a_gateway_without_a_name_has_one_mistake(only_problem, certified):
    path = certified("mx1.example.com")
    assert only_problem(hostname="mx1", tls_certificate_file=path, tls_key_file=path).startswith("gateway_hostname: ")


def test_dates_and_names_are_left_to_a_later_look_where_there_is_no_openssl_yet(run, certified, monkeypatch):
    path = certified("mx2.example.com", begin=-30, end=-2)
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda module, name, *arguments: None)
    assert "failed" not in run(tls_certificate_file=path, tls_key_file=path)


def test_authorities_may_be_named(run, gateway_certificate):
    assert "failed" not in run(tls_ca_file=str(gateway_certificate))


@pytest.mark.parametrize("content", ["no certificate\n", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_authorities_that_are_none_are_a_mistake(only_problem, tmp_path, content):
    path = tmp_path / "ca.pem"
    path.write_text(content)
    assert only_problem(tls_ca_file=str(path)).startswith(f"gateway_tls_ca_file: {path} holds no certificates in PEM format (")


def test_authorities_that_cannot_be_read_are_one_mistake(only_problem, host, tmp_path):
    """What is checked with them is checked without them."""
    domains = [{**SITE["domains"][0], "next_hop_tls": "secure"}, SITE["domains"][1]]
    problem = only_problem(tls_ca_file=f"{tmp_path}/gone", domains=domains, smarthost="[smtp.example.org]:587")
    assert (
        problem == f"gateway_tls_ca_file: {tmp_path}/gone cannot be read on the gateway (No such file or directory); put a file with certificates there first"
    )
    assert {conversation["ca_path"] for conversation in host.conversations} == {None}
    assert only_problem(tls_ca_file=str(tmp_path)).startswith(f"gateway_tls_ca_file: {tmp_path} cannot be read on the gateway (Is a directory)")


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


# ---- what next hops offer ----------------------------------------------------------------------------------------

HOP = "mail.inside.example.com"
DEFAULT_SIZE, HEADROOM = 52428800, 1024 * 1024


def with_level(level):
    return {"domains": [{**SITE["domains"][0], "next_hop_tls": level}, SITE["domains"][1]]}


def without(extensions, name):
    return [line for line in extensions if line.split()[0] != name]


@pytest.fixture
def hop(host):
    return host.next_hops[HOP]


def test_each_next_hop_is_asked_what_it_offers_in_the_name_of_the_gateway(run, host):
    run()
    asked = [(each["host"], each["port"], each["helo"], each["tls"]) for each in host.conversations]
    assert sorted(asked, key=str, reverse=True) == [(HOP, 25, "mx1.example.com", "never"), ("2001:db8::25", 26, "mx1.example.com", "never")]


def test_a_next_hop_takes_what_the_filter_hands_on(run, only_problem, hop):
    most = DEFAULT_SIZE + HEADROOM
    hop.extensions = ["8BITMIME", f"SIZE {most}"]
    assert "failed" not in run()
    hop.extensions = ["8BITMIME", f"size {most - 1}"]
    problem = only_problem()
    assert problem.startswith(f"gateway_domains[0].next_hop: {HOP} takes messages of {most - 1} bytes, but the gateway would hand it up to {most}")
    assert f"set gateway_message_size_limit to {DEFAULT_SIZE - 1} at most" in problem
    assert "failed" not in run(message_size_limit=DEFAULT_SIZE - 1)


@pytest.mark.parametrize("size", [["SIZE 0"], ["SIZE"], [], ["SIZE unlimited"]])
def test_a_next_hop_that_names_no_limit_takes_everything(run, hop, size):
    hop.extensions = ["8BITMIME", *size]
    assert "failed" not in run(**hops(f"[{HOP}]"), message_size_limit=1024**3)


@pytest.mark.parametrize("size", [1, HEADROOM])
def test_a_next_hop_for_which_no_limit_is_small_enough_must_take_more(only_problem, hop, size):
    hop.extensions = ["8BITMIME", f"SIZE {size}"]
    problem = only_problem()
    assert f"takes messages of {size} bytes" in problem
    assert "gateway_message_size_limit" not in problem


def test_a_next_hop_takes_eight_bits_where_the_gateway_does(run, only_problem, hop):
    hop.extensions = without(hop.extensions, "8BITMIME")
    problem = only_problem()
    assert problem.startswith(f"gateway_domains[0].next_hop: {HOP} does not offer 8BITMIME, so Postfix would rewrite messages for it")
    assert problem.endswith("set gateway_8bitmime: false")
    assert "failed" not in run(**{"8bitmime": False})


def test_a_next_hop_without_ehlo_offers_nothing(run, only_problem, hop):
    hop.extensions = []
    assert "8BITMIME" in only_problem()
    assert "failed" not in run(**{"8bitmime": False})


@pytest.mark.parametrize("step", ["connect", "helo"])
def test_of_a_next_hop_that_turns_the_gateway_away_nothing_is_known(run, hop, step):
    hop.refused_at, hop.refusal = step, "554 5.7.1 Not yet"
    assert "failed" not in run()
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith(f"gateway_domains[0].next_hop: {HOP} turns the gateway away (554 5.7.1 Not yet)")


def test_a_next_hop_that_falls_silent_is_no_mistake(run, hop):
    hop.unreachable = f"{HOP}:25, at connect: no answer within the timeout of 10 seconds."
    assert "failed" not in run(**with_level("secure"))


def test_a_next_hop_that_does_not_answer_is_not_asked(run, host):
    host.addresses = {HOP: ["192.0.2.25"]}
    run(**with_level("secure"))
    assert [each["host"] for each in host.conversations] == ["2001:db8::25"]


def test_every_mistake_of_a_next_hop_is_one_of_its_own(run, hop):
    hop.extensions, hop.tls_failure = ["SIZE 10000000"], "it has no TLS"
    problems = run(**with_level("encrypt"))["problems"]
    assert len(problems) == 3
    assert {problem.partition(": ")[0] for problem in problems} == {"gateway_domains[0].next_hop"}


# ---- TLS to next hops and to the smarthost -----------------------------------------------------------------------


@pytest.mark.parametrize("level", ["none", "may"])
def test_tls_is_tried_only_where_it_is_asked_for(run, host, hop, level):
    hop.tls_failure = "the server does not offer STARTTLS"
    assert "failed" not in run(**with_level(level))
    assert {each["tls"] for each in host.conversations} == {"never"}


def test_a_certificate_is_verified_where_that_is_asked_for(run, only_problem, host, hop, gateway_certificate):
    hop.untrusted = f"{HOP}:25, at the TLS handshake: its certificate is not trusted: self-signed certificate"
    hop.untrusted += ". Give the issuer's certificate as ca_path, or set validate_certs to false."
    assert "failed" not in run(**with_level("encrypt"))
    problem = only_problem(**with_level("secure"), tls_ca_file=str(gateway_certificate))
    reason = hop.untrusted.split(". ")[0]
    assert problem == f"gateway_domains[0].next_hop: next_hop_tls is secure, but mail would wait in the queue: {reason}; {_judge.ADVICE_ON_TLS}"
    last = host.spoken_to(HOP)[-1]
    assert (last["host"], last["tls"], last["validate_certs"], last["ca_path"]) == (HOP, "require", True, str(gateway_certificate))


@pytest.mark.parametrize("level", ["encrypt", "secure"])
def test_a_next_hop_without_tls_is_a_mistake_where_it_is_asked_for(run, only_problem, hop, level):
    assert "failed" not in run(**with_level(level))
    hop.tls_failure = f"{HOP}:25: the server does not offer STARTTLS, and tls is require"
    problem = only_problem(**with_level(level))
    assert problem == f"gateway_domains[0].next_hop: next_hop_tls is {level}, but mail would wait in the queue: {hop.tls_failure}; {_judge.ADVICE_ON_TLS}"


@pytest.mark.parametrize("level", ["encrypt", "secure"])
def test_a_next_hop_that_offers_tls_and_refuses_it_is_a_mistake(only_problem, hop, level):
    hop.refused_at, hop.refusal = "starttls", "454 4.7.0 TLS not available due to local problem"
    problem = only_problem(**with_level(level))
    reason = f"{HOP} refuses STARTTLS ({hop.refusal})"
    assert problem == f"gateway_domains[0].next_hop: next_hop_tls is {level}, but mail would wait in the queue: {reason}; {_judge.ADVICE_ON_TLS}"


def test_the_level_is_that_of_the_next_hop_however_it_is_written(only_problem, hop):
    hop.tls_failure = "no TLS"
    domains = [{"name": f"{name}.example.com", "next_hop": f"[{HOP.upper()}]:25", "next_hop_tls": "encrypt", "verify_recipients": True} for name in "ab"]
    assert only_problem(domains=domains, recipients=[]).startswith("gateway_domains[0].next_hop: next_hop_tls is encrypt")


SMARTHOST = "[smtp.example.org]:587"


@pytest.fixture
def smarthost(host):
    return host.next_hops["smtp.example.org"]


@pytest.mark.parametrize(("level", "verified"), [("encrypt", False), ("secure", True)])
def test_the_smarthost_is_tried_with_its_level(run, host, level, verified):
    assert "failed" not in run(smarthost=SMARTHOST, smarthost_tls=level)
    assert run.warnings == []
    wanted = {"host": "smtp.example.org", "port": 587, "helo": "mx1.example.com", "tls": "require", "validate_certs": verified}
    spoken = host.spoken_to("smtp.example.org")[-1]
    assert not spoken.pop("ca_path")
    assert spoken.pop("names") == (["smtp.example.org", ".smtp.example.org"] if verified else [])
    assert spoken == wanted


def test_a_certificate_of_the_smarthost_is_verified_by_default(run, only_problem, smarthost):
    smarthost.untrusted = "its certificate is not trusted"
    problem = only_problem(smarthost=SMARTHOST)
    assert (
        problem == "gateway_smarthost: tls is secure, but mail for the world would wait in the queue: its certificate is not trusted; " + _judge.ADVICE_ON_TLS
    )
    assert "failed" not in run(smarthost=SMARTHOST, smarthost_tls="encrypt")


@pytest.mark.parametrize("level", ["encrypt", "secure"])
def test_a_smarthost_without_tls_is_a_mistake(only_problem, smarthost, level):
    smarthost.tls_failure = "the server does not offer STARTTLS"
    arguments = {"smarthost": SMARTHOST, "smarthost_tls": level}
    assert only_problem(**arguments).startswith(f"gateway_smarthost: tls is {level}, but mail for the world would wait in the queue: the server does not")
    smarthost.tls_failure, smarthost.refused_at, smarthost.refusal = "", "starttls", "454 4.7.0 TLS not available"
    assert "wait in the queue: smtp.example.org refuses STARTTLS (454 4.7.0 TLS not available); " in only_problem(**arguments)


def test_a_smarthost_need_not_take_large_messages_nor_eight_bits(run, smarthost):
    """What it refuses is bounced to the site's own users; their mail is the only one that it gets."""
    smarthost.extensions = ["STARTTLS", "SIZE 1000"]
    assert "failed" not in run(smarthost=SMARTHOST)


def test_a_smarthost_that_does_not_resolve_is_a_mistake_unless_it_may_have_mx_records(run, only_problem, host):
    host.addresses = {"smtp.example.org": [], "example.org": []}
    problem = only_problem(smarthost=SMARTHOST)
    assert problem.startswith("gateway_smarthost.next_hop: smtp.example.org does not resolve on this host (Name or service not known); correct the name")
    assert "failed" not in run(smarthost="example.org")
    assert [warning.partition(" does")[0] for warning in run.warnings] == ["gateway_smarthost.next_hop: example.org"]


def test_a_smarthost_that_does_not_answer_is_a_warning(run, host):
    host.addresses = {"smtp.example.org": ["192.0.2.25"]}
    assert "failed" not in run(smarthost=SMARTHOST)
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith("gateway_smarthost.next_hop: smtp.example.org port 587 does not answer (")
    assert "smtp.example.org" not in [each["host"] for each in host.conversations]


# ---- the site alone ----------------------------------------------------------------------------------------------


def test_a_run_for_the_site_alone_asks_nobody_and_looks_at_no_host(run, host):
    host.release, host.packages, host.ports = ("ubuntu", "24.04"), ("exim4-daemon-light",), {25: {"exim4"}}
    host.free["spool"] = 0
    arguments = {"smarthost": SMARTHOST, "tls_certificate_file": "/no/such/file", "tls_ca_file": "/no/such/file", "nameservers": ["192.0.2.53"]}
    assert "failed" not in run(only_the_site=True, **arguments)
    assert host.conversations == []
    assert run(**arguments)["failed"]


def test_a_run_for_the_site_alone_finds_its_mistakes(only_problem):
    assert only_problem(only_the_site=True, recipients=["alice@example.org", "alice@example.com"]).startswith("gateway_recipients: example.org is not in")


# ---- next hops whose servers MX records name, and other people's Dovecot ---------------------------------------------


def test_a_next_hop_without_brackets_is_not_judged_by_its_address(run, host):
    host.next_hops["mail.inside.example.com"].extensions = ["SIZE 1000"]
    domain = {"name": "example.com", "next_hop": "mail.inside.example.com", "next_hop_tls": "secure"}
    assert "failed" not in run(domains=[domain])
    assert run(domains=[{**domain, "next_hop": "[mail.inside.example.com]"}])["failed"]


@pytest.mark.parametrize("port", [110, 143, 993, 995])
def test_a_dovecot_that_serves_mailboxes_is_not_replaced(run, only_problem, host, port):
    host.ports = {port: {"dovecot"}}
    assert f"Dovecot serves mailboxes on this host (port {port})" in only_problem(accounts=[ACCOUNT])
    assert "failed" not in run()


# ---- variables that are not there, or not what they should be --------------------------------------------------------

REQUIRED = ["gateway_domains", "gateway_postmaster"]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("empty", [False, True], ids=["missing", "null"])
def test_a_required_variable_that_is_missing_is_one_mistake_with_what_it_is_for(run, name, empty):
    result = run(without=() if empty else [name], **({name.partition("_")[2]: None} if empty else {}))
    assert len(result["problems"]) == 1, result["problems"]
    assert result["problems"][0].startswith(f"{name}: it is required and not set; ")
    assert len(result["problems"][0]) > len(f"{name}: it is required and not set; ") + 20


def test_everything_that_is_missing_is_said_at_once(run):
    problems = run(without=REQUIRED)["problems"]
    assert [problem.partition(":")[0] for problem in problems] == REQUIRED


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("domains", "example.com", "list"),
        ("domains", {"name": "example.com"}, "write a list"),
        ("domains", ["example.com"], "dict"),
        ("recipients", {"alice@example.com": None}, "write a list"),
        ("recipients", [["alice@example.com"]], "list"),
        ("postmaster", ["alice@example.com"], "it is a list"),
        ("hostname", {"name": "mx1.example.com"}, "it is a dictionary"),
        ("message_size_limit", "50M", "50M"),
        ("message_size_limit", [50], "it is a list"),
        ("greylisting", "perhaps", "perhaps"),
        ("inet_protocols", "ipv5", "ipv5"),
        ("aliases", ["alice@example.com"], "dict"),
        ("limits", {"workers": [4]}, "it is a list"),
        ("smarthost", "[smtp.example.org]", "dict"),
        ("accounts", [{"name": ["alice@example.com"], "password": HASH}], "it is a list"),
    ],
)
def test_a_variable_of_the_wrong_type_is_one_mistake(host, run, variable, value, words):
    given = variables() | {f"gateway_{variable}": value}
    problems = _model.derive(given, template).problems
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"gateway_{variable}")
    assert words in problems[0]


@pytest.mark.parametrize(
    "variable",
    [
        "gateway_hostname",
        "gateway_domains",
        "gateway_recipients",
        "gateway_recipient_sources",
        "gateway_postmaster",
        "gateway_limits",
        "clamav_official_databases",
    ],
)
def test_a_template_that_cannot_be_rendered_is_one_mistake(variable):
    problems = _model.derive(variables() | {variable: UNDEFINED}, template).problems
    assert problems == [f"{variable}: it cannot be rendered: 'no_such_variable' is undefined; define what is missing, or write a value"]


def test_what_jinja_said_is_what_is_said():
    """Ansible wraps it."""

    def wrapping(value):
        try:
            return template(value)
        except AnsibleUndefinedVariable as error:
            raise AnsibleUndefinedVariable("Error while resolving value for 'msg' in /somewhere.yml line 3") from error

    problems = _model.derive(variables(postmaster=UNDEFINED), wrapping).problems
    assert problems == ["gateway_postmaster: it cannot be rendered: 'no_such_variable' is undefined; define what is missing, or write a value"]


def test_a_host_with_every_mistake_at_once_is_still_looked_at(run, host, modules):
    host.packages = ("exim4-daemon-light",)
    problems = run(without=REQUIRED, hostname=UNDEFINED, message_size_limit="50M")["problems"]
    assert [problem.partition(":")[0].partition(" ")[0] for problem in problems] == [
        "gateway_hostname",
        "gateway_domains",
        "gateway_postmaster",
        "gateway_message_size_limit",
        "another",
    ]
    assert [name for name, _arguments in modules.given] == ["survey"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gateway_recipient", "gateway_recipients"),
        ("gateway_domians", "gateway_domains"),
        ("postfix_maincf", "postfix_main_cf"),
        ("gateway_host_name", "gateway_hostname"),
    ],
)
def test_a_name_that_was_mistyped_is_a_mistake(only_problem, name, meant):
    problem = only_problem(variables=[name])
    assert problem.startswith(f"{name}: no role of antispam.gateway knows this variable; did you mean {meant}?")


@pytest.mark.parametrize("name", ["gateway_ip", "postfix_version", "resolver_package", "dovecot_imap_port", "gateway_interface"])
def test_a_name_of_somebody_elses_is_a_warning(run, name):
    assert "failed" not in run(variables=[name])
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith(f"{name}: no role of antispam.gateway knows this variable, so it has no effect on the gateway")


@pytest.mark.parametrize("name", ["gateway_ip", "postfix_version"])
def test_the_warning_names_the_nearest(run, name):
    run(variables=[name])
    nearest = run.warnings[0].rpartition("; the nearest name is ")[2]
    assert nearest.startswith(name.partition("_")[0] + "_")


@pytest.mark.parametrize("name", ["my_gateway_domain", "gatewayx", "nginx_port", "__gateway_preflight", "ansible_host"])
def test_other_names_are_no_matter(run, name):
    assert "failed" not in run(variables=[name])
    assert run.warnings == []


def test_a_variable_is_unknown_whatever_it_holds(only_problem):
    """It is not rendered: it may not be meant for this run."""
    assert only_problem(recipientes=UNDEFINED).startswith("gateway_recipientes: no role")


def test_a_variable_without_a_value_is_as_one_that_is_not_there(run):
    assert run(trusted_networks=None)["site"]["trusted_networks"] == []


# ---- computed defaults -----------------------------------------------------------------------------------------------


def test_computed_defaults_follow_other_variables():
    given = {name: value for name, value in variables().items() if name not in ("gateway_hostname", "gateway_dkim_signing", "gateway_own_resolver")}
    model = _model.derive(given, template)
    assert model.problems == []
    computed = {name: model.variables[f"gateway_{name}"] for name in ("hostname", "dkim_domains", "dkim_selector", "dane")}
    assert computed == {"hostname": "mx9.example.com", "dkim_domains": ["Example.com", "example.net"], "dkim_selector": "mx9", "dane": True}
    assert (model.site.hostname, model.outgoing.dkim_domains) == ("mx9.example.com", ["example.com", "example.net"])
    for more in ({"gateway_own_resolver": False}, {"gateway_nameservers": ["192.0.2.53"]}):
        assert _model.derive(given | more, template).variables["gateway_dane"] is False
    assert _model.derive(given | {"gateway_dane": False}, template).variables["gateway_dane"] is False
    assert _model.derive(given | {"gateway_dkim_domains": []}, template).outgoing.dkim_domains == []
    assert _model.derive(given | {"gateway_dkim_selector": "s1"}, template).outgoing.dkim_selector == "s1"


@pytest.mark.parametrize(
    ("changes", "sample"), [({}, "gtube"), ({"gateway_spam_kill_level": 950}, "eicar"), ({"spamassassin_scores": {"GTUBE": 4.2}}, "eicar")]
)
def test_a_run_sends_a_test_message_that_the_site_refuses(changes, sample):
    assert _model.derive(variables() | changes, template).facts({})["refused_sample"] == sample


def test_templates_get_the_same_variables_as_the_model():
    given = variables() | {"postfix_main_cf": {"a": True}, "amavis_parameters": {"b": [1]}}
    model, settings = _model.derive(given, template), _model.settings(given, template)
    assert settings == {name: value for name, value in model.variables.items() if name not in _model.TABLES}
    assert (settings["postfix_main_cf"], settings["amavis_parameters"]) == ({"a": "yes"}, {"@b": "(1, )"})


def test_a_value_that_the_daemon_has_no_word_for_is_one_of_the_mistakes(run):
    given = variables() | {"postfix_main_cf": {"a": {"b": 1}}}
    assert [problem.partition(": ")[0] for problem in _model.derive(given, template).problems] == ["postfix_main_cf['a']"]


# ---- more ports ------------------------------------------------------------------------------------------------------

OPTIONAL = {
    10023: {"greylisting": True},
    10040: {"accounts": [ACCOUNT], "sender_messages_per_hour": 10},
    8461: {"mta_sts": True},
    8892: {"dkim_signing": True, "dkim_ed25519": True},
}


@pytest.mark.parametrize(("port", "wanted"), OPTIONAL.items())
def test_the_port_of_a_service_that_is_wanted_has_to_be_free(run, only_problem, host, monkeypatch, port, wanted):
    host.ports = {port: {"nc"}}
    assert only_problem(**wanted) == f"port {port} is taken by nc; stop it or move it to another port"
    assert "failed" not in run(mta_sts=False)
    # Its process may have any name of an interpreter.
    monkeypatch.setenv("FAKE_SYSTEMCTL", "0")
    assert "failed" not in run(**wanted)


@pytest.mark.parametrize("port", OPTIONAL)
def test_the_unit_that_may_have_a_port_is_that_of_its_service(run, only_problem, host, tmp_path, port):
    host.ports = {port: {"nc"}}
    unit = _judge.OPTIONAL_UNITS[next(name for name, number in _model.PORTS.items() if number == port)]
    (tmp_path / "bin" / "systemctl").write_text(f'#!/bin/sh\n[ "$*" != "--quiet is-active {unit}" ]\n')
    assert f"port {port} is taken by nc" in only_problem(**OPTIONAL[port])
    (tmp_path / "bin" / "systemctl").write_text(f'#!/bin/sh\n[ "$*" = "--quiet is-active {unit}" ]\n')
    assert "failed" not in run(**OPTIONAL[port])


@pytest.mark.parametrize("port", [10026, 10027])
def test_the_ports_for_mail_to_the_world_are_looked_at(only_problem, host, port):
    host.ports = {port: {"nc"}}
    assert only_problem() == f"port {port} is taken by nc; stop it or move it to another port"


# ---- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "db.example.org/local.ndb",
        "http//db.example.org/local.ndb",
        "https://db.example.org",
        "https://db.example.org/",
        "https://db.example.org/a b.ndb",
        "rsync://x/y.ndb",
    ],
)
def test_a_url_of_signatures_that_is_none_is_a_mistake(only_problem, url):
    problem = only_problem(custom_urls=["https://db.example.org/local.ndb", url])
    assert problem.startswith("clamav_database_custom_urls[1]: this is not the URL of a signature file; write http://")


@pytest.mark.parametrize(
    "url", ["https://db.example.org/local.ndb", "http://user:word@db.example.org:8080/a/local.cvd", "ftps://db.example.org/x.hdb", "file:///srv/local.ndb"]
)
def test_a_url_of_signatures_is_taken(run, url):
    assert "failed" not in run(custom_urls=[url], official_databases=False)


def test_the_password_of_a_url_is_not_told(run):
    assert "hunter2" not in json.dumps(run(custom_urls=["https://user:hunter2@db.example.org"]))


def test_clamd_has_to_have_signatures(only_problem):
    assert only_problem(official_databases=False).startswith("clamav_database_custom_urls: clamav_official_databases is false and")


# ---- many neighbours -------------------------------------------------------------------------------------------------


def test_many_next_hops_are_asked_at_once_and_each_that_does_not_answer_is_named(run, host, monkeypatch):
    silent = [f"hop{number}.example.org" for number in range(7, 300, 30)]
    reach = _host.reach

    def slow(name, port):
        if name in silent:
            time.sleep(1)
            return "", f"{name} port {port} does not answer (timed out)", set()
        return reach(name, port)

    monkeypatch.setattr(_host, "reach", slow)
    began = time.monotonic()
    result = run(**hops(*[f"[hop{number}.example.org]" for number in range(300)]))
    assert time.monotonic() - began < 5
    assert "failed" not in result
    assert run.warnings == [f"gateway_domains[{number}].next_hop: hop{number}.example.org port 25 does not answer (timed out)" for number in range(7, 300, 30)]
    assert len({each["host"] for each in host.conversations}) == 290


def test_next_hops_that_differ_by_brackets_alone_are_both_looked_at(run, host):
    host.addresses = {HOP: []}
    result = run(**hops(f"[{HOP}]", HOP))
    assert len(result["problems"]) == 1
    assert result["problems"][0].startswith(f"gateway_domains[0].next_hop: {HOP} does not resolve")
    assert [warning.partition(":")[0] for warning in run.warnings] == ["gateway_domains[1].next_hop"]


@pytest.mark.parametrize("first", [True, False])
def test_the_server_in_brackets_is_spoken_to_whatever_stands_before_it(only_problem, hop, first):
    hop.extensions = ["SIZE 104857600"]
    both = [f"[{HOP}]", HOP] if first else [HOP, f"[{HOP}]"]
    assert only_problem(**hops(*both)).startswith(f"gateway_domains[{0 if first else 1}].next_hop: {HOP} does not offer 8BITMIME")


def test_a_policy_says_at_which_level_a_next_hop_is_tried(only_problem, hop):
    hop.untrusted = "its certificate is not trusted"
    problem = only_problem(tls_policies={f"[{HOP}]": "secure match=.example.com"})
    assert problem.startswith("gateway_domains[0].next_hop: next_hop_tls is secure, but")


def test_a_policy_says_for_which_names_its_certificate_may_be(run, host):
    run(tls_policies={f"[{HOP}]": "secure match=mx.example.net:.example.com"})
    assert host.spoken_to(HOP)[-1]["names"] == ["mx.example.net", ".example.com"]


def test_a_server_that_is_next_hop_and_smarthost_is_one(run, only_problem, host):
    host.addresses = {HOP: ["192.0.2.25"]}
    assert "failed" not in run(smarthost=f"[{HOP}]", smarthost_tls="encrypt")
    assert len([target for target in host.tried if target[0] == "192.0.2.25"]) == 1
    assert [warning.partition(":")[0] for warning in run.warnings] == ["gateway_domains[0].next_hop", "gateway_smarthost.next_hop"]


# ---- the login at the smarthost --------------------------------------------------------------------------------------

LOGIN = {"next_hop": "[smtp.example.org]:587", "username": "gateway", "password": "hunter2-secret"}


def logged_in(modules, step, code, *lines):
    modules.replies["smtp_conversation"] = {"reply": {"step": step, "code": code, "lines": list(lines)}}


def with_login(**changes):
    given = variables()
    given["gateway_smarthost"] = LOGIN | changes
    return given


def test_a_login_that_is_taken_is_no_news(host, modules):
    logged_in(modules, "login", 235, "235 2.7.0 Authentication successful")
    assert "failed" not in Preflight({}, modules).run(task_vars=with_login())
    asked = dict(modules.given)["smtp_conversation"]
    assert (asked["host"], asked["port"], asked["validate_certs"], asked["stop_after"]) == ("smtp.example.org", 587, True, "login")
    assert "hunter2-secret" not in json.dumps(dict(modules.given)["survey"])


def test_a_login_that_is_refused_is_a_mistake_without_the_password(host, modules):
    logged_in(modules, "login", 535, "535 5.7.8 Error: authentication failed")
    result = Preflight({}, modules).run(task_vars=with_login(tls="encrypt"))
    assert result["problems"] == [
        "gateway_smarthost: [smtp.example.org]:587 refuses the login of gateway (535 5.7.8 Error: authentication failed); correct username and password"
    ]
    assert dict(modules.given)["smtp_conversation"]["validate_certs"] is False
    assert "hunter2-secret" not in json.dumps(result)


@pytest.mark.parametrize("changes", [{"username": None, "password": None}, {"next_hop": "smtp.example.org"}, {"password": None}])
def test_nobody_logs_in_where_there_is_no_login_to_try(host, modules, changes):
    Preflight({}, modules).run(task_vars=with_login(**changes))
    assert [name for name, _arguments in modules.given] == ["survey"]


def test_a_survey_that_fails_is_what_fails(host, modules):
    def execute(name, arguments):
        return {"failed": True, "msg": "no python on the host"}

    assert Preflight({}, execute).run(task_vars=variables())["msg"] == "no python on the host"


# ---- what is ours ----------------------------------------------------------------------------------------------------


def test_services_that_this_collection_has_set_up_are_told_from_others(run, monkeypatch, tmp_path):
    ours, others = tmp_path / "postgrey", tmp_path / "dovecot.conf"
    ours.write_text("# Managed by Ansible (antispam.gateway). Changes\nx\n")
    others.write_text("# of somebody else\n")
    monkeypatch.setattr(_model, "OPTIONAL_FILES", {"postgrey": str(ours), "dovecot": str(others), "mta_sts": str(tmp_path / "gone")})
    assert run()["ours"] == ["postgrey"]


@pytest.mark.parametrize("name", ["dhclient", "dhcpcd", "NetworkManager"])
def test_who_writes_the_resolvers_of_the_host_anew_is_a_warning(run, host, name):
    host.processes = {name}
    assert "failed" not in run(own_resolver=True)
    assert [warning.partition(" ")[0] for warning in run.warnings] == [name]
    run()
    assert run.warnings == []
