# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole message is seen: SpamAssassin gets every text that a reader is shown, whatever stands around it."""

import base64

import pytest
from _network import ALICE, STRANGER, deliveries, mailboxes, message, wait_for_journal

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL" + "*C.34X"
LETTER = "Dear Alice,\n\nhere is the document that we spoke about on Tuesday.\n\nKind regards\nAnna\n"
SPAM = ["Content-Type: text/plain; charset=utf-8", "", GTUBE]
PICTURE = ["Content-Type: image/jpeg", 'Content-Disposition: attachment; filename="brochure.jpg"', "Content-Transfer-Encoding: base64", ""]
# A line of a picture, and how many make two megabytes.
LINE, LINES = base64.b64encode(bytes(range(57))).decode(), 27_000


def lines(*parts):
    return "".join(f"{line}\r\n" for line in parts)


def multipart(*parts, boundary="b1"):
    """The rest of a header, and a body of these parts: lines, or [text, times] pairs."""
    content = [[lines(f'Content-Type: multipart/mixed; boundary="{boundary}"', ""), 1]]
    for part in parts:
        content.append([lines("--" + boundary), 1])
        content += part if isinstance(part[0], list) else [[lines(*part), 1]]
    return [*content, [lines(f"--{boundary}--"), 1]]


def picture(count=LINES, head=None):
    return [[lines(*(head or PICTURE)), 1], [lines(LINE), count]]


def letter(content):
    built = message()
    head = lines(*(f"{name}: {built[name]}" for name in ("Date", "Message-ID", "From", "To", "Subject")), "MIME-Version: 1.0")
    return [[head, 1], *content], built["Message-ID"]


def single(head, *content):
    return [[lines(head, ""), 1], *content]


NESTED = [["Content-Type: message/rfc822\r\n\r\nFrom: anna@example.org\r\nSubject: Offer\r\nMIME-Version: 1.0\r\n", 1]]
HIDDEN = lines("<!-- a remark that stands between what is shown and what is shown, and that nobody reads, as in many a newsletter -->")
HTML = [["<html><body><p>Dear Alice,</p>\r\n", 1], [HIDDEN, 28_000], [f"<p>{GTUBE}</p></body></html>\r\n", 1]]
WHERE = {
    "after_a_picture": lambda: multipart(picture(), SPAM),
    "between_two_pictures": lambda: multipart(["", LETTER], picture(), SPAM, picture()),
    "in_a_nested_message": lambda: multipart(picture(), [*NESTED, *multipart(picture(), SPAM, boundary="b2")]),
    "in_a_nested_message_that_is_attached": lambda: multipart(
        picture(), [["Content-Disposition: attachment\r\n" + NESTED[0][0], 1], *multipart(picture(), SPAM, boundary="b2")]
    ),
    "at_the_end_of_a_large_html": lambda: single("Content-Type: text/html; charset=utf-8", *HTML),
    "at_the_end_of_a_large_html_after_a_picture": lambda: multipart(picture(), single("Content-Type: text/html; charset=utf-8", *HTML)),
    "in_base64_after_a_picture": lambda: multipart(
        picture(), ["Content-Type: text/plain", "Content-Transfer-Encoding: base64", "", base64.b64encode(f"{GTUBE}\n".encode()).decode()]
    ),
    "in_a_part_without_a_type": lambda: multipart(picture(), ["", GTUBE]),
    "in_a_part_whose_type_is_wrong": lambda: multipart(picture(), ["Content-Type: text", "", GTUBE]),
    "in_an_attached_text": lambda: multipart(
        picture(), ["Content-Type: text/plain", "Content-Disposition: attachment; filename=a.txt", "", GTUBE, *["A line of a log."] * 30_000]
    ),
    # SpamAssassin does not know this boundary, and takes all for text. So it is a small picture.
    "with_a_boundary_that_is_encoded": lambda: [
        ["Content-Type: multipart/mixed; boundary*=us-ascii''b%31\r\n\r\n", 1],
        *multipart(picture(1900), SPAM)[1:],
    ],
    "with_a_boundary_on_the_next_line": lambda: [
        ['Content-Type: multipart/mixed;\r\n\tcharset=utf-8;\r\n\tBOUNDARY = "b1"\r\n\r\n', 1],
        *multipart(picture(), SPAM)[1:],
    ],
    "after_a_part_that_is_cut": lambda: multipart(
        [["Content-Type: application/json\r\nContent-Disposition: attachment; filename=a.json\r\n\r\n", 1], ["[1, 2, 3],\r\n", 250_000]], SPAM
    ),
    "between_parts_of_an_unknown_boundary": lambda: multipart(
        [["Content-Type: text/csv\r\nContent-Disposition: attachment\r\n\r\n", 1], ["1;2;3\r\n", 250_000], [lines("--other", *SPAM), 1]]
    ),
}


@pytest.mark.holds("T10")
@pytest.mark.parametrize("where", WHERE)
def test_spam_is_found_wherever_it_stands(where):
    content, message_id = letter(WHERE[where]())
    record = STRANGER.converse(content=content)
    assert record.message_size > 140_000
    assert record.answer == "554 5.7.0"
    assert "looks like spam" in record.text
    assert mailboxes(message_id) == []


@pytest.mark.holds("T10")
@pytest.mark.parametrize("megabytes", [1, 10, 50])
def test_a_message_of_pictures_arrives_as_it_is_and_soon(megabytes):
    count = megabytes * 1_000_000 // len(LINE + "\r\n") // 4
    content, message_id = letter(multipart(["", LETTER.replace("\n", "\r\n")], *[picture(count)] * 4))
    record = STRANGER.converse(content=content)
    assert record.message_size > 0.98 * megabytes * 1_000_000
    assert record.answer == "250 2.0.0"
    # A third of the deadline of SpamAssassin, for the whole of it.
    assert record.reply["seconds"] < 20
    (delivery,) = deliveries(message_id)
    assert delivery.mailbox == ALICE
    text, *pictures = delivery.message.iter_parts()
    assert text.get_content().split() == LETTER.split()
    assert [part.get_content() for part in pictures] == [bytes(range(57)) * count] * 4


@pytest.mark.holds("T10")
def test_a_long_attached_text_arrives_and_costs_little():
    log = [
        [lines("Content-Type: text/plain", "Content-Disposition: attachment; filename=mail.log", ""), 1],
        [lines("Nov 26 10:00:00 a line of a log."), 60_000],
    ]
    content, message_id = letter(multipart(["", LETTER.replace("\n", "\r\n")], log))
    record = STRANGER.converse(content=content)
    assert record.answer == "250 2.0.0"
    assert record.reply["seconds"] < 20
    assert mailboxes(message_id) == [ALICE]


@pytest.mark.holds("T10", "T20")
def test_a_message_with_more_text_than_can_be_judged_in_time_is_not_delivered(began):
    content, message_id = letter(single("Content-Type: text/plain", [lines("A line of a text that goes on and on."), 200_000]))
    record = STRANGER.converse(content=content)
    assert record.answer == "450 4.7.0"
    wait_for_journal(began, "not given to SpamAssassin: more than 5242880 bytes of text")
    assert mailboxes(message_id) == []
