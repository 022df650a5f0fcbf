# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a folder is fetched, and how much at a time; tests/gateway/test_teaching.py reads a real server."""

from __future__ import annotations

import re
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _bayes_mailboxes as mailboxes


class Box:
    """A folder of messages of the same size, with the commands that imap_tools sends."""

    def __init__(self, exists: int, size: int = 10, first_uid: int = 1) -> None:
        self.exists, self.size, self.first_uid = exists, size, first_uid
        self.opened: list[str] = []
        self.folder = types.SimpleNamespace(
            status=lambda _name, _items: {"MESSAGES": self.exists},
            set=lambda name, readonly: self.opened.append(name if readonly else "to write"),
        )
        self.longest_answer = 0

    def uids(self, criteria: str) -> list[str]:
        """SEARCH (RFC 3501 section 6.4.4) with a sequence set, with UID, and with both."""
        last = self.exists + self.first_uid - 1
        found = set(range(self.first_uid, last + 1))
        if sequence := re.match(r"(\d+):\*", criteria):
            found &= set(range(self.first_uid + int(sequence[1]) - 1, last + 1))
        if above := re.search(r"UID (\d+):\*", criteria):
            found &= set(range(int(above[1]), last + 1)) | {last}
        elif listed := re.search(r"UID ([\d,]+)", criteria):
            found &= set(map(int, listed[1].split(",")))
        self.longest_answer = max(self.longest_answer, len(found))
        return [str(uid) for uid in found]

    def fetch(self, criteria: str, **_options: object) -> list[object]:
        content = b"x" * self.size
        return [types.SimpleNamespace(obj=types.SimpleNamespace(as_bytes=lambda: content)) for _uid in self.uids(criteria)]


@pytest.mark.parametrize(
    ("exists", "position", "expected"),
    [
        (0, 0, []),
        (3, 0, [11, 12, 13]),
        (3, 12, [13]),
        (3, 13, []),
        # "14:*" has the last message as well.
        (3, 500, []),
    ],
)
def test_what_is_new(exists, position, expected):
    box = Box(exists, first_uid=11)
    assert mailboxes.new_in(box, "Junk", position) == expected
    assert box.opened == ["Junk"]


@pytest.mark.parametrize("position", [0, 20])
def test_of_a_large_folder_the_newest_messages_count_and_no_answer_is_longer(position):
    box = Box(100_000)
    found = mailboxes.new_in(box, "Junk", position)
    assert found == list(range(100_000 - mailboxes.NEWEST + 1, 100_001))
    assert box.longest_answer == mailboxes.NEWEST


@pytest.mark.parametrize("size", [10, 1024 * 1024])
def test_each_message_is_in_one_portion_and_portions_are_bounded(size):
    box = Box(1005, size)
    uids = mailboxes.new_in(box, "Junk", 0)
    ends, sizes = [], []
    for last, messages in mailboxes.portions(box, uids):
        ends.append(last)
        sizes.append(len(messages))
        assert sum(map(len, messages)) <= mailboxes.PORTION_BYTES + mailboxes.FETCHED * mailboxes.LARGEST
    assert sum(sizes) == 1005
    assert max(sizes) <= mailboxes.PORTION_MESSAGES + mailboxes.FETCHED
    assert ends == sorted(ends) and ends[-1] == 1005
