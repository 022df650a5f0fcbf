# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a gateway, and what does not."""

import pytest
from _network import ENCRYPTED_ZIP, STRANGER, message


@pytest.mark.holds("S1", "S4", "S6", "T18")
@pytest.mark.parametrize("name", ["postfix", "amavis", "clamav-daemon", "clamav-freshclam"])
def test_a_service_runs_and_comes_back_after_a_reboot(gateway, name):
    assert gateway.service(name).is_running
    assert gateway.service(name).is_enabled


@pytest.mark.holds("T19")
def test_spamd_does_not_run(gateway):
    assert gateway.service("spamd").is_masked or not gateway.service("spamd").exists
    assert gateway.run("pgrep --full spamd").rc != 0


@pytest.mark.holds("T19")
def test_spamassassins_rules_are_updated(gateway):
    assert gateway.service("spamassassin-maintenance.timer").is_enabled or gateway.service("spamassassin-update.timer").is_enabled


@pytest.mark.holds("D15", "D21")
def test_every_lookup_table_is_there_and_none_is_of_berkeley_db(gateway):
    used = set(gateway.check_output("postconf -nx; postconf -P; postconf -h default_database_type").replace(",", " ").split())
    assert not {word for word in used if word.partition(":")[0] in ("hash", "btree")}
    tables = {word for word in used if word.startswith("lmdb:/etc/")}
    assert len(tables) >= 5
    for table in tables:
        assert gateway.run(f"postmap -q nothing@example.invalid {table}").stderr == ""


@pytest.mark.holds("T12")
def test_amavis_keeps_no_berkeley_db(gateway):
    assert gateway.check_output("find /var/lib/amavis -name '*.db'") == ""


@pytest.mark.holds("T18")
def test_no_service_of_postfix_is_chrooted(gateway):
    assert {line.split()[4] for line in gateway.check_output("postconf -M").splitlines()} == {"n"}


@pytest.mark.holds("D1")
def test_postfix_finds_nothing_to_complain_about(gateway):
    checked = gateway.run("postfix check")
    assert checked.rc == 0
    assert checked.stderr == ""
    assert gateway.run("postconf -n").stderr == ""


@pytest.mark.holds("T26")
def test_amavis_keeps_no_message_aside(gateway):
    start = gateway.check_output("date +%s.%N")
    records = [STRANGER.converse(sample=sample) for sample in ("gtube", "eicar", "clean")]
    records.append(STRANGER.converse(content=message(attachments=[("setup.exe", b"just text")])))
    records.append(STRANGER.converse(content=message(attachments=[("secret.zip", ENCRYPTED_ZIP)])))
    assert [record.reply["code"] for record in records] == [554, 554, 250, 554, 250]
    # tmp is where the workers unpack; what is kept there has a test of its own.
    kept = f"find /var/lib/amavis /var/mail -path /var/lib/amavis/tmp -prune -o -type f -newermt @{start} -print"
    assert gateway.check_output(kept) == ""
