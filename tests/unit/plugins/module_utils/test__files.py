# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import grp
import os
import pathlib
import pwd
import resource
import signal
import stat
import tempfile
import threading

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _leftovers
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=150)

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
IDS = (os.getuid(), os.getgid())


def file(path, after, **more):
    return _files.File(path, after, **{**ME, **more})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def tree(directory):
    """Everything below a directory: bytes, targets of links, permissions."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = (mode(path), path.read_bytes() if path.is_file() else None)
    return found


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
    assert file(path, after, mode="0640").differs


def test_other_permissions_differ(path):
    other = file(path, "before\n", mode="0644")
    assert other.access_differs
    assert other.differs


@pytest.mark.parametrize("database", ["getpwnam", "getgrnam"])
def test_another_owner_differs(path, monkeypatch, database):
    class Other:
        pw_uid, gr_gid = IDS[0] + 1, IDS[1] + 1

    monkeypatch.setattr(pwd if database == "getpwnam" else grp, database, lambda name: Other)
    assert file(path, "before\n", mode="0640").access_differs


@pytest.mark.parametrize("nobody", [{"owner": "no-such-user"}, {"group": "no-such-group"}])
def test_an_owner_that_does_not_exist_differs_and_cannot_be_given_a_file(path, nobody):
    """In check mode the package that brings the user is not installed yet."""
    other = file(path, "before\n", mode="0640", **nobody)
    assert other.differs
    with pytest.raises(ValueError, match=f"{path}: .*{next(iter(nobody.values()))}.* does not exist"):
        other.ids()


def test_a_missing_file_differs_unless_it_is_to_be_missing(tmp_path):
    assert file(tmp_path / "new", "").differs
    assert not file(tmp_path / "new", None).differs
    assert not file(tmp_path / "no" / "such" / "directory", None).differs


def test_windows_line_ends_on_the_disk_are_seen(path):
    path.write_bytes(b"one\r\ntwo\r\n")
    assert file(path, "one\ntwo\n", mode="0640").differs
    assert not file(path, "one\r\ntwo\r\n", mode="0640").differs


@pytest.mark.parametrize("mode", ["u=rw", "rw-r--r--", "0888", "644 ", "", "07777777"])
def test_a_mode_that_is_not_octal_is_refused(path, mode):
    with pytest.raises(ValueError, match=f"{path}: the mode .* is not octal"):
        file(path, "after\n", mode=mode)


def test_a_directory_is_no_file(path):
    with pytest.raises(ValueError, match=f"{path.parent}: .*directory"):
        file(path.parent, "after\n")


def test_below_a_file_there_is_no_file(path):
    with pytest.raises(ValueError, match=f"{path}/x: .*directory"):
        file(path / "x", "after\n")


# ---- switching and going back ------------------------------------------------------------------------------------


def test_a_switch_sets_content_and_permissions_and_leaves_nothing_else(path):
    new = path.parent / "new.d" / "new.cf"
    files = [file(path, "äfter\r\n", mode="0604"), file(new, "new", mode="0600")]
    with _files.prepared(files):
        _files.switch(files)
    assert tree(path.parent) == {
        "main.cf": (0o604, "äfter\r\n".encode()),
        "new.d": (0o755, None),
        "new.d/new.cf": (0o600, b"new"),
    }
    assert not any(_files.File(one.path, one.after, **ME, mode=f"{one.mode:04o}").differs for one in files)


def test_a_switch_and_the_way_back_outlast_a_power_failure(path, monkeypatch):
    """The new content is on the disk before it has the name, and the name before the service is told."""
    done = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(handle):
        fsync(handle)
        name = f"/proc/self/fd/{handle}"
        assert pathlib.Path(name).is_dir() or pathlib.Path(name).read_bytes() in (b"after\n", b"replaced\n")
        done.append(os.readlink(name))

    def note_rename(name, target, **options):
        rename(name, target, **options)
        done.append("renamed")

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "replace", note_rename)
    files = [file(path, "after\n")]
    with _files.prepared(files):
        assert pathlib.Path(done[0]).parent == path.parent
        assert len(done) == 1
        _files.switch(files)
        assert done[1:] == ["renamed", str(path.parent)]
        _files.restore(files)
        assert done[3:] == ["renamed", str(path.parent)]
    done.clear()
    _files.replace(path, b"replaced\n", IDS, 0o600)
    assert done[1:] == ["renamed", str(path.parent)]


def test_a_file_without_content_is_removed(path):
    files = [file(path, None), file(path.parent / "never-there", None)]
    with _files.prepared(files):
        _files.switch(files)
    assert tree(path.parent) == {}


def test_nothing_is_in_place_before_the_switch(path):
    before = path.stat()
    files = [file(path, "after\n"), file(path.parent / "new", "new\n")]
    with _files.prepared(files):
        assert path.read_bytes() == b"before\n"
        assert path.stat().st_ino == before.st_ino
        assert not (path.parent / "new").exists()
    assert tree(path.parent) == {"main.cf": (0o640, b"before\n")}


def test_a_secret_is_never_readable_for_others_beside_its_place(path):
    new = file(path, "secret\n", mode="0600")
    path.chmod(0o600)
    with _files.prepared([new]):
        assert len(tree(path.parent)) > 1
        assert {permissions for permissions, _content in tree(path.parent).values()} == {0o600}


def test_permissions_do_not_depend_on_the_umask(tmp_path):
    files = [file(tmp_path / "new", "text", mode="0664")]
    old = os.umask(0o077)
    try:
        with _files.prepared(files):
            _files.switch(files)
    finally:
        os.umask(old)
    assert mode(tmp_path / "new") == 0o664


def test_a_reader_of_the_old_file_keeps_it(path):
    files = [file(path, "after\n")]
    with open(path, "rb") as reader, _files.prepared(files):
        _files.switch(files)
        assert reader.read() == b"before\n"


contents = st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"one\r\n", b"caf\xe9", b""]))


@quick
@given(st.lists(st.tuples(contents, contents, st.integers(0, 0o777)), max_size=3), st.integers(0, 3))
def test_going_back_brings_every_byte_and_permission_back(cases, switched):
    """Wherever in the switch it went wrong."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        for number, (before, _after, permissions) in enumerate(cases):
            if before is not None:
                (directory / str(number)).write_bytes(before)
                (directory / str(number)).chmod(permissions | 0o400)
        was = tree(directory)
        files = [file(directory / str(number), after) for number, (_before, after, _permissions) in enumerate(cases)]
        with _files.prepared(files):
            _files.switch(files[:switched])
            for number, (before, after, _permissions) in enumerate(cases):
                now = after if number < switched else before
                assert tree(directory).get(str(number), (None, None))[1] == now
            _files.restore(files)
        assert tree(directory) == was


def test_going_back_restores_the_very_file(path):
    before = path.stat()
    files = [file(path, "after\n")]
    with _files.prepared(files):
        _files.switch(files)
        _files.restore(files)
    now = path.stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)


def test_going_back_needs_no_room(path):
    files = [file(path, "after\n")]
    with _files.prepared(files):
        with full_disk():
            _files.switch(files)
            assert path.read_bytes() == b"after\n"
            _files.restore(files)
    assert tree(path.parent) == {"main.cf": (0o640, b"before\n")}


@pytest.mark.parametrize("dangling", [False, True])
def test_going_back_restores_a_symbolic_link(path, dangling):
    link = path.parent / "link"
    link.symlink_to("nowhere" if dangling else path)
    was = tree(path.parent)
    files = [file(link, "after\n")]
    with _files.prepared(files):
        _files.switch(files)
        assert not link.is_symlink()
        assert path.read_bytes() == b"before\n"
        _files.restore(files)
    assert tree(path.parent) == was


def test_a_full_disk_stops_it_before_anything_is_changed(path):
    was = tree(path.parent)
    files = [file(path, None), file(path.parent / "new", "text")]
    with full_disk(), pytest.raises(OSError), _files.prepared(files):
        pytest.fail("nothing is prepared on a full disk")
    assert tree(path.parent) == was


def test_a_directory_that_takes_no_file_stops_it_before_anything_is_changed(path):
    was = tree(path.parent)
    files = [file(path, "after\n"), file("/proc/self/no-file-here", "text")]
    with pytest.raises(OSError), _files.prepared(files):
        pytest.fail("nothing is prepared there")
    assert tree(path.parent) == was


def test_what_an_interrupted_run_left_is_cleaned_up(path):
    child = os.fork()
    if not child:
        with _files.prepared([file(path, "interrupted\n")]):
            os._exit(0)
    os.waitpid(child, 0)
    assert len(tree(path.parent)) == 3
    other = path.parent / ".main.cf.bak"
    other.write_text("an administrator's own")
    (path.parent / ".main.cf.antispam-tree").mkdir()
    (path.parent / ".main.cf.antispam-tree" / "main.cf").write_text("obsolete")
    (path.parent / ".other.cf.antispam-x").write_text("beside another file, of a table")
    files = [file(path, "after\n", mode="0640")]
    _leftovers.remove(path.parent)
    _leftovers.remove(path.parent / "none")
    assert sorted(tree(path.parent)) == [".main.cf.bak", "main.cf"]
    with _files.prepared(files):
        _files.switch(files)
    assert tree(path.parent) == {"main.cf": (0o640, b"after\n"), ".main.cf.bak": (mode(other), b"an administrator's own")}


def test_nobody_is_alone_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "STATE_DIRECTORY", tmp_path / "lib" / "state")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with _files.alone():
            os.write(write, b"x")
            signal.pause()
    try:
        assert os.read(read, 1) == b"x"
        entered = threading.Event()

        def enter():
            with _files.alone():
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.1)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
    # A run that is killed holds nobody up.
    assert entered.wait(10)
    waiting.join()
    assert mode(tmp_path / "lib" / "state") == 0o700


@pytest.mark.parametrize("step", ["fsync", "fchmod", "fchown", "rename"])
def test_a_replacement_that_fails_leaves_the_old_file(path, monkeypatch, step):
    def fail(*arguments, **options):
        raise OSError("no")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError):
        _files.replace(path, b"after\n", IDS, 0o600)
    monkeypatch.undo()
    assert tree(path.parent)["main.cf"] == (0o640, b"before\n")
    if step != "rename":
        assert os.listdir(path.parent) == ["main.cf"]


def test_a_replacement_makes_its_directory(tmp_path):
    _files.replace(tmp_path / "a" / "b", b"text", IDS, 0o600)
    assert tree(tmp_path) == {"a": (0o755, None), "a/b": (0o600, b"text")}


def test_a_copy_for_validation_leaves_the_file_alone(path, tmp_path):
    file(path, "after\n", mode="0604").write_to(tmp_path / "stage" / "etc" / "main.cf")
    assert tree(tmp_path / "stage") == {"etc": (0o755, None), "etc/main.cf": (0o604, b"after\n")}
    assert tree(path.parent) == {"main.cf": (0o640, b"before\n")}


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_the_difference_shows_both_contents(path):
    assert file(path, "after\n", mode="0640").diff() == {"before_header": str(path), "after_header": str(path), "before": "before\n", "after": "after\n"}
    path.chmod(0o644)
    assert file(path, None).diff()["before"] == "before\n"
    assert file(path, None).diff()["after"] == ""
    assert file(path.parent / "new", "text").diff()["before"] == ""


def test_the_difference_shows_permissions(path):
    shown = file(path, "before\n", mode="0600").diff()
    assert "mode 0640" in shown["before"]
    assert f"mode 0600, owner {ME['owner']}:{ME['group']}" in shown["after"]


def test_the_difference_shows_what_is_no_utf8_as_text(path):
    path.write_bytes(b"caf\xe9\n")
    assert file(path, "café\n", mode="0640").diff()["before"].encode() == "caf\ufffd\n".encode()


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
    shown = file(path, None).diff()
    assert shown["before"] != shown["after"] == ""
    assert "before" not in shown["before"]


def test_the_lines_of_a_secret_file_are_masked_wherever_they_are_printed(path):
    path.write_text("Mirror https://user:old-secret@example.com/\nany\n")
    secret = file(path, "Mirror https://user:new-secret@example.com/\n", secret=True)
    printed = secret.mask("line 1: Mirror https://user:new-secret@example.com/\nwas: Mirror https://user:old-secret@example.com/, any")
    assert "secret" not in printed
    assert "line 1: " in printed
    assert "any" in printed
    assert file(path, "Mirror\n").mask("Mirror") == "Mirror"


@pytest.mark.parametrize("word", ["https://user:new-secret@example.com/db", "https://example.com/new-secret", "user:new-secret@example.com"])
def test_the_words_of_a_secret_file_are_masked_too(path, word):
    """A program prints the address it could not fetch, not the line of its configuration."""
    for where in (path, path.parent / "new"):
        secret = file(where, f"PrivateMirror {word}\n", secret=True)
        printed = secret.mask(f"PrivateMirror: cannot fetch {word}/daily.cvd")
        assert "new-secret" not in printed
        assert printed.startswith("PrivateMirror: cannot fetch ")


def test_changed_lines_are_those_that_only_one_side_has(path):
    path.write_text("same\ngone\n")
    assert file(path, "new\nsame\n").lines() == {"gone", "new"}
    assert file(path, None).lines() == {"same", "gone"}
    assert file(path.parent / "new.cf", "new\n").lines() == {"new"}
    assert file(path, "gone\nsame\n").lines() == set()


def test_the_diff_of_a_new_file_that_is_empty_is_not_empty(tmp_path):
    found = _files.File(tmp_path / "masked.service", "").diff()
    assert found["before"] != found["after"]
