# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods the gateway of "make demo" with bots, and beside it the recipe as published, and measures what clean mail gets through.

Ten well-behaved senders send one message after the other, first alone and then while bots hold as many connections as
they get, each from an address of its own: they talk early or stand in a DNS list, half of each, or they are polite and say
nothing after EHLO. Who is thrown out comes back a second later. Both hosts are asked in turns on one machine, so only the
columns of one run may be compared. Nothing leaves the test network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).resolve().parent / "flood_clients.py"
SSH = ["ssh", "-F", str(ROOT / ".work" / "ssh_config"), "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "ControlPath=/tmp/antispam-bench-%r@%h"]
HOSTS = {"recipe": ("gateway.example.com", "203.0.113.11"), "gateway": ("mx1.example.com", "203.0.113.10")}
OUTSIDE = "ns.example.org"
LINE = "{:8} {:20} {:>8} {:>8} {:>6} {:>9} {:>6} {:>9} {:>6} {:>6} {:>5} {:>8} {:>6} {:>6} {:>5}"

# Runs on the host that is flooded: twice a second, how many processes serve connections and how many scans are under way.
WATCH = """
import json, pathlib, subprocess, sys, time
def processes(name):
    count = 0
    for process in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            count += process.read_text().strip() == name
        except OSError:
            pass
    return count
def scans():
    rows = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[2].endswith(":2728") and row.split()[3] == "01" for row in rows)
def cpu():
    units = ["postfix.service", "amavis.service", "clamav-daemon.service", "unbound.service"]
    shown = subprocess.run(["systemctl", "show", "--property=CPUUsageNSec", "--value", *units], capture_output=True, text=True).stdout
    return sum(int(value) for value in shown.split() if value.isdigit()) / 1e9
seconds = float(sys.argv[1])
ends, began, peak_smtpd, peak_scans = time.monotonic() + seconds, cpu(), 0, 0
while time.monotonic() < ends:
    peak_smtpd, peak_scans = max(peak_smtpd, processes("smtpd")), max(peak_scans, scans())
    time.sleep(0.5)
print(json.dumps({"smtpd": peak_smtpd, "scans": peak_scans, "cpu": (cpu() - began) / seconds}))
"""


def on(host, command, **options):
    return subprocess.Popen([*SSH, host, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def run(host, command, data=""):
    process = on(host, command)
    out, _err = process.communicate(data)
    if process.returncode:
        sys.exit(f"{host}: {command.splitlines()[0][:80]} failed")
    return out


def set_up_recipe():
    subprocess.run([ROOT / "tools" / "testnet", "second"], check=True)
    host = HOSTS["recipe"][0]
    if subprocess.run([*SSH, host, "test -e /etc/postfix/main.cf"], check=False).returncode:
        print("installing the recipe as published", flush=True)
        packed = subprocess.run(["tar", "-C", str(CLIENTS.parent / "recipe"), "-cz", "."], capture_output=True, check=True).stdout
        subprocess.run([*SSH, host, "mkdir -p /root/recipe && tar -C /root/recipe -xz"], input=packed, check=True)
        done = subprocess.run([*SSH, host, "/root/recipe/setup 2>&1"], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit("\n".join(done.stdout.splitlines()[-20:]))


def wait_until_it_answers(address):
    """Clean mail is accepted, by every sender once, so that each is known."""
    deadline = time.monotonic() + 120
    while True:
        found = json.loads(run(OUTSIDE, "python3 /root/flood_clients.py", json.dumps({"gateway": address, "seconds": 0, "bots": []})))
        if found["accepted"] == 10:
            return
        if time.monotonic() > deadline:
            sys.exit(f"{address} does not accept clean mail: {found['answers']}")
        time.sleep(2)


def bots(kind, count):
    if kind == "polite":
        return [[f"198.18.40.{number}", "polite"] for number in range(1, count + 1)]
    half = count // 2
    listed = [number for number in range(1, 255) if number != 200]  # which the test site lets in
    early = [[f"198.18.{32 + number // 250}.{1 + number % 250}", "early"] for number in range(half)]
    return early + [[f"198.18.1.{number}", "listed"] for number in listed[:half]]


def scanned(host, since):
    """How many messages amavis has judged since then."""
    lines = run(host, f"journalctl --quiet --output=cat --since=@{since} --unit='amavis*' --grep='(Passed|Blocked) ' || :")
    return len(lines.splitlines())


def measure(name, crowd, seconds):
    host, address = HOSTS[name]
    # The log is asked by the second.
    time.sleep(1)
    since = int(run(host, "date +%s"))
    # The crowd is there before the measurement begins.
    job = {"gateway": address, "seconds": seconds, "before": 10 if crowd else 0, "bots": crowd}
    clients = on(OUTSIDE, "python3 /root/flood_clients.py")
    clients.stdin.write(json.dumps(job))
    clients.stdin.close()
    clients.stdin = None
    time.sleep(job["before"])
    watched = json.loads(run(host, f"python3 - {seconds}", WATCH))
    out, _err = clients.communicate()
    found = json.loads(out)
    times = sorted(found["times"])
    return {
        **watched,
        "rate": found["accepted"] / seconds,
        "p50": times[len(times) // 2] if times else float("nan"),
        "p95": times[int(len(times) * 0.95)] if times else float("nan"),
        "refused": found["refused"],
        "failed": found["failed"],
        "held": found["held"],
        "foreign": scanned(host, since) - found["begun"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="length of each measurement (default 20)")
    parser.add_argument("--only", choices=sorted(HOSTS), help="measure one of the two")
    options = parser.parse_args()
    names = [options.only] if options.only else list(HOSTS)
    if "recipe" in names:
        set_up_recipe()
    run(OUTSIDE, "cat >/root/flood_clients.py", CLIENTS.read_text(encoding="utf-8"))
    crowds = [(f"{count} early or listed", bots("bad", count)) for count in (60, 200, 500)]
    crowds += [("100 polite", bots("polite", 100))]
    columns = ["", "bots", "alone/s", "clean/s", "share", "alone p50", "p50 s", "alone p95", "p95 s", "times", "held", "refused", "smtpd", "scans", "CPUs"]
    print("\n" + LINE.format(*columns))
    missed = []
    for name in names:
        wait_until_it_answers(HOSTS[name][1])
        measure(name, [], 5)
        for title, crowd in crowds:
            # One after the other, because what a machine gets done changes over minutes.
            alone, row = measure(name, [], options.seconds), measure(name, crowd, options.seconds)
            share, slower = row["rate"] / alone["rate"], row["p95"] / alone["p95"]
            # What is left of the crowd is not to be part of the next line.
            time.sleep(15)
            figures = [alone["rate"], row["rate"], share, alone["p50"], row["p50"], alone["p95"], row["p95"], slower]
            counts = [row[figure] for figure in ("held", "refused", "smtpd", "scans")]
            line = LINE.format(name, title, *(f"{figure:.2f}" for figure in figures), *counts, f"{row['cpu']:.2f}")
            print(line + (f"  {row['failed']} clean messages delayed or given up" if row["failed"] else ""), flush=True)
            if name == "gateway" and row["foreign"] > 0:
                missed.append(f"{title}: {row['foreign']} scans were not of clean mail")
            if name == "gateway" and title in ("500 early or listed", "100 polite") and not (share >= 0.8 and slower <= 2):
                missed.append(f"{title}: {share:.2f} of the clean mail, p95 {slower:.2f} times as long; the goal is 0.8 and 2")
    print("\n".join(["", *(missed or ["The goal is met: at least 0.8 of the clean mail, p95 at most twice as long, no scan of anything else."])]))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
