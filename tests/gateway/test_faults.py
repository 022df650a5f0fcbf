# SPDX-License-Identifier: GPL-3.0-or-later
"""Something is broken: the sender is asked to come back (4xx), nothing unscanned passes, and nothing is lost.

"Never arrives" is looked at after things were put right again: what was to come late has come then.
"""

import contextlib
import io
import threading
import uuid
import zipfile

import pytest
from _faults import (
    AMAVIS,
    BACK,
    CLAMD,
    CLAMD_UNITS,
    FILES,
    FRONT,
    added,
    answers,
    clamd_hanging,
    clamd_stopped,
    kept,
    reload_amavis,
    stopped,
    wait_for_answer,
    workers,
    write,
)
from _network import (
    ALICE,
    BOB,
    CAROL,
    GATEWAY_ADDRESS,
    OUTSIDE,
    STRANGER,
    TRUSTED,
    deliveries,
    gateway,
    mailboxes,
    message,
    queue,
    start,
    wait_for_journal,
    wait_until,
    windows_program,
)


def deferred(record):
    """Whether the client was asked to come back, after it had sent the message."""
    return record.reply["step"] == "end_of_data" and record.reply["code"] // 100 == 4


def clamd_is_asked():
    """Whether somebody waits for clamd, which hangs, to take a connection."""
    waiting = gateway().check_output(f"ss --no-header --unix --listening src {CLAMD}").split()[2]
    return int(waiting) > 0


def mail_flows():
    record = STRANGER.converse(recipients=[BOB])
    return record.answer == "250 2.0.0" and mailboxes(record.message_id) == [BOB]


# --- A service that is not there --------------------------------------------------------------------------------------


@pytest.mark.holds("S8", "D6", "T4", "T34")
def test_without_clamd_every_message_is_deferred_and_none_arrives():
    with clamd_stopped():
        records = [STRANGER.converse(sample=sample) for sample in ("clean", "eicar", "gtube")]
    assert [record.answer for record in records] == ["451 4.5.0"] * 3
    assert max(record.reply["seconds"] for record in records) < 30
    assert [mailboxes(record.message_id) for record in records] == [[], [], []]
    assert mail_flows()


@pytest.mark.holds("S8", "T34")
def test_without_amavis_every_message_is_deferred_and_none_arrives():
    with stopped("amavis"):
        record = STRANGER.converse()
    assert record.answer == "451 4.3.0"
    assert mailboxes(record.message_id) == []
    assert mail_flows()


@pytest.mark.holds("S2", "S8")
def test_without_the_way_back_in_every_message_is_deferred_and_none_arrives(gateway):
    with kept("/etc/postfix/master.cf"):
        gateway.check_output(f"postconf -MX {BACK}/inet && postfix reload")
        wait_until(lambda: not answers(BACK), "the listener to be closed")
        record = STRANGER.converse()
    gateway.check_output("postfix reload")
    wait_for_answer(BACK)
    assert deferred(record)
    assert mailboxes(record.message_id) == []
    assert mail_flows()


@pytest.mark.holds("S3", "S8")
def test_without_the_inner_server_mail_waits_and_arrives_once(gateway, inside):
    inside.check_output("systemctl stop postfix")
    try:
        record = STRANGER.converse()
        assert record.answer == "250 2.0.0"
        wait_until(lambda: [entry for entry in queue(gateway) if entry["queue_name"] == "deferred"], "mail to be waiting")
    finally:
        inside.check_output("systemctl start postfix")
    gateway.check_output("postqueue -f")
    assert mailboxes(record.message_id) == [ALICE]


# --- No room ----------------------------------------------------------------------------------------------------------


@pytest.mark.holds("D19", "T2")
def test_with_too_little_room_for_the_queue_mail_is_deferred_before_it_is_sent(gateway):
    with kept("/etc/postfix/main.cf"):
        gateway.check_output("postconf -e queue_minfree=$((1 << 60)) && postfix reload")
        record = STRANGER.converse(stop_after="mail")
    gateway.check_output("postfix reload")
    assert record.answer == "452 4.3.1"
    assert mail_flows()


class Scratch:
    """A small file system that amavis unpacks on, with programs that fail on demand."""

    PLACE, FILL, PROGRAMS = "/dev/shm/amavis", "/dev/shm/amavis/fill", "/usr/local/lib/unpackers"

    def leave(self, size):
        """Leave so many bytes of it free."""
        gateway().check_output(
            f"rm -f {self.FILL}; free=$(df --output=avail --block-size=1 /dev/shm | tail -n 1);"
            f" truncate -s 0 {self.FILL}; fallocate -l $((free - {size})) {self.FILL}"
        )

    def before_a_program(self, command):
        """A shell command that the programs begin with from now on; its arguments are theirs, $program is their name."""
        write(f"{self.PROGRAMS}/first", command)


@pytest.fixture(name="scratch", scope="class")
def _scratch(network):
    scratch, host = Scratch(), gateway()
    host.check_output(f"install -d -o amavis -g amavis -m 0750 {scratch.PLACE} && install -d {scratch.PROGRAMS}")
    write(f"{scratch.PROGRAMS}/program", 'program=${0##*/}\n. ${0%/*}/first\nexec /usr/bin/$program "$@"\n')
    scratch.before_a_program("")
    host.check_output(
        f"cd {scratch.PROGRAMS} && sed -i '1i #!/bin/sh' program && chmod 0755 program &&"
        " for name in file 7zr 7za 7zz 7z; do test ! -e /usr/bin/$name || ln -s program $name; done"
    )
    write("/etc/amavis/conf.d/99-scratch", f'use strict;\n$TEMPBASE = "{scratch.PLACE}";\n$path = "{scratch.PROGRAMS}:$path";\n1;\n')
    try:
        reload_amavis()
        yield scratch
    finally:
        host.check_output("rm -f /etc/amavis/conf.d/99-scratch")
        reload_amavis()
        host.check_output(f"rm -rf {scratch.PLACE} {scratch.PROGRAMS}")


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


class TestUnpacking:
    ROOM = 50_000_000  # more than the quota of any message here

    @pytest.fixture(autouse=True)
    @classmethod
    def healthy(cls, scratch):
        yield
        scratch.before_a_program("")
        scratch.leave(cls.ROOM)

    @staticmethod
    def banned():
        """A program under a name that says nothing: that it is one is known from what is in it alone."""
        return message(attachments=[("archive.zip", zipped({"large.txt": b"A line.\n" * 500_000, "notes.txt": windows_program()}))])

    def refused_again(self, scratch, content):
        """Whether the archive is banned once everything is well, and has never arrived."""
        scratch.before_a_program("")
        scratch.leave(self.ROOM)
        return STRANGER.converse(content=content).answer == "554 5.7.0" and mailboxes(content["Message-ID"]) == []

    @pytest.mark.holds("D19")
    def test_with_no_room_for_a_message_it_is_deferred_and_does_not_arrive(self, scratch):
        scratch.leave(0)
        record = STRANGER.converse(content=message("A line.\n" * 2000))
        scratch.leave(self.ROOM)
        assert deferred(record)
        assert mailboxes(record.message_id) == []
        assert mail_flows()

    @pytest.mark.holds("D19", "D12")
    def test_with_no_room_to_unpack_an_archive_what_is_in_it_does_not_arrive(self, scratch):
        content = self.banned()
        scratch.leave(300_000)
        assert deferred(STRANGER.converse(content=content))
        assert self.refused_again(scratch, content)

    @pytest.mark.holds("D19", "D12")
    def test_with_room_that_is_taken_while_an_archive_is_unpacked_what_is_in_it_does_not_arrive(self, scratch):
        content = self.banned()
        scratch.leave(self.ROOM)
        scratch.before_a_program(f"[ $1 != x ] || dd if=/dev/zero of={scratch.PLACE}/more bs=1M 2>/dev/null")
        record = STRANGER.converse(content=content)
        gateway().check_output(f"rm {scratch.PLACE}/more")
        assert deferred(record)
        assert self.refused_again(scratch, content)

    @pytest.mark.holds("S8", "D12")
    @pytest.mark.parametrize(
        "condition",
        [
            pytest.param("[ $program = file ]", id="finds out the type"),
            pytest.param("[ $1 = l ]", id="lists the archive"),
            pytest.param("[ $1 = x ]", id="unpacks the archive"),
        ],
    )
    def test_when_the_kernel_ends_the_program_that_looks_into_an_archive_what_is_in_it_does_not_arrive(self, scratch, condition):
        content = self.banned()
        scratch.before_a_program(f"{condition} && kill -KILL $$")
        assert deferred(STRANGER.converse(content=content))
        assert self.refused_again(scratch, content)


# --- Scanners that do not finish --------------------------------------------------------------------------------------


@pytest.fixture(name="short_deadlines", scope="class")
def _short_deadlines(network):
    paths = ("etc/spamassassin/fault_on_demand.pm", "etc/spamassassin/zz_fault_on_demand.cf", "etc/amavis/conf.d/99-short_deadlines")
    with added(*paths):
        yield


@pytest.mark.usefixtures("short_deadlines")
class TestScannerThatDoesNotFinish:
    """time_limit is 2 s and $child_timeout is 8 s here; a "slow" SpamAssassin takes 6 s, and a "deaf" one 10 s."""

    FAULTS = (
        "slow in rule",
        "deaf in rule",
        "killed in rule",
        "slow in parse",
        "dies in parse",
        "slow in get_decoded_stripped_body_text_array",
        "dies in get_decoded_stripped_body_text_array",
        "slow in get_uri_list",
        "dies in get_uri_list",
        "slow in check_dnsbl",
        "dies in get_report",
    )

    @pytest.fixture(scope="class")
    @classmethod
    def unfinished(cls, short_deadlines):
        """Spam and clean mail that SpamAssassin does not finish, all sent at once, by fault and sample."""
        keys = [(fault, "gtube") for fault in cls.FAULTS] + [("slow in rule", "clean"), ("killed in rule", "clean")]
        records = TRUSTED.converse_at_once([{"sample": sample, "headers": {"X-Fault": fault}, "recipients": [BOB]} for fault, sample in keys])
        return dict(zip(keys, records))

    @pytest.mark.holds("S8", "T20")
    @pytest.mark.parametrize("fault", FAULTS)
    def test_spam_that_spamassassin_did_not_finish_is_deferred_and_never_arrives(self, unfinished, fault):
        record = unfinished[fault, "gtube"]
        assert deferred(record)
        assert mailboxes(record.message_id) == []

    @pytest.mark.holds("S8", "T20")
    @pytest.mark.parametrize("fault", ["slow in rule", "killed in rule"])
    def test_clean_mail_that_spamassassin_did_not_finish_is_deferred_too(self, unfinished, fault):
        record = unfinished[fault, "clean"]
        assert deferred(record)
        assert mailboxes(record.message_id) == []

    @pytest.mark.holds("T20")
    def test_a_deferred_message_passes_once_spamassassin_finishes(self):
        content = message(headers={"X-Fault": "slow in rule"}, recipients=[BOB])
        assert deferred(STRANGER.converse(content=content, recipients=[BOB]))
        del content["X-Fault"]
        assert STRANGER.converse(content=content, recipients=[BOB]).answer == "250 2.0.0"
        assert mailboxes(content["Message-ID"]) == [BOB]

    @pytest.mark.holds("T20")
    def test_one_broken_rule_does_not_keep_the_others_from_finding_spam(self):
        assert STRANGER.converse(sample="gtube", headers={"X-Fault": "dies in rule"}).answer == "554 5.7.0"

    @pytest.mark.holds("S8", "T20")
    def test_a_virus_is_refused_whatever_spamassassin_does(self):
        assert STRANGER.converse(sample="eicar", headers={"X-Fault": "slow in rule"}).answer == "554 5.7.0"

    @pytest.mark.holds("S8", "D6")
    @pytest.mark.parametrize("sample", ["clean", "eicar"])
    def test_what_clamd_does_not_answer_for_is_deferred_and_never_arrives(self, sample):
        with clamd_hanging():
            record = STRANGER.converse(sample=sample)
        assert deferred(record)
        assert mailboxes(record.message_id) == []
        assert mail_flows()

    @pytest.mark.holds("S8", "D6")
    def test_a_virus_does_not_pass_when_the_kernel_ends_clamd_which_comes_back_by_itself(self, gateway):
        with clamd_hanging() as pid:
            client = STRANGER.begin(sample="eicar")
            wait_until(clamd_is_asked, "amavis to ask clamd")
            gateway.check_output(f"kill -KILL {pid}")
            record = STRANGER.finish(client)
        # Deferred, or seen by the clamd that systemd has started in its place.
        assert record.reply["code"] in (451, 554)
        assert mailboxes(record.message_id) == []
        assert mail_flows()

    WRONG_ANSWERS = ("nothing", "nonsense", "error", "error-without-number", "limit", "for-another", "without-number", "the-first-only")

    @pytest.fixture(scope="class")
    @classmethod
    def misunderstood(cls, short_deadlines):
        """Messages that another scanner in clamd's place was asked about, by its answer."""
        host = gateway()
        with clamd_stopped():
            host.check_output("systemd-run --quiet --collect --unit=fake-clamd python3 -c %s", (FILES / "fake_clamd.py").read_text(encoding="utf-8"))
            try:
                wait_until(lambda: host.run(f"test -S {CLAMD}").rc == 0, "the scanner")
                names = ("well", *cls.WRONG_ANSWERS)
                return dict(zip(names, TRUSTED.converse_at_once([{"content": cls.ask_for(name), "recipients": [BOB]} for name in names])))
            finally:
                host.check_output(f"systemctl stop fake-clamd; rm -f {CLAMD}")

    @staticmethod
    def ask_for(answer):
        return message(f"answer: {answer}\n", attachments=[("attachment.txt", b"A second part.\n")], recipients=[BOB])

    @pytest.mark.holds("S8", "D6")
    @pytest.mark.parametrize("answer", WRONG_ANSWERS)
    def test_what_the_virus_scanner_answers_wrongly_for_is_deferred_and_never_arrives(self, misunderstood, answer):
        assert misunderstood["well"].answer == "250 2.0.0", "a well-behaved scanner is believed"
        record = misunderstood[answer]
        assert deferred(record)
        assert mailboxes(record.message_id) == []


@pytest.mark.holds("S6", "D6")
@pytest.mark.parametrize("damage", ["echo nonsense >%s", ": >%s", "rm %s"])
def test_with_damaged_signatures_no_virus_passes(gateway, began, damage):
    database = "/var/lib/clamav/antispam-test.ndb"
    with kept(database):
        gateway.check_output(damage % database)
        gateway.check_output("systemctl reload clamav-daemon")
        wait_for_journal(began, "Reading databases from")
        records = [STRANGER.converse(sample="eicar") for _time in range(3)]
    gateway.check_output("systemctl restart clamav-daemon")
    wait_for_answer(CLAMD)
    assert {record.reply["code"] for record in records} <= {450, 451, 554}
    assert [mailboxes(record.message_id) for record in records] == [[]] * 3
    assert mail_flows()


# --- Evidence ---------------------------------------------------------------------------------------------------------


def evidence(host):
    return host.check_output("ls /var/lib/amavis/tmp").split()


@pytest.mark.holds("T25")
def test_the_directories_of_failed_scans_are_bounded(gateway):
    timer = gateway.service("amavis-evidence.timer")
    assert timer.is_running and timer.is_enabled
    # Or it may come in between.
    gateway.check_output("systemctl stop amavis-evidence.timer")
    try:
        with clamd_stopped():
            records = TRUSTED.converse_at_once([{"recipients": [BOB]}] * 30)
        assert all(deferred(record) for record in records)
        bound = len(workers()) + 20
        assert len(evidence(gateway)) > bound, "every failed scan leaves its directory"
        gateway.check_output("systemctl start amavis-evidence.service")
        assert len(evidence(gateway)) <= bound
    finally:
        gateway.check_output("systemctl start amavis-evidence.timer")
    assert mail_flows()


@pytest.mark.holds("T25")
def test_the_directory_of_a_running_scan_is_no_evidence(gateway):
    with clamd_hanging():
        client = STRANGER.begin()
        wait_until(clamd_is_asked, "amavis to ask clamd")
        # Of scans that failed while this one went on.
        gateway.check_output("cd /var/lib/amavis/tmp && for n in $(seq 40); do install -d -o amavis -g amavis amavis-20261122T164350-99$n-test; done")
        gateway.check_output("systemctl start amavis-evidence.service")
    record = STRANGER.finish(client)
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [ALICE]


# --- Changes under a stream of mail -----------------------------------------------------------------------------------


@contextlib.contextmanager
def stream(may_defer=0):
    """Clients that send one message after the other until the block ends; gives the list of their records.

    What is accepted arrives once, what is deferred does not arrive, and no more than may_defer messages are.
    """
    records, failures, enough = [], [], threading.Event()
    name = f"stream {uuid.uuid4()}"

    def send(client):
        try:
            while not enough.is_set():
                records.append(client.converse(recipients=[CAROL], subject=name))
        except Exception as problem:  # pylint: disable=broad-exception-caught
            failures.append(problem)

    def sent(number):
        wait_until(lambda: failures or len(records) >= number, "mail of the stream")

    threads = [threading.Thread(target=send, args=[client]) for client in (STRANGER, TRUSTED, TRUSTED)]
    for thread in threads:
        thread.start()
    try:
        sent(6)
        yield records
        sent(len(records) + 9)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    accepted = [record for record in records if record.answer == "250 2.0.0"]
    others = [record for record in records if record not in accepted]
    assert all(deferred(record) for record in others) and len(others) <= may_defer, others
    arrived = [delivery.message["Message-ID"] for delivery in deliveries(name)]
    assert sorted(arrived) == sorted(record.message_id for record in accepted), "every accepted message arrives, and none twice"


@pytest.mark.holds("T6")
def test_a_reload_of_amavis_under_a_stream_of_mail_loses_and_doubles_nothing():
    # The signal interrupts a worker that is handing a message over just then; its client is asked to come back.
    with stream(may_defer=len(workers())):
        reload_amavis()


@pytest.mark.holds("T6")
def test_an_update_of_spamassassins_rules_loses_and_doubles_nothing(gateway):
    before = workers()
    with stream(may_defer=len(before)):
        gateway.check_output("/etc/spamassassin/sa-update-hooks.d/amavisd-new")
        wait_until(lambda: (now := workers()) and not now & before, "new workers of amavis")


@pytest.mark.holds("S1", "S2")
def test_a_reload_of_postfix_under_a_stream_of_mail_refuses_loses_and_doubles_nothing(gateway):
    with stream():
        gateway.check_output("postfix reload")
        wait_for_answer(FRONT, BACK)


@pytest.mark.holds("S6")
def test_a_new_signature_is_loaded_and_refuses_loses_and_doubles_nothing(gateway, outside, began):
    """From the test network's web server by freshclam to clamd."""
    published, word = "/srv/www/clamav/antispam-test.ndb", f"pattern-{uuid.uuid4()}"
    before = outside.check_output(f"cat {published}") + "\n"
    harmful = message(f"A {word} that nobody has known before.\n")
    assert STRANGER.converse(content=harmful).answer == "250 2.0.0"
    try:
        write(published, f"{before}Antispam.Test.New:0:*:{word.encode().hex()}\n", OUTSIDE)
        with stream():
            gateway.check_output("freshclam")
            wait_for_journal(began, "Database correctly reloaded")
            refused = wait_until(lambda: (record := STRANGER.converse(content=harmful)).answer != "250 2.0.0" and record, "the new signature to be known")
    finally:
        write(published, before, OUTSIDE)
    assert refused.answer == "554 5.7.0"
    assert "Antispam.Test.New" in refused.text


# --- Connections that break -------------------------------------------------------------------------------------------

HANG_UP = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 25), 20, ("203.0.113.20", 0))
replies = connection.makefile()
replies.readline()
for line in "HELO mail.example.org", "MAIL FROM:<sender@example.org>", "RCPT TO:<alice@example.com>", "DATA":
    connection.sendall(line.encode() + b"\\r\\n")
    replies.readline()
connection.sendall(sys.stdin.read().replace("\\n", "\\r\\n").encode() + b"\\r\\n.\\r\\n")
"""


@pytest.mark.holds("S8")
def test_a_client_that_hangs_up_before_the_answer_has_sent_its_message_at_most_once(began):
    content = message()
    process = start(OUTSIDE, ["python3", "-c", HANG_UP, GATEWAY_ADDRESS], content.as_string())
    assert process.communicate()[1] == ""
    wait_for_journal(began, f"Message-ID: {content['Message-ID']}")
    assert mailboxes(content["Message-ID"]) in ([], [ALICE])


@pytest.mark.holds("S8")
def test_a_client_that_hangs_up_in_the_middle_of_a_message_has_sent_nothing(began):
    content = message()
    start_of_it = content.as_string()[:-20]
    STRANGER.converse(
        script=[
            "",
            "HELO mail.example.org\r\n",
            "MAIL FROM:<sender@example.org>\r\n",
            f"RCPT TO:<{ALICE}>\r\n",
            "DATA\r\n",
            {"send": start_of_it, "replies": 0},
        ],
        timeout=3,
        may_break_off=True,
    )
    wait_for_journal(began, "lost connection after DATA")
    assert mailboxes(content["Message-ID"]) == []


# --- The whole gateway ------------------------------------------------------------------------------------------------


@pytest.mark.holds("S1", "S6", "T6", "T18")
def test_after_a_boot_everything_runs_again_whatever_comes_first(gateway):
    units = ["postfix", "amavis", *CLAMD_UNITS, "clamav-freshclam", "amavis-evidence.timer"]
    gateway.check_output("systemctl stop 'postfix*' " + " ".join(units))
    try:
        assert not answers(FRONT)
        # What a boot does.
        gateway.check_output("systemctl start sockets.target timers.target multi-user.target")
        wait_for_answer(FRONT, AMAVIS, BACK, CLAMD)
        for unit in units:
            assert gateway.service(unit).is_running, unit
    finally:
        gateway.check_output("systemctl start " + " ".join(units))
    assert mail_flows()
