# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with a DNS that answers as a test says."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.antispam.gateway.plugins.module_utils import _dns, _host
from ansible_collections.antispam.gateway.plugins.modules import resolver_check

KEY = "k3y-0f-a-cust0mer"
LISTED, NOT_LISTED = "2.0.0.127", "1.0.0.127"
KINDS = {_dns.A: "A", _dns.AAAA: "AAAA", _dns.MX: "MX"}
NXDOMAIN = ("NXDOMAIN", [], 0)
SERVFAIL = ("SERVFAIL", [], 0)
NOTHING = ("NOERROR", [], 0)
ROOT = ("NOERROR", [], 1)


def found(*addresses):
    return "NOERROR", list(addresses), len(addresses)


class Dns:
    """Answers by what is asked, 'SERVER', 'NAME KIND' or both; None is no answer. What is not known does not exist.

    The root has answers of its own, by server.
    """

    def __init__(self):
        self.asked, self.asked_for_root = [], []
        self.answers, self.roots = {}, {}

    def ask(self, server, name, kind):
        if (name, kind) == (".", _dns.SOA):
            self.asked_for_root.append(server)
            return self.given(self.roots.get(server, ROOT))
        question = f"{name} {KINDS[kind]}"
        self.asked.append(f"{server} {question}")
        answer = self.answers.get(f"{server} {question}", self.answers.get(server, self.answers.get(question, NXDOMAIN)))
        return self.given(answer)

    def given(self, answer):
        if answer is None:
            raise _dns.Unanswered("no answer within 5 s")
        return _dns.Answer(*answer)

    def has(self, name, *addresses):
        self.answers[f"{name} A"] = found(*addresses)

    def has_list(self, zone, listed=("127.0.0.2",), not_listed=()):
        for name, addresses in ((LISTED, listed), (NOT_LISTED, not_listed)):
            if addresses:
                self.has(f"{name}.{zone}", *addresses)


@pytest.fixture
def dns(monkeypatch):
    example = Dns()
    monkeypatch.setattr(_dns, "ask", example.ask)
    monkeypatch.setattr(_host, "resolv_conf", lambda: ["192.0.2.1", "192.0.2.2"])
    return example


@pytest.fixture
def run(dns, call_main):
    def run_module(check_mode=False, **arguments):
        result = call_main(resolver_check, **{"nameservers": ["192.0.2.53"], **arguments}, _ansible_check_mode=check_mode)
        run_module.printed, run_module.warnings = call_main.printed, call_main.warnings
        assert not result.get("changed", False)
        return result

    return run_module


# ---- whom to ask --------------------------------------------------------------------------------------------------


def test_by_default_the_resolvers_of_the_host_are_asked(run, dns):
    dns.has("mail.example.com", "192.0.2.25")
    assert "failed" not in run(nameservers=[], names=["mail.example.com"])
    assert sorted(dns.asked) == ["192.0.2.1 mail.example.com A", "192.0.2.2 mail.example.com A"]


def test_resolvers_that_are_named_take_their_place(run, dns):
    dns.has("mail.example.com", "192.0.2.25")
    assert "failed" not in run(nameservers=["192.0.2.53", " 2001:DB8:0::53"], names=["mail.example.com"])
    assert sorted(dns.asked) == ["192.0.2.53 mail.example.com A", "2001:db8::53 mail.example.com A"]


@pytest.mark.parametrize("address", ["ns.example.com", "192.0.2.53/32", "192.0.2.256", ""])
def test_a_resolver_that_is_no_address_is_an_error_before_anything_is_asked(run, dns, address):
    result = run(nameservers=["192.0.2.53", address], names=["mail.example.com"])
    assert result["failed"]
    assert result["msg"].startswith(f"'{address}' is not an IP address")
    assert result["msg"].endswith("; nothing was asked")
    assert dns.asked == dns.asked_for_root == []


# ---- the root -----------------------------------------------------------------------------------------------------


def test_each_resolver_that_is_named_is_asked_for_the_root(run, dns):
    assert "failed" not in run(nameservers=["192.0.2.53", " 2001:DB8:0::53"])
    assert sorted(dns.asked_for_root) == ["192.0.2.53", "2001:db8::53"]
    assert dns.asked == []


def test_the_resolvers_of_the_host_need_not_know_the_root(run, dns):
    """They are used already."""
    dns.roots = {"192.0.2.1": ("REFUSED", [], 0), "192.0.2.2": None}
    dns.has("mail.example.com", "192.0.2.25")
    assert "failed" not in run(nameservers=[])
    assert "failed" not in run(nameservers=[], names=["mail.example.com"])


@pytest.mark.parametrize("answer", [NOTHING, NXDOMAIN])
def test_a_resolver_may_say_that_the_root_has_nothing(run, dns, answer):
    """So it does in a network that is cut off."""
    dns.roots["192.0.2.53"] = answer
    assert "failed" not in run()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SERVFAIL, "the resolver 192.0.2.54 does not reach the DNS (SERVFAIL)"),
        (("REFUSED", [], 0), "the resolver 192.0.2.54 does not reach the DNS (REFUSED)"),
        (None, "the resolver 192.0.2.54 does not answer: no answer within 5 s"),
    ],
)
def test_a_resolver_that_is_cut_off_is_an_error_with_the_way_out(run, dns, answer, words):
    """Its cache, or its own zones, may know every name all the same."""
    dns.has("mail.example.com", "192.0.2.25")
    dns.roots["192.0.2.54"] = answer
    result = run(nameservers=["192.0.2.53", "192.0.2.54", "192.0.2.55"], names=["mail.example.com"])
    assert result["failed"]
    assert result["msg"].startswith(f"{words}. ")
    for way_out in ("port 53", "gateway_nameservers", "resolver_forward_zones"):
        assert way_out in result["msg"]


def test_every_resolver_that_is_cut_off_is_named_and_the_names_are_not(run, dns):
    """Why they are not found is said by that."""
    dns.roots = {"192.0.2.53": SERVFAIL, "192.0.2.54": None}
    message = run(nameservers=["192.0.2.53", "192.0.2.54"], names=["mail.example.com"])["msg"]
    assert "the resolver 192.0.2.53 does not reach the DNS (SERVFAIL); the resolver 192.0.2.54 does not answer" in message
    assert "mail.example.com" not in message


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "asked"), [("A", ["A"]), ("AAAA", ["A", "AAAA"]), ("MX", ["A", "AAAA", "MX"])])
@pytest.mark.parametrize("before", [NXDOMAIN, NOTHING, SERVFAIL])
@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])
def test_a_name_is_found_by_any_of_its_records(run, dns, kind, asked, before, check_mode):
    dns.answers = {"192.0.2.53": before, f"192.0.2.53 example.com {kind}": ("NOERROR", [], 1)}
    result = run(check_mode=check_mode, names=["example.com"])
    assert (result["changed"], result["left_out"]) == (False, [])
    assert dns.asked == [f"192.0.2.53 example.com {each}" for each in asked]
    assert run.warnings == []


@pytest.mark.parametrize(
    ("answers", "rcodes"),
    [
        ([NXDOMAIN, NXDOMAIN, NXDOMAIN], "NXDOMAIN"),
        ([NOTHING, NOTHING, NOTHING], "NOERROR"),
        ([NOTHING, SERVFAIL, NOTHING], "NOERROR, SERVFAIL"),
        ([("REFUSED", [], 0), SERVFAIL, NXDOMAIN], "REFUSED, SERVFAIL, NXDOMAIN"),
    ],
)
def test_a_name_that_is_not_found_is_an_error_with_the_way_out(run, dns, answers, rcodes):
    dns.answers = {f"mail.inside.example.com {kind}": answer for kind, answer in zip(("A", "AAAA", "MX"), answers)}
    result = run(names=["mail.inside.example.com"])
    assert result["failed"]
    assert result["msg"].startswith(f"the resolver 192.0.2.53 finds no address of mail.inside.example.com ({rcodes})")
    for words in ("resolver_forward_zones", "gateway_nameservers"):
        assert words in result["msg"]


def test_an_alias_of_nothing_is_no_address(run, dns):
    """What counts are records of the kind that was asked for."""
    dns.answers["mail.example.com A"] = ("NOERROR", ["192.0.2.25"], 0)
    assert "finds no address of mail.example.com" in run(names=["mail.example.com"])["msg"]


def test_a_resolver_that_does_not_answer_is_an_error_and_is_not_asked_on(run, dns):
    dns.answers["192.0.2.53"] = None
    result = run(names=["mail.example.com"])
    assert result["failed"]
    assert "the resolver 192.0.2.53 does not answer the question for mail.example.com: no answer within 5 s" in result["msg"]
    assert dns.asked == ["192.0.2.53 mail.example.com A"]


def test_every_resolver_must_find_every_name(run, dns):
    """The host may ask any of them."""
    dns.has("a.example.com", "192.0.2.25")
    dns.has("b.example.com", "192.0.2.26")
    dns.answers["192.0.2.2"] = NXDOMAIN
    dns.answers["192.0.2.3"] = None
    dns.answers["192.0.2.3 a.example.com A"] = found("192.0.2.25")
    message = run(nameservers=["192.0.2.1", "192.0.2.2", "192.0.2.3"], names=["a.example.com", "b.example.com"])["msg"]
    assert message.count("the resolver ") == 3
    assert "192.0.2.1" not in message
    for words in (
        "the resolver 192.0.2.2 finds no address of a.example.com (NXDOMAIN); ",
        "the resolver 192.0.2.2 finds no address of b.example.com (NXDOMAIN); ",
        "the resolver 192.0.2.3 does not answer the question for b.example.com",
    ):
        assert words in message


def test_names_are_not_found_without_a_resolver(run, monkeypatch):
    monkeypatch.setattr(_host, "resolv_conf", list)
    assert run(nameservers=[], names=["mail.example.com"]).get("failed")


# ---- lists --------------------------------------------------------------------------------------------------------


@pytest.fixture
def left_out(run):
    """The one list is left out; return the warning."""

    def run_module(**entry):
        result = run(lists=[{"domain": "bl.example.org", **entry}])
        assert "failed" not in result
        assert result["left_out"] == ["bl.example.org"]
        assert len(run.warnings) == 1
        assert run.warnings[0].startswith("bl.example.org is left out: ")
        return run.warnings[0]

    return run_module


@pytest.fixture
def used(run):
    def run_module(**entry):
        result = run(lists=[{"domain": "bl.example.org", **entry}])
        assert (result["changed"], result["left_out"]) == (False, [])
        assert run.warnings == []

    return run_module


def test_a_list_is_asked_for_its_test_points(used, dns):
    dns.has_list("bl.example.org")
    used()
    assert dns.asked == ["192.0.2.53 2.0.0.127.bl.example.org A", "192.0.2.53 1.0.0.127.bl.example.org A"]


def test_a_list_with_a_key_is_asked_with_it(used, dns):
    dns.has_list(f"{KEY}.bl.example.org")
    used(key=KEY)
    assert dns.asked == [f"192.0.2.53 2.0.0.127.{KEY}.bl.example.org A", f"192.0.2.53 1.0.0.127.{KEY}.bl.example.org A"]


def test_an_empty_key_is_none(used, dns):
    dns.has_list("bl.example.org")
    used(key="")


@pytest.mark.parametrize("listed", [("127.0.0.2",), ("127.0.0.10", "127.0.0.4"), ("127.255.255.254", "127.0.0.2"), ("127.0.1.2",), ("127.0.0.254",)])
def test_a_list_that_lists_its_test_point_is_used(used, dns, listed):
    dns.has_list("bl.example.org", listed=listed)
    used()


def test_a_list_of_friends_is_used_though_its_test_point_is_worth_nothing(used, dns):
    """list.dnswl.org answers 127.0.10.0, a score of none, which its filter does not count."""
    dns.has_list("bl.example.org", listed=["127.0.10.0"])
    used(answers="127.0.[2..15].[1..3]", weight=-2)


@pytest.mark.parametrize("listed", ["127.255.255.254", "127.255.255.252", "127.255.255.255", "127.255.255.0", "127.0.0.1", "127.0.0.255"])
def test_a_list_that_does_not_serve_the_resolver_is_left_out(left_out, dns, listed):
    dns.has_list("bl.example.org", listed=[listed])
    assert f"its test point 127.0.0.2 is answered with {listed}, so it has shut down or does not serve this resolver" in left_out()


@pytest.mark.parametrize(("answer", "word"), [(NXDOMAIN, "NXDOMAIN"), (NOTHING, "NOERROR"), (("REFUSED", [], 0), "REFUSED")])
def test_a_list_that_has_shut_down_is_left_out(left_out, dns, answer, word):
    dns.answers["2.0.0.127.bl.example.org A"] = answer
    assert f"its test point 127.0.0.2 is answered with {word}, so it has shut down" in left_out()


def test_a_list_whose_domain_was_sold_is_left_out(left_out, dns):
    """It has an address for every name, which no filter of listings counts."""
    dns.has_list("bl.example.org", listed=["198.51.100.80", "198.51.100.81"], not_listed=["198.51.100.80", "198.51.100.81"])
    assert "is answered with 198.51.100.80, 198.51.100.81, so" in left_out()


@pytest.mark.parametrize("not_listed", [("127.0.0.2",), ("127.0.0.1", "127.0.0.3", "127.0.0.4")])
def test_a_list_that_lists_the_world_is_left_out(left_out, dns, not_listed):
    dns.has_list("bl.example.org", not_listed=not_listed)
    counted = ", ".join(address for address in not_listed if address != "127.0.0.1")
    assert left_out().endswith(f"it lists 127.0.0.1, and so the world, with {counted}")


def test_an_answer_for_the_world_that_does_not_count_harms_nobody(used, dns):
    dns.has_list("bl.example.org", listed=["127.0.0.2"], not_listed=["127.0.0.1"])
    used()
    dns.has_list("bl.example.org", listed=["127.0.0.2"], not_listed=["127.0.0.9"])
    used(answers="127.0.0.[2..4]")


@pytest.mark.parametrize("question", ["192.0.2.53", "2.0.0.127.bl.example.org A", "1.0.0.127.bl.example.org A"])
def test_a_list_that_does_not_answer_stays_in_use_with_a_warning(run, dns, question):
    """It says nothing about the list, and postscreen waits for none."""
    dns.has_list("bl.example.org")
    dns.answers[question] = None
    assert run(lists=[{"domain": "bl.example.org"}])["left_out"] == []
    assert run.warnings == ["bl.example.org gave no answer (no answer within 5 s); it stays in use, and counts again as soon as it answers"]


def test_a_list_whose_servers_fail_stays_in_use_with_a_warning(run, dns):
    dns.answers["2.0.0.127.bl.example.org A"] = SERVFAIL
    assert run(lists=[{"domain": "bl.example.org"}])["left_out"] == []
    assert run.warnings == ["bl.example.org gave no answer (SERVFAIL); it stays in use, and counts again as soon as it answers"]


def test_a_list_stays_in_use_where_there_is_no_resolver_to_ask(run, monkeypatch):
    monkeypatch.setattr(_host, "resolv_conf", list)
    assert run(nameservers=[], lists=[{"domain": "bl.example.org"}])["left_out"] == []
    assert run.warnings == ["bl.example.org gave no answer (there is no resolver); it stays in use, and counts again as soon as it answers"]


def test_a_list_without_an_answer_does_not_hide_what_is_wrong_with_others(run, dns):
    dns.answers["2.0.0.127.a.example.org A"] = None
    result = run(lists=[{"domain": "a.example.org"}, {"domain": "b.example.org"}])
    assert result["left_out"] == ["b.example.org"]
    assert [warning.partition(" ")[0] for warning in run.warnings] == ["a.example.org", "b.example.org"]


def test_the_first_resolver_that_answers_is_asked_for_lists(run, dns):
    dns.answers["192.0.2.1"] = None
    dns.has_list("bl.example.org")
    dns.answers["192.0.2.3"] = NXDOMAIN
    assert run(nameservers=["192.0.2.1", "192.0.2.2", "192.0.2.3"], lists=[{"domain": "bl.example.org"}])["left_out"] == []
    assert [question.split()[0] for question in dns.asked] == ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]


def test_the_resolvers_of_the_host_are_asked_for_lists(run, dns):
    dns.has_list("bl.example.org")
    assert run(nameservers=[], lists=[{"domain": "bl.example.org"}])["left_out"] == []
    assert {question.split()[0] for question in dns.asked} == {"192.0.2.1"}


def test_a_list_with_two_filters_is_asked_once_and_both_count(run, dns):
    dns.has_list("bl.example.org", not_listed=["127.0.0.7"])
    narrow, wide = ({"domain": "bl.example.org", "answers": answers} for answers in ("127.0.0.2", "127.0.0.[3..11]"))
    assert run(lists=[narrow, wide])["left_out"] == run(lists=[wide, narrow])["left_out"] == ["bl.example.org"]
    assert len(run.warnings) == 1
    assert len(dns.asked) == 2 * 2
    assert run(lists=[narrow])["left_out"] == []


def test_each_list_is_judged_for_itself(run, dns):
    dns.has_list("good.example.org")
    dns.has_list("blocked.example.org", listed=["127.255.255.254"])
    dns.has_list("world.example.org", not_listed=["127.0.0.2"])
    lists = [{"domain": f"{name}.example.org"} for name in ("blocked", "good", "gone", "world")]
    result = run(lists=lists)
    assert "failed" not in result
    assert result["left_out"] == ["blocked.example.org", "gone.example.org", "world.example.org"]
    assert [warning.partition(" is left out: ")[0] for warning in run.warnings] == result["left_out"]


def test_a_name_that_is_not_found_goes_before_the_lists(run, dns):
    result = run(names=["mail.example.com"], lists=[{"domain": "bl.example.org"}])
    assert result["failed"]
    assert run.warnings == []


@pytest.mark.parametrize("answers", ["127.0.0", "127.0.0.[4..2]", "all"])
def test_a_wrong_filter_is_an_error_before_anything_is_asked(run, dns, answers):
    result = run(names=["mail.example.com"], lists=[{"domain": "bl.example.org"}, {"domain": "bl.example.net", "answers": answers, "key": KEY}])
    assert result["failed"]
    assert result["msg"].startswith(f"'{answers}' is not a filter of answers")
    assert result["msg"].endswith("; nothing was asked")
    assert dns.asked == dns.asked_for_root == []


def test_the_lists_of_a_site_are_taken_as_they_are(used, dns):
    dns.has_list("bl.example.org")
    used(answers="127.0.0.[2..11]", weight=3, refuses_alone=True, key=None)


@pytest.mark.parametrize(("domain", "zone"), [("bl.münchen.example", "bl.xn--mnchen-3ya.example"), (" bl.example.org", "bl.example.org")])
def test_a_list_is_asked_by_its_name_in_the_dns(run, dns, domain, zone):
    dns.has_list(zone)
    assert run(lists=[{"domain": domain}])["left_out"] == []


# ---- the key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "not_listed"),
    [(["127.0.0.2"], []), ([], []), (["127.255.255.254"], []), (["127.0.0.2"], ["127.0.0.2"]), (None, [])],
    ids=["used", "shut down", "blocked", "the world", "unanswered"],
)
def test_no_output_holds_a_key(run, dns, listed, not_listed):
    if listed is None:
        dns.answers["192.0.2.53"] = None
    else:
        dns.has_list(f"{KEY}.bl.example.org", listed, not_listed)
    run(lists=[{"domain": "bl.example.org", "key": KEY}])
    assert any(KEY in question for question in dns.asked)
    assert "invocation" in run.printed
    assert KEY not in run.printed + "".join(run.warnings)


@pytest.mark.parametrize("arguments", [{"names": ["mail.example.com"]}, {"nameservers": ["nobody"]}])
def test_no_error_holds_a_key(run, dns, arguments):
    dns.has_list(f"{KEY}.bl.example.org")
    assert run(lists=[{"domain": "bl.example.org", "key": KEY}], **arguments)["failed"]
    assert KEY not in run.printed


# ---- documentation ------------------------------------------------------------------------------------------------


def test_the_documented_result_is_the_result(run):
    assert set(yaml.safe_load(resolver_check.RETURN)) == set(run()) - {"changed", "invocation"}
