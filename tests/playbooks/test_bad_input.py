# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistake in the inventory is one clear error that names the variable and the way out; the gateway runs on as before."""

import contextlib
import re

import _rules
import pytest
from _faults import AMAVIS, FILES, wait_for_answer
from _network import BOB, STRANGER, gateway, inside, journal, mailboxes, wait_until
from _playbook import fingerprint, refused, refused_each, run


RECAP = re.compile(r"^(\S+) +: .* unreachable=(\d+) +failed=(\d+)", re.MULTILINE)

# --- Found before anything is changed ---------------------------------------------------------------------------------


MISTAKES = {
    "gateway_hostname": "mx1",
    "gateway_domains": [
        {"name": "example.com", "next_hop": "[no-such-host.inside.example.com]"},
        {"name": "example.net", "next_hop": "[mail.inside.example.com]"},
        {"name": "example.com", "next_hop": "[198.51.100.10]"},
    ],
    "gateway_recipients": ["bob@example.com", "info@example.org", "alice@example.com ?", "office@example.org"],
    "gateway_trusted_networks": ["127.0.0.1/8", "198.51.100.25/24", "0.0.0.0/0"],
    "gateway_sender_scores": {"@example.org": 1.0, "friend@example.org": None, "example.org": "many"},
    "gateway_aliases": {"info@example.net": ["nobody"]},
    "gateway_postmaster": "postmaster",
    "gateway_limits": {"workers": 200, "scan_deadline": 130, "child_timeout": 120, "proxy_timeout": 100},
    "gateway_tls_certificate_file": "/etc/ssl/no-such-file.pem",
    "gateway_client_allowlist": ["203.0.113.7/26", "everybody", "192.0.2.0/24"],
    "gateway_client_denylist": ["192.0.2.0/24"],
    "gateway_dnsbl_lists": [
        {"domain": "bl.example.org", "answers": "127.0.0", "weight": 3},
        {"domain": "bl.example.org", "answers": "127.[0..255].[0..255].[0..255]"},
        {"domain": "bl.example.org", "weight": 0},
        {"domain": "bl", "weight": 1},
    ],
    "gateway_dnsbl_threshold": 0,
    "gateway_nameservers": ["203.0.113.61", "resolver"],
}


# Each is the variables of a host of its own, and all are judged in one run: what counts is what is said about each.
WRONG = {
    "a misspelt variable": {"gateway_recipient": [BOB]},
    "types of the site": {
        "gateway_recipients": {"bob": "example.com"},
        "gateway_domains": [{"name": "example.com", "nexthop": "[mail.inside.example.com]"}],
        "gateway_limits": {"worker": 3, "scan_deadline": "soon"},
        "gateway_encrypted_content": "maybe",
    },
    "types of the services": {
        "postfix_table_type": "dbm",
        "amavis_banned_extensions": {"exe": True},
        "spamassassin_scores": 5,
        "clamav_signatures_timeout": "long",
    },
    "required and not set": {"gateway_postmaster": None},
    "undefined in a template": {"gateway_domains": "{{ domains_of_the_firm }}"},
    "wrong type": {"gateway_domains": {"example.com": "[mail.inside.example.com]"}},
    "a dictionary": {"postfix_main_cf": {"smtpd_banner": {"text": "hello"}}},
    "no name": {"amavis_parameters": {"X HEADER": 1}},
    "ClamAV's URL": {"clamav_database_custom_urls": ["ns.example.org/antispam-test.ndb"]},
    "a limit that services share": {"postfix_main_cf": {"message_size_limit": 104857600}},
    "options of a source that contradict each other": {"gateway_recipient_sources": [{"path": "users.txt", "column": "mail"}]},
    "limits that contradict each other": {"gateway_limits": {"workers": 2, "smtpd_processes": 116, "connections_per_client": 2}},
    "no signatures": {"clamav_official_databases": False, "clamav_database_custom_urls": []},
    "many mistakes": MISTAKES,
    "a rule channel without a key": {"spamassassin_channels": [{"name": "kam.example.org"}, {"name": "sa.example.org", "key": "0x24C063D8"}]},
    "a provider of signatures without an account": {"clamav_unofficial_signatures": [{"name": "securiteinfo"}]},
}


@pytest.fixture(name="wrong", scope="module")
def _wrong(network):
    """What is said about each of WRONG; nothing is changed, and mail flows."""
    return refused_each(WRONG)


@pytest.mark.parametrize(
    "mistake, words",
    [
        ("a misspelt variable", "gateway_recipient: no role of antispam.gateway knows this variable; did you mean gateway_recipients?"),
        ("types of the site", "gateway_recipients"),
        ("types of the site", "gateway_domains.nexthop"),
        ("types of the site", "missing required arguments: next_hop"),
        ("types of the site", "gateway_limits.worker"),
        ("types of the site", "scan_deadline"),
        ("types of the site", "value of gateway_encrypted_content must be one of: deliver, refuse, got: maybe"),
        ("types of the services", "value of postfix_table_type must be one of: lmdb, hash, btree, cdb, got: dbm"),
        ("types of the services", "amavis_banned_extensions"),
        ("types of the services", "spamassassin_scores"),
        ("types of the services", "clamav_signatures_timeout"),
        ("required and not set", "gateway_postmaster: it is required and not set"),
        (
            "undefined in a template",
            "gateway_domains: it cannot be rendered: 'domains_of_the_firm' is undefined; define what is missing, or write a value",
        ),
        ("wrong type", "gateway_domains: it is a dictionary; write a list"),
        ("a dictionary", "postfix_main_cf['smtpd_banner']: a dictionary cannot be written there"),
        ("no name", "amavis_parameters['X HEADER']: 'X HEADER' is not the name of a parameter"),
        ("ClamAV's URL", "clamav_database_custom_urls[0]: this is not the URL"),
        (
            "a limit that services share",
            "postfix_main_cf['message_size_limit']: other services would go on with another value; set gateway_message_size_limit in its place",
        ),
        (
            "options of a source that contradict each other",
            "gateway_recipient_sources[0] (users.txt): column is an option of csv files, but the format is plain",
        ),
        pytest.param(
            "limits that contradict each other",
            "(smtpd_processes 116 + submission_processes 2 x 2 ports) / workers 2 = 60 rounds x usual_scan 5 s = 300 s,"
            " which must be below proxy_timeout 300 s",
            marks=pytest.mark.holds("T1"),
        ),
        pytest.param("limits that contradict each other", "connections_per_client 2 is more than half of the 2 workers", marks=pytest.mark.holds("T1")),
        pytest.param(
            "no signatures",
            "clamav_official_databases is false and clamav_database_custom_urls is empty, so clamd would have no signatures; set one of them.",
            marks=pytest.mark.holds("S6", "T13"),
        ),
        pytest.param(
            "a rule channel without a key",
            "spamassassin_channels[0].key: kam.example.org has no key, so nobody could tell its rules from forged ones",
            marks=pytest.mark.holds("T19"),
        ),
        pytest.param(
            "a rule channel without a key",
            "spamassassin_channels[1].key: this is no public key in ASCII armor",
            marks=pytest.mark.holds("T19"),
        ),
        pytest.param(
            "a provider of signatures without an account",
            "clamav_unofficial_signatures[0].customer_id: securiteinfo gives signatures to those who have one; write it, or remove securiteinfo",
            marks=pytest.mark.holds("T41"),
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(wrong, mistake, words):
    assert words in wrong[mistake]
    assert "caused by" not in wrong[mistake], "no line of our files, with what Jinja says of it"


def test_a_port_that_two_services_want_is_named():
    said = refused({"postfix_master_cf": {"127.0.0.1:10024/inet": {"private": "n", "command": "smtpd"}}})
    assert "port 10024 is amavis.service's, and postfix.service cannot listen on it as well" in said.replace("postfix@-.service", "postfix.service")


def test_a_variable_of_somebody_else_is_a_warning_and_the_run_goes_on():
    result = run("--check", variables={"gateway_ip": "203.0.113.10", "postfix_exporter_port": 9154})
    assert result.rc == 0, result
    assert "gateway_ip: no role of antispam.gateway knows this variable, so it has no effect on the gateway" in result.said
    assert "postfix_exporter_port: no role of antispam.gateway knows this variable" in result.said


def test_of_three_hosts_each_gets_its_findings_and_the_good_one_is_not_held_up():
    hosts = {
        "lost.example.com": {"ansible_host": "203.0.113.99"},
        "wrong.example.com": {"ansible_host": "198.51.100.10", "gateway_recipients": ["bob@example.org"], "gateway_limits": {"workers": 200}},
    }
    result = run("--check", hosts=hosts)
    assert result.rc != 0, result
    assert "gateway_recipients: example.org is not in gateway_domains" in result.said
    assert "200 workers x 150 MiB" in result.said
    assert {name: (int(failed), int(unreachable)) for name, unreachable, failed in RECAP.findall(result.output)} == {
        "lost.example.com": (0, 1),
        "mx1.example.com": (0, 0),
        "wrong.example.com": (1, 0),
    }
    assert result.output.index("is not in gateway_domains") < result.output.index("TASK [antispam.gateway.gateway : Find the packages")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            "gateway_hostname: 'mx1' is not fully qualified: write the host name with its domain, like mx1.example.com",
            id="unqualified host name",
            marks=pytest.mark.holds("T5"),
        ),
        pytest.param(
            "gateway_trusted_networks[0]: '127.0.0.1/8' has host bits set, which makes Postfix answer 451 to everybody: write 127.0.0.0/8",
            id="host bits",
            marks=pytest.mark.holds("D2"),
        ),
        pytest.param(
            "gateway_trusted_networks[1]: '198.51.100.25/24' has host bits set, which makes Postfix answer 451 to everybody: write 198.51.100.0/24",
            id="more host bits",
            marks=pytest.mark.holds("D2"),
        ),
        pytest.param("gateway_trusted_networks[2]: ", id="the whole internet trusted"),
        pytest.param(
            "gateway_recipients: example.org is not in gateway_domains, but 2 recipients are in it (info@example.org, ...); add the domain or remove them",
            id="recipients of an unknown domain",
        ),
        pytest.param("gateway_recipients[2]: ", id="recipient that is no address"),
        pytest.param(
            "gateway_domains: nothing says who receives mail in example.net; list its recipients in gateway_recipients,"
            " name a source in gateway_recipient_sources, write '@example.net' in gateway_recipients to accept every address,"
            " or set verify_recipients: true to let Postfix ask the next hop",
            id="domain without recipients",
            marks=pytest.mark.holds("S7", "D14"),
        ),
        pytest.param("gateway_domains[0].next_hop: no-such-host.inside.example.com does not resolve", id="next hop that does not resolve"),
        pytest.param("gateway_domains[2].next_hop: ", id="next hop that is the gateway"),
        pytest.param("gateway_domains[2].name: example.com stands in the list twice; keep one of them", id="domain named twice"),
        pytest.param(
            "gateway_sender_scores['@example.org']: '@example.org' never matches in amavis: write 'example.org' for the domain",
            id="score that never matches",
            marks=pytest.mark.holds("S5"),
        ),
        pytest.param("gateway_sender_scores['friend@example.org']: ", id="score without a value", marks=pytest.mark.holds("S5")),
        pytest.param(
            "gateway_sender_scores['example.org']: 'many' is not a score: write a number such as -2.5",
            id="score that is no number",
            marks=pytest.mark.holds("S5"),
        ),
        pytest.param("gateway_aliases['info@example.net'][0]: 'nobody' is not an address: it has no @", id="alias to no address"),
        pytest.param("gateway_postmaster: 'postmaster' is not an address: it has no @", id="postmaster that is no address", marks=pytest.mark.holds("D10")),
        pytest.param("200 workers x 150 MiB", id="too little memory", marks=pytest.mark.holds("T1")),
        pytest.param("scan_deadline 130 s must be below child_timeout 120 s", id="deadlines: scan and child", marks=pytest.mark.holds("D5")),
        pytest.param(
            "child_timeout 120 s must be below proxy_timeout 100 s, or a client gets 451 for a message that is delivered",
            id="deadlines: child and proxy",
            marks=pytest.mark.holds("D5"),
        ),
        pytest.param("gateway_client_allowlist[0]: '203.0.113.7/26' has host bits set", id="allowlist: host bits"),
        pytest.param("gateway_client_allowlist[1]: 'everybody' is not a network", id="allowlist: no network"),
        pytest.param("gateway_client_denylist: 192.0.2.0/24 is in gateway_client_allowlist as well", id="in both lists"),
        pytest.param("gateway_dnsbl_lists[0]: '127.0.0' is not a filter of answers", id="DNS list: filter"),
        pytest.param(
            "gateway_dnsbl_lists[1]: the filter '127.[0..255].[0..255].[0..255]' lets 127.255.255.0 count, which is no listing",
            id="DNS list: filter that errors pass",
            marks=pytest.mark.holds("T15"),
        ),
        pytest.param("gateway_dnsbl_lists[2]: bl.example.org has the weight 0", id="DNS list: weight"),
        pytest.param("gateway_dnsbl_lists[3]: 'bl' is not fully qualified", id="DNS list: domain"),
        pytest.param("gateway_dnsbl_threshold: 0 would refuse clients that no list names", id="DNS lists: threshold"),
        pytest.param("gateway_nameservers[0]: 203.0.113.61 does not answer", id="resolver that does not answer"),
        pytest.param("gateway_nameservers[1]: 'resolver' is not an IP address", id="resolver that is no address"),
        pytest.param("gateway_tls_certificate_file: /etc/ssl/no-such-file.pem cannot be read on the gateway", id="certificate that is not there"),
    ],
)
def test_every_mistake_of_a_site_is_named_with_the_way_out(wrong, words):
    assert words in wrong["many mistakes"]


@contextlib.contextmanager
def port_of_amavis_taken():
    host = gateway()
    host.check_output("systemctl stop amavis")
    try:
        host.check_output("systemd-run --quiet --collect --unit=port-taken python3 -m http.server --bind 127.0.0.1 10024")
        wait_until(lambda: host.run("ss --no-header --listening --tcp --numeric sport = :10024").stdout, "the port to be taken")
        yield
    finally:
        host.run("systemctl stop port-taken")
        host.check_output("systemctl start amavis")
        wait_for_answer(AMAVIS)


@pytest.mark.holds("T24")
def test_a_port_that_another_process_holds_is_an_error_before_anything_is_changed():
    with port_of_amavis_taken():
        before = fingerprint()
        result = run()
        after = fingerprint()
    assert result.rc != 0, result
    assert "port 10024 is taken by python3" in result.said
    assert before == after


# --- Found by the service itself, before the switch -------------------------------------------------------------------


@pytest.mark.holds("S3", "D3")
def test_a_parameter_that_postfix_does_not_know_is_refused_and_the_old_configuration_stays():
    said = refused({"postfix_main_cf": {"smtpd_typo_limit": 5}}, roles=["postfix"])
    assert "the new configuration is not valid, the old one stays in use. postconf says:" in said
    assert "smtpd_typo_limit" in said


def test_perl_that_does_not_compile_is_refused_and_the_old_configuration_stays():
    said = refused({"amavis_perl": "$max_requests = ;\n"}, roles=["amavis"])
    assert "the new configuration is not valid, the old one stays in use." in said
    assert "syntax error" in said


def test_a_rule_that_spamassassin_does_not_understand_is_refused_and_the_old_configuration_stays():
    said = refused({"spamassassin_rules": "body BROKEN /(unclosed/\nscore BROKEN 1\n"}, roles=["spamassassin"])
    assert "the new configuration is not valid, the old one stays in use. spamassassin says:" in said
    assert "BROKEN" in said


def test_a_broken_rule_is_refused_where_rules_are_not_updated_as_well():
    rules = {"spamassassin_update_rules": False, "spamassassin_rules": "body BROKEN /(unclosed/\nscore BROKEN 1\n"}
    assert "the new configuration is not valid, the old one stays in use. spamassassin says:" in refused(rules, roles=["spamassassin"])


@pytest.mark.holds("T19")
def test_a_rule_channel_that_is_not_signed_with_its_key_is_refused_and_the_old_rules_judge_on():
    with _rules.channel():
        _rules.publish(1, _rules.rule("CHANNEL_FIRST", "firstword"))
        gateway().check_output(_rules.UPDATE)
        wait_until(lambda: _rules.hits("firstword", "CHANNEL_FIRST"), "amavis to have loaded the rules", 60)
        another = (FILES / "another_signer.pub.asc").read_text(encoding="utf-8")
        said = refused({"spamassassin_channels": [{"name": _rules.CHANNEL, "key": another}]}, roles=["spamassassin"])
        assert "the new configuration is not valid, the old one stays in use." in said
        assert "rules.example.org: it is not signed with the key of the channel" in said
        assert _rules.hits("firstword", "CHANNEL_FIRST")


def test_a_parameter_that_clamd_does_not_know_is_refused_and_the_old_configuration_stays():
    said = refused({"clamav_clamd_parameters": {"MaxTypo": 5}}, roles=["clamav"])
    assert "the new configuration is not valid, the old one stays in use. clamd says:" in said
    assert "MaxTypo" in said


# --- Found only when the service loads it ----------------------------------------------------------------------------


def settings():
    """The files of the services, and whether the services run."""
    return gateway().check_output(
        "find /etc/postfix /etc/amavis /etc/clamav /etc/spamassassin -type f -exec sha256sum {} + | sort; systemctl is-active postfix amavis clamav-daemon"
    )


@pytest.mark.parametrize(
    "role, variables, cause",
    [
        # amavis has this port.
        pytest.param("postfix", {"postfix_master_cf": {"10024/inet": {"private": "n", "command": "smtpd"}}}, "Address already in use", id="postfix"),
        pytest.param("clamav", {"clamav_clamd_parameters": {"LogFile": "/nonexistent/clamd.log"}}, "/nonexistent", id="clamd"),
    ],
)
def test_a_configuration_under_which_a_service_does_not_run_is_taken_back(began, role, variables, cause):
    before = settings()
    result = run(variables=variables, roles=[role])
    assert result.rc != 0, result
    assert "the old files are back and in use" in result.said
    assert "The last lines of its journal:" in result.said
    assert cause in result.said.partition("The last lines of its journal:")[2]
    assert settings() == before
    assert "Reload" in journal(began) or "Start" in journal(began)
    record = STRANGER.converse(recipients=[BOB])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]


# Postfix's own check takes each of these; the daemon that reads it dies of it when it is used.
DEADLY = {
    "smtp(8), to next hops and to the world": ({"postfix_main_cf": {"smtp_tls_note_starttls_offer": "perhaps"}}, "bad boolean"),
    "smtp(8), to the world alone": ({"postfix_master_cf": {"smtp/unix": {"options": {"smtp_skip_5xx_greeting": "perhaps"}}}}, "bad boolean"),
    "cleanup(8)": ({"postfix_main_cf": {"virtual_alias_expansion_limit": "many"}}, "virtual_alias_expansion_limit"),
    "qmgr(8)": ({"postfix_main_cf": {"qmgr_message_active_limit": "many"}}, "qmgr_message_active_limit"),
    "smtpd(8)": ({"postfix_main_cf": {"smtpd_hard_error_limit": "many"}}, "smtpd_hard_error_limit"),
    "trivial-rewrite(8)": ({"postfix_main_cf": {"append_at_myorigin": "perhaps"}}, "append_at_myorigin"),
    "a transport that is missing": ({"postfix_master_cf": {"relay/unix": None}}, "mail transport unavailable"),
}


@pytest.mark.parametrize("variables, cause", DEADLY.values(), ids=DEADLY.keys())
def test_a_configuration_that_a_daemon_of_postfix_dies_of_is_taken_back(variables, cause):
    before = settings()
    result = run(variables=variables, roles=["postfix"])
    assert result.rc != 0, result
    assert "the old files are back and in use" in result.said, result
    assert cause in result.said, result
    assert settings() == before
    record = STRANGER.converse(recipients=[BOB])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]


def test_a_next_hop_that_is_down_takes_no_configuration_back():
    inside().check_output("systemctl stop postfix")
    try:
        result = run(variables={"postfix_main_cf": {"smtpd_banner": "$myhostname ESMTP while it is down"}}, roles=["postfix"])
        assert result.rc == 0, result
        assert STRANGER.converse(stop_after="connect").text == "mx1.example.com ESMTP while it is down"
        proof = run(playbook="antispam.gateway.prove")
        assert proof.rc != 0, proof
        assert "Not as promised: clean mail, on its way" in proof.said, proof
        assert "Connection refused" in proof.said, proof
    finally:
        inside().check_output("systemctl start postfix")
    assert run(roles=["postfix"]).rc == 0
    gateway().check_output("postqueue -f")
    wait_until(lambda: "empty" in gateway().run("postqueue -p").stdout, "the queue to be empty")
