# SPDX-License-Identifier: GPL-3.0-or-later
"""Transport encryption on the front listener, from the first day."""

import pytest
from _network import ALICE, STRANGER, deliveries, mailboxes


@pytest.mark.holds("D16")
def test_mail_over_starttls_arrives_and_says_so():
    record = STRANGER.converse(tls="require")
    assert record.answer == "250 2.0.0"
    assert record.tls["protocol"] in ("TLSv1.2", "TLSv1.3")
    (delivery,) = deliveries(record.message_id)
    assert "with ESMTPS" in "".join(delivery.message.get_all("Received"))


@pytest.mark.holds("D16")
def test_mail_without_tls_is_taken_too():
    record = STRANGER.converse(tls="never")
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.mark.holds("D16")
@pytest.mark.parametrize("domain", ["partner.example.org", "mail.partner.example.org"])
def test_mail_of_a_named_partner_is_taken_over_tls_only(domain):
    record = STRANGER.converse(tls="never", sender=f"bob@{domain}", stop_after="rcpt")
    assert record.answer == "450 4.7.1"
    assert "Session encryption is required" in record.reply["text"]
    assert STRANGER.converse(tls="require", sender=f"bob@{domain}").answer == "250 2.0.0"


@pytest.mark.holds("D16", "S8")
@pytest.mark.parametrize("sample", ["gtube", "eicar"])
def test_tls_hides_nothing_from_the_scanners(sample):
    assert STRANGER.converse(tls="require", sample=sample).answer == "554 5.7.0"


@pytest.mark.holds("D16")
def test_the_certificate_is_for_the_gateways_name(outside):
    certificate = "openssl s_client -starttls smtp -connect 203.0.113.10:25 </dev/null 2>/dev/null | openssl x509 -noout"
    assert outside.run(f"{certificate} -checkhost mx1.example.com").stdout.strip() == "Hostname mx1.example.com does match certificate"
    assert outside.run(f"{certificate} -checkend 2592000").rc == 0


@pytest.mark.holds("D16")
def test_the_private_key_is_read_by_root_only(gateway):
    chain = gateway.check_output("postconf -hx smtpd_tls_chain_files").replace(",", " ").split()
    private = [path for path in chain if "PRIVATE KEY" in gateway.file(path).content_string]
    assert private
    for path in private:
        assert gateway.file(path).user == "root"
        assert gateway.file(path).mode & 0o077 == 0
