# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with lmdb as it is; the other types by a postmap and a postalias that keep their tables as text, and can be told to fail."""

from __future__ import annotations

import grp
import json
import os
import pathlib
import pwd
import shutil
import stat
import subprocess

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _lmdb, _tables
from ansible_collections.antispam.gateway.plugins.modules import postfix_table

# In place of an option that is not given.
OMIT = object()
ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}

# Like postalias, it writes a list of addresses its own way and adds entries for NIS.
POSTMAP = r"""#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$FAKE_POSTFIX/told"
if [ "$1" = -c ]; then MAIL_CONFIG=$2; shift 2; fi
if [ ! -r "${MAIL_CONFIG:-/nowhere}/main.cf" ]; then
    echo "$name: fatal: open /etc/postfix/main.cf: No such file or directory" >&2
    exit 1
fi
if [ "$1" = -s ]; then mode=show; shift; else mode=compile; fi
type=${1%%:*}
source=${1#*:}
case $type in
hash|btree) compiled=$source.db ;;
*) echo "$name: fatal: unsupported dictionary type: $type" >&2; exit 1 ;;
esac
if [ -e "$FAKE_POSTFIX/on-$mode" ]; then . "$FAKE_POSTFIX/on-$mode"; fi
if [ "$mode" = show ]; then
    grep -v BROKEN "$compiled"
    if grep BROKEN "$compiled" >/dev/null; then echo "$name: fatal: $compiled: page not found" >&2; exit 1; fi
    exit 0
fi
awk -v name="$name" '
    /^#/ || /^[ \t]*$/ { next }
    {
        key = $0; sub(/[ \t].*/, "", key)
        value = $0; sub(/^[^ \t]*[ \t]+/, "", value)
        if (name == "postalias") gsub(/, */, ", ", value)
        print tolower(key) "\t" value
    }
' "$source" >"$compiled"
if [ "$name" = postalias ]; then printf '@:\t@\nYP_LAST_MODIFIED:\t1700000000\nYP_MASTER_NAME:\tmx1.example.com\n' >>"$compiled"; fi
"""


class Postfix:
    """A directory that is the host: etc with the tables, and what the commands were told."""

    def __init__(self, root):
        self.root, self.etc, self.bin, self.fake = root, root / "etc", root / "bin", root / "fake"
        for directory in (self.etc, self.bin, self.fake):
            directory.mkdir()
        for name in ("postmap", "postalias"):
            (self.bin / name).write_text(POSTMAP)
            (self.bin / name).chmod(0o755)
        self.source = self.etc / "transport"
        self.kind = "hash"

    @property
    def compiled(self):
        return self.etc / f"transport{_tables.SUFFIX[self.kind]}"

    def stored(self):
        """What is in the table, None where it cannot be read."""
        if self.kind == "lmdb":
            found = _lmdb.read(self.compiled)
        else:
            try:
                found = _tables.parse_dump(self.compiled.read_bytes())
            except (OSError, ValueError):
                return None
        return None if found is None else {key.decode(): value.decode() for key, value in found.items()}

    def make(self, entries):
        """Make the table by hand."""
        if self.kind == "lmdb":
            pairs = sorted((key.encode() + b"\0", value.encode() + b"\0") for key, value in entries.items())
            aside = self.etc / "aside"
            _lmdb.write(aside, pairs, len(pairs), sum(len(key) + len(value) for key, value in pairs))
            aside.rename(self.compiled)
        else:
            self.compiled.write_text("".join(f"{key}\t{value}\n" for key, value in entries.items()))

    def on(self, mode, script):
        (self.fake / f"on-{mode}").write_text(script)

    @property
    def told(self):
        log = self.fake / "told"
        return log.read_text().splitlines() if log.exists() else []

    def tree(self):
        """Everything below etc: bytes, permissions, times."""
        found = {}
        for path in sorted(self.etc.rglob("*")):
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[path.name] = (status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, content)
        return found


@pytest.fixture
def postfix(tmp_path, monkeypatch):
    host = Postfix(tmp_path)
    monkeypatch.setenv("FAKE_POSTFIX", str(host.fake))
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    monkeypatch.setattr(_files, "STATE_DIRECTORY", tmp_path / "state")
    run_command = AnsibleModule.run_command

    def run_fake(module, words, path_prefix, **options):
        """The commands are in /usr/sbin, which is not in everybody's PATH."""
        assert path_prefix == "/usr/sbin"
        return run_command(module, words, path_prefix=str(host.bin), **options)

    monkeypatch.setattr(AnsibleModule, "run_command", run_fake)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path: which(name, path=path.replace("/usr/sbin", str(host.bin))))
    # A fork of all of pytest for each command would take most of the time of these tests.
    popen = subprocess.Popen

    def without_fork(*words, preexec_fn=None, **options):
        return popen(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", without_fork)
    return host


@pytest.fixture
def run(postfix, call_main):
    def run_module(check_mode=False, **arguments):
        module_arguments = {
            "path": str(postfix.source),
            "type": postfix.kind,
            "entries": ENTRIES,
            **ME,
            **arguments,
            "_ansible_check_mode": check_mode,
            "_ansible_diff": True,
            "_ansible_tmpdir": str(postfix.root),
        }
        return call_main(postfix_table, **{name: value for name, value in module_arguments.items() if value is not OMIT})

    return run_module


ENTRIES = {"example.com": "relay:[mail.inside.example.com]", "example.net": "relay:[mail.inside.example.com]:26"}


@pytest.fixture(params=["lmdb", "hash", "btree"])
def kind(request, postfix):
    """For what holds for each type, however it is compiled."""
    postfix.kind = request.param
    return request.param


def text(entries):
    """The text source of a table."""
    return _tables.render({key.encode(): value.encode() for key, value in entries.items()}).decode()


@pytest.fixture
def table(postfix, run):
    """The table as an earlier run left it."""
    assert run()["changed"]
    return postfix


check_and_real = pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])


def counts(result):
    return tuple(result[name] for name in ("added", "removed", "changed_values", "after"))


# ---- what it takes to get there ----------------------------------------------------------------------------------


def test_a_new_table_has_both_forms(postfix, kind, run):
    result = run(mode="0640")
    assert counts(result) == (2, 0, 0, 2)
    assert postfix.source.read_text() == _tables.HEADER + "example.com\trelay:[mail.inside.example.com]\nexample.net\trelay:[mail.inside.example.com]:26\n"
    assert postfix.stored() == ENTRIES
    assert {name: stat.S_IMODE(entry[0]) for name, entry in postfix.tree().items()} == {"transport": 0o640, postfix.compiled.name: 0o640}


class Case:
    """From the table with ENTRIES: what happened since, what is asked for, what changes."""

    def __init__(self, counts, changed=True, drift=None, **arguments):
        self.counts, self.changed, self.drift, self.arguments = counts, changed, drift, arguments


CASES = {
    "nothing": Case((0, 0, 0, 2), changed=False),
    "the same in other letters": Case((0, 0, 0, 2), changed=False, entries={key.upper(): value for key, value in ENTRIES.items()}),
    "a new key": Case((1, 0, 0, 3), entries={**ENTRIES, "Example.ORG": "error:5.1.1 nobody here"}),
    "a key goes": Case((0, 1, 0, 1), entries={"example.com": ENTRIES["example.com"]}),
    "another value": Case((0, 0, 1, 2), entries={**ENTRIES, "example.net": "relay:[mail.example.net]"}),
    "all of it": Case((1, 1, 1, 2), entries={"example.com": "OK", "example.org": "OK"}),
    "an empty table": Case((0, 2, 0, 0), entries={}),
    "numbers": Case((2, 2, 0, 2), entries={"1": 2, "a": 3}),
    "the compiled form is lost": Case((2, 0, 0, 2), drift=lambda table: table.compiled.unlink()),
    "the compiled form is another": Case((1, 1, 0, 2), drift=lambda table: table.make({"example.com": ENTRIES["example.com"], "old": "x"})),
    "the compiled form is broken": Case((2, 0, 0, 2), drift=lambda table: table.compiled.write_text("no tab here\n")),
    "the compiled form is empty": Case((2, 0, 0, 2), drift=lambda table: table.compiled.write_text("")),
    "the source is lost": Case((0, 0, 0, 2), drift=lambda table: table.source.unlink()),
    "the source was edited": Case((0, 0, 0, 2), drift=lambda table: table.source.write_text("# by hand\n")),
    "the source has other permissions": Case((0, 0, 0, 2), drift=lambda table: table.source.chmod(0o600)),
    "the compiled form has other permissions": Case((0, 0, 0, 2), drift=lambda table: table.compiled.chmod(0o600)),
    "other permissions are asked for": Case((0, 0, 0, 2), mode="0600"),
    "it was a link": Case(
        (0, 0, 0, 2), drift=lambda table: (table.source.rename(table.etc / "elsewhere"), table.source.symlink_to("elsewhere"), table.source.chmod(0o600))
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_check_mode_says_what_a_run_does_and_a_second_run_does_nothing(postfix, kind, table, run, case):
    if case.drift:
        case.drift(table)
    before = table.tree()
    said = run(check_mode=True, **case.arguments)
    assert table.tree() == before
    assert said["changed"] == case.changed
    assert counts(said) == case.counts

    did = run(**case.arguments)
    assert {key: value for key, value in did.items() if key != "invocation"} == {key: value for key, value in said.items() if key != "invocation"}
    if not case.changed:
        assert table.tree() == before
    entries = {str(key).lower(): str(value) for key, value in case.arguments.get("entries", ENTRIES).items()}
    assert table.source.read_text() == text(entries)
    assert table.stored() == entries
    wanted = int(case.arguments.get("mode", "0644"), 8)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (table.source, table.compiled)} == {wanted}

    before, told = table.tree(), table.told
    assert not run(**case.arguments)["changed"]
    assert table.tree() == before
    assert ["-s" in words.split() for words in table.told[len(told) :]] == ([] if kind == "lmdb" else [True])


def test_a_table_that_cannot_be_read_to_its_end_is_made_anew(table, run):
    table.compiled.write_text(table.compiled.read_text() + "BROKEN\n")
    assert counts(run()) == (2, 0, 0, 2)
    assert table.stored() == ENTRIES


def test_aliases_have_their_own_form(postfix, run):
    arguments = {"path": str(postfix.etc / "aliases"), "aliases": True, "entries": {"root": "alice@example.com", "1234": "bob@example.com"}}
    assert counts(run(**arguments)) == (2, 0, 0, 2)
    assert (postfix.etc / "aliases").read_text() == _tables.HEADER + "1234:\tbob@example.com\nroot:\talice@example.com\n"
    assert "YP_MASTER_NAME" in (postfix.etc / "aliases.db").read_text()
    assert {words.split()[0] for words in postfix.told} == {"postalias"}
    before = postfix.tree()
    assert not run(**arguments)["changed"]
    assert postfix.tree() == before


def test_aliases_in_lmdb_need_no_postalias(postfix, run):
    arguments = {"path": str(postfix.etc / "aliases"), "aliases": True, "type": "lmdb", "entries": {"Root": "alice@example.com", "1234": "b@example.com"}}
    assert counts(run(**arguments)) == (2, 0, 0, 2)
    assert (postfix.etc / "aliases").read_text() == _tables.HEADER + "1234:\tb@example.com\nroot:\talice@example.com\n"
    assert _lmdb.read(postfix.etc / "aliases.lmdb") == {b"root": b"alice@example.com", b"1234": b"b@example.com"}
    assert not run(**arguments)["changed"]
    assert postfix.told == []


@pytest.mark.parametrize(("type", "suffix"), [("hash", "db"), ("btree", "db")])
def test_other_types_have_another_file(postfix, run, type, suffix):
    run(type=type)
    assert sorted(postfix.tree()) == ["transport", f"transport.{suffix}"]
    assert not run(type=type)["changed"]
    assert {words.split()[-1].partition(":")[0] for words in postfix.told} == {type}


def test_directories_are_made(postfix, run):
    run(path=str(postfix.etc / "a" / "b" / "table"))
    assert sorted(postfix.tree()) == ["a", "b", "table", "table.db"]


def test_the_difference_is_that_of_the_tables(table, run):
    table.source.write_text("# what Postfix does not read\n")
    shown = run(check_mode=True, entries={"example.com": "OK"})["diff"]
    assert shown["before"] == text(ENTRIES)
    assert shown["after"] == text({"example.com": "OK"})
    assert shown["before_header"] == shown["after_header"] == str(table.source)


def test_the_difference_says_where_there_was_no_table(postfix, run):
    assert "There was no table" in run(check_mode=True)["diff"]["before"]


def test_the_source_is_never_newer_than_the_compiled_form(postfix, kind, run):
    """Postfix would warn about it at every start of every process."""
    postfix.on("compile", 'touch -d "2001-01-01 00:00:00" "$source"')
    run()
    assert postfix.source.stat().st_mtime <= postfix.compiled.stat().st_mtime


def test_postfix_reads_the_old_table_until_the_new_one_is_whole(table, run):
    table.on("compile", f'mkdir "$FAKE_POSTFIX/seen"; cp {table.source} {table.compiled} "$FAKE_POSTFIX/seen"')
    old = table.source.read_text(), table.compiled.read_text()
    with open(table.compiled) as reader:
        run(entries={"example.com": "OK"})
        assert reader.read() == old[1]
    assert ((table.fake / "seen" / "transport").read_text(), (table.fake / "seen" / "transport.db").read_text()) == old


def test_a_table_for_few_eyes_is_never_open_to_others(postfix, run):
    """Not even while it is compiled."""
    postfix.on("compile", 'umask 022; stat -c %a "$source" >"$FAKE_POSTFIX/mode"; stat -c %a "${source%/*}" >>"$FAKE_POSTFIX/mode"')
    run(mode="0600")
    assert (postfix.fake / "mode").read_text() == "600\n700\n"
    assert {stat.S_IMODE(entry[0]) for entry in postfix.tree().values()} == {0o600}


# ---- a host without Postfix --------------------------------------------------------------------------------------


def test_check_mode_works_before_postfix_is_installed(postfix, run):
    shutil.rmtree(postfix.bin)
    assert counts(run(check_mode=True)) == (2, 0, 0, 2)
    postfix.compiled.write_text("x")
    assert run(check_mode=True)["changed"]
    assert sorted(postfix.tree()) == ["transport.db"]


@check_and_real
def test_a_host_without_the_library_for_lmdb_changes_nothing(postfix, run, monkeypatch, check_mode):
    monkeypatch.setattr(_lmdb, "lmdb", None)
    result = run(check_mode=check_mode, type="lmdb")
    assert postfix.tree() == {}
    assert result["changed"] if check_mode else "python3-lmdb" in result["msg"]


def test_a_key_that_lmdb_cannot_hold_is_refused(postfix, run):
    postfix.kind = "lmdb"
    run()
    before = postfix.tree()
    result = run(entries={**ENTRIES, "x" * 511: "OK"})
    assert "x" * 60 in result["msg"]
    assert "510" in result["msg"]
    assert postfix.tree() == before
    assert run(entries={"x" * 510: "OK"})["changed"]
    assert postfix.stored() == {"x" * 510: "OK"}


def test_a_run_without_postfix_changes_nothing(postfix, run, monkeypatch):
    shutil.rmtree(postfix.bin)
    monkeypatch.setenv("PATH", "/nonexistent")
    result = run()
    assert result["failed"]
    assert "postmap" in json.dumps(result["msg"]) + json.dumps(result.get("cmd", ""))
    assert postfix.tree() == {}


# ---- what is refused ---------------------------------------------------------------------------------------------


@check_and_real
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"entries": {"a b": "OK"}}, "'a b'"),
        ({"entries": {"#a": "OK"}}, "'#a'"),
        ({"entries": {"example.com": " OK"}}, "example.com"),
        ({"entries": {"example.com": None}}, "example.com"),
        ({"entries": {"A": "1", "a": "2"}}, "twice"),
        ({"mode": "u=rw"}, "u=rw"),
        ({"path": "{etc}"}, "irectory"),
        ({"path": "{etc}/transport/below"}, "irectory"),
    ],
)
def test_a_table_that_cannot_be_is_refused(table, run, check_mode, arguments, word):
    before, told = table.tree(), table.told
    arguments = json.loads(json.dumps(arguments).replace("{etc}", str(table.etc)))
    result = run(check_mode=check_mode, **arguments)
    assert result["failed"]
    assert str(arguments.get("path", table.source)) in result["msg"]
    assert word in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert (table.tree(), table.told) == (before, told)


@pytest.mark.parametrize("nobody", [{"owner": "no-such-user"}, {"group": "no-such-group"}])
def test_an_owner_that_does_not_exist_is_for_check_mode_only(table, run, nobody):
    before = table.tree()
    assert run(check_mode=True, **nobody)["changed"]
    result = run(**nobody)
    assert result["failed"]
    assert next(iter(nobody.values())) in result["msg"]
    assert table.tree() == before


NEW = {"example.com": "OK", "example.org": "OK"}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "$name: fatal: open $compiled: Permission denied" >&2; exit 1', ["Permission denied"]),
        ('echo "$name: warning: $source, line 2: duplicate entry" >&2', ["line 2: duplicate entry"]),
        ('echo "a word"', ["a word"]),
        ("exit 3", []),
        ("printf 'example.com\\tOK\\n' >\"$compiled\"; exit 0", ["example.org"]),
        ("printf 'example.com\\tOK\\nexample.org\\tno\\n' >\"$compiled\"; exit 0", ["example.org"]),
        ("printf 'example.com\\tOK\\nexample.org\\tOK\\nmore\\tOK\\n' >\"$compiled\"; exit 0", ["more"]),
        ("exit 0", ["example.com"]),
    ],
)
def test_a_table_that_postmap_does_not_take_changes_nothing(table, run, script, words):
    before = table.tree()
    table.on("compile", script)
    result = run(entries=NEW)
    assert result["failed"]
    assert table.tree() == before
    for word in (str(table.source), "the old one stays in use", "postmap", *words):
        assert word in result["msg"]
    # The place where it was compiled is of no use to anybody.
    assert ".transport." not in result["msg"]
    (table.fake / "on-compile").unlink()
    assert run(entries=NEW)["changed"]
    assert table.stored() == NEW


def test_aliases_that_postalias_writes_its_own_way_are_refused(postfix, run):
    """They would be different in every run."""
    result = run(aliases=True, entries={"root": "alice@example.com,bob@example.com"})
    assert result["failed"]
    assert "root" in result["msg"]
    assert postfix.tree() == {}
    assert run(aliases=True, entries={"root": "alice@example.com, bob@example.com"})["changed"]


def test_a_table_that_cannot_be_written_changes_nothing(postfix, kind, run):
    result = run(path="/proc/self/no-table-here")
    assert result["failed"]
    assert "/proc/self/no-table-here" in result["msg"]


# ---- entries that are secret -------------------------------------------------------------------------------------

SECRETS = {"[smtp.example.org]:587": "gateway:corréct-horse\\battery"}
OTHER_SECRETS = {"[smtp.example.org]:587": "gateway:hunter2-hunter2"}


@pytest.fixture
def run_secretly(run, call_main):
    """Run the module with secret entries; what it prints holds none of their values, nor of those that were there."""

    def run_module(entries, **arguments):
        result = run(**{"entries": OMIT, "secret_entries": entries, "mode": "0600", **arguments})
        assert not call_main.warnings
        text = call_main.printed + json.dumps(result, ensure_ascii=False)
        for value in [*SECRETS.values(), *OTHER_SECRETS.values(), *(value for value in entries.values() if isinstance(value, str) and value.strip())]:
            for form in (value, json.dumps(value)[1:-1], repr(value)[1:-1], json.dumps(repr(value)[1:-1])[1:-1], value.partition(":")[2].strip() or value):
                assert form not in text
        return result

    return run_module


def test_a_table_of_secrets_is_written_and_not_shown(postfix, kind, run_secretly):
    result = run_secretly(SECRETS)
    assert counts(result) == (1, 0, 0, 1)
    assert postfix.stored() == SECRETS
    assert postfix.source.read_text() == text(SECRETS)
    assert {stat.S_IMODE(entry[0]) for entry in postfix.tree().values()} == {0o600}
    assert result["diff"]["before"] == result["diff"]["after"] == "(the entries are secret)\n"


def test_check_mode_says_what_a_run_does_to_secrets(postfix, kind, run_secretly):
    for entries, wanted in ((SECRETS, (1, 0, 0, 1)), (OTHER_SECRETS, (0, 0, 1, 1)), ({}, (0, 1, 0, 0))):
        before = postfix.tree()
        said = run_secretly(entries, check_mode=True)
        assert postfix.tree() == before
        did = run_secretly(entries)
        assert counts(said) == counts(did) == wanted
        assert (said["changed"], said["diff"]) == (True, did["diff"])
        assert postfix.stored() == entries
        assert not run_secretly(entries, check_mode=True)["changed"]
        assert not run_secretly(entries)["changed"]


def test_secrets_take_the_place_of_entries_that_were_none(postfix, kind, table, run_secretly):
    result = run_secretly(SECRETS)
    assert "inside.example.com" not in json.dumps(result["diff"])
    assert postfix.stored() == SECRETS


@check_and_real
@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"a b": "gateway:hunter2-hunter2"}, "'a b'"),
        ({"[smtp.example.org]:587": " gateway:hunter2-hunter2"}, "[smtp.example.org]:587"),
        ({"[smtp.example.org]:587": "gateway:hunter2\thunter3"}, "[smtp.example.org]:587"),
        ({"[smtp.example.org]:587": "gateway:hunter2\nhunter3\n"}, "[smtp.example.org]:587"),
        ({"[smtp.example.org]:587": "gateway:hunter2\x7f\\'\"hunter3"}, "[smtp.example.org]:587"),
        ({"A": "gateway:hunter2", "a": "gateway:hunter3"}, "twice"),
    ],
)
def test_a_secret_that_cannot_be_in_a_table_is_refused_and_not_shown(postfix, run_secretly, check_mode, entries, word):
    result = run_secretly(entries, check_mode=check_mode)
    assert word in result["msg"]
    assert "nothing was changed" in result["msg"]
    for secret in ("hunter2", "hunter3"):
        assert secret not in json.dumps(result)
    assert postfix.tree() == {}


@pytest.mark.parametrize("script", ['cat "$source"; exit 1', 'cat "$source" >&2', "printf 'other\\tgateway:x\\n' >\"$compiled\"; exit 0"])
def test_what_postmap_says_of_secrets_is_not_shown(postfix, run_secretly, script):
    postfix.on("compile", script)
    result = run_secretly(OTHER_SECRETS)
    assert "cannot write the table" in result["msg"]
    assert "hunter2" not in json.dumps(result)


@check_and_real
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"entries": ENTRIES, "secret_entries": SECRETS}, "mutually exclusive"),
        ({"entries": {}, "secret_entries": {}}, "mutually exclusive"),
        ({"entries": OMIT}, "one of the following is required: entries, secret_entries"),
        ({"entries": None}, "neither entries nor secret_entries has a value; an empty table is {}"),
        ({"entries": OMIT, "secret_entries": None}, "neither entries nor secret_entries has a value"),
    ],
)
def test_entries_are_either_secret_or_not(postfix, run, check_mode, arguments, words):
    result = run(check_mode=check_mode, **arguments)
    assert words in result["msg"]
    assert postfix.tree() == {}


# ---- a run that was interrupted ----------------------------------------------------------------------------------


def interrupted(postfix, entries, at):
    """Run until a file is to be renamed to this name, where the machine goes down."""
    rename = pathlib.Path.rename

    def die(path, target):
        if pathlib.Path(target).name == f"transport{at.replace('.compiled', _tables.SUFFIX[postfix.kind])}" and pathlib.Path(target).parent == postfix.etc:
            os._exit(42)
        return rename(path, target)

    arguments = {"path": str(postfix.source), "type": postfix.kind, "entries": entries, **ME, "_ansible_tmpdir": str(postfix.root)}
    child = os.fork()
    if not child:
        pathlib.Path.rename = die
        with patch_module_args(arguments):
            postfix_table.main()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


@pytest.mark.parametrize("at", ["", ".compiled"])
@pytest.mark.parametrize("then", [ENTRIES, NEW])
def test_the_next_run_completes_an_interrupted_one(postfix, kind, table, run, at, then):
    interrupted(table, NEW, at)
    assert table.stored() in (ENTRIES, NEW)
    run(entries=then)
    assert table.stored() == then
    assert table.source.read_text() == text(then)
    assert not run(entries=then)["changed"]


def test_an_interrupted_run_leaves_nothing_behind_the_next_one(postfix, kind, table, run):
    interrupted(table, NEW, ".compiled")
    run(entries={"example.com": "OK"})
    assert sorted(table.tree()) == ["transport", table.compiled.name]


def test_whatever_a_run_is_killed_at_the_next_one_leaves_nothing_of_it(postfix, run, killed, moments, tmp_path):
    postfix.kind = "lmdb"
    secrets = {"entries": OMIT, "mode": "0600"}
    run(**secrets, secret_entries=SECRETS)
    lines = moments(lambda: run(**secrets, secret_entries=OTHER_SECRETS), tmp_path)
    assert len(lines) > 5
    for line in lines:
        run(**secrets, secret_entries=SECRETS)
        assert killed(lambda: run(**secrets, secret_entries=OTHER_SECRETS), line)
        # As it stands now: a run that has nothing to change tidies up as well.
        result = run(**secrets, secret_entries=postfix.stored())
        assert "failed" not in result, result
        assert sorted(postfix.tree()) == ["transport", "transport.lmdb"], line


def test_a_run_tidies_up_after_one_for_another_table_that_is_gone(postfix, kind, table, run):
    """Nobody else may come by: the password of a smarthost that is no longer used."""
    (table.etc / ".smarthost_password.antispam-abc").mkdir()
    (table.etc / ".smarthost_password.antispam-abc" / "smarthost_password").write_text("hunter2")
    (table.etc / ".main.cf.antispam-abc").write_text("")
    (table.etc / ".antispam-abc").write_text("somebody else's")
    assert not run()["changed"]
    assert sorted(table.tree()) == [".antispam-abc", "transport", table.compiled.name]


def test_check_mode_leaves_what_is_there(postfix, table, run):
    (table.etc / ".transport.antispam-abc").write_text("")
    run(check_mode=True)
    assert (table.etc / ".transport.antispam-abc").exists()


def test_secrets_are_never_where_others_can_open_them(postfix, kind, run, exposed):
    secrets = {"entries": OMIT, "mode": "0600"}
    run(**secrets, secret_entries=SECRETS)
    for wanted, mode in ((OTHER_SECRETS, "0600"), (SECRETS, "0600"), (SECRETS, "0600")):
        text = next(iter(wanted.values())).encode()
        assert not exposed(lambda: run(entries=OMIT, secret_entries=wanted, mode=mode), postfix.etc, text)
    # What looks can see.
    assert exposed(lambda: run(entries=OMIT, secret_entries=SECRETS, mode="0644"), postfix.etc, text)


def test_one_of_two_runs_at_once_makes_the_change(postfix, kind, table, run, at_once):
    assert sorted(result["changed"] for result in at_once(lambda: run(entries=NEW))) == [False, True]
    assert table.stored() == NEW
