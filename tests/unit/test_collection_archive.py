# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive holds what an administrator runs and reads, and nothing of the workshop."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from _checkout import CHECKOUT

RUN = {"meta", "plugins", "roles", "playbooks"}
READ = {"README.md", "LICENSE", "CHANGELOG.md", "docs"}
WRITTEN_BY_GALAXY = {"MANIFEST.json", "FILES.json"}


def test_the_archive_holds_what_is_run_and_read_and_nothing_else(tmp_path: Path) -> None:
    built = subprocess.run([CHECKOUT / "tools" / "build", tmp_path], check=True, capture_output=True, text=True)
    with tarfile.open(built.stdout.strip()) as archive:
        names = [member.name for member in archive.getmembers()]
    assert {name.split("/")[0] for name in names} == RUN | READ | WRITTEN_BY_GALAXY
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", "~", ".orig", ".rej"))]


def test_the_archive_is_installed_by_the_command_of_the_documentation(tmp_path: Path) -> None:
    built = Path(subprocess.run([CHECKOUT / "tools" / "build", tmp_path], check=True, capture_output=True, text=True).stdout.strip())
    command = f"ansible-galaxy collection install {built.name}"
    assert f"\n{command}\n" in (CHECKOUT / "docs" / "installation.md").read_text()
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections")}
    subprocess.run(
        [CHECKOUT / ".work" / "venv" / "bin" / command.split()[0], *command.split()[1:]], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    installed = tmp_path / "collections" / "ansible_collections" / "antispam" / "gateway"
    assert {path.name for path in (installed / "playbooks").iterdir()} >= {"site.yml", "recipients.yml", "dns.yml", "prove.yml"}
    assert os.access(installed / "docs" / "example" / "update-recipients", os.X_OK)
