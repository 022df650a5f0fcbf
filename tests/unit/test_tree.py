# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for every file of the repository that no linter knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from _checkout import CHECKOUT
from ansible_collections.antispam.gateway.plugins.module_utils import _samples


def files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True).stdout.decode()
    return [CHECKOUT / name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]


# With names: pytest writes what it calls a test to its cache.
@pytest.mark.parametrize("text", [_samples.EICAR, _samples.GTUBE], ids=["EICAR", "GTUBE"])
def test_no_file_holds_a_test_string_in_one_piece(text: str) -> None:
    """A virus scanner on an administrator's machine would take the checkout away, a spam filter a mail with a patch."""
    assert not [path for path in files() if text.encode() in path.read_bytes()]


def test_the_reference_is_up_to_date() -> None:
    command = [sys.executable, CHECKOUT / "tools" / "reference.py", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
