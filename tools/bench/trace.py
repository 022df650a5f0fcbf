# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the log of a day of 100,000 messages, 2 million lines, and asks it the same questions in three ways, in one run:

gateway-trace         from the store that the recorder's own code has made of these lines; each time a new process
grep                  the same lines as text
journalctl --grep     the same lines as a journal file

grep and journalctl are asked once for each question and find single lines; to put a story together, more such searches would be needed,
and a subject stands in no line. Fails where gateway-trace needs 0.3 s or more for a question.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".work" / "bench" / "trace"
LIBRARY = ROOT / "plugins" / "module_utils"
sys.path.insert(0, str(LIBRARY))

from _messages import recorder, store  # noqa: E402
from _messages.joiner import Entry, Joiner  # noqa: E402
from _messages.privacy import Privacy  # noqa: E402

AIM = 0.3
ROUNDS = 5
BEGIN = 1_772_323_200  # 2026-03-01 00:00 UTC
DAY = 86_400
SENDERS, RECIPIENTS = 20_000, 4_000
WORDS = "offer invoice meeting report holiday order delivery question contract answer update minutes training lunch project".split()
PROGRAM = f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); from _messages import trace; sys.exit(trace.main())"


def queue_id(number: int) -> str:
    digits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
    text = ""
    for _position in range(9):
        number, rest = divmod(number, len(digits))
        text = digits[rest] + text
    return "4jb" + text + "zF2"


def message(number: int, seconds: float, chance: random.Random) -> Iterator[Entry]:
    """The twenty entries of one message, as the test network writes them; one in five is refused as spam, one in twenty waits once."""
    sender = f"sender{chance.randrange(SENDERS)}@d{chance.randrange(500)}.example.org"
    recipient = f"r{chance.randrange(RECIPIENTS)}@example.com"
    client, port, pid = f"198.18.{chance.randrange(256)}.{chance.randrange(1, 255)}", chance.randrange(1024, 65536), str(1000 + number % 100)
    where, host = f"[{client}]:{port}", f"mail.example.org[{client}]:{port}"
    queue, amavis_id = queue_id(number), f"{10_000 + number % 20:05}-{number // 20 % 10_000:02}"
    subject = f"{chance.choice(WORDS)} {chance.choice(WORDS)} {number}"
    spam, waits = number % 5 == 0, number % 20 == 1
    milliseconds = round((BEGIN + seconds) * 1000)

    def line(program: str, text: str, process: str = pid) -> Entry:
        return Entry(milliseconds, f"postfix/{program}", process, text)

    yield line("postscreen", f"CONNECT from {where} to [203.0.113.10]:25", "9")
    yield line("dnsblog", f"addr {client} listed by domain list.example.org as 127.0.0.1", "8")
    yield line("postscreen", f"PASS OLD {where}", "9")
    yield line("smtpd", f"connect from {host}")
    tls = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519 server-signature RSA-PSS (2048 bits) server-digest SHA256"
    yield line("smtpd", f"Anonymous TLS connection established from {host}: {tls}")
    yield line("smtpd", f"NOQUEUE: client={host}")
    yield line("reinject/smtpd", "connect from localhost[127.0.0.1]:59460", "7")
    answer = f"554 5.7.0 Reject, id={amavis_id} - This message looks like spam. If this is a mistake, turn to postmaster@example.com"
    if not spam:
        answer = f"250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {queue}"
        yield line("reinject/smtpd", f"{queue}: client=localhost[127.0.0.1]:59460, orig_client={host}", "7")
        yield line("cleanup", f"{queue}: message-id=<{number}.bench@example.org>", "6")
        yield line("qmgr", f"{queue}: from=<{sender}>, size=14600, nrcpt=1 (queue active)", "5")
    report = {
        **{"log_id": amavis_id, "mail_id": f"m{number}", "client_ip": client, "client_port": port, "mail_from": sender, "author": [sender]},
        **{"message_id": f"<{number}.bench@example.org>", "subject": subject, "size": 14000, "content_type": "Spam" if spam else "Clean"},
        **{"spam_score": 8.3 if spam else 0.2, "limits": {"tag2": 5, "kill": 6}, "originating": False, "queued_as": [] if spam else [queue]},
        "tests": {"BAYES_50": 0.8, "DKIM_SIGNED": 0.1, "DKIM_VALID": -0.1, "HTML_MESSAGE": 0.001, "SPF_PASS": -0.001, "RCVD_IN_DNSWL_NONE": -0.0001},
        "authentication": f"spf=pass smtp.mailfrom={sender.partition('@')[2]}; dmarc=pass header.from={sender.partition('@')[2]}",
        **{"elapsed": {"Total": 0.213, "SpamCheck": 0.17}, "rcpt_num": 1, "answers": [{"text": answer, "to": [recipient]}]},
    }
    yield Entry(milliseconds, "amavis", "4", "", json.dumps(report))
    what = "Blocked SPAM" if spam else "Passed CLEAN"
    yield Entry(
        milliseconds,
        "amavis",
        "4",
        f"({amavis_id}) {what} {{RelayedInbound}}, {where} <{sender}> -> <{recipient}>, Message-ID: <{number}.bench@example.org>, 213 ms",
    )
    envelope = f"from=<{sender}> to=<{recipient}> proto=ESMTP helo=<mail.example.org>"
    yield line("smtpd", f"proxy-{'reject' if spam else 'accept'}: END-OF-MESSAGE: {answer}; {envelope}")
    if not spam:
        next_hop = "mail.inside.example.com[198.51.100.25]:25"
        yield line("relay/smtp", f"Untrusted TLS connection established to {next_hop}: {tls}", "3")
        delivery = f"{queue}: to=<{recipient}>, relay={next_hop}, delay=0.22, delays=0.2/0/0.01/0.01"
        if waits:
            yield line("relay/smtp", f"{delivery}, dsn=4.2.0, status=deferred (host {next_hop[:-3]} said: 450 4.2.0 busy (in reply to RCPT TO command))", "3")
        yield line("relay/smtp", f"{delivery}, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 817E319E07A)", "3")
        yield line("qmgr", f"{queue}: removed", "5")
    yield line("reinject/smtpd", "disconnect from localhost[127.0.0.1]:59460 ehlo=1 xforward=1 mail=1 rcpt=1 data=1 quit=1 commands=6", "7")
    yield line("smtpd", f"disconnect from {host} ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7")
    yield line("anvil", f"statistics: max connection rate 1/60s for (smtp:{client}) at Mar  1 00:00:00", "2")
    # Bots that guess recipients: some more lines, so that there are twenty for a message.
    bot, bot_port = f"203.0.113.{number % 64}", 1024 + number % 60_000
    yield line("postscreen", f"CONNECT from [{bot}]:{bot_port} to [203.0.113.10]:25", "9")
    refused = f"550 5.5.1 Protocol error; from=<x@example.net>, to=<guess{number % 9999}@example.com>, proto=ESMTP, helo=<bot>"
    yield line("postscreen", f"NOQUEUE: reject: RCPT from [{bot}]:{bot_port}: {refused}", "9")
    yield line("postscreen", f"DISCONNECT [{bot}]:{bot_port}", "9")


def day(messages: int) -> Iterator[Entry]:
    chance = random.Random(13)
    for number in range(messages):
        yield from message(number, number * DAY / messages, chance)


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def record(path: Path, messages: int) -> tuple[int, float]:
    """Feed the recorder; return how many entries there were, and how long it took without making them."""
    database = store.connect(path, write=True)
    joiner = Joiner(database, Privacy("keep", "keep", b""))
    count, seconds, batch = 0, 0.0, []
    for entry in day(messages):
        batch.append(entry)
        if len(batch) == recorder.BATCH:
            count, seconds = count + len(batch), seconds + timed(lambda: recorder.write(database, joiner, batch, cursor="x", time=batch[-1].time))  # noqa: B023
            batch = []
    count, seconds = count + len(batch), seconds + timed(lambda: recorder.write(database, joiner, batch, cursor="x"))
    database.close()
    return count, seconds


def write_text(path: Path, messages: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for entry in day(messages):
            if entry.text:
                stamp = time.strftime("%b %d %H:%M:%S", time.gmtime(entry.time / 1000))
                file.write(f"{stamp} mx1 {entry.identifier}[{entry.process}]: {entry.text}\n")


def write_journal(path: Path, messages: int) -> bool:
    """Make a journal file of the lines; return whether it could be made."""
    program = shutil.which("systemd-journal-remote") or "/usr/lib/systemd/systemd-journal-remote"
    if not Path(program).exists() or not shutil.which("journalctl"):
        return False
    with subprocess.Popen([program, "-o", str(path), "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin
        for number, entry in enumerate(day(messages)):
            if not entry.text:
                continue
            unit = "amavis.service" if entry.identifier == "amavis" else "postfix.service"
            fields = {"__REALTIME_TIMESTAMP": entry.time * 1000 + number % 1000, "__MONOTONIC_TIMESTAMP": number + 1, "_BOOT_ID": "13" * 16, "PRIORITY": 6}
            fields |= {"SYSLOG_IDENTIFIER": entry.identifier, "SYSLOG_PID": entry.process, "_SYSTEMD_UNIT": unit, "_HOSTNAME": "mx1", "MESSAGE": entry.text}
            process.stdin.write("".join(f"{name}={value}\n" for name, value in fields.items()).encode() + b"\n")
    return process.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    messages = parser.parse_args().messages
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    (WORK / "settings.json").write_text(json.dumps({"days": 30, "max_bytes": 1 << 40, "addresses": "keep", "subjects": "keep"}))
    path, log, journal = WORK / store.NAME, WORK / "mail.log", WORK / "mail.journal"
    count, seconds = record(path, messages)
    print(
        f"recorder: {count:,} entries of {messages:,} messages in {seconds:.0f} s, {count / seconds:,.0f} a second; store {path.stat().st_size / 1e6:,.0f} MB"
    )
    write_text(log, messages)
    has_journal = write_journal(journal, messages)
    sizes = [f"text {log.stat().st_size / 1e6:,.0f} MB"] + (
        [f"journal {sum(each.stat().st_size for each in WORK.glob('mail*.journal')) / 1e6:,.0f} MB"] if has_journal else []
    )
    print(f"the same lines as {', '.join(sizes)}")
    if not has_journal:
        print("no journal file: systemd-journal-remote is not there")
    some = messages // 2 + 2
    chosen = list(message(some, 0, random.Random(13)))
    told = next(json.loads(entry.report) for entry in chosen if entry.report)
    last = ["--since", "2026-03-01 20:00", "--until", "2026-03-01 22:00"]
    questions: list[tuple[str, list[str], str]] = [
        ("recipient, two hours of the day", ["--to", "r77@example.com", *last], "<r77@example.com>"),
        ("recipient, the whole day", ["--to", "R77@EXAMPLE.com"], "<r77@example.com>"),
        ("all of a sender's domain", ["--from", "@d77.example.org"], "@d77.example.org>"),
        ("queue id", ["--queue-id", queue_id(some)], queue_id(some)),
        ("refusal id", ["--id", "10000-7"], "10000-7"),
        ("Message-ID", ["--message-id", told["message_id"]], told["message_id"]),
        ("words of a subject", ["--subject", f"{some} {told['subject'].split()[0]}"], ""),
        ("a word that no subject has", ["--subject", "xyzzy"], "xyzzy"),
        ("what was guessed", ["--to", "guess77@example.com"], "<guess77@example.com>"),
        ("a client", ["--client", "198.18.7.7"], "[198.18.7.7]"),
        ("the latest", [], ""),
    ]
    ask = [sys.executable, "-c", PROGRAM, "--directory", str(WORK), "--configuration", str(WORK / "settings.json")]
    print(f"\n{'QUESTION':<34}{'gateway-trace':>14}{'grep':>18}{'journalctl --grep':>22}")
    worst = 0.0
    for name, arguments, pattern in questions:
        commands = [[*ask, *arguments]]
        if pattern:
            commands.append(["grep", "--fixed-strings", pattern, str(log)])
            if has_journal:
                commands.append(
                    ["journalctl", "--quiet", "--no-pager", f"--file={WORK}/mail*.journal", f"--grep={pattern.replace('[', '.').replace(']', '.')}"]
                )
        times = []
        for position, command in enumerate(commands):
            rounds = ROUNDS if position == 0 else 1
            # grep reads no further than the first line where nobody reads what it finds. Once before, so that all three find their files in memory.
            subprocess.run(command, stdout=subprocess.PIPE, check=False) if position < 2 else None
            times.append(statistics.median(timed(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=False)) for _round in range(rounds)))  # noqa: B023
        worst = max(worst, times[0])
        others = "".join(f"{each:>{width}.2f} s {each / times[0]:>6.1f}x" for each, width in zip(times[1:], (9, 13), strict=False))
        print(f"{name:<34}{times[0]:>12.3f} s{others}", flush=True)
    print(f"\nthe slowest answer of gateway-trace: {worst:.3f} s (aim: under {AIM} s)")
    return 0 if worst < AIM else 1


if __name__ == "__main__":
    sys.exit(main())
