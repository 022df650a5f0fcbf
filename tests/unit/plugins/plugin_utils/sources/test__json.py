# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys

import pytest
from _sources import quick, read, refused, texts
from hypothesis import given
from hypothesis import strategies as st


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
