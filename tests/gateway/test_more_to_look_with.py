# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site may have SpamAssassin look at besides: text in PDF files, documents with macros, shortened links, lists of phishing."""

import _office
import pytest
from _faults import reload_amavis, write
from _network import BOB, OUTSIDE, STRANGER, deliveries, gateway, journal, mailboxes, message, wait_for_journal, wait_until
from _pdf import endless, page, pdf

FEEDS = "gateway-phishing-feeds.service"
FEED = "/srv/www/phishing/feed.txt"


def send(text="See the attachment.\n", *attachments):
    return STRANGER.converse(recipients=[BOB], content=message(text, attachments, recipients=[BOB]))


def status(record):
    """What the headers of a delivered message say about it."""
    assert record.answer == "250 2.0.0", record
    (delivered,) = deliveries(record.message_id)
    return delivered.message["X-Spam-Status"]


# --- Text in PDF files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["offer.pdf", "OFFER.PDF"])
def test_text_in_a_pdf_is_judged(name):
    assert "EXAMPLE_SPAM" not in status(send("An offer.\n", (name, pdf(page("This is worth", "eight points.")))))
    assert send("An offer.\n", (name, pdf(page("This is worth seven points.")))).answer == send("This is worth seven points.\n").answer == "554 5.7.0"


def test_a_link_in_a_pdf_is_judged():
    assert "EXAMPLE_LANDING" in status(send("An offer.\n", ("offer.pdf", pdf(page("See http://landing.example.net/offer today.")))))


def test_text_of_all_pdf_files_of_a_message_is_judged():
    files = [(f"{number}.pdf", pdf(page(f"Page {number}."))) for number in range(14)]
    assert "EXAMPLE_LANDING" in status(send("An offer.\n", *files, ("last.pdf", pdf(page("See http://landing.example.net/offer today.")))))


@pytest.mark.holds("S8", "T20")
def test_a_message_with_a_pdf_that_is_not_read_in_time_is_not_delivered(began):
    record = send("See http://landing.example.net/\n", ("offer.pdf", endless()))
    assert record.answer.startswith("450")
    assert record.reply["seconds"] < 30
    assert mailboxes(record.message_id) == []
    assert wait_for_journal(began, "fail closed: not finished by SpamAssassin to the end")


@pytest.mark.holds("S8", "T20")
def test_a_message_is_not_delivered_while_the_reader_of_pdf_files_is_missing(began):
    gateway().check_output("mv /usr/bin/pdftotext /usr/bin/pdftotext.away")
    try:
        record = send("An offer.\n", ("offer.pdf", pdf(page("text"))))
    finally:
        gateway().check_output("mv /usr/bin/pdftotext.away /usr/bin/pdftotext")
    assert record.answer.startswith("450")
    assert mailboxes(record.message_id) == []


@pytest.mark.parametrize("content", [b"%PDF-1.4\nnothing of a PDF", b"", pdf(page("text"))[:200], pdf(b"")], ids=["no PDF", "empty", "cut off", "without text"])
def test_a_pdf_without_text_arrives(content):
    assert status(send("An offer.\n", ("offer.pdf", content)))


# --- Documents --------------------------------------------------------------------------------------------------------


def test_a_document_with_macros_gets_points():
    document = _office.docm(_office.project(_office.ON_CLICK))
    assert "OLEMACRO=" in status(send("See the attachment.\n", ("report.docm", document)))
    assert "OLEMACRO" not in status(send("See the attachment.\n", ("report.docx", _office.zipped(*_office.DOCUMENT))))


# --- Links ------------------------------------------------------------------------------------------------------------


def test_what_a_shortened_link_leads_to_is_judged():
    assert "EXAMPLE_LANDING" in status(send("See http://short.example.org/landing today.\n"))
    assert "EXAMPLE_LANDING" not in status(send("See http://short.example.org/nothing today.\n"))


@pytest.fixture(name="feed", scope="module")
def _feed(network):
    gateway().check_output(f"systemctl start {FEEDS}")
    reload_amavis()


def test_a_link_of_a_list_gets_points(feed):
    assert "URI_PHISHING=4" in status(send("See http://bank.example.net/login/ today.\n"))
    assert "URI_PHISHING" not in status(send("See http://bank.example.net/ today.\n"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("<html>\n<p>Please pay.\n</html>\n", "it has no link", id="a web page"),
        pytest.param("http://a.example.net/\n" + "some words\n" * 5, "it is no list of the format openphish", id="something else"),
        pytest.param("", "it has no link", id="empty"),
        pytest.param(None, "it cannot be fetched", id="not there"),
    ],
)
def test_a_damaged_list_changes_nothing_and_is_named_in_the_journal(feed, outside, began, text, why):
    good = outside.check_output(f"cat {FEED}") + "\n"
    try:
        if text is None:
            outside.check_output(f"rm {FEED}")
        else:
            write(FEED, text, OUTSIDE)
        assert gateway().run(f"systemctl start {FEEDS}").rc != 0
        wait_until(lambda: f"openphish: {why}" in journal(began, units=[FEEDS]), "the reason in the journal")
        assert "the old list stays in use" in journal(began, units=[FEEDS])
        reload_amavis()
        assert "URI_PHISHING=4" in status(send("See http://bank.example.net/login/ today.\n"))
    finally:
        write(FEED, good, OUTSIDE)
