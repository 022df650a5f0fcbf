# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/gates ends with one table: how long each gate took, and each part of a Molecule scenario."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from _checkout import CHECKOUT

Parts = runpy.run_path(str(CHECKOUT / "tools" / "parts.py"))["Parts"]

# As Molecule writes it, without colours: what began after how many seconds.
SCENARIO = [
    (0, "INFO     default ➜ discovery: scenario test matrix: create, side_effect ../shared/check_bare.yml, converge, verify"),
    (0, "INFO     default ➜ create: Executing"),
    (1, "│   --diff /srv/antispam/molecule/shared/create.yml"),
    (60, "INFO     default ➜ create: Executed: Successful"),
    (60, "INFO     default ➜ side_effect: Executing"),
    (61, "│   --diff /srv/antispam/molecule/shared/check_bare.yml"),
    (100, "INFO     default ➜ side_effect: Executed: Successful"),
    (100, "INFO     default ➜ converge: Executing"),
    (200, "INFO     default ➜ verify: Executing"),
    (201, "│   /srv/antispam/tests/gateway/test_tls.py"),
    (203, "│ ../../tests/playbooks/test_sources.py::test_a_source_that"),
    (203, "│   _is_empty PASSED [ 50%]"),
    (1003, "│ ../../tests/gateway/test_tls.py::test_mail_over_starttls PASSED"),
    (1403, "INFO     default ➜ verify: Executed: Successful"),
]


def test_the_parts_of_a_scenario_and_how_long_they_took() -> None:
    parts = Parts()
    for now, text in SCENARIO:
        parts.line(text, now)
    parts.end(1403)
    assert parts.seconds == {"create": 60, "check_bare": 40, "converge": 100, "verify": 3, "tests/playbooks": 800, "tests/gateway": 400}


def test_a_step_that_runs_twice_is_one_part() -> None:
    parts = Parts()
    for now, step in [(0, "destroy"), (5, "create"), (65, "destroy")]:
        parts.line(f"INFO     default ➜ {step}: Executing", now)
    parts.end(70)
    assert parts.seconds == {"destroy": 10, "create": 60}


@pytest.fixture
def gates(tmp_path: Path):
    """tools/gates in a tree of its own, with a make that says this and ends so."""
    (tmp_path / "tools").mkdir()
    for name in ("gates", "parts.py"):
        shutil.copy(CHECKOUT / "tools" / name, tmp_path / "tools" / name)
    make = tmp_path / "make"

    def run(script: str, *targets: str) -> subprocess.CompletedProcess[str]:
        make.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        make.chmod(0o755)
        environment = {**os.environ, "MAKE": str(make)}
        return subprocess.run([tmp_path / "tools" / "gates", *targets], env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_the_table_names_each_gate_and_each_part_of_it(gates) -> None:
    done = gates(r"printf '\033[36mINFO    \033[0m \033[32mdefault\033[0m ➜ \033[33mconverge\033[0m: \033[36mExecuting\033[0m\n'; sleep 1", "one", "two")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("min:s\n")[2].splitlines()
    rows = [re.match(r"(\s*\S+) +(ok|FAILED|) +\d+:\d\d$", line) for line in table[:-1]]
    assert [row and (row[1], row[2]) for row in rows] == [("one", "ok"), ("  converge", ""), ("two", "ok"), ("  converge", ""), ("total", "")]
    assert table[-1] == "gates: 2 passed, 0 failed"


def test_a_gate_that_fails_is_a_failure_and_says_its_words_again(gates) -> None:
    done = gates('[ "$2" != two ] || { echo broken; exit 3; }', "one", "two", "--", "three")
    assert done.returncode == 1
    assert re.search(r"^==> two failed:\nbroken$", done.stdout, re.MULTILINE)
    assert re.search(r"^two +FAILED +0:\d\d$", done.stdout, re.MULTILINE)
    assert "==> three" not in done.stdout
    assert done.stdout.endswith("gates: 1 passed, 1 failed\n")


def test_of_a_scenario_that_fails_the_tests_that_failed_come_last(gates) -> None:
    said = "=== short test summary info ===\nFAILED test_tls.py::test_one\n=== 1 failed, 9 passed in 12.34s (0:00:12) ===\nMolecule goes on\n"
    done = gates(f"printf '%s' '{said}'; exit 1", "one")
    end = r"^total .*\n\n==> one failed:\n=+ short[^\n]*\nFAILED [^\n]*\n=+ 1 failed[^\n]*\ngates: 0 passed, 1 failed\n\Z"
    assert re.search(end, done.stdout, re.MULTILINE), done.stdout


def test_what_a_gate_says_is_passed_on_byte_by_byte(tmp_path: Path) -> None:
    said = b"dots without an end of line ...\r\n\xff\x00 no text\nand a rest"
    command = ["python3", CHECKOUT / "tools" / "parts.py", tmp_path / "parts"]
    assert subprocess.run(command, input=said, capture_output=True, timeout=60, check=True).stdout == said


def test_what_stands_on_both_sides_of_a_plus_runs_side_by_side(gates) -> None:
    done = gates('shift; touch "$1"; for _ in $(seq 50); do [ -e one ] && [ -e two ] && exit; sleep 0.1; done; exit 1', "one", "+", "two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gates: 2 passed, 0 failed" in done.stdout


def test_after_a_gate_that_failed_its_group_goes_on_and_the_next_group_does_not_start(gates) -> None:
    done = gates('echo "here is $2"; [ "$2" != bad ]', "good", "+", "bad", "other", "--", "later")
    assert done.returncode == 1
    assert "gates: 2 passed, 1 failed" in done.stdout
    assert "good: here is good" in done.stdout, "each line with its gate, where several write at once"
    assert "here is later" not in done.stdout
    assert done.stdout.count("here is bad") == 2, "what a gate that failed had to say is repeated"
