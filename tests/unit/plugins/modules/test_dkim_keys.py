# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with keys of openssl as it is, and a DNS that holds what it is told."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess

import pytest
import yaml
from _checkout import load
from ansible_collections.antispam.gateway.plugins.module_utils import _dkim, _files, _records
from ansible_collections.antispam.gateway.plugins.modules import dkim_keys

USER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
COM, NET = "example.com", "example.net"
# What the module returns is one list.
(LIST,) = yaml.safe_load(dkim_keys.RETURN)
both_algorithms = pytest.mark.parametrize("algorithm", ["rsa", "ed25519"])
check_and_real = pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])


class Keys:
    """The directory of the keys, and what the DNS holds of them."""

    def __init__(self, root, zone):
        self.directory, self.zone = root / "dkim", zone
        self.algorithm = "ed25519"

    def path(self, selector, domain=COM):
        return self.directory / domain / f"{selector}.pem"

    def public(self, selector, domain=COM):
        return _dkim.public(_run, self.path(selector, domain), self.algorithm)

    def publish(self, selector, domain=COM, text=None, path=None):
        text = text or f"v=DKIM1; p={_dkim.public(_run, path or self.path(selector, domain), self.algorithm)}"
        self.zone[f"{selector}._domainkey.{domain}", "TXT"] = [text]

    def fail(self, selector, domain=COM):
        """Let the DNS not answer for a key."""
        self.zone[f"{selector}._domainkey.{domain}", "TXT"] = None

    def withdraw(self, selector, domain=COM):
        del self.zone[f"{selector}._domainkey.{domain}", "TXT"]

    def tree(self):
        """Everything that is there: bytes, permissions, times."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            status = path.lstat()
            found[str(path.relative_to(self.directory))] = (status.st_mode, status.st_ino, status.st_mtime_ns, path.read_bytes() if path.is_file() else None)
        return found

    def names(self):
        return [name for name, entry in self.tree().items() if entry[3] is not None]


def _run(command, data=None, check_rc=False):
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=check_rc)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def dkim(tmp_path, zone, monkeypatch):
    ids = _files.ids

    def own_ids(path, owner, group):
        """Tests need not be run as root."""
        assert owner == "root"
        return ids(path, USER, group)

    monkeypatch.setattr(_files, "ids", own_ids)
    monkeypatch.setattr(_files, "STATE_DIRECTORY", tmp_path / "state")
    return Keys(tmp_path, zone)


@pytest.fixture
def run(dkim, call_main):
    def run_module(*domains, check_mode=False, selector="mx1", **arguments):
        wanted = {"directory": str(dkim.directory), "domains": list(domains or [COM]), "selector": selector, "algorithm": dkim.algorithm, "group": GROUP}
        given = {**wanted, **arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        result = call_main(dkim_keys, **given)
        run_module.warnings = call_main.warnings
        for path in dkim.directory.rglob("*.pem"):
            assert_no_secret(call_main.printed + "".join(call_main.warnings), path)
        return result

    return run_module


def assert_no_secret(text, path):
    """Not one line of a private key is in a text."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return
    assert not [line for line in lines if len(line) > 20 and not line.startswith("-----") and line in text]


def signing(result):
    return {key["domain"]: key["signing"] for key in result[LIST]}


def published(result):
    return {key["domain"]: key["published"] for key in result[LIST]}


@pytest.fixture
def in_use(dkim, run):
    """A key that is published and signs."""
    run()
    dkim.publish("mx1")
    assert signing(run()) == {COM: "mx1"}
    return dkim


# ---- a new key ---------------------------------------------------------------------------------------------------


@both_algorithms
def test_a_new_key_is_made_and_does_not_sign(dkim, run, algorithm):
    dkim.algorithm = algorithm
    result = run()
    assert result["changed"]
    assert result[LIST] == [
        {
            "domain": COM,
            "selector": "mx1",
            "name": "mx1._domainkey.example.com",
            "record": f"v=DKIM1; k={algorithm}; p={dkim.public('mx1')}",
            "published": "no",
            "signing": "",
            "path": "",
        }
    ]
    assert dkim.names() == ["example.com/mx1.pem"]
    assert run.warnings == [f"DKIM: mx1._domainkey.example.com is not published, so no {algorithm} key signs for example.com; see antispam.gateway.dns"]


@both_algorithms
def test_a_key_signs_from_the_first_run_on_that_finds_its_record(dkim, run, algorithm):
    dkim.algorithm = algorithm
    record = run()[LIST][0]["record"]
    dkim.publish("mx1", text=record)
    result = run()
    assert result["changed"]
    assert (signing(result), published(result), result[LIST][0]["path"]) == ({COM: "mx1"}, {COM: "yes"}, str(dkim.path("mx1")))
    assert run.warnings == []


@both_algorithms
def test_a_run_that_finds_everything_right_changes_nothing(dkim, run, algorithm):
    dkim.algorithm = algorithm
    assert run()["changed"]
    before = dkim.tree()
    assert not run()["changed"]
    assert dkim.tree() == before
    dkim.publish("mx1")
    assert run()["changed"]
    before = dkim.tree()
    result = run()
    assert not result["changed"]
    assert result["diff"]["before"] == result["diff"]["after"]
    assert dkim.tree() == before


def test_each_domain_has_a_key_of_its_own_and_signs_by_itself(dkim, run):
    result = run(COM, NET)
    assert [key["domain"] for key in result[LIST]] == [COM, NET]
    assert dkim.public("mx1", COM) != dkim.public("mx1", NET)
    dkim.publish("mx1", NET)
    assert signing(run(COM, NET)) == {COM: "", NET: "mx1"}
    assert [warning.partition(",")[0] for warning in run.warnings] == ["DKIM: mx1._domainkey.example.com is not published"]


@pytest.mark.parametrize("text", ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "v=DKIM1; p="])
def test_a_key_does_not_sign_where_another_one_is_published(dkim, run, text):
    run()
    dkim.publish("mx1", text=text)
    result = run()
    assert not result["changed"]
    assert (signing(result), published(result)) == ({COM: ""}, {COM: "other"})
    assert run.warnings[0].startswith("DKIM: mx1._domainkey.example.com holds another key, so no ed25519 key signs for example.com")


def test_keys_are_for_the_group_that_signs(dkim, run):
    run()
    dkim.publish("mx1")
    run()
    assert {name: oct(stat.S_IMODE(entry[0])) for name, entry in dkim.tree().items()} == {
        "example.com": "0o750",
        "example.com/mx1.pem": "0o640",
        "example.com/signing": "0o640",
    }
    assert {(path.stat().st_uid, path.stat().st_gid) for path in dkim.directory.rglob("*")} == {(os.getuid(), os.getgid())}
    assert stat.S_IMODE(dkim.directory.stat().st_mode) == 0o750


def test_a_group_that_does_not_exist_is_for_check_mode_only(dkim, run):
    assert run(check_mode=True, group="no-such-group")["changed"]
    result = run(group="no-such-group")
    assert "no-such-group" in result["msg"]
    assert dkim.tree() == {}


# ---- another selector --------------------------------------------------------------------------------------------


def test_the_key_before_signs_until_the_new_one_is_published(in_use, run):
    result = run(selector="mx2")
    assert result["changed"]
    assert (signing(result), published(result), result[LIST][0]["path"]) == ({COM: "mx1"}, {COM: "no"}, str(in_use.path("mx1")))
    assert result[LIST][0]["record"].endswith(in_use.public("mx2"))
    assert run.warnings == ["DKIM: mx2._domainkey.example.com is not published, so mx1 goes on signing for example.com; see antispam.gateway.dns"]
    assert not run(selector="mx2")["changed"]
    in_use.publish("mx2")
    result = run(selector="mx2")
    assert result["changed"]
    assert (signing(result), result[LIST][0]["path"]) == ({COM: "mx2"}, str(in_use.path("mx2")))
    assert run.warnings == []
    assert not run(selector="mx2")["changed"]


def test_a_key_that_is_no_longer_used_stays(in_use, run):
    old = in_use.path("mx1").read_text()
    run(selector="mx2")
    in_use.publish("mx2")
    run(selector="mx2")
    assert in_use.path("mx1").read_text() == old
    assert signing(run(selector="mx1")) == {COM: "mx1"}


# ---- the DNS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [Keys.fail, Keys.withdraw, lambda keys, selector: keys.publish(selector, text="v=DKIM1; p=")])
def test_a_key_that_signs_goes_on_whatever_the_dns_says(in_use, run, what):
    what(in_use, "mx1")
    before = in_use.tree()
    result = run()
    assert not result["changed"]
    assert signing(result) == {COM: "mx1"}
    assert in_use.tree() == before


def test_a_failure_of_the_dns_takes_no_key_into_use(in_use, run):
    in_use.fail("mx2")
    result = run(selector="mx2")
    assert (signing(result), published(result)) == ({COM: "mx1"}, {COM: "unknown"})
    assert run.warnings[0].startswith("DKIM: the DNS does not answer (mx2._domainkey.example.com TXT: the resolution lifetime expired), so mx1 goes on")


@check_and_real
def test_a_host_that_cannot_look_records_up_yet_is_for_check_mode_only(in_use, run, monkeypatch, check_mode):
    monkeypatch.setattr(_records, "missing_package", lambda: _records.PACKAGE)
    monkeypatch.setattr(_records, "lookup", None)
    before = in_use.tree()
    result = run(check_mode=check_mode, selector="mx2")
    assert in_use.tree() == before
    if check_mode:
        assert (signing(result), published(result)) == ({COM: "mx1"}, {COM: "no"})
        assert published(run(check_mode=True)) == {COM: "unknown"}
    else:
        assert result["msg"] == f"{in_use.directory}: install the package python3-dnspython, without which no record can be looked up"


# ---- one key for all domains -------------------------------------------------------------------------------------


@pytest.fixture
def shared(dkim, run):
    """A key that two domains have published."""
    run(COM, NET, shared=True)
    for domain in (COM, NET):
        dkim.publish("mx1", domain, path=dkim.directory / "mx1.pem")
    assert signing(run(COM, NET, shared=True)) == {COM: "mx1", NET: "mx1"}
    return dkim


def test_a_shared_key_is_one_key(shared, run):
    assert shared.names() == ["mx1.pem", "signing"]
    result = run(COM, NET, shared=True)
    assert len({key["record"] for key in result[LIST]}) == 1
    assert {key["path"] for key in result[LIST]} == {str(shared.directory / "mx1.pem")}


def test_a_shared_key_takes_over_once_all_have_published_it(shared, run):
    run(COM, NET, shared=True, selector="mx2")
    new = shared.directory / "mx2.pem"
    shared.publish("mx2", COM, path=new)
    result = run(COM, NET, shared=True, selector="mx2")
    assert not result["changed"]
    assert (signing(result), published(result)) == ({COM: "mx1", NET: "mx1"}, {COM: "yes", NET: "no"})
    shared.publish("mx2", NET, path=new)
    result = run(COM, NET, shared=True, selector="mx2")
    assert result["changed"]
    assert signing(result) == {COM: "mx2", NET: "mx2"}
    assert run.warnings == []


def test_a_warning_says_why_a_shared_key_waits(shared, run):
    run(COM, NET, shared=True, selector="mx2")
    shared.publish("mx2", COM, path=shared.directory / "mx2.pem")
    run(COM, NET, shared=True, selector="mx2")
    assert run.warnings == [
        "DKIM: mx2 is not published for every domain, so mx1 goes on signing for example.com; see antispam.gateway.dns",
        "DKIM: mx2._domainkey.example.net is not published, so mx1 goes on signing for example.net; see antispam.gateway.dns",
    ]


def test_a_further_domain_waits_for_its_record_alone(shared, run):
    result = run(COM, NET, "example.org", shared=True)
    assert not result["changed"]
    assert signing(result) == {COM: "mx1", NET: "mx1", "example.org": ""}
    shared.publish("mx1", "example.org", path=shared.directory / "mx1.pem")
    assert signing(run(COM, NET, "example.org", shared=True)) == {COM: "mx1", NET: "mx1", "example.org": "mx1"}


def test_a_domain_that_is_removed_is_not_waited_for(shared, run):
    run(COM, shared=True, selector="mx2")
    shared.publish("mx2", COM, path=shared.directory / "mx2.pem")
    assert signing(run(COM, shared=True, selector="mx2")) == {COM: "mx2"}


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_domain_that_is_removed_and_added_again_has_its_key_again(dkim, run, is_shared):
    path = dkim.directory / "mx1.pem" if is_shared else None
    run(COM, NET, shared=is_shared)
    for domain in (COM, NET):
        dkim.publish("mx1", domain, path=path)
    before = run(COM, NET, shared=is_shared)
    assert signing(before) == {COM: "mx1", NET: "mx1"}
    assert signing(run(COM, shared=is_shared)) == {COM: "mx1"}
    after = run(COM, NET, shared=is_shared)
    assert not after["changed"]
    assert after[LIST] == before[LIST]


def test_a_domain_that_comes_back_after_a_change_of_keys_waits_for_its_record(shared, run):
    run(COM, shared=True, selector="mx2")
    shared.publish("mx2", COM, path=shared.directory / "mx2.pem")
    run(COM, shared=True, selector="mx2")
    assert signing(run(COM, NET, shared=True, selector="mx2")) == {COM: "mx2", NET: ""}
    shared.publish("mx2", NET, path=shared.directory / "mx2.pem")
    assert signing(run(COM, NET, shared=True, selector="mx2")) == {COM: "mx2", NET: "mx2"}


# ---- check mode --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "happened"),
    [
        ("mx1", lambda keys: None),
        ("mx2", lambda keys: None),
        ("mx2", lambda keys: keys.fail("mx2")),
        ("mx1", lambda keys: keys.fail("mx1")),
        ("mx1", lambda keys: (keys.directory / COM / "signing").unlink()),
        ("mx1", lambda keys: keys.path("mx1").rename(keys.path("mx0"))),
        ("mx0", lambda keys: (keys.path("mx0").write_text(_dkim.make(_run, "ed25519")), keys.publish("mx0"))),
    ],
    ids=["nothing", "a new key", "a new key and no DNS", "no DNS", "what signs is forgotten", "the key that signs is gone", "another key is published"],
)
def test_check_mode_says_what_a_run_does_and_changes_nothing(in_use, run, selector, happened):
    happened(in_use)
    before = in_use.tree()
    said = run(check_mode=True, selector=selector)
    warned = run.warnings
    assert in_use.tree() == before
    made = not in_use.path(selector).exists()
    did = run(selector=selector)
    assert (said["changed"], said["diff"], signing(said)) == (did["changed"], did["diff"], signing(did))
    assert (in_use.tree() == before) != did["changed"]
    if made:
        assert said[LIST][0]["record"] is None
        assert warned[0].startswith("DKIM: the key is still to be made, so ")
    else:
        assert (said[LIST], warned) == (did[LIST], run.warnings)


def test_check_mode_works_before_anything_is_there(dkim, run):
    result = run(COM, NET, check_mode=True)
    assert result["changed"]
    assert signing(result) == {COM: "", NET: ""}
    assert not dkim.directory.exists()
    assert dkim.zone.asked == []


def test_the_difference_shows_which_key_signs(in_use, run):
    run(selector="mx2")
    in_use.publish("mx2")
    key = in_use.directory / COM / "mx2.pem"
    assert run(selector="mx2")["diff"] == {"before": f"{COM}: key {key}, signs with mx1\n", "after": f"{COM}: key {key}, signs with mx2\n"}
    key = in_use.directory / NET / "mx1.pem"
    assert run(NET)["diff"] == {"before": f"{NET}: no key {key}, signs with none\n", "after": f"{NET}: key {key}, signs with none\n"}


# ---- files that hold no key --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def no_keys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("no-keys")

    def openssl(name, *words):
        subprocess.run(["openssl", *words, "-out", directory / name], check=True, capture_output=True)

    openssl("rsa", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    openssl("encrypted", "pkey", "-in", directory / "rsa", "-aes256", "-passout", "pass:secret")
    openssl("public", "pkey", "-in", directory / "rsa", "-pubout")
    openssl("EC", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl("Ed25519", "genpkey", "-algorithm", "ED25519")
    (directory / "garbage").write_text("no key at all\n")
    (directory / "empty").write_text("")
    return directory


@check_and_real
@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *(("rsa", name) for name in ("garbage", "empty", "encrypted", "public", "EC", "Ed25519")),
        *(("ed25519", name) for name in ("garbage", "empty", "public", "EC", "Ed25519", "rsa")),
    ],
)
def test_a_file_that_holds_no_key_is_one_error_and_changes_nothing(dkim, run, no_keys, algorithm, name, check_mode):
    dkim.algorithm = algorithm
    dkim.path("mx1", NET).parent.mkdir(parents=True)
    dkim.path("mx1", NET).write_bytes((no_keys / name).read_bytes())
    before = dkim.tree()
    result = run(COM, NET, check_mode=check_mode)
    assert result["msg"].endswith(f"{dkim.path('mx1', NET)} is no {algorithm} key that can be read; put it right, or move it away and a new one is made")
    assert dkim.tree() == before


def test_an_empty_file_does_not_wait_for_input(dkim, run, no_keys):
    dkim.algorithm = "rsa"
    dkim.path("mx1").parent.mkdir(parents=True)
    dkim.path("mx1").touch()
    before = os.dup(0)
    with open(no_keys / "rsa", encoding="ascii") as elsewhere:
        os.dup2(elsewhere.fileno(), 0)
        try:
            result = run()
        finally:
            os.dup2(before, 0)
            os.close(before)
    assert result["failed"]


def test_a_key_that_was_broken_while_it_signed_is_an_error(in_use, run):
    in_use.path("mx1").write_text("x")
    before = in_use.tree()
    assert str(in_use.path("mx1")) in run()["msg"]
    assert in_use.tree() == before


def test_a_broken_key_that_is_moved_away_is_made_anew(in_use, run):
    in_use.path("mx1").write_text("x")
    in_use.path("mx1").rename(in_use.path("broken"))
    result = run()
    assert (result["changed"], signing(result), published(result)) == (True, {COM: ""}, {COM: "other"})
    again = run()
    assert (again["changed"], signing(again)) == (False, {COM: ""})
    in_use.publish("mx1")
    assert signing(run()) == {COM: "mx1"}


@check_and_real
def test_a_directory_that_cannot_be_one_is_an_error(dkim, run, check_mode):
    dkim.directory.write_text("a file\n")
    result = run(check_mode=check_mode)
    if not check_mode:
        assert result["msg"].startswith(f"{dkim.directory}: ")
    assert dkim.directory.read_text() == "a file\n"


# ---- the documentation -------------------------------------------------------------------------------------------


def test_what_is_documented_is_what_is_returned(in_use, run):
    documented = yaml.safe_load(dkim_keys.RETURN)
    result = run()
    assert set(documented) == set(result) - {"changed", "diff", "invocation"}
    assert set(documented[LIST]["contains"]) == set(result[LIST][0])


def test_the_role_gives_the_module_what_it_knows():
    documented = yaml.safe_load(dkim_keys.DOCUMENTATION)["options"]
    for role, name in (("amavis", "dkim.yml"), ("dkimpy_milter", "keys.yml")):
        (task,) = load(role, "tasks", name)
        given = task["antispam.gateway.dkim_keys"]
        assert set(given) <= set(documented)
        assert {name for name, option in documented.items() if option.get("required")} <= set(given)


# ---- runs that are killed, and runs at the same time -------------------------------------------------------------


def test_whatever_a_run_is_killed_at_the_next_one_has_all_keys_and_nothing_else(dkim, run, killed, moments):
    lines = moments(lambda: run(COM), dkim.directory.parent)
    assert len(lines) > 5
    shutil.rmtree(dkim.directory)
    for line in lines:
        assert killed(lambda: run(COM), line)
        result = run(COM)
        assert "failed" not in result, result
        assert dkim.names() == ["example.com/mx1.pem"], line
        assert {stat.S_IMODE(path.stat().st_mode) for path in (dkim.directory, dkim.directory / COM)} == {0o750}
        shutil.rmtree(dkim.directory)


def test_a_key_is_never_where_others_can_open_it(dkim, run, exposed):
    dkim.algorithm = "rsa"
    assert not exposed(lambda: run(COM), dkim.directory.parent, b"PRIVATE KEY", others=0o007)


def test_one_of_two_runs_at_once_makes_the_key(dkim, run, at_once):
    results = at_once(lambda: run(COM))
    assert sorted(result["changed"] for result in results) == [False, True]
    assert results[0]["domains"] == results[1]["domains"]
