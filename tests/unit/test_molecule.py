# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule skips what it does not find, and calls that a success."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from _checkout import CHECKOUT

SCENARIOS = sorted(CHECKOUT.glob("molecule/*/molecule.yml"))


def verifier(path):
    return yaml.safe_load(path.read_text(encoding="utf-8")).get("verifier", {})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[path.parent.name for path in SCENARIOS])
def test_what_a_scenario_is_to_verify_is_there(scenario):
    given = verifier(CHECKOUT / ".config" / "molecule" / "config.yml") | verifier(scenario)
    directory = given["directory"].replace("${MOLECULE_PROJECT_DIRECTORY}", str(CHECKOUT)).replace("${MOLECULE_SCENARIO_DIRECTORY}", str(scenario.parent))
    more = given.get("additional_files_or_dirs", [])
    assert [*Path(directory).glob("test_*.py"), *more]
    for name in more:
        assert (Path(directory) / name).is_file(), name


def test_every_run_of_the_playbook_is_verified_in_a_scenario():
    named = {Path(more).name for scenario in SCENARIOS for more in verifier(scenario).get("additional_files_or_dirs", [])}
    assert named == {path.name for path in CHECKOUT.glob("tests/playbooks/test_*.py")}
