# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipients and sender scores from files, HTTP and a directory: what arrives on the gateway, and what nothing arrives of."""

import json
import random
import re
import subprocess

import pytest
from _faults import main_process
from _network import ALICE, BOB, CHECKOUT, GATEWAY, STRANGER, gateway, inside, ssh, wait_until
from _playbook import fingerprint, run

RECIPIENTS = "antispam.gateway.recipients"
TABLE = "/etc/postfix/relay_recipients"
WEB = "https://198.51.100.25:8443"
DIRECTORY = {
    "ldap_uri": "ldap://198.51.100.25",
    "start_tls": True,
    "bind_dn": "cn=reader,dc=example,dc=com",
    "password": "test",
    "base": "ou=people,dc=example,dc=com",
    "domains": ["example.com"],
}


@pytest.fixture(name="restored", scope="module", autouse=True)
def _restored(network):
    """The gateway is left with what the inventory says."""
    yield
    assert run(playbook=RECIPIENTS, variables={"gateway_recipients_allow_removals": True}).rc == 0


@pytest.fixture(name="authority", scope="module")
def _authority(network, tmp_path_factory):
    """The certificate of the authority that the inside network trusts."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_text(inside().check_output("cat /srv/tls/ca.pem"))
    return str(path)


@pytest.fixture(name="export")
def _export(tmp_path):
    """A CSV file that somebody exports: export(addresses) writes it and returns the sources."""

    def write(addresses, header="name,mail", **options):
        path = tmp_path / "users.csv"
        path.write_text("\n".join([header, *(f"N,{address}" for address in addresses)]) + "\n", encoding="utf-8")
        return [{"path": str(path), "column": "mail", **options}]

    return write


def update(sources, *options, **variables):
    return run(*options, playbook=RECIPIENTS, variables={"gateway_recipient_sources": sources, **variables})


def people(count, first=0):
    return [f"person{number}@example.com" for number in range(first, first + count)]


def answer(address):
    return STRANGER.converse(recipients=[address], stop_after="rcpt").answer


def table():
    return set(gateway().check_output(f"postmap -s lmdb:{TABLE} | cut -f 1").split())


def preview(result):
    return sorted(set(re.findall(r"\+\d+ -\d+ in [a-z.]+", result.output)))


def unchanged(result, words):
    """The run failed with these words, and the table is what it was."""
    assert result.rc != 0, result
    assert result.changed == [], result
    assert words in result.said, result


# --- What arrives -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("S7", "D14")
def test_a_new_recipient_is_accepted_and_a_gone_one_refused_without_a_reload(export):
    assert update(export(["new@example.com", "gone@example.com"])).rc == 0
    assert [answer(address) for address in ("new@example.com", "gone@example.com", ALICE)] == ["250 2.1.5"] * 3
    postfix, amavis = main_process("postfix"), main_process("amavis")
    result = update(export(["new@example.com", "newer@example.com"]))
    assert preview(result) == ["+1 -1 in example.com"]
    assert answer("gone@example.com") == "550 5.1.1"
    assert answer("newer@example.com") == "250 2.1.5"
    assert (main_process("postfix"), main_process("amavis")) == (postfix, amavis)


@pytest.mark.holds("D14")
def test_check_mode_says_what_a_real_run_then_does(export):
    chance = random.Random(11)
    addresses = set(people(40))
    assert update(export(sorted(addresses)), gateway_recipients_allow_removals=True).rc == 0
    for dummy in range(3):
        addresses ^= set(chance.sample(people(60), 7))
        before = fingerprint()
        said = update(export(sorted(addresses)), "--check", "--diff", gateway_recipients_allow_removals=True)
        assert said.rc == 0, said
        assert fingerprint() == before
        done = update(export(sorted(addresses)), "--diff", gateway_recipients_allow_removals=True)
        assert preview(said) == preview(done) != []
        assert said.changed == done.changed != []
        assert addresses <= table()
        again = update(export(sorted(addresses)))
        assert (again.rc, again.changed) == (0, [])


@pytest.mark.holds("D14")
def test_a_table_that_was_changed_by_hand_is_put_back(export):
    sources = export(people(3))
    update(sources, gateway_recipients_allow_removals=True)
    held = table()
    gateway().check_output(f"postmap -d person1@example.com lmdb:{TABLE}")
    assert answer("person1@example.com") == "550 5.1.1"
    result = update(sources)
    assert result.changed == ["Keep the recipients as the inventory and its sources say"], result
    assert table() == held


def test_a_web_server_is_a_source(authority):
    source = {"url": f"{WEB}/users.json", "query": "users[?enabled].mail", "username": "reader", "password": "test", "ca_path": authority}
    assert update([source, {"url": f"{WEB}/open/users.csv", "column": "mail", "ca_path": authority}]).rc == 0
    assert answer(BOB) == "250 2.1.5"


@pytest.mark.holds("D14")
def test_a_directory_of_thousands_is_read_page_by_page(authority):
    said = update([{**DIRECTORY, "ca_path": authority, "page_size": 200}], gateway_recipients_allow_removals=True)
    assert said.rc == 0, said
    assert {f"user{number:04}@example.com" for number in range(1, 3001)} <= table()
    active = "(&(mail=*)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))"
    everything = {**DIRECTORY, "ca_path": authority, "filter": active, "attributes": ["mail", "proxyAddresses"]}
    said = update([everything], gateway_recipients_on_invalid="skip")
    assert said.rc == 0, said
    assert " recipients left out: gateway_recipient_sources[0] (ldap://198.51.100.25) entry " in said.said
    held = table()
    assert len({address for address in held if address.startswith("user")}) == 2970
    assert all(address.endswith(("@example.com", "@example.net", "@staff.example.com")) for address in held)


def test_sender_scores_from_a_file_are_in_use_when_the_run_ends(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("sender,score\nloud@example.org,9\n", encoding="utf-8")
    sources = [{"path": str(path), "column": "sender", "value_column": "score"}]
    assert STRANGER.converse(sender="loud@example.org").answer == "250 2.0.0"
    assert update([], gateway_recipients_allow_removals=True).rc == 0
    result = run(playbook=RECIPIENTS, variables={"gateway_sender_score_sources": sources})
    assert result.changed == ["Keep the sender scores as the inventory and its sources say"], result
    assert STRANGER.converse(sender="loud@example.org").answer == "554 5.7.0"
    path.write_text("sender,score\nloud@example.org\n@example.org,2\n", encoding="utf-8")
    unchanged(run(playbook=RECIPIENTS, variables={"gateway_sender_score_sources": sources}), "scores.csv) line 2 ")
    assert STRANGER.converse(sender="loud@example.org").answer == "554 5.7.0"
    result = run(playbook=RECIPIENTS)
    assert result.changed == ["Keep the sender scores as the inventory and its sources say"], result
    assert STRANGER.converse(sender="loud@example.org").answer == "250 2.0.0"


# --- What nothing arrives of ------------------------------------------------------------------------------------------


@pytest.fixture(name="many", scope="module")
def _many(network, tmp_path_factory):
    """A gateway with a hundred recipients from a file; returns what it takes to write another file."""
    path = tmp_path_factory.mktemp("many") / "users.csv"

    def write(content):
        path.write_bytes(content)
        return [{"path": str(path), "column": "mail"}]

    whole = "name,mail\n" + "".join(f"N,{address}\n" for address in people(100))
    assert update(write(whole.encode()), gateway_recipients_allow_removals=True).rc == 0
    return write


def lines(*rows):
    return ("name,mail\n" + "".join(f"N,{row}\n" for row in rows)).encode()


BAD = {
    "an empty file": (b"", "there is no"),
    "a header and nothing else": (b"name,mail\n", "there is no address in it"),
    "another header": (b"name,address\nN,person1@example.com\n", "no column 'mail': the header has 'name', 'address'"),
    "half of the people": (lines(*people(50)), "50 of 107 addresses would go (46.7 %, at most 10 % may)"),
    "a byte order mark": (b"\xef\xbb\xbf" + lines(*people(100)), "set encoding: utf-8-sig"),
    "another encoding": (lines(*people(100)) + "N,jürgen@example.com\n".encode("latin-1"), "line 102: the byte 0xfc"),
    "UTF-16": (lines(*people(100)).decode().encode("utf-16"), "UTF-16"),
    "NUL": (lines(*people(100), "a\0b@example.com"), "line 102: there is a NUL"),
    "a space in an address": (lines(*people(100), "mallory x@example.com"), "line 102: 'mallory x@example.com' is not an address"),
    "a non-breaking space": (lines(*people(100), "mallory\u00a0@example.com"), "line 102: "),
    "a comment": (lines(*people(100), "#mallory@example.com"), "line 102: "),
    "no domain": (lines(*people(100), "mallory"), "line 102: 'mallory' is not an address: it has no @"),
    "somebody else's domain": (lines(*people(100), "mallory@example.org"), "line 102: mallory@example.org is in example.org, which is none of"),
    "a wildcard": (
        lines(*people(100), "@example.com"),
        "line 102: '@example.com' accepts every address of example.com, which a source may say only with wildcards: true",
    ),
    "a record with a field too many": (lines(*people(100), "a@example.com,b"), "line 102"),
    "a quote that is not closed": (lines(*people(100), '"a@example.com'), "line 102"),
}


@pytest.mark.holds("D14")
@pytest.mark.parametrize("what", BAD)
def test_a_bad_export_changes_nothing(many, what):
    content, words = BAD[what]
    held = table()
    unchanged(update(many(content)), words)
    assert table() == held


@pytest.mark.holds("D14")
def test_many_recipients_go_if_somebody_says_so(many):
    result = update(many(lines(*people(50))), gateway_recipients_allow_removals=True)
    assert result.rc == 0, result
    assert preview(result) == ["+0 -50 in example.com"]


REMOTE = {
    "a truncated download": ({"url": f"{WEB}/open/truncated/users.csv", "column": "mail"}, "users.csv"),
    "a page that is not there": ({"url": f"{WEB}/open/nothing.csv", "column": "mail"}, "404"),
    "an expired certificate": ({"url": "https://198.51.100.25:8444/open/users.csv", "column": "mail"}, "expired"),
    "a redirect to clear text": ({"url": f"{WEB}/open/insecure/users.csv", "column": "mail"}, "http"),
    "a query that finds no text": (
        {"url": f"{WEB}/users.json", "query": "users[].enabled", "username": "reader", "password": "test"},
        "true or false where an address is expected",
    ),
    "a wrong password": ({**DIRECTORY, "password": "hunter2-6f1ed002"}, "password"),
    "a directory that ends the search": ({**DIRECTORY, "bind_dn": "cn=limited,dc=example,dc=com"}, "did not return everything"),
    "a base with nobody in it": ({**DIRECTORY, "base": "ou=empty,dc=example,dc=com"}, "ldap://198.51.100.25"),
    "a password in clear text": ({**DIRECTORY, "start_tls": False}, "set start_tls: true"),
}


@pytest.mark.parametrize("what", REMOTE)
def test_a_source_that_fails_changes_nothing_and_tells_no_password(authority, what):
    source, words = REMOTE[what]
    held = table()
    result = update([{**source, "ca_path": authority}], "-vvv")
    unchanged(result, words)
    assert "hunter2-6f1ed002" not in result.output
    assert table() == held


# --- Another type of table --------------------------------------------------------------------------------------------


@pytest.mark.holds("D14")
def test_the_type_of_the_tables_changes_without_a_wrong_answer():
    asker = (CHECKOUT / "tests/gateway/files/asks_rcpt.py").read_text(encoding="utf-8")
    assert update([], gateway_recipients_allow_removals=True).rc == 0
    cases = json.dumps({"always": [ALICE, BOB], "never": ["nobody@example.com"], "sometimes": []})
    gateway().check_output("printf %s %s >/root/asks_rcpt.py && printf %s %s >/root/cases.json", "%s", asker, "%s", cases)
    asking = subprocess.Popen([*ssh(GATEWAY), "python3 /root/asks_rcpt.py 25 /root/cases.json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for kind, suffix in (("hash", "db"), ("lmdb", "lmdb")):
            result = run(variables={"postfix_table_type": kind})
            assert result.rc == 0, result
            assert gateway().check_output("cd /etc/postfix && ls *.db *.lmdb 2>/dev/null | sed 's/.*[.]//' | sort -u") == suffix
    finally:
        out, _err = asking.communicate()
    found = json.loads(out)
    assert found["wrong"] == []
    assert found["asked"] > 20
    # Postfix is told twice to reload, and a process may then end in the middle of a conversation.
    assert found["closed"] <= 4
    assert run().changed == []
    wait_until(lambda: answer(ALICE) == "250 2.1.5", "alice to be accepted")
