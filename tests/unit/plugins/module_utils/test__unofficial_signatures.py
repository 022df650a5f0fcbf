# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import configparser
import json
import pathlib
import socket
import subprocess
import threading

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _unofficial_signatures as signatures

OWN = {"name": "own", "server_url": "http://s.example.org/sigs/", "files": ["a.ndb", "b.hdb"]}
# What fangfrisch 1.9 has by itself, in part.
KNOWN = """[DEFAULT]
enabled = no
integrity_check = sha256

[interserver]
prefix = http://sigs.interserver.net/
!url_shell_hdb = ${prefix}shell.hdb
url_shell_ldb = ${prefix}shell.ldb
filename_shell_ldb = interservershell.ldb
url_topline = ${prefix}topline.db

[securiteinfo]
customer_id = you_forgot_to_configure_customer_id
prefix = https://www.securiteinfo.com/get/signatures/${customer_id}/
url_android = ${prefix}securiteinfoandroid.hdb

[sanesecurity]

[malwarepatrol]
product = 8
receipt = you_forgot_to_configure_receipt
prefix = https://lists.malwarepatrol.net/cgi/getfile?product=${product}&receipt=${receipt}&list=
url_clamav_basic = ${prefix}clamav_basic
filename_clamav_basic = malwarepatrol.db

[urlhaus]
url_urlhaus = https://urlhaus.abuse.ch/downloads/urlhaus.ndb
"""
ID = "0123456789abcdef"


class Host:
    """A gateway. `served` is what fangfrisch would fetch, {file: content}; a content that begins with 'bad' ClamAV cannot load."""

    def __init__(self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.databases = path / "state", path / "databases"
        for directory in (self.state, self.databases):
            directory.mkdir()
        (self.databases / "daily.cvd").write_text("official")
        self.served: dict[str, str] = {}
        self.said = ""
        self.status = 0
        self.calls: list[tuple[str, ...]] = []
        self.reloads = 0
        monkeypatch.setattr(signatures, "fangfrisch", self.fangfrisch)
        monkeypatch.setattr(signatures, "try_out", self.try_out)
        monkeypatch.setattr(signatures, "reload", self.reload)

    def fangfrisch(self, *words, seconds=60):
        del seconds
        self.calls.append(words)
        parser = configparser.ConfigParser(interpolation=configparser.ExtendedInterpolation())
        parser.read_string(KNOWN)
        conf = pathlib.Path(words[1]) if "--conf" in words else None
        if conf:
            parser.read_string(conf.read_text())
        if words[-1] == "dumpconf":
            path = self.state.parent / "dump"
            with path.open("w") as file:
                parser.write(file)
            return subprocess.CompletedProcess(words, 0, path.read_text(), "")
        assert conf
        if words[-1] == "initdb":
            (conf.parent / "fangfrisch.sqlite").touch()
        elif not self.status:
            (name,) = [section for section in parser.sections() if parser.getboolean(section, "enabled")]
            directory = pathlib.Path(parser.get(name, "local_directory"))
            directory.mkdir(exist_ok=True)
            for item in signatures.items(name, parser):
                if item.name in self.served:
                    (directory / item.name).write_text(self.served[item.name])
        return subprocess.CompletedProcess(words, self.status, "", self.said)

    @staticmethod
    def try_out(path, _name):
        if path.read_text().startswith("bad"):
            raise signatures.SignatureError("ClamAV cannot load it: Malformed database")

    def reload(self, _address):
        self.reloads += 1
        return ""

    def work(self, *providers, **options):
        settings = {"providers": list(providers or [OWN]), "databases": str(self.databases)}
        return signatures.work(signatures.Signatures(settings, self.state), "socket", **options)

    def placed(self):
        return {path.name: path.read_text() for path in self.databases.iterdir() if path.name != "daily.cvd"}


@pytest.fixture(name="host")
def _host(tmp_path, monkeypatch):
    host = Host(tmp_path, monkeypatch)
    yield host
    assert (host.databases / "daily.cvd").read_text() == "official"


def parsed(**provider):
    parser = configparser.ConfigParser(interpolation=configparser.ExtendedInterpolation())
    parser.read_string(KNOWN)
    parser.read_string(signatures.configuration(provider, pathlib.Path("/state/x")))
    return parser


# --- What fangfrisch is told ------------------------------------------------------------------------------------------


def test_a_provider_of_the_site_is_fetched_with_checksums_unless_it_has_none():
    parser = parsed(**OWN)
    assert signatures.items("own", parser) == [("a.ndb", "http://s.example.org/sigs/a.ndb"), ("b.hdb", "http://s.example.org/sigs/b.hdb")]
    assert dict(parser["own"])["integrity_check"] == "sha256"
    assert parser["own"]["interval"] == "1h"
    assert parsed(**OWN, checksum="none")["own"]["integrity_check"] == "disabled"
    assert parsed(**OWN, checksum="sha512", max_size="5MB", interval="10m")["own"]["max_size"] == "5MB"


def test_a_provider_that_fangfrisch_knows_has_its_own_files_with_those_added_and_without_those_left_out():
    parser = parsed(name="interserver", add=["shell_hdb"], leave_out=["topline"])
    assert {item.name: item.url for item in signatures.items("interserver", parser)} == {
        "interservershell.ldb": "http://sigs.interserver.net/shell.ldb",
        "shell.hdb": "http://sigs.interserver.net/shell.hdb",
    }
    elsewhere = parsed(name="interserver", server_url="http://s.example.org/mirror")
    assert [item.url for item in signatures.items("interserver", elsewhere)] == [f"http://s.example.org/mirror/{name}" for name in ("shell.ldb", "topline.db")]


def test_accounts_are_part_of_the_address_whatever_characters_they_have():
    (item,) = signatures.items("securiteinfo", parsed(name="securiteinfo", customer_id="a$b"))
    assert item == ("securiteinfoandroid.hdb", "https://www.securiteinfo.com/get/signatures/a$b/securiteinfoandroid.hdb")
    (item,) = signatures.items("malwarepatrol", parsed(name="malwarepatrol", receipt="f1", product="15"))
    assert item == ("malwarepatrol.db", "https://lists.malwarepatrol.net/cgi/getfile?product=15&receipt=f1&list=clamav_basic")


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"name": "interserver", "add": ["shell_hdb"], "leave_out": ["topline"]}, None),
        (OWN, None),
        ({"name": "interserver", "add": ["shell"]}, "interserver: add: fangfrisch does not know shell; it knows shell_hdb"),
        ({"name": "interserver", "leave_out": ["junk"]}, "interserver: leave_out: fangfrisch does not know junk; it knows shell_ldb, topline"),
        ({"name": "urlhaus", "add": ["x"]}, "urlhaus: add: fangfrisch does not know x; it knows none"),
    ],
)
@pytest.mark.usefixtures("host")
def test_files_that_fangfrisch_does_not_know_are_named(provider, said):
    assert signatures.mistakes([provider]) == ([said] if said else [])


# --- What fangfrisch says ---------------------------------------------------------------------------------------------


ITEMS = [signatures.Item("a.ndb", "http://s.example.org/key/a.ndb"), signatures.Item("a.ndb.more", "http://s.example.org/key/a.ndb.more")]


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("", []),
        ("WARNING: http://s.example.org/key/a.ndb content length unknown\n", []),
        ("a line of Python\n", []),
        (
            "ERROR: http://s.example.org/key/a.ndb.sha256 download failed: 404 Not Found\n",
            [("a.ndb", "it cannot be fetched: a.ndb.sha256 download failed: 404 Not Found")],
        ),
        (
            "WARNING: http://s.example.org/key/a.ndb.more sha256 digest mismatch (expected 12\n, got 34)\n",
            [("a.ndb.more", "it is not what its checksum says: a.ndb.more sha256 digest mismatch (expected 12 , got 34)")],
        ),
        (
            "ERROR: HTTPConnectionPool(host='s.example.org', port=80): Max retries exceeded with url: /key/a.ndb.sha256 (Caused by NewConnectionError("
            "'<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))\n"
            "Traceback (most recent call last):\n  File x\nERROR: http://s.example.org/key/a.ndb size exceeds defined limit (9/3 bytes)\n",
            [
                ("a.ndb", "its server cannot be reached: Failed to establish a new connection: [Errno 111] Connection refused"),
                ("a.ndb", "it is larger than max_size: a.ndb size exceeds defined limit (9/3 bytes)"),
            ],
        ),
        ("CRITICAL: the database is of another version\n", [("", "the database is of another version")]),
    ],
)
def test_what_fangfrisch_complains_of_is_told_of_the_file(output, found):
    assert signatures.complaints(output, ITEMS) == found


def test_nobody_sees_what_lets_the_site_in():
    providers = [{"name": "securiteinfo", "customer_id": ID}, {"name": "own", "server_url": f"http://s.example.org/{ID[::-1]}/"}]
    text = signatures.mask(f"https://www.securiteinfo.com/get/{ID}/a.hdb and http://s.example.org/{ID[::-1]}/a.ndb", providers)
    assert ID not in text and ID[::-1] not in text
    assert text == "https://www.securiteinfo.com/get/(its customer_id)/a.hdb and (its server)/a.ndb"


# --- What clamd gets --------------------------------------------------------------------------------------------------


def test_what_is_new_is_placed_and_clamd_is_told_once(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    assert host.work() == (["own: a.ndb: new signatures", "own: b.hdb: new signatures"], [])
    assert host.placed() == {"unofficial-own-a.ndb": "one", "unofficial-own-b.hdb": "two"}
    assert {path.stat().st_mode & 0o777 for path in host.databases.glob("unofficial-*")} == {0o644}
    assert host.reloads == 1
    assert host.work() == ([], [])
    assert host.reloads == 1, "nothing is new"


def test_what_somebody_removed_or_changed_is_placed_again(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    (host.databases / "unofficial-own-a.ndb").unlink()
    (host.databases / "unofficial-own-b.hdb").write_text("else")
    assert len(host.work()[0]) == 2
    assert host.placed() == {"unofficial-own-a.ndb": "one", "unofficial-own-b.hdb": "two"}


def test_a_file_that_clamav_cannot_load_changes_nothing_and_does_not_hold_up_others(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    host.served = {"a.ndb": "bad", "b.hdb": "three"}
    for new in (["own: b.hdb: new signatures"], []):
        assert host.work() == (new, ["own: a.ndb: ClamAV cannot load it: Malformed database; its old signatures stay in use"])
    assert host.placed() == {"unofficial-own-a.ndb": "one", "unofficial-own-b.hdb": "three"}
    assert host.reloads == 2


def test_a_first_file_that_is_bad_is_said_to_count_for_nothing(host):
    host.served = {"a.ndb": "bad", "b.hdb": "two"}
    assert host.work()[1] == ["own: a.ndb: ClamAV cannot load it: Malformed database; no signature of it is in use"]
    assert host.placed() == {"unofficial-own-b.hdb": "two"}


def test_what_cannot_be_fetched_stays_and_is_named(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    host.said = "ERROR: http://s.example.org/sigs/a.ndb.sha256 download failed: 404 Not Found\n"
    assert host.work() == ([], ["own: a.ndb: it cannot be fetched: a.ndb.sha256 download failed: 404 Not Found; its old signatures stay in use"])
    assert len(host.placed()) == 2


def test_what_fangfrisch_did_not_fetch_without_a_word_is_named(host):
    host.served = {"a.ndb": "one"}
    assert host.work() == (["own: a.ndb: new signatures"], ["own: b.hdb: it was not fetched; no signature of it is in use"])


def test_a_file_that_is_no_text_of_signatures_is_not_taken(host):
    host.served = {"evil.cvd": "x"}
    provider = {**OWN, "files": ["evil.cvd"]}
    assert host.work(provider) == ([], ["own: evil.cvd: this is no kind of signatures that is taken; no signature of it is in use"])
    assert host.placed() == {}


def test_an_error_of_fangfrisch_is_one_of_its_provider_and_it_begins_anew(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    host.status, host.said = 1, "Traceback\n  File x\nDatabaseError: file is not a database\n"
    assert host.work() == ([], ["own: fangfrisch ended in an error: DatabaseError: file is not a database; its old signatures stay in use"])
    host.status, host.said = 0, ""
    host.calls.clear()
    assert host.work() == ([], [])
    assert [words[-1] for words in host.calls if words[-1] != "dumpconf"] == ["initdb", "refresh"]


@pytest.mark.parametrize(("file", "content"), [("under_way", ""), ("fangfrisch.conf", "other settings")])
def test_a_run_that_was_killed_is_done_anew_and_other_settings_as_well(host, file, content):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    (host.state / "own" / file).write_text(content)
    (host.state / "own" / "fetched" / "a.ndb").write_text("on")
    host.calls.clear()
    assert host.work() == ([], [])
    assert "initdb" in [words[-1] for words in host.calls]
    assert host.placed()["unofficial-own-a.ndb"] == "one"
    assert not (host.state / "own" / "under_way").exists()


def test_force_is_passed_on(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work(force=True)
    assert ("--force", "refresh") in [words[-2:] for words in host.calls]


def test_what_the_site_does_not_have_any_more_leaves_clamd_and_nothing_is_asked(host):
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    host.work()
    (host.databases / "unofficial-new-x1y2z3").write_text("what a killed run has left")
    host.calls.clear()
    new, failed = host.work({**OWN, "files": ["a.ndb"]}, tidy=True)
    assert (new, failed) == (["unofficial-new-x1y2z3 was removed", "unofficial-own-b.hdb was removed"], [])
    assert host.placed() == {"unofficial-own-a.ndb": "one"}
    assert {words[-1] for words in host.calls} == {"dumpconf"}
    assert host.reloads == 2
    new, failed = signatures.work(signatures.Signatures({"providers": [], "databases": str(host.databases)}, host.state), "socket", tidy=True)
    assert (new, failed) == (["unofficial-own-a.ndb was removed"], [])
    assert host.placed() == {} and list(host.state.iterdir()) == []


def test_a_clamd_that_is_down_is_no_failure(host, monkeypatch):
    monkeypatch.setattr(signatures, "reload", lambda _address: "No such file or directory")
    host.served = {"a.ndb": "one", "b.hdb": "two"}
    new, failed = host.work()
    assert failed == []
    assert new[-1] == "clamd was not told (No such file or directory); it loads them when it starts"


@pytest.mark.parametrize(("answer", "said"), [(b"RELOADING\n", ""), (b"UNKNOWN COMMAND\n", "it answers 'UNKNOWN COMMAND'")])
def test_clamd_is_told_by_its_socket(tmp_path, monkeypatch, answer, said):
    monkeypatch.chdir(tmp_path)
    heard = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("clamd")
        server.listen()

        def serve():
            connection, _address = server.accept()
            with connection:
                heard.append(connection.recv(100))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert signatures.reload("clamd") == said
        thread.join()
    assert heard == [b"nRELOAD\n"]
    assert "No such file" in signatures.reload("nothing")


# --- The trial --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "output", "why"),
    [
        (1, "{mail}/sample: Gateway.Trial.UNOFFICIAL FOUND\n", None),
        (2, "LibClamAV Error: Problem parsing database at line 1\nERROR: Malformed database\n", "ClamAV cannot load it: Problem parsing database at line 1"),
        # clamscan goes on without a rule that it cannot read.
        (1, "LibClamAV Error: yyerror(): x.yara line 1\n{mail}/sample: Gateway.Trial.UNOFFICIAL FOUND\n", "ClamAV cannot load it: yyerror"),
        (0, "", "ClamAV does not find a sample any more beside it"),
        (1, "{mail}/sample: X FOUND\n{mail}/letter: Too.Short.UNOFFICIAL FOUND\n", "it finds Too.Short.UNOFFICIAL in an ordinary message"),
        (-9, "", "ClamAV cannot load it: nothing was said"),
    ],
)
def test_a_file_is_tried_beside_a_sample_and_on_ordinary_mail(tmp_path, monkeypatch, status, output, why):
    (tmp_path / "x.ndb").write_text("content")

    def run(command, **_options):
        database, mail = pathlib.Path(command[-2].partition("=")[2]), pathlib.Path(command[-1])
        assert (database / "unofficial-x.ndb").read_text() == "content"
        assert bytes.fromhex((database / "trial.ndb").read_text().strip().rpartition(":")[2]) in (mail / "sample").read_bytes()
        assert len(list(mail.iterdir())) == 5
        return subprocess.CompletedProcess(command, status, output.replace("{mail}", str(mail)), "")

    monkeypatch.setattr(signatures.subprocess, "run", run)
    if why is None:
        signatures.try_out(tmp_path / "x.ndb", "x.ndb")
        return
    with pytest.raises(signatures.SignatureError, match=why):
        signatures.try_out(tmp_path / "x.ndb", "x.ndb")


def test_the_sample_is_no_ordinary_message():
    assert all(signatures.SAMPLE.strip() not in content for content in signatures.ORDINARY.values())


def test_what_is_said_has_no_secret_and_failure_has_a_status(host, tmp_path, monkeypatch, capsys):
    path = tmp_path / "settings.json"
    provider = {"name": "securiteinfo", "customer_id": ID}
    path.write_text(json.dumps({"providers": [provider], "databases": str(host.databases), "clamd_socket": "socket"}))
    host.said = f"ERROR: https://www.securiteinfo.com/get/signatures/{ID}/else.hdb download failed: 403 Forbidden\n"
    monkeypatch.setattr(signatures, "STATE", host.state)
    monkeypatch.setattr(signatures.Signatures.__init__, "__defaults__", (host.state,))
    monkeypatch.setattr(signatures.os, "geteuid", lambda: 117)
    monkeypatch.setattr(signatures.sys, "argv", ["gateway-unofficial-signatures", f"--settings={path}"])
    assert signatures.main() == 1
    said = capsys.readouterr()
    assert ID not in said.out + said.err
    assert "securiteinfo: it cannot be fetched: https://www.securiteinfo.com/get/signatures/(its customer_id)/else.hdb download failed" in said.err
    monkeypatch.setattr(signatures.sys, "argv", ["gateway-unofficial-signatures", f"--settings={path}", "--surplus"])
    (host.databases / "unofficial-old-a.ndb").touch()
    assert signatures.main() == 0
    assert capsys.readouterr().out == "unofficial-old-a.ndb\n"


@pytest.mark.parametrize(("words", "stopped"), [(["--tidy"], True), (["--force"], False), ([], False)])
def test_root_does_nothing_itself_and_a_run_of_the_playbook_waits_for_no_server(monkeypatch, words, stopped):
    done = []

    class Replaced(Exception):
        pass

    def execvp(program, command):
        done.append(command)
        raise Replaced(program)

    monkeypatch.setattr(signatures.os, "geteuid", lambda: 0)
    monkeypatch.setattr(signatures.os, "chdir", lambda _path: None)
    monkeypatch.setattr(signatures.os, "execvp", execvp)
    monkeypatch.setattr(signatures.subprocess, "run", lambda command, **_options: done.append(command))
    monkeypatch.setattr(signatures.sys, "argv", ["/usr/local/sbin/gateway-unofficial-signatures", *words])
    with pytest.raises(Replaced, match="runuser"):
        signatures.main()
    assert done[-1] == ["runuser", "-u", "clamav", "--", signatures.sys.executable, "/usr/local/sbin/gateway-unofficial-signatures", *words]
    assert done[:-1] == ([["systemctl", "stop", "gateway-unofficial-signatures.service"]] if stopped else [])
