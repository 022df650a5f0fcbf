# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-more` compares what did something with what did nothing, and makes messages that give each check something to do."""

from __future__ import annotations

import email
import importlib.util
import sys
from types import ModuleType

import pytest
from _checkout import CHECKOUT, load


def _load() -> ModuleType:
    directory = CHECKOUT / "tools" / "bench"
    sys.path.insert(0, str(directory))
    try:
        spec = importlib.util.spec_from_file_location("bench_more", directory / "more.py")
        module = importlib.util.module_from_spec(spec)
        # Where a dataclass looks for the types of its fields.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(directory))
    return module


MORE = _load()


def judged(points: float = 1.0, cpu: float = 0.1, seconds: float = 0.2, rules: str = "-") -> object:
    return MORE.Judged(cpu, seconds, points, rules)


def test_each_check_is_a_variable_that_is_off_by_default() -> None:
    options = load("spamassassin", "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert [options[variable]["default"] for variable in MORE.CHECKS] == [False, False, [], False]


def test_a_row_of_wanted_mail_has_ratios_and_what_changed() -> None:
    row = MORE.ham_row("x", [judged(5.9), judged(6.0), judged(0)], [judged(6.9, 0.15), judged(6.0), judged(-0.5)], 1.1)
    assert row == ["`x`", "1.17", "1.10", "1", "2", "2 (-0.5 to +1.0)"]
    assert MORE.ham_row("x", [judged()], [judged()], 1)[-1] == "0"


def test_a_made_message_is_compared_only_where_the_check_has_done_something() -> None:
    message = MORE.Made("a letter", "x", "RULE", b"")
    assert MORE.made_row(message, [judged()], [judged(cpu=0.3, seconds=0.3, rules="A,RULE")]) == ["a letter", "`x`", "3.0", "1.5"]
    with pytest.raises(MORE.verdict.Problem, match="^a letter: RULE does not hit with x"):
        MORE.made_row(message, [judged()], [judged(rules="A,RULES")])
    with pytest.raises(MORE.verdict.Problem, match="^a letter: RULE hits without x"):
        MORE.made_row(message, [judged(rules="RULE")], [judged(rules="RULE")])


def test_messages_are_made_the_same_each_time_and_one_for_each_check() -> None:
    ham = [MORE.verdict.Message("ham", "1", b"Subject: x\n\nsome words of wanted mail\n")]
    letters = MORE.made(ham, 1)
    assert {letter.variable for letter in letters} == set(MORE.CHECKS)
    names = [[part.get_filename() for part in email.message_from_bytes(letter.content).walk() if part.get_filename()] for letter in letters]
    assert names == [["offer.pdf"], ["offer.pdf"], ["report.docm"], [], []]
    texts = [email.message_from_bytes(letter.content).get_payload() for letter in letters]
    assert MORE.LISTED in texts[3] and MORE.SHORT in texts[4]
    assert [text for text in texts if isinstance(text, str)] == [email.message_from_bytes(letter.content).get_payload() for letter in MORE.made(ham, 1)][3:]


def test_the_list_has_as_many_links_as_it_says_and_that_of_the_letter() -> None:
    lines = MORE.links(1).splitlines()
    assert len(set(lines)) == MORE.LINKS and lines[-1] == MORE.LISTED
