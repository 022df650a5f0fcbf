# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the playbook over a gateway's life: settings that come and go, runs that break off, files that were edited by hand."""

import os
import signal

import pytest
from _faults import AMAVIS, BACK, CLAMD, FRONT, wait_for_answer
from _network import BOB, ENCRYPTED_ZIP, STRANGER, deliveries, gateway, mailboxes, message, postconf, wait_until
from _playbook import run, start

FOUNDATION = "Switch the resolver and the updates of signatures to their configuration"
SWITCH = "Switch the services to their configuration"
RECIPIENTS = "Keep the recipients as the inventory and its sources say"
SUBJECT_TAG = "[TAGGED FOR A WHILE] "
# One setting in every way that a site has: a variable of ours, and a parameter of each service that we do not model.
FOR_A_WHILE = {
    "gateway_spam_subject_tag": SUBJECT_TAG,
    "gateway_encrypted_content": "refuse",
    "gateway_recipients": ["alice@example.com", BOB, "carol@example.com", "@staff.example.com", "dave@example.com"],
    # With a boolean that is not written yes, every smtp(8) dies, and nothing is delivered any more.
    "postfix_main_cf": {"smtpd_banner": "$myhostname ESMTP for a while", "smtpd_hard_error_limit": 7, "biff": None, "smtp_tls_note_starttls_offer": True},
    "postfix_master_cf": {"127.0.0.1:10587/inet": {"private": "n", "command": "smtpd", "options": {"smtpd_banner": "a listener of the site"}}},
    "amavis_parameters": {"X_HEADER_LINE": "scanned for a while", "remove_existing_x_scanned_headers": True},
    "spamassassin_scores": {"GTUBE": 4.2},
    "clamav_clamd_parameters": {"MaxThreads": 11, "PreludeEnable": False},
    "resolver_settings": {"log-servfail": True},
    "dovecot_settings": {"auth_debug": True},
    "mta_sts_settings": {"default_zone": {"strict_testing": False}},
}


def postfix(result):
    """What was done to each service, with one name for Postfix's unit, which has another one on Debian 12."""
    return {"postfix.service" if name == "postfix@-.service" else name: action for name, action in result.switched.items()}


def banner():
    return STRANGER.converse(stop_after="connect").text


def offers_site_listener():
    return gateway().run("timeout 5 bash -c 'head --lines=1 <>/dev/tcp/127.0.0.1/10587'").stdout


@pytest.fixture(name="interrupted", scope="module")
def _interrupted(network):
    """A run that ended half-way: a part of the tables is new, no service has its new configuration."""
    process = start(variables=FOR_A_WHILE)
    said = ""
    for line in process.stdout:
        said += line
        if "Write the lookup tables" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "Keep the sender scores" in said, said
    return said


@pytest.fixture(name="completed", scope="module")
def _completed(interrupted):
    return run(variables=FOR_A_WHILE)


@pytest.fixture(name="removed", scope="module")
def _removed(network):
    return run()


def test_a_run_that_was_interrupted_leaves_a_gateway_that_works(interrupted):
    record = STRANGER.converse(recipients=[BOB])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]


def test_the_next_run_completes_it(completed):
    assert completed.rc == 0, completed
    assert {"amavis.service": "reload", "postfix.service": "reload"}.items() <= postfix(completed).items()


class TestSetting:
    """What a site sets has its effect; what it no longer sets is gone."""

    @pytest.mark.holds("S1", "S3")
    def test_a_parameter_of_postfix_holds(self, completed):
        assert banner() == "mx1.example.com ESMTP for a while"
        assert postconf("smtpd_hard_error_limit") == "7"
        assert gateway().check_output("postconf -n biff") == "", "null leaves a parameter out"

    def test_a_boolean_is_in_the_words_of_each_service(self, completed):
        assert postconf("smtp_tls_note_starttls_offer") == "yes"
        record = STRANGER.converse(recipients=[BOB], content=message(recipients=[BOB], headers={"X-Virus-Scanned": "by somebody else"}))
        (delivery,) = deliveries(record.message_id)
        assert delivery.message.get_all("X-Virus-Scanned") == ["scanned for a while"]
        assert "auth_debug = yes" in gateway().check_output("doveconf -n auth_debug")
        assert gateway().check_output("unbound-checkconf -o log-servfail") == "yes"

    def test_a_listener_of_the_site_is_there(self, completed):
        assert offers_site_listener() == "220 a listener of the site\r\n"

    @pytest.mark.holds("S4")
    def test_a_parameter_of_amavis_holds(self, completed):
        record = STRANGER.converse(recipients=[BOB])
        (delivery,) = deliveries(record.message_id)
        assert delivery.message["X-Virus-Scanned"] == "scanned for a while"

    @pytest.mark.holds("S4")
    def test_a_score_of_spamassassin_and_the_subject_tag_hold(self, completed):
        record = STRANGER.converse(recipients=[BOB], sample="gtube", subject="Tagged")
        (delivery,) = deliveries(record.message_id)
        assert delivery.message["Subject"] == SUBJECT_TAG + "Tagged"

    @pytest.mark.holds("T21", "S8")
    def test_an_encrypted_archive_is_refused(self, completed):
        record = STRANGER.converse(content=message(attachments=[("secret.zip", ENCRYPTED_ZIP)]))
        assert record.answer == "554 5.7.0"
        assert mailboxes(record.message_id) == []

    @pytest.mark.holds("S6")
    def test_a_parameter_of_clamd_holds(self, completed):
        assert "MaxThreads 11" in gateway().check_output("cat /etc/clamav/clamd.conf")

    @pytest.mark.holds("S7")
    def test_a_recipient_is_known(self, completed):
        assert STRANGER.converse(recipients=["dave@example.com"], stop_after="rcpt").answer == "250 2.1.5"


class TestSettingThatWasRemoved:
    def test_the_run_says_what_it_changed(self, removed):
        assert removed.rc == 0, removed
        assert RECIPIENTS in removed.changed
        assert {"amavis.service": "reload", "postfix.service": "reload"}.items() <= postfix(removed).items()

    @pytest.mark.holds("S1", "S3")
    def test_a_parameter_of_postfix_is_as_before(self, removed):
        assert banner() == "mx1.example.com ESMTP"
        assert postconf("smtpd_hard_error_limit") != "7"
        assert gateway().check_output("postconf -n biff") == "biff = no"

    def test_a_listener_of_the_site_is_gone(self, removed):
        assert offers_site_listener() == ""

    @pytest.mark.holds("S4")
    def test_a_parameter_of_amavis_is_as_before(self, removed):
        record = STRANGER.converse(recipients=[BOB])
        (delivery,) = deliveries(record.message_id)
        assert delivery.message["X-Virus-Scanned"] != "scanned for a while"

    @pytest.mark.holds("S4")
    def test_a_score_of_spamassassin_is_as_before(self, removed):
        assert STRANGER.converse(recipients=[BOB], sample="gtube").answer == "554 5.7.0"

    @pytest.mark.holds("T21")
    def test_an_encrypted_archive_arrives_marked_again(self, removed):
        record = STRANGER.converse(content=message(attachments=[("secret.zip", ENCRYPTED_ZIP)]))
        assert record.answer == "250 2.0.0"
        (delivery,) = deliveries(record.message_id)
        assert delivery.message["Subject"] == "***UNCHECKED*** Test"

    @pytest.mark.holds("S6")
    def test_a_parameter_of_clamd_is_as_before(self, removed):
        assert "MaxThreads 11" not in gateway().check_output("cat /etc/clamav/clamd.conf")

    @pytest.mark.holds("S7")
    def test_a_recipient_is_unknown_again(self, removed):
        assert STRANGER.converse(recipients=["dave@example.com"], stop_after="rcpt").answer == "550 5.1.1"


# --- Hand edits -------------------------------------------------------------------------------------------------------

EDITS = """
set -e
# The running Postfix has the edit, too.
echo 'smtpd_banner = $myhostname edited by hand' >>/etc/postfix/main.cf
postfix reload
# An entry that only the compiled table lost, one that only it has, and a table that is gone.
postmap -d bob@example.com lmdb:/etc/postfix/relay_recipients
printf 'mallory@example.com OK\\n' | postmap -i lmdb:/etc/postfix/relay_recipients
rm /etc/postfix/virtual.lmdb
# What nobody should read or write.
chmod 0666 /etc/amavis/conf.d/50-user
sed -i '$i $sa_kill_level_deflt = 9999;' /etc/amavis/conf.d/50-user
echo 'score GTUBE 0.1' >>/etc/spamassassin/local.cf
sed -i 's/^AlertExceedsMax.*/AlertExceedsMax no/' /etc/clamav/clamd.conf
systemctl disable --now --quiet clamav-freshclam
systemctl stop amavis
"""
REPAIRED_TABLES = {"Write the lookup tables", RECIPIENTS}
REPAIRED_SERVICES = {
    "clamav-freshclam.service": "start",
    "clamav-daemon.service": "restart",
    "SpamAssassin": "files",
    "amavis.service": "start",
    "postfix.service": "reload",
}


@pytest.fixture(name="repair", scope="module")
def _repair(removed):
    """What check mode and then a real run say to a gateway that was edited by hand."""
    gateway().check_output(EDITS)
    before = gateway().check_output("sha256sum /etc/postfix/* /etc/amavis/conf.d/* 2>/dev/null; true")
    told = run("--check")
    unchanged = gateway().check_output("sha256sum /etc/postfix/* /etc/amavis/conf.d/* 2>/dev/null; true") == before
    done = run()
    wait_for_answer(CLAMD, AMAVIS, BACK, FRONT)
    return told, unchanged, done


class TestEditByHand:
    def test_check_mode_tells_what_will_be_repaired_and_changes_nothing(self, repair):
        told, unchanged, _done = repair
        assert told.rc == 0, told
        assert set(told.changed) == {*REPAIRED_TABLES, FOUNDATION, SWITCH}, told
        assert postfix(told) == REPAIRED_SERVICES, told
        assert unchanged

    def test_a_run_repairs_just_that(self, repair):
        told, _unchanged, done = repair
        assert done.rc == 0, done
        assert (done.changed, done.switched) == (told.changed, told.switched)

    @pytest.mark.holds("S3")
    def test_the_running_postfix_forgets_the_edit(self, repair):
        assert banner() == "mx1.example.com ESMTP"

    @pytest.mark.holds("S7", "D21")
    @pytest.mark.parametrize(
        "recipient, answer", [("bob@example.com", "250 2.1.5"), ("postmaster@example.com", "250 2.1.5"), ("mallory@example.com", "550 5.1.1")]
    )
    def test_the_compiled_tables_are_as_they_should_be(self, repair, recipient, answer):
        assert STRANGER.converse(recipients=[recipient], stop_after="rcpt").answer == answer

    @pytest.mark.holds("S4")
    def test_spam_is_refused_again(self, repair):
        assert STRANGER.converse(recipients=[BOB], sample="gtube").answer == "554 5.7.0"

    def test_the_files_have_their_permissions_back(self, repair):
        assert gateway().file("/etc/amavis/conf.d/50-user").mode == 0o644
        assert "AlertExceedsMax yes" in gateway().check_output("cat /etc/clamav/clamd.conf")

    @pytest.mark.parametrize("unit", ["amavis", "clamav-freshclam", "clamav-daemon", "postfix"])
    def test_every_service_runs_and_comes_back_after_a_reboot(self, repair, unit):
        assert gateway().service(unit).is_running
        assert gateway().service(unit).is_enabled


# --- Between the switch and the reload --------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["marker gone", "marker of the old files"])
def test_files_that_were_switched_but_never_loaded_are_loaded_by_the_next_run(gateway, repair, rest):
    """As a run leaves the gateway that is killed just then: the right files, and a Postfix that has not read them."""
    gateway.check_output("cp -p /etc/postfix/main.cf /run/main.cf && echo 'smtpd_banner = old' >>/etc/postfix/main.cf && postfix reload")
    wait_until(lambda: banner() == "old", "the old configuration to be in use")
    gateway.check_output("mv /run/main.cf /etc/postfix/main.cf")
    assert banner() == "old"
    (marker,) = gateway.check_output("ls /var/lib/antispam-gateway/postfix[.@]*.applied").split()
    gateway.check_output(f"rm {marker}" if rest == "marker gone" else f"echo old >{marker}")
    result = run(roles=["postfix"])
    assert result.rc == 0, result
    assert result.changed == [SWITCH]
    assert list(postfix(result)) == ["postfix.service"]
    assert banner() == "mx1.example.com ESMTP"


KILLER = """
import os, pathlib, signal, time

def holders():
    for link in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == "/var/lib/antispam-gateway/lock":
                yield int(link.parts[2])
        except OSError:
            continue

files = [pathlib.Path(path) for path in ("/etc/amavis/conf.d/50-user", "/etc/postfix/main.cf")]
before = [path.stat().st_ino for path in files]
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    if pathlib.Path("/var/lib/antispam-gateway/journal").exists() and files[0].stat().st_ino != before[0]:
        for process in set(holders()):
            os.kill(process, signal.SIGKILL)
        assert files[1].stat().st_ino == before[1], "Postfix had its files already"
        print("killed")
        break
    time.sleep(0.001)
"""
CONFIGURATION = "sha256sum /etc/postfix/*.cf /etc/amavis/conf.d/* /etc/spamassassin/*.cf /etc/clamav/*.conf"


@pytest.mark.parametrize("undone_by", ["the host at boot", "the next run"])
def test_a_run_that_is_killed_between_two_services_is_undone_as_a_whole(gateway, repair, undone_by):
    before = gateway.check_output(CONFIGURATION)
    process = start(variables=FOR_A_WHILE)
    try:
        assert gateway.check_output("python3 -c %s", KILLER).strip() == "killed"
    finally:
        output, _nothing = process.communicate()
    assert process.returncode != 0, output
    assert gateway.check_output(CONFIGURATION) != before
    record = STRANGER.converse(recipients=[BOB])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]
    if undone_by == "the host at boot":
        # As systemd does it before it starts anything else.
        gateway.check_output("systemctl start gateway-recover.service")
        assert gateway.check_output(CONFIGURATION) == before
    result = run()
    assert result.rc == 0, result
    assert gateway.check_output(CONFIGURATION) == before
    assert (
        gateway.check_output("find /etc -name '.*.antispam-*'; ls /var/lib/antispam-gateway | grep journal; find /run -maxdepth 1 -name 'antispam-gateway.*'")
        == ""
    )
    assert banner() == "mx1.example.com ESMTP"
    record = STRANGER.converse(recipients=[BOB])
    (delivery,) = deliveries(record.message_id)
    assert delivery.message["X-Virus-Scanned"] != "scanned for a while"


@pytest.fixture(name="ipv6_alone")
def _ipv6_alone(network):
    """What a run says that takes IPv4 away; it is back afterwards."""
    yield run(variables={"gateway_inet_protocols": "ipv6"})
    assert run().rc == 0


def test_a_gateway_may_speak_ipv6_alone(ipv6_alone):
    outside = {"host": "2001:db8:113::10", "source_address": "2001:db8:113::20"}
    assert ipv6_alone.rc == 0, ipv6_alone
    record = STRANGER.converse(recipients=[BOB], **outside)
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]
    assert STRANGER.converse(sample="gtube", **outside).answer == "554 5.7.0"
    with pytest.raises(AssertionError, match="connection refused"):
        STRANGER.converse(stop_after="connect")


def test_a_gateway_that_spoke_ipv6_alone_speaks_ipv4_again():
    assert STRANGER.converse(recipients=[BOB]).answer == "250 2.0.0"
