# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a listener about recipients without a pause, and counts the answers that are wrong.

Arguments: port, and a file with {"always": [...], "never": [...], "sometimes": [...]}. When its standard input ends it
prints {"asked": number, "wrong": [first ten], "longest": seconds, "sessions": number, "closed": number}; closed are the
sessions that ended without an answer, as they do when Postfix is told to reload.
"""

import json
import selectors
import socket
import sys
import time


class Session:
    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), 30)
        self.answers = self.connection.makefile("r", encoding="ascii")
        self.reply()
        self.ask("EHLO client.example.com")
        self.ask("MAIL FROM:<>")

    def ask(self, command):
        self.connection.sendall(f"{command}\r\n".encode("ascii"))
        return self.reply()

    def reply(self):
        while True:
            line = self.answers.readline()
            if not line:
                raise ConnectionError("closed")
            if line[3:4] != "-":
                return line.strip()


def main(port, cases):
    expected = {**dict.fromkeys(cases["always"], ("250",)), **dict.fromkeys(cases["never"], ("550",)), **dict.fromkeys(cases["sometimes"], ("250", "550"))}
    over = selectors.DefaultSelector()
    over.register(sys.stdin, selectors.EVENT_READ)
    asked, wrong, longest, sessions = 0, [], 0.0, 0
    closed, kept = 0, None
    while not over.select(0):
        try:
            # One session is kept for a while, the others are new: a process that has a table open may know less than a new one.
            if kept is None or sessions % 15 == 0:
                kept = Session(port)
            new = Session(port)
            sessions += 1
            for session in (kept, new, new):
                for address, right in expected.items():
                    started = time.monotonic()
                    answer = session.ask(f"RCPT TO:<{address}>")
                    longest = max(longest, time.monotonic() - started)
                    asked += 1
                    if answer[:3] not in right:
                        wrong.append(f"{address}: {answer}")
                session.ask("RSET")
                session.ask("MAIL FROM:<>")
            new.connection.close()
        except OSError:
            closed, kept = closed + 1, None
    print(json.dumps({"asked": asked, "wrong": wrong[:10], "longest": round(longest, 3), "sessions": sessions, "closed": closed}))


if __name__ == "__main__":
    with open(sys.argv[2], encoding="ascii") as file:
        main(int(sys.argv[1]), json.load(file))
