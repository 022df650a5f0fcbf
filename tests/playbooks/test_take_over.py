# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that somebody else has set up is not emptied unasked, and loses nothing when it is taken over."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from _network import ALICE, BOB, CHECKOUT, OUTSIDE, Client, deliveries, machine, mailboxes, wait_until
from _playbook import SITE, run

HOST = "gateway.example.com"
# A recipient of the old set-up in a domain that the new one does not have.
ZOE = "zoe@old.example"
# As measured.md's: two relay domains, a filter behind the queue, a copy of all mail, checks, a score of its own.
MAIN_CF = """
compatibility_level = 3.6
myhostname = gateway.example.com
mydestination =
relay_domains = hash:/etc/postfix/relay_domains
relay_recipient_maps = hash:/etc/postfix/relay_recipients
transport_maps = hash:/etc/postfix/transport
mynetworks = 127.0.0.0/8 [::1]/128
always_bcc = bob@example.com
header_checks = regexp:/etc/postfix/header_checks
smtpd_milters = inet:127.0.0.1:8891
milter_default_action = accept
message_size_limit = 104857600
content_filter = smtp-amavis:[127.0.0.1]:10024
"""
TABLES = {
    "relay_domains": "example.com OK\nold.example OK\n",
    "relay_recipients": f"{ALICE} OK\n{BOB} OK\nerin@example.com OK\n{ZOE} OK\n",
    "transport": "example.com smtp:[mail.inside.example.com]\nold.example smtp:[mail.inside.example.com]\n",
}
# What the list has to name, each with the variable that keeps it.
NAMED = [
    "gateway_take_over: somebody else has set up this host",
    "main.cf has always_bcc = bob@example.com, which would go; postfix_main_cf['always_bcc'] keeps it",
    "main.cf has header_checks = regexp:/etc/postfix/header_checks, which would go; postfix_main_cf['header_checks'] keeps it",
    "main.cf has smtpd_milters = inet:127.0.0.1:8891, which would go; postfix_main_cf['smtpd_milters'] keeps it",
    "main.cf has message_size_limit = 104857600, which would go; gateway_message_size_limit keeps it",
    "main.cf has content_filter = smtp-amavis:[127.0.0.1]:10024, which would go",
    "master.cf has the service smtp-amavis/unix (smtp -o smtp_data_done_timeout=1200), which would go; postfix_master_cf['smtp-amavis/unix'] keeps it",
    "the relay domain old.example would be refused; gateway_domains keeps it",
    "the recipient erin@example.com would be refused; gateway_recipients keeps it",
    "/etc/spamassassin/99_mine.cf would stay in force, and no inventory has it",
]


@pytest.fixture(name="second", scope="module")
def _second(network):
    """A plain host beside the gateway, on which somebody has set up Postfix by hand, and mail that waits in its queue."""
    subprocess.run([CHECKOUT / "tools" / "testnet", "second", "--fresh"], check=True, capture_output=True)
    host = machine(HOST)
    host.check_output(
        "echo postfix postfix/main_mailer_type select 'Internet Site' | debconf-set-selections;"
        " apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends postfix"
    )
    for path, text in {
        "/etc/postfix/main.cf": MAIN_CF,
        "/etc/postfix/header_checks": "/^X-Never:/ REJECT\n",
        "/etc/spamassassin/99_mine.cf": "body MINE /never said/\nscore MINE 3\n",
        **{f"/etc/postfix/{name}": text for name, text in TABLES.items()},
    }.items():
        host.check_output("mkdir -p $(dirname %s) && printf %%s %s > %s", path, text, path)
    host.check_output("echo %s >>/etc/postfix/master.cf", "smtp-amavis unix - - n - 2 smtp -o smtp_data_done_timeout=1200")
    host.check_output("chmod 640 /etc/postfix/relay_domains && cd /etc/postfix && for name in %s; do postmap hash:$name; done" % " ".join(TABLES))
    host.check_output("systemctl restart postfix")
    return host


@pytest.fixture(name="queued", scope="module")
def _queued(second):
    """{what it is: Message-ID} of mail that waits for a filter that is not there."""
    client = Client(OUTSIDE, "203.0.113.20", "mail.example.org", host="203.0.113.11")
    found = {}
    for what, sample, recipient in (("clean", "clean", ALICE), ("gtube", "gtube", ALICE), ("lost", "clean", ZOE)):
        record = client.converse(sample=sample, sender="bob@example.org", recipients=[recipient])
        assert record.answer == "250 2.0.0", record
        found[what] = record.message_id
    wait_until(lambda: [each["queue_name"] for each in queue_of(second)] == ["deferred"] * 3, "the filter to be missing")
    return found


def queue_of(host):
    return [json.loads(line) for line in host.check_output("postqueue -j").splitlines()]


def on_second(*options, playbook=SITE, **variables):
    domains = [{"name": "example.com", "next_hop": "[mail.inside.example.com]"}]
    variables |= {"gateway_domains": domains, "gateway_recipients": [ALICE, BOB], "gateway_accounts": [], "gateway_mta_sts": False}
    return run("--limit", HOST, *options, hosts={HOST: {}}, variables=variables, playbook=playbook)


def fingerprint(host):
    return host.check_output(
        "find /etc /var/lib/antispam-gateway /var/backups -not -name '.pwd.lock' -printf '%p %y %i %m %U:%G %s %T@\\n' 2>/dev/null | sort; dpkg-query --show"
    )


@pytest.mark.parametrize("playbook", [SITE, "antispam.gateway.recipients"])
def test_a_host_of_somebody_elses_is_left_as_it_is_and_the_list_says_what_would_go(second, playbook):
    before = fingerprint(second)
    result = on_second(playbook=playbook)
    assert result.rc != 0, result
    assert [text for text in NAMED if text not in result.said] == [], result
    assert fingerprint(second) == before


def test_check_mode_gives_the_list_and_goes_on(second):
    result = on_second("--check")
    assert result.rc == 0, result
    assert [text for text in NAMED if text not in result.said] == [], result
    assert "Switch the services to their configuration" in result.changed


@pytest.fixture(name="taken", scope="module")
def _taken(second, queued):
    return on_second(gateway_take_over=True)


def test_it_is_taken_over_when_the_inventory_says_so(taken, second):
    assert taken.rc == 0, taken
    assert second.check_output("postconf -hx always_bcc") == ""


def test_what_waited_in_the_queue_is_scanned_before_it_is_delivered(taken, second, queued):
    wait_until(lambda: mailboxes(queued["clean"]) == [ALICE, BOB], "the clean message")
    delivery = deliveries(queued["clean"])[0]
    assert "amavis" in "".join(delivery.message.get_all("Received"))


def on_hold(host, recipient):
    """The queue ID of the message for this recipient, which is on hold."""
    (left,) = [each for each in queue_of(host) if recipient in {to["address"] for to in each["recipients"]}]
    assert (left["queue_name"], left["sender"]) == ("hold", "bob@example.org")
    return left["queue_id"]


def test_what_is_refused_is_on_hold_and_named(taken, second, queued):
    assert re.search(rf"{on_hold(second, ALICE)} from <bob@example.org> to <{ALICE}>, <{BOB}>: 554 5.7.0", taken.said), taken
    assert mailboxes(queued["gtube"]) == []


def test_mail_for_a_domain_that_the_site_does_not_have_is_on_hold_and_named(taken, second, queued):
    """It could only be returned, to a sender who may be forged."""
    assert re.search(rf"{on_hold(second, ZOE)} from <bob@example.org> to [^:]*: this site takes no mail for {ZOE} any more", taken.said), taken
    assert mailboxes(queued["lost"]) == []


def test_the_old_files_are_kept_and_one_command_puts_them_back(taken, second):
    (folder,) = second.check_output("ls -d /var/backups/antispam-gateway/*").split()
    assert f"copies of the files that somebody else wrote: {folder}" in taken.said
    assert second.file(f"{folder}/etc/postfix/main.cf").content_string == MAIN_CF
    assert second.file(f"{folder}/etc/postfix/relay_domains").mode == 0o640
    try:
        second.check_output(f"cp --archive {folder}/. / && systemctl restart postfix")
        assert second.check_output("postconf -hx always_bcc") == BOB
        assert second.check_output("postmap -q old.example hash:/etc/postfix/relay_domains") == "OK"
    finally:
        again = on_second(gateway_take_over=True)
    assert again.rc == 0, again


def test_what_is_ours_is_taken_without_a_question(taken, second):
    result = on_second()
    assert result.rc == 0, result
    assert result.changed == [], result
