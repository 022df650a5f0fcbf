# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody else has set up on a host, told from what is ours and what Debian's packages wrote."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _foreign

OURS = "# Managed by Ansible (antispam.gateway). Changes made here are undone by the next run.\n"
DEBIAN_MAIN_CF = "# A comment\nsmtpd_banner = $myhostname ESMTP $mail_name (Debian)\nbiff = no\nmynetworks = 127.0.0.0/8\n"
DEBIAN_MASTER_CF = """\
smtp      inet  n       -       y       -       -       smtpd
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
"""
# What postfix.postinst makes of main.cf, by the answer to its question: (parameters, answers that debconf keeps).
ANSWERED = {
    "Internet Site": (
        "myhostname = mx\nalias_maps = hash:/etc/aliases\nalias_database = hash:/etc/aliases\nmyorigin = /etc/mailname\n"
        "mydestination = $myhostname, mx, localhost.localdomain, , localhost\nrelayhost =\n"
        "mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\nmailbox_size_limit = 0\nrecipient_delimiter = +\n"
        "inet_interfaces = all\ninet_protocols = all\nsmtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination\n",
        {"destinations": "$myhostname, mx, localhost.localdomain, , localhost"},
    ),
    "Satellite system": ("relayhost = smtp.example.org\ninet_interfaces = loopback-only\n", {"relayhost": "smtp.example.org"}),
    "Local only": ("default_transport = error\nrelay_transport = error\ninet_interfaces = loopback-only\n", {}),
    "a network of one's own": ("mynetworks = 192.0.2.0/24\n", {"mynetworks": "192.0.2.0/24"}),
}


@pytest.fixture
def host(debian):
    def write(path, text):
        target = debian / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    write("/usr/share/postfix/main.cf.debian", DEBIAN_MAIN_CF)
    write("/usr/share/postfix/master.cf.dist", DEBIAN_MASTER_CF)
    return write


@pytest.fixture
def look(debian):
    commands = {"relay_domains": "", "relay_recipient_maps": ""}

    def run(words):
        if words[0] == "postconf":
            return 0, commands[words[2]] + "\n", ""
        table = {"hash:/etc/postfix/relay_domains": "example.com\tOK\nold.example\tOK\n"}.get(words[2])
        return (0, table, "") if table else (1, "", "open database: No such file or directory")

    def call(*files):
        return _foreign.look(run, files)

    call.commands = commands
    return call


def test_a_bare_host_has_nothing(look):
    assert look("/etc/clamav/clamd.conf") == {"postfix": None, "amavis": [], "spamassassin": [], "replaced": [], "in_force": []}


def test_what_is_ours_is_nobody_elses(host, look):
    host("/etc/postfix/main.cf", OURS + "always_bcc = archive@example.com\n")
    host("/etc/amavis/conf.d/50-user", OURS + "$log_level = 5;\n")
    host("/etc/spamassassin/local.cf", OURS + "score GTUBE 1\n")
    host("/etc/clamav/clamd.conf", OURS)
    assert look("/etc/clamav/clamd.conf") == {"postfix": None, "amavis": [], "spamassassin": [], "replaced": [], "in_force": []}


@pytest.mark.parametrize("answer", ANSWERED)
def test_what_the_package_writes_for_any_answer_is_nobodys(host, look, answer):
    parameters, answers = ANSWERED[answer]
    host("/etc/postfix/main.cf", DEBIAN_MAIN_CF + parameters)
    host("/etc/postfix/master.cf", DEBIAN_MASTER_CF)
    stanzas = [f"Name: postfix/{question}\nTemplate: postfix/{question}\nValue: {text}\nOwners: postfix\nFlags: seen\n" for question, text in answers.items()]
    host("/var/cache/debconf/config.dat", "\n".join(stanzas))
    found = look()["postfix"]
    assert (found["parameters"], found["services"]) == ({}, {})


def test_parameters_and_services_of_somebody_are_found(host, look):
    host(
        "/etc/postfix/main.cf",
        DEBIAN_MAIN_CF.replace("biff = no", "biff = yes") + "always_bcc = archive@example.com\nheader_checks =\n  regexp:/etc/postfix/h\n",
    )
    added = "smtp-amavis unix - - n - 2 smtp\n  -o smtp_data_done_timeout=1200\n"
    host(
        "/etc/postfix/master.cf",
        DEBIAN_MASTER_CF.replace("inet  n       -       y       -       -       smtpd", "inet n - y - - smtpd -o content_filter=x") + added,
    )
    found = look()["postfix"]
    assert found["parameters"] == {"biff": "yes", "always_bcc": "archive@example.com", "header_checks": "regexp:/etc/postfix/h"}
    assert found["services"] == {"smtp/inet": "smtpd -o content_filter=x", "smtp-amavis/unix": "smtp -o smtp_data_done_timeout=1200"}


@pytest.mark.parametrize("name", ["mynetworks", "relayhost", "mydestination"])
def test_an_answer_that_was_changed_by_hand_is_somebodys(host, look, name):
    host("/etc/postfix/main.cf", f"{name} = 198.51.100.0/24\n")
    host("/var/cache/debconf/config.dat", "Name: postfix/mynetworks\nTemplate: x\nValue: 127.0.0.0/8\nOwners: postfix\n")
    assert look()["postfix"]["parameters"] == {name: "198.51.100.0/24"}


def test_domains_and_recipients_are_read_from_tables_and_from_lists(host, look):
    host("/etc/postfix/main.cf", "relay_domains = x\nrelay_recipient_maps = y\n")
    host("/etc/postfix/recipients", "# who\nalice@example.com OK\nbob@example.com OK\n")
    look.commands["relay_domains"] = "hash:/etc/postfix/relay_domains, example.net ldap:/etc/postfix/ldap.cf"
    look.commands["relay_recipient_maps"] = "texthash:/etc/postfix/recipients"
    found = look()["postfix"]
    assert found["relay_domains"] == ["example.com", "example.net", "ldap:/etc/postfix/ldap.cf", "old.example"]
    assert (found["recipients"], found["recipients_count"]) == (["alice@example.com", "bob@example.com"], 2)


def test_a_postfix_that_was_removed_is_described_by_its_files(host):
    host("/etc/postfix/main.cf", "relay_domains = example.com, hash:/etc/postfix/relay_domains\nrelay_recipient_maps = hash:/etc/postfix/r\n")

    def gone(words):
        raise FileNotFoundError(2, "No such file or directory", words[0])

    found = _foreign.look(gone, [])["postfix"]
    assert found["relay_domains"] == ["example.com", "hash:/etc/postfix/relay_domains"]
    assert found["recipients"] == []


def test_statements_of_amavis_and_spamassassin_are_found(host, look):
    host("/etc/amavis/conf.d/50-user", "use strict;\n# a comment\n$sa_kill_level_deflt = 8; # higher\n1;  # ensure a defined return\n")
    host("/etc/spamassassin/local.cf", "# x\nscore MINE 3\n")
    found = look()
    assert (found["amavis"], found["spamassassin"]) == (["$sa_kill_level_deflt = 8;"], ["score MINE 3"])


def test_a_file_that_is_as_the_package_shipped_it_is_nobodys(host, look):
    text = "DatabaseDirectory /var/lib/clamav\n"
    digest = hashlib.md5(text.encode()).hexdigest()
    host("/etc/clamav/clamd.conf", text)
    host("/etc/amavis/conf.d/20-debian_defaults", text)
    host("/var/lib/ucf/hashfile", f"{digest}  /etc/clamav/clamd.conf\n")
    host("/var/lib/dpkg/status", f"Package: amavisd-new\nConffiles:\n /etc/amavis/conf.d/20-debian_defaults {digest}\nDescription: x\n")
    assert (look("/etc/clamav/clamd.conf")["replaced"], look()["in_force"]) == ([], [])
    host("/etc/clamav/clamd.conf", text + "MaxThreads 99\n")
    host("/etc/amavis/conf.d/20-debian_defaults", text + "x\n")
    host("/etc/spamassassin/99_mine.cf", "score MINE 3\n")
    found = look("/etc/clamav/clamd.conf")
    assert found["replaced"] == ["/etc/clamav/clamd.conf"]
    assert found["in_force"] == ["/etc/amavis/conf.d/20-debian_defaults", "/etc/spamassassin/99_mine.cf"]


def test_what_stayed_in_force_when_a_service_became_ours_is_not_named_again(host, look):
    host("/etc/spamassassin/99_mine.cf", "score MINE 3\n")
    host("/etc/spamassassin/local.cf", OURS)
    assert look()["in_force"] == []
