# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to a message: gateway-records keeps it, and gateway-trace tells it."""

import contextlib
import json
import shlex
import uuid

import pytest
from _faults import stopped, write
from _network import ALICE, BOB, STRANGER, TRUSTED, gateway, inside, mailboxes, message, newcomer, settle, wait_until

RECORDER = "gateway-records"
STORE = "/var/lib/gateway-records/messages.sqlite3"


def trace(*arguments):
    """The stories that gateway-trace tells."""
    done = gateway().run(shlex.join(["gateway-trace", "--json", *arguments]))
    assert done.rc in (0, 1), done.stderr
    return json.loads(done.stdout)["stories"]


def story(*arguments, until=lambda told: True):
    """The one story that answers, once it is told as far as that."""

    def told():
        found = trace(*arguments)
        return found[0] if len(found) == 1 and until(found[0]) else None

    return wait_until(told, lambda: f"one story of {arguments}, not {trace(*arguments)}")


def text(*arguments):
    return gateway().check_output(shlex.join(["gateway-trace", *arguments]))


def gone(told):
    return bool(told["gone"])


def answered(told):
    return bool(told["answer"]) and bool(told["verdict"])


def unique():
    return f"w{uuid.uuid4().hex[:12]}"


# --- What is told -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("S11", "T7")
def test_the_story_of_a_delivered_message():
    word = unique()
    sent = message(headers={"Subject": f"About {word}"})
    record = STRANGER.converse(content=sent, tls="require")
    queue_id = record.text.rpartition("queued as ")[2]
    told = story("--queue-id", queue_id, until=gone)
    assert told["connection"]["address"] == STRANGER.source_address
    assert told["connection"]["helo"] == STRANGER.helo
    assert told["connection"]["screened"]
    assert told["connection"]["tls"].startswith("TLSv1.3 ")
    assert (told["sender"], told["message_id"], told["verdict"]) == (STRANGER.sender, sent["Message-ID"].strip("<>"), "CleanTag")
    assert told["answer"].startswith("250 2.0.0 ")
    assert told["report"]["tests"]
    assert told["report"]["limits"] == {"tag2": 5, "kill": 6}
    (recipient,) = told["recipients"]
    assert recipient["address"] == ALICE
    assert recipient["state"] == "sent"
    assert recipient["deliveries"][0]["relay"].startswith("mail.inside.example.com[")
    # The same story by whatever is known of it.
    for question in (["--message-id", sent["Message-ID"]], ["--id", told["amavis_id"]], ["--subject", f"{word.upper()} about"]):
        assert story(*question, "--last", "1h") == told
    assert told in trace("--from", "Sender@EXAMPLE.org", "--to", "@example.com", "--client", STRANGER.source_address, "--since", "today")
    told_out = text("--queue-id", queue_id)
    assert "Delivered" in told_out
    assert f"queued as {queue_id}" in " ".join(told_out.split())
    assert "delivered to mail.inside.example.com[" in told_out


@pytest.mark.parametrize(("sample", "verdict", "said"), [("gtube", "Spam", "GTUBE +1000"), ("eicar", "Virus", "a virus: ")], ids=["spam", "a virus"])
def test_the_story_of_a_refusal(sample, verdict, said):
    record = STRANGER.converse(sample=sample)
    refusal_id = record.text.partition("id=")[2].split(" ")[0]
    told = story("--id", refusal_id, "--last", "10m", until=answered)
    assert (told["verdict"], told["queue_ids"], told["gone"]) == (verdict, [], None)
    assert told["answer"].startswith("554 5.7.0 Reject")
    assert [each["address"] for each in told["recipients"]] == [ALICE]
    told_out = text("--id", refusal_id, "--last", "10m")
    assert "Refused" in told_out
    assert said in told_out


def test_what_is_refused_before_data_is_a_story_too():
    nobody = f"{unique()}@example.com"
    STRANGER.converse(recipients=[nobody], stop_after="rcpt")
    told = story("--to", nobody.upper())
    assert told["kind"] == "connection"
    assert told["refused_recipients"][0]["answer"].startswith("550 5.1.1 ")
    assert told["refused_recipients"][0]["sender"] == STRANGER.sender
    assert "Refused before a message was sent" in text("--to", nobody)


def test_what_postscreen_refuses_is_a_story_too():
    client = newcomer()
    client.converse(early=True, tls="never", stop_after="rcpt")
    told = story("--client", client.source_address, until=lambda told: told["refused_recipients"])
    assert "PREGREET" in told["connection"]["screened"]
    assert told["refused_recipients"][0]["answer"].startswith("550 5.5.1 ")


def test_each_recipient_has_its_answer_and_its_end():
    nobody = f"{unique()}@example.com"
    sent = message(recipients=[BOB])
    STRANGER.converse(recipients=[BOB, nobody, "postmaster@example.com"], content=sent)
    told = story("--message-id", sent["Message-ID"], until=gone)
    assert [each["recipient"] for each in told["refused_recipients"]] == [nobody]
    ends = [(each["address"], each["original"], each["state"]) for each in told["recipients"]]
    assert ends == [(BOB, "", "sent"), (ALICE, "postmaster@example.com", "sent")]
    # Whatever its address was called, the message is found, and is one.
    assert [trace("--to", address, "--message-id", sent["Message-ID"]) for address in (BOB, "postmaster@example.com", ALICE, nobody)] == [[told]] * 4


def test_mail_of_an_account_and_of_a_trusted_host():
    sent = message(sender=ALICE, recipients=[BOB])
    login = {"port": 587, "tls": "require", "username": ALICE, "password": "alice-secret", "sender": ALICE}
    STRANGER.converse(**login, recipients=[BOB], content=sent)
    told = story("--message-id", sent["Message-ID"], until=gone)
    assert (told["connection"]["login"], told["connection"]["listener"], told["direction"]) == (ALICE, "submission", "out")
    sent = message(sender=ALICE, recipients=[BOB])
    TRUSTED.converse(recipients=[BOB], content=sent)
    told = story("--message-id", sent["Message-ID"], until=gone)
    assert (told["connection"]["login"], told["connection"]["address"], told["direction"]) == ("", TRUSTED.source_address, "out")


def test_a_message_that_waits_says_for_what_and_is_one_message_until_it_is_delivered():
    sent = message()
    inside().check_output("systemctl stop postfix")
    try:
        STRANGER.converse(content=sent)
        told = story("--message-id", sent["Message-ID"], until=lambda told: told["recipients"] and told["recipients"][0]["state"] == "deferred")
        assert "Waits in the queue" in text("--message-id", sent["Message-ID"])
        assert "onnect" in told["recipients"][0]["deliveries"][-1]["text"]
        queue_id = told["queue_ids"][0]
        gateway().check_output(f"postsuper -h {queue_id}")
        gateway().check_output(f"postsuper -H {queue_id}")
    finally:
        inside().check_output("systemctl start postfix")
    gateway().check_output("postqueue -f")
    told = story("--message-id", sent["Message-ID"], until=gone)
    assert [each["status"] for each in told["recipients"][0]["deliveries"]][-1] == "sent"
    assert [each["text"] for each in told["events"]] == ["placed on hold", "released from hold"]
    settle()


# --- What comes from mail ---------------------------------------------------------------------------------------------


def test_a_hostile_subject_is_told_and_does_nothing():
    word = unique()
    subject = f"{word} \u202egnp.exe \x1b[31mred\x07 {'long ' * 2500}"
    encoded = "=?utf-8?q?" + "".join(f"={byte:02X}" for byte in subject.encode()) + "?="
    sent = bytes(message()).replace(b"Subject: Test", b"Subject: " + encoded.encode())
    STRANGER.converse(content=sent.decode())
    told = story("--subject", word, until=answered)
    assert len(told["subject"]) <= 400
    assert "subject" in told["report"]["cut"]
    told_out = text("--subject", word)
    assert "\\u202egnp.exe \\x1b[31mred\\x07" in told_out
    assert not [each for each in told_out if not each.isprintable() and each != "\n"]
    settle()


def test_a_message_with_a_thousand_recipients_has_one_record():
    word = unique()
    recipients = [f"{word * 3}{number}@staff.example.com" for number in range(1000)]
    sent = message()
    record = TRUSTED.converse(recipients=recipients, content=sent)
    assert record.answer == "250 2.0.0"
    told = story("--message-id", sent["Message-ID"], until=lambda told: len(told["recipients"]) == 1000)
    assert told["report"]["rcpt_num"] == 1000
    assert len(trace("--to", recipients[-1])) == 1
    told_out = text("--message-id", sent["Message-ID"])
    assert " more" in told_out
    assert len(told_out.splitlines()) < 300
    gateway().check_output("postsuper -d ALL")


def test_an_address_with_quotes_is_found():
    address = f'"{unique()} x"@staff.example.com'
    sent = message()
    STRANGER.converse(recipients=[address], content=sent)
    told = story("--to", address, until=gone)
    assert told["message_id"] == sent["Message-ID"].strip("<>")


# --- The recorder is no part of the mail path -------------------------------------------------------------------------


@contextlib.contextmanager
def recorder_stopped():
    gateway().check_output(f"systemctl stop {RECORDER}")
    try:
        yield
    finally:
        gateway().check_output(f"systemctl start {RECORDER}")


def counted():
    query = "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); print(*[d.execute('select count(*) from '+t).fetchone()[0] for t in sys.argv[2:]])"
    return gateway().check_output(f'python3 -c "{query}" {STORE} message session recipient delivery refusal')


@pytest.mark.holds("S11")
def test_without_the_recorder_mail_goes_on_and_is_recorded_later():
    sent = message()
    with recorder_stopped():
        assert STRANGER.converse(content=sent).answer == "250 2.0.0"
        assert mailboxes(sent["Message-ID"]) == [ALICE]
        assert trace("--message-id", sent["Message-ID"]) == []
    assert story("--message-id", sent["Message-ID"], until=gone)["recipients"][0]["state"] == "sent"


@pytest.mark.holds("S11")
def test_a_recorder_that_is_killed_counts_nothing_twice():
    contents = [message() for _number in range(3)]
    for content in contents:
        STRANGER.converse(content=content)
        gateway().check_output(f"systemctl kill --signal=KILL {RECORDER}")
        gateway().check_output(f"systemctl restart {RECORDER}")
    for content in contents:
        told = story("--message-id", content["Message-ID"], until=gone)
        assert [each["times"] for each in told["recipients"][0]["deliveries"]] == [1]
    before = counted()
    gateway().check_output(f"systemctl restart {RECORDER}")
    assert counted() == before
    # What comes after them has been read, and they are as they were.
    last = message()
    STRANGER.converse(content=last)
    story("--message-id", last["Message-ID"], until=gone)
    for content in contents:
        told = story("--message-id", content["Message-ID"])
        assert [each["times"] for each in told["recipients"][0]["deliveries"]] == [1]


def test_a_damaged_store_is_put_aside_and_made_anew_of_the_journal():
    sent = message()
    STRANGER.converse(content=sent)
    story("--message-id", sent["Message-ID"], until=gone)
    with recorder_stopped():
        gateway().check_output(f"rm -f {STORE}-wal {STORE}-shm")
        write(STORE, "no database " * 1000)
    assert story("--message-id", sent["Message-ID"], until=gone)["verdict"] == "CleanTag"
    gateway().check_output(f"ls {STORE}.damaged-*")
    gateway().check_output(f"rm {STORE}.damaged-*")


def test_a_store_of_a_newer_version_stops_the_recorder_and_no_mail():
    version = f"python3 -c \"import sqlite3; sqlite3.connect('{STORE}').execute('pragma user_version = %d')\""
    with recorder_stopped():
        gateway().check_output(version % 99)
        try:
            assert gateway().run(f"systemctl start {RECORDER}").rc != 0
            wait_until(lambda: gateway().run(f"systemctl is-failed {RECORDER}").rc == 0, "the recorder to stop")
            done = gateway().run("gateway-trace --last 1h")
            assert (done.rc, "has version 99 and this gateway knows version 1" in done.stderr) == (2, True)
            assert STRANGER.converse().answer == "250 2.0.0"
        finally:
            gateway().check_output(version % 1)
            gateway().check_output(f"systemctl reset-failed {RECORDER}")


def test_without_the_journal_mail_goes_on():
    with stopped("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"):
        assert STRANGER.converse().answer == "250 2.0.0"


def test_the_journal_drops_no_line_of_the_mail_services():
    unit = "postfix@-.service" if gateway().system_info.release.startswith("12") else "postfix.service"
    for each in (unit, "amavis.service"):
        assert gateway().check_output(f"systemctl show --property=LogRateLimitIntervalUSec --value {each}") == "0"


def test_a_wrong_question_says_how_to_ask():
    done = gateway().run("gateway-trace --last soon")
    assert done.rc == 2
    assert "'soon' is no length of time; write it as 30m, 2h, 3d or 1w" in done.stderr
