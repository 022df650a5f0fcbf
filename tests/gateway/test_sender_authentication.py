# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who: SPF, DKIM and DMARC of incoming mail, and what is said of it in Authentication-Results.

The domains reject.example.org (DMARC p=reject), none.example.org (p=none) and softly.example.org (no DMARC) send from
203.0.113.20, mail.example.org; the DKIM key of the first is at hand.
"""

import dkim
import pytest
from _faults import FILES
from _network import GATEWAY, STRANGER, TRUSTED, deliveries, message, newcomer

REJECT, NONE, SOFTLY = "author@reject.example.org", "author@none.example.org", "author@softly.example.org"
KEY = FILES / "test._domainkey.reject.example.org.pem"


def signed(content):
    """A message with a DKIM signature of reject.example.org."""
    text = bytes(content)
    return dkim.sign(text, b"test", b"reject.example.org", KEY.read_bytes(), include_headers=[b"from", b"subject", b"date", b"message-id"]) + text


def arrived(client=STRANGER, **arguments):
    """Send a message, which arrives, and return it as it stands in the mailbox."""
    record = client.converse(**arguments)
    assert record.answer == "250 2.0.0", record
    (delivery,) = deliveries(record.message_id)
    return delivery.message


def hits(delivered):
    """The names of SpamAssassin's tests that matched."""
    return {word.partition("=")[0] for word in delivered["X-Spam-Status"].replace("[", " ").replace("]", " ").replace(",", " ").split()}


# --- What counts ------------------------------------------------------------------------------------------------------


@pytest.mark.holds("T30", "T31")
def test_a_forged_message_of_a_domain_with_p_reject_scores():
    forged = hits(arrived(newcomer(), sender=REJECT, content=message(sender=REJECT)))
    assert {"DMARC_REJECT", "SPF_FAIL"} <= forged


@pytest.mark.holds("T30", "T31")
def test_spf_judges_the_outside_client_and_not_the_proxy():
    honest = hits(arrived(sender=REJECT, content=message(sender=REJECT)))
    assert {"SPF_PASS", "DMARC_PASS"} <= honest
    assert not {"DMARC_REJECT", "SPF_FAIL"} & honest


@pytest.mark.holds("T31")
def test_a_signature_of_the_author_passes_dmarc_wherever_the_message_comes_from():
    delivered = arrived(newcomer(), sender="list@softly.example.org", content=signed(message(sender=REJECT)))
    assert {"DKIM_VALID_AU", "DMARC_PASS"} <= hits(delivered)


@pytest.mark.holds("T31")
def test_a_signature_that_was_broken_on_the_way_does_not_pass():
    broken = signed(message(sender=REJECT)).replace(b"A message of the tests", b"Another message")
    assert "DMARC_REJECT" in hits(arrived(newcomer(), sender="list@softly.example.org", content=broken))


@pytest.mark.holds("T31")
def test_a_signature_whose_key_cannot_be_had_does_not_hide_a_forgery():
    """SpamAssassin's DMARC gives up on such a message."""
    lost = signed(message(sender=REJECT)).replace(b"s=test;", b"s=nobody;")
    assert "DMARC_REJECT" in hits(arrived(newcomer(), sender="list@softly.example.org", content=lost))


@pytest.mark.holds("T31")
def test_a_domain_that_asks_for_nothing_gets_no_more_than_points():
    assert "DMARC_NONE" in hits(arrived(newcomer(), sender=NONE, content=message(sender=NONE)))
    assert not {name for name in hits(arrived(sender=SOFTLY, content=message(sender=SOFTLY))) if name in ("DMARC_REJECT", "DMARC_QUAR", "DMARC_NONE")}


@pytest.mark.holds("T30")
def test_what_the_site_itself_sends_is_not_held_against_its_own_policy():
    """alice@example.com: a host inside is in no SPF record."""
    assert not {name for name in hits(arrived(TRUSTED)) if name.startswith(("SPF_", "DMARC_"))}


# --- Authentication-Results -------------------------------------------------------------------------------------------


def results(delivered):
    return [" ".join(value.split()) for value in delivered.get_all("Authentication-Results", [])]


@pytest.mark.holds("T31")
def test_the_result_of_a_signature_stands_under_the_gateways_name():
    (result,) = results(arrived(sender=REJECT, content=signed(message(sender=REJECT))))
    assert result.startswith(f"{GATEWAY} (amavis); dkim=pass")
    assert "header.d=reject.example.org" in result


FORGED = [
    f"{GATEWAY}; dkim=pass header.d=bank.example",
    f"{GATEWAY.upper()}; spf=pass",
    f"(a comment) {GATEWAY} 1; dmarc=pass",
    f"{GATEWAY}/1; dkim=pass",
]


@pytest.mark.holds("T31")
@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("client", [STRANGER, TRUSTED], ids=["outside", "inside"])
def test_a_forged_result_under_the_gateways_name_is_gone(client, forged):
    headers = {"Authentication-Results": forged, "X-Kept": "yes"}
    delivered = arrived(client, sample="clean", headers=headers, recipients=["bob@example.com"])
    assert delivered["X-Kept"] == "yes"
    assert results(delivered) == []


@pytest.mark.holds("T31")
def test_the_result_of_another_host_is_left_alone():
    others = "mail.example.org; dkim=pass header.d=example.org"
    assert results(arrived(sample="clean", headers={"Authentication-Results": others})) == [others]
