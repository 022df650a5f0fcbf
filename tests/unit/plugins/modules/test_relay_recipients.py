# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's half of the module: lmdb as it is, a postmap that keeps its tables as text, and what the action plugin would send."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pathlib
import pwd
import resource
import shutil
import stat
import subprocess
import tempfile

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _changeset, _files, _lmdb, _tables
from ansible_collections.antispam.gateway.plugins.modules import relay_recipients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}

POSTMAP = r"""#!/bin/sh
echo "$*" >>"$FAKE_POSTFIX/told"
shift 2
if [ "$1" = -s ]; then mode=show; shift; else mode=compile; fi
source=${1#*:}
case ${1%%:*} in
hash|btree) compiled=$source.db ;;
*) echo "postmap: fatal: unsupported dictionary type" >&2; exit 1 ;;
esac
if [ "$mode" = show ]; then
    grep -v BROKEN "$compiled"
    if grep BROKEN "$compiled" >/dev/null; then echo "postmap: fatal: $compiled: page not found" >&2; exit 1; fi
    exit 0
fi
grep -v '^#' "$source" >"$compiled"
exit 0
"""


class Gateway:
    """A directory that is the host, and what the controller knows of its sources."""

    def __init__(self, root):
        self.root, self.etc, self.bin, self.state = root, root / "etc", root / "bin", root / "state"
        for directory in (self.etc, self.bin):
            directory.mkdir()
        (self.bin / "postmap").write_text(POSTMAP)
        (self.bin / "postmap").chmod(0o755)
        self.path = self.etc / "relay_recipients"
        self.kind = "lmdb"

    @property
    def compiled(self):
        return self.of(self.kind)

    def of(self, kind):
        return self.etc / f"relay_recipients{_tables.SUFFIX[kind]}"

    def make(self, entries, kind=None):
        """Make a table by hand."""
        kind, entries = kind or self.kind, dictionary(entries)
        if kind == "lmdb":
            pairs = sorted((key + b"\0", value + b"\0") for key, value in entries.items())
            _lmdb.write(self.etc / "aside", pairs, len(pairs), sum(map(len, entries)))
            (self.etc / "aside").rename(self.of(kind))
        else:
            self.of(kind).write_bytes(b"".join(b"%s\t%s\n" % entry for entry in sorted(entries.items())))

    def stored(self):
        if self.kind == "lmdb":
            return _lmdb.read(self.compiled)
        return _tables.parse_dump(self.compiled.read_bytes())

    def tree(self):
        found = {}
        for path in sorted([*self.etc.rglob("*"), *self.state.rglob("*")]):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[path.name] = (status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, content)
        return found


def dictionary(entries):
    if isinstance(entries, dict):
        return {key.encode(): value.encode() for key, value in entries.items()}
    return {key.encode(): b"OK" for key in entries}


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    host = Gateway(tmp_path)
    monkeypatch.setenv("FAKE_POSTFIX", str(tmp_path))
    monkeypatch.setattr(_files, "STATE_DIRECTORY", host.state)
    run_command = AnsibleModule.run_command
    monkeypatch.setattr(
        AnsibleModule, "run_command", lambda module, words, path_prefix, **options: run_command(module, words, path_prefix=str(host.bin), **options)
    )
    # Warnings are the process's: they would be in the results of other tests.
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, text: None)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path: which(name, path=str(host.bin)))
    popen = subprocess.Popen

    def without_fork(*words, preexec_fn=None, **options):
        return popen(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", without_fork)
    if os.getuid():
        monkeypatch.setattr(os, "fchown", lambda *arguments: None)
    return host


def digest(entries):
    return hashlib.sha256(json.dumps(sorted((k.decode(), v.decode()) for k, v in entries.items())).encode()).hexdigest()


def text(entries):
    return b"\n".join(_changeset.line(*entry) for entry in sorted(entries.items()))


@pytest.fixture
def call(gateway, call_main):
    """Call the module once, with what is sent."""

    def call_module(check_mode=False, **arguments):
        module_arguments = {
            "path": str(gateway.path),
            "type": gateway.kind,
            "domains": ["example.com", "example.net"],
            "sources": [],
            **arguments,
            "_ansible_check_mode": check_mode,
            "_ansible_diff": True,
            "_ansible_tmpdir": str(gateway.root),
        }
        if os.getuid():
            module_arguments = {**ME, **module_arguments}
        return call_main(relay_recipients, **module_arguments)

    return call_module


@pytest.fixture
def run(call):
    """Do what the action plugin does: digest and change, then everything if it is asked for."""

    def run_module(wanted, base=None, check_mode=False, **arguments):
        wanted = dictionary(wanted)
        run_module.calls = 1
        if arguments.get("state", "exact") != "exact":
            return call(check_mode, prepared={"content": _changeset.pack(text(wanted))}, **arguments)
        sent = {"wanted": digest(wanted)}
        change = {}
        if base is not None:
            base = dictionary(base)
            change = {"base": digest(base), "change": _changeset.pack(_changeset.Change.between(base, wanted).text())}
        result = call(check_mode, prepared={**sent, **change}, **arguments)
        if result.get("send_more"):
            run_module.calls = 2
            result = call(check_mode, prepared={**sent, "content": _changeset.pack(text(wanted))}, **arguments)
        return result

    return run_module


def counts(result):
    assert "failed" not in result, result["msg"]
    return tuple(result[name] for name in ("before", "added", "removed", "changed_values", "after"))


MANY = [f"user{number:03}@example.com" for number in range(200)] + ["a@example.net", "b@example.net"]


@pytest.fixture
def table(gateway, run):
    assert counts(run(MANY)) == (0, 202, 0, 0, 202)
    return gateway


@pytest.fixture(params=["lmdb", "hash", "btree"])
def kind(request, gateway):
    gateway.kind = request.param
    return request.param


check_and_real = pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])


# ---- what it takes to get there ----------------------------------------------------------------------------------


def test_a_first_load_needs_the_whole_and_the_next_run_nothing(gateway, kind, run):
    result = run({"a@example.com": "OK", "b@example.com": "x y"})
    assert (counts(result), run.calls, result["changed"]) == ((0, 2, 0, 0, 2), 2, True)
    assert gateway.stored() == {b"a@example.com": b"OK", b"b@example.com": b"x y"}
    assert stat.S_IMODE(gateway.compiled.stat().st_mode) == 0o644
    assert [path.name for path in gateway.etc.iterdir()] == [gateway.compiled.name]
    before = gateway.tree()
    result = run({"a@example.com": "OK", "b@example.com": "x y"})
    assert (counts(result), run.calls, result["changed"]) == ((2, 0, 0, 0, 2), 1, False)
    assert {name: entry for name, entry in gateway.tree().items() if name != "lock"} == {name: entry for name, entry in before.items() if name != "lock"}


@pytest.mark.parametrize("wanted", [[], {"a@example.com": "x"}, {"a@example.com": "OK", "b@example.com": "x"}, ["a@example.com"]])
def test_a_first_load_of_whatever_it_is(gateway, kind, run, wanted):
    counts(run(wanted))
    assert gateway.stored() == dictionary(wanted)
    assert not run(wanted)["changed"]


def test_a_change_is_applied_without_the_whole(table, kind, run):
    run(MANY)
    inode = table.compiled.stat().st_ino
    wanted = {**dict.fromkeys(MANY[2:], "OK"), MANY[5]: "x", "new@example.com": "OK"}
    result = run(wanted, base=MANY)
    assert (counts(result), run.calls) == ((202, 1, 2, 1, 201), 1)
    assert table.stored() == dictionary(wanted)
    assert (table.compiled.stat().st_ino == inode) == (kind == "lmdb")
    assert result["summary"] == ["+1 -2 in example.com", "1 with another value"]
    assert (run(wanted)["changed"], run.calls) == (False, 1)


def test_a_change_from_something_else_is_not_applied(table, kind, run):
    run(MANY)
    assert counts(run([*MANY, "new@example.com"], base=MANY[1:])) == (202, 1, 0, 0, 203)
    assert run.calls == 2
    assert table.stored() == dictionary([*MANY, "new@example.com"])


@check_and_real
@pytest.mark.parametrize("lines", [b"+" + MANY[0].encode(), b"-nobody@example.com", b"=nobody@example.com\tx", b"+new@example.com\n-nobody@example.com"])
def test_a_change_that_does_not_fit_the_table_asks_for_the_whole(table, kind, call, run, lines, check_mode):
    """In check mode as well: it would promise what the run does not do."""
    run(MANY)
    before = table.tree()
    result = call(check_mode, prepared={"wanted": "another", "base": digest(dictionary(MANY)), "change": _changeset.pack(lines)})
    assert result["send_more"]
    assert (result["changed"], result["digest"]) == (False, digest(dictionary(MANY)))
    assert table.stored() == dictionary(MANY)
    assert {name: entry for name, entry in table.tree().items() if name != "lock"} == {name: entry for name, entry in before.items() if name != "lock"}


def by_hand(entries):
    return lambda gateway: gateway.make(entries)


def copied(gateway):
    """Somebody's backup: as many entries, as many transactions, the same inode."""
    gateway.make([*MANY[1:], "backup@example.com"], "lmdb") if gateway.kind != "lmdb" else None
    if gateway.kind == "lmdb":
        old = gateway.compiled.read_bytes()
        inode = gateway.compiled.stat().st_ino
        gateway.compiled.rename(gateway.etc / "kept")
        gateway.make([*MANY[1:], "backup@example.com"])
        new = gateway.compiled.read_bytes()
        gateway.compiled.unlink()
        (gateway.etc / "kept").rename(gateway.compiled)
        gateway.compiled.write_bytes(new)
        assert (gateway.compiled.stat().st_ino, len(old)) == (inode, len(new))


DRIFT = {
    "entry added by hand": (lambda gateway: _lmdb.change(gateway.compiled, [(b"hand@example.com", b"OK")], [], []), (203, 0, 1, 0, 202)),
    "entry removed by hand": (lambda gateway: _lmdb.change(gateway.compiled, [], [MANY[0].encode()], []), (201, 1, 0, 0, 202)),
    "value changed by hand": (lambda gateway: _lmdb.change(gateway.compiled, [], [], [(MANY[0].encode(), b"x")]), (202, 0, 0, 1, 202)),
    "not UTF-8": (lambda gateway: _lmdb.change(gateway.compiled, [(b"caf\xe9@caf\xe9", b"\xe9")], [], []), (203, 0, 1, 0, 202)),
    "replaced": (by_hand([*MANY[1:], "other@example.com"]), (202, 1, 1, 0, 202)),
    "overwritten in place by another": (copied, (202, 1, 1, 0, 202)),
    "lost": (lambda gateway: gateway.compiled.unlink(), (0, 202, 0, 0, 202)),
    "emptied": (lambda gateway: gateway.compiled.write_bytes(b""), (0, 202, 0, 0, 202)),
    "garbage": (lambda gateway: gateway.compiled.write_bytes(b"garbage" * 5000), (0, 202, 0, 0, 202)),
    "record lost": (lambda gateway: next(gateway.state.glob("*.table")).unlink(), (202, 0, 0, 0, 202)),
    "record broken": (lambda gateway: next(gateway.state.glob("*.table")).write_text("{"), (202, 0, 0, 0, 202)),
    "record of another kind": (lambda gateway: next(gateway.state.glob("*.table")).write_text("[1]"), (202, 0, 0, 0, 202)),
    "mode changed by hand": (lambda gateway: gateway.compiled.chmod(0o640), (202, 0, 0, 0, 202)),
}


@pytest.mark.parametrize(("drift", "expected"), DRIFT.values(), ids=DRIFT.keys())
def test_what_happened_to_a_table_is_noticed_and_repaired(table, run, drift, expected):
    drift(table)
    before = table.tree()
    said = run(MANY, base=MANY, check_mode=True)
    assert table.tree() == before
    assert counts(said) == expected
    did = run(MANY, base=MANY)
    assert (counts(did), did["changed"], did["diff"]) == (counts(said), said["changed"], said["diff"])
    assert did["changed"] == (expected != (202, 0, 0, 0, 202))
    assert table.stored() == dictionary(MANY)
    assert (run(MANY)["changed"], run.calls) == (False, 1)


def test_a_table_that_is_cut_is_noticed_and_repaired(table, run):
    os.truncate(table.compiled, 8192 + 4096)
    # Who reads beyond the end of a mapped file is killed.
    assert counts(run(MANY, base=MANY)) == (0, 202, 0, 0, 202)
    assert table.stored() == dictionary(MANY)


def test_a_text_file_that_is_obsolete_is_put_away(table, run):
    """postmap would make a table of it."""
    table.path.write_text("old@example.com OK\n")
    assert run(MANY, check_mode=True)["changed"]
    assert table.path.exists()
    assert run(MANY)["changed"]
    assert not table.path.exists()
    assert (table.etc / "relay_recipients.superseded").read_text() == "old@example.com OK\n"
    assert not run(MANY)["changed"]


def test_a_type_is_migrated_with_its_entries_counted_and_its_access_kept(gateway, run):
    gateway.make({**dict.fromkeys(MANY[:-1], "OK"), "gone@example.com": "OK"}, "hash")
    gateway.of("hash").chmod(0o640)
    result = run(MANY)
    assert counts(result) == (202, 1, 1, 0, 202)
    assert gateway.stored() == dictionary(MANY)
    assert stat.S_IMODE(gateway.compiled.stat().st_mode) == 0o640
    assert not run(MANY)["changed"]


def test_a_migration_is_guarded_like_any_change(gateway, run):
    gateway.make(MANY, "hash")
    assert "nothing was changed" in run(MANY[:100])["msg"]
    assert not gateway.compiled.exists()


@pytest.mark.parametrize("change", [[*MANY, "new@example.com"], MANY[:3]], ids=["in place", "anew"])
def test_mode_and_owner_stay_as_they_are(table, kind, run, change):
    run(MANY)
    table.compiled.chmod(0o604)
    if not os.getuid():
        os.chown(table.compiled, 4242, 4243)
    expected = table.compiled.stat()
    result = run(change, base=MANY, allow_removals=True)
    found = table.compiled.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (expected.st_mode, expected.st_uid, expected.st_gid)
    counts(result)
    assert not run(change)["changed"]


def test_mode_and_owner_are_those_that_are_asked_for(table, run):
    assert run(MANY, check_mode=True, mode="0600", **ME)["changed"]
    assert stat.S_IMODE(table.compiled.stat().st_mode) == 0o644
    assert run(MANY, mode="0600", **ME)["changed"]
    assert stat.S_IMODE(table.compiled.stat().st_mode) == 0o600
    assert not run(MANY, mode="0600", **ME)["changed"]


@pytest.mark.parametrize("access", [{"mode": "u=rw"}, {"owner": "no-such-user"}, {"group": "no-such-group"}])
def test_an_access_that_cannot_be_changes_nothing(table, run, access):
    result = run([*MANY, "new@example.com"], base=MANY, **access)
    assert str(next(iter(access.values()))) in result["msg"]
    assert table.stored() == dictionary(MANY)


# ---- by difference -----------------------------------------------------------------------------------------------


def test_addresses_are_added_and_removed_by_difference(table, kind, run):
    run(MANY)
    assert counts(run(["new@example.com", MANY[0]], state="present")) == (202, 1, 0, 0, 203)
    assert not run(["new@example.com", MANY[0]], state="present")["changed"]
    assert counts(run({MANY[0]: "x"}, state="present")) == (203, 0, 0, 1, 203)
    assert counts(run(["new@example.com", "nobody@example.com", MANY[1]], state="absent")) == (203, 0, 2, 0, 201)
    expected = dictionary(MANY)
    expected[MANY[0].encode()] = b"x"
    del expected[MANY[1].encode()]
    assert table.stored() == expected


def test_an_exact_run_after_a_difference_looks_at_the_table(table, run):
    run(["new@example.com"], state="present")
    assert counts(run(MANY)) == (203, 0, 1, 0, 202)
    assert table.stored() == dictionary(MANY)


def test_a_first_address_makes_a_table(gateway, kind, run):
    assert counts(run(["a@example.com"], state="present")) == (0, 1, 0, 0, 1)
    assert gateway.stored() == dictionary(["a@example.com"])


def test_a_difference_keeps_what_a_table_of_another_type_has(gateway, run):
    gateway.make(MANY, "hash")
    assert counts(run(["new@example.com"], state="present")) == (202, 1, 0, 0, 203)
    assert gateway.stored() == dictionary([*MANY, "new@example.com"])


@check_and_real
@pytest.mark.parametrize("kind_there", ["lmdb", "hash"])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_difference_to_a_table_that_cannot_be_read_is_an_error(gateway, run, kind_there, state, check_mode):
    """Else the table would be left with one address."""
    gateway.of(kind_there).write_bytes(b"BROKEN\n" * 3000)
    before = gateway.of(kind_there).read_bytes()
    result = run(["a@example.com"], state=state, check_mode=check_mode)
    assert "cannot be read" in result["msg"]
    assert gateway.of(kind_there).read_bytes() == before
    assert [path.name for path in gateway.etc.iterdir()] == [gateway.of(kind_there).name]


# ---- guards ------------------------------------------------------------------------------------------------------

GUARDED = {
    "more than the share": (MANY[25:], ["25 of 202 addresses would go (12.4 %"]),
    "one domain is gone": (MANY[:-2], ["all 2 addresses of example.net would go"]),
    "everything": ([], ["202 of 202", "all 200 addresses of example.com", "all 2 addresses of example.net"]),
}


@check_and_real
@pytest.mark.parametrize("how", ["whole", "change"])
@pytest.mark.parametrize(("wanted", "words"), GUARDED.values(), ids=GUARDED.keys())
def test_an_export_that_lost_too_much_changes_nothing(table, kind, run, wanted, words, how, check_mode):
    run(MANY)
    result = run(wanted, base=MANY if how == "change" else None, check_mode=check_mode)
    assert result["failed"]
    for word in (str(table.path), "nothing was changed", "allow_removals", *words):
        assert word in result["msg"]
    assert table.stored() == dictionary(MANY)
    assert not run(MANY)["changed"]
    if not check_mode:
        counts(run(wanted, base=MANY if how == "change" else None, allow_removals=True))
        assert table.stored() == dictionary(wanted)


def test_a_share_that_is_allowed_and_a_few_may_go(table, run):
    assert "failed" not in run(MANY[20:], base=MANY)
    assert "failed" not in run(MANY[:-1][30:], base=MANY[20:])
    assert "failed" in run([*MANY[50:-2], "a@example.net"], base=MANY[:-1][30:])
    assert "failed" not in run([*MANY[50:-2], "a@example.net"], base=MANY[:-1][30:], max_removed_percent=20)


def test_a_domain_that_is_no_longer_relayed_may_go(table, run):
    assert counts(run(MANY[:-2], base=MANY, domains=["example.com"])) == (202, 0, 2, 0, 200)


def test_the_guards_know_a_domain_however_it_is_written(table, run):
    assert "all 200 addresses of example.com would go" in run(MANY[-2:], domains=["EXAMPLE.com", "example.net"])["msg"]


def test_the_difference_that_is_shown_is_bounded(gateway, run):
    result = run([f"user{number:05}@example.com" for number in range(5000)])
    assert len(result["diff"]["after"].splitlines()) == 2 * _changeset.SHOWN + 1
    assert "4980 more" in result["diff"]["after"]
    assert "user00000@example.com" in result["diff"]["after"]
    assert "user04999@example.com" in result["diff"]["after"]


# ---- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_host_without_the_library_changes_nothing(table, run, monkeypatch):
    before = table.compiled.read_bytes()
    monkeypatch.setattr(_lmdb, "lmdb", None)
    assert "install Debian's python3-lmdb" in run([*MANY, "new@example.com"], base=MANY)["msg"]
    assert "install Debian's python3-lmdb" in run(["new@example.com"], state="present")["msg"]
    assert table.compiled.read_bytes() == before


def test_a_host_without_postmap_changes_nothing(gateway, run):
    gateway.kind = "hash"
    shutil.rmtree(gateway.bin)
    assert "install Debian's postfix" in run(MANY)["msg"]
    assert list(gateway.etc.iterdir()) == []


def test_a_bare_host_has_a_preview(gateway, run, monkeypatch):
    monkeypatch.setattr(_lmdb, "lmdb", None)
    assert counts(run(MANY, check_mode=True)) == (0, 202, 0, 0, 202)


def test_a_directory_that_takes_no_files_is_one_clear_error(run, kind):
    result = run(MANY, path="/proc/self/no-table-here")
    assert "/proc/self/no-table-here: cannot write the table, the old one stays in use: " in result["msg"]


@pytest.fixture
def full_disk():
    """No file may grow beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limit(octets):
        resource.setrlimit(resource.RLIMIT_FSIZE, (octets, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limit


@pytest.mark.parametrize("how", ["whole", "change"])
def test_a_full_disk_is_one_clear_error_and_the_old_table(table, run, full_disk, how, monkeypatch):
    wanted = [*MANY, *(f"{'x' * 50}{number}@example.com" for number in range(2000))]
    before = {name: entry[:3] for name, entry in table.tree().items() if name != "lock"}
    with full_disk(65536):
        result = run(wanted, base=MANY if how == "change" else None)
    assert "cannot write the table, the old one stays in use: " in result["msg"]
    assert table.stored() == dictionary(MANY)
    assert {name: entry[:3] for name, entry in table.tree().items() if name != "lock"} == before
    counts(run(wanted))
    assert table.stored() == dictionary(wanted)


def test_a_record_that_cannot_be_written_is_no_failure_of_the_table(table, run, monkeypatch):
    """The error would say that the old table is in use."""
    replace = _files.replace

    def full(path, *arguments):
        if path.name.endswith(".table"):
            raise OSError(28, "No space left on device")
        return replace(path, *arguments)

    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, text: warnings.append(text))
    monkeypatch.setattr(_files, "replace", full)
    result = run([*MANY, "new@example.com"], base=MANY)
    assert counts(result) == (202, 1, 0, 0, 203)
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    monkeypatch.setattr(_files, "replace", replace)
    assert counts(run([*MANY, "new@example.com"])) == (203, 0, 0, 0, 203)


@pytest.mark.parametrize("wanted", [[*MANY, "new@example.com"], [*MANY[:-1], *(f"x{number}@example.com" for number in range(500))]], ids=["in place", "anew"])
@pytest.mark.parametrize("at", ["record", "table"])
def test_the_next_run_completes_an_interrupted_one(kind, table, run, monkeypatch, wanted, at):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        if at == "record":
            patch.setattr(relay_recipients.Recipients, "remember", die)
        else:
            patch.setattr(_files, "sync_directory", die)
            patch.setattr(_lmdb, "_change", die)
        with contextlib.suppress(Killed):
            run(wanted, base=MANY)
    assert table.stored() in (dictionary(MANY), dictionary(wanted))
    for _attempt in range(2):
        counts(run(wanted, base=MANY))
        assert table.stored() == dictionary(wanted)
    assert [path.name for path in table.etc.iterdir()] == [table.compiled.name]
    assert (run(wanted)["changed"], run.calls) == (False, 1)


def test_a_table_that_somebody_else_writes_meanwhile_is_an_error_and_no_silence(table, run, monkeypatch):
    change = _lmdb._change

    def meanwhile(path, *arguments):
        monkeypatch.setattr(_lmdb, "_change", change)
        change(path, [(b"new@example.com", b"OK")], [], [], 1 << 24)
        return change(path, *arguments)

    for arguments in ({"state": "present"}, {}):
        monkeypatch.setattr(_lmdb, "_change", meanwhile)
        wanted = [*MANY, "new@example.com"] if not arguments else ["new@example.com"]
        result = run(wanted, **arguments)
        assert result.get("failed") or counts(result)
        monkeypatch.setattr(_lmdb, "_change", change)
        _lmdb.change(table.compiled, [], [b"new@example.com"], [])


def test_whatever_a_run_is_killed_at_the_next_one_leaves_nothing_of_it(table, call, run, killed, moments):
    wanted = [*MANY, *(f"x{number}@example.com" for number in range(100))]
    sent = {"wanted": digest(dictionary(wanted)), "content": _changeset.pack(text(dictionary(wanted)))}
    lines = moments(lambda: call(prepared=sent), table.root)
    assert len(lines) > 5
    counts(run(MANY, allow_removals=True))
    for line in lines:
        assert killed(lambda: call(prepared=sent), line)
        # Nothing may be left to do by now.
        counts(run(sorted(key.decode() for key in table.stored())))
        assert [path.name for path in table.etc.iterdir()] == [table.compiled.name], line
        assert sorted(path.suffix for path in table.state.iterdir()) == ["", ".table"], line
        counts(run(MANY, allow_removals=True))


def test_one_of_two_runs_at_once_makes_the_change(table, kind, call, at_once):
    content = _changeset.pack(text(dictionary(["new@example.com"])))
    results = at_once(lambda: call(state="present", prepared={"content": content}))
    assert sorted((result["changed"], result["before"]) for result in results) == [(False, 203), (True, 202)]


# ---- check mode --------------------------------------------------------------------------------------------------

users = st.sampled_from([f"user{number}@{name}" for number in range(6) for name in ("example.com", "example.net")])
contents = st.dictionaries(users, st.sampled_from(["OK", "OK", "x"]), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents, contents, st.sampled_from(["exact", "present", "absent"]), st.booleans(), st.booleans(), st.sampled_from(["lmdb", "hash"]))
def test_check_mode_is_what_a_run_then_does(gateway, run, before, after, state, allowed, by_change, kind):
    with tempfile.TemporaryDirectory() as root:
        there = Gateway(pathlib.Path(root))
        gateway.path, gateway.etc, gateway.kind = there.path, there.etc, kind
        counts(run(before, path=str(there.path)))
        arguments = {"path": str(there.path), "state": state, "allow_removals": allowed, "base": before if by_change else None}
        tree = gateway.tree()
        said = run(after, check_mode=True, **arguments)
        assert gateway.tree() == tree
        did = run(after, **arguments)
        for result in (said, did):
            result.pop("timings", None), result.pop("invocation", None)
        assert said == did
        expected = {"exact": after, "present": {**before, **after}, "absent": {key: value for key, value in before.items() if key not in after}}[state]
        assert gateway.stored() == dictionary(before if "failed" in did else expected)
        if "failed" not in did:
            assert did["changed"] == (before != expected)
            assert did["after"] == len(expected)
            assert not run(after, **arguments)["changed"]
