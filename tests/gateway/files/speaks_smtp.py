# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a client, which has no Ansible, and holds conversations of _smtp.py there.

The first line of standard input is a JSON list of [module, its source]. Each further line is {"id", "conversations"}, the arguments of
conversations that are held at the same time, and is answered, in any order, by a line {"id", "results"} or {"id", "failed"}. A text may be
given as [text, times] pairs, so that a large message is built where it is sent.
"""

import concurrent.futures
import fcntl
import json
import os
import signal
import sys
import tempfile
import traceback
import types


def load(modules):
    """Return the last of these modules; they import each other by the names that they have in the collection."""
    package = "ansible_collections.antispam.gateway.plugins.module_utils"
    sys.modules[package] = types.ModuleType(package)
    for name, source in modules:
        module = sys.modules[f"{package}.{name}"] = types.ModuleType(f"{package}.{name}")
        exec(compile(source, f"{name}.py", "exec"), module.__dict__)
        setattr(sys.modules[package], name, module)
    return module


def text(value):
    return value if isinstance(value, str) else "".join(piece * times for piece, times in value)


def hold(engine, arguments):
    if arguments.get("content"):
        arguments["content"] = text(arguments["content"])
    for line in arguments.get("script") or []:
        if isinstance(line, dict):
            line["send"] = text(line["send"])
    try:
        return engine.converse(**arguments)
    except engine.SmtpError as error:
        return dict(error.result, error=str(error))


def answer(engine, job):
    conversations = job["conversations"]
    try:
        with concurrent.futures.ThreadPoolExecutor(len(conversations)) as pool:
            return {"id": job["id"], "results": list(pool.map(lambda arguments: hold(engine, arguments), conversations))}
    except Exception:
        return {"id": job["id"], "failed": traceback.format_exc()}


def main():
    engine = load(json.loads(sys.stdin.readline()))
    # Children end by themselves.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with tempfile.TemporaryFile() as lock:
        for line in iter(sys.stdin.readline, ""):
            if os.fork():
                continue
            said = (json.dumps(answer(engine, json.loads(line))) + "\n").encode()
            # A line of one child does not come between those of others.
            fcntl.lockf(lock, fcntl.LOCK_EX)
            while said:
                said = said[os.write(1, said) :]
            os._exit(0)


main()
