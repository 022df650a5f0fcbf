# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _changeset
from hypothesis import given, settings
from hypothesis import strategies as st

many = settings(max_examples=300)

local_parts = st.text(alphabet="ab.+#-=", min_size=1, max_size=4)
addresses = st.builds(lambda local, name: f"{local}@{name}".encode(), local_parts, st.sampled_from(["x.example", "y.example"]))
entries = st.dictionaries(addresses, st.sampled_from([b"OK", b"OK", b"x", b"REJECT a b", b"+", b"-1"]), max_size=12)


def content(found):
    return _changeset.Content(b"\n".join(_changeset.line(*entry) for entry in sorted(found.items())))


# ---- contents and changes ----------------------------------------------------------------------------------------


@many
@given(entries)
def test_a_content_is_its_entries(found):
    read = content(found)
    assert read.entries() == found
    assert list(read.keys()) == sorted(found)
    assert read.uniform == (set(found.values()) <= {b"OK"})


@many
@given(entries, st.lists(st.sampled_from(["x.example", "y.example", "z.example"]), unique=True))
def test_a_content_counts_its_addresses_whatever_domains_are_expected(found, domains):
    expected = collections.Counter(key.rpartition(b"@")[2].decode() for key in found)
    assert content(found).counts(domains) == dict(expected)


def test_a_domain_is_not_taken_for_one_that_ends_the_same_way():
    read = content({b"a@x.example": b"OK", b"a@notx.example": b"OK", b"a@sub.x.example": b"OK", b"a@x@x.example": b"OK"})
    assert read.counts(["x.example"]) == {"x.example": 2, "notx.example": 1, "sub.x.example": 1}


@many
@given(entries)
def test_a_content_has_pairs_where_they_are_cheap(found):
    pairs = content(found).pairs()
    if pairs is None:
        assert not found or set(found.values()) != {b"OK"}
    else:
        items, count, octets = pairs
        items = list(items)
        assert items == [(key + b"\0", b"OK\0") for key in sorted(found)]
        assert count == len(found)
        assert octets >= sum(len(key) + len(value) for key, value in items)


@many
@given(entries, entries)
def test_a_change_leads_from_one_to_the_other_wherever_it_travels(before, after):
    change = _changeset.Change.between(before, after)
    assert bool(change) == (before != after)
    assert change.applied(before) == after
    travelled = _changeset.Change.parse(_changeset.unpack(_changeset.pack(change.text())))
    assert travelled.applied(before) == after
    assert (travelled.added, travelled.removed, travelled.changed) == (change.added, change.removed, change.changed)
    assert not {key for key, _value in change.added} & before.keys()
    assert set(change.removed) == before.keys() - after.keys()


@many
@given(entries)
def test_everything_is_the_change_that_fills_an_empty_table(found):
    change = _changeset.Change.everything(content(found), content(found).counts([]))
    assert change.applied({}) == found
    assert change.by_domain() == _changeset.Change.between({}, found).by_domain()


def test_a_change_of_what_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        _changeset.Change(removed=[b"a@x.example"]).applied({})


@many
@given(st.binary(max_size=200), st.integers(1, 50))
def test_what_is_packed_is_unpacked(text, part):
    size = _changeset._PART
    try:
        _changeset._PART = part
        packed = _changeset.pack(text)
    finally:
        _changeset._PART = size
    assert packed.isascii()
    assert _changeset.unpack(packed) == text


# ---- guards ------------------------------------------------------------------------------------------------------


def removal(*names):
    return _changeset.Change(removed=[name.encode() for name in names])


def users(number, name="x.example"):
    return [f"{index}@{name}" for index in range(number)]


def too_many(change, counts, domains=("x.example", "y.example"), percent=10, few=10):
    return _changeset.too_many(change, counts, domains, percent, few)


@pytest.mark.parametrize(("number", "passes"), [(0, True), (1, True), (10, True), (100, True), (101, False), (999, False), (1000, False)])
def test_a_tenth_may_go(number, passes):
    assert (too_many(removal(*users(number)), {"x.example": 1000}) == []) == passes


@pytest.mark.parametrize(("number", "passes"), [(10, True), (11, False), (20, False)])
def test_a_few_may_always_go(number, passes):
    assert (too_many(removal(*users(number)), {"x.example": 20}) == []) == (passes)


def test_each_domain_is_looked_at():
    counts = {"x.example": 10000, "y.example": 40}
    assert too_many(removal(*users(30, "y.example")), counts) == ["30 of 40 addresses of y.example would go (75.0 %, at most 10 % may)"]


def test_all_together_are_looked_at():
    counts = {f"d{number}.example": 20 for number in range(10)}
    change = removal(*(f"{user}@{name}" for name in counts for user in range(5)))
    assert too_many(change, counts, list(counts)) == ["50 of 200 addresses would go (25.0 %, at most 10 % may)"]


@pytest.mark.parametrize("number", [1, 2, 10, 11])
def test_the_last_address_of_a_domain_does_not_go_unasked(number):
    problems = too_many(removal(*users(number, "y.example")), {"x.example": 10000, "y.example": number}, percent=100, few=1000)
    assert problems == [f"all {number} addresses of y.example would go"]


def test_a_domain_whose_addresses_are_others_now_still_has_some():
    change = _changeset.Change(added=[(b"new@y.example", b"OK")], removed=[b"old@y.example"])
    assert too_many(change, {"x.example": 1000, "y.example": 1}) == []


def test_a_domain_that_is_no_longer_relayed_may_go_and_hides_nothing():
    counts = {"x.example": 100, "gone.example": 5000}
    assert too_many(removal(*users(5000, "gone.example")), counts, ["x.example"]) == []
    problems = too_many(removal(*users(5000, "gone.example"), *users(11)), counts, ["x.example"])
    assert problems[0] == "11 of 100 addresses would go (11.0 %, at most 10 % may)"


def test_many_that_come_do_not_hide_those_that_go():
    change = _changeset.Change(added=[(name.encode(), b"OK") for name in users(5000, "y.example")], removed=[name.encode() for name in users(20)])
    assert too_many(change, {"x.example": 100})


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_a_summary_has_a_line_a_domain():
    before = {b"a@x.example": b"OK", b"b@x.example": b"OK", b"c@y.example": b"OK"}
    change = _changeset.Change.between(before, {b"b@x.example": b"OK", b"c@y.example": b"x", b"d@y.example": b"OK"})
    assert _changeset.summary(change, 3) == ["+0 -1 in x.example", "+1 -0 in y.example", "1 with another value"]
    assert _changeset.summary(_changeset.Change(), 3) == ["nothing to change, 3 addresses"]


@pytest.mark.parametrize("number", [0, 1, 20, 21, 5000])
def test_a_difference_shows_both_ends_and_how_many_are_between(number):
    names = [b"%05d@x.example" % index for index in range(number)]
    for change, side in ((_changeset.Change(removed=names), "before"), (_changeset.Change(added=[(name, b"OK") for name in names]), "after")):
        shown = change.diff("/table")
        lines = shown.pop(side).splitlines()
        assert set(shown.values()) == {"/table", ""}
        assert len(lines) == min(number, 21)
        assert [name.decode() for name in names[:10]] == [line.partition("\t")[0] for line in lines[:10]]
        assert not number or lines[-1].startswith(names[-1].decode())
        assert number <= 20 or f"{number - 20} more" in lines[10]


def test_what_somebody_put_into_a_table_can_be_shown():
    change = _changeset.Change.between({b"caf\xe9@caf\xe9.example": b"\xe9"}, {})
    assert "caf" in change.diff("/table")["before"]
    assert _changeset.summary(change, 1) == ["+0 -1 in caf\ufffd.example"]
