# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten clean senders and any number of bots. Runs on the outside host of the test network; the job comes as JSON.

The answer: times (seconds from connect to 250 of each clean message), accepted, begun, failed, the last answers;
connections that bots held at the end, and how many were refused or thrown out.
"""

import asyncio
import json
import sys
import time

SENDERS = [(f"198.18.200.{number}", f"sender{number}.example.org") for number in range(1, 11)]
MESSAGE = (
    "From: sender@example.org\r\nTo: alice@example.com\r\nSubject: Flood\r\nMessage-ID: <{id}@example.org>\r\n"
    "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nA clean message.\r\n.\r\n"
)


class Refused(Exception):
    """The answer was not the wanted one."""


async def answer(reader, wanted):
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            break
    if line[:1] != wanted:
        raise Refused(line.decode("ascii", "replace").strip() or "closed")


async def connect(job, address):
    return await asyncio.open_connection(job["gateway"], 25, local_addr=(address, 0))


async def send_one(job, address, name, number):
    reader, writer = await connect(job, address)
    try:
        await answer(reader, b"2")
        for command, wanted in (
            (f"EHLO {name}", b"2"), ("MAIL FROM:<sender@example.org>", b"2"), ("RCPT TO:<alice@example.com>", b"2"), ("DATA", b"3"),
        ):  # fmt: skip
            writer.write(command.encode() + b"\r\n")
            await answer(reader, wanted)
        writer.write(MESSAGE.format(id=f"{address}.{number}.{time.time()}").encode())
        await answer(reader, b"2")
        writer.write(b"QUIT\r\n")
    finally:
        writer.close()


async def sender(job, address, name, ends, found):
    number = 0
    while True:
        number += 1
        started = time.monotonic()
        found["begun"] += 1
        try:
            # A sending server gives up as well, but not that soon: what takes longer than the measurement counts as not sent.
            await asyncio.wait_for(send_one(job, address, name, number), max(ends + 10 - started, 20))
        except (Refused, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            found["failed"] += 1
            found["answers"] = (found["answers"] + [str(error) or "timeout"])[-5:]
            await asyncio.sleep(1)
        else:
            if time.monotonic() <= ends or not job["seconds"]:
                found["accepted"] += 1
            found["times"].append(time.monotonic() - started)
        if time.monotonic() >= ends:
            return


async def bot(job, address, kind, found):
    while True:
        try:
            reader, writer = await connect(job, address)
        except OSError:
            found["refused"] += 1
            await asyncio.sleep(1)
            continue
        found["held"] += 1
        try:
            if kind == "early":
                writer.write(b"EHLO bot.example.net\r\nMAIL FROM:<bot@example.net>\r\nRCPT TO:<alice@example.com>\r\n")
            else:
                await answer(reader, b"2")
                writer.write(b"EHLO client.example.org\r\n")
                await answer(reader, b"2")
                if kind == "listed":
                    writer.write(b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<alice@example.com>\r\n")
            while await reader.readline():
                pass
        except (Refused, OSError):
            pass
        found["held"] -= 1
        found["refused"] += 1
        writer.close()
        await asyncio.sleep(1)


async def main():
    job = json.load(sys.stdin)
    found = {"times": [], "accepted": 0, "begun": 0, "failed": 0, "answers": [], "held": 0, "refused": 0}
    crowd = [asyncio.create_task(bot(job, address, kind, found)) for address, kind in job["bots"]]
    await asyncio.sleep(job.get("before", 0))
    ends = time.monotonic() + job["seconds"]
    await asyncio.gather(*(sender(job, address, name, ends, found) for address, name in SENDERS))
    json.dump(found, sys.stdout)
    sys.stdout.flush()
    for task in crowd:
        task.cancel()


asyncio.run(main())
