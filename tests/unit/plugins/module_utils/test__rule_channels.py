# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import sys

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _rule_channels

ONE, OTHER = "rules.example.org", "more.example.org"


@pytest.fixture(name="host")
def _host(tmp_path, monkeypatch):
    """A gateway whose channels are {channel: rules}; what is not there cannot be fetched. `host.faults` is what SpamAssassin says."""

    class Host:
        state = tmp_path / "state"
        published: dict[str, str] = {}
        faults = ""
        looked_at: dict[str, pathlib.Path] = {}

        def channels(self, **keys):
            return _rule_channels.Channels({ONE: "key", **{name.replace("_", "."): key for name, key in keys.items()}}, self.state)

        def rules(self, channel=ONE):
            return _rule_channels.rules(self.state / _rule_channels.file_name(channel), channel).read_text()

        def work(self, missing=False, verify=False, **keys):
            return _rule_channels.work(self.channels(**keys), missing=missing, verify=verify)

    host = Host()
    host.published = {}
    host.state.mkdir()

    def fetch(channel, _key, target, _scratch):
        if channel not in host.published:
            raise _rule_channels.ChannelError("it is not signed")
        path = _rule_channels.rules(target, channel)
        if path.exists() and path.read_text() == host.published[channel]:
            return False
        path.write_text(host.published[channel])
        return True

    def lint(channels, _scratch):
        host.looked_at = dict(channels)
        return host.faults

    monkeypatch.setattr(_rule_channels, "fetch", fetch)
    monkeypatch.setattr(_rule_channels, "lint", lint)
    monkeypatch.setattr(_rule_channels, "give_to_user", lambda _path: None)
    monkeypatch.setattr(_rule_channels.tempfile, "tempdir", str(tmp_path))
    return host


def everything(directory):
    return sorted((str(path), path.read_bytes() if path.is_file() else b"") for path in directory.rglob("*"))


def test_files_are_called_as_sa_update_calls_them():
    assert _rule_channels.file_name("kam.sa-channels.mcgrail.com") == "kam_sa-channels_mcgrail_com"


def test_new_rules_take_the_place_of_old_ones_and_leave_nothing_behind(host):
    host.published[ONE] = "first"
    assert host.work() == ([ONE], [])
    assert host.rules() == "first"
    assert host.work() == ([], [])
    host.published[ONE] = "second"
    assert host.work() == ([ONE], [])
    assert host.rules() == "second"
    assert len(list(host.state.iterdir())) == 2
    assert (host.state / "rules_example_org").resolve().stat().st_mode & 0o777 == 0o755


def test_a_channel_that_fails_keeps_its_rules_and_does_not_hold_up_the_others(host):
    host.published[ONE] = "first"
    host.work()
    before = everything(host.state)
    host.published = {OTHER: "more"}
    assert host.work(more_example_org="other key") == ([OTHER], [f"{ONE}: it is not signed; its old rules stay in use"])
    assert [entry for entry in everything(host.state) if "more_" not in entry[0]] == before
    assert host.rules(OTHER) == "more"


def test_rules_with_a_fault_are_not_put_in_place(host):
    host.published[ONE] = "first"
    host.faults = "unclosed"
    (_new, (said,)) = host.work()
    assert said == f"{ONE}: SpamAssassin finds faults in it, beside the other rules; spamassassin says: unclosed; no rule of it is used"
    assert list(host.state.iterdir()) == []


def test_rules_are_looked_at_beside_those_of_other_channels(host):
    host.published = {ONE: "first", OTHER: "more"}
    host.work(more_example_org="other key")
    host.published[ONE] = "second"
    host.work(more_example_org="other key")
    assert set(host.looked_at) == {ONE, OTHER}
    assert host.looked_at[OTHER] == host.state / "more_example_org"
    assert host.looked_at[ONE] != host.state / "rules_example_org"


def test_only_what_is_missing_is_fetched_where_that_is_asked_for(host):
    host.published = {ONE: "first"}
    host.work()
    host.published = {ONE: "second", OTHER: "more"}
    assert host.work(missing=True, more_example_org="other key") == ([OTHER], [])
    assert host.rules() == "first"


def test_rules_that_another_key_has_signed_are_fetched_again(host):
    host.published[ONE] = "first"
    host.work()
    channels = _rule_channels.Channels({ONE: "new key"}, host.state)
    assert _rule_channels.work(channels, missing=True, verify=False) == ([ONE], [])
    assert _rule_channels.work(channels, missing=True, verify=False) == ([], [])


def test_to_verify_changes_nothing(host):
    host.published[ONE] = "first"
    assert host.work(verify=True) == ([ONE], [])
    assert list(host.state.iterdir()) == []
    host.published = {}
    assert host.work(verify=True)[1] == [f"{ONE}: it is not signed; no rule of it is used"]
    assert list(host.state.parent.iterdir()) == [host.state]


def test_what_is_not_wanted_any_more_goes(host):
    host.published = {ONE: "first", OTHER: "more"}
    host.work(more_example_org="other key")
    (host.state / ".rules_example_org.killed").mkdir()
    (host.state / ".lock").touch()
    host.channels().tidy()
    assert sorted(path.name for path in host.state.iterdir() if path.is_symlink()) == ["rules_example_org"]
    assert len(list(host.state.iterdir())) == 3
    assert host.rules() == "first"


@pytest.mark.parametrize(
    ("status", "said", "why"),
    [
        (4, "channel 'x': could not find working mirror, channel failed", "no mirror has an archive with a signature"),
        (4, "error: GPG validation failed!", "it is not signed with the key of the channel; sa-update says: error: GPG validation failed!"),
        (4, "channel 'x': lint check of update failed, channel failed", "SpamAssassin finds faults in it"),
        (4, "channel 'x': no 'mirrors.x' record found, channel failed", "the DNS knows no such channel"),
        (77, "something else", "it cannot be updated; sa-update says: something else"),
    ],
)
def test_what_sa_update_says_is_explained(tmp_path, monkeypatch, status, said, why):
    done = _rule_channels.subprocess.CompletedProcess([], status, "", said)
    monkeypatch.setattr(_rule_channels, "keyring", lambda _key, scratch: (scratch, ["F" * 40]))
    monkeypatch.setattr(_rule_channels, "give_to_user", lambda _path: None)
    monkeypatch.setattr(_rule_channels, "as_user", lambda _command, _scratch: done)
    with pytest.raises(_rule_channels.ChannelError, match=f"^{why.split(' (')[0]}"):
        _rule_channels.fetch(ONE, "key", tmp_path, tmp_path)


@pytest.mark.parametrize(("status", "new"), [(0, True), (1, False)])
def test_whether_there_is_something_new(tmp_path, monkeypatch, status, new):
    commands = []

    def as_user(command, _scratch):
        commands.append(command)
        return _rule_channels.subprocess.CompletedProcess(command, status, "", "")

    monkeypatch.setattr(_rule_channels, "keyring", lambda _key, scratch: (scratch, ["A" * 40, "B" * 40]))
    monkeypatch.setattr(_rule_channels, "give_to_user", lambda _path: None)
    monkeypatch.setattr(_rule_channels, "as_user", as_user)
    assert _rule_channels.fetch(ONE, "key", tmp_path, tmp_path) is new
    assert commands[0][-4:] == ["--gpgkey", "A" * 40, "--gpgkey", "B" * 40]
    assert "--nogpg" not in commands[0] and "--allowplugins" not in commands[0]


def test_a_program_without_channels_does_nothing(tmp_path, monkeypatch, capsys):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"channels": []}))
    monkeypatch.setattr(sys, "argv", ["gateway-rule-channels", f"--settings={settings}", "--verify", "--missing"])
    assert _rule_channels.main() == 0
    assert capsys.readouterr() == ("", "")
    assert os.listdir(tmp_path) == ["settings.json"]
