# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's half of the module, against a systemctl that keeps one unit in files, and that takes the scores up when it reloads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _changeset, _files, _services
from ansible_collections.antispam.gateway.plugins.modules import sender_scores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SYSTEMCTL = """\
#!/bin/sh
cd "$FAKE_UNIT" || exit 9
echo "$*" >>told
if [ -e "on-$1" ]; then . "./on-$1"; fi
case "$1" in
show) for property in LoadState ActiveState UnitFileState TriggeredBy; do echo "$property=$(cat $property)"; done ;;
reload) cp ../etc/scores in_use; echo x >>generation ;;
esac
"""


class Amavis:
    def __init__(self, root):
        self.root, self.etc, self.unit, self.state = root, root / "etc", root / "unit", root / "state"
        for directory in (self.etc, self.unit, root / "bin"):
            directory.mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", "#!/bin/sh\necho 'Scores are bad'\n")):
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.set(LoadState="loaded", ActiveState="active", UnitFileState="enabled", TriggeredBy="", told="", generation="")
        self.path = self.etc / "scores"

    def set(self, **values):
        for name, value in values.items():
            (self.unit / name).write_text(value + "\n" if value else "")

    @property
    def told(self):
        return [line for line in (self.unit / "told").read_text().splitlines() if not line.startswith("show ")]

    @property
    def in_use(self):
        return sender_scores.parse((self.unit / "in_use").read_bytes())

    def stored(self):
        return sender_scores.parse(self.path.read_bytes())

    def tree(self):
        return {
            str(path): (path.lstat().st_mode, path.lstat().st_ino, path.lstat().st_mtime_ns, path.read_bytes())
            for part in (self.etc, self.state, self.unit)
            for path in sorted(part.rglob("*"))
            if path.is_file() and path.name not in ("told", "lock")
        }


@pytest.fixture
def amavis(tmp_path, monkeypatch):
    host = Amavis(tmp_path)
    monkeypatch.setenv("FAKE_UNIT", str(host.unit))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(_files, "STATE_DIRECTORY", host.state)
    # A reload gives amavis other workers.
    monkeypatch.setattr(_services.Unit, "workers", lambda unit: {str(len((host.unit / "generation").read_text()))})
    monkeypatch.setattr(_services, "time", types.SimpleNamespace(monotonic=lambda: 10 * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / 10)))
    popen = subprocess.Popen

    def without_fork(*words, preexec_fn=None, **options):
        return popen(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", without_fork)
    if os.getuid():
        monkeypatch.setattr(os, "fchown", lambda *arguments: None)
    return host


def dictionary(scores):
    return {key.encode(): str(points).encode() for key, points in scores.items()}


@pytest.fixture
def call(amavis, call_main):
    def call_module(check_mode=False, **arguments):
        (amavis.unit / "told").write_text("")
        module_arguments = {"path": str(amavis.path), "timeout": 5, **arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        return call_main(sender_scores, **module_arguments, _ansible_tmpdir=str(amavis.root))

    return call_module


@pytest.fixture
def run(call):
    """What the action plugin does: the digest, then everything if it is asked for."""

    def run_module(scores, check_mode=False, **arguments):
        text = b"\n".join(_changeset.line(*entry) for entry in sorted(dictionary(scores).items()))
        run_module.calls = 1
        if arguments.get("state", "exact") != "exact":
            return call(check_mode, prepared={"content": _changeset.pack(text)}, **arguments)
        wanted = hashlib.sha256(text).hexdigest()
        result = call(check_mode, prepared={"wanted": wanted}, **arguments)
        if result.get("send_more"):
            run_module.calls = 2
            result = call(check_mode, prepared={"wanted": wanted, "content": _changeset.pack(text)}, **arguments)
        return result

    return run_module


def counts(result):
    assert "failed" not in result, result["msg"]
    return tuple(result[name] for name in ("before", "added", "removed", "changed_values", "after"))


SCORES = {**{f"user{number:02}@example.org": -2.5 for number in range(60)}, ".": 0.1, "@": 1, ".example.net": 3}


@pytest.fixture
def table(amavis, run):
    assert counts(run(SCORES)) == (0, 63, 0, 0, 63)
    return amavis


def test_scores_are_in_use_when_the_run_is_done(table, run):
    assert table.stored() == table.in_use == dictionary(SCORES)
    wanted = {**SCORES, "@": 2, "new@example.org": 5}
    del wanted["."]
    assert counts(run(wanted)) == (63, 1, 1, 1, 63)
    assert table.stored() == table.in_use == dictionary(wanted)
    assert table.told == ["daemon-reload", "reset-failed amavis.service", "reload amavis.service"]
    before = table.tree()
    assert (run(wanted)["changed"], run.calls, table.told, table.tree()) == (False, 1, [], before)


@pytest.mark.parametrize(
    "drift",
    [
        lambda table: table.path.unlink(),
        lambda table: table.path.write_text("evil@example.org -100\n"),
        lambda table: table.path.write_bytes(table.path.read_bytes() + b"evil@example.org -100\n"),
        lambda table: table.path.write_bytes(table.path.read_bytes() + b" -100\n"),
        lambda table: table.path.write_bytes(table.path.read_bytes() + b"evil@example.org\n"),
        lambda table: table.path.write_bytes(table.path.read_bytes() + b"caf\xe9@example.org 5\n"),
        lambda table: table.path.write_bytes(table.path.read_bytes().replace(b"\n", b"\r\n")),
        lambda table: table.path.chmod(0o600),
    ],
)
def test_a_file_that_was_changed_by_hand_is_put_right_and_in_use(table, run, drift):
    before_drift = table.path.stat().st_mode
    drift(table)
    before = table.tree()
    said = run(SCORES, check_mode=True)
    assert (table.tree(), table.told) == (before, [])
    did = run(SCORES)
    assert (said["changed"], counts(said), said["diff"]) == (did["changed"], counts(did), did["diff"])
    assert did["changed"]
    assert table.stored() == table.in_use == dictionary(SCORES)
    assert table.path.stat().st_mode == before_drift
    assert not run(SCORES)["changed"]


def test_scores_are_given_and_taken_by_difference(table, run):
    assert counts(run({"new@example.org": 1, "@": 9}, state="present")) == (63, 1, 0, 1, 64)
    assert not run({"new@example.org": 1, "@": 9}, state="present")["changed"]
    assert counts(run({"new@example.org": 7, "nobody@example.org": 1}, state="absent")) == (64, 0, 1, 0, 63)
    assert table.stored() == table.in_use == dictionary({**SCORES, "@": 9})
    assert counts(run(SCORES)) == (63, 0, 0, 1, 63)


def test_an_amavis_that_is_stopped_is_not_started_and_has_the_scores_when_it_is(table, run):
    table.set(ActiveState="inactive")
    assert run({**SCORES, "@": 5})["changed"]
    assert table.told == []
    assert table.stored() == dictionary({**SCORES, "@": 5})
    assert not run({**SCORES, "@": 5})["changed"]


@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])
def test_an_export_that_lost_too_much_changes_nothing(table, run, check_mode):
    before = table.tree()
    result = run({"@": 1}, check_mode=check_mode)
    for word in (str(table.path), "nothing was changed, 62 of 63 scores would go", "allow_removals"):
        assert word in result["msg"]
    assert (table.tree(), table.told) == (before, [])
    assert run({"@": 1}, check_mode=check_mode, allow_removals=True)["changed"]


# ---- what goes wrong ---------------------------------------------------------------------------------------------

BAD_RELOADS = {
    "it fails": ('[ -e failed ] || { touch failed; echo "Job for amavis.service failed." >&2; exit 1; }', "Job for amavis.service failed"),
    "it changes nothing": ("exit 0", "worker processes were not replaced"),
    "it dies": ("echo failed >ActiveState; exit 0", "amavis.service has failed"),
}


@pytest.mark.parametrize(("script", "words"), BAD_RELOADS.values(), ids=BAD_RELOADS.keys())
def test_scores_that_amavis_does_not_load_go_back(table, run, script, words):
    before = table.path.read_bytes()
    (table.unit / "on-reload").write_text(script)
    result = run({**SCORES, "@": 5}, timeout=1)
    for word in (str(table.path), words, "the old scores are back", "Scores are bad"):
        assert word in result["msg"]
    assert table.path.read_bytes() == before
    assert sorted(path.name for path in table.etc.iterdir()) == ["scores"]
    (table.unit / "on-reload").unlink()
    table.set(ActiveState="active")
    assert run({**SCORES, "@": 5})["changed"]
    assert table.stored() == table.in_use == dictionary({**SCORES, "@": 5})


@pytest.mark.parametrize("then", [SCORES, {**SCORES, "@": 5}], ids=["the old", "the new"])
@pytest.mark.parametrize("at", ["switch", "reload", "marker"])
def test_a_run_after_one_that_was_interrupted_reloads(table, run, monkeypatch, at, then):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*{"switch": (_files, "_sync"), "reload": (_services.Unit, "apply"), "marker": (_files, "replace")}[at], die)
        with contextlib.suppress(Killed):
            run({**SCORES, "@": 5})
    assert table.stored() in (dictionary(SCORES), dictionary({**SCORES, "@": 5}))
    assert run(then, check_mode=True)["changed"]
    assert run(then)["changed"]
    assert table.stored() == table.in_use == dictionary(then)
    assert not run(then)["changed"]


def test_a_file_that_cannot_be_written_is_one_clear_error(table, run, monkeypatch):
    before = table.path.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_write_aside", full)
        result = run({**SCORES, "@": 5})
    assert result["msg"] == f"{table.path}: cannot write the scores, the old ones stay in use: [Errno 28] No space left on device"
    assert (table.path.read_bytes(), table.told) == (before, [])


def test_one_of_two_runs_at_once_makes_the_change(table, call, at_once):
    content = _changeset.pack(b"new@example.org\t5")
    results = at_once(lambda: call(state="present", prepared={"content": content}))
    assert sorted((result["changed"], result["before"]) for result in results) == [(False, 64), (True, 63)]


# ---- check mode --------------------------------------------------------------------------------------------------

some = st.dictionaries(st.sampled_from([f"u{number}@example.org" for number in range(8)] + ["@", "."]), st.sampled_from([1, -2.5]), max_size=8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some, some, st.sampled_from(["exact", "present", "absent"]))
def test_check_mode_is_what_a_run_then_does(amavis, run, before, after, state):
    counts(run(before, allow_removals=True))
    tree = amavis.tree()
    said = run(after, check_mode=True, state=state)
    assert amavis.tree() == tree
    did = run(after, state=state)
    for result in (said, did):
        result.pop("timings", None), result.pop("invocation", None)
    assert said == did
    expected = {"exact": after, "present": {**before, **after}, "absent": {key: value for key, value in before.items() if key not in after}}[state]
    assert amavis.stored() == amavis.in_use == dictionary(expected)
    assert did["changed"] == (before != expected)
