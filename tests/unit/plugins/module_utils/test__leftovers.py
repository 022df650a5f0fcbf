# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tempfile

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _leftovers


def test_files_directories_and_links_that_were_written_aside_go_and_nothing_else(tmp_path):
    (tmp_path / "kept").write_text("x")
    (tmp_path / ".kept").mkdir()
    prefix = _leftovers.aside("table")
    directory = tempfile.mkdtemp(prefix=prefix, dir=tmp_path)
    tempfile.mkstemp(prefix=prefix, dir=directory)
    tempfile.mkstemp(prefix=_leftovers.aside("a file"), dir=tmp_path)
    (tmp_path / f"{prefix}link").symlink_to(tmp_path / ".kept", target_is_directory=True)
    _leftovers.remove(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kept", "kept"]


def test_a_directory_that_is_none_has_no_leftovers(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("missing", "file"):
        _leftovers.remove(tmp_path / name)


def test_what_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    directory = tempfile.mkdtemp(prefix=_leftovers.aside("table"), dir=tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(PermissionError, match=directory):
        _leftovers.remove(tmp_path)
