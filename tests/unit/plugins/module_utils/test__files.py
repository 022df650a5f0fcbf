# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import grp
import os
import pathlib
import pwd
import resource
import stat
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.antispam.gateway.plugins.module_utils import _files

quick = settings(max_examples=100, database=None, deadline=None)

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def file(path, after, **more):
    return _files.File(path, after, **{**ME, **more})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path):
    """A file as an administrator left it."""
    target = tmp_path / "etc" / "main.cf"
    target.parent.mkdir()
    target.write_bytes(b"before\n")
    target.chmod(0o640)
    return target


@contextlib.contextmanager
def full_disk():
    """No file grows here; renaming works, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- what differs ------------------------------------------------------------------------------------------------


def test_a_file_as_it_should_be_does_not_differ(path):
    assert not file(path, "before\n", mode="0640").differs


@pytest.mark.parametrize("after", ["after\n", "before", "before\r\n", "", None])
def test_other_content_differs(path, after):
    same = file(path, after, mode="0640")
    assert same.content_differs
    assert same.differs


def test_other_permissions_differ(path):
    other = file(path, "before\n", mode="0644")
    assert other.access_differs
    assert other.differs
    assert not other.content_differs


def test_another_owner_differs(path, monkeypatch):
    class Root:
        pw_uid = gr_gid = os.getuid() + 1

    monkeypatch.setattr(pwd, "getpwnam", lambda name: Root)
    assert file(path, "before\n", mode="0640").differs


def test_an_owner_that_does_not_exist_yet_differs(path):
    """In check mode the package that brings the user is not installed."""
    assert file(path, "before\n", mode="0640", owner="no-such-user").differs
    assert file(path, "before\n", mode="0640", group="no-such-group").differs


def test_an_owner_that_does_not_exist_is_an_error_when_the_file_is_written(path):
    with pytest.raises((OSError, KeyError, ValueError)):
        file(path, "after\n", owner="no-such-user").write()
    assert path.read_bytes() == b"before\n"


def test_a_missing_file_differs_unless_it_is_to_be_missing(tmp_path):
    assert file(tmp_path / "new", "").differs
    assert not file(tmp_path / "new", None).differs
    assert not file(tmp_path / "no" / "such" / "directory", None).differs


def test_windows_line_ends_on_the_disk_are_seen(path):
    path.write_bytes(b"one\r\ntwo\r\n")
    assert file(path, "one\ntwo\n", mode="0640").differs
    assert not file(path, "one\r\ntwo\r\n", mode="0640").differs


def test_content_that_is_no_utf8_is_seen_and_shown(path):
    path.write_bytes(b"caf\xe9\n")
    other = file(path, "café\n", mode="0640")
    assert other.differs
    assert other.diff()["before"].startswith("caf")


# ---- writing and restoring ---------------------------------------------------------------------------------------


def test_writing_sets_content_and_permissions_and_leaves_nothing_else(path):
    file(path, "äfter\r\n", mode="0604").write()
    assert path.read_bytes() == "äfter\r\n".encode()
    assert mode(path) == 0o604
    assert os.listdir(path.parent) == ["main.cf"]
    assert not file(path, "äfter\r\n", mode="0604").differs


def test_permissions_do_not_depend_on_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        file(tmp_path / "new", "text", mode="0664").write()
    finally:
        os.umask(old)
    assert mode(tmp_path / "new") == 0o664


def test_a_reader_of_the_old_file_keeps_it(path):
    with open(path, "rb") as reader:
        file(path, "after\n").write()
        assert reader.read() == b"before\n"


def test_missing_directories_are_made(tmp_path):
    file(tmp_path / "a" / "b" / "new", "text").write()
    assert (tmp_path / "a" / "b" / "new").read_text() == "text"


def test_a_file_without_content_is_removed(path):
    file(path, None).write()
    assert not path.exists()
    file(path, None).write()


def test_a_copy_for_validation_leaves_the_file_alone(path, tmp_path):
    file(path, "after\n", mode="0604").write(tmp_path / "stage" / "main.cf")
    assert (tmp_path / "stage" / "main.cf").read_text() == "after\n"
    assert mode(tmp_path / "stage" / "main.cf") == 0o604
    assert path.read_bytes() == b"before\n"


@pytest.mark.parametrize("step", ["rename", "fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, step):
    def fail(*arguments):
        raise OSError("no")

    new = file(path, "after\n")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError):
        new.write()
    monkeypatch.undo()
    assert (path.read_bytes(), mode(path)) == (b"before\n", 0o640)
    assert os.listdir(path.parent) == ["main.cf"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path):
    new = file(path, "after\n")
    with full_disk(), pytest.raises(OSError):
        new.write()
    assert (path.read_bytes(), mode(path)) == (b"before\n", 0o640)
    assert os.listdir(path.parent) == ["main.cf"]


@quick
@given(st.one_of(st.none(), st.binary(max_size=30)), st.one_of(st.none(), st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)), st.integers(0, 0o777))
def test_restoring_brings_bytes_and_permissions_back(before, after, permissions):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "file")
        if before is not None:
            path.write_bytes(before)
            path.chmod(permissions | 0o400)
        changed = file(path, after)
        changed.write()
        assert (path.read_bytes() if path.exists() else None) == (None if after is None else after.encode())
        changed.restore()
        if before is None:
            assert os.listdir(directory) == []
        else:
            assert (path.read_bytes(), mode(path)) == (before, permissions | 0o400)
            assert os.listdir(directory) == ["file"]


def test_restoring_works_on_a_full_disk(path):
    changed = file(path, "after\n")
    changed.write()
    with full_disk():
        changed.restore()
    assert (path.read_bytes(), mode(path)) == (b"before\n", 0o640)


@pytest.mark.parametrize("dangling", [False, True])
def test_restoring_brings_a_symbolic_link_back(path, tmp_path, dangling):
    link = tmp_path / "link"
    link.symlink_to("nowhere" if dangling else path)
    changed = file(link, "after\n")
    changed.write()
    assert link.read_bytes() == b"after\n"
    changed.restore()
    assert link.is_symlink()
    assert os.readlink(link) == ("nowhere" if dangling else str(path))
    assert path.read_bytes() == b"before\n"


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_the_difference_shows_both_contents(path):
    assert file(path, "after\n", mode="0640").diff() == {"before_header": str(path), "after_header": str(path), "before": "before\n", "after": "after\n"}
    assert file(path, None).diff()["after"] == ""
    assert file(path.parent / "new", "text").diff()["before"] == ""


def test_the_difference_shows_permissions(path):
    shown = file(path, "before\n", mode="0600").diff()
    assert "mode 0640" in shown["before"]
    assert f"mode 0600, owner {ME['owner']}:{ME['group']}" in shown["after"]


@pytest.mark.parametrize("after", ["after\n", "before\n"])
def test_the_difference_of_a_secret_file_shows_no_content(path, after):
    shown = file(path, after, mode="0600", secret=True).diff()
    for text in (shown["before"], shown["after"]):
        assert "secret" in text
        assert "mode" in text
        assert not {"before", "after"} & set(text.split())


def test_the_difference_of_a_removed_file_that_others_may_not_read_shows_no_content(path):
    """Nobody says any more that it was secret; its permissions do."""
    path.chmod(0o600)
    assert "before" not in file(path, None).diff()["before"]


def test_changed_lines_are_those_that_only_one_side_has(path):
    path.write_text("same\ngone\n")
    assert file(path, "new\nsame\n").changed_lines() == {"gone", "new"}
    assert file(path, None).changed_lines() == {"same", "gone"}
    assert file(path, "gone\nsame\n").changed_lines() == set()


def test_the_state_directory_is_for_root_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "STATE_DIRECTORY", tmp_path / "lib" / "state")
    assert _files.state_directory() == tmp_path / "lib" / "state"
    assert mode(tmp_path / "lib" / "state") == 0o700
    assert _files.state_directory().is_dir()
