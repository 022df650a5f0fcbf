# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import csv
import io

import pytest
from _sources import names, quick, read, refused, source, texts
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import SourceError
from hypothesis import given
from hypothesis import strategies as st


def test_a_column_is_found_by_its_name():
    raw = b"id,mail,score\r\n1,a@example.com,-2\r\n\r\n2, b@example.com,3\r\n"
    found = read(raw, column="mail", value_column="score")
    assert (found.keys, found.values) == (["a@example.com", " b@example.com"], ["-2", "3"])
    assert [found.where(0), found.where(1)] == ["users.csv line 2", "users.csv line 4"]
    quoted = read(raw.replace(b"1,", b'"1",'), column="mail", value_column="score")
    assert (quoted.keys, quoted.values) == (found.keys, found.values)
    assert [quoted.where(0), quoted.where(1)] == ["users.csv line 2", "users.csv line 4"]


@pytest.mark.parametrize("raw", [b"1;a@example.com\n2;b@example.com", b'"1";a@example.com\n2;b@example.com'])
def test_a_column_without_a_header_is_found_by_its_number(raw):
    assert read(raw, column="2", header=False, delimiter=";").keys == ["a@example.com", "b@example.com"]
    refused(lambda: read(raw, column="3", header=False, delimiter=";"), "no column 3", "has 2")


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_missing_column_is_named_with_those_that_are_there(quote):
    raw = quote + b"Mail" + quote + b";name\na@example.com;A\n"
    refused(lambda: read(raw, column="mail", delimiter=";"), "no column 'mail'", "'Mail', 'name'")
    refused(lambda: read(raw, column="Mail"), "','", *([] if quote else ["no column 'Mail'"]))
    refused(lambda: read(b"mail,mail\n" + raw, column="mail"), "more than one column 'mail'")


@pytest.mark.parametrize("quote", [b"", b'"'])
@pytest.mark.parametrize(("line", "fields"), [(b"b@example.com", 1), (b"b@example.com,B,C", 3)])
def test_a_record_with_another_number_of_fields_is_named(quote, line, fields):
    raw = b"mail,name\n" + quote + b"a@example.com" + quote + b",A\n\n" + line + b"\nc@example.com,C\n"
    refused(lambda: read(raw, column="mail"), "users.csv line 4", f"{fields} fields")


def test_a_quoted_field_may_have_anything_in_it():
    found = read(b'mail,name\n"a@example.com","A,\r\nB ""C"""\n"b\n@example.com",B\n', column="mail", value_column="name")
    assert found.keys == ["a@example.com", "b\n@example.com"]
    assert found.values == ['A,\r\nB "C"', "B"]
    assert [found.where(0), found.where(1)] == ["users.csv line 2", "users.csv line 4"]


@pytest.mark.parametrize("line", [b'"b@example.com,B\nc@example.com,C\n', b'"b@exam"ple.com,B\n', b'"' + b"x" * 200000 + b'",B\n'])
def test_a_quote_without_its_end_is_named(line):
    refused(lambda: read(b"mail,name\na@example.com,A\n" + line, column="mail"), "users.csv line 3", "quote")


def test_which_csv_can_be_read_by_line():
    table = source(path="users.csv", column="mail")
    assert table.header_lines == 1
    assert table.by_line(b"name,mail\nA,a@example.com\n")
    assert table.part([b"B,b@example.com\r", b"", b"C,c@example.com"]).keys == ["b@example.com", "c@example.com"]
    assert table.part([]).keys == []
    refused(lambda: table.part([b"b@example.com"]), "users.csv, in the line 'b@example.com'", "1 fields")
    assert not table.by_line(b'name,mail\n"A",a@example.com\n')
    assert not table.by_line(b"\nname,mail\nA,a@example.com\n")
    assert not table.by_line(b"")
    refused(lambda: table.by_line(b"name,address\nA,a@example.com\n"), "no column 'mail'")
    assert not source(path="users.csv", column="mail", encoding="latin-1").by_line(b"mail\na@example.com\n")
    assert not source(path="users.csv", column="1", header=False).by_line(b"a@example.com\n")
    assert not source(path="users.json").by_line(b'["a@example.com"]')
    assert not source(path="users", encoding="utf-16").by_line(b"")


@quick
@given(st.lists(st.tuples(texts, names, texts), min_size=1), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_csv_is_what_the_csv_module_writes(rows, delimiter, end, always):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL)
    writer.writerow(["first name", "mail", "note"])
    writer.writerows(rows)
    raw = text.getvalue().encode()
    table = source(path="users.csv", column="mail", value_column="note", delimiter=delimiter)
    found = table.records(raw)
    assert found.keys == [row[1] for row in rows]
    assert found.values == [row[2] for row in rows]
    assert [found.where(index) for index in range(len(rows))] == [f"users.csv line {index + 2}" for index in range(len(rows))]
    if table.by_line(raw):
        part = table.part(raw.split(b"\n")[table.header_lines :])
        assert (part.keys, part.values) == (found.keys, found.values)
    else:
        assert b'"' in raw


@quick
@given(st.binary(max_size=60), st.sampled_from([{}, {"column": "a"}, {"column": "1", "header": False}, {"with_values": True}, {"path": "a.json"}]))
def test_any_bytes_are_records_or_a_sentence(raw, options):
    try:
        found = read(raw, **options)
    except SourceError as error:
        assert str(error).startswith(options.get("path", "users"))
        return
    assert found.keys
    assert found.values is None or len(found.values) == len(found.keys)
    assert all(isinstance(text, str) for text in [*found.keys, *(found.values or ())])
    for index in range(len(found.keys)):
        found.where(index)
