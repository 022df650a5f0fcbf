# SPDX-License-Identifier: GPL-3.0-or-later
"""Providers of unofficial signatures that come and go, and what the playbook refuses of them."""

import pytest
from _network import BOB, STRANGER, debian, gateway, message, wait_until
from _playbook import refused, run

LETTER = "This text is known to the testnet alone.\n"
TESTNET = {"name": "testnet", "server_url": "http://ns.example.org/signatures", "files": ["letters.ndb"]}
UPDATE = "gateway-unofficial-signatures --force"
SECRET = "0123456789abcdef0123456789abcdef"


def old():
    return debian() < 13


pytestmark = pytest.mark.skipif("old()", reason="Debian 12 has no fangfrisch")


def placed():
    return gateway().check_output("cd /var/lib/clamav && ls | grep ^unofficial- || true").split()


def answer():
    return STRANGER.converse(recipients=[BOB], content=message(LETTER, recipients=[BOB])).answer


def clamd():
    return gateway().check_output("systemctl show --property=MainPID clamav-daemon")


@pytest.fixture(name="both", scope="module", autouse=True)
def _both(network):
    gateway().check_output(UPDATE)
    yield
    result = run(roles=["clamav"])
    assert result.rc == 0, result
    gateway().check_output(UPDATE)
    wait_until(lambda: answer() == "554 5.7.0", "clamd to have loaded the signatures", 60)


@pytest.mark.holds("T41")
def test_what_is_removed_from_the_variable_leaves_clamd_which_is_not_restarted():
    assert placed() == ["unofficial-interserver-interserver256.hdb", "unofficial-testnet-letters.ndb"]
    before = clamd()
    result = run(variables={"clamav_unofficial_signatures": [TESTNET]}, roles=["clamav"])
    assert result.rc == 0, result
    assert result.switched == {"unofficial signatures": "run"}
    assert placed() == ["unofficial-testnet-letters.ndb"]
    assert answer() == "554 5.7.0"
    result = run(variables={"clamav_unofficial_signatures": []}, roles=["clamav"])
    assert result.rc == 0, result
    assert result.switched == {"unofficial signatures": "run", "gateway-unofficial-signatures.timer": "stop"}
    assert placed() == []
    wait_until(lambda: answer() == "250 2.0.0", "clamd to have loaded the signatures that are left", 60)
    assert STRANGER.converse(sample="eicar").answer == "554 5.7.0"
    assert clamd() == before
    assert SECRET not in gateway().check_output("cat /etc/gateway-unofficial-signatures.json")
    result = run(variables={"clamav_unofficial_signatures": []}, roles=["clamav"])
    assert (result.rc, result.switched) == (0, {})


@pytest.mark.holds("T41")
def test_a_file_that_fangfrisch_does_not_know_is_refused_before_anything_is_changed():
    account = {"name": "securiteinfo", "customer_id": SECRET, "leave_out": ["android", "junk"]}
    said = refused({"clamav_unofficial_signatures": [TESTNET, account]}, roles=["clamav"])
    assert "securiteinfo: leave_out: fangfrisch does not know junk; it knows android, ascii, html, " in said
    assert SECRET not in said


def test_what_lets_the_site_in_is_shown_in_no_output():
    account = {"name": "securiteinfo", "customer_id": SECRET}
    result = run("--check", "--diff", "-vvv", variables={"clamav_unofficial_signatures": [TESTNET, account]}, roles=["clamav"])
    assert result.rc == 0, result
    assert result.switched["unofficial signatures"] == "run"
    assert SECRET not in result.output
