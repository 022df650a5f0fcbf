# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of files that somebody else wrote, which one command puts back."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _backup

HEADER = "# Managed by Ansible (antispam.gateway).\n"


@pytest.fixture
def write(tmp_path):
    def write_file(name, text, mode=0o644):
        path = tmp_path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return write_file


def copy_of(folder, path):
    return os.path.join(folder, str(path).lstrip("/"))


def test_a_copy_has_the_content_mode_owner_and_time(write):
    path = write("postfix/main.cf", "theirs", 0o640)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    folder = _backup.keep([path])
    status = os.stat(copy_of(folder, path))
    assert open(copy_of(folder, path)).read() == "theirs"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_mtime) == (0o640, path.stat().st_uid, 1_000_000_000)
    assert _backup.DIRECTORY.stat().st_mode & 0o777 == 0o700


def test_one_command_puts_everything_back(write, tmp_path):
    """The root of the host is another directory here. cp gives it the mode of the folder."""
    paths = [write("postfix/main.cf", "theirs", 0o640), write("amavis/conf.d/50-user", "theirs as well")]
    paths[0].parent.chmod(0o751)
    folder = _backup.keep(paths)
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    subprocess.run(["cp", "--archive", f"{folder}/.", root], check=True)
    back = [root / str(path).lstrip("/") for path in paths]
    assert [path.read_text() for path in back] == ["theirs", "theirs as well"]
    assert [path.stat().st_mode & 0o777 for path in (back[0], back[0].parent)] == [0o640, 0o751]
    assert root.stat().st_mode == os.stat("/").st_mode


def test_what_is_ours_or_a_packages_is_not_kept(write, debian):
    ours, shipped = write("ours", HEADER + "x"), write("shipped", "as it came")
    (debian / "var/lib/dpkg").mkdir(parents=True)
    (debian / "var/lib/dpkg/status").write_text(f"Conffiles:\n {shipped} {hashlib.md5(b'as it came').hexdigest()}\n")
    assert _backup.keep([ours, shipped, ours.with_name("not there")]) == ""
    assert not _backup.DIRECTORY.exists()


def test_a_content_is_kept_once_and_another_one_beside_it(write):
    path = write("main.cf", "first")
    first = _backup.keep([path])
    before = os.stat(copy_of(first, path))
    assert _backup.keep([path]) == first
    assert os.stat(copy_of(first, path)) == before
    path.write_text("second")
    second = _backup.keep([path])
    assert second not in ("", first)
    assert [open(copy_of(folder, path)).read() for folder in (first, second)] == ["first", "second"]


def test_in_check_mode_the_folder_is_only_named(write):
    path = write("main.cf", "theirs")
    assert _backup.keep([path], check_mode=True).startswith(str(_backup.DIRECTORY))
    assert not _backup.DIRECTORY.exists()


def test_too_little_room_is_an_error_and_nothing_is_copied(write, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="the old files take 6 bytes, and .* has only 1,000 bytes free"):
        _backup.keep([write("main.cf", "theirs")])
    assert not _backup.DIRECTORY.exists()


def test_a_copy_that_a_killed_run_left_half_written_is_no_copy(write, monkeypatch):
    path = write("main.cf", "theirs")

    def die(number):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            _backup.keep([path])
    folder = _backup.keep([path])
    assert sorted(os.listdir(os.path.dirname(copy_of(folder, path)))) == ["main.cf"]
