# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix tables of type lmdb, read and written the way Postfix does it (lmdb_table(5), LMDB_README).

Private to antispam.gateway. Postfix opens these files without LMDB's own locks
and takes POSIX locks on the file itself: shared to read; exclusive to begin to
write, which waits until no reader has an old page in use, and shared from then
on, so that nobody waits for a long write. A key and a value each end with one
NUL. postmap -i and postmap -d do not take that lock: never run them beside this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

try:
    import lmdb
except ImportError:
    lmdb = None  # type: ignore[assignment]

PACKAGE = "python3-lmdb"
# LMDB's compiled-in limit (mdb_env_get_maxkeysize), less the NUL.
MAX_KEY = 510
# Octets that an entry takes beside its key and its value; measured, rounded up.
_OVERHEAD = 24
# Octets.
_SMALLEST_MAP = 16 * 1024 * 1024


class Conflict(Exception):
    """A change that does not fit what is in the table."""


Error: type[Exception] = lmdb.Error if lmdb else Conflict


def missing() -> str:
    """Return a sentence if the library is missing, '' if it is there."""
    return "" if lmdb else f"this host's Python has no lmdb; install Debian's {PACKAGE}"


def facts(path: str | os.PathLike[str]) -> list[int] | None:
    """Return what a change to the table would change as well, the number of entries last.

    None where there is no table that can be read.
    """
    try:
        with _reading(path) as (env, _txn):
            status = os.stat(path)
            # A copy of another table over this one may have as many transactions and entries.
            return [status.st_ino, status.st_mtime_ns, status.st_ctime_ns, env.info()["last_txnid"], env.stat()["entries"]]
    except (Error, OSError):
        return None


def read(path: str | os.PathLike[str]) -> dict[bytes, bytes] | None:
    """Return the whole table as a dictionary of bytes, without the NULs; None where there is none that can be read."""
    try:
        with _reading(path) as (_env, txn):
            return {key[:-1]: value[:-1] for key, value in txn.cursor()}
    except (Error, OSError):
        return None


def look_up(path: str | os.PathLike[str], keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return {key: value} of those of the keys that are in the table; raises Error or OSError where there is none that can be read."""
    with _reading(path) as (_env, txn):
        found = ((key, txn.get(key + b"\0")) for key in keys)
        return {key: value[:-1] for key, value in found if value is not None}


def write(path: str | os.PathLike[str], pairs: Iterable[tuple[bytes, bytes]], count: int, octets: int) -> None:
    """Write a new file, not in use yet, which nobody else may open.

    pairs: an iterable of count (key, value), each with its NUL, in ascending
    order of the keys; octets: their length in all, rounded up. Raises Error or
    OSError, as for a full disk.
    """
    size = _SMALLEST_MAP + 2 * (octets + count * _OVERHEAD)
    # Nobody else knows the file, and it is synced as a whole.
    env = lmdb.open(str(path), subdir=False, lock=False, sync=False, mode=0o600, map_size=_whole_pages(size))
    try:
        with env.begin(write=True) as txn:
            _consumed, added = txn.cursor().putmulti(pairs, append=True)
            if added != count:
                raise Conflict("the entries are not in ascending order")
        env.sync(True)
    finally:
        env.close()


def change(path: str | os.PathLike[str], added: Sequence[tuple[bytes, bytes]], removed: Sequence[bytes], changed: Sequence[tuple[bytes, bytes]]) -> None:
    """Change the table in one transaction while Postfix uses it; who looks up sees all of it or nothing.

    added and changed: (key, value) in bytes. Conflict is raised, and nothing
    changed, if an added key is there already, or another one is not.
    """
    growth = sum(len(key) + len(value) + _OVERHEAD for key, value in (*added, *changed))
    # Pages are copied before they are changed, in the worst case one page an entry.
    size = 2 * os.path.getsize(path) + 4 * growth + _SMALLEST_MAP
    while True:
        try:
            _change(path, added, removed, changed, _whole_pages(size))
            return
        except lmdb.MapFullError:
            size *= 2
        except lmdb.MapResizedError:
            # Somebody else has made it larger since it was opened.
            size = max(size, 2 * os.path.getsize(path))


def _change(
    path: str | os.PathLike[str], added: Sequence[tuple[bytes, bytes]], removed: Sequence[bytes], changed: Sequence[tuple[bytes, bytes]], size: int
) -> None:
    with _opened(path, map_size=size) as (env, lock):
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with env.begin(write=True) as txn:
            fcntl.lockf(lock, fcntl.LOCK_SH)
            for key in removed:
                if not txn.delete(key + b"\0"):
                    raise Conflict(f"{key!r} is not there")
            for key, value in changed:
                if not txn.replace(key + b"\0", value + b"\0"):
                    raise Conflict(f"{key!r} is not there")
            for key, value in added:
                if not txn.put(key + b"\0", value + b"\0", overwrite=False):
                    raise Conflict(f"{key!r} is there already")
        if os.fstat(lock.fileno()).st_size < _octets(env):
            # Pages at the end that the transaction made and gave up again were never written.
            os.truncate(lock.fileno(), _octets(env))


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    with _opened(path, readonly=True, create=False) as (env, lock):
        fcntl.lockf(lock, fcntl.LOCK_SH)
        if os.fstat(lock.fileno()).st_size < _octets(env):
            # Reading beyond the end of a mapped file would kill this process.
            raise OSError(f"{path} is cut")
        with env.begin() as txn:
            yield env, txn


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], **options: Any) -> Iterator[tuple[Any, IO[bytes]]]:
    """Yield the environment, and the file to be locked.

    Closing any descriptor of the file gives a lock of it up, and lmdb.open() may do that: so the lock is
    taken after it, and the environment is closed last.
    """
    with open(path, "rb" if options.get("readonly") else "r+b") as lock:
        env = lmdb.open(str(path), subdir=False, lock=False, **options)
        try:
            yield env, lock
        finally:
            env.close()


def _octets(env: Any) -> int:
    return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])


def _whole_pages(size: int) -> int:
    return -(-size // 65536) * 65536
