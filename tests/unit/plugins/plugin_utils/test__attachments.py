# SPDX-License-Identifier: GPL-3.0-or-later
"""Endings of names that are refused."""

from __future__ import annotations

import re

import pytest
from _checkout import CHECKOUT
from ansible_collections.antispam.gateway.plugins.plugin_utils import _attachments

DEFAULT = {"amavis_banned_extensions": _attachments.default(), "amavis_banned_extensions_extra": [], "amavis_allowed_extensions": []}


def endings(**given):
    return sorted(ending for rule in _attachments.rules(DEFAULT | given) for ending in rule["endings"])


def reason(ending, **given):
    (found,) = [rule["reason"] for rule in _attachments.rules(DEFAULT | given) if ending in rule["endings"]]
    return found


def test_the_default_is_every_group_and_no_ending_is_in_two():
    assert endings() == _attachments.default()
    assert len(set(_attachments.default())) == len(_attachments.default())


def test_what_was_refused_before_still_is():
    before = "bat chm cmd com cpl dll exe hta img iso jar js jse lnk msi pif ps1 reg scr vb vbe vbs vhd vhdx wsf wsh".split()
    assert set(before) <= set(_attachments.default())


def test_endings_are_added_and_allowed_however_they_are_written():
    found = endings(amavis_banned_extensions_extra=[".DMG"], amavis_allowed_extensions=["PY", ".cer"])
    assert set(found) ^ set(_attachments.default()) == {"dmg", "py", "cer"}
    assert reason("dmg", amavis_banned_extensions_extra=["dmg"]) == _attachments.OTHER


def test_a_list_of_the_site_is_used_in_place_of_the_default():
    assert endings(amavis_banned_extensions=["exe", "zip"]) == ["exe", "zip"]
    assert endings(amavis_banned_extensions=[]) == []


@pytest.mark.parametrize("variable", DEFAULT)
@pytest.mark.parametrize("text", ["", "a b", "*.exe", "ex/e", "(exe)"])
def test_what_is_no_ending_is_named(variable, text):
    (problem,) = _attachments.check(DEFAULT | {variable: ["exe", text]})
    assert problem.startswith(f"{variable}[1]: {text!r} is not the ending of a file name")


def test_a_reason_can_stand_in_the_comment_of_a_regular_expression():
    for group in _attachments.GROUPS.values():
        assert re.fullmatch(r"[a-z][a-zA-Z ,-]{5,75}", group.reason)


def test_the_documentation_shows_the_groups():
    text = (CHECKOUT / "docs" / "attachments.md").read_text(encoding="utf-8").partition("<!-- endings:")[2]
    rows = {name: (why, words) for name, why, words in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text.partition("A file name")[0], re.MULTILINE)}
    assert {name: rows.get(name) for name in _attachments.GROUPS} == {name: (group.reason, group.endings) for name, group in _attachments.GROUPS.items()}
    fragment = CHECKOUT / "changelogs" / "fragments" / "attachments.yml"
    if fragment.exists():
        assert f"It is {len(_attachments.default())} endings" in fragment.read_text(encoding="utf-8")
