# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _changeset
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content, _schema
from ansible_collections.antispam.gateway.plugins.plugin_utils._site import Site
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Records
from hypothesis import example, given, settings
from hypothesis import strategies as st

many = settings(max_examples=500)
few = settings(max_examples=150)

DOMAINS = ["example.com", "example.net", "xn--bcher-kva.example"]
SITE = {name: spec.get("default") for name, spec in _schema.specs().items()} | {
    "gateway_hostname": "mx1.example.com",
    "gateway_domains": [{"name": name, "next_hop": "[192.0.2.1]"} for name in DOMAINS],
    "gateway_recipient_sources": [{"path": "users.txt"}],
    "gateway_postmaster": "postmaster@example.org",
}


def source(**options):
    return types.SimpleNamespace(**{"domains": [], "value": "OK", "wildcards": False, **options})


def records(keys, values=None):
    return Records(list(keys), None if values is None else list(values), lambda: range(1, len(keys) + 1), lambda number: f"users.txt line {number}")


def reading(keys, values=None, **options):
    return source(**options), records(keys, values)


# ---- the difference of two texts ---------------------------------------------------------------------------------


def multiset(text):
    ended = text if not text or text.endswith(b"\n") else text + b"\n"
    return collections.Counter(ended.split(b"\n")[:-1])


def assert_leads_from(before, after):
    went, came = map(collections.Counter, _content.difference(before, after))
    old, new = multiset(before), multiset(after)
    assert not went - old
    assert not came - new
    assert old - went + came == new


some_lines = st.lists(st.sampled_from([b"a", b"b", b"ab", b"b\r", b"", b"\r", b"a" * 300, b"caf\xe9", b"\0"]), max_size=12)
some_text = st.builds(lambda lines, end: b"\n".join(lines) + end, some_lines, st.sampled_from([b"", b"\n", b"\r\n"]))


@many
@given(some_text, some_text)
@example(b"", b"")
@example(b"a", b"a\n")
@example(b"a\n", b"")
def test_the_difference_leads_from_one_text_to_the_other(before, after):
    assert_leads_from(before, after)


@few
@given(st.lists(st.integers(0, 40).map(lambda number: b"user%d@example.com" % number), max_size=80), st.randoms(use_true_random=False))
def test_the_difference_of_what_was_shuffled_and_edited(lines, random):
    other = [line for line in lines if random.random() > 0.1]
    if random.random() < 0.5:
        random.shuffle(other)
    for _number in range(random.randrange(4)):
        other.insert(random.randrange(len(other) + 1), b"new%d@example.com" % random.randrange(5))
    assert_leads_from(b"\n".join(lines), b"\n".join(other) + b"\n")


@few
@given(st.binary(max_size=2000), st.integers(0, 2000), st.integers(0, 60), st.binary(max_size=60))
def test_the_difference_of_texts_that_are_long_the_same(text, at, gone, new):
    text = text.replace(b"\0", b"\n") * 5
    assert_leads_from(text, text[:at] + new + text[at + gone :])


def test_the_difference_is_one_line_where_one_line_differs():
    lines = [b"user%d@example.com" % number for number in range(20000)]
    for changed in ([*lines[:9], *lines[10:]], [*lines[:9], b"new@example.com", *lines[9:]], lines[1:], lines[:-1], [*lines, b"new@example.com"]):
        went, came = _content.difference(b"\n".join(lines) + b"\n", b"\n".join(changed) + b"\n")
        assert (went, came) == (sorted(set(lines) - set(changed)), sorted(set(changed) - set(lines)))
    assert _content.difference(b"\n".join(lines), b"\n".join(lines) + b"\n") == ([], [])


# ---- what is taken, and as what ----------------------------------------------------------------------------------

MISSES = [
    "\ufeff", "\u00a0", "\u0131", "\u212a", "\u2028", "\u0085", "\u200b", "\x00", "\x0b", "\x1c", "\x7f", "\t", "\r", "\n", " ",
    "..", ".@", "@", "#", '"', "\\", ",", ";", ":", "<", ">", "(", "[", "é", "ü", "A", "İ", "ß",
]  # fmt: skip
local_parts = st.one_of(
    st.sampled_from(["a", "b", "a.b", "a+b", "o'neil", "#a", "a#b", ".a", "a.", "", "x" * 64, "x" * 65, '"a b"', '"a"', '"#a"', r'"a\"b"', r'"\a"', '"', '"a']),
    st.text(alphabet="ab.#+", min_size=1, max_size=6),
)
names = st.sampled_from(
    [*DOMAINS, "notexample.com", "sub.example.com", "example.com.", "example.com.au", "xample.com", "example.org", "EXAMPLE.com", "bücher.example", "localhost",
     "192.0.2.1", "[192.0.2.1]", ""]
)  # fmt: skip
plain_addresses = st.builds("{}@{}".format, local_parts, names)


@st.composite
def addresses(draw):
    text = draw(plain_addresses)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(MISSES)) + text[at:]
    return text


def slow_and_obvious(text, domains):
    """One address as it stands in the table, None for one that cannot be taken: RFC 5321, by hand."""
    local, at, name = text.rpartition("@")
    if not at:
        return None
    if not name.isascii():
        try:
            encoded = name.lower().encode("idna").decode()
            if encoded.encode().decode("idna") != name.lower():
                return None
        except UnicodeError:
            return None
        name = encoded
    name = name.lower()
    if name not in domains:
        return None
    atom = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~-")
    if local.startswith('"'):
        inner, rest = "", list(local[1:])
        while True:
            if not rest:
                return None
            char = rest.pop(0)
            if char == '"':
                break
            if char == "\\":
                if not rest:
                    return None
                char = rest.pop(0)
            if not " " <= char <= "~":
                return None
            inner += char
        if rest:
            return None
        local, quotable = inner.lower(), True
    else:
        local, quotable = local if not local.isascii() else local.lower(), False
    simple = all(part and set(part) <= atom for part in local.split("."))
    if simple and local.startswith("#") or not simple and not quotable:
        return None
    if not simple:
        local = '"' + "".join("\\" + char if char in '"\\' else char for char in local) + '"'
    return f"{local}@{name}" if len(local) <= 64 else None


@many
@given(st.lists(addresses(), max_size=6), st.lists(addresses(), max_size=3))
@example(["a@example.com\n"], [])
@example(["a@example.com "], [])
@example(["\ufeffa@example.com"], [])
@example(["a@example.com\nb@example.com"], [])
@example(["a@ example.com", "a@\u00a0example.com"], [])
def test_a_mixture_of_addresses_is_what_looking_at_each_makes_of_it(first, second):
    expected = [slow_and_obvious(text, DOMAINS) for text in (*first, *second)]
    found = _content.content_of([reading(first), reading(second)], DOMAINS, "skip")
    assert found.keys == sorted({key for key in expected if key is not None})
    assert found.skipped == expected.count(None)
    assert found.plain == (None not in expected and expected == [*first, *second] and len(set(expected)) == len(expected))
    if found.skipped:
        with pytest.raises(_content.Refused) as raised:
            _content.content_of([reading(first), reading(second)], DOMAINS)
        assert raised.value.count == found.skipped


@many
@given(st.lists(addresses(), min_size=1, max_size=4))
@example(["a@example.com", "@example.com"])
@example(["a@example.com\nb", "@example.com"])
@example(["a@b@example.com", "c"])
@example([f"{'x' * 65}@example.com"])
@example(["a@notexample.com"])
def test_what_is_canonical_at_a_glance_is_so_one_by_one(keys):
    if _content.are_canonical(keys, frozenset(DOMAINS)):
        assert [_content.address(key, DOMAINS) for key in keys] == keys
        assert [slow_and_obvious(key, DOMAINS) for key in keys] == keys


def test_what_is_canonical_is_seen_at_a_glance():
    """Or a million of them would be looked at one by one."""
    assert _content.are_canonical([f"{'x' * 64}@example.com", "o'neil+a.b@example.net", "a#b@xn--bcher-kva.example"], frozenset(DOMAINS))


def test_no_address_is_longer_than_one_may_be():
    name = ".".join(["x" * 60] * 4)
    address = f"{'a' * 12}@{name}"
    assert len(address) > _addresses.MAX_ADDRESS
    with pytest.raises(_content.Refused, match="longer than"):
        _content.content_of([reading([address])], [name])


BAD = [
    "", "alice", "@example.com", "a b@example.com", "a\tb@example.com", "a\vb@example.com", " a@example.com", "\ta@example.com", "a@example.com ",
    "a@example.com\r", "a@example.com\n", "a@example.com\x1f", "a@example.com\u00a0", "a@example.com\u2003", "#a@example.com", "# a@example.com",
    '"#a"@example.com', "\ufeffa@example.com", "a@example.com\ufeff", "a\u00a0b@example.com", "a\x7fb@example.com", "a\0@example.com",
    "x\n@example.com", "a@example.com OK", "a@example.com: OK", "a@example.com:", '"a@example.com', 'a"b@example.com', '"a"b"@example.com',
    "a..b@example.com", ".a@example.com", "a.@example.com", f"{'x' * 65}@example.com", "a@example.org", "a@sub.example.com", "a@notexample.com",
    "a@example.com.", "@example.org", "é@example.com", "\u212a@example.com", "a@[192.0.2.1]", "a@localhost", "<a@example.com>", "Alice <a@example.com>",
    "mailto:a@example.com;b@example.com",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_address_is_refused_and_named_with_its_place(bad):
    with pytest.raises(_content.Refused) as raised:
        _content.content_of([reading(["a@example.com", bad, "b@example.com"])], DOMAINS)
    assert raised.value.count == 1
    assert raised.value.problems[0].startswith("users.txt line 2: ")
    found = _content.content_of([reading(["a@example.com", bad, "b@example.com"])], DOMAINS, "skip")
    assert (found.keys, found.skipped, found.plain) == (["a@example.com", "b@example.com"], 1, False)
    assert found.problems == raised.value.problems


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("Alice@Example.COM", "alice@example.com"),
        ('"alice"@example.com', "alice@example.com"),
        ('"needless.quotes"@example.com', "needless.quotes@example.com"),
        ('"A\\ b"@example.com', '"a b"@example.com'),
        ('"a\\"b\\\\c"@example.com', '"a\\"b\\\\c"@example.com'),
        ('"a..b"@example.com', '"a..b"@example.com'),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        ("a#b@example.com", "a#b@example.com"),
    ],
)
def test_an_address_is_stored_as_postfix_looks_it_up(written, stored):
    assert _content.content_of([reading([written])], DOMAINS).keys == [stored]


def test_a_wildcard_is_for_sources_that_are_to_have_them():
    assert _content.content_of([reading(["@Example.com"], wildcards=True)], DOMAINS).keys == ["@example.com"]
    with pytest.raises(_content.Refused, match="'@example.com' .* wildcards: true"):
        _content.content_of([reading(["@example.com"])], DOMAINS)


@many
@given(addresses())
@example('"john doe"@example.com')
@example("@example.com")
def test_a_recipient_is_one_wherever_it_stands(text):
    """In gateway_recipients as in a source. The inventory may have white space around it."""

    def taken_by(take):
        try:
            return take()
        except (ValueError, _content.Refused) as error:
            return type(error)

    in_source = taken_by(lambda: _content.content_of([reading([text], wildcards=True)], DOMAINS).keys)
    listed = Site(SITE | {"gateway_recipients": [text]})
    in_inventory = _content.Refused if listed.problems else sorted(listed.recipients)
    assert in_source == in_inventory or text != text.strip()


def test_a_source_feeds_its_own_domains_only():
    with pytest.raises(_content.Refused) as raised:
        _content.content_of([reading(["a@example.com", "b@example.net"], domains=["example.com"])], DOMAINS)
    assert "line 2: b@example.net" in str(raised.value)


@pytest.mark.parametrize("written", ["EXAMPLE.com", " example.com", "Bücher.example"])
def test_a_domain_may_be_written_in_any_way(written):
    """Else every address would be another domain's, and be left out."""
    address = "a@" + _addresses.fqdn(written)
    assert _content.content_of([reading([address])], [written], "skip").keys == [address]
    assert _content.content_of([reading([address], domains=[written])], DOMAINS, "skip").keys == [address]


def test_only_the_first_are_named_and_all_are_counted():
    with pytest.raises(_content.Refused) as raised:
        _content.content_of([reading(["no"] * 1000)], DOMAINS)
    assert (len(raised.value.problems), raised.value.count) == (_content.NAMED, 1000)


# ---- values ------------------------------------------------------------------------------------------------------


def entries(content):
    return _changeset.Content(content.text()).entries()


def test_values_are_of_the_source_or_of_the_line():
    found = _content.content_of([reading(["b@example.com", "a@example.com"], ["x y", "OK"]), reading(["c@example.com"], value="z")], DOMAINS)
    assert entries(found) == {b"a@example.com": b"OK", b"b@example.com": b"x y", b"c@example.com": b"z"}
    assert found.text() == b"a@example.com\nb@example.com\tx y\nc@example.com\tz"


@pytest.mark.parametrize("bad", ["", " x", "x ", "a\tb", "a\nb", "a\0", "a\u2028b"])
def test_a_bad_value_is_refused_with_its_place(bad):
    with pytest.raises(_content.Refused, match="^users.txt line 1: "):
        _content.content_of([reading(["a@example.com"], [bad])], DOMAINS)
    found = _content.content_of([reading(["a@example.com", "b@example.com"], [bad, "x"])], DOMAINS, "skip")
    assert (entries(found), found.skipped, found.plain) == ({b"b@example.com": b"x"}, 1, False)


@pytest.mark.parametrize("twice", [("x", "y"), ("OK", "y"), ("x", "OK")])
def test_an_address_has_one_value(twice):
    readings_of_both = [
        [reading(["a@example.com", "a@example.com"], twice)],
        [reading(["a@example.com"], twice[:1]), reading(["A@example.com"], twice[1:])],
    ]
    if twice[0] != "OK":
        # A source that has no values says nothing about them.
        readings_of_both.append([reading(["a@example.com"], value=twice[0]), reading(["a@example.com"], [twice[1]])])
    for readings in readings_of_both:
        with pytest.raises(_content.Refused, match="a@example.com has the value"):
            _content.content_of(readings, DOMAINS)


# ---- scores ------------------------------------------------------------------------------------------------------


def test_scores_are_written_as_amavis_reads_them():
    found = _content.scores_of([reading(["User@Example.org", ".example.net", "@", ".", "sales@"], ["-2.5", "3.0", "1", "0.1", " 4 "])])
    assert entries(found) == {b"user@example.org": b"-2.5", b".example.net": b"3", b"@": b"1", b".": b"0.1", b"sales@": b"4"}


def test_a_score_may_be_that_of_the_source():
    assert entries(_content.scores_of([reading(["example.org"], value="-2")])) == {b"example.org": b"-2"}


@pytest.mark.parametrize(
    ("key", "points"),
    [
        ("example.org", ""), ("example.org", "OK"), ("example.org", "3,5"), ("example.org", "abc"), ("example.org", "101"), ("example.org", "nan"),
        ("example.org", "-inf"), ("example.org", "1_0"), ("example.org", "٣"), ("@example.org", "1"), ("a b@example.org", "1"), ("#a@example.org", "1"),
        ("hash#in@example.org", "4"), ("hash#in@", "4"), ("", "1"), ("a@example.org\nexample.net", "1"),
    ],
)  # fmt: skip
def test_a_score_that_amavis_would_read_otherwise_is_refused(key, points):
    with pytest.raises(_content.Refused) as raised:
        _content.scores_of([reading(["ok.example.org", key], ["1", points])])
    assert raised.value.problems[0].startswith("users.txt line 2: ")
    found = _content.scores_of([reading(["ok.example.org", key], ["1", points])], "skip")
    assert (entries(found), found.skipped) == ({b"ok.example.org": b"1"}, 1)


def test_a_key_without_a_score_is_refused():
    """amavis would take it for +1."""
    with pytest.raises(_content.Refused, match="has no score"):
        _content.scores_of([reading(["example.org"])])


def test_a_key_has_one_score():
    assert entries(_content.scores_of([reading(["A.example.org", "a.example.org"], ["1", "1.0"])])) == {b"a.example.org": b"1"}
    with pytest.raises(_content.Refused, match="has the score 1 already, and 2 here"):
        _content.scores_of([reading(["A.example.org", "a.example.org"], ["1", "2"])])
