# SPDX-License-Identifier: GPL-3.0-or-later
"""The promise: mail arrives once and scanned; spam and viruses are refused while the sending server is connected."""

import io
import tarfile
import zipfile

import pytest
from _network import ALICE, BOB, CAROL, OUTSIDE, STRANGER, deliveries, journal, mailboxes, message, start, wait_for_journal

TEXT = "A harmless text,\nwith a second line: äöü.\n"
SEVEN_POINTS = "This offer is worth seven points.\n"  # a rule of the test inventory
# Never whole in a file: scanners would find this one.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL" + "*C.34X\n"
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-" + "TEST-FILE!$H+H*"


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred(name, content, compression):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def score(delivery):
    return float(delivery.message["X-Spam-Score"])


# --- Mail arrives -----------------------------------------------------------------------------------------------------


@pytest.fixture(name="clean", scope="module")
def _clean():
    return STRANGER.converse(content=message(TEXT), tls="never")


@pytest.fixture(name="arrived", scope="module")
def _arrived(clean):
    (delivery,) = deliveries(clean.message_id)
    return delivery.message


@pytest.mark.holds("S1", "S2", "S3", "S7", "S8", "D1", "D2", "D21")
def test_mail_to_a_known_user_arrives_in_the_mailbox_once(clean):
    assert clean.answer == "250 2.0.0"
    assert mailboxes(clean.message_id) == [ALICE]


@pytest.mark.holds("S1", "S8")
def test_a_250_means_queued_under_the_id_it_names(clean, arrived):
    assert clean.queue_id
    assert f"with ESMTP id {clean.queue_id}" in "".join(arrived.get_all("Received"))


@pytest.mark.holds("S4")
def test_delivered_mail_carries_its_score(arrived):
    assert arrived["X-Spam-Flag"] == "NO"
    assert -5 < float(arrived["X-Spam-Score"]) < 5
    assert f"No, score={arrived['X-Spam-Score']} tagged_above=-999 required=5" in arrived["X-Spam-Status"]


@pytest.mark.holds("S2", "S4", "T5")
def test_delivered_mail_carries_the_way_it_took(arrived):
    reinjected, scanned, received = arrived.get_all("Received")[1:]
    assert "from mail.example.org (mail.example.org [203.0.113.20])" in received and "by mx1.example.com" in received
    assert "(amavis, port 10024)" in scanned and "mx1.example.com" in scanned
    assert "by mx1.example.com" in reinjected and "localhost [127.0.0.1]" in reinjected


@pytest.mark.holds("T11")
def test_clean_mail_keeps_its_subject_and_its_text(arrived):
    assert arrived["Subject"] == "Test"
    assert arrived.get_content() == TEXT


@pytest.mark.holds("S4", "D13")
@pytest.mark.parametrize("recipient", ["postmaster@mx1.example.com", "info@example.net", "someone@staff.example.com"])
def test_mail_of_every_domain_carries_its_score(recipient):
    record = STRANGER.converse(recipients=[recipient])
    (delivery,) = deliveries(record.message_id)
    assert delivery.message["X-Spam-Status"].startswith("No, score=")


@pytest.mark.holds("S1", "S3")
def test_mail_arrives_over_ipv6():
    record = STRANGER.converse(host="2001:db8:113::10", source_address="2001:db8:113::20")
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.mark.holds("S3")
def test_a_bounce_from_elsewhere_reaches_a_known_user():
    record = STRANGER.converse(sender="")
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


@pytest.mark.holds("S4", "T11")
def test_mail_with_unencoded_8_bit_headers_arrives_as_it_is():
    content = message(TEXT)
    raw = bytes(content).replace(b"Subject: Test", "Subject: Grüße".encode())
    record = STRANGER.converse(content=raw)
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(content["Message-ID"])
    assert delivery.mailbox == ALICE
    assert delivery.message.get_content() == TEXT


@pytest.mark.holds("T30")
def test_spf_sees_the_real_client():
    sent = [STRANGER.converse(), STRANGER.converse(source_address="203.0.113.21")]
    results = [delivery.message["X-Spam-Status"] for record in sent for delivery in deliveries(record.message_id)]
    assert "SPF_PASS" in results[0]
    assert "SPF_FAIL" in results[1]


# --- Spam and viruses do not ------------------------------------------------------------------------------------------


def refused_and_nowhere(record):
    """Refused when the whole message had been sent; no mailbox has it, not even in a bounce."""
    return record.reply["step"] == "end_of_data" and record.answer == "554 5.7.0" and mailboxes(record.message_id) == []


@pytest.mark.holds("S1", "S4", "S8", "T3", "T26")
def test_gtube_is_refused_at_the_end_of_data_and_never_arrives():
    record = STRANGER.converse(sample="gtube")
    assert refused_and_nowhere(record)
    assert "spam" in record.text


@pytest.mark.holds("S4", "S6", "S8", "T3", "T26")
@pytest.mark.parametrize("where", ["attachment", "text", "zip", "zip_in_zip", "tar_gz", "attached_message"])
def test_eicar_is_refused_at_the_end_of_data_and_never_arrives(where):
    eicar = EICAR.encode()
    carriers = {
        "attachment": lambda: message(attachments=[("eicar.txt", eicar)]),
        "text": lambda: message(EICAR + "\n"),
        "zip": lambda: message(attachments=[("eicar.zip", zipped("eicar.txt", eicar))]),
        "zip_in_zip": lambda: message(attachments=[("outer.zip", zipped("inner.zip", zipped("eicar.txt", eicar)))]),
        "tar_gz": lambda: message(attachments=[("eicar.tar.gz", tarred("eicar.txt", eicar, "gz"))]),
        "attached_message": lambda: _forward(message(attachments=[("eicar.txt", eicar)])),
    }
    record = STRANGER.converse(content=carriers[where]())
    assert refused_and_nowhere(record)
    assert "contains a virus: " in record.text


def _forward(attached):
    outer = message()
    outer.add_attachment(attached)
    return outer


@pytest.mark.holds("S8")
def test_the_senders_own_server_tells_the_sender():
    spam = message(GTUBE)
    start(OUTSIDE, ["sendmail", "-f", "sender@example.org", ALICE], spam.as_string()).communicate()
    (report,) = deliveries(spam["Message-ID"])
    assert report.mailbox == "sender@example.org"
    assert "MAILER-DAEMON@example.org" in report.message["From"]
    assert "554 5.7.0 Reject" in report.message.as_string()


# --- Scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.holds("S4", "S5", "T11")
def test_mail_between_the_levels_arrives_with_the_subject_tag_and_its_text():
    record = STRANGER.converse(content=message(TEXT), sender="announcements@example.org")
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert 5 <= score(delivery) < 6
    assert delivery.message["Subject"] == "[SPAM] Test"
    assert delivery.message["X-Spam-Flag"] == "YES"
    assert delivery.message.get_content() == TEXT


@pytest.mark.holds("S4")
def test_a_rule_of_the_site_counts():
    record = STRANGER.converse(content=message(SEVEN_POINTS))
    assert refused_and_nowhere(record)


@pytest.mark.holds("S5")
@pytest.mark.parametrize("sender", ["newsletter@example.org", "Newsletter@Example.ORG"])
def test_a_sender_score_refuses_mail_that_would_arrive(sender):
    record = STRANGER.converse(content=message(), sender=sender)
    assert refused_and_nowhere(record)


@pytest.mark.holds("S5")
def test_a_sender_score_lets_mail_arrive_that_would_be_refused():
    record = STRANGER.converse(content=message(SEVEN_POINTS), sender="partner@example.org")
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert "EXAMPLE_SPAM" in delivery.message["X-Spam-Status"]
    assert score(delivery) < 5


# --- One verdict a transaction ----------------------------------------------------------------------------------------

EVERYBODY = [ALICE, BOB, CAROL, "info@example.net", "someone@staff.example.com", "abuse@example.com"]


@pytest.mark.holds("D7", "T22", "T3")
def test_clean_mail_to_several_recipients_arrives_at_each_once():
    record = STRANGER.converse(recipients=EVERYBODY)
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == sorted([ALICE, ALICE, BOB, CAROL, "all@staff.example.com", "info@example.net"])


@pytest.mark.holds("D7", "T22", "T3")
@pytest.mark.parametrize("sample", ["gtube", "eicar"])
def test_several_recipients_get_one_verdict_and_nobody_a_part_of_it(sample):
    record = STRANGER.converse(recipients=EVERYBODY, sample=sample)
    assert record.answers("rcpt") == ["250 2.1.5"] * len(EVERYBODY)
    assert refused_and_nowhere(record)


@pytest.mark.holds("D7", "T22", "S5")
def test_a_sender_score_holds_for_every_recipient_alike():
    record = STRANGER.converse(recipients=EVERYBODY, sender="newsletter@example.org")
    assert refused_and_nowhere(record)


# --- What is logged ---------------------------------------------------------------------------------------------------


@pytest.mark.holds("D11")
def test_the_log_has_one_line_of_amavis_a_message(began):
    record = STRANGER.converse()
    wait_for_journal(began, f"queued_as: {record.queue_id}")
    assert len([line for line in journal(began).splitlines() if " amavis[" in line]) == 1
