# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what the checks of docs/more-to-look-with.md cost, and what they do to wanted mail, on the gateway of "make demo":

one process of SpamAssassin has none of them, and one more for each has that alone, with the gateway's own configuration. Every
message is judged by all of them in turn, so that what else the machine does is shared. Wanted mail is that of a public corpus,
which npm fetches; and there are made messages that give each check something to do.

No list is asked. Only shortened links ask a host, that of the test network. Ratios are printed, and decide nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import random
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import verdict

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent / "more.pl"
sys.path.insert(0, str(ROOT / "tests" / "gateway"))
import _office  # noqa: E402
import _pdf  # noqa: E402

NONE = "none"
# {variable: the plugin of SpamAssassin}
CHECKS = {
    "spamassassin_pdf_text": "ExtractText",
    "spamassassin_ole_macros": "OLEVBMacro",
    "spamassassin_phishing_feeds": "Phishing",
    "spamassassin_short_links": "DecodeShortURLs",
}
# As many links as the larger lists have.
LINKS = 50_000
LISTED, SHORT, LANDING = "http://bank.example.net/login/", "http://short.example.org/landing", "http://landing.example.net/offer"
SEED = 1


@dataclasses.dataclass(frozen=True)
class Made:
    """A message that gives a check something to do."""

    name: str
    variable: str
    # The rule that hits with the check, and does not without.
    rule: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Judged:
    """What one process says of a message."""

    cpu: float
    seconds: float
    points: float
    rules: str


# --- Messages ---------------------------------------------------------------------------------------------------------


def letter(text: str, *attachments: tuple[str, bytes]) -> bytes:
    built = EmailMessage(policy=SMTP)
    built["Date"], built["Message-ID"] = "Thu, 5 Nov 2026 10:00:00 +0000", "<letter@example.org>"
    built["From"], built["To"], built["Subject"] = "sender@example.org", "alice@example.com", "Our offer"
    built.set_content(text)
    for name, content in attachments:
        built.add_attachment(content, "application", "octet-stream", filename=name)
    return built.as_bytes()


def words(count: int, corpus: Sequence[str], source: random.Random) -> list[str]:
    """Lines of twelve words."""
    return [" ".join(source.choices(corpus, k=12)) for _number in range(count)]


def made(ham: Sequence[verdict.Message], seed: int) -> list[Made]:
    """The made messages. Their words are those of the corpus."""
    source = random.Random(seed)
    text = b" ".join(message.content.partition(b"\n\n")[2] for message in ham[:50]).decode("ascii", "ignore")
    corpus = [word for word in text.split() if word.isalpha()] or ["word"]
    plain = "\n".join(words(20, corpus, source)) + "\n"
    pages = [_pdf.page(*words(lines - 1, corpus, source), f"See {LANDING}") for lines in (40, 50, 50, 50, 50)]
    return [
        Made("a letter with a PDF of one page, 40 lines", "spamassassin_pdf_text", "EXAMPLE_LANDING", letter(plain, ("offer.pdf", _pdf.pdf(pages[0])))),
        Made("a letter with a PDF of four pages, 200 lines", "spamassassin_pdf_text", "EXAMPLE_LANDING", letter(plain, ("offer.pdf", _pdf.pdf(*pages[1:])))),
        Made(
            "a letter with a document with macros",
            "spamassassin_ole_macros",
            "OLEMACRO",
            letter(plain, ("report.docm", _office.docm(_office.project(_office.ON_CLICK)))),
        ),
        Made(f"a letter with a link, and a list of {LINKS:,} links", "spamassassin_phishing_feeds", "URI_PHISHING", letter(f"{plain}See {LISTED}\n")),
        Made("a letter with a shortened link", "spamassassin_short_links", "EXAMPLE_LANDING", letter(f"{plain}See {SHORT}\n")),
    ]


def links(seed: int) -> str:
    source = random.Random(seed)
    return "".join(f"http://{source.getrandbits(64):x}.example.net/{source.getrandbits(32):x}\n" for _number in range(LINKS - 1)) + f"{LISTED}\n"


# --- The gateway ------------------------------------------------------------------------------------------------------


class Judge:
    """A process on the gateway that judges one message after the other, with one check or with none."""

    def __init__(self, directory: str, plugin: str, asks: str) -> None:
        self.plugin = plugin
        self.place = f"{directory}/{plugin}-{asks}"
        command = ["env", f"HOME={self.place}", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0", "perl", f"{directory}/{PROGRAM.name}", plugin, asks, self.place]
        prepare = f"install -d -o amavis -m 700 {self.place} && cp links.txt {self.place}/ && chown amavis {self.place}/links.txt"
        remote = f"cd {directory} && {prepare} && exec runuser -u amavis -- {shlex.join(command)} 2>{self.place}.log"
        self.process = subprocess.Popen([*verdict.SSH, remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version, self.memory = "", 0

    def _line(self) -> list[str]:
        assert self.process.stdout
        words = self.process.stdout.readline().split()
        if not words:
            raise verdict.Problem(f"judging failed ({self.plugin}): {verdict.on_gateway(f'tail -n 5 {self.place}.log').strip() or 'the connection ended'}")
        return words

    def ready(self) -> None:
        _ready, self.version, memory = self._line()
        self.memory = int(memory)

    def judge(self, name: str) -> Judged:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()
        cpu, seconds, points, rules = self._line()
        return Judged(float(cpu), float(seconds), float(points), rules)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def judges(files: dict[str, bytes]) -> Iterator[dict[tuple[str, str], Judge]]:
    """{(plugin, local or network): Judge}, with these files where they are."""
    directory = verdict.on_gateway('directory=$(mktemp -d /var/tmp/more.XXXXXX) && chmod 711 "$directory" && echo "$directory"').strip()
    found: dict[tuple[str, str], Judge] = {}
    try:
        verdict.on_gateway(f"tar -xzC {directory}", packed(files))
        kinds = [(plugin, "local") for plugin in (NONE, *CHECKS.values())] + [(plugin, "network") for plugin in (NONE, CHECKS["spamassassin_short_links"])]
        for plugin, asks in kinds:
            found[plugin, asks] = Judge(directory, plugin, asks)
        for judge in found.values():
            judge.ready()
        yield found
    finally:
        for judge in found.values():
            judge.stop()
        subprocess.run([*verdict.SSH, f"rm -rf {directory}"], capture_output=True, check=False)


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


# --- What comes out ---------------------------------------------------------------------------------------------------


def middle(values: Sequence[float]) -> float:
    """The median; of an even number the higher one, so that it is a value that was measured."""
    return sorted(values)[len(values) // 2]


def ham_row(variable: str, without: Sequence[Judged], having: Sequence[Judged], memory: float) -> list[str]:
    """What a check costs for wanted mail, and what it does to it."""
    changes = [after.points - before.points for before, after in zip(without, having, strict=True)]
    changed = [change for change in changes if abs(change) >= 0.001]
    refused = [sum(each.points >= verdict.DEFAULT for each in judged) for judged in (without, having)]
    cpu = sum(each.cpu for each in having) / sum(each.cpu for each in without)
    span = f"{len(changed)} ({min(changed):+.1f} to {max(changed):+.1f})" if changed else "0"
    return [f"`{variable}`", f"{cpu:.2f}", f"{memory:.2f}", str(refused[0]), str(refused[1]), span]


def made_row(message: Made, without: Sequence[Judged], having: Sequence[Judged]) -> list[str]:
    for judged, hits in ((without, False), (having, True)):
        if any((message.rule in each.rules.split(",")) is not hits for each in judged):
            raise verdict.Problem(
                f"{message.name}: {message.rule} {'does not hit with' if hits else 'hits without'} {message.variable}, so nothing is compared"
            )
    cpu = sum(each.cpu for each in having) / sum(each.cpu for each in without)
    seconds = middle([each.seconds for each in having]) / middle([each.seconds for each in without])
    return [message.name, f"`{message.variable}`", f"{cpu:.1f}", f"{seconds:.1f}"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=500, help="messages of wanted mail (default 500)")
    parser.add_argument("--rounds", type=int, default=25, help="how often each made message is judged (default 25)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the choice of messages (default {SEED})")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        ham = [message for message in verdict.read(verdict.fetch()) if message.kind == "ham"]
        ham = random.Random(options.seed).sample(ham, min(options.messages, len(ham)))
        letters = made(ham, options.seed)
        files = {PROGRAM.name: PROGRAM.read_bytes(), "links.txt": links(options.seed).encode()}
        files |= {f"ham/{number}": message.content for number, message in enumerate(ham)}
        files |= {f"made/{number}": message.content for number, message in enumerate(letters)}
        with judges(files) as by_kind:
            local = [by_kind[plugin, "local"] for plugin in (NONE, *CHECKS.values())]
            # The first message of a process costs more than the others.
            for judge in by_kind.values():
                judge.judge("ham/0")
            judged: dict[str, list[Judged]] = {judge.plugin: [] for judge in local}
            for number in range(len(ham)):
                for judge in local:
                    judged[judge.plugin].append(judge.judge(f"ham/{number}"))
            rows = []
            for number, message in enumerate(letters):
                asks = "network" if message.variable == "spamassassin_short_links" else "local"
                pair = [by_kind[plugin, asks] for plugin in (NONE, CHECKS[message.variable])]
                answers: list[list[Judged]] = [[], []]
                for _round in range(options.rounds):
                    for place, judge in zip(answers, pair, strict=True):
                        place.append(judge.judge(f"made/{number}"))
                rows.append(made_row(message, *answers))
            version = local[0].version
            memory = {judge.plugin: judge.memory / local[0].memory for judge in local}
    except verdict.Problem as problem:
        sys.exit(f"more: {problem}")
    print(f"SpamAssassin {version}, {len(ham)} messages of wanted mail of {verdict.PACKAGE} {verdict.VERSION}, seed {options.seed}.\n")
    head = [
        "check",
        "CPU, ratio to none",
        "memory, ratio to none",
        f"refused from {verdict.DEFAULT} points, none",
        "with the check",
        "messages with other points",
    ]
    print(table(head, [ham_row(variable, judged[NONE], judged[plugin], memory[plugin]) for variable, plugin in CHECKS.items()]))
    print()
    print(table(["message", "check", "CPU, ratio to none", "time, ratio to none"], rows))
    with_pdf = sum(b".pdf" in message.content.lower() for message in ham)
    print(f"\nOf the wanted mail, {with_pdf} name a PDF. {(time.monotonic() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
