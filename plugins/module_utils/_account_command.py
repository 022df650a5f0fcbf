# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-account: stop an account that was stolen, and let it back in.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-account. The names of suspended accounts stand in a table
that Postfix asks about the login of every transaction (check_sasl_access, access(5)): a session that is open is ended with its next
one. What the account has in the queue is put on hold by gateway-queue.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

TABLE = "lmdb:/var/lib/antispam-gateway/suspended_accounts"
QUEUE = "/usr/local/sbin/gateway-queue"
# Postfix ends a session with the answer 421.
ANSWER = "421 4.7.0 This account is suspended; ask your postmaster"


class AccountError(Exception):
    """Why nothing was done, or what was not done."""


def _run(*command: str, given: str = "", may_end_with: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AccountError(f"{command[0]} cannot be used: {error}") from None
    if done.returncode not in may_end_with:
        raise AccountError(f"{' '.join(command)}: {' '.join(done.stderr.split()) or f'it ended with {done.returncode}'}")
    return done.stdout


def accounts() -> dict[str, list[str]]:
    """Return each account with the addresses that it may send as; '@example.com' is every one of a domain. Or raise AccountError."""
    path = _run("postconf", "-P", "-h", "submission/inet/smtpd_sender_login_maps").strip()
    if not path:
        raise AccountError("this gateway has no accounts; gateway_accounts in the inventory names them")
    found: dict[str, list[str]] = {}
    for line in _run("postmap", "-s", path).splitlines():
        address, _tab, logins = line.partition("\t")
        for login in logins.replace(",", " ").split():
            found.setdefault(login, []).append(address)
    return found


def suspended() -> list[str]:
    """Return the names of the accounts that are suspended, or raise AccountError."""
    return sorted(line.partition("\t")[0] for line in _run("postmap", "-s", TABLE).splitlines())


def in_queue(action: str, addresses: list[str], *more: str) -> int:
    """Have gateway-queue do something to what these senders have in the queue, and return to how many messages."""
    count = 0
    for address in addresses:
        found = json.loads(_run(QUEUE, action, "--json", f"--from={address}", *more, may_end_with=(0, 1)))
        count += len(found["messages"])
    return count


def change(action: str, name: str, release: bool, dry_run: bool) -> dict[str, Any]:
    """Suspend an account, or let it back in. Return whether that changed anything, and how many of its messages are on hold or were released."""
    known = accounts()
    if name not in known and not (action == "resume" and name in suspended()):
        raise AccountError(f"{name} is no account of this gateway; those are {', '.join(sorted(known))}")
    addresses = known.get(name, [])
    changed = (name in suspended()) != (action == "suspend")
    dry = ("--dry-run",) if dry_run else ()
    if changed and not dry_run:
        if action == "suspend":
            _run("postmap", "-i", TABLE, given=f"{name}\t{ANSWER}\n")
        else:
            _run("postmap", "-d", name, TABLE)
    if action == "suspend":
        # After the table, so that nothing comes in behind it.
        held = in_queue("hold", addresses, *dry)
        on_hold = in_queue("list", addresses, "--queue=hold") + (held if dry_run else 0)
        return {"changed": changed or held > 0, "on_hold": on_hold, "released": 0}
    released = in_queue("release", addresses, *dry) if release else 0
    return {"changed": changed or released > 0, "on_hold": in_queue("list", addresses, "--queue=hold") - (released if dry_run else 0), "released": released}


def _said(action: str, name: str, result: dict[str, Any]) -> str:
    on_hold, released = result["on_hold"], result["released"]
    senders = f"gateway-queue --queue hold shows what was sent as its addresses, gateway-queue delete and release decide: {on_hold} messages are on hold"
    if action == "suspend":
        return f"{name} is suspended: nobody sends by it, and its open sessions end.\n{senders}"
    back = f"{name} may send again."
    back += f"\n{released} messages of it were released" if released else ""
    return back + (f"\n{senders}" if on_hold else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway-account", description="Stop an account that was stolen, and let it back in.")
    parser.add_argument("action", choices=("list", "suspend", "resume"))
    parser.add_argument("name", nargs="?", default="", help="the login")
    parser.add_argument("--release", action="store_true", help="resume: what is on hold goes on")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be changed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.action == "list") == bool(options.name):
        parser.error("list takes no name" if options.name else f"{options.action}: name the account")
    if options.release and options.action != "resume":
        parser.error("--release goes with resume")
    try:
        if options.action == "list":
            result: dict[str, Any] = {"accounts": sorted(accounts()), "suspended": suspended()}
            text = "\n".join(f"{name}  {'suspended' if name in result['suspended'] else 'may send'}" for name in result["accounts"])
        else:
            result = change(options.action, options.name.lower(), options.release, options.dry_run)
            text = ("it would be so: " if options.dry_run else "") + _said(options.action, options.name.lower(), result)
    except AccountError as error:
        sys.stderr.write(f"gateway-account: {error}\n")
        return 2
    sys.stdout.write((json.dumps(result, indent=1) if options.json else text) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
