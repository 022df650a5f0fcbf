# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _tables
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=300)

anything = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)


def stored(source, colon=""):
    """What postmap(1) makes of a source, printed as postmap -s prints it. Its lines end with a line feed and nothing else."""
    lines = []
    for line in source.split(b"\n"):
        if not line.strip(b" \t\r\v\f") or line.startswith(b"#"):
            continue
        if line[:1] in (b" ", b"\t", b"\r", b"\v", b"\f"):
            lines[-1] += line
        else:
            lines.append(line)
    result = []
    for line in lines:
        key, value = line.replace(colon.encode() + b"\t", b"\t", 1).split(None, 1)
        result.append(key.lower() + colon.encode() + b"\t" + value.strip(b" \t\r\v\f") + b"\n")
    return b"".join(sorted(result))


def test_a_table_is_sorted_under_its_header():
    text = _tables.render({b"example.net": b"relay:[mail.example.net]", b"example.com": b"OK"})
    assert text.decode() == _tables.HEADER + "example.com\tOK\nexample.net\trelay:[mail.example.net]\n"


def test_aliases_have_a_colon():
    assert _tables.render({b"root": b"alice@example.com"}, aliases=True).endswith(b"\nroot:\talice@example.com\n")


def test_an_empty_table_is_its_header():
    assert _tables.render({}).decode() == _tables.HEADER
    assert _tables.HEADER.startswith("#")
    assert _tables.parse_dump(b"") == {}


@quick
@given(st.dictionaries(anything, anything, max_size=6))
def test_a_table_that_is_taken_is_stored_as_it_was_written(entries):
    try:
        folded = _tables.fold(entries)
    except ValueError:
        return
    assert _tables.parse_dump(stored(_tables.render(folded))) == folded


@quick
@given(st.dictionaries(st.text(alphabet="ab1.-_", min_size=1, max_size=8), st.text(alphabet="ab@., :#\u2028\u0085", min_size=1, max_size=12), max_size=6))
def test_aliases_that_are_taken_are_stored_as_they_were_written(entries):
    try:
        folded = _tables.fold(entries)
    except ValueError:
        return
    assert _tables.parse_dump(stored(_tables.render(folded, aliases=True), colon=":"), aliases=True) == folded


@quick
@given(st.dictionaries(anything, anything, max_size=6))
def test_folding_is_final(entries):
    try:
        folded = _tables.fold(entries)
    except ValueError:
        return
    assert _tables.fold({key.decode(): value.decode() for key, value in folded.items()}) == folded


def test_keys_are_folded_and_values_are_not():
    assert _tables.fold({"Alice@Example.COM": "Bob@example.net", "n": 5}) == {b"alice@example.com": b"Bob@example.net", b"n": b"5"}


def test_two_spellings_of_a_key_need_one_value():
    assert _tables.fold({"A": "OK", "a": "OK"}) == {b"a": b"OK"}
    with pytest.raises(ValueError, match="the key a stands in the table twice"):
        _tables.fold({"A": "OK", "a": "REJECT"})


@pytest.mark.parametrize("key", ["", " a", "a b", "a\tb", "a\n", "a\0", "a\x7f", "a\u00a0b", "\ufeffa", "#a"])
def test_a_key_that_would_be_stored_differently_is_refused(key):
    with pytest.raises(ValueError) as raised:
        _tables.fold({key: "OK"})
    assert repr(key) in str(raised.value)


@pytest.mark.parametrize("value", ["", " ", " OK", "OK ", "OK\n", "a\nb: c", "a\tb", "a\0", "\u00a0OK"])
def test_a_value_that_would_be_stored_differently_is_refused(value):
    with pytest.raises(ValueError) as raised:
        _tables.fold({"example.com": value})
    assert repr(value) in str(raised.value)
    assert "example.com" in str(raised.value)


def test_a_key_without_a_value_is_refused():
    """In YAML an unfinished line is null, and no table means the word None."""
    with pytest.raises(ValueError, match="example.com"):
        _tables.fold({"example.com": None})


def test_what_postalias_adds_about_itself_is_no_entry():
    dump = b"@:\t@\nYP_LAST_MODIFIED:\t1700000000\nYP_MASTER_NAME:\tmx1.example.com\nroot:\talice@example.com\n1234:\tbob@example.com\n"
    assert _tables.parse_dump(dump, aliases=True) == {b"root": b"alice@example.com", b"1234": b"bob@example.com"}


def test_what_looks_like_it_in_a_map_is_an_entry():
    assert _tables.parse_dump(b"@\tOK\na:\tOK\n") == {b"@": b"OK", b"a:": b"OK"}


def test_a_dump_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="segmentation fault"):
        _tables.parse_dump(b"example.com\tOK\nsegmentation fault\n")


def test_the_difference_names_keys():
    before = {"gone": "1", "same": "1", "other": "1", "b-gone": "1"}
    after = {"same": "1", "other": "2", "new": "1", "a-new": "1"}
    assert _tables.difference(before, after) == (["a-new", "new"], ["b-gone", "gone"], ["other"])


# ---- cdb ---------------------------------------------------------------------------------------------------------


def cdb(*records):
    """A cdb file without its hash tables, which only lookups need."""
    body = b"".join(struct.pack("<II", len(key), len(value)) + key + value for key, value in records)
    return struct.pack("<512I", *[2048 + len(body), 0] * 256) + body


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_a_cdb_file_is_read(tmp_path, end):
    records = [(b"a@example.com", b"OK"), (b"b@example.com", b"x"), (b"a@example.com", b"no")]
    (tmp_path / "table.cdb").write_bytes(cdb(*((key + end, value + end) for key, value in records)))
    assert _tables.read_cdb(tmp_path / "table.cdb") == {b"a@example.com": b"OK", b"b@example.com": b"x"}


@pytest.mark.parametrize("content", [b"", b"short", cdb((b"a@example.com", b"OK"))[:-3], b"\xff" * 3000])
def test_what_is_no_cdb_file_is_no_table(tmp_path, content):
    (tmp_path / "table.cdb").write_bytes(content)
    assert not _tables.read_cdb(tmp_path / "table.cdb")
