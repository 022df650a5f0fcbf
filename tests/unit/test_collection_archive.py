# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive holds what an administrator runs and reads, and nothing of the workshop."""

from __future__ import annotations

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
