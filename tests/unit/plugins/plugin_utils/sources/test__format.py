# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from _sources import quick, read, refused, source, texts
from hypothesis import given
from hypothesis import strategies as st


def test_what_is_not_in_the_declared_encoding_is_named():
    refused(lambda: read(b"a@example.com\nb\xe9@example.com\n"), "users line 2", "0xe9", "offset 15", "utf-8", "encoding")
    refused(lambda: read("ä@example.com".encode(), encoding="ascii"), "users line 1", "ascii")
    refused(lambda: read(b"\xef\xbb\xbfa\n\xe9\n", encoding="utf-8-sig"), "users line 2", "offset 5")
    assert read("é@example.com".encode("latin-1"), encoding="latin-1").keys == ["é@example.com"]


@pytest.mark.parametrize("options", [{}, {"column": "mail"}, {"path": "users.json"}])
def test_a_byte_order_mark_is_named(options):
    refused(lambda: read(b'\xef\xbb\xbf["mail"]\n', **options), "byte order mark", "encoding: utf-8-sig")


def test_a_byte_order_mark_is_dropped_where_it_is_declared():
    assert read(b"\xef\xbb\xbfmail\na@example.com\n", column="mail", encoding="utf-8-sig").keys == ["a@example.com"]
    assert read(b"mail\na@example.com\n", column="mail", encoding="UTF-8-SIG").keys == ["a@example.com"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_unless_it_is_declared(encoding):
    raw = "mail\r\na@example.com\r\n".encode(encoding)
    refused(lambda: read(raw, column="mail"), "UTF-16", "encoding: utf-16")
    assert read(raw, column="mail", encoding=encoding).keys == ["a@example.com"]


@pytest.mark.parametrize("options", [{}, {"column": "a@example.com"}, {"path": "users.json"}])
def test_a_nul_is_named_with_its_line(options):
    refused(lambda: read(b"a@example.com\nb\0@example.com\n", **options), "line 2", "NUL")


def test_lines_that_end_with_cr_alone_are_named():
    refused(lambda: read(b"a@example.com\rb@example.com\r"), "CR alone")
    refused(lambda: read(b"mail\rb@example.com\r", column="mail"), "CR alone")


def test_a_plain_file_has_an_address_a_line():
    found = read(b"# people\r\na@example.com\r\n\r\n b#c@example.com \n#d@example.com\n\xc3\xa9@example.com")
    assert found.keys == ["a@example.com", " b#c@example.com ", "é@example.com"]
    assert found.values is None
    assert [found.where(index) for index in range(3)] == ["users line 2", "users line 4", "users line 6"]


def test_the_second_word_of_a_plain_line_is_the_value_where_there_are_values():
    found = read(b"a@example.com OK\nb@example.com\t 4 \r\nc@example.com\n d@example.com 1\ne@example.com 1 2\nf@x\xc2\xa05\n", with_values=True)
    assert found.keys == ["a@example.com", "b@example.com", "c@example.com", "", "e@example.com", "f@x\u00a05"]
    assert found.values == ["OK", "4", "", "d@example.com 1", "1 2", ""]
    assert read(b"a@example.com OK\n").keys == ["a@example.com OK"]


@quick
@given(st.lists(texts), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_plain_file_keeps_every_other_character(lines, end, last):
    raw = (end.join(lines) + (end if last else "")).encode()
    kept = [(number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
    if not kept:
        refused(lambda: read(raw), "no address")
        return
    found = read(raw)
    assert found.keys == [line for dummy, line in kept]
    assert [found.where(index) for index in range(len(kept))] == [f"users line {number}" for number, dummy in kept]


@quick
@given(st.lists(texts, min_size=1), st.randoms(), st.booleans())
def test_a_part_of_a_plain_file_is_a_part_of_its_records(lines, random, with_values):
    plain = source(path="users", with_values=with_values)
    raw = "\n".join(["first@example.com", *lines]).encode()
    assert plain.by_line(raw)
    picked = random.sample(lines, random.randint(0, len(lines)))
    part, whole = plain.part([line.encode() for line in picked]), plain.records(raw)
    assert len(part.keys) == len([line for line in picked if line and line[0] != "#"])
    assert set(zip(part.keys, part.values or part.keys)) <= set(zip(whole.keys, whole.values or whole.keys))
    if len(picked) == len(lines):
        assert sorted([whole.keys[0], *part.keys]) == sorted(whole.keys)


def test_a_record_of_a_part_is_named_by_its_line():
    part = source(path="users").part([b"# a", b"", b"b c@example.com\r"])
    assert part.keys == ["b c@example.com"]
    assert part.where(0) == "users, in the line 'b c@example.com\\r'"
    refused(lambda: source(path="users").part([b"a", b"b\xe9"]), "users, in the line 'b", "0xe9")
