# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache with sources that are files, and with one on another host that counts how often it is asked."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import stat
import tempfile
import time

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _changeset
from ansible_collections.antispam.gateway.plugins.plugin_utils import _cache, _content
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, SourceError
from hypothesis import given, settings
from hypothesis import strategies as st

DOMAINS = ["example.com", "example.net"]


class Export:
    """A directory with exports, and the cache of them."""

    def __init__(self, root, *options, on_invalid="fail"):
        self.root, self.options, self.on_invalid, self.runs = pathlib.Path(root), options or ({"path": "users.txt"},), on_invalid, 0

    def write(self, text, name="users.txt"):
        (self.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def cache(self):
        sources = [Source(options, self.root) for options in self.options]
        return _cache.Cache(self.root / "home", sources, lambda readings: _content.content_of(readings, DOMAINS, self.on_invalid), [DOMAINS])

    def prepare(self, text=None):
        if text is not None:
            self.write(text)
        self.runs += 1
        return self.cache().prepare(f"run {self.runs}")

    def reference(self):
        """What the sources say now, by looking at the whole."""
        sources = [Source(options, self.root) for options in self.options]
        return _changeset.Content(_content.content_of([(s, s.records(s.fetch())) for s in sources], DOMAINS, self.on_invalid).text()).entries()

    @property
    def directory(self):
        (found,) = (self.root / "home").iterdir()
        return found


@pytest.fixture
def export(tmp_path):
    return Export(tmp_path)


def content(prepared):
    return _changeset.Content(_changeset.unpack(prepared.content())).entries()


def change(prepared):
    """(added, removed, changed) or None."""
    if prepared.change is None:
        return None
    found = _changeset.Change.parse(_changeset.unpack(prepared.change))
    return [key.decode() for key, _value in found.added], [key.decode() for key in found.removed], [key.decode() for key, _value in found.changed]


def keys(*names):
    return {name.encode(): b"OK" for name in names}


ABC = "a@example.com\nb@example.com\nc@example.com\n"


def test_the_first_run_has_everything_and_no_change(export):
    prepared = export.prepare(ABC)
    assert (prepared.base, prepared.change, prepared.skipped) == (None, None, 0)
    assert content(prepared) == keys("a@example.com", "b@example.com", "c@example.com")


def test_the_same_sources_are_the_same_content(export):
    first = export.prepare(ABC)
    again = export.prepare()
    assert again.wanted == first.wanted
    assert content(again) == content(first)


def test_another_line_is_another_content_from_the_one_before(export):
    first = export.prepare(ABC)
    second = export.prepare("a@example.com\nc@example.com\nd@example.com\n")
    assert (second.base, second.wanted != first.wanted) == (first.wanted, True)
    assert change(second) == (["d@example.com"], ["b@example.com"], [])
    assert content(second) == export.reference()


def test_lines_in_another_order_are_no_change(export):
    export.prepare(ABC)
    assert change(export.prepare("c@example.com\na@example.com\nb@example.com\n")) == ([], [], [])


def test_other_settings_have_a_cache_of_their_own(export):
    wanted = export.prepare(ABC).wanted
    export.options = ({"path": "users.txt", "value": "relay"},)
    other = export.prepare()
    assert (other.wanted != wanted, other.change) == (True, None)
    assert set(content(other).values()) == {b"relay"}


def test_another_header_is_looked_at_as_a_whole(export):
    export.options = ({"path": "users.csv", "column": "mail"},)
    export.write("id,mail\n1,a@example.com\n2,b@example.com\n", "users.csv")
    export.prepare()
    export.write("mail,other\nb@example.com,1\nc@example.com,x\n", "users.csv")
    assert content(prepared := export.prepare()) == keys("b@example.com", "c@example.com")
    assert change(prepared) == (["c@example.com"], ["a@example.com"], [])


def test_a_header_without_the_column_is_an_error_and_nothing_is_forgotten(export):
    export.options = ({"path": "users.csv", "column": "mail"},)
    export.write("id,mail\n1,a@example.com\n", "users.csv")
    first = export.prepare()
    export.write("id,email\n1,a@example.com\n2,b@example.com\n", "users.csv")
    with pytest.raises(SourceError, match="no column 'mail'"):
        export.prepare()
    export.write("id,mail\n1,a@example.com\n2,b@example.com\n", "users.csv")
    last = export.prepare()
    assert (last.base, change(last)) == (first.wanted, (["b@example.com"], [], []))


@pytest.mark.parametrize("empty", ["", "\n\n", "# nothing\n", "# nothing\n\n# at all\n# any more\n"])
@pytest.mark.parametrize("before", ["a@example.com\n", "# nothing\na@example.com\n# at all\n# any more\n# today\n", ABC])
def test_a_source_that_comes_back_empty_is_an_error_however_many_others_there_are(export, empty, before):
    export.options = ({"path": "users.txt"}, {"path": "more.txt"})
    export.write("".join(f"user{number}@example.com\n" for number in range(100)), "more.txt")
    first = export.prepare(before)
    for _attempt in range(2):
        with pytest.raises(SourceError, match="no address in it"):
            export.prepare(empty)
    assert export.prepare(before).wanted == first.wanted


def test_a_csv_file_with_nothing_but_its_header_is_an_error(export):
    export.options = ({"path": "users.csv", "column": "mail"}, {"addresses": ["z@example.com"]})
    export.write("mail\na@example.com\n", "users.csv")
    export.prepare()
    export.write("mail\n", "users.csv")
    with pytest.raises(SourceError, match="no address in it"):
        export.prepare()


def test_a_bad_line_is_named_with_its_number_though_only_it_is_new(export):
    export.prepare(ABC)
    with pytest.raises(_content.Refused) as raised:
        export.prepare(ABC + "d e@example.com\n")
    assert "users.txt line 4" in str(raised.value)
    assert change(export.prepare(ABC + "d@example.com\n")) == (["d@example.com"], [], [])


def test_a_bad_line_may_be_left_out_and_stays_counted(export):
    export.on_invalid = "skip"
    export.prepare(ABC)
    second = export.prepare(ABC + "d e@example.com\n")
    assert (second.skipped, change(second)) == (1, ([], [], []))
    assert export.prepare().skipped == 1
    third = export.prepare(ABC + "d e@example.com\nf@example.com\n")
    assert (third.skipped, change(third)) == (1, (["f@example.com"], [], []))
    assert export.prepare(ABC).skipped == 0


def test_upper_case_is_folded_and_no_line_of_it_is_a_change(export):
    export.prepare(ABC)
    assert change(export.prepare(ABC.replace("b@", "B@"))) == ([], [], [])
    assert change(export.prepare(ABC.replace("b@example.com", "B@Example.COM"))) == ([], [], [])


@pytest.mark.parametrize("twice", ["a@example.com\n", "A@example.com\n"])
def test_an_address_that_stands_twice_stays_while_one_of_them_does(export, twice):
    """The line that goes again is not the address's last."""
    export.prepare(ABC)
    second = export.prepare(ABC + twice)
    assert content(second) == export.reference()
    third = export.prepare(ABC)
    assert change(third) in (None, ([], [], []))
    assert content(third) == export.reference()


def test_an_address_that_two_sources_name_stays_while_one_of_them_does(export):
    export.options = ({"path": "users.txt"}, {"path": "more.txt"})
    export.write("z@example.com\n", "more.txt")
    export.prepare(ABC)
    export.write("z@example.com\na@example.com\n", "more.txt")
    export.prepare()
    export.write("z@example.com\n", "more.txt")
    assert change(export.prepare()) in (None, ([], [], []))


def test_an_address_with_two_values_is_refused_though_only_one_of_them_is_new(export):
    export.options = ({"path": "users.txt", "with_values": True},)
    export.prepare("a@example.com one\nb@example.com one\n")
    with pytest.raises(_content.Refused, match="line 3: a@example.com has the value one already, and two here"):
        export.prepare("a@example.com one\nb@example.com one\na@example.com two\n")
    assert change(export.prepare("a@example.com two\nb@example.com one\n")) == ([], [], ["a@example.com"])


def test_the_first_of_two_values_that_goes_leaves_the_second(export):
    export.options, export.on_invalid = ({"path": "users.txt", "with_values": True},), "skip"
    assert content(export.prepare("a@example.com one\na@example.com two\n")) == {b"a@example.com": b"one"}
    second = export.prepare("a@example.com two\n")
    assert content(second) == {b"a@example.com": b"two"}
    assert change(second) in (None, ([], [], ["a@example.com"]))


def test_a_content_that_comes_back_is_the_same_content(export):
    first = export.prepare(ABC)
    second = export.prepare(ABC + "d@example.com\n")
    third = export.prepare(ABC)
    assert (third.wanted, third.base, change(third)) == (first.wanted, second.wanted, ([], ["d@example.com"], []))
    assert content(third) == content(first)


def test_a_check_and_the_run_after_it_offer_the_same(export):
    first = export.prepare(ABC)
    checked = export.prepare(ABC + "d@example.com\n")
    real = export.prepare()
    assert (real.wanted, real.base, real.change) == (checked.wanted, first.wanted, checked.change)


def test_a_large_change_is_not_kept_and_the_whole_is_there(export, monkeypatch):
    monkeypatch.setattr(_cache, "_WORTH_KEEPING", 500)
    export.prepare(ABC)
    prepared = export.prepare(ABC + "".join(f"{os.urandom(8).hex()}@example.com\n" for _number in range(100)))
    assert prepared.change is None
    assert len(content(prepared)) == 103


# ---- what may happen to the cache -------------------------------------------------------------------------------

BEFORE = ABC
AFTER = "a@example.com\nc@example.com\nd@example.com\n"


@pytest.mark.parametrize("text", ["a@example.com", "a@example.com\n", "a@example.com\r\n", "a@example.com\n0\n13"])
def test_a_source_may_end_as_it_likes(export, text):
    export.options = ({"path": "users.txt"}, {"path": "more.txt"})
    export.write("a@example.com\n", "more.txt")
    export.on_invalid = "skip"
    for number in range(3):
        prepared = export.prepare(text.replace("a@", f"a{number}@"))
        assert content(prepared) == export.reference()
        assert change(prepared) in (None, ([f"a{number}@example.com"], [f"a{number - 1}@example.com"], []))


@pytest.mark.parametrize("kept", [b"", b"\n", b"12", b"a\n1", b"x" * 100 + b"\n100", b"\n" * 40])
def test_what_is_kept_is_read_as_it_was(export, kept):
    export.prepare(ABC)
    cache = export.cache()
    cache._store("raw-some", kept)
    assert cache._load("raw-some") == cache._mapped("raw-some")[:] == kept


def spoil(how):
    def spoil_files(export, pattern):
        found = [path for path in export.directory.iterdir() if path.name.startswith(pattern)]
        assert found
        for path in found:
            how(path)

    return spoil_files


@pytest.mark.parametrize("pattern", ["meta", "raw", "content"])
@pytest.mark.parametrize(
    "how", [spoil(pathlib.Path.unlink), spoil(lambda path: os.truncate(path, 0)), spoil(lambda path: os.truncate(path, 14))], ids=["lost", "emptied", "cut"]
)
@pytest.mark.parametrize("text", [BEFORE, AFTER, AFTER.replace("d@", "D@")], ids=["same", "by line", "whole"])
def test_a_cache_that_is_lost_or_damaged_does_no_harm(export, how, pattern, text):
    # Only what is not as it stands in the table is kept as content.
    first = export.prepare(BEFORE.replace("a@", "A@") if pattern == "content" else BEFORE)
    how(export, pattern)
    prepared = export.prepare(text)
    assert content(prepared) == export.reference()
    assert prepared.base in (None, first.wanted)
    if prepared.change is not None:
        assert change(prepared) == (["d@example.com"], ["b@example.com"], [])


@pytest.mark.parametrize("text", ["null", "[]", "1", '{"wanted": "x"}', '"x"'])
def test_a_cache_of_another_kind_is_none(export, text):
    export.prepare(BEFORE)
    (export.directory / "meta").write_text(text)
    prepared = export.prepare(AFTER)
    assert (prepared.change, content(prepared)) == (None, export.reference())


def test_another_version_has_another_cache(export, monkeypatch):
    export.prepare(BEFORE)
    monkeypatch.setattr(_cache, "_FORM", 99)
    assert export.prepare(AFTER).change is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("text", [AFTER, AFTER.replace("d@", "D@")], ids=["by line", "whole"])
def test_the_run_after_one_that_was_killed_offers_the_change_from_what_the_host_has(export, monkeypatch, at, text):
    first = export.prepare(BEFORE)
    rename, left = os.rename, [at]

    def die(*names):
        if not left[0]:
            raise Killed
        left[0] -= 1
        rename(*names)

    monkeypatch.setattr(os, "rename", die)
    try:
        export.prepare(text)
    except Killed:
        pass
    monkeypatch.undo()
    second = export.prepare()
    assert content(second) == export.reference()
    assert second.base in (None, first.wanted)
    if second.change is not None:
        assert change(second) == (["d@example.com"], ["b@example.com"], [])


def test_what_was_prepared_stays_what_it_was_when_another_run_comes_between(export):
    """Hosts are told the digest first, and get the content later."""
    for text in (BEFORE, AFTER, AFTER + "e@example.com\n", "A@example.com\n"):
        prepared, expected = export.prepare(text), export.reference()
        export.prepare("x@example.com\nY@example.com\n")
        assert content(prepared) == expected


def test_the_cache_is_for_its_user_alone_and_does_not_grow(export):
    for number in range(5):
        export.prepare(ABC + f"d{number}@example.com\n")
        export.prepare(ABC + f"D{number}@example.com\n")
    assert stat.S_IMODE(export.directory.stat().st_mode) == 0o700
    assert len(list(export.directory.iterdir())) <= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in export.directory.iterdir()} == {0o600}


def test_what_a_run_that_was_killed_left_goes_though_a_source_fails(export, monkeypatch):
    export.prepare(ABC)
    whole = set(export.directory.iterdir())
    with monkeypatch.context() as patch:
        # The end of a process undoes nothing.
        patch.setattr(os, "rename", lambda *names: os._exit(0))
        child = os.fork()
        if not child:
            export.prepare(ABC + "d@example.com\n")
        os.waitpid(child, 0)
    assert set(export.directory.iterdir()) > whole
    with pytest.raises(SourceError):
        export.prepare("")
    assert set(export.directory.iterdir()) == whole


# ---- sources on other hosts --------------------------------------------------------------------------------------


class Remote(Source):
    """A list that is far away."""

    def __init__(self, directory):
        super().__init__({"path": "users.txt"}, directory)
        self.remote, self.directory = True, pathlib.Path(directory)

    def fetch(self):
        with open(self.directory / "asked", "a", encoding="ascii") as log:
            log.write("x")
        return super().fetch()


def remote_cache(root):
    return _cache.Cache(root / "home", [Remote(root)], lambda readings: _content.content_of(readings, DOMAINS), [DOMAINS])


def worker(root, run, answers):
    prepared = remote_cache(root).prepare(run)
    answers.put((prepared.wanted, prepared.base, prepared.change, prepared.content()))


def test_a_source_elsewhere_is_asked_once_for_all_hosts_of_a_run(tmp_path):
    context = multiprocessing.get_context("fork")
    for run, text in enumerate([BEFORE, AFTER]):
        (tmp_path / "users.txt").write_text(text)
        answers = context.Queue()
        workers = [context.Process(target=worker, args=(tmp_path, f"run {run}", answers)) for _number in range(4)]
        for process in workers:
            process.start()
        said = {answers.get(timeout=30) for _process in workers}
        for process in workers:
            process.join()
        assert len(said) == 1
        assert (tmp_path / "asked").read_text() == "x" * (run + 1)


def test_the_hosts_of_a_run_get_the_same_though_the_source_moves_on(tmp_path):
    (tmp_path / "users.txt").write_text(BEFORE)
    first = remote_cache(tmp_path).prepare("run 1")
    (tmp_path / "users.txt").write_text(AFTER)
    assert remote_cache(tmp_path).prepare("run 1").wanted == first.wanted
    assert remote_cache(tmp_path).prepare("run 2").wanted != first.wanted


def test_a_source_that_failed_is_asked_again(tmp_path):
    with pytest.raises(SourceError):
        remote_cache(tmp_path).prepare("run 1")
    (tmp_path / "users.txt").write_text(BEFORE)
    assert content(remote_cache(tmp_path).prepare("run 1")) == keys("a@example.com", "b@example.com", "c@example.com")


def test_no_secret_is_remembered(tmp_path):
    (tmp_path / "users.txt").write_text(BEFORE)
    source = Source({"url": "https://www.example.com/users.txt?token=geheim1", "username": "reader", "password": "geheim2"}, tmp_path)
    source.fetch = BEFORE.encode
    _cache.Cache(tmp_path / "home", [source], lambda readings: _content.content_of(readings, DOMAINS), [DOMAINS]).prepare("run")
    for path in (tmp_path / "home").rglob("*"):
        assert "geheim" not in str(path)
        assert path.is_dir() or b"geheim" not in path.read_bytes()


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_what_nobody_used_for_a_month_is_forgotten(export, days, kept):
    other = export.root / "home" / "other"
    other.mkdir(parents=True)
    (other / "meta").write_text("{}")
    then = time.time() - days * 24 * 3600
    os.utime(other / "meta", (then, then))
    export.prepare(ABC)
    assert other.exists() == kept


# ---- whatever is edited ------------------------------------------------------------------------------------------

lines = st.one_of(
    st.sampled_from([f"{name}@{domain}" for name in "abcde" for domain in DOMAINS]),
    st.sampled_from(["A@example.com", "# a@example.com", "", '"a"@example.com', "aa@example.com", "not an address", "a@example.org", "b@example.com\r"]),
)
texts = st.builds(lambda found, end: "\n".join(found) + end, st.lists(lines, max_size=8), st.sampled_from(["\n", ""]))


@settings(max_examples=150)
@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=6), st.sampled_from(["fail", "skip"]))
def test_whatever_is_edited_a_change_that_is_offered_makes_the_new_content_of_the_old(states, on_invalid):
    with tempfile.TemporaryDirectory() as root:
        export = Export(root, {"path": "users.txt"}, {"path": "more.txt"}, on_invalid=on_invalid)
        known = {}
        for text, more in states:
            export.write(text)
            export.write(more, "more.txt")
            try:
                expected = export.reference()
            except (SourceError, _content.Refused) as refused:
                with pytest.raises(type(refused)):
                    export.prepare()
                continue
            prepared = export.prepare()
            assert content(prepared) == expected
            assert known.setdefault(prepared.wanted, expected) == expected
            if prepared.change is not None:
                found = _changeset.Change.parse(_changeset.unpack(prepared.change))
                base = known[prepared.base]
                assert not base.keys() & {key for key, _value in found.added}
                assert found.applied(base) == expected


def test_what_the_cache_writes_is_whole_or_absent(export, monkeypatch):
    """A disk that is full leaves the cache as it was."""
    first = export.prepare(BEFORE)
    before = {path.name: path.read_bytes() for path in export.directory.iterdir()}
    replace = os.fdopen

    def full(*arguments, **options):
        stream = replace(*arguments, **options)
        stream.close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space"):
        export.prepare(AFTER)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in export.directory.iterdir() if path.name in before} == before
    assert export.prepare(AFTER).base == first.wanted
