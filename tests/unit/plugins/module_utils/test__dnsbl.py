# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _dnsbl
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=300)
LIST = {"domain": "bl.example.org", "answers": "127.0.0.[2..11]", "weight": 2}
KEY = "k3y-0f-a-cust0mer"


def entry(**changes):
    return {**LIST, **changes}


def check(*entries, threshold=3):
    return _dnsbl.check(entries, threshold)


def only_problem(*entries, threshold=3):
    problems, warnings = check(*entries, threshold=threshold)
    assert len(problems) == 1, problems
    assert warnings == []
    return problems[0]


def only_warning(*entries, threshold=3):
    problems, warnings = check(*entries, threshold=threshold)
    assert problems == []
    assert len(warnings) == 1, warnings
    return warnings[0]


# ---- filters, as postconf(5) has them for postscreen_dnsbl_sites --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("127.0.0.2", [{127}, {0}, {0}, {2}]),
        ("127.0.0.[2..5]", [{127}, {0}, {0}, {2, 3, 4, 5}]),
        ("127.0.0.[2;4;10..12]", [{127}, {0}, {0}, {2, 4, 10, 11, 12}]),
        ("127.0.[0..255].[1;2;4..11]", [{127}, {0}, set(range(256)), {1, 2, *range(4, 12)}]),
        ("[127].[0].[0].[2]", [{127}, {0}, {0}, {2}]),
        ("127.0.0.[7..7;7;6..8]", [{127}, {0}, {0}, {6, 7, 8}]),
        ("0.0.0.0", [{0}, {0}, {0}, {0}]),
        ("255.255.255.[0..255]", [{255}, {255}, {255}, set(range(256))]),
        ("127.0.0.[0;0..1]", [{127}, {0}, {0}, {0, 1}]),
        ("127.000.0.[002..011]", [{127}, {0}, {0}, set(range(2, 12))]),
    ],
)
def test_a_filter_says_which_answers_count(text, octets):
    assert _dnsbl.answers(text) == octets


def refused(text):
    with pytest.raises(ValueError, match="127.0.0.2 or ") as raised:
        _dnsbl.answers(text)
    assert str(raised.value).startswith(f"'{text}' is not a filter of answers: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127",
        "127.0.0",
        "127.0.0.",
        "127.0.0.2.3",
        "127.0.0.2.[3]",
        ".127.0.0.2",
        "127..0.2",
        "127.0.0.256",
        "127.0.0.1000",
        "127.0.0.-2",
        "127.0.0.x",
        "127.0.0.*",
        "127.0.0.2/32",
        "127.0.0.2*2",
        "127.0.0.2 ",
        " 127.0.0.2",
        "127.0.0.2\n",
        "127.0.0.[]",
        "127.0.0.[;]",
        "127.0.0.[2;]",
        "127.0.0.[;2]",
        "127.0.0.[2",
        "127.0.0.2]",
        "127.0.0.[[2]]",
        "127.0.0.[2][3]",
        "127.0.0.2[3]",
        "127.0.0.[2]3",
        "127.0.[0.2]",
        "127.0.0.[2,4]",
        "127.0.0.[2; 4]",
        "127.0.0.[2-4]",
        "127.0.0.[2.4]",
        "127.0.0.[2..]",
        "127.0.0.[..4]",
        "127.0.0.[2..4..6]",
        "127.0.0.[4..2]",
        "127.0.0.[2..256]",
        "127.0.0.[256..257]",
        "127.0.0.[2\n]",
        "127.0.0.2;127.0.0.3",
        "[127.0.0.2;127.0.0.3]",
        "2001:db8::2",
    ],
)
def test_what_postfix_would_not_read_is_refused(text):
    refused(text)


@pytest.mark.parametrize("text", ["127.0.0.2.", "127.0.0.[2..4]."])
def test_a_dot_at_the_end_is_refused(text):
    refused(text)


@pytest.mark.parametrize("text", ["127.0.0.\u0662", "127.0.0.[2..\u0664]", "\uff11\uff12\uff17.0.0.2"])
def test_the_digits_of_other_scripts_are_refused(text):
    refused(text)


NUMBER = "[0-9]{1,3}"
MEMBER = rf"{NUMBER}(?:\.\.{NUMBER})?"
FIELD = rf"({NUMBER}|\[{MEMBER}(?:;{MEMBER})*\])"


def slow_and_obvious(text):
    """Every answer, as four sets of numbers, or None: the grammar of ip_match(3) of Postfix, then every number is tried."""
    fields = re.fullmatch(rf"{FIELD}\.{FIELD}\.{FIELD}\.{FIELD}", text)
    if not fields:
        return None
    octets = []
    for field in fields.groups():
        ranges = [[int(number) for number in member.split("..")] for member in field.strip("[]").split(";")]
        if any(number > 255 for pair in ranges for number in pair) or any(pair[0] > pair[-1] for pair in ranges):
            return None
        octets.append({number for number in range(256) if any(pair[0] <= number <= pair[-1] for pair in ranges)})
    return octets


numbers = st.integers(0, 260) | st.sampled_from([0, 1, 2, 127, 254, 255, 256])
pairs = st.tuples(numbers, numbers)
members = st.builds(str, numbers) | pairs.map(lambda pair: f"{min(pair)}..{max(pair)}") | pairs.map(lambda pair: f"{pair[0]}..{pair[1]}")
fields = st.builds(str, st.integers(0, 255)) | st.builds(lambda each: f"[{';'.join(each)}]", st.lists(members, min_size=1, max_size=4))
filters = st.builds(".".join, st.lists(fields, min_size=4, max_size=4))
addresses = st.builds(str, st.ip_addresses(v=4)) | st.builds("127.0.0.{}".format, st.integers(0, 255))


def agree(text):
    expected = slow_and_obvious(text)
    try:
        octets = _dnsbl.answers(text)
    except ValueError:
        octets = None
    assert octets == expected
    return octets


@quick
@given(filters, addresses)
def test_a_filter_is_read_as_the_grammar_has_it(text, address):
    octets = agree(text)
    if octets:
        assert _dnsbl.counts(octets, address) == all(int(number) in allowed for number, allowed in zip(address.split("."), slow_and_obvious(text)))


@quick
@given(st.data())
def test_a_filter_with_a_typing_error_is_read_as_the_grammar_has_it(data):
    text = data.draw(filters)
    for _error in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(["", *"0129.[];- "])) + text[at + data.draw(st.integers(0, 2)) :]
    agree(text)


def test_the_oracle_knows_right_from_wrong():
    assert slow_and_obvious("127.0.[0;2].[2..4]") == [{127}, {0}, {0, 2}, {2, 3, 4}]
    assert [slow_and_obvious(text) for text in ("127.0.0", "127.0.0.256", "127.0.0.[4..2]", "127.0.0.2.")] == [None] * 4


@pytest.mark.parametrize(
    ("text", "counted", "not_counted"),
    [
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.3", "127.0.1.2", "127.1.0.2", "128.0.0.2", "127.0.0.22", "2.0.0.127"]),
        ("127.0.0.[2..11]", ["127.0.0.2", "127.0.0.7", "127.0.0.11"], ["127.0.0.1", "127.0.0.12", "127.255.255.254"]),
        ("127.0.[2..15].[1..3]", ["127.0.2.1", "127.0.15.3"], ["127.0.10.0", "127.0.1.1", "127.0.16.1", "127.0.0.2"]),
    ],
)
def test_an_answer_counts_where_every_number_does(text, counted, not_counted):
    octets = _dnsbl.answers(text)
    assert [address for address in counted + not_counted if _dnsbl.counts(octets, address)] == counted


# ---- lists: what is returned --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "canonical"),
    [(" bl.example.org", "bl.example.org"), ("BL.Example.org", "bl.example.org"), ("bl.münchen.example", "bl.xn--mnchen-3ya.example")],
)
def test_a_domain_is_written_as_it_is_asked_for(domain, canonical):
    assert only_problem(entry(domain=domain)).endswith(f"is not how Postfix asks for it: write {canonical}")
    assert check(entry(domain=canonical))[0] == []


def test_no_lists_are_no_mistake():
    assert check() == ([], [])


@pytest.mark.parametrize(("key", "zone"), [("", "bl.example.org"), (None, "bl.example.org"), ("abc", "abc.bl.example.org")])
def test_the_key_stands_before_the_domain(key, zone):
    assert _dnsbl.zone("bl.example.org", key) == zone


@pytest.mark.parametrize("answers", ["127.0.0.2", "127.0.0.254", "127.0.0.[2..254]", "127.0.[2..15].[1..3]", "127.0.1.[0..255]", "127.255.254.[0..255]"])
def test_a_filter_that_lets_only_listings_count_is_taken(answers):
    problems, _warnings = check(entry(answers=answers))
    assert problems == []


# ---- lists: mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.[1..254]", "127.0.0.1"),
        ("127.0.0.[2..255]", "127.0.0.255"),
        ("127.[0..255].[0..255].[2..254]", "127.255.255.2"),
        ("127.255.255.254", "127.255.255.254"),
        ("127.255.[0..255].252", "127.255.255.252"),
        ("127.255.255.0", "127.255.255.0"),
    ],
)
def test_a_filter_that_would_take_a_refusal_to_answer_for_a_listing_is_a_mistake(answers, address):
    problem = only_problem(entry(), entry(domain="other.example.org", answers=answers))
    assert problem.startswith(f"gateway_dnsbl_lists[1]: the filter '{answers}' lets {address} count, which is no listing")
    assert "use 127.0.0.[2..254]" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domain": "bl"}, ["'bl' is not fully qualified"]),
        ({"domain": "bl.example.org."}, ["'bl.example.org.' is not a domain name"]),
        ({"domain": "bl.example.org=127.0.0.2*3"}, ["is not a domain name"]),
        ({"domain": "192.0.2.53"}, ["IP address"]),
        ({"answers": "127.0.0"}, ["'127.0.0' is not a filter of answers", "write four numbers"]),
        ({"answers": ""}, ["'' is not a filter of answers"]),
        ({"answers": "[126..127].0.0.2"}, ["addresses count that do not begin with 127"]),
        ({"answers": "192.0.2.1"}, ["addresses count that do not begin with 127"]),
        ({"key": "elevenchars"}, ["shorter than 12 characters"]),
        ({"weight": 0}, ["bl.example.org has the weight 0", "below 0 in favour of a client"]),
        ({"weight": 1001}, ["bl.example.org has the weight 1001", "between -1000 and 1000"]),
        ({"weight": -1001}, ["bl.example.org has the weight -1001", "between -1000 and 1000"]),
        ({"key": "a.b"}, ["the key of bl.example.org is not a label"]),
        ({"key": "a" * 64}, ["the key of bl.example.org is not a label"]),
        ({"key": "with space"}, ["the key of bl.example.org is not a label"]),
        ({"key": "abc\n"}, ["the key of bl.example.org is not a label"]),
        ({"key": "schlüssel"}, ["the key of bl.example.org is not a label"]),
        ({"key": "a=b"}, ["the key of bl.example.org is not a label"]),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(changes, words):
    problem = only_problem(entry(domain="first.example.org"), entry(**changes))
    assert problem.startswith("gateway_dnsbl_lists[1]: ")
    for word in words:
        assert word in problem


@pytest.mark.parametrize("key", ["-abc", "abc-", "-"])
def test_a_key_with_a_hyphen_at_its_end_is_a_mistake(key):
    assert "is not a label" in only_problem(entry(domain="first.example.org"), entry(key=key))


@pytest.mark.parametrize("weight", [-1000, -1, 1, 1000])
def test_the_largest_weights_are_taken(weight):
    problems, _warnings = check(entry(weight=weight, refuses_alone=True))
    assert problems == []


@pytest.mark.parametrize("key", ["a" * 12, "0" * 12, "A" * 63, "q4-Zz0123456"])
def test_a_key_is_a_label(key):
    assert check(entry(key=key))[0] == []


def test_the_same_list_twice_with_the_same_answers_is_a_mistake():
    problems, _warnings = check(entry(weight=1), entry(domain="between.example.org"), entry(weight=2))
    assert problems == ["gateway_dnsbl_lists[2]: bl.example.org stands in the list twice with the same answers; keep one of them"]


@pytest.mark.parametrize("changes", [{"answers": "127.0.0.2"}, {"key": "another-customer"}, {"domain": "bl.example.net"}])
def test_other_answers_another_key_or_another_domain_make_another_list(changes):
    assert check(entry(weight=1, key="customer-number-one"), entry(**{"weight": 1, "key": "customer-number-one", **changes}))[0] == []


def test_what_entries_of_one_list_say_is_added_up():
    _problems, warnings = check(entry(weight=2), entry(weight=1, answers="127.0.0.12"))
    assert len(warnings) == 1 and "bl.example.org has the weight 3, so it alone reaches" in warnings[0]
    assert check(entry(weight=2), entry(weight=1, answers="127.0.0.12", refuses_alone=True)) == ([], [])


def test_the_same_answers_in_another_spelling_are_the_same():
    assert "twice" in only_problem(entry(weight=1, answers="127.0.0.[2..3]"), entry(weight=1, answers="127.0.0.[2;3]"))


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_that_everybody_reaches_is_a_mistake(threshold):
    problems, _warnings = check(threshold=threshold)
    assert problems == [f"gateway_dnsbl_threshold: {threshold} would refuse clients that no list names; use 1 or more"]


def test_all_mistakes_are_reported_at_once():
    problems, _warnings = check(entry(domain="bl"), entry(), entry(weight=0), entry(answers="127.0.0.1"), threshold=0)
    assert [problem.partition(":")[0] for problem in problems] == [
        "gateway_dnsbl_lists[0]",
        "gateway_dnsbl_lists[2]",
        "gateway_dnsbl_lists[3]",
        "gateway_dnsbl_threshold",
    ]


def test_the_variable_is_that_of_the_caller():
    assert _dnsbl.check([entry(weight=0)], 3, "my_lists")[0][0].startswith("my_lists[0]: ")


# ---- lists: warnings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "threshold"), [(3, 3), (4, 3), (1, 1)])
def test_a_list_that_refuses_alone_is_a_warning(weight, threshold):
    warning = only_warning(entry(domain="other.example.org", weight=-1), entry(weight=weight), threshold=threshold)
    assert warning.startswith(f"gateway_dnsbl_lists[1]: bl.example.org has the weight {weight}")
    assert f"gateway_dnsbl_threshold {threshold}" in warning
    assert "refuses_alone: true" in warning


def test_a_list_that_may_refuse_alone_is_none():
    assert check(entry(weight=3, refuses_alone=True)) == ([], [])


def test_lists_that_refuse_together_are_none():
    assert check(entry(weight=2), entry(domain="other.example.org", weight=1)) == ([], [])


def test_a_threshold_that_nobody_reaches_is_a_warning():
    """What speaks in favour of a client does not count."""
    warning = only_warning(entry(weight=1), entry(domain="b.example.org", weight=1), entry(domain="c.example.org", weight=-5))
    assert warning.startswith("gateway_dnsbl_threshold: all weights together are 2, so nobody reaches 3")


def test_lists_in_favour_of_clients_only_refuse_nobody():
    assert "all weights together are 0" in only_warning(entry(weight=-2))


# ---- the key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": 0},
        {"weight": 5000},
        {"weight": 9},
        {"domain": f"{KEY}.example.org", "weight": 0},
        {"domain": f"{KEY.upper()}.example.org", "weight": 0},
        {"domain": f"{KEY}_.example.org"},
        {"domain": KEY},
        {"answers": f"127.0.0.{KEY}"},
        {"answers": f"{KEY}.example.org=127.0.0.2"},
        {"answers": "127.0.0.1"},
        {"key": f"{KEY} "},
        {"key": f"{KEY}.example"},
        {"key": KEY * 9},
    ],
)
def test_no_sentence_holds_a_key(changes):
    problems, warnings = check(entry(domain="first.example.org"), entry(**{"key": KEY, **changes}))
    assert len(problems + warnings) == 1
    assert KEY not in "".join(problems + warnings)


def test_of_two_lists_with_a_key_that_are_the_same_one_the_key_is_not_told():
    problem = only_problem(entry(key=KEY, weight=1), entry(key=KEY, weight=1))
    assert "twice" in problem
    assert KEY not in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"domain": f"{KEY}.example.org", "weight": 9},
        {"domain": f"{KEY}.example.org", "weight": 0, "key": KEY.upper()},
    ],
)
def test_a_key_that_stands_in_the_domain_as_well_is_not_told(changes):
    problems, warnings = check(entry(domain="first.example.org"), entry(**{"key": KEY, **changes}))
    assert len(problems + warnings) == 1
    assert KEY not in "".join(problems + warnings).lower()
