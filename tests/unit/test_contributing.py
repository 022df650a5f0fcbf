# SPDX-License-Identifier: GPL-3.0-or-later
"""CONTRIBUTING.md, `make help` and the tree say the same."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# What `make help` lists, and what the Makefile has besides, for other targets.
HELPED = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
NAMED = set(re.findall(r"(?:`|^    )make ([a-z0-9-]+)", TEXT, re.MULTILINE))


def test_every_target_with_a_help_text_is_named() -> None:
    assert not HELPED - NAMED


def test_every_target_that_is_named_has_a_help_text() -> None:
    assert not NAMED - HELPED


def tree() -> list[str]:
    """The paths in the first column of the table of the tree."""
    table = TEXT.partition("## The tree\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [path for cell in cells for path in re.findall(r"`([^`]+)`", cell)]


def test_everything_in_the_table_of_the_tree_exists() -> None:
    assert len(tree()) > 8
    for path in tree():
        assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("parent", [".", "plugins", "tests"])
def test_every_directory_of_the_repository_is_in_the_table(parent: str) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", parent], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    depth = 1 if parent == "." else 2
    found = {"/".join(path.split("/")[:depth]) for path in listed if path.count("/") >= depth}
    shown = {"/".join(path.split("/")[:depth]) for path in tree()} | {path.split("/")[0] for path in tree() if depth == 1}
    assert not {path for path in found if not path.startswith(".")} - shown


def test_the_gates_of_make_test_are_in_the_table_of_gates() -> None:
    makefile = (ROOT / "Makefile").read_text()
    gates = " ".join(re.findall(r"^(?:FORM|QUICK) := (.+)$", makefile, re.MULTILINE)).split()
    gates += ["test-molecule-default", "test-molecule-runs", "test-molecule-debian12"]
    table = re.findall(r"^\| `make ([a-z0-9-]+)` \|", TEXT.partition("## Gates\n")[2].partition("\nBesides")[0], re.MULTILINE)
    assert table == gates
