# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a host that is to become a gateway: what does port 25 answer when it answers for the first time?

tools/testnet starts it on every new gateway; test_first_answer.py reads the record.
"""

import json
import os
import socket
import time

RECORD = "/var/lib/first_answer.json"
COMMANDS = ("EHLO mx1.example.com", "MAIL FROM:<>", "RCPT TO:<nobody@example.com>", "RCPT TO:<alice@example.com>", "QUIT")


def conversation():
    with socket.create_connection(("127.0.0.1", 25), 5) as connection:
        connection.settimeout(60)
        lines = connection.makefile()
        answers = []
        for command in ("", *COMMANDS):
            if command:
                connection.sendall(command.encode() + b"\r\n")
            line = lines.readline()
            while line[3:4] == "-":
                line = lines.readline()
            answers.append(line.strip())
        return answers


def first_conversation():
    while True:
        try:
            return conversation()
        except ConnectionRefusedError:
            time.sleep(0.005)


def main():
    with open(RECORD + ".part", "w", encoding="utf-8") as file:
        json.dump(first_conversation(), file)
    os.rename(RECORD + ".part", RECORD)


main()
