# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/packages installs Debian's packages, for several commands that ask at once too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from _checkout import CHECKOUT

# A host where packages are files, and an apt-get of which two cannot run at once, as apt's.
PROGRAMS = {
    "id": "echo 0",
    "dpkg-query": 'test -e "$HOST/$3" && echo "ii "',
    "apt-get": """
mkdir "$HOST/lock" || { echo "E: Could not get lock"; exit 100; }
sleep 0.2
echo "$@" >>"$HOST/runs"
case " $* " in *" install "*)
    for name; do
        case $name in -* | install | DPkg*) ;; *) [ "$name" != no-such ] && touch "$HOST/$name" ;; esac || failed=1
    done ;;
esac
rmdir "$HOST/lock"
[ -z "${failed:-}" ] || { echo "E: Unable to locate package no-such"; exit 100; }
""",
}


@pytest.fixture(name="ask")
def _ask(tmp_path: Path):
    """Start tools/packages for these names, on a host that has no package yet."""
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOST": str(tmp_path), "PACKAGES_LOCK": f"{tmp_path}/packages.lock"}

    def ask(*names: str) -> subprocess.Popen:
        return subprocess.Popen([CHECKOUT / "tools/packages", *names], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return ask


def test_two_that_ask_at_once_both_get_what_they_want(ask, tmp_path):
    asked = [ask("podman", "gcc"), ask("gcc", "python3-venv")]
    for each in asked:
        said, _errors = each.communicate(timeout=30)
        assert each.returncode == 0, said
    assert {path.name for path in tmp_path.iterdir()} >= {"podman", "gcc", "python3-venv"}


def test_what_is_there_costs_nothing(ask, tmp_path):
    (tmp_path / "gcc").touch()
    asked = ask("gcc")
    assert asked.communicate(timeout=30)[0] == "" and asked.returncode == 0
    assert not (tmp_path / "runs").exists()


def test_what_apt_says_is_shown_where_it_fails(ask):
    asked = ask("no-such")
    said, _errors = asked.communicate(timeout=30)
    assert asked.returncode == 1
    assert "Unable to locate package no-such" in said
