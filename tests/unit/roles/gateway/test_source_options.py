# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role says of a source is what the modules take, and what their documentation says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.antispam.gateway.plugins.doc_fragments import sources
from ansible_collections.antispam.gateway.plugins.module_utils import _source_options

ROOT = Path(__file__).resolve().parents[4]
SPECIFIED = yaml.safe_load((ROOT / "roles/gateway/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
VARIABLES = ("gateway_recipient_sources", "gateway_sender_score_sources")


def without(options: dict, key: str) -> dict:
    return {name: {known: value for known, value in option.items() if known != key} for name, option in options.items()}


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_role_takes_what_the_modules_take(variable: str) -> None:
    fed = _source_options.FED["sources"]
    assert without(SPECIFIED[variable]["options"], "description") == fed["options"]
    for rule in ("mutually_exclusive", "required_one_of"):
        assert SPECIFIED[variable][rule] == [list(names) for names in fed[rule]]
    assert SPECIFIED[variable]["required_by"] == fed["required_by"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_role_describes_sources_as_the_modules_do(variable: str) -> None:
    text = sources.ModuleDocFragment.DOCUMENTATION.replace("O(sources[]", "O(gateway_recipient_sources[]")
    described = yaml.safe_load(text)["options"]["sources"]["suboptions"]
    assert without(SPECIFIED[variable]["options"], "no_log") == described
