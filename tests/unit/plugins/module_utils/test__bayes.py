# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import email.message
import mailbox

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils._bayes import LARGEST, BayesError, Message, Place, attached

LETTER = b"Subject: a letter\n\nhello\n"


def names(place):
    return [place[index].name for index in range(len(place))]


def test_a_directory_has_the_messages_below_it_without_what_servers_keep_beside_them(tmp_path):
    for name in ("b/2", "a/1", ".index/3", "a/.uidlist"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(LETTER)
    assert names(Place(str(tmp_path))) == [f"{tmp_path}/a/1", f"{tmp_path}/b/2"]


def test_a_maildir_has_no_message_that_is_still_being_written(tmp_path):
    directory = mailbox.Maildir(tmp_path / "Maildir")
    directory.add(LETTER)
    (tmp_path / "Maildir" / "tmp" / "unfinished").write_bytes(LETTER)
    place = Place(str(tmp_path / "Maildir"))
    assert [place[index].content for index in range(len(place))] == [LETTER]


def test_an_mbox_has_each_of_its_messages(tmp_path):
    box = mailbox.mbox(tmp_path / "mbox")
    for _number in range(3):
        box.add(LETTER)
    box.close()
    place = Place(str(tmp_path / "mbox"))
    assert len(place) == 3
    assert place[2] == Message(f"{tmp_path}/mbox (message 3)", LETTER)


def test_a_file_is_one_message(tmp_path):
    (tmp_path / "one.eml").write_bytes(LETTER)
    assert [Place(str(tmp_path / "one.eml"))[0].content] == [LETTER]


def test_a_place_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BayesError, match="nowhere: No such file or directory; name a file"):
        Place(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (LETTER, ""),
        (b"From alice Thu Jan  1 00:00:00 2026\n" + LETTER, ""),
        (b"X-Odd : blank before the colon\n\n", ""),
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"no header\n", "it does not begin with a header field"),
        (b"\xff\xfe\x00\x01", "it does not begin with a header field"),
        (LETTER + b"x" * LARGEST, "it is larger than 10 MiB"),
    ],
)
def test_what_cannot_be_learned(content, flaw):
    assert Message("one", content).flaw() == flaw


def forwarded(*inner, names=()):
    outer = email.message.EmailMessage()
    outer["Subject"] = "Fwd"
    outer.set_content("see below")
    for each in inner:
        outer.add_attachment(each)
    for name in names:
        outer.add_attachment(LETTER, "application", "octet-stream", filename=name)
    return bytes(outer)


def letter(text):
    built = email.message.EmailMessage()
    built["Subject"] = text
    built.set_content(text)
    return built


def test_what_is_attached_to_a_report():
    assert [each.content.split(b"\n")[0] for each in attached(forwarded(letter("one"), letter("two")))] == [b"Subject: one", b"Subject: two"]
    assert [each.content for each in attached(forwarded(names=["spam.EML", "notes.txt"]))] == [LETTER]
    assert attached(forwarded()) == []


def test_a_message_within_the_attached_one_is_not_learned_by_itself():
    middle = letter("middle")
    middle.add_attachment(letter("innermost"))
    found = attached(forwarded(middle, letter("last")))
    assert [each.content.split(b"\n")[0] for each in found] == [b"Subject: middle", b"Subject: last"]
