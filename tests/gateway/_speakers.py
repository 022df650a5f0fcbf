# SPDX-License-Identifier: GPL-3.0-or-later
"""One process on each client holds all conversations of the tests, so that none of them has to wait for ssh and Python to start."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import shlex
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = [ROOT / "plugins" / "module_utils" / name for name in ("_samples.py", "_smtp.py")]
PROGRAM = Path(__file__).parent / "files" / "speaks_smtp.py"


class Speaker:
    """The process on one host. Threads may use it at the same time."""

    def __init__(self, ssh):
        """ssh: the words that run a command there, without the command."""
        self._process = subprocess.Popen(
            [*ssh, shlex.join(["python3", "-c", PROGRAM.read_text(encoding="utf-8")])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting = {}
        self._send([(path.stem, path.read_text(encoding="utf-8")) for path in ENGINE])
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def lives(self):
        return self._process.poll() is None

    def hold(self, conversations):
        """Hold conversations, each given as the arguments of converse(), at the same time; return a Future of their results."""
        found = concurrent.futures.Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = found
            self._send({"id": number, "conversations": conversations})
        return found

    def _send(self, what):
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()

    def _listen(self):
        for line in self._process.stdout:
            said = json.loads(line)
            waiting = self._waiting.pop(said["id"])
            if "failed" in said:
                waiting.set_exception(RuntimeError(f"no conversation was held: {said['failed']}"))
            else:
                waiting.set_result(said["results"])
        self._process.wait()
        for waiting in list(self._waiting.values()):
            waiting.set_exception(RuntimeError(f"no conversation was held: its host hung up, and ssh ended with {self._process.returncode}"))


_speakers = {}
_choosing = threading.Lock()


def speaker(host, ssh):
    """The Speaker of a host; a new one where the last has ended."""
    with _choosing:
        if host not in _speakers or not _speakers[host].lives:
            _speakers[host] = Speaker(ssh)
        return _speakers[host]
