# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipient tables that are changed, replaced and left half-way by writers that are killed, under a running smtpd."""

import contextlib
import json
import subprocess
import sysconfig

import pytest
from _faults import FRONT, kept, wait_for_answer
from _network import CHECKOUT, GATEWAY, debian, ssh

FILES = CHECKOUT / "tests" / "gateway" / "files"
TRIAL, PORT = "/root/tables", 2525
ROUNDS = 50
CASES = {
    "always": [f"always{number}@example.com" for number in range(3)],
    "never": [f"never{number}@example.com" for number in range(3)],
    "sometimes": [f"sometimes{number}@example.com" for number in range(3)],
}
# Patient with a client that asks for unknown recipients all the time.
LISTENER = {
    "smtpd_proxy_filter": "",
    "smtpd_error_sleep_time": "0",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
    "smtpd_recipient_limit": "1000000",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_restrictions": "",
}


@pytest.fixture(name="trial", scope="module")
def _trial(gateway):
    """The module and what it needs of Ansible lie on the gateway, so that it can be run and killed without a network between."""
    gateway.check_output(f"install -d {TRIAL}/lib {TRIAL}/tables")
    gateway.check_output("DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends postfix-cdb 2>&1")
    for root, names in (
        (sysconfig.get_paths()["purelib"], ["ansible/__init__.py", "ansible/_vendor", "ansible/release.py", "ansible/module_utils"]),
        (CHECKOUT / ".work" / "collections", [f"ansible_collections/antispam/gateway/plugins/{part}" for part in ("modules", "module_utils")]),
        (FILES, ["asks_rcpt.py", "writes_tables.py"]),
    ):
        packed = subprocess.run(["tar", "-C", str(root), "-cz", *names], capture_output=True, check=True)
        subprocess.run([*ssh(GATEWAY), f"tar -C {TRIAL}/lib -xz"], input=packed.stdout, check=True)
    gateway.run(f"cat >{TRIAL}/cases.json <<'E'\n{json.dumps(CASES)}\nE")
    yield
    gateway.check_output("DEBIAN_FRONTEND=noninteractive apt-get -qq purge postfix-cdb 2>&1")
    gateway.check_output(f"rm -rf {TRIAL} /var/lib/antispam-gateway/root-tables-*")


@contextlib.contextmanager
def listener(gateway, kind):
    """An smtpd of its own that looks recipients up in the table under trial."""
    options = {**LISTENER, "relay_recipient_maps": f"{kind}:{TRIAL}/tables/{kind}"}
    service = f"127.0.0.1:{PORT} inet n - n - - smtpd " + " ".join(f"-o {name}={value}" for name, value in options.items())
    with kept("/etc/postfix"):
        gateway.check_output("postconf -M %s", f"127.0.0.1:{PORT}/inet={service}")
        # Nobody delivers what this client begins to send, and Postfix would slow it down for that.
        gateway.check_output("postconf -e in_flow_delay=0")
        gateway.check_output("postfix reload")
        wait_for_answer(FRONT, f"127.0.0.1:{PORT}")
        yield
    gateway.check_output("postfix reload")
    wait_for_answer(FRONT)


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize("kind", ["lmdb", "hash", "cdb"])
def test_recipients_are_never_answered_wrong_while_their_table_is_written(gateway, kind, capsys):
    write = f"cd {TRIAL} && PYTHONPATH=lib python3 lib/writes_tables.py {TRIAL}/tables/{kind} {kind} {{}} {{}}"
    gateway.check_output(write.format(0, 0))
    with listener(gateway, kind):
        asking = subprocess.Popen(
            [*ssh(GATEWAY), f"python3 {TRIAL}/lib/asks_rcpt.py {PORT} {TRIAL}/cases.json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wanted = gateway.check_output(write.format(ROUNDS, 7))
        out, _err = asking.communicate()
    found = json.loads(out)
    with capsys.disabled():
        print(f" [{kind}: {found['asked']} answers, the longest after {found['longest']} s]", end="")
    assert found["wrong"] == []
    assert found["closed"] == 0
    assert found["asked"] > 1000 and found["sessions"] > 10
    table = f"{kind}:{TRIAL}/tables/{kind}"
    if kind == "cdb" and debian() == 12:
        # Its Postfix cannot list such a table.
        keys = "\n".join([wanted, *CASES["never"], *CASES["sometimes"]])
        held = gateway.check_output("printf '%%s\n' %s | sort -u | postmap -q - %s | cut -f 1 | LC_ALL=C sort", keys, table)
    else:
        held = gateway.check_output("postmap -s %s | cut -f 1 | LC_ALL=C sort", table)
    assert held == wanted
