# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/learn.yml teaches what is there: directories, mboxes and Maildirs, here and on the gateway, each message once."""

import json
import mailbox

import pytest
from _network import gateway, message
from _playbook import run

LEARN = "antispam.gateway.learn"


def learn(*corpora, check=False):
    fields = ("path", "class", "remote_src")
    return run(*(["--check"] if check else []), playbook=LEARN, variables={"gateway_bayes_corpora": [dict(zip(fields, each)) for each in corpora]})


def counts():
    known = json.loads(gateway().check_output("gateway-bayes --json status"))
    return known["spam"], known["ham"]


@pytest.fixture(name="nothing_learned", autouse=True)
def _nothing_learned(network):
    gateway().check_output("gateway-bayes reset")
    yield
    gateway().check_output("gateway-bayes reset")


def write(directory, count, word):
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / f"{number:04}.eml").write_bytes(bytes(message(f"{word} {number}\n")))
    return str(directory)


def test_a_directory_is_learned_with_progress_and_only_once(tmp_path):
    spam, ham = write(tmp_path / "spam", 620, "offer"), write(tmp_path / "kept" / "ham", 3, "minutes")
    before = learn((spam, "spam"), (ham, "ham"), check=True)
    assert "623 messages would be learned, 0 known before, 0 that cannot be" in before.said, before
    assert counts() == (0, 0)
    first = learn((spam, "spam"), (ham, "ham"))
    assert first.rc == 0, first
    assert f"mx1.example.com: {spam}: 500 of 620 messages of spam, 500 learned in this run" in first.said
    assert f"{spam}: 620 of 620 messages of spam, 620 learned in this run" in first.said
    assert counts() == (620, 3)
    again = learn((spam, "spam"), (ham, "ham"))
    assert "0 messages learned, 623 known before" in again.said and again.changed == [], again


def test_an_mbox_and_a_maildir_and_what_is_on_the_gateway(tmp_path):
    box = mailbox.mbox(tmp_path / "archive.mbox")
    for number in range(3):
        box.add(mailbox.mboxMessage(bytes(message(f"minutes {number}\n"))))
    box.close()
    directory = mailbox.Maildir(tmp_path / "Maildir")
    directory.add(bytes(message("offer in a Maildir\n")))
    gateway().check_output("mkdir -m 700 /run/kept && printf 'Subject: kept\\n\\nan offer\\n' >/run/kept/one && printf '' >/run/kept/two")
    try:
        done = learn((str(tmp_path / "archive.mbox"), "ham"), (str(tmp_path / "Maildir"), "spam"), ("/run/kept", "spam", True))
    finally:
        gateway().check_output("rm -r /run/kept")
    assert done.rc == 0, done
    assert "/run/kept/two: it is empty" in done.said
    assert counts() == (2, 3)


def test_a_message_of_both_classes_is_named_and_nothing_is_learned(tmp_path):
    spam, ham = write(tmp_path / "spam", 2, "offer"), write(tmp_path / "ham", 2, "minutes")
    same = (tmp_path / "spam" / "0001.eml").read_bytes()
    (tmp_path / "ham" / "0000.eml").write_bytes(same)
    done = learn((spam, "spam"), (ham, "ham"))
    assert done.rc != 0
    assert f"1 messages are in corpora of spam and of ham, remove each from one of them: {spam}/0001.eml is {ham}/0000.eml; nothing was learned" in done.said
    assert counts() == (0, 0)


@pytest.mark.parametrize("remote", [False, True], ids=["here", "on the gateway"])
def test_a_place_without_a_message_is_an_error(tmp_path, remote):
    done = learn((str(tmp_path / "nowhere"), "spam", remote))
    assert done.rc != 0
    assert "nowhere: No such file or directory; name a file, an mbox, a Maildir or a directory of messages" in done.said


def test_a_store_that_is_down_is_named(tmp_path):
    spam = write(tmp_path / "spam", 2, "offer")
    gateway().check_output("systemctl stop redis-server")
    try:
        done = learn((spam, "spam"))
    finally:
        gateway().check_output("systemctl start redis-server")
    assert done.rc != 0
    assert "see that redis-server.service runs, then try again" in done.said
