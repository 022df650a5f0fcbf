# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a site, read one by one: roles/*/meta/argument_specs.yml is their only schema.

Private to antispam.gateway; used on the controller. Ansible's own validation of
a role templates all its arguments at once and ends with the first that cannot be
rendered; here each mistake is one sentence, and all of them are found.
"""

from __future__ import annotations

import difflib
import functools
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values

_ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
# So many letters may be wrong in a name that is still meant to be another one.
_WRONG_LETTERS = 2

Spec = dict[str, Any]


class Reading(NamedTuple):
    """What the variables of a host say."""

    # {variable: value of the type that its specification names}
    values: dict[str, Any]
    # A sentence for each mistake.
    problems: list[str]
    # The variables that have their default for want of a value that can be used.
    unusable: frozenset[str]


@functools.cache
def roles() -> tuple[str, ...]:
    """Return the names of the collection's roles, which are the prefixes of their variables."""
    return tuple(sorted(path.name for path in _ROLES.iterdir() if (path / "meta" / "argument_specs.yml").is_file()))


@functools.cache
def specs() -> dict[str, Spec]:
    """Return {variable: its specification} of all roles."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Spec] = {}
    for role in roles():
        text = (_ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
        found |= yaml.load(text, Loader=loader)["argument_specs"]["main"].get("options", {})  # noqa: S506
    return found


def read(given: Mapping[str, Any], template: Callable[[Any], Any], without: Collection[str] = ()) -> Reading:
    """Read every variable of the collection.

    given: variables of a host, as Ansible holds them. template: renders one of
    them and raises AnsibleError. Variables in `without` are not looked at. Where
    a value cannot be used, and where there is none, the result has the default.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    unusable: set[str] = set()
    for name, spec in specs().items():
        if name in without:
            continue
        values[name] = spec.get("default")
        value = None
        if name in given:
            try:
                value = template(given[name])
            except AnsibleError as error:
                problems.append(f"{name}: it cannot be rendered: {_cause(error)}; define what is missing, or write a value")
                unusable.add(name)
                continue
        if value is None:
            if spec.get("required"):
                problems.append(f"{name}: it is required and not set; {_first_sentence(spec)}")
            continue
        wrong = _wrong_shape(name, spec, value)
        if wrong:
            problems.append(wrong)
            unusable.add(name)
            continue
        validated = ArgumentSpecValidator({name: spec}).validate({name: value})
        messages = validated.error_messages if isinstance(value, (list, dict)) else validated.error_messages[:1]
        problems += [remove_values(_named(name, text), validated._no_log_values) for text in messages]
        if validated.error_messages:
            unusable.add(name)
        else:
            values[name] = validated.validated_parameters[name]
    return Reading(values, problems, frozenset(unusable))


def _cause(error: AnsibleError) -> str:
    """Return what Jinja said, without the line of a file that is not the user's."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).splitlines()[0].rstrip(".")


def _first_sentence(spec: Spec) -> str:
    description = spec["description"]
    text = description if isinstance(description, str) else description[0]
    return text.split(". ")[0].rstrip(".")


def _named(name: str, text: str) -> str:
    return text if text.startswith(name) else f"{name}: {text}"


def _wrong_shape(name: str, spec: Spec, value: Any) -> str:
    """Return a sentence where Ansible would make text of a list or a dictionary, '' where nothing is wrong."""
    kind = spec["type"]
    if kind in ("str", "int", "float", "bool") and isinstance(value, (list, dict)):
        return f"{name}: it is a {'list' if isinstance(value, list) else 'dictionary'}; write a value of type {kind}"
    if kind == "list" and isinstance(value, list) and "options" not in spec:
        shapes = (_wrong_shape(f"{name}[{index}]", {"type": spec["elements"]}, element) for index, element in enumerate(value))
        return next(filter(None, shapes), "")
    if kind == "dict" and isinstance(value, list):
        return f"{name}: it is a list; write a dictionary"
    if kind == "list" and isinstance(value, dict):
        return f"{name}: it is a dictionary; write a list"
    if kind == "list" and spec["elements"] == "dict":
        if not isinstance(value, list):
            return f"{name}: it is no list; write a list of dictionaries"
        others = [index for index, element in enumerate(value) if not isinstance(element, dict)]
        if others:
            return f"{name}[{others[0]}]: it is no dictionary; write one of {', '.join(list(spec.get('options', {}))[:3])}"
    if "options" in spec:
        for index, element in enumerate(value if kind == "list" and isinstance(value, list) else [value]):
            where = f"{name}[{index}]" if kind == "list" else name
            for key, option in spec["options"].items():
                if isinstance(element, dict) and element.get(key) is not None:
                    wrong = _wrong_shape(f"{where}.{key}", option, element[key])
                    if wrong:
                        return wrong
    return ""


def unknown(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return (problems, warnings) about variables that begin as ours do and that no role knows.

    What differs from a known name by a letter or two is a mistake in writing, and an error: it would silently count for
    nothing. Any other is a variable of somebody else's, of which a warning says so.
    """
    known = list(specs())
    prefixes = tuple(f"{role}_" for role in roles())
    problems, warnings = [], []
    for name in sorted(names):
        if name in specs() or not name.startswith(prefixes):
            continue
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        meant = min(near, key=lambda other: _distance(name, other), default="")
        if meant and _distance(name, meant) <= min(_WRONG_LETTERS, len(name.partition("_")[2]) // 3):
            problems.append(f"{name}: no role of antispam.gateway knows this variable; did you mean {meant}? If it is another role's, give it another name")
        else:
            nearest = f"; the nearest name is {meant}" if meant else ""
            warnings.append(f"{name}: no role of antispam.gateway knows this variable, so it has no effect on the gateway{nearest}")
    return problems, warnings


def _distance(one: str, other: str) -> int:
    """Return how many letters have to be added, removed, replaced or swapped with their neighbour to make one name of the other."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            row.append(min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (letter != against)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                row[j] = min(row[j], rows[i - 2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]
