# SPDX-License-Identifier: GPL-3.0-or-later
"""argument_specs.yml as the one schema of all variables."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable

from ansible_collections.antispam.gateway.plugins.plugin_utils import _schema

ROLES = pathlib.Path(__file__).resolve().parents[4] / "roles"
REQUIRED = {"gateway_domains": [{"name": "example.com", "next_hop": "[mail.example.com]"}], "gateway_postmaster": "postmaster@example.com"}
SECRET = "hunter2-6f1ed002"


def read(given, template=lambda value: value, **options):
    return _schema.read(REQUIRED | given, template, **options)[:2]


def test_the_specifications_are_those_of_all_roles():
    found = {}
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        found |= yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {})
    assert _schema.specs() == found
    assert set(_schema.roles()) == {path.name for path in ROLES.iterdir()}


def test_without_any_variable_there_are_defaults_and_two_mistakes():
    values, problems, unusable = _schema.read({}, lambda value: value)
    assert not unusable
    assert values == {name: spec.get("default") for name, spec in _schema.specs().items()}
    assert sorted(problem.partition(": it is required and not set; ")[0] for problem in problems) == sorted(REQUIRED)


def test_defaults_are_not_shared_between_hosts():
    values, _problems = read({})
    for name in ("gateway_limits", "gateway_recipients", "postfix_main_cf"):
        kept = _schema.specs()[name]["default"]
        assert values[name] == kept
    before = yaml.safe_dump(_schema.specs())
    read({"gateway_dnsbl_lists": [{"domain": "bl.example.org"}]})
    assert yaml.safe_dump(_schema.specs()) == before


def test_values_have_the_type_of_their_specification():
    given = {
        "gateway_message_size_limit": "1000",
        "gateway_greylisting": "yes",
        "gateway_spam_kill_level": "7",
        "gateway_recipients": "a@example.com,b@example.com",
    }
    values, problems = read(given | {"gateway_limits": {"workers": "4"}})
    assert problems == []
    assert [values[name] for name in given] == [1000, True, 7.0, ["a@example.com", "b@example.com"]]
    assert values["gateway_limits"]["workers"] == 4


def test_elements_have_their_defaults():
    values, problems = read({"gateway_dnsbl_lists": [{"domain": "bl.example.org"}]})
    assert problems == []
    assert values["gateway_dnsbl_lists"][0] | {"key": None} == {
        "domain": "bl.example.org",
        "answers": "127.0.0.[2..254]",
        "weight": 1,
        "refuses_alone": False,
        "key": None,
    }


WRONG = {
    "str": ["a"],
    "int": "many",
    "float": "many",
    "bool": "perhaps",
    "list": {"a": "b"},
    "dict": ["a"],
}


@pytest.mark.parametrize("name", _schema.specs())
def test_a_value_of_the_wrong_type_is_one_mistake_that_begins_with_the_variable(name):
    spec = _schema.specs()[name]
    values, problems = read({name: WRONG[spec["type"]]})
    assert len(problems) == 1, problems
    assert problems[0].startswith(name)
    assert values[name] == spec.get("default")


@pytest.mark.parametrize("name", [name for name, spec in _schema.specs().items() if spec["type"] in ("str", "int", "float", "bool")])
@pytest.mark.parametrize("value", [[], {}, ["a"], {"a": 1}])
def test_no_list_becomes_text(name, value):
    assert len(read({name: value})[1]) == 1


@pytest.mark.parametrize("name", [name for name, spec in _schema.specs().items() if spec.get("choices")])
def test_a_value_that_is_no_choice_is_a_mistake_that_names_them(name):
    (problem,) = read({name: "something else"})[1]
    assert problem.startswith(f"{name}: ")
    assert all(choice in problem for choice in _schema.specs()[name]["choices"])


@pytest.mark.parametrize("name", _schema.specs())
def test_a_variable_that_cannot_be_rendered_is_one_mistake_that_begins_with_it(name):
    marker = object()

    def template(value):
        if value is marker:
            raise AnsibleUndefinedVariable("'x' is undefined")
        return value

    values, problems = read({name: marker}, template)
    assert problems == [f"{name}: it cannot be rendered: 'x' is undefined; define what is missing, or write a value"]
    assert values[name] == _schema.specs()[name].get("default")


def test_the_innermost_cause_is_told_without_its_other_lines():
    def template(value):
        try:
            raise ValueError("unexpected '}'\n  in line 3.")
        except ValueError as error:
            raise AnsibleError("Template error in /role/defaults/main.yml") from error

    problems = _schema.read({"gateway_postmaster": "x"}, template, [name for name in _schema.specs() if name != "gateway_postmaster"])[1]
    assert problems == ["gateway_postmaster: it cannot be rendered: unexpected '}'; define what is missing, or write a value"]


def test_a_variable_that_is_not_asked_for_is_not_looked_at():
    def template(value):
        assert value != "large"
        return value

    values, problems = read({"gateway_recipients": "large"}, template, without=["gateway_recipients"])
    assert (problems, "gateway_recipients" in values) == ([], False)


@pytest.mark.parametrize(
    "given",
    [
        {"gateway_accounts": [{"name": "a@example.com", "password": [SECRET]}]},
        {"gateway_accounts": [{"name": "a@example.com", "password": {SECRET: 1}}]},
        {"gateway_accounts": [{"nme": "a@example.com", "password": SECRET}]},
        {"gateway_accounts": [{"name": "a@example.com", "passwort": "x", "password": SECRET}]},
        {"gateway_smarthost": {"next_hop": ["x"], "password": SECRET}},
        {"gateway_smarthost": {"password": SECRET}},
        {"gateway_smarthost": {"next_hop": "x", "tls": SECRET, "password": SECRET}},
    ],
)
def test_no_sentence_holds_a_secret(given):
    problems = read(given)[1]
    assert problems
    assert SECRET not in "".join(problems)


# ---- unknown names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gateway_recipient", "gateway_recipients"),
        ("gateway_domian", "gateway_domains"),
        ("gateway_domain", "gateway_domains"),
        ("postfix_mian_cf", "postfix_main_cf"),
        ("gateway_spam_tag_levels", "gateway_spam_tag_level"),
        ("gateway_dkim_ed25591", "gateway_dkim_ed25519"),
        ("mta_sts_setings", "mta_sts_settings"),
    ],
)
def test_a_name_with_a_wrong_letter_or_two_is_a_mistake(name, meant):
    problems, warnings = _schema.unknown([name])
    assert warnings == []
    assert len(problems) == 1
    assert problems[0].startswith(f"{name}: ")
    assert f"did you mean {meant}?" in problems[0]


@pytest.mark.parametrize("name", ["gateway_ip", "gateway_port", "postfix_version", "gateway_dns_server", "postgrey_x", "resolver_search"])
def test_other_names_under_our_prefixes_are_warnings(name):
    problems, warnings = _schema.unknown([name])
    assert problems == []
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{name}: ")


def test_known_names_and_those_of_others_are_left_alone():
    assert _schema.unknown([*_schema.specs(), "my_gateway_domain", "gatewayx", "nginx_port", "__gateway_site", "inventory_hostname"]) == ([], [])


def test_names_are_told_in_order_whatever_order_they_come_in():
    names = ["postfix_version", "gateway_ip", "gateway_recipient", "gateway_domain"]
    assert _schema.unknown(names) == _schema.unknown(sorted(names))


@pytest.mark.parametrize(
    ("one", "other", "distance"), [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("abc", "acb", 1), ("abc", "ab", 1), ("", "abc", 3), ("abcd", "badc", 2)]
)
def test_the_distance_of_two_names(one, other, distance):
    assert [_schema._distance(*pair) for pair in ((one, other), (other, one))] == [distance, distance]
