# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-bayes: teach the gateway's Bayes classifier what is spam and what is ham, and look at what it knows.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-bayes; the role bayes puts it there, so
nothing of Ansible is imported here. sa-learn(1) does the learning, as the user amavis, in portions. All that is
remembered stands in the store that has what was learned, so that a store that is lost is taught anew:

m:DIGEST        the class as which a message was learned; it expires as SpamAssassin's own s:MESSAGE-ID does
taught:WHO      how many messages WHO has taught (spam, ham), and when first and last; SpamAssassin's store writes it
                (/etc/spamassassin/bayes_store.pm)
folder:NAME     how far a folder of a mailbox has been read (gateway-bayes-mailboxes)
"""

from __future__ import annotations

import argparse
import email
import email.message
import hashlib
import json
import mailbox
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

SETTINGS = pathlib.Path("/etc/gateway-bayes.json")
CLASSES = ("spam", "ham")
# SpamAssassin judges by Bayes when it has learned so many of each class.
NEEDED = 200
# Of more bytes than this a message is not learned: spam is small, and sa-learn(1) holds all of it in memory.
LARGEST = 10 * 1024 * 1024
# How much one sa-learn gets, which takes a second to start. What a killed run has learned and not noted down is no more than this.
PORTION_MESSAGES, PORTION_BYTES = 100, 16 * 1024 * 1024
USER = "amavis"
# sysexits.h
EX_DATAERR, EX_TEMPFAIL = 65, 75
# In the log of bayes_store.pm.
_SILENT = re.compile(r"the store is not asked for \d+ s: (.*)")


class BayesError(Exception):
    """What keeps messages from being learned: one sentence that names the object, the cause and the way out."""


class StoreError(BayesError):
    """The store does not answer; nothing is wrong with the messages."""


class ReportError(BayesError):
    """Nothing is attached to a report that can ever be learned."""


class Message(NamedTuple):
    """A message, by the name of where it is."""

    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """Return what the message is known by, 32 hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()[:32]

    def flaw(self) -> str:
        """Return why it cannot be learned, '' where nothing is wrong with it."""
        if not self.content.strip():
            return "it is empty"
        if len(self.content) > LARGEST:
            return f"it is larger than {LARGEST // 1024 // 1024} MiB"
        # RFC 5322 section 2.2; a line of an mbox may stand before it.
        if not re.match(rb"(?:From [^\n]*\n)?[!-9;-~]+[ \t]*:", self.content):
            return "it does not begin with a header field"
        return ""


class Place:
    """The messages of a file, an mbox, a Maildir or a directory, in a fixed order; len() is how many, place[index] reads one."""

    def __init__(self, path: str) -> None:
        """Raise BayesError for a place that is not there."""
        self._path = pathlib.Path(path)
        self._mbox: mailbox.mbox | None = None
        self._keys: Sequence[Any]
        try:
            if self._path.is_dir():
                is_maildir = (self._path / "cur").is_dir() and (self._path / "new").is_dir()
                roots = [self._path / "cur", self._path / "new"] if is_maildir else [self._path]
                self._keys = sorted(found for root in roots for found in _files(root))
            elif _begins_with(self._path, b"From "):
                self._mbox = mailbox.mbox(path, create=False)
                self._keys = self._mbox.keys()
            else:
                self._keys = [self._path]
        except OSError as error:
            raise BayesError(f"{path}: {error.strerror or error}; name a file, an mbox, a Maildir or a directory of messages") from error

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Message:
        key = self._keys[index]
        if self._mbox is not None:
            return Message(f"{self._path} (message {index + 1})", self._mbox.get_bytes(key))
        try:
            with open(key, "rb") as stream:
                return Message(str(key), stream.read(LARGEST + 1))
        except OSError as error:
            raise BayesError(f"{key}: {error.strerror}; nothing of it was learned") from error


def _begins_with(path: pathlib.Path, text: bytes) -> bool:
    with open(path, "rb") as stream:
        return stream.read(len(text)) == text


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for directory, names, files in os.walk(root, onerror=_fail):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            # Those that begin with a dot are not messages, but what servers keep beside them.
            if not name.startswith("."):
                yield pathlib.Path(directory, name)


def _fail(error: OSError) -> None:
    raise error


class Result:
    """What came of messages: counts, and the reason for each of the first that could not be learned."""

    def __init__(self) -> None:
        self.examined = self.learned = self.known = self.flawed = 0
        self.flaws: list[str] = []

    def report(self) -> dict[str, Any]:
        return dict(vars(self))


class Store:
    """What gateway-bayes itself keeps in the store."""

    def __init__(self, settings: dict[str, Any]) -> None:
        # Debian's python3-redis; the controller needs none.
        import redis

        self._seen_days = int(settings["seen_days"])
        self._lost = (redis.exceptions.RedisError, OSError)
        self._store = settings["store"]
        self._redis = redis.Redis(**settings["connection"], socket_timeout=10, decode_responses=True)

    @property
    def way_out(self) -> str:
        return "see that redis-server.service runs" if self._store.startswith("/") else "see that it runs and lets this gateway in"

    def ask(self, what: Callable[[Any], Any]) -> Any:
        """Do something with the connection, or raise StoreError."""
        try:
            return what(self._redis)
        except self._lost as error:
            raise StoreError(f"{self._store}: {error}; {self.way_out}, then try again") from error

    def classes(self, messages: Sequence[str]) -> list[str | None]:
        """Return as what each digest was learned."""
        found: list[str | None] = self.ask(lambda redis: redis.mget([f"m:{digest}" for digest in messages])) if messages else []
        return found

    def note(self, digests: Iterable[str], kind: str | None) -> None:
        """Remember as what messages were learned, None where they were forgotten."""

        def write(redis: Any) -> None:
            pipe = redis.pipeline(transaction=False)
            for digest in digests:
                if kind is None:
                    pipe.delete(f"m:{digest}")
                else:
                    pipe.set(f"m:{digest}", kind, ex=self._seen_days * 86400)
            pipe.execute()

        self.ask(write)

    def forget_everything(self) -> None:
        self.ask(lambda redis: redis.flushdb())

    def state(self) -> dict[str, Any]:
        """Return {"spam", "ham", "counts", "memory", "max_memory" (bytes), "taught": {who: {"spam", "ham", "first", "last" (seconds)}}}."""

        def read(redis: Any) -> dict[str, Any]:
            spam, ham = (int(value or 0) for value in redis.mget(["v:NSPAM", "v:NHAM"]))
            memory = redis.info("memory")
            taught = {}
            for key in sorted(redis.scan_iter(match="taught:*", count=10_000)):
                record = redis.hgetall(key)
                taught[key.partition(":")[2]] = {name: int(record.get(name, 0)) for name in (*CLASSES, "first", "last")}
            return {
                "spam": spam,
                "ham": ham,
                "counts": min(spam, ham) >= NEEDED,
                "memory": memory["used_memory"],
                "max_memory": memory["maxmemory"],
                "taught": taught,
            }

        found: dict[str, Any] = self.ask(read)
        return found


class Teacher:
    """Has sa-learn(1) learn messages, in portions."""

    def __init__(self, store: Store, who: str) -> None:
        self._store = store
        self._who = who

    def learn(self, messages: Iterable[Message], kind: str, result: Result) -> Iterator[int]:
        """Learn messages as `kind`, those that were learned as this before not again. Yields how many a portion had, when it is learned and noted down."""
        portion: list[Message] = []
        size = 0
        for message in messages:
            portion.append(message)
            size += len(message.content)
            if len(portion) >= PORTION_MESSAGES or size >= PORTION_BYTES:
                yield self._portion(portion, kind, result)
                portion, size = [], 0
        if portion:
            yield self._portion(portion, kind, result)

    def _portion(self, portion: list[Message], kind: str, result: Result) -> int:
        usable = []
        for message in portion:
            flaw = message.flaw()
            if flaw:
                result.flawed += 1
                if len(result.flaws) < 20:
                    result.flaws.append(f"{message.name}: {flaw}")
            else:
                usable.append(message)
        before = self._store.classes([message.digest for message in usable])
        new = [message for message, known_as in zip(usable, before) if known_as != kind]
        if new:
            result.learned += self._sa_learn(f"--{kind}", new)
            self._store.note((message.digest for message in new), kind)
        result.known += len(usable) - len(new)
        result.examined += len(portion)
        return len(portion)

    def forget(self, messages: Sequence[Message]) -> int:
        """Forget messages, as whatever they were learned; return how many of them had been."""
        forgotten = self._sa_learn("--forget", messages)
        self._store.note((message.digest for message in messages), None)
        return forgotten

    def _sa_learn(self, how: str, messages: Sequence[Message]) -> int:
        """Return of how many messages sa-learn says that it has learned or forgotten them."""
        account = pwd.getpwnam(USER)
        privileged = os.geteuid() == 0
        directory = tempfile.mkdtemp(prefix="gateway-bayes-")
        try:
            for number, message in enumerate(messages):
                path = os.path.join(directory, f"{number:06}")
                with open(path, "xb") as stream:
                    stream.write(message.content)
                if privileged:
                    os.chown(path, account.pw_uid, account.pw_gid)
            if privileged:
                os.chown(directory, account.pw_uid, account.pw_gid)
            environment = {"PATH": "/usr/bin:/bin", "HOME": account.pw_dir, "LC_ALL": "C.UTF-8", "GATEWAY_BAYES_TEACHER": self._who}
            as_user: dict[str, Any] = {"user": USER, "group": account.pw_gid, "extra_groups": []} if privileged else {}
            done = subprocess.run(
                ["/usr/bin/sa-learn", how, "--max-size=0", "--prefspath=/dev/null", directory],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                **as_user,
            )
        finally:
            shutil.rmtree(directory)
        silent = _SILENT.search(done.stderr)
        if silent:
            raise StoreError(f"the store does not take what is learned: {silent[1]}; {self._store.way_out} and has memory, then try again")
        count = re.search(r"tokens from (\d+) message", done.stdout)
        if done.returncode or not count:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise BayesError(f"sa-learn ended with {done.returncode}: {said[-1] if said else 'it said nothing'}; 'spamassassin --lint' tells more")
        return int(count[1])


def in_archive(stream: BinaryIO) -> Iterator[Message]:
    """Return the messages in a tar archive."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield Message(member.name, file.read(LARGEST + 1))


def attached(report: bytes) -> list[Message]:
    """Return the messages that are attached to one. What is attached to them is a part of them."""
    found = []
    for part in _parts(email.message_from_bytes(report)):
        name = part.get_filename() or ""
        if part.get_content_type() == "message/rfc822" and part.is_multipart():
            inner = part.get_payload(0)
            if isinstance(inner, email.message.Message):
                found.append(Message(name or "the attached message", inner.as_bytes()))
        elif name.lower().endswith(".eml"):
            content = part.get_payload(decode=True)
            found.append(Message(name, content if isinstance(content, bytes) else b""))
    return found


def _parts(message: email.message.Message) -> Iterator[email.message.Message]:
    inner = message.get_payload()
    if message.get_content_maintype() == "multipart" and isinstance(inner, list):
        for part in inner:
            if isinstance(part, email.message.Message):
                yield from _parts(part)
    else:
        yield message


# --- The command ------------------------------------------------------------------------------------------------------


def _learn(arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    result = Result()
    kind = "spam" if arguments.spam else "ham"
    teacher = Teacher(store, arguments.by)
    deadline = time.monotonic() + arguments.seconds if arguments.seconds else None
    if arguments.tar:
        for _count in teacher.learn(in_archive(sys.stdin.buffer), kind, result):
            pass
        return {**result.report(), "next": None}
    places = [Place(path) for path in arguments.paths]
    total = sum(map(len, places))
    if not total:
        raise BayesError(f"{', '.join(arguments.paths)}: there is no message; name a file, an mbox, a Maildir or a directory of messages")
    done = min(arguments.after, total)
    positions = [(place, index) for place in places for index in range(len(place))][done:]
    messages = (place[index] for place, index in positions)
    for count in teacher.learn(messages, kind, result):
        done += count
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done:,} of {total:,} messages, {result.learned:,} learned" + ("" if done < total else "\n"))
            sys.stderr.flush()
        if deadline is not None and time.monotonic() > deadline:
            break
    return {**result.report(), "total": total, "next": done if done < total else None}


def _digests(arguments: argparse.Namespace) -> dict[str, Any]:
    """The messages of a place, by what they are known by."""
    place = Place(arguments.path)
    messages = (place[index] for index in range(len(place)))
    return {"digests": {message.digest: message.name for message in messages if not message.flaw()}, "total": len(place)}


def _known(arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """Which of the digests on standard input were learned as this class."""
    digests = sys.stdin.read().split()
    kind = "spam" if arguments.spam else "ham"
    return {"known": [digest for digest, known_as in zip(digests, store.classes(digests)) if known_as == kind]}


def _forget(arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    messages = [place[index] for place in map(Place, arguments.paths) for index in range(len(place))]
    return {"forgotten": Teacher(store, arguments.by).forget(messages), "examined": len(messages)}


def _report(arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """Learn what is attached to a message that Postfix delivers, see pipe(8)."""
    messages = attached(sys.stdin.buffer.read())
    result = Result()
    for _count in Teacher(store, arguments.sender.lower()).learn(messages, arguments.kind, result):
        pass
    if result.examined <= result.flawed:
        raise ReportError(f"no message is attached that could be learned{': ' + result.flaws[0] if result.flaws else ''}; forward it as an attachment")
    return result.report()


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"


def _shown(command: str, done: dict[str, Any]) -> str:
    """Return what a person reads of what was done."""
    if command == "status":
        word = "judges by what it has learned" if done["counts"] else f"does not judge by it yet: it needs {NEEDED} of each"
        lines = [f"{done['spam']:,} spam and {done['ham']:,} ham are learned; SpamAssassin {word}"]
        room = f" of {done['max_memory'] / 2**20:.0f}" if done["max_memory"] else ""
        lines.append(f"{done['memory'] / 2**20:.1f}{room} MiB of memory are used")
        if done["taught"]:
            width = max(map(len, done["taught"]))
            lines += ["", f"{'by':<{width}}  {'spam':>9}  {'ham':>9}  {'first':16}  last"]
            for who, each in sorted(done["taught"].items(), key=lambda pair: -pair[1]["last"]):
                lines.append(f"{who:<{width}}  {each['spam']:>9,}  {each['ham']:>9,}  {_when(each['first']):16}  {_when(each['last'])}")
        return "\n".join(lines)
    if command == "forget":
        return f"{done['forgotten']:,} of {done['examined']:,} messages are forgotten; the others had not been learned"
    if command == "reset":
        return "nothing is learned any more"
    text = f"{done['learned']:,} learned, {done['examined'] - done['learned'] - done['flawed']:,} known before, {done['flawed']:,} that cannot be learned"
    return "\n".join([text, *done["flaws"]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway-bayes", description="Teach the gateway what is spam and what is ham, and look at what it knows.")
    parser.add_argument("--settings", type=pathlib.Path, default=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, help_text: str | None, *, classes: bool = False, by: bool = False) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_text) if help_text else commands.add_parser(name)
        if classes:
            group = found.add_mutually_exclusive_group(required=True)
            for kind in CLASSES:
                group.add_argument(f"--{kind}", action="store_true")
        if by:
            found.add_argument("--by", default=os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name, help="who teaches, for 'status'")
        return found

    command("status", "how many messages are learned, by whom, and when")
    learn = command("learn", "learn the messages of files, directories, mboxes and Maildirs, each once", classes=True, by=True)
    learn.add_argument("--tar", action="store_true", help="learn the messages in a tar archive on standard input")
    learn.add_argument("--after", type=int, default=0, metavar="N", help="leave out the first N messages")
    learn.add_argument("--seconds", type=float, help="stop after so long; with --json, 'next' is then what --after takes")
    learn.add_argument("paths", nargs="*")
    forget = command("forget", "forget the messages of files, as whatever they were learned", by=True)
    forget.add_argument("paths", nargs="+")
    command("reset", "forget everything")
    # What the module bayes_learn and Postfix call.
    digests = command("digests", None)
    digests.add_argument("path")
    command("known", None, classes=True)
    report = command("report", None)
    report.add_argument("kind", choices=CLASSES)
    report.add_argument("sender")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if arguments.command == "digests":
            done = _digests(arguments)
        else:
            store = Store(json.loads(arguments.settings.read_text(encoding="utf-8")))
            if arguments.command == "status":
                done = store.state()
            elif arguments.command == "reset":
                store.forget_everything()
                done = {}
            else:
                does = {"learn": _learn, "known": _known, "forget": _forget, "report": _report}
                done = does[arguments.command](arguments, store)
    except (BayesError, OSError) as error:
        sys.stderr.write(f"gateway-bayes: {error}\n")
        if arguments.command == "report":
            # Postfix returns what can never be learned to who has sent it, and tries again with everything else.
            return EX_DATAERR if isinstance(error, ReportError) else EX_TEMPFAIL
        return 1
    sys.stdout.write((json.dumps(done) if arguments.json else _shown(arguments.command, done)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
