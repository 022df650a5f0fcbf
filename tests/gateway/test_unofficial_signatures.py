# SPDX-License-Identifier: GPL-3.0-or-later
"""Unofficial signatures: what is right reaches clamd, what is not changes nothing and is named."""

import hashlib

import pytest
from _faults import main_process, write
from _network import BOB, OUTSIDE, STRANGER, debian, deliveries, gateway, journal, mailboxes, message, wait_until

UNIT = "gateway-unofficial-signatures.service"
UPDATE = "gateway-unofficial-signatures --force"
SERVED = "/srv/www/signatures"
DATABASES = "/var/lib/clamav"
LETTER = "This text is known to the testnet alone.\n"
ATTACHMENT = b"An attachment that the test network knows by its hash.\n"
ANOTHER = "This text is known since the second version.\n"


def old():
    return debian() < 13


pytestmark = pytest.mark.skipif("old()", reason="Debian 12 has no fangfrisch")


def ndb(name, text):
    return f"{name}:0:*:{text.strip().encode().hex()}\n"


def publish(content, checksum=None, name="letters.ndb"):
    write(f"{SERVED}/{name}", content, OUTSIDE)
    write(f"{SERVED}/{name}.sha256", f"{checksum or hashlib.sha256(content.encode()).hexdigest()}  {name}\n", OUTSIDE)


def send(text="See the attachment.\n", attachments=()):
    return STRANGER.converse(recipients=[BOB], content=message(text, attachments, recipients=[BOB]))


def databases(which="unofficial-*"):
    return gateway().check_output(f"cd {DATABASES} && sha256sum $(ls -d {which})")


def official():
    return gateway().check_output(f"cd {DATABASES} && stat --format='%n %Y %s' $(ls | grep -v ^unofficial- | grep -v freshclam.dat)")


@pytest.fixture(name="known", scope="module", autouse=True)
def _known(network):
    """clamd has what the test network serves, whatever was there before."""
    gateway().check_output(UPDATE)
    wait_until(lambda: send(LETTER).answer == "554 5.7.0", "clamd to have loaded the signatures", 60)


@pytest.fixture(name="restored")
def _restored(outside):
    """What the test network serves is as before afterwards, and clamd has it."""
    outside.check_output(f"rm -rf /tmp/signatures && cp --archive {SERVED} /tmp/signatures")
    yield
    outside.check_output(f"rm -rf {SERVED} && cp --archive /tmp/signatures {SERVED}")
    gateway().check_output(UPDATE)
    wait_until(lambda: send(LETTER).answer == "554 5.7.0", "clamd to have loaded the signatures", 60)


@pytest.mark.holds("T41")
def test_what_an_unofficial_signature_knows_is_refused_as_a_virus():
    record = send(LETTER)
    assert record.answer == "554 5.7.0"
    assert "contains a virus: Testnet.Letter.UNOFFICIAL" in record.text
    assert mailboxes(record.message_id) == []
    # Of a provider that fangfrisch knows.
    record = send(attachments=[("report.txt", ATTACHMENT)])
    assert "contains a virus: Testnet.Attachment.UNOFFICIAL" in record.text
    assert send("Another text.\n", [("report.txt", ATTACHMENT + b"!")]).answer == "250 2.0.0"
    # What clamd knows besides is still known.
    assert "contains a virus: " in STRANGER.converse(sample="eicar").text


@pytest.mark.holds("T41")
def test_a_new_version_takes_the_place_of_the_old_one_without_a_restart_of_clamd(restored):
    before, others = main_process("clamav-daemon"), official()
    publish(ndb("Testnet.Another", ANOTHER))
    gateway().check_output(UPDATE)
    wait_until(lambda: "Testnet.Another" in send(ANOTHER).text, "clamd to have loaded the new version", 60)
    assert send(LETTER).answer == "250 2.0.0"
    assert (main_process("clamav-daemon"), official()) == (before, others)


def test_a_signature_whose_name_is_one_of_spam_gives_points_and_no_refusal(restored):
    publish(ndb("Sanesecurity.Junk.7", ANOTHER))
    gateway().check_output(UPDATE)

    def status():
        record = send(ANOTHER)
        assert record.answer == "250 2.0.0", record
        return deliveries(record.message_id)[0].message["X-Spam-Status"]

    wait_until(lambda: "AV:Sanesecurity.Junk.7.UNOFFICIAL=0.1" in status(), "clamd to have loaded the new version", 60)


@pytest.mark.holds("T41")
@pytest.mark.parametrize(
    ("published", "why"),
    [
        pytest.param({"content": "<html>Come back later.</html>\n"}, "ClamAV cannot load it: Problem parsing database at line 1", id="a web page"),
        pytest.param(
            {"content": ndb("Testnet.Another", ANOTHER) + "Testnet.Cut:0:*"}, "ClamAV cannot load it: Problem parsing database at line 2", id="cut off"
        ),
        pytest.param({"content": ""}, "ClamAV cannot load it: Empty database file", id="empty"),
        pytest.param({"content": ndb("Testnet.Any", "Subject: ")}, "it finds Testnet.Any.UNOFFICIAL in an ordinary message", id="finds everything"),
        pytest.param({"content": ndb("Testnet.Another", ANOTHER), "checksum": "0" * 64}, "it is not what its checksum says", id="another checksum"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_named_in_the_journal(restored, began, published, why):
    before, process = databases(), main_process("clamav-daemon")
    publish(**published)
    # Other than the timer, it asks the provider whenever it was asked last.
    result = gateway().run(UPDATE)
    assert result.rc == 1
    said = result.stderr
    assert f"testnet: letters.ndb: {why}" in said
    assert "its old signatures stay in use" in said
    if "checksum" not in published:
        # What was fetched is still there, and is tried again.
        assert gateway().run(f"systemctl start {UNIT}").rc != 0
        wait_until(lambda: f"testnet: letters.ndb: {why}" in journal(began, units=[UNIT]), "the reason in the journal")
    assert (databases(), main_process("clamav-daemon")) == (before, process)
    assert send(LETTER).answer == "554 5.7.0"
    assert send(ANOTHER).answer == "250 2.0.0"


@pytest.mark.holds("T41")
def test_a_provider_that_is_away_keeps_its_signatures(restored, outside):
    before = databases()
    outside.check_output(f"rm {SERVED}/letters.ndb*")
    assert "testnet: letters.ndb: it cannot be fetched: " in gateway().run(UPDATE).stderr
    outside.check_output("systemctl stop nginx")
    try:
        said = gateway().run(UPDATE).stderr
    finally:
        outside.check_output("systemctl start nginx")
    for file in ("testnet: letters.ndb", "interserver: interserver256.hdb"):
        assert f"{file}: its server cannot be reached: " in said
    assert databases() == before
    assert send(LETTER).answer == "554 5.7.0"


@pytest.mark.holds("T41")
def test_a_run_that_is_killed_leaves_no_part_of_a_file(restored, outside):
    versions = [outside.file(f"{SERVED}/letters.ndb").content_string, ndb("Testnet.Another", ANOTHER)]
    for number in range(6):
        publish(versions[(number + 1) % 2])
        gateway().run(f"timeout --signal=KILL {0.4 + number / 4} {UPDATE} || true")
        assert gateway().file(f"{DATABASES}/unofficial-testnet-letters.ndb").content_string in versions
    publish(versions[1])
    gateway().check_output(UPDATE)
    wait_until(lambda: "Testnet.Another" in send(ANOTHER).text, "clamd to have loaded the new version", 60)
    assert databases().count("unofficial-") == 2


@pytest.mark.holds("T41")
def test_nothing_of_it_runs_as_root_and_only_the_user_of_clamd_reads_what_lets_the_site_in(gateway):
    settings = gateway.file("/etc/gateway-unofficial-signatures.json")
    assert (settings.user, settings.mode) == ("clamav", 0o400)
    state = gateway.file("/var/lib/gateway-unofficial-signatures")
    assert (state.user, state.mode) == ("clamav", 0o700)
    assert gateway.check_output("find /var/lib/gateway-unofficial-signatures -not -user clamav") == ""
    assert gateway.check_output(f"systemctl show --property=User --value {UNIT}") == "clamav"
    assert gateway.check_output("systemctl is-active gateway-unofficial-signatures.timer") == "active"
