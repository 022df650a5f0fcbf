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
    assert result.endswith("; spf=pass smtp.mailfrom=reject.example.org; dmarc=pass header.from=reject.example.org")


@pytest.mark.holds("T31")
@pytest.mark.parametrize(
    "client, sender, author, expected",
    [
        (STRANGER, REJECT, REJECT, "spf=pass smtp.mailfrom=reject.example.org; dmarc=pass header.from=reject.example.org"),
        (newcomer(), REJECT, REJECT, "spf=fail smtp.mailfrom=reject.example.org; dmarc=fail header.from=reject.example.org"),
        (newcomer(), NONE, REJECT, "spf=fail smtp.mailfrom=none.example.org; dmarc=fail header.from=reject.example.org"),
        (newcomer(), SOFTLY, SOFTLY, "spf=softfail smtp.mailfrom=softly.example.org; dmarc=none header.from=softly.example.org"),
        (STRANGER, REJECT, f"{REJECT}, {NONE}", "spf=pass smtp.mailfrom=reject.example.org; dmarc=permerror"),
        (newcomer(), "", NONE, "spf=none smtp.helo=client.example.org; dmarc=fail header.from=none.example.org"),
    ],
    ids=["honest", "forged", "another domain", "no dmarc", "several authors", "null sender"],
)
def test_what_spf_and_dmarc_say_stands_there_without_a_signature(client, sender, author, expected):
    (result,) = results(arrived(client, sender=sender, content=message(sender=author)))
    assert result == f"{GATEWAY} (amavis); {expected}"


@pytest.mark.holds("T31")
def test_there_are_no_results_where_nobody_asked():
    assert results(arrived(TRUSTED, recipients=["bob@example.com"])) == []


FORGED = [
    f"{GATEWAY}; dkim=pass header.d=bank.example",
    f"{GATEWAY.upper()}; spf=pass",
    f"(a comment) {GATEWAY} 1; dmarc=pass",
    f"{GATEWAY}/1; dkim=pass",
    f'"{GATEWAY}"; dkim=pass',
    f"(a (b) \\) c)\r\n {GATEWAY}\r\n\t; dmarc=pass",
    ";dmarc=pass",
]


@pytest.mark.holds("T31")
@pytest.mark.parametrize("name", ["Authentication-Results", "AUTHENTICATION-RESULTS ", "authentication-results\t"])
@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("client", [STRANGER, TRUSTED], ids=["outside", "inside"])
def test_a_forged_result_under_the_gateways_name_is_gone(client, forged, name):
    content = bytes(message(sender=client.sender)).replace(b"Subject:", f"{name}: {forged}\r\nX-Kept: yes\r\nSubject:".encode(), 1)
    delivered = arrived(client, content=content, recipients=["bob@example.com"])
    assert delivered["X-Kept"] == "yes"
    # Those of the gateway itself are of the domain that has sent the message.
    own = [f"{GATEWAY} (amavis); spf=pass smtp.mailfrom=example.org; dmarc=none header.from=example.org"]
    assert results(delivered) == (own if client is STRANGER else [])
    assert forged not in delivered.as_bytes().decode()


@pytest.mark.holds("T31")
def test_the_result_of_another_host_is_left_alone():
    others = "mail.example.org; dkim=pass header.d=example.org"
    assert results(arrived(sample="clean", headers={"Authentication-Results": others}))[1:] == [others]
