# SPDX-License-Identifier: GPL-3.0-or-later
"""A virus scanner out of its mind: it speaks clamd's protocol, and answers what the scanned content asks for.

The content names an answer as "answer: NAME"; every answer but "well" is a fault.
"""

import os
import re
import socketserver
import struct

SOCKET = "/run/clamav/clamd.ctl"
ANSWERS = {
    "well": b"%d: stream: OK\0",
    "nothing": b"",
    "nonsense": b"\xff\xfe what? \0\0\n",
    "error": b"%d: Can't allocate memory ERROR\0",
    "error-without-number": b"Can't allocate memory ERROR\0",
    "limit": b"INSTREAM size limit exceeded. ERROR\0",
    "for-another": b"77: stream: OK\0",
    "without-number": b"stream: OK\0",
}


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        number, wish = 0, b""
        while command := self.command():
            if command == b"zINSTREAM":
                number += 1
                wish += self.content()
                name = re.search(rb"answer: ([a-z-]+)", wish)
                if name and name[1] == b"the-first-only" and number > 1:
                    return
                answer = ANSWERS.get(name[1].decode() if name else "well", ANSWERS["well"])
                self.wfile.write(answer % number if b"%d" in answer else answer)
                if not answer:
                    return

    def command(self):
        read = b""
        while (byte := self.rfile.read(1)) not in (b"\0", b""):
            read += byte
        return read

    def content(self):
        read = b""
        while size := struct.unpack("!I", self.rfile.read(4))[0]:
            read += self.rfile.read(size)
        return read


if __name__ == "__main__":
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    server = socketserver.ThreadingUnixStreamServer(SOCKET, Session)
    os.chmod(SOCKET, 0o666)
    server.serve_forever()
