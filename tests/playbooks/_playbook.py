# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the collection's playbook against the gateway, the way an administrator does, and look at what it did."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _network import BOB, CHECKOUT, GATEWAY, GATEWAY_INSIDE_ADDRESS, STRANGER, debian, gateway, mailboxes

INVENTORY = CHECKOUT / "molecule" / "shared" / "inventory"
SITE = "antispam.gateway.site"
_scratch = tempfile.TemporaryDirectory(prefix="antispam-playbook-")
_TASK = re.compile(r"^TASK \[(?:\S+ : )?(.*?)\] \*+$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Run:
    """What ansible-playbook said, and how it ended."""

    rc: int
    output: str
    seconds: float

    @property
    def said(self):
        """The output as one line, whatever way it was wrapped and quoted."""
        return " ".join(self.output.replace("''", "'").split())

    @property
    def changed(self):
        """Names of the tasks that changed something, or would."""
        return [task for task, text in self._tasks() if re.search(r"^changed: ", text, re.MULTILINE)]

    @property
    def switched(self):
        """What was done to each service, or would be: {"amavis.service": "reload"}."""
        (said,) = [text for task, text in self._tasks() if task == "Say what was switched"] or [""]
        return dict(re.findall(r"^ +- '?([^:'\n]+): ([a-z]+)'?$", said, re.MULTILINE))

    @property
    def failed(self):
        """Names of the tasks that failed."""
        return [task for task, text in self._tasks() if re.search(r"^(fatal|failed): |^\[ERROR\]", text, re.MULTILINE)]

    def about(self, host):
        """Why a host failed, as one line; an empty text if it did not."""
        found = re.search(rf"^fatal: \[{re.escape(host)}\]: FAILED! => *\n((?: .*\n|\n(?= ))*)", self.output, re.MULTILINE)
        return " ".join(found[1].replace("''", "'").split()) if found else ""

    def _tasks(self):
        found = _TASK.split(self.output)
        return zip(found[1::2], found[2::2])

    def __repr__(self):
        return f"ansible-playbook ended with {self.rc} after {self.seconds:.0f} s:\n{self.output}"


@functools.lru_cache(maxsize=None)
def collections():
    """Where the collection is found by name."""
    return subprocess.run([CHECKOUT / "tools" / "stage"], check=True, capture_output=True, text=True).stdout.strip()


def start(*options, variables=None, roles=None, playbook=SITE, hosts=None):
    """Start ansible-playbook on a playbook, or on some roles alone; variables win over the inventory's. hosts: more gateways, with their variables."""
    scratch = Path(tempfile.mkdtemp(dir=_scratch.name))
    if roles:
        plays = [{"hosts": "gateways", "become": True, "gather_facts": False, "roles": [f"antispam.gateway.{role}" for role in roles]}]
        playbook = scratch / "playbook.yml"
        playbook.write_text(json.dumps(plays), encoding="utf-8")
    given = {"gateway_accept_debian12_postfix_panic": debian() == 12, **(variables or {})}
    extra = scratch / "variables.yml"
    extra.write_text(json.dumps(given), encoding="utf-8")
    # Molecule's own settings are not an administrator's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(
        ANSIBLE_COLLECTIONS_PATH=collections(),
        # What the controller remembers of sources is of these tests alone.
        ANSIBLE_HOME=f"{_scratch.name}/home",
        ANSIBLE_CALLBACK_RESULT_FORMAT="yaml",
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_PIPELINING="1",
        ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s",
        # Gateways of other networks on this machine have the same name: their connections are not for these runs.
        ANSIBLE_SSH_CONTROL_PATH_DIR=f"{_scratch.name}/cp",
        ANSIBLE_LOCALHOST_WARNING="0",
        PYTHONUNBUFFERED="1",
    )
    if hosts:
        more = scratch / "hosts.json"
        reached = {"ansible_ssh_common_args": f"-F {CHECKOUT}/.work/ssh_config"}
        more.write_text(json.dumps({"gateways": {"hosts": {name: reached | given for name, given in hosts.items()}}}), encoding="utf-8")
        options = (f"--inventory={more}", *options)
    command = [Path(sys.executable).parent / "ansible-playbook", f"--inventory={INVENTORY}", f"--extra-vars=@{extra}", *options, playbook]
    return subprocess.Popen(
        command,
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(*options, **arguments):
    """Run ansible-playbook as start() does, and return its Run."""
    began = time.monotonic()
    process = start(*options, **arguments)
    try:
        output, _nothing = process.communicate()
    except BaseException:
        # Say, when somebody ends the tests: nothing should go on behind their back.
        os.killpg(process.pid, signal.SIGINT)
        raise
    return Run(process.returncode, output, time.monotonic() - began)


def fingerprint():
    """Everything a run may change on the gateway: files with the time of their last change, and the state of services."""
    return gateway().check_output(
        "find /etc /var/lib/antispam-gateway -not -path '/etc/.pwd.lock' -printf '%p %y %i %m %U:%G %s %T@\\n' | sort;"
        " dpkg-query --show;"
        " systemctl show --property=Id,MainPID,ActiveState,UnitFileState postfix amavis clamav-daemon clamav-freshclam spamassassin-maintenance.timer"
    )


@contextlib.contextmanager
def _untouched():
    """Nothing is changed meanwhile, and mail flows afterwards."""
    before = fingerprint()
    yield
    assert fingerprint() == before
    record = STRANGER.converse(recipients=[BOB])
    assert record.answer == "250 2.0.0"
    assert mailboxes(record.message_id) == [BOB]


def refused(variables, roles=None):
    """Run the playbook with wrong variables; the run fails, nothing is changed, and mail flows. Returns what was said."""
    with _untouched():
        result = run(variables=variables, roles=roles)
        assert result.rc != 0, result
        assert result.changed == [], result
    return result.said


def refused_each(cases):
    """As refused() does it, with one run for many cases: {case: variables}, each a host of its own. Returns what was said of each."""
    names = {case: f"{re.sub('[^a-z]+', '-', case.lower())}.example.com" for case in cases}
    with _untouched():
        # The gateway by other names.
        reached = {"ansible_host": GATEWAY_INSIDE_ADDRESS, "gateway_hostname": GATEWAY}
        hosts = {names[case]: reached | variables for case, variables in cases.items()}
        result = run("--limit", ",".join(names.values()), hosts=hosts)
        assert result.changed == [], result
    said = {case: result.about(name) for case, name in names.items()}
    assert all(said.values()), result
    return said
