# SPDX-License-Identifier: GPL-3.0-or-later
"""meta/execution-environment.yml as ansible-builder reads it; and the list of ansible-core versions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from _checkout import CHECKOUT

BUILDER = [sys.executable, "-m", "ansible_builder"]


def test_ansible_builder_finds_what_the_collection_needs() -> None:
    command = [*BUILDER, "introspect", str(CHECKOUT / ".work" / "collections")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert any("jmespath" in line for line in found["python"])
    assert any("python-ldap" in line for line in found["python"])
    assert any("libldap-dev [platform:dpkg compile]" in line for line in found["system"])


def test_ansible_builder_makes_a_context_of_it(tmp_path: Path) -> None:
    """As far as it goes without a registry of images."""
    definition = tmp_path / "execution-environment.yml"
    definition.write_text(
        json.dumps(
            {
                "version": 3,
                "images": {"base_image": {"name": "registry.example.com/base:latest"}},
                "dependencies": {
                    "ansible_core": {"package_pip": "ansible-core>=2.19"},
                    "ansible_runner": {"package_pip": "ansible-runner"},
                    "galaxy": {"collections": [{"name": str(CHECKOUT), "type": "dir"}]},
                },
            }
        )
    )
    subprocess.run([*BUILDER, "create", "--file", definition, "--context", tmp_path / "context"], capture_output=True, text=True, check=True)
    assert (tmp_path / "context" / "Containerfile").is_file()


def test_the_first_version_of_ansible_core_is_the_one_that_make_test_runs() -> None:
    versions = [line for line in (CHECKOUT / "tools" / "ansible-core.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = re.search(r"^ansible-core==(\d+\.\d+)\.", (CHECKOUT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert pinned and versions[0] == pinned[1]
    lowest = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert lowest == f">={versions[0]}.0"


def test_the_workflow_calls_make_and_reads_the_list() -> None:
    jobs = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert [command for command in commands if not command.startswith("make ") and "tools/ansible-core.txt" not in command] == []
    assert "make test" in commands
