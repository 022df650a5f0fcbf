# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures relay_recipients over SSH against the gateway of "make demo", side by side with copy and postmap.

The unit is the bound: the SHA-256 of the source on the controller and one round
trip of an empty module on the same connection. Medians of --repeat runs; only
ratios within one run of this program mean anything.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / ".work" / "bench"
HERE = Path(__file__).resolve().parent
OURS, PEERS = "/etc/postfix/bench_ours", "/etc/postfix/bench_peers"
PYTHON = "/usr/local/bin/python3-measured"

# What a module needs at most, in KiB, the way systems count it: pages of a table that only others have in memory count as well.
MEASURED = """#!/usr/bin/python3
import os, resource, sys
child = os.fork()
if not child:
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv[1:]])
_pid, status = os.waitpid(child, 0)
with open("/run/bench-memory", "a") as record:
    record.write(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}\\n")
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Source:
    """A CSV file of recipients, and the text that peers copy."""

    def __init__(self, count):
        chance = random.Random(count)
        self.csv, self.text = WORK / f"{count}.csv", WORK / f"{count}.txt"
        names = {f"{chance.randrange(count * 1000):x}.{chance.randrange(1000)}" for dummy in range(count)}
        self.addresses = [f"user{name}@example.com" for name in names]
        chance.shuffle(self.addresses)
        self.chance, self.fresh = chance, 0
        self.write()

    def write(self):
        with open(self.csv, "w", encoding="ascii") as file:
            file.write("name,mail,department\n")
            file.writelines(f"N{number},{address},d{number % 7}\n" for number, address in enumerate(self.addresses))
        with open(self.text, "w", encoding="ascii") as file:
            file.writelines(f"{address} OK\n" for address in self.addresses)

    def change(self, number):
        for index in self.chance.sample(range(len(self.addresses)), number):
            self.fresh += 1
            self.addresses[index] = f"fresh{self.fresh}@example.com"
        self.write()
        return self.addresses[index]

    def digest_time(self):
        started = time.monotonic()
        hashlib.sha256(self.csv.read_bytes()).hexdigest()
        return time.monotonic() - started


class Gateway:
    """The gateway over one SSH connection, and Ansible tasks on it with the seconds each took."""

    def __init__(self):
        self.environment = {
            **os.environ,
            "ANSIBLE_HOME": str(WORK / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".work" / "collections"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_STDOUT_CALLBACK": "task_times",
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE),
            "ANSIBLE_HOST_KEY_CHECKING": "0",
        }

    def shell(self, command, content=None):
        done = subprocess.run(
            ["ssh", "-F", str(ROOT / ".work/ssh_config"), "mx1.example.com", command], input=content, capture_output=True, text=True, check=True
        )
        return done.stdout

    def tasks(self, tasks):
        """Run tasks, (name, module, arguments); return {name: [seconds, ...]}, in which names may repeat."""
        play = [{"hosts": "gateways", "gather_facts": False, "vars": {"ansible_python_interpreter": PYTHON}, "tasks": []}]
        play[0]["tasks"] = [{"name": name, module: arguments} for name, module, arguments in tasks]
        playbook = WORK / "bench.yml"
        playbook.write_text(json.dumps(play))
        command = ["ansible-playbook", "-i", str(ROOT / "molecule/shared/inventory"), str(playbook)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        times = collections.defaultdict(list)
        for line in done.stdout.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["failed"]:
                    raise SystemExit(f"{event['task']}: {event['failed']}")
                times[event["task"]].append(event["seconds"])
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return times

    def memory(self):
        """Return the peak memory in MiB of each module since the last call."""
        values = [int(line) / 1024 for line in self.shell("cat /run/bench-memory; : >/run/bench-memory").split()]
        return values


def ours(source):
    return (
        "ours",
        "antispam.gateway.relay_recipients",
        {"path": OURS, "domains": ["example.com"], "sources": [{"path": str(source.csv), "column": "mail"}]},
    )


def peers(source):
    return [
        ("copy", "ansible.builtin.copy", {"src": str(source.text), "dest": PEERS}),
        ("postmap", "ansible.builtin.command", {"cmd": f"postmap lmdb:{PEERS}"}),
    ]


# Opens the connection; every module, the empty one too, is then packed and sent for the first time in its run.
CONNECT = ("connect", "ansible.builtin.raw", "true")
PING = ("ping", "ansible.builtin.ping", {})


def measure(gateway, source, repeat):
    """Return {row: {"ours": seconds, "peers": seconds, "memory": MiB}} and the bound in seconds; every figure is a median."""
    rows = {}
    bound = []

    def run(row, prepare, compiled):
        seen = collections.defaultdict(list)
        for dummy in range(repeat):
            address = prepare()
            bound_digest = source.digest_time()
            gateway.shell(": >/run/bench-memory")
            times = gateway.tasks([CONNECT, PING, ours(source)])
            seen["memory"].append(gateway.memory()[-1])
            seen["ours"].append(times["ours"][0])
            bound.append(bound_digest + times["ping"][0])
            times = gateway.tasks([CONNECT, PING, *(peers(source) if compiled else peers(source)[:1])])
            seen["peers"].append(times["copy"][0] + sum(times["postmap"]))
            for table in (OURS, PEERS):
                if gateway.shell(f"postmap -q {address} lmdb:{table}").strip() != "OK":
                    raise SystemExit(f"{row}: {address} is not in {table}")
        rows[row] = {name: statistics.median(values) for name, values in seen.items()}
        print(f"  {len(source.addresses)} recipients: {row} measured", flush=True)

    def forget():
        gateway.shell(f"rm -f {OURS}* {PEERS}* /var/lib/antispam-gateway/etc-postfix-bench_ours.table")
        subprocess.run(["rm", "-rf", str(WORK / "ansible" / "antispam.gateway")], check=True)
        return source.addresses[0]

    run("first load", forget, True)
    run("nothing changed", lambda: source.addresses[0], False)
    run("one address changed", lambda: source.change(1), True)
    run("1 % changed", lambda: source.change(max(len(source.addresses) // 100, 1)), True)
    return rows, statistics.median(bound)


def show(rows, bound):
    print(f"\n  bound: {bound:.2f} s     {'ours':>8} {'peers':>8}   (in units of the bound)   memory on the gateway")
    for row in ("nothing changed", "one address changed", "1 % changed", "first load"):
        found = rows[row]
        print(f"  {row:20s} {found['ours'] / bound:8.2f} {found['peers'] / bound:8.2f} {found['memory']:42.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000, 2_000_000])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    gateway = Gateway()
    gateway.shell(f"cat >{PYTHON} && chmod 755 {PYTHON}", MEASURED)
    try:
        for count in options.count:
            print(f"\n{count} recipients", flush=True)
            show(*measure(gateway, Source(count), options.repeat))
    finally:
        gateway.shell(f"rm -f {OURS}* {PEERS}* {PYTHON} /run/bench-memory /var/lib/antispam-gateway/etc-postfix-bench_ours.table")


if __name__ == "__main__":
    main()
