# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes and replaces a table again and again by the module relay_recipients itself, killing it at random points.

Arguments: the table, its type, how often, and a seed. Prints what the table should hold at the end, a line an address.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time

from ansible_collections.antispam.gateway.plugins.module_utils import _changeset
from ansible_collections.antispam.gateway.plugins.modules import relay_recipients

DOMAIN = b"@example.com"
ALWAYS = [b"always%d%s" % (number, DOMAIN) for number in range(3)]
# Seconds within which most runs of the module end.
LONGEST = 0.2
SOMETIMES = [b"sometimes%d%s" % (number, DOMAIN) for number in range(3)]


class Run:
    """One run of the module in a process of its own, forked from here: what is killed is the module at work, not Python at its start."""

    def __init__(self, arguments):
        given, self._give = os.pipe()
        self._out, out = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.setpgid(0, 0)
            for descriptor, standard in ((given, 0), (out, 1), (out, 2)):
                os.dup2(descriptor, standard)
            os.closerange(3, 100)
            sys.argv = ["relay_recipients"]
            status = 1
            try:
                relay_recipients.main()
            except SystemExit as end:
                status = end.code or 0
            finally:
                sys.stdout.flush()
                os._exit(status)
        # Here as well, so that it is so whoever comes first.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(self._pid, self._pid)
        os.close(given)
        os.close(out)
        with os.fdopen(self._give, "wb") as stream:
            stream.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())

    def kill(self):
        os.killpg(self._pid, signal.SIGKILL)
        self.wait()

    def wait(self):
        """Return how it ended, as os.waitstatus_to_exitcode() has it, and what it said."""
        with os.fdopen(self._out, "rb") as stream:
            said = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]), said


class Writer:
    def __init__(self, path, kind):
        self.arguments = {"path": path, "type": kind, "domains": ["example.com"], "sources": [], "allow_removals": True}

    def start(self, **sent):
        return Run({**self.arguments, "prepared": sent})

    @staticmethod
    def end(run):
        status, said = run.wait()
        result = json.loads(said or b"{}")
        assert status == 0 and not result.get("failed"), (status, said)
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
        run = writer.start(**chance.choice([by_change, whole]))
        kind_of_end = chance.choice(["kill", "kill", "two at once", "wait"])
        if kind_of_end == "kill":
            time.sleep(chance.uniform(0, LONGEST))
            run.kill()
        elif kind_of_end == "two at once":
            other = writer.start(**chance.choice([by_change, whole]))
            writer.end(other)
            writer.end(run)
        else:
            writer.end(run)
        # As the action plugin does: what was sent first may not be enough.
        if writer.end(writer.start(**by_change)).get("send_more"):
            writer.end(writer.start(**whole))
        known, name = wanted, f"state {number}"
    sys.stdout.write("".join(f"{entry.decode()}\n" for entry in sorted(known)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
