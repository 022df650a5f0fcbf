# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal says."""

from __future__ import annotations

import re

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _model, _refusals, _schema

NOTHING = {"gateway_contact": "postmaster@example.com", "gateway_refusal_texts": {}}
TEXT = "no, thank you"


def test_every_kind_has_an_option_and_a_text():
    assert set(_schema.specs()["gateway_refusal_texts"]["options"]) == set(_refusals.TEXTS)
    assert set(_refusals.templates(NOTHING)) == {*_refusals.TEXTS, "unfinished", "not_learned"}


def test_a_default_is_fit_to_stand_in_a_reply():
    assert _refusals.check(NOTHING | {"gateway_refusal_texts": dict(_refusals.TEXTS)}) == []


def test_a_text_of_the_site_stands_between_the_id_and_the_contact():
    found = _refusals.templates(NOTHING | {"gateway_refusal_texts": {"spam": TEXT, "virus": None}})
    assert found["spam"] == f"id=%n - {TEXT}. If this is a mistake, turn to postmaster@example.com"
    assert found["virus"].startswith("id=%n - This message contains a virus: [:limit|80|%V]. ")


def test_prove_knows_how_each_text_begins():
    found = _refusals.words(NOTHING | {"gateway_refusal_texts": {"spam": TEXT, "virus": None, "attachment": "{file}: no"}})
    assert (found["spam"], found["virus"], found["attachment"]) == (TEXT, "This message contains a virus:", "")


def test_nobody_is_named_where_there_is_nobody_and_for_a_scan_that_did_not_finish():
    assert _refusals.templates(NOTHING | {"gateway_contact": ""})["spam"] == "id=%n - This message looks like spam"
    assert "postmaster" not in _refusals.templates(NOTHING)["unfinished"]


@pytest.mark.parametrize("text", ['100% [a|b] #1 \\ "c"', "_SCORE_ and _A_", "[:TESTS]", "%n"])
def test_what_the_site_writes_is_no_macro(text):
    """The tokens of Amavis::Expand that begin one are not left."""
    quoted = _refusals.literal(text)
    assert not re.search(r'(?<!\\)(?:\\\\)*[\[\]|%#"]', quoted)
    assert not re.search(r"(?<!\\)_[A-Z]+_", quoted)
    assert re.sub(r"\\(.)", lambda found: "" if found[1] == "_" else found[1], quoted) == text


@pytest.mark.parametrize("contact", ["", "postmaster@example.com", "https://www.example.com/mail?from=outside", "mailto:help@example.com"])
def test_a_contact_is_an_address_or_a_url(contact):
    assert _refusals.check(NOTHING | {"gateway_contact": contact}) == []


@pytest.mark.parametrize(
    "contact", ["the help desk", "help", "help@example", "grüße@example.com", "https://example.com/\na", "ftp://example.com", "https://" + "a" * 80]
)
def test_another_contact_is_named(contact):
    (problem,) = _refusals.check(NOTHING | {"gateway_contact": contact})
    assert problem.startswith("gateway_contact: ")


@pytest.mark.parametrize("text", ["Grüße", "a\nb", "a" * 131, " ", "a\\b"])
def test_a_text_that_cannot_stand_in_a_reply_is_named(text):
    (problem,) = _refusals.check(NOTHING | {"gateway_refusal_texts": {"spam": text}})
    assert problem.startswith("gateway_refusal_texts.spam: it cannot stand in an SMTP reply")


def test_a_placeholder_that_stands_for_nothing_is_named():
    texts = {"attachment": "{file} and {virus}", "spam": "{score}"}
    assert _refusals.check(NOTHING | {"gateway_refusal_texts": texts}) == [
        "gateway_refusal_texts.attachment: {virus} stands for nothing there; this text may have {file} and {reason}",
        "gateway_refusal_texts.spam: {score} stands for nothing there; this text may have none",
    ]


@pytest.mark.parametrize(("domains", "contact"), [([{"name": "example.com"}, {"name": "example.net"}], "postmaster@example.com"), ([], "")])
def test_without_a_contact_it_is_the_postmaster_of_the_first_domain(domains, contact):
    variables = _schema.read({}, lambda value: value).values | {"gateway_domains": domains}
    _model._compute_defaults(variables, {})
    assert variables["gateway_contact"] == contact


def test_no_reply_is_longer_than_a_line_may_be():
    """With the longest texts, names and contact that there may be."""
    longest = {"gateway_contact": "https://" + "a" * 72, "gateway_refusal_texts": {"attachment": "{file}{reason}".ljust(130, "x")}}
    assert _refusals.check(longest) == []
    text = _refusals.templates(longest)["attachment"]
    # What the hook leaves of a name and of the one around it, and what the macros leave of a reason.
    text = text.replace("%F", "f" * 118).replace(_refusals.PLACEHOLDERS["attachment"]["reason"], "r" * 80).replace("%n", "12345-67-89")
    assert len(text) <= 450
