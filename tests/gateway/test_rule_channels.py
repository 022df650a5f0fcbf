# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule channels: what is signed with the key of the channel counts, and nothing else changes anything."""

import pytest
from _faults import AMAVIS, wait_for_answer
from _network import STRANGER, gateway, journal, wait_until
from _rules import ANOTHER_SIGNER, CHANNEL, SIGNER, STATE, UPDATE, channel, hits, publish, rule

UNIT = "gateway-rule-channels.service"


@pytest.fixture(name="published", scope="module", autouse=True)
def _published(network):
    """The first version, which counts for everybody who says so."""
    with channel():
        publish(1, rule("CHANNEL_FIRST", "firstword"))
        gateway().check_output(f"systemctl start {UNIT}")
        wait_until(lambda: hits("firstword", "CHANNEL_FIRST"), "amavis to have loaded the first version", 60)
        yield


@pytest.mark.holds("T19")
def test_a_rule_of_the_channel_counts_beside_those_of_spamassassin_and_of_the_site(published):
    assert hits("firstword", "CHANNEL_FIRST=1.5")
    assert not hits("another word", "CHANNEL_FIRST")
    # SpamAssassin's own rules are still there.
    assert STRANGER.converse(sample="gtube").answer == "554 5.7.0"


@pytest.mark.holds("T19")
@pytest.mark.parametrize(
    ("version", "published_as", "why"),
    [
        pytest.param(11, {"rules": rule("CHANNEL_BAD", "badword"), "signer": None}, "no mirror has an archive with a signature", id="unsigned"),
        pytest.param(12, {"rules": rule("CHANNEL_BAD", "badword"), "signer": ANOTHER_SIGNER}, "it is not signed with the key", id="signed by another"),
        pytest.param(13, {"rules": rule("CHANNEL_BAD", "badword"), "signed": "# another\n"}, "it is not signed with the key", id="changed afterwards"),
        pytest.param(14, {"rules": "body CHANNEL_BAD /(unclosed/\nscore CHANNEL_BAD 1\n"}, "SpamAssassin finds faults in it", id="a broken rule"),
    ],
)
def test_a_bad_version_changes_nothing_and_is_named_in_the_journal(began, version, published_as, why):
    before = gateway().check_output(f"find {STATE}/ -type f -not -name .lock -exec sha256sum {{}} + | sort")
    publish(version, **published_as)
    assert gateway().run(f"systemctl start {UNIT}").rc != 0
    said = journal(began, units=[UNIT])
    assert f"{CHANNEL}: {why}" in said
    assert "its old rules stay in use" in said
    assert gateway().check_output(f"find {STATE}/ -type f -not -name .lock -exec sha256sum {{}} + | sort") == before
    assert hits("firstword and badword", "CHANNEL_FIRST")
    assert not hits("firstword and badword", "CHANNEL_BAD")


@pytest.mark.holds("T19", "T6")
def test_a_good_version_takes_the_place_of_the_old_one_without_a_restart(published):
    before = gateway().check_output("systemctl show --property=MainPID amavis")
    publish(21, rule("CHANNEL_SECOND", "secondword"), signer=SIGNER)
    gateway().check_output(UPDATE)
    wait_until(lambda: hits("firstword and secondword", "CHANNEL_SECOND"), "amavis to have loaded the second version", 60)
    assert not hits("firstword and secondword", "CHANNEL_FIRST")
    assert gateway().check_output("systemctl show --property=MainPID amavis") == before
    # A channel may not bring a program along.
    publish(22, rule("CHANNEL_SECOND", "secondword") + "loadplugin Evil /etc/evil.pm\n")
    gateway().check_output(UPDATE)
    assert "\nloadplugin" not in gateway().check_output(f"cat {STATE}/rules_example_org/*/*.cf")


@pytest.mark.holds("T6")
def test_reloads_that_meet_do_not_end_amavis(published):
    """Two kinds of updates may meet. Debian's unit stays down then: a reload is a signal that amavis dies of while it starts anew."""
    gateway().check_output('pid=$(systemctl show --property=MainPID --value amavis); timeout 30 sh -c "while kill -HUP $pid; do sleep 0.1; done" || true')
    wait_for_answer(AMAVIS)
    assert STRANGER.converse().answer == "250 2.0.0"
