# SPDX-License-Identifier: GPL-3.0-or-later
"""meta/argument_specs.yml tells an administrator the truth about every role.

The rule for defaults: a literal in defaults/main.yml stands in the specification as it is, and
defaults/main.yml holds nothing else. A default that depends on other variables is computed in
plugins/plugin_utils/_model.py, and the description says what it is derived from. Any other option
that is neither required nor in defaults/main.yml says what holds without it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml
from _checkout import CHECKOUT, ROLES, load

ROLE_NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())

# A name of its own: not the end of a longer name, of an attribute, of a path or of a module's full name,
# and not the beginning of several names (gateway_x_*).
OWN_NAME = re.compile(r"(?<![\w./-])(?:" + "|".join(ROLE_NAMES) + r")_\w+\b(?!\*)")
# What others call so: settings of Dovecot, the Python package of postfix-mta-sts-resolver, a port and a fact of the model.
FOREIGN_NAMES = {"dovecot_config_version", "dovecot_storage_version", "postfix_mta_sts_resolver", "amavis_submission", "postfix_networks", "redis_conf"}
INTERNAL_NAME = re.compile(r"(?<![\w.])__(?:" + "|".join(ROLE_NAMES) + r")_\w+")
# What plugins/action/converge.py reads of each role, by f"__{role}_{what}".
DECLARED = tuple(f"__{role}_{what}" for role in ROLE_NAMES for what in ("services", "packages", "debconf", "secrets"))
INTERNAL_DEFINITION = re.compile(r"^[\s-]*(?:(?:register|loop_var|index_var): *)?(__\w+)\b:?|{% *set (__\w+)", re.MULTILINE)


@cache
def entry_points(role: str) -> dict:
    return load(role, "meta", "argument_specs.yml").get("argument_specs", {})


def options(role: str) -> dict:
    found: dict = {}
    for spec in entry_points(role).values():
        found.update(spec.get("options", {}))
    return found


def every_option(found: dict, path: str = ""):
    for name, option in found.items():
        yield path + name, option
        yield from every_option(option.get("options", {}), path + name + ".")


def is_expression(value) -> bool:
    return "{{" in yaml.safe_dump(value) or "{%" in yaml.safe_dump(value)


def text_of(option: dict) -> str:
    description = option.get("description", "")
    return " ".join(description) if isinstance(description, list) else description


def plugins() -> list[Path]:
    """What reads variables on the controller."""
    return sorted((CHECKOUT / "plugins" / "plugin_utils").glob("*.py")) + sorted((CHECKOUT / "plugins" / "action").glob("*.py"))


@cache
def computed() -> set[str]:
    """The variables whose default the model computes: those that _compute_defaults() assigns."""
    tree = ast.parse((CHECKOUT / "plugins" / "plugin_utils" / "_model.py").read_text())
    (function,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_compute_defaults"]
    targets = [target for node in ast.walk(function) if isinstance(node, ast.Assign) for target in node.targets]
    return {target.slice.value for target in targets if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)}


@cache
def sources() -> dict[str, str]:
    """What the roles, playbooks and plugins do with variables; meta/ and defaults/ only declare them."""
    files = [path for folder in ("tasks", "handlers", "templates", "vars") for path in sorted(ROLES.glob(f"*/{folder}/**/*")) if path.is_file()]
    files += sorted((CHECKOUT / "playbooks").glob("**/*.yml")) + plugins()
    return {str(path.relative_to(CHECKOUT)): path.read_text() for path in files}


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_entry_point_is_specified_and_exists(role: str) -> None:
    assert "main" in entry_points(role), f"roles/{role}/meta/argument_specs.yml does not describe the entry point main"
    for name in entry_points(role):
        assert (ROLES / role / "tasks" / f"{name}.yml").exists(), f"role {role} has no entry point {name}"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_option_has_a_type_and_a_description(role: str) -> None:
    lacking = [
        name
        for name, option in every_option(options(role))
        if not option.get("type") or not text_of(option).strip() or (option["type"] == "list" and not option.get("elements"))
    ]
    assert not lacking, f"options without type, elements or description: {lacking}"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_public_variables_begin_with_the_name_of_their_role(role: str) -> None:
    foreign = [name for name in {**options(role), **load(role, "defaults", "main.yml")} if not name.startswith(f"{role}_")]
    assert not foreign


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_internal_variables_begin_with_two_underscores_and_the_name_of_their_role(role: str) -> None:
    paths = (ROLES / role / "vars").glob("**/*.yml")
    foreign = [name for path in paths for name in yaml.safe_load(path.read_text()) or {} if not name.startswith(f"__{role}_")]
    assert not foreign


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_default_is_specified(role: str) -> None:
    assert not set(load(role, "defaults", "main.yml")) - set(options(role))


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_option_is_required_or_says_what_holds_by_default(role: str) -> None:
    defaults = load(role, "defaults", "main.yml")
    both = [name for name, option in options(role).items() if option.get("required") and name in defaults]
    neither = [
        name
        for name, option in options(role).items()
        if not option.get("required") and name not in defaults and name not in computed() and "without it " not in text_of(option).lower()
    ]
    false = [name for name, option in options(role).items() if "default" in option and name not in defaults]
    assert not both, f"required, and yet in defaults/main.yml: {both}"
    assert not neither, f"not required, not in defaults/main.yml, and the description does not say what holds 'without it': {neither}"
    assert not false, f"a default that no defaults/main.yml sets: {false}"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_literal_defaults_are_the_specified_ones(role: str) -> None:
    different = {
        name: (option.get("default", "(none)"), value)
        for name, value in load(role, "defaults", "main.yml").items()
        for option in [options(role).get(name, {})]
        if not is_expression(value) and option.get("default", "(none)") != value
    }
    assert not different, f"option: (in argument_specs.yml, in defaults/main.yml) {different}"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_defaults_are_literals(role: str) -> None:
    expressions = [name for name, value in load(role, "defaults", "main.yml").items() if is_expression(value)]
    assert not expressions, f"compute them in plugins/plugin_utils/_model.py: {expressions}"


def test_computed_defaults_are_those_that_are_described() -> None:
    assert computed() == {
        "amavis_banned_extensions",
        "gateway_contact",
        "gateway_dane",
        "gateway_dkim_domains",
        "gateway_dkim_selector",
        "gateway_hostname",
    }
    known = {name: option for role in ROLE_NAMES for name, option in options(role).items()}
    for name in computed():
        assert not known[name].get("required"), f"{name} is computed: it is not required"
        assert "default" not in known[name], f"{name} is computed: its default cannot be a literal"
        assert name not in load(name.partition("_")[0], "defaults", "main.yml")
    derived = {name for name, option in known.items() if "Derived from" in text_of(option)}
    assert derived == computed(), "what says 'Derived from' is computed, and what is computed says it"


def used_in(path: str, text: str) -> list[str]:
    """The names in a file; in Python those that are the whole of a literal, or that stand at the beginning of a message."""
    if not path.endswith(".py"):
        return OWN_NAME.findall(text)
    literals = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [match[0] for literal in literals for match in [OWN_NAME.match(literal)] if match]


def test_every_variable_that_is_used_is_specified() -> None:
    known = {name for role in ROLE_NAMES for name in options(role)} | FOREIGN_NAMES
    unknown = sorted({f"{path}: {name}" for path, text in sources().items() for name in used_in(path, text) if name not in known})
    assert not unknown, "\n".join(unknown)


def test_every_variable_that_is_specified_is_used() -> None:
    used = {name for path, text in sources().items() for name in used_in(path, text)}
    unused = sorted(name for role in ROLE_NAMES for name in options(role) if name not in used)
    assert not unused, "\n".join(unused)


def test_every_internal_variable_is_defined_and_used() -> None:
    defined = {a or b for text in sources().values() for a, b in INTERNAL_DEFINITION.findall(text)}
    mentions = Counter(name for text in sources().values() for name in INTERNAL_NAME.findall(text))
    undefined = sorted(f"used, never defined: {name}" for name in mentions if name not in defined)
    unused = sorted(f"defined, never used: {name}" for name, count in mentions.items() if count < 2 and name not in DECLARED)
    assert not undefined + unused, "\n".join(undefined + unused)
