# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/promises.md and the tests say the same: the markers in the source are compared with the page, not with the tool that writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "promises.md"


def codes(decorators: list[ast.expr]) -> set[str]:
    """The arguments of every holds(...) among them."""
    found = set()
    for decorator in decorators:
        for call in ast.walk(decorator):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "holds":
                found |= {ast.literal_eval(argument) for argument in call.args}
    return found


def marked() -> dict[str, set[str]]:
    """{code: tests} by the markers of functions, of classes and of the parameters of a test."""
    table: dict[str, set[str]] = {}
    for path in sorted([*ROOT.glob("tests/gateway/test_*.py"), *ROOT.glob("tests/playbooks/test_*.py")]):
        tree = ast.parse(path.read_text())
        shared = codes([node.value for node in tree.body if isinstance(node, ast.Assign)])
        assert not shared, f"{path.name}: this test does not know markers of a whole module, nor of parameters that stand outside of a decorator"
        for name, held in held_by(tree.body):
            for code in held:
                table.setdefault(code, set()).add(f"{path.relative_to(ROOT)}::{name}")
    return table


def held_by(body: list[ast.stmt], prefix: str = "", outer: frozenset[str] = frozenset()):
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from held_by(node.body, f"{prefix}{node.name}::", outer | codes(node.decorator_list))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name, outer | codes(node.decorator_list)


def sections() -> dict[str, str]:
    parts = re.split(r"^### (\S+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def test_the_page_has_every_promise_with_exactly_the_tests_that_hold_it() -> None:
    on_page = {code: set(re.findall(r"^- `(\S+)`$", text, re.MULTILINE)) for code, text in sections().items()}
    assert on_page == marked(), "run 'make docs'"


def test_every_promise_is_a_sentence() -> None:
    for code, text in sections().items():
        sentence = text.strip().partition("\n")[0]
        assert re.match(r"[A-Za-z].{20,}\.$", sentence), f"{code}: {sentence}"


def test_the_page_is_what_the_sentences_and_the_tests_make_of_it() -> None:
    from _promises import PROMISES

    assert {code: text.strip().partition("\n")[0] for code, text in sections().items()} == PROMISES
