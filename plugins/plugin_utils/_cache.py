# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller keeps of a table's sources, so that only what differs is read, checked and sent.

Private to antispam.gateway. The cache is a help and never the truth: the host
says what its table holds, and whatever is missing here is made anew from the
sources. Its files are readable for their user alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from ansible_collections.antispam.gateway.plugins.module_utils import _changeset, _leftovers
from ansible_collections.antispam.gateway.plugins.plugin_utils import _content
from ansible_collections.antispam.gateway.plugins.plugin_utils._content import Lines
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Records, Source, SourceError

# {address: value}.
_Entries = dict[bytes, bytes]
# What went and what came since one state.
_Since = tuple[_Entries, _Entries]
# Makes the Content of a list of sources and what they say.
Check = Callable[[list[tuple[Source, Records]]], _content.Content]

# Another form of the content is another content.
_FORM = 2
# A larger change is no better than the whole.
_WORTH_KEEPING = 4 * 1024 * 1024
# Seconds, thirty days: after that a cache that nobody used goes.
_KEPT = 30 * 24 * 3600
# So many addresses may differ from the sources that are kept before these are kept anew: they are large.
_MANY = 2000
# Bytes, more than the length of a content at the end of its file and the line feed before it.
_LENGTH = 32

# Beyond so many it is quicker to look at all lines than to search for each.
_FEW = 10
_META = {"wanted", "base", "change", "plain", "skipped", "problems", "stored", "since", "run", "digests"}


class Prepared:
    """What may be sent: digests of the wanted content and of the one before, the change between them, and all of it on demand."""

    def __init__(self, meta: dict[str, Any], content: Callable[[], bytes], timings: dict[str, float]) -> None:
        self.wanted: str = meta["wanted"]
        self.base: str | None = meta["base"]
        self.change: str | None = meta["change"]
        # How many entries were left out, and sentences about the first of them.
        self.skipped: int = meta["skipped"]
        self.problems: list[str] = meta["problems"]
        self._content, self.timings = content, timings

    def content(self) -> str:
        """Return all of the wanted content, packed."""
        return _changeset.pack(self._content())


class Cache:
    """The cache of one list of sources."""

    def __init__(self, directory: str | os.PathLike[str], sources: Sequence[Source], check: Check, settings: Any) -> None:
        """settings: what the content depends on beside the sources, as JSON can hold it."""
        self.sources, self.check = sources, check
        self.settings = [_FORM, settings, [[s.identity, s.value, s.wildcards, s.domains, s.label] for s in sources]]
        self.directory = pathlib.Path(directory) / hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:32]
        # Seconds of each step.
        self.timings: dict[str, float] = {}
        self._text: bytes | None = None

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[step] = round(self.timings.get(step, 0) + time.monotonic() - started, 3)

    def prepare(self, run: str) -> Prepared:
        """Read the sources and return what may be sent. run: a text that is the same for all hosts of one task.

        Raises SourceError for a source that cannot be read, Refused for what cannot be taken.
        """
        # The first host's worker reads and checks, the others find it done.
        with self._alone():
            known = self._known()
            with self._timed("read"):
                raws = [self._fetch(number, source, run, known) for number, source in enumerate(self.sources)]
                digests = [hashlib.sha256(raw).hexdigest() for raw in raws]
                wanted = hashlib.sha256(json.dumps([self.settings, digests]).encode()).hexdigest()
            meta = known if known and known["wanted"] == wanted else self._advance(known, wanted, raws, digests)
            if meta.get("run") != run:
                for source, raw, digest in zip(self.sources, raws, digests):
                    if source.remote:
                        self._store(f"raw-{digest}", raw)
                meta.update(run=run, digests=digests)
                self._store("meta", json.dumps(meta).encode())
                self._forget(meta)
        return Prepared(meta, lambda: self._whole(meta, raws), self.timings)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(self.directory / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _leftovers.remove(self.directory)
            yield

    def _known(self) -> dict[str, Any] | None:
        try:
            known = json.loads(self._load("meta"))
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and _META <= known.keys() else None

    def _fetch(self, number: int, source: Source, run: str, known: dict[str, Any] | None) -> bytes:
        """Remote sources are asked once for all hosts of a task."""
        if source.remote and known and known["run"] == run:
            with contextlib.suppress(OSError):
                return self._load(f"raw-{known['digests'][number]}")
        return source.fetch()

    def _advance(self, known: dict[str, Any] | None, wanted: str, raws: list[bytes], digests: list[str]) -> dict[str, Any]:
        """Return the meta of a new content."""
        new: dict[str, Any] = {"wanted": wanted, "base": known["wanted"] if known else None, "change": None}
        since: _Since | None = None
        change: _changeset.Change | None
        if known and known["plain"]:
            with self._timed("compare"):
                since = self._since(known, raws, digests)
        if known and since is not None:
            change = _step(_texts(known["since"]), since)
            new.update(plain=True, skipped=0, problems=[])
            if sum(map(len, since)) <= _MANY:
                new.update(stored=known["stored"], since=_lines(since))
            else:
                self._keep(new, raws, digests)
        else:
            with self._timed("check"):
                content = self._content(raws)
                self._text = content.text()
            with self._timed("compare"):
                old = self._old(known) if known else None
                change = None if old is None else _changeset.Change.between(old, _changeset.Content(self._text).entries())
            plain = content.plain and all(source.by_line(raw) for source, raw in zip(self.sources, raws))
            new.update(plain=plain, skipped=content.skipped, problems=content.problems)
            if plain:
                self._keep(new, raws, digests)
            else:
                self._keep_text(new, self._text)
        packed = None if change is None else _changeset.pack(change.text())
        if packed is not None and len(packed) <= _WORTH_KEEPING:
            new["change"] = packed
        return new

    def _content(self, raws: Sequence[bytes]) -> _content.Content:
        return self.check([(source, source.records(raw)) for source, raw in zip(self.sources, raws)])

    def _keep(self, meta: dict[str, Any], raws: list[bytes], digests: list[str]) -> None:
        """Keep the sources as they are, of which each line is an entry."""
        meta.update(stored=digests, since=_lines(({}, {})))
        for raw, digest in zip(raws, digests):
            self._store(f"raw-{digest}", raw)

    def _keep_text(self, meta: dict[str, Any], text: bytes) -> None:
        meta.update(plain=False, stored=[], since=_lines(({}, {})))
        self._store(f"content-{meta['wanted']}", text)

    def _whole(self, meta: dict[str, Any], raws: list[bytes]) -> bytes:
        """Return the content as text."""
        if self._text is not None:
            return self._text
        if not meta["plain"]:
            with contextlib.suppress(OSError):
                return self._load(f"content-{meta['wanted']}")
        with self._timed("check"):
            content = self._content(raws)
        if meta["plain"] and not content.plain:
            # An address came that was there already, and the host did not take the change. From now on a line that goes
            # need not take its address with it.
            with self._alone():
                known = self._known()
                if known and known["wanted"] == meta["wanted"]:
                    self._keep_text(known, content.text())
                    self._store("meta", json.dumps(known).encode())
        return content.text()

    def _old(self, known: dict[str, Any]) -> _Entries | None:
        """Return the entries of the content before, None where they are lost: a change from nothing would leave what has to go."""
        try:
            if not known["plain"]:
                return _changeset.Content(self._load(f"content-{known['wanted']}")).entries()
            entries = _changeset.Content(self._content([self._load(f"raw-{digest}") for digest in known["stored"]]).text()).entries()
        except OSError:
            return None
        return _step(({}, {}), _texts(known["since"])).applied(entries)

    def _since(self, known: dict[str, Any], raws: list[bytes], digests: list[str]) -> _Since | None:
        """Return ({address: value} that went, the same that came) since the stored sources; None where the whole has to be looked at.

        Right only while every address stands in the sources once and as it
        stands in the table: then a line is an entry. The host finds one that
        was there already.
        """
        went: _Entries = {}
        came: _Entries = {}
        for source, raw, digest, stored in zip(self.sources, raws, digests, known["stored"]):
            if digest == stored:
                continue
            try:
                old = self._mapped(f"raw-{stored}")
            except OSError:
                return None
            if not source.by_line(raw) or _head(old, source.header_lines) != _head(raw, source.header_lines):
                return None
            for lines, entries in zip(_content.difference(old, raw), (went, came)):
                if not lines:
                    continue
                try:
                    content = self.check([(source, source.part(lines))])
                except (_content.Refused, SourceError):
                    # Whoever looks at the whole knows the number of the line.
                    return None
                if not content.plain or any(key.encode() in entries for key in content.keys):
                    return None
                entries.update((key.encode(), content.values.get(key, "OK").encode()) for key in content.keys)
            if not _has_record(source, raw):
                # Whoever looks at the whole says what is wrong with a source that is empty.
                return None
        return (went, came) if self._once(came, raws) else None

    def _once(self, keys: _Entries, raws: list[bytes]) -> bool:
        """Whether each of the keys stands in the sources once: a line that goes must not take an address that stands elsewhere."""
        if len(keys) <= _FEW:
            return all(sum(_occurrences(raw, key) for raw in raws) == 1 for key in keys)
        found = 0
        for source, raw in zip(self.sources, raws):
            found += sum(map(keys.__contains__, map(str.encode, source.records(raw).keys)))
        return found == len(keys)

    def _load(self, name: str) -> bytes:
        with self._stored(name) as (stream, length):
            return stream.read(length)

    def _mapped(self, name: str) -> Lines:
        """Return the content as something to search and to slice; reading it costs more than comparing it."""
        with self._stored(name) as (stream, length):
            # What has a digest in its name is never written again, so it cannot become shorter meanwhile. Nothing cannot be mapped.
            return mmap.mmap(stream.fileno(), length, access=mmap.ACCESS_READ) if length else b""

    @contextlib.contextmanager
    def _stored(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Yield the file, at its beginning, and the length of the content; OSError where it is not whole."""
        with open(self.directory / name, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - _LENGTH, 0))
            dummy, feed, said = stream.read().rpartition(b"\n")
            length = size - len(feed + said)
            if said != str(length).encode():
                raise OSError(f"{name} is not whole")
            stream.seek(0)
            yield stream, length

    def _store(self, name: str, content: bytes) -> None:
        """What a name with a digest holds is never replaced by something else."""
        if name != "meta" and (self.directory / name).exists():
            return
        handle, aside = tempfile.mkstemp(prefix=_leftovers.aside(name), dir=self.directory)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            # Who reads it sees whether it is whole.
            stream.write(f"\n{len(content)}".encode())
            if name != "meta":
                stream.flush()
                os.fsync(stream.fileno())
        os.rename(aside, self.directory / name)

    def _forget(self, meta: dict[str, Any]) -> None:
        kept = {"lock", "meta", f"content-{meta['wanted']}", *(f"raw-{digest}" for digest in (*meta["stored"], *meta["digests"]))}
        for path in self.directory.iterdir():
            if path.name not in kept:
                path.unlink()
        # Sources that are named no longer had addresses in them.
        for other in self.directory.parent.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - (other / "meta").stat().st_mtime > _KEPT:
                    shutil.rmtree(other)


def _step(before: _Since, after: _Since) -> _changeset.Change:
    """Return the Change between two states, each given as what went and what came since one and the same state."""
    (went, came), (went_now, came_now) = before, after
    added: list[_changeset.Entry] = []
    removed: list[bytes] = []
    changed: list[_changeset.Entry] = []
    for key in went.keys() | came.keys() | went_now.keys() | came_now.keys():
        origin = went.get(key, went_now.get(key))
        old = came.get(key, None if key in went else origin)
        new = came_now.get(key, None if key in went_now else origin)
        if old is None and new is not None:
            added.append((key, new))
        elif new is None and old is not None:
            removed.append(key)
        elif new is not None and old != new:
            changed.append((key, new))
    return _changeset.Change(added, removed, changed)


def _lines(since: _Since) -> list[dict[str, str]]:
    """Return what went and what came as JSON holds it."""
    return [{key.decode(): value.decode() for key, value in entries.items()} for entries in since]


def _texts(since: list[dict[str, str]]) -> _Since:
    went, came = [{key.encode(): value.encode() for key, value in entries.items()} for entries in since]
    return went, came


def _head(raw: Lines, lines: int) -> bytes:
    end = 0
    for dummy in range(lines):
        end = raw.find(b"\n", end) + 1 or len(raw)
    return raw[:end]


def _has_record(source: Source, raw: bytes) -> bool:
    """Whether there is an address in the beginning of a source; nobody begins with so many comments."""
    lines = raw[: 1 << 16].split(b"\n", 1000)[source.header_lines : 1000]
    try:
        return bool(source.part(lines[:-1] if len(raw) > 1 << 16 else lines).keys)
    except SourceError:
        return False


def _occurrences(raw: bytes, key: bytes) -> int:
    """Return how often an address stands in a source, 2 for more. What looks like it within a longer one counts where that is not plain."""
    found, at = 0, raw.find(key)
    while at >= 0 and found < 2:
        end = at + len(key)
        found += not (raw[max(at - 1, 0) : at].isalnum() or raw[end : end + 1].isalnum())
        at = raw.find(key, end)
    return found
