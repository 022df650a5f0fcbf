# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-bayes-mailboxes: have the gateway learn what people have put into folders of their mailboxes.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-bayes-mailboxes, which a timer starts; it
reads by IMAP (RFC 3501) and TLS, read only, and hands what is new to gateway-bayes. How far a folder was read stands
in the store of Bayes, as "UIDVALIDITY UID": a store that was lost is taught anew.
"""

from __future__ import annotations

import argparse
import contextlib
import imaplib
import io
import json
import pathlib
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

SETTINGS = pathlib.Path("/etc/gateway-bayes.json")
LEARN = "/usr/local/sbin/gateway-bayes"
# A larger message teaches no more than others, and takes long to fetch (bytes).
LARGEST = 1024 * 1024
# Of a folder no more than so many messages, the newest, count: older ones teach little of the mail of today, and a server's answer
# with the UIDs of all of a large folder is longer than imaplib takes.
NEWEST = 5000
# Messages that are fetched by one command. All of them are in memory, several times over.
FETCHED = 10
# What is learned together: sa-learn takes a second to start.
PORTION_MESSAGES, PORTION_BYTES = 100, 8 * 1024 * 1024
# Seconds: how long a server may take for an answer, and how long one run may take. The next goes on where it ended.
ANSWER, RUN = 30, 480


class MailboxError(Exception):
    """What is wrong with one mailbox or one of its folders; the others are read all the same."""


class Positions:
    """How far each folder has been read."""

    def __init__(self, connection: dict[str, Any]) -> None:
        import redis

        self._redis = redis.Redis(**connection, socket_timeout=10, decode_responses=True)

    def after(self, name: str, validity: int) -> int:
        """Return the last UID that was learned, 0 where the folder was not read or its UIDs have changed (RFC 3501 section 2.3.1.1)."""
        known = (self._redis.get(f"folder:{name}") or "0 0").split()
        return int(known[1]) if int(known[0]) == validity else 0

    def note(self, name: str, validity: int, uid: int) -> None:
        self._redis.set(f"folder:{name}", f"{validity} {uid}")


def learn(kind: str, who: str, messages: list[bytes]) -> dict[str, Any]:
    """Hand messages to gateway-bayes and return what it says, or raise MailboxError."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for number, content in enumerate(messages):
            member = tarfile.TarInfo(f"message {number + 1}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    command = [LEARN, "--json", "learn", f"--{kind}", "--by", who, "--tar"]
    done = subprocess.run(command, input=archive.getvalue(), capture_output=True, check=False)
    if done.returncode:
        raise MailboxError(done.stderr.decode(errors="replace").strip().removeprefix("gateway-bayes: "))
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def connect(account: dict[str, Any], ca_file: str, answer: int) -> Any:
    """Return a mailbox of imap_tools that has logged in. Certificates are checked against the host's authorities, and the site's own."""
    # Debian's python3-imap-tools.
    import imap_tools

    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    kind = imap_tools.MailBoxTls if account["starttls"] else imap_tools.MailBox
    found = kind(account["host"], port=account["port"], timeout=answer, ssl_context=context)
    return found.login(account["username"], account["password"], initial_folder=None)


def new_in(box: Any, folder: str, position: int) -> list[int]:
    """Open a folder, and return the UIDs of what is new in it, NEWEST at most."""
    exists = box.folder.status(folder, ["MESSAGES"])["MESSAGES"]
    box.folder.set(folder, readonly=True)
    if not exists:
        return []
    # "*" is the last message, whatever its UID.
    found = box.uids(f"{max(1, exists - NEWEST + 1)}:* UID {position + 1}:*")
    return sorted(uid for uid in map(int, found) if uid > position)[-NEWEST:]


def portions(box: Any, uids: list[int]) -> Iterator[tuple[int, list[bytes]]]:
    """Return the messages of a folder that is open, in portions, each with the last UID of it."""
    messages: list[bytes] = []
    for start in range(0, len(uids), FETCHED):
        some = uids[start : start + FETCHED]
        small = box.uids(f"UID {','.join(map(str, some))} SMALLER {LARGEST}")
        found = box.fetch(f"UID {','.join(small)}", mark_seen=False, bulk=True) if small else ()
        messages += [content for content in map(_content, found) if content]
        if len(messages) >= PORTION_MESSAGES or sum(map(len, messages)) >= PORTION_BYTES:
            yield some[-1], messages
            messages = []
    if uids:
        yield uids[-1], messages


def _content(message: Any) -> bytes:
    try:
        content: bytes = message.obj.as_bytes()
    except (UnicodeError, LookupError, ValueError, KeyError):
        # Python cannot write what it could read of a broken message.
        return b""
    return content


def read(box: Any, account: dict[str, Any], kind: str, folder: str, positions: Positions, deadline: float) -> str:
    """Learn what is new in a folder; return what there is to say about it."""
    where = f"{account['username']} at {account['host']}"
    name = f"{account['username']}@{account['host']}:{account['port']}/{folder}"
    validity = int(box.folder.status(folder, ["UIDVALIDITY"])["UIDVALIDITY"])
    learned = examined = 0
    uids = new_in(box, folder, positions.after(name, validity))
    for uid, messages in portions(box, uids):
        if messages:
            result = learn(kind, where, messages)
            learned += result["learned"]
            examined += result["examined"]
        positions.note(name, validity, uid)
        if uid != uids[-1] and time.monotonic() > deadline:
            return f"{where}: {folder}: {learned} of {examined} messages learned as {kind}; the next run goes on with it"
    left_out = f"; older ones than the newest {NEWEST} are left out" if len(uids) == NEWEST else ""
    return f"{where}: {folder}: {learned} of {examined} messages learned as {kind}{left_out}" if examined else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway-bayes-mailboxes", description="Learn what is new in the mailboxes of gateway_bayes_mailboxes.")
    parser.add_argument("--settings", type=pathlib.Path, default=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=RUN, help="how long a run may take; the next goes on where it ended (default %(default)s)")
    parser.add_argument("--answer", type=int, default=ANSWER, help="seconds that a server may take for an answer (default %(default)s)")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings.read_text(encoding="utf-8"))
    import imap_tools
    import redis

    wrong = (imap_tools.ImapToolsError, imaplib.IMAP4.error, redis.exceptions.RedisError, OSError, MailboxError, ValueError)
    positions = Positions(settings["connection"])
    deadline = time.monotonic() + arguments.seconds
    failed = 0
    for account in settings["mailboxes"]:
        where = f"{account['username']} at {account['host']}:{account['port']}"
        try:
            box = connect(account, settings["ca_file"], arguments.answer)
        except wrong as error:
            sys.stderr.write(f"{where}: {_text(error)}; nothing of this mailbox was learned\n")
            failed += 1
            continue
        for kind in ("spam", "ham"):
            for folder in account[f"{kind}_folders"]:
                try:
                    said = read(box, account, kind, folder, positions, deadline)
                    if said:
                        sys.stdout.write(f"{said}\n")
                except wrong as error:
                    sys.stderr.write(f"{where}: {folder}: {_text(error)}; the next run goes on with it\n")
                    failed += 1
        with contextlib.suppress(*wrong):
            box.logout()
    return 1 if failed else 0


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    raise SystemExit(main())
