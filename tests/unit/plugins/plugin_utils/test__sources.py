# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import csv
import datetime
import http.server
import io
import ipaddress
import json
import os
import socket
import ssl
import sys
import threading
import types

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.plugin_utils import _sources
from ansible_collections.antispam.gateway.plugins.plugin_utils._sources import Source, SourceError

# Nothing is kept between runs: a failure prints how to reproduce it.
quick = settings(max_examples=200)

SECRET = "correct horse"

# What may stand in a record without ending it.
texts = st.text(st.characters(exclude_characters="\0\r\n\ufeff", exclude_categories=["Cs"]), max_size=12)
names = st.from_regex(r"[a-z]{1,6}(\+[a-z]{1,3})?@[a-z]{1,6}\.example", fullmatch=True)


def source(**options):
    return Source(options, "/nowhere")


def read(raw, **options):
    """Return the Records of a file with this content."""
    return source(**{"path": "users.csv" if "column" in options else "users", **options}).records(raw)


def refused(function, *words):
    with pytest.raises(SourceError) as raised:
        function()
    sentence = str(raised.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    # Neither in the sentence, nor in an exception that is shown with it.
    assert SECRET not in sentence
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return sentence


# ---- options -----------------------------------------------------------------------------------------------------

LDAP = {"ldap_uri": "ldaps://ldap.example.com", "base": "dc=example,dc=com"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["exactly one of", "none of them"]),
        ({"path": "users", "addresses": []}, ["exactly one of", "addresses and path"]),
        ({"path": "users", "column": "mail"}, ["column", "csv", "plain"]),
        ({"path": "users.csv", "column": "mail", "query": "a"}, ["query", "json"]),
        ({"path": "users.json", "with_values": True}, ["with_values", "plain"]),
        ({"path": "users", "username": "reader", "password": SECRET}, ["username", "no meaning", "path"]),
        ({"path": "users", "base": "dc=example"}, ["base", "no meaning"]),
        ({"addresses": ["a@example.com"], "encoding": "ascii"}, ["the list", "encoding"]),
        ({"path": "users.csv"}, ["users.csv", "column is missing"]),
        ({"path": "users.csv", "column": "mail", "header": False}, ["column is a number"]),
        ({"path": "users.csv", "column": "0", "header": False}, ["column is a number"]),
        ({"path": "users.csv", "column": "mail", "delimiter": "\\t"}, ["one character"]),
        ({"path": "users.csv", "column": "mail", "delimiter": '"'}, ["one character"]),
        ({"path": "users.csv", "value_column": "score"}, ["value_column needs column"]),
        ({"path": "users", "encoding": "klingon"}, ["'klingon' is not a character encoding"]),
        ({"path": "users", "encoding": "base64"}, ["'base64' is not a character encoding"]),
        ({"url": "ftp://www.example.com/users"}, ["not an http or https URL"]),
        ({"url": "file:///etc/passwd"}, ["not an http or https URL"]),
        ({"url": "https://www.example.com/a b"}, ["without spaces"]),
        ({"url": "https://[::1/users"}, ["not an http or https URL"]),
        ({"url": f"https://reader:{SECRET.replace(' ', '')}@www.example.com/"}, ["https://www.example.com/", "user name in it"]),
        ({"url": "https://www.example.com/", "password": SECRET}, ["username"]),
        ({"url": "https://www.example.com/", "username": "reader"}, ["username needs password"]),
        ({"url": "http://www.example.com/", "username": "reader", "password": SECRET}, ["clear text", "https"]),
        ({"url": "http://www.example.com/", "headers": {"Authorization": SECRET}}, ["clear text", "https"]),
        ({"url": "https://www.example.com/", "headers": {"Authorization": f"{SECRET}\nX: y"}}, ["headers", "line ends"]),
        ({"url": "https://www.example.com/", "client_key": "key.pem"}, ["client_cert"]),
        ({"url": "https://www.example.com/", "timeout": 0}, ["timeout"]),
        ({"ldap_uri": "ldaps://ldap.example.com"}, ["base"]),
        ({**LDAP, "ldap_uri": "https://ldap.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://a.example.com ldap://b.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://localhost,ldap://b.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://ldap.example.com/dc=example,dc=com??sub"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "start_tls": True}, ["start_tls", "ldaps"]),
        ({**LDAP, "password": SECRET}, ["bind_dn"]),
        ({**LDAP, "bind_dn": "cn=reader"}, ["password"]),
        ({**LDAP, "bind_dn": "cn=reader", "password": ""}, ["anonymous"]),
        ({**LDAP, "bind_dn": "cn=reader", "password": f"{SECRET}\0"}, ["NUL"]),
        ({**LDAP, "ldap_uri": "ldap://ldap.example.com", "bind_dn": "cn=reader", "password": SECRET}, ["clear text", "start_tls: true"]),
        (
            {**LDAP, "ldap_uri": "ldap://ldap.example.com", "bind_dn": "cn=reader", "password": SECRET, "validate_certs": False},
            ["clear text", "start_tls: true"],
        ),
        ({**LDAP, "attributes": []}, ["attributes"]),
        ({**LDAP, "page_size": 0}, ["page_size"]),
        ({**LDAP, "filter": "(mail=\0)"}, ["filter", "NUL"]),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    refused(lambda: source(**options), *words)


@pytest.mark.parametrize("uri", ["ldap://localhost", "ldap://127.0.0.1:3389", "ldap://[::1]", "ldapi://%2Frun%2Fldapi", "ldapi://"])
def test_a_password_may_go_to_this_machine_in_clear_text(uri):
    source(ldap_uri=uri, base="dc=example,dc=com", bind_dn="cn=reader", password=SECRET)


def test_all_defaults_written_out_are_no_contradiction():
    everything = {name: specification.get("default") for name, specification in _source_options.SOURCE_OPTIONS.items()}
    assert Source({**everything, "path": "users"}, "/").name == "users"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"addresses": []}, "the list"),
        ({"path": "users.txt"}, "users.txt"),
        ({"url": "https://www.example.com:8443/users?token=abc#here"}, "https://www.example.com:8443/users"),
        (LDAP, "ldaps://ldap.example.com"),
        ({**LDAP, "name": "the directory"}, "the directory"),
    ],
)
def test_a_source_has_a_name(options, name):
    assert source(**options).name == name
    assert repr(source(**options)) == f"Source({name!r})"


def test_a_source_carries_what_is_not_for_the_reader():
    plain = source(path="users")
    assert (plain.domains, plain.value, plain.wildcards, plain.remote) == ([], "OK", False, False)
    told = source(url="https://www.example.com/", domains=["example.com"], value="", wildcards=True)
    assert (told.domains, told.value, told.wildcards, told.remote) == (["example.com"], "", True, True)


def test_the_identity_tells_what_is_read_and_no_secret():
    options = {"url": "https://www.example.com/users.csv?token=abc", "username": "reader", "password": SECRET, "column": "mail", "headers": {"X-Token": SECRET}}
    identity = source(**options).identity
    assert identity == source(**{**options, "password": "another", "timeout": 5, "name": "users"}).identity
    assert SECRET not in identity
    assert "abc" not in identity
    others = [{"url": "https://www.example.com/users.csv?token=abd"}, {"column": "name"}, {"encoding": "latin-1"}, {"delimiter": ";"}, {"username": "writer"}]
    assert len({identity, *(source(**{**options, **other}).identity for other in others)}) == 1 + len(others)


def test_the_identity_of_a_directory_tells_what_is_searched():
    others = [{"base": "dc=example"}, {"filter": "(a=b)"}, {"attributes": ["a"]}, {"scope": "onelevel"}, {"ldap_uri": "ldaps://other.example.com"}]
    assert len({source(**{**LDAP, **other}).identity for other in [{}, *others]}) == 1 + len(others)


def test_relative_paths_are_relative_to_the_base_directory(tmp_path):
    (tmp_path / "users").write_bytes(b"a@example.com\n")
    relative = Source({"path": "users"}, tmp_path)
    assert relative.fetch() == b"a@example.com\n"
    assert relative.identity == Source({"path": str(tmp_path / "users")}, "/").identity


def test_the_documentation_has_the_options_of_the_specification():
    import yaml

    from ansible_collections.antispam.gateway.plugins.doc_fragments import sources

    documented = yaml.safe_load(sources.ModuleDocFragment.DOCUMENTATION)["options"]["sources"]["suboptions"]
    said = {name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()}
    meant = {name: {key: value for key, value in option.items() if key != "no_log"} for name, option in _source_options.SOURCE_OPTIONS.items()}
    assert said == meant


# ---- lists -------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(texts, min_size=1).filter(any))
def test_a_list_comes_back_as_it_was(addresses):
    listed = source(addresses=addresses)
    raw = listed.fetch()
    assert listed.by_line(raw)
    assert listed.records(raw).keys == addresses
    assert listed.part(raw.split(b"\n")).keys == addresses
    assert listed.records(raw).values is None
    assert listed.records(raw).where(len(addresses) - 1) == f"the list entry {len(addresses)}"


@pytest.mark.parametrize("address", ["x\n@victim.example", "x\0@example.com", "\ud800@example.com"])
def test_an_address_that_would_become_another_one_is_refused(address):
    refused(source(addresses=["a@example.com", address]).fetch, "entry 2")


def test_one_address_with_a_line_end_is_refused():
    refused(source(addresses=["x\n@victim.example"]).fetch, "entry 1")


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (b"", {}),
        (b"\n\n", {}),
        (b"# nobody\n", {}),
        (b"mail\n", {"column": "mail"}),
        (b'"mail"\n', {"column": "mail"}),
        (b"", {"column": "mail"}),
        (b"[]", {"path": "a.json"}),
        (b"{}", {"path": "a.json"}),
        (b"", {"path": None, "addresses": []}),
    ],
)
def test_a_source_with_nothing_in_it_is_refused(raw, options):
    refused(lambda: read(raw, **options), "no address in it")


# ---- files -------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    refused(Source({"path": "missing"}, tmp_path).fetch, "missing: cannot read", "No such file")
    refused(Source({"path": "."}, tmp_path).fetch, "Is a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(Source({"path": "pipe"}, tmp_path).fetch, "is not a file")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "users").write_bytes(b"a@example.com\n")
    real = os.fstat
    calls = []

    def growing(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            with open(tmp_path / "users", "ab") as file:
                file.write(b"b@example.com\n")
        return real(descriptor)

    monkeypatch.setattr(_sources.os, "fstat", growing)
    refused(Source({"path": "users"}, tmp_path).fetch, "changed while it was read", "rename")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with open(tmp_path / "users", "wb") as file:
        file.truncate(_sources.LIMIT + 1)
    refused(Source({"path": "users"}, tmp_path).fetch, "larger than 1024 MiB")


# ---- encodings ---------------------------------------------------------------------------------------------------


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


# ---- plain files -------------------------------------------------------------------------------------------------


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


# ---- CSV ---------------------------------------------------------------------------------------------------------


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


# ---- JSON --------------------------------------------------------------------------------------------------------


def document(content, **options):
    return read(json.dumps(content).encode(), path="users.json", **options)


def test_json_is_a_list_of_addresses_or_of_pairs_or_an_object():
    assert document(["a@example.com", "b@example.com"]).keys == ["a@example.com", "b@example.com"]
    assert document(["a@example.com"]).values is None
    assert document(["a@example.com", "b@example.com"]).where(1) == "users.json element 2"
    for content in ([["a", 1], ["b", -2.5], ["c", "OK"]], {"a": 1, "b": -2.5, "c": "OK"}):
        found = document(content)
        assert (found.keys, found.values) == (["a", "b", "c"], ["1", "-2.5", "OK"])


def test_a_query_finds_the_addresses():
    users = {"users": [{"mail": "a@example.com", "on": True, "score": 1}, {"mail": "b@example.com", "on": False, "score": 2}]}
    assert document(users, query="users[?on].mail").keys == ["a@example.com"]
    found = document(users, query="users[].[mail, score]")
    assert (found.keys, found.values) == (["a@example.com", "b@example.com"], ["1", "2"])


@pytest.mark.parametrize(
    ("content", "query", "words"),
    [
        ({"users": [1]}, None, ["value of element 1", "a list"]),
        ("a@example.com", None, ["the document is a string", "query"]),
        (3, None, ["the document is a number"]),
        (None, None, ["the document is null"]),
        (["a@example.com", 3], None, ["element 2", "a number"]),
        (["a@example.com", None], None, ["element 2", "null"]),
        ([{"mail": "a@example.com"}], None, ["element 1", "an object", "query"]),
        (["a@example.com", ["b@example.com", 1]], None, ["element 2", "a list"]),
        ([["b@example.com"]], None, ["element 1", "its value"]),
        ([[1, "b@example.com"]], None, ["element 1", "its value"]),
        ([["b@example.com", True]], None, ["value of element 1", "true or false"]),
        ([["b@example.com", None]], None, ["value of element 1", "null"]),
        (["\ud800@example.com"], None, ["surrogate"]),
        ({"users": []}, "people[].mail", ["people[].mail", "null"]),
        ({"users": []}, "users[].mail", ["no address in it"]),
        ({"users": [{"mail": 1}]}, "users[].mail", ["element 1", "users[].mail", "a number"]),
        ({"users": []}, "users[", ["the query users[ cannot be applied"]),
        ({"users": []}, "length(@.users, 1)", ["cannot be applied"]),
        ({"users": 1}, "length(users)", ["cannot be applied"]),
        ({"users": 1}, "nonsense(users)", ["cannot be applied"]),
    ],
)
def test_json_of_another_shape_is_named(content, query, words):
    refused(lambda: document(content, **({"query": query} if query else {})), "users.json", *words)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'["a@example.com",\n "b@exam', ["not JSON", "line 2"]),
        (b'{"a": 1, "b": 2, "a": 2}', ["'a'", "twice"]),
        (b"[" * 100000, ["nested too deeply"]),
        (b"[[" + b'"a", ' + b"1" * 10000 + b"]]", ["too long a number"]),
    ],
)
def test_json_that_cannot_be_parsed_is_named(raw, words):
    refused(lambda: read(raw, path="users.json"), *words)


def test_a_missing_jmespath_is_named_with_its_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "jmespath", None)
    assert document(["a@example.com"]).keys == ["a@example.com"]
    refused(lambda: document({}, query="a"), "python3-jmespath", "jmespath (PyPI)")


@quick
@given(st.dictionaries(texts, st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_a_json_object_comes_back_as_it_was(content):
    found = document(content)
    assert dict(zip(found.keys, found.values)) == {key: str(value) for key, value in content.items()}


# ---- HTTP --------------------------------------------------------------------------------------------------------


class _Certificates:
    """An authority, and certificates from it, as PEM files."""

    def __init__(self, directory):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        authority = self._builder(self.key, self.subject, 10).add_extension(x509.BasicConstraints(True, None), True)
        authority = authority.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False).add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), True
        )
        self.ca_path = str(directory / "ca.pem")
        (directory / "ca.pem").write_bytes(authority.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, key, subject, days):
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now + datetime.timedelta(days=days)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(min(now, end) - datetime.timedelta(days=1)).not_valid_after(end)

    def issue(self, name, alternative, days=10):
        """Return the path of a certificate with its key; with negative days it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), days)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return str(path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = _Certificates(tmp_path_factory.mktemp("tls"))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made.good = made.issue("good", address)
    made.expired = made.issue("expired", address, days=-1)
    made.other = made.issue("other", x509.DNSName("www.example.com"))
    made.client = made.issue("client", x509.DNSName("client.example.com"))
    return made


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answers[self.path.partition("?")[0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments):
        """Nothing is written to the terminal."""


class _WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate=None, client_ca=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.answers, self.context = [], {}, None
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED

    def get_request(self):
        connection, address = super().get_request()
        return (self.context.wrap_socket(connection, server_side=True) if self.context else connection), address

    def handle_error(self, request, client_address):
        """A client that does not like the certificate is what some tests are about."""

    def says(self, path, body, status=200, **headers):
        self.answers[path] = (status, {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}, body)


@pytest.fixture
def web(monkeypatch):
    """Return a function that starts a web server with these arguments."""
    servers = []
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(*arguments, **options):
        server = _WebServer(*arguments, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        server.says("/users", b"a@example.com\n")
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_download_over_http(web):
    server = web()
    server.says("/users.csv", b"mail\na@example.com\n")
    table = source(url=f"{server.url}/users.csv?all=1", column="mail")
    assert table.records(table.fetch()).keys == ["a@example.com"]
    assert table.records(table.fetch()).where(0) == f"{server.url}/users.csv line 2"
    assert server.requests[0][0] == "/users.csv?all=1"
    assert "Authorization" not in server.requests[0][1]


def test_a_download_over_https_with_all_that_can_be_shown(web, certificates):
    server = web(certificates.good, client_ca=certificates.ca_path)
    options = {"url": f"{server.url}/users", "ca_path": certificates.ca_path, "timeout": 5}
    shown = {"username": "reader", "password": SECRET, "headers": {"X-Token": "t"}, "client_cert": certificates.client}
    assert source(**options, **shown).fetch() == b"a@example.com\n"
    dummy, headers = server.requests[0]
    assert headers["Authorization"] == "Basic cmVhZGVyOmNvcnJlY3QgaG9yc2U="
    assert headers["X-Token"] == "t"
    refused(source(**options).fetch, "127.0.0.1")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("expired", True, ["has expired"]),
        ("other", True, ["for another name"]),
        ("good", False, ["not trusted here", "ca_path"]),
    ],
)
def test_a_certificate_that_is_not_good_is_refused(web, certificates, certificate, trusted, words):
    server = web(getattr(certificates, certificate))
    options = {"url": f"{server.url}/users", "username": "reader", "password": SECRET, "timeout": 5}
    refused(source(**options, **({"ca_path": certificates.ca_path} if trusted else {})).fetch, "the certificate of 127.0.0.1", *words)
    assert not server.requests
    assert source(**options, validate_certs=False).fetch() == b"a@example.com\n"


@pytest.mark.parametrize(("status", "words"), [(401, ["check username"]), (403, ["Forbidden"]), (404, ["check url"]), (500, []), (599, []), (304, [])])
def test_an_answer_that_is_an_error_is_named(web, status, words):
    server = web()
    server.says("/users", b"", status=status)
    refused(source(url=f"{server.url}/users?token=abc", username="reader", password=SECRET).fetch, f"{server.url}/users:", str(status), *words)


@pytest.mark.parametrize("status", [204, 206])
def test_an_answer_that_is_no_whole_file_is_refused(web, status):
    server = web()
    server.says("/users", b"", status=status)
    refused(source(url=f"{server.url}/users").fetch, str(status), "200 was expected")


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({"Content-Length": "14"}, b"a@example", ["truncated", "9 of 14"]),
        ({"Content-Length": "999999999999"}, b"a@example", ["truncated", "9 of 999999999999"]),
        ({"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n9\r\nmpl", ["truncated"]),
        ({"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n", ["truncated"]),
        ({}, b"a@example.com\n", ["no length"]),
        ({"Content-Length": "14", "Content-Encoding": "gzip"}, b"a@example.com\n", ["compressed"]),
    ],
)
def test_an_answer_that_is_not_whole_is_refused(web, headers, body, words):
    server = web()
    server.answers["/users"] = (200, headers, body)
    refused(source(url=f"{server.url}/users").fetch, *words)


def test_a_chunked_answer_is_taken(web):
    server = web()
    server.answers["/users"] = (200, {"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n9\r\nmple.com\n\r\n0\r\n\r\n")
    assert source(url=f"{server.url}/users").fetch() == b"a@example.com\n"


def test_an_answer_that_is_too_large_is_refused(web, monkeypatch):
    monkeypatch.setattr(_sources, "LIMIT", 13)
    refused(source(url=f"{web().url}/users").fetch, "larger than")


def test_redirects_are_followed_but_take_no_secret_to_another_host(web):
    first, second = web(), web()
    first.says("/old", b"", status=302, Location="/users")
    first.says("/away", b"", status=307, Location=f"{second.url}/users")
    options = {"username": "reader", "password": SECRET, "headers": {"X-Token": "t"}}
    assert source(url=f"{first.url}/old", **options).fetch() == b"a@example.com\n"
    assert source(url=f"{first.url}/away", **options).fetch() == b"a@example.com\n"
    assert all("Authorization" in headers and "X-Token" in headers for dummy, headers in first.requests)
    [(dummy, headers)] = second.requests
    assert "Authorization" not in headers
    assert "X-Token" not in headers


@pytest.mark.parametrize(
    ("location", "words"),
    [("http://127.0.0.1/users", ["clear text"]), ("file:///etc/passwd", ["not an http or https URL"]), ("/users", ["more than 5 times"])],
)
def test_a_redirect_to_where_we_do_not_go_is_refused(web, certificates, location, words):
    server = web(certificates.good)
    server.says("/users", b"", status=301, Location=location)
    refused(source(url=f"{server.url}/users", ca_path=certificates.ca_path).fetch, *words)


@pytest.fixture
def silent():
    """The port of a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_does_not_answer_is_named(web, silent, closed, scheme):
    refused(source(url=f"{scheme}://127.0.0.1:{silent}/users", timeout=0.2).fetch, "0.2 seconds", "timeout")
    refused(source(url=f"{scheme}://127.0.0.1:{closed}/users").fetch, "refused the connection")


def test_a_server_that_does_not_speak_tls_is_named(web, closed):
    server = web()
    refused(source(url=f"{server.url.replace('http', 'https')}/users", timeout=5).fetch, "TLS with 127.0.0.1 failed")


@pytest.mark.parametrize("option", ["ca_path", "client_cert"])
def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path, web, certificates, option):
    server = web(certificates.good)
    options = {"ca_path": certificates.ca_path, "url": f"{server.url}/users"}
    refused(source(**{**options, option: "missing.pem"}).fetch, f"cannot read {option} /nowhere/missing.pem")
    (tmp_path / "empty.pem").write_bytes(b"")
    refused(source(**{**options, option: str(tmp_path / "empty.pem")}).fetch, "TLS with 127.0.0.1 failed", option)


# ---- LDAP --------------------------------------------------------------------------------------------------------


class _Directory:
    """Stands in for python-ldap: the module and the connection. Answers in pages of page_size, as a server would."""

    class LDAPError(Exception):
        pass

    ERRORS = """
        INVALID_CREDENTIALS NO_SUCH_OBJECT INVALID_DN_SYNTAX FILTER_ERROR SIZELIMIT_EXCEEDED ADMINLIMIT_EXCEEDED TIMELIMIT_EXCEEDED PARTIAL_RESULTS
        UNAVAILABLE_CRITICAL_EXTENSION CONFIDENTIALITY_REQUIRED STRONG_AUTH_REQUIRED REFERRAL INSUFFICIENT_ACCESS INAPPROPRIATE_AUTH OPERATIONS_ERROR
        UNWILLING_TO_PERFORM TIMEOUT SERVER_DOWN CONNECT_ERROR OTHER
    """.split()
    SCOPE_SUBTREE, SCOPE_ONELEVEL = "sub", "one"

    def __init__(self):
        for name in self.ERRORS:
            setattr(self, name, type(name, (self.LDAPError,), {}))
        for name in ("PROTOCOL_VERSION", "REFERRALS", "DEREF", "NETWORK_TIMEOUT", "TIMEOUT", "X_TLS_CACERTFILE", "X_TLS_REQUIRE_CERT", "X_TLS_NEWCTX"):
            setattr(self, f"OPT_{name}", name)
        self.DEREF_NEVER, self.OPT_X_TLS_DEMAND, self.OPT_X_TLS_NEVER = "never", "demand", "allow anything"
        self.controls = types.SimpleNamespace(SimplePagedResultsControl=_Page)
        self.entries, self.options, self.calls, self.fails, self.pages = [], {}, [], {}, True

    def fail(self, step, name, **answer):
        self.fails[step] = getattr(self, name)({"desc": name, **answer})

    def _call(self, *call):
        self.calls.append(call)
        if call[0] in self.fails:
            raise self.fails[call[0]]

    def initialize(self, uri):
        self._call("initialize", uri)
        return self

    def set_option(self, name, value):
        self.options[name] = value

    def start_tls_s(self):
        self._call("start_tls")

    def simple_bind_s(self, dn, password):
        self._call("bind", dn, password)

    def unbind_s(self):
        self._call("unbind")

    def search_ext(self, base, scope, filterstr, attrlist, serverctrls):
        [page] = serverctrls
        assert page.criticality
        self._call("search", base, scope, filterstr, tuple(attrlist))
        return int(page.cookie or 0), page.size

    def result3(self, message, timeout):
        start, size = message
        if start:
            self._call("second page")
        end = start + size
        cookie = str(end) if end < len(self.entries) else ""
        return "result", self.entries[start:end], 1, [_Page(True, 0, cookie)] if self.pages else []


class _Page:
    controlType = "1.2.840.113556.1.4.319"

    def __init__(self, criticality, size, cookie):
        self.criticality, self.size, self.cookie = criticality, size, cookie


@pytest.fixture
def directory(monkeypatch):
    fake = _Directory()
    monkeypatch.setitem(sys.modules, "ldap", fake)
    monkeypatch.setitem(sys.modules, "ldap.controls", fake.controls)
    fake.entries = [(f"uid=u{number}", {"mail": [b"u%d@example.com" % number]}) for number in range(10)]
    return fake


LOCAL = {"ldap_uri": "ldapi://", "base": "dc=example,dc=com"}


def test_a_directory_is_read_in_pages(directory):
    found = source(**LOCAL, page_size=3)
    raw = found.fetch()
    assert found.by_line(raw)
    assert found.records(raw).keys == [f"u{number}@example.com" for number in range(10)]
    assert [call[0] for call in directory.calls].count("search") == 4
    assert directory.calls[1] == ("search", "dc=example,dc=com", "sub", "(mail=*)", ("mail",))
    assert directory.calls[-1] == ("unbind",)
    assert directory.options["REFERRALS"] == 0
    assert directory.options["PROTOCOL_VERSION"] == 3


def test_the_directory_is_told_who_asks_for_what(directory):
    options = {"bind_dn": "cn=reader", "password": SECRET, "scope": "onelevel", "filter": "(uid=*)", "attributes": ["mail", "proxyAddresses"]}
    source(**LOCAL, **options).fetch()
    assert directory.calls[1:3] == [("bind", "cn=reader", SECRET), ("search", "dc=example,dc=com", "one", "(uid=*)", ("mail", "proxyAddresses"))]


def test_proxy_addresses_are_those_of_smtp_alone(directory):
    directory.entries = [
        ("uid=b", {"PROXYADDRESSES": [b"smtp:b2@example.com", b"SMTP:b@example.com", b"sip:b@example.com", b"X500:/o=Example", b"b3@example.com"]}),
        ("uid=a", {"mail": [b"b@example.com", b"smtp:a@example.com"], "mail;lang-de": ["ä@example.com".encode()], "other": [b"c@example.com"]}),
    ]
    found = source(**LOCAL, attributes=["Mail", "proxyaddresses"])
    assert found.records(found.fetch()).keys == ["b2@example.com", "b@example.com", "smtp:a@example.com", "ä@example.com"]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"mail": [b"\xff@example.com"]}, ["mail of uid=a", "UTF-8"]),
        ({"mail": [b"x\n@victim.example"]}, ["line end or a NUL"]),
        ({"mail": [b"x\0@example.com"]}, ["line end or a NUL"]),
        ({"mail": [], "mail;range=0-1499": [b"a@example.com"]}, ["only a part of mail of uid=a"]),
        ({"other": [b"a@example.com"]}, ["1 entries match", "none has an address in mail"]),
    ],
)
def test_an_entry_that_cannot_be_taken_is_named(directory, attributes, words):
    directory.entries = [("uid=a", attributes)]
    refused(source(**LOCAL).fetch, "ldapi://:", *words)


def test_all_of_an_attribute_that_came_in_ranges_is_taken(directory):
    directory.entries = [("uid=a", {"mail;range=0-*": [b"a@example.com"]})]
    assert source(**LOCAL).fetch() == b"a@example.com"


def test_references_are_not_followed(directory):
    directory.entries.append((None, ["ldap://other.example.com/dc=example,dc=com"]))
    assert source(**LOCAL).fetch().count(b"\n") == 9
    directory.entries = directory.entries[-1:]
    refused(source(**LOCAL).fetch, "only refers to other servers")


def test_a_directory_without_entries_or_without_pages_is_refused(directory):
    directory.pages = False
    refused(source(**LOCAL).fetch, "does not answer in pages")
    directory.pages, directory.entries = True, []
    refused(source(**LOCAL).fetch, "no entry below dc=example,dc=com", "(mail=*)")


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("initialize", "OTHER", ["could not be read"]),
        ("bind", "INVALID_CREDENTIALS", ["bind_dn", "password"]),
        ("bind", "CONFIDENTIALITY_REQUIRED", ["start_tls: true"]),
        ("bind", "SERVER_DOWN", ["connection failed"]),
        ("search", "NO_SUCH_OBJECT", ["base dc=example,dc=com"]),
        ("search", "INVALID_DN_SYNTAX", ["not a DN"]),
        ("search", "FILTER_ERROR", ["(mail=*)", "RFC 4515"]),
        ("search", "UNAVAILABLE_CRITICAL_EXTENSION", ["pages"]),
        ("search", "REFERRAL", ["another server"]),
        ("search", "OPERATIONS_ERROR", ["bind_dn"]),
        ("second page", "SIZELIMIT_EXCEEDED", ["did not return everything", "prtotal"]),
        ("second page", "ADMINLIMIT_EXCEEDED", ["did not return everything"]),
        ("second page", "TIMELIMIT_EXCEEDED", ["did not return everything"]),
        ("second page", "PARTIAL_RESULTS", ["did not return everything"]),
        ("second page", "SERVER_DOWN", ["connection failed or was lost"]),
        ("second page", "TIMEOUT", ["30 seconds", "timeout"]),
    ],
)
def test_what_the_directory_does_not_do_is_an_error_and_no_short_list(directory, step, error, words):
    directory.fail(step, error, info=f"{SECRET} is what you sent\n\0\u202e")
    refused(source(**LOCAL, bind_dn="cn=reader", password=SECRET, page_size=3).fetch, "ldapi://:", error, "(password) is what you sent", *words)
    assert step == "initialize" or directory.calls[-1] == ("unbind",)


def test_an_error_without_an_explanation_is_a_sentence_too(directory):
    directory.fails["search"] = directory.OTHER("nothing to be told")
    refused(source(**LOCAL).fetch, "could not be read", "OTHER")


def test_the_library_is_told_what_to_trust(directory, monkeypatch, certificates):
    monkeypatch.setattr(Source, "_shake_hands", lambda self, verify: None)
    remote = {**LDAP, "ldap_uri": "ldap://ldap.example.com", "start_tls": True, "timeout": 7}
    source(**remote, ca_path=certificates.ca_path, bind_dn="cn=reader", password=SECRET).fetch()
    assert directory.options["X_TLS_REQUIRE_CERT"] == "demand"
    assert directory.options["X_TLS_CACERTFILE"] == certificates.ca_path
    assert list(directory.options)[-1] == "X_TLS_NEWCTX"
    assert (directory.options["NETWORK_TIMEOUT"], directory.timeout) == (7, 7)
    assert [call[0] for call in directory.calls[:3]] == ["initialize", "start_tls", "bind"]
    source(**remote, validate_certs=False).fetch()
    assert directory.options["X_TLS_REQUIRE_CERT"] == "allow anything"


@pytest.mark.parametrize(("certificate", "words"), [("expired", ["has expired"]), ("other", ["for another name"]), ("good", [])])
def test_a_bad_certificate_of_a_directory_is_named(directory, web, certificates, certificate, words):
    """The library only says that it cannot connect, so the handshake is looked at beside it."""
    server = web(getattr(certificates, certificate))
    directory.fail("search", "SERVER_DOWN")
    options = {**LDAP, "ldap_uri": server.url.replace("https", "ldaps"), "timeout": 5}
    refused(source(**options, ca_path=certificates.ca_path).fetch, *words, *([] if words else ["SERVER_DOWN"]))
    refused(source(**options).fetch, "not trusted here")


@pytest.mark.parametrize("options", [{"ldap_uri": "ldaps://127.0.0.1:{}"}, {"ldap_uri": "ldap://127.0.0.1:{}", "start_tls": True}])
def test_a_directory_that_does_not_answer_is_named(directory, silent, closed, options):
    for port, word in ((silent, "0.2 seconds"), (closed, "refused the connection")):
        refused(source(**{**LDAP, **options, "ldap_uri": options["ldap_uri"].format(port), "timeout": 0.2}).fetch, word)
    assert not directory.calls


def test_start_tls_is_tried_as_the_library_does(directory, certificates):
    """The request and its answer, RFC 4511 section 4.14, and the handshake after them."""
    request = bytes.fromhex("301d 0201 01 7718 8016") + b"1.3.6.1.4.1.1466.20037"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.other)
    seen = []

    def serve(server):
        for dummy in range(2):
            connection = server.accept()[0]
            seen.append(connection.recv(4096))
            connection.sendall(bytes.fromhex("300c 0201 01 7807 0a01 00 0400 0400"))
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass

    directory.fail("start_tls", "CONNECT_ERROR")
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server], daemon=True)
        thread.start()
        uri = f"ldap://127.0.0.1:{server.getsockname()[1]}"
        refused(source(**{**LDAP, "ldap_uri": uri}, start_tls=True, ca_path=certificates.ca_path, timeout=5).fetch, "for another name")
        thread.join(5)
    assert seen == [request, request]


def test_a_missing_library_is_named_with_its_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "ldap", None)
    refused(source(**LOCAL).fetch, "python3-ldap", "python-ldap")
