# SPDX-License-Identifier: GPL-3.0-or-later
"""What YAML can hold, for every variable whose values are given by a daemon's own name: that daemon's word, or a sentence."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from ansible_collections.antispam.gateway.plugins.plugin_utils import _parameters, _schema

# Dictionaries that are no daemon's parameters, with what looks at their values.
NO_PARAMETERS = {
    "gateway_aliases": "_site.Site._aliases: lists of addresses",
    "gateway_sender_scores": "_site.Site._scores: numbers",
    "gateway_tls_policies": "_outgoing.Outgoing._policies: levels of security",
    "mta_sts_settings": "becomes YAML again, which has all that YAML has",
}
PROBLEM = object()
LINES = {
    "true": (True, "yes"),
    "false": (False, "no"),
    "a number": (5, "5"),
    "a fraction": (2.5, "2.5"),
    "zero": (0, "0"),
    "text": ("a b", "a b"),
    "empty text": ("", ""),
    "text of a block": ("a b\n", "a b"),
    "a list": (["a", 5, True], ["a", "5", "yes"]),
    "an empty list": ([], []),
    "a list with null": (["a", None], PROBLEM),
    "a list with a list": ([["a"]], PROBLEM),
    "a list with two lines": (["a\nb"], PROBLEM),
    "a dictionary": ({"a": "b"}, PROBLEM),
    "null": (None, None),
    "two lines": ("a\nb = c", PROBLEM),
    "a carriage return": ("a\rb", PROBLEM),
    "a null byte": ("a\0b", PROBLEM),
}
CONTINUED = {
    "a line that is continued": ("a\n  b", "a\n  b"),
    "a line that begins anew": ("a\n  b\nc", PROBLEM),
    "an empty line": ("a\n\n  b", PROBLEM),
}
EXPECTED = {
    "postfix_main_cf": LINES | CONTINUED,
    "resolver_settings": LINES,
    "clamav_clamd_parameters": LINES,
    "clamav_freshclam_parameters": LINES,
    "redis_parameters": LINES,
    "dovecot_settings": LINES | {"a list": (["a", 5, True], "a 5 yes"), "an empty list": ([], "")},
    "dkimpy_milter_settings": LINES | {"a list": (["a", 5, True], "a,5,yes"), "an empty list": ([], "")},
    "spamassassin_scores": {
        "true": (True, PROBLEM),
        "false": (False, PROBLEM),
        "a number": (5, "5"),
        "a fraction": (-2.5, "-2.5"),
        "text": ("2.5", "2.5"),
        "four": ("1 2 3 4", "1 2 3 4"),
        "a list": ([1, 2, 3.5, 4], "1 2 3.5 4"),
        "two": ("1 2", PROBLEM),
        "no number": ("high", PROBLEM),
        "what only Python takes for a number": ("1_0", PROBLEM),
        "no finite number": ("nan", PROBLEM),
        "empty text": ("", PROBLEM),
        "an empty list": ([], PROBLEM),
        "a dictionary": ({"a": 1}, PROBLEM),
        "null": (None, PROBLEM),
        "two lines": ("1\nscore OTHER 2", PROBLEM),
    },
    "postfix_master_cf": {
        "true": (True, PROBLEM),
        "false": (False, PROBLEM),
        "a number": (5, PROBLEM),
        "text": ("smtpd", PROBLEM),
        "a list": (["smtpd"], PROBLEM),
        "null": (None, None),
        "a service": (
            {"private": True, "chroot": False, "unprivileged": "-", "wakeup": 300, "process_limit": "0", "command": "smtpd -v"},
            {"private": "y", "chroot": "n", "unprivileged": "-", "wakeup": "300", "process_limit": "0", "command": "smtpd -v"},
        ),
        "options": ({"options": {"a": True, "b": [1, "c"], "d": None}}, {"options": {"a": "yes", "b": "1,c", "d": None}}),
        "no options": ({"options": None}, {"options": {}}),
        "options in a list": ({"options": ["a=b"]}, PROBLEM),
        "a dictionary in options": ({"options": {"a": {"b": 1}}}, PROBLEM),
        "two lines in options": ({"options": {"a": "b\nc"}}, PROBLEM),
        "a bad name in options": ({"options": {"a b": 1}}, PROBLEM),
        "a field that is none": ({"cammand": "smtpd"}, PROBLEM),
        "a field that is a list": ({"command": ["smtpd"]}, PROBLEM),
        "a field that is null": ({"command": None}, PROBLEM),
        "a command that is true": ({"command": True}, PROBLEM),
        "a limit that is false": ({"process_limit": False}, PROBLEM),
        "two lines": ({"command": "smtpd\nevil unix"}, PROBLEM),
    },
    "amavis_parameters": {
        "true": (True, ("$", "1")),
        "false": (False, ("$", "0")),
        "a number": (5, ("$", "5")),
        "a fraction": (2.5, ("$", "2.5")),
        "text": ("it's a \\", ("$", "'it\\'s a \\\\'")),
        "empty text": ("", ("$", "''")),
        "null": (None, ("$", "undef")),
        "two lines": ("a\nb';\n", ("$", "'a\nb\\';\n'")),
        "a list": (["a", 1, None, False], ("@", "('a', 1, undef, 0, )")),
        "an empty list": ([], ("@", "()")),
        "a dictionary": ({"a": 1, 2: "b"}, ("%", "('a' => 1, '2' => 'b', )")),
        "a list in a list": ([["a"]], PROBLEM),
        "a dictionary in a dictionary": ({"a": {"b": 1}}, PROBLEM),
    },
}
NAMES = {"postfix_master_cf": "10025/inet", "clamav_clamd_parameters": "MaxThreads", "spamassassin_scores": "BAYES_99", "resolver_settings": "cache-max-ttl"}
BAD_NAMES = ["", "a b", "a=b", "a\nb", "a\n", "-a", "#a", 5, None, True, "é"]


def write(variable, given):
    """Return (what becomes of one variable, sentences)."""
    variables = {name: {} for name in [*_parameters.WRITERS, "amavis_parameters"]} | {variable: given}
    problems = _parameters.write_all(variables)
    assert all(variables[name] == {} for name in variables if name != variable)
    return variables[variable], problems


def test_every_dictionary_of_the_roles_is_looked_at():
    """A new variable whose values are a daemon's must not go to its file as Python writes it."""
    free = {name for name, spec in _schema.specs().items() if spec["type"] == "dict" and "options" not in spec}
    known = {*_parameters.WRITERS, "amavis_parameters"}
    assert not known & set(NO_PARAMETERS)
    assert free == known | set(NO_PARAMETERS)
    assert set(EXPECTED) == known


@pytest.mark.parametrize(("variable", "kind"), [(variable, kind) for variable, kinds in EXPECTED.items() for kind in kinds])
def test_a_value_is_in_the_words_of_its_daemon_or_a_mistake_with_its_place(variable, kind):
    value, expected = EXPECTED[variable][kind]
    name = NAMES.get(variable, "some_name")
    written, problems = write(variable, {name: value})
    if expected is PROBLEM:
        assert len(problems) == 1, written
        assert problems[0].startswith(f"{variable}['{name}']: ")
        assert written == {}
        return
    assert problems == []
    if variable == "amavis_parameters":
        assert written == {expected[0] + name: expected[1]}
    else:
        assert written == {name: expected}


@pytest.mark.parametrize("variable", EXPECTED)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_none_is_a_mistake(variable, name):
    _written, problems = write(variable, {name: {} if variable == "postfix_master_cf" else 1})
    assert len(problems) == 1
    assert problems[0].startswith(f"{variable}['{name}']: ")
    assert "not the name of a parameter" in problems[0]


@pytest.mark.parametrize("name", ["smtp", "smtp/tcp", "smtp inet", "smtp/inet x"])
def test_a_service_is_named_with_its_type(name):
    assert write("postfix_master_cf", {name: {}})[1] == [f"postfix_master_cf['{name}']: '{name}' is not the name of a parameter"]


@pytest.mark.parametrize("name", ["Mail::SpamAssassin::x", "a_b", "_x"])
def test_a_name_of_perl_may_have_a_package(name):
    assert write("amavis_parameters", {name: 1}) == ({f"${name}": "1"}, [])


def test_all_mistakes_are_found_and_the_rest_is_written():
    written, problems = write("postfix_main_cf", {"a": True, "b": {}, "c d": 1, "e": "f\ng"})
    assert written == {"a": "yes"}
    assert [problem.partition(": ")[0] for problem in problems] == ["postfix_main_cf['b']", "postfix_main_cf['c d']", "postfix_main_cf['e']"]


def test_the_place_within_a_service_is_named():
    assert write("postfix_master_cf", {"smtp/inet": {"options": {"x": {}}}})[1][0].startswith("postfix_master_cf['smtp/inet']: options['x']: a dictionary")


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("off", False), ("0644", 420), ("1.0", 1.0), ("~", None)],
)
def test_what_yaml_makes_of_a_word_is_written_without_python(text, value):
    """An administrator writes `yes` and means the word."""
    assert yaml.safe_load(text) == value
    written, _problems = write("postfix_main_cf", {"a": yaml.safe_load(text)})
    assert written["a"] not in ("True", "False", "None")


@pytest.mark.skipif(not shutil.which("perl"), reason="there is no perl")
@pytest.mark.parametrize(("value", "dumped"), [("it's \\ $x @y\nz", "it's \\ $x @y\nz"), (["a'b", 2, None], "a'b|2|"), ({"k'": "v\\"}, "k'|v\\"), (False, "0")])
def test_perl_reads_what_was_written(value, dumped):
    written = _parameters.amavis({"x": value}, "amavis_parameters")
    name = next(iter(written))
    text = written[name]
    script = f"no warnings; our {name} = {text}; print join('|', {name if name[0] != '%' else '%x'});"
    assert subprocess.run(["perl", "-e", script], check=True, capture_output=True, text=True).stdout == dumped
