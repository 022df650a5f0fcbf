# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes and replaces a table again and again by the module relay_recipients itself, killing it at random points.

Arguments: the table, its type, how often, and a seed. Prints what the table should hold at the end, a line an address.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

from ansible_collections.antispam.gateway.plugins.module_utils import _changeset

DOMAIN = b"@example.com"
ALWAYS = [b"always%d%s" % (number, DOMAIN) for number in range(3)]
SOMETIMES = [b"sometimes%d%s" % (number, DOMAIN) for number in range(3)]


class Writer:
    def __init__(self, path, kind):
        self.arguments = {"path": path, "type": kind, "domains": ["example.com"], "sources": [], "allow_removals": True}

    def start(self, **sent):
        command = [sys.executable, "-m", "ansible_collections.antispam.gateway.plugins.modules.relay_recipients"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**self.arguments, "prepared": sent}}).encode())
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def end(process):
        out, err = process.communicate()
        result = json.loads(out or b"{}")
        assert process.returncode == 0 and not result.get("failed"), (out, err)
        return result


def packed(entries):
    return _changeset.pack(b"\n".join(sorted(entries)))


def main(path, kind, rounds, seed):
    chance = random.Random(seed)
    writer = Writer(path, kind)
    everybody = [b"user%d%s" % (number, DOMAIN) for number in range(3000)]
    known, name = set(ALWAYS + everybody[:2000]), "first"
    writer.end(writer.start(wanted=name, content=packed(known)))
    for number in range(rounds):
        wanted = set(known)
        wanted ^= set(chance.sample(everybody, chance.choice([1, 5, 50, 900]))) | set(chance.sample(SOMETIMES, 1))
        before, after = [dict.fromkeys(entries, b"OK") for entries in (known, wanted)]
        change = _changeset.pack(_changeset.Change.between(before, after).text())
        by_change = {"wanted": f"state {number}", "base": name, "change": change}
        whole = {"wanted": f"state {number}", "content": packed(wanted)}
        process = writer.start(**chance.choice([by_change, whole]))
        kind_of_end = chance.choice(["kill", "kill", "two at once", "wait"])
        if kind_of_end == "kill":
            time.sleep(chance.uniform(0.05, 0.35))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        elif kind_of_end == "two at once":
            other = writer.start(**chance.choice([by_change, whole]))
            writer.end(other)
            writer.end(process)
        else:
            writer.end(process)
        # As the action plugin does: what was sent first may not be enough.
        if writer.end(writer.start(**by_change)).get("send_more"):
            writer.end(writer.start(**whole))
        known, name = wanted, f"state {number}"
    sys.stdout.write("".join(f"{entry.decode()}\n" for entry in sorted(known)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
