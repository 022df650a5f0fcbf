# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a module that are killed, watched, or made at the same time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys

import pytest
from ansible.module_utils.basic import AnsibleModule


def _child(function):
    """Run a function in a child process that says nothing; return its id."""
    process = os.fork()
    if not process:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.stdout = sys.stderr = open(null, "w", encoding="ascii", closefd=False)
        try:
            function()
        finally:
            os._exit(0)
    return process


def _each_line(then):
    """Return a trace function that calls another at each line of the collection, with its place."""

    def trace(frame, event, argument):
        if "/antispam/gateway/plugins/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            then(frame.f_code, frame.f_lineno)
        return trace

    return trace


@pytest.fixture
def killed():
    """Return a function that runs another in a process which is killed when it comes to its nth line; False if it has fewer lines."""

    def kill(function, number):
        lines = set()

        def die(*line):
            # Those of a loop count once.
            lines.add(line)
            if len(lines) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def traced():
            sys.settrace(_each_line(die))
            function()

        return os.WIFSIGNALED(os.waitpid(_child(traced), 0)[1])

    return kill


@pytest.fixture
def moments():
    """Return a function that lets another run to its end in a child process, and returns what killed() takes: the lines at which files have changed.

    A run that is killed leaves nothing but files, so between two of them it leaves the same.
    """

    def find(function, root):
        reading, writing = os.pipe()
        seen, numbers, before = set(), [], None

        def look(*line):
            nonlocal before
            if line in seen:
                return
            seen.add(line)
            found = [(str(path), path.lstat()) for path in sorted(root.rglob("*"))]
            now = [(path, about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns) for path, about in found]
            if now != before:
                before = now
                numbers.append(len(seen))

        def watched():
            sys.settrace(_each_line(look))
            try:
                function()
            finally:
                sys.settrace(None)
                os.write(writing, json.dumps(numbers).encode())

        os.waitpid(_child(watched), 0)
        os.close(writing)
        with os.fdopen(reading) as said:
            return json.load(said)

    return find


@pytest.fixture
def exposed():
    """Return a function that runs another with no umask, and looks after each line where others may open what has a text in it."""

    def look(function, directory, secret, others=0o077):
        found = set()

        def see(*line):
            for path in directory.rglob("*"):
                try:
                    way = [parent.stat().st_mode & others & 0o111 for parent in path.parents if parent != directory and directory in parent.parents]
                    if path.is_file() and path.stat().st_mode & others & 0o444 and all(way) and secret in path.read_bytes():
                        found.add(f"{path} {path.stat().st_mode:o}")
                except FileNotFoundError:
                    pass

        before, umask = sys.gettrace(), os.umask(0)
        sys.settrace(_each_line(see))
        try:
            function()
        finally:
            sys.settrace(before)
            os.umask(umask)
        return found

    return look


@pytest.fixture
def at_once(tmp_path):
    """Return a function that runs a module twice at the same time, none of them with the lock before both want it; it returns their results."""

    def run_both(function):
        # The collection cannot be imported before tests/conftest.py is done.
        from ansible_collections.antispam.gateway.plugins.module_utils import _files

        go, started = os.pipe()
        wanted, wants = os.pipe()
        results = [tmp_path / f"result{number}" for number in range(2)]

        def run_one(result):
            flock = fcntl.flock

            def announced(*arguments):
                os.write(wants, b"x")
                return flock(*arguments)

            def told(module, **found):
                result.write_text(json.dumps(found))
                os._exit(0)

            os.read(go, 1)
            fcntl.flock, AnsibleModule.exit_json, AnsibleModule.fail_json = announced, told, told
            function()

        processes = [_child(lambda result=result: run_one(result)) for result in results]
        os.close(wants)
        with _files.alone():
            os.write(started, b"go")
            # Who takes no lock ends, and the pipe with the last of them.
            seen = b""
            while len(seen) < len(processes) and (more := os.read(wanted, 1)):
                seen += more
        for process in processes:
            os.waitpid(process, 0)
        return [json.loads(result.read_text()) for result in results]

    return run_both
