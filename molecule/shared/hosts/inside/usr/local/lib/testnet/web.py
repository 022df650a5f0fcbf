# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of /srv/www over HTTP (8080), HTTPS (8443), and HTTPS with an expired certificate (8444).

/open/ is for everybody; the rest is for the user "reader" with the password "test".
/open/truncated/NAME ends in the middle of /open/NAME. /open/insecure/NAME redirects to port 8080, in clear text.
"""

from __future__ import annotations

import base64
import http.server
import os
import socket
import ssl
import threading

ROOT = "/srv/www"
AUTHORIZED = "Basic " + base64.b64encode(b"reader:test").decode()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=ROOT)

    def do_GET(self):
        if not self.path.startswith("/open/") and self.headers.get("Authorization") != AUTHORIZED:
            self.answer(401, "WWW-Authenticate", 'Basic realm="test"')
        elif self.path.startswith("/open/insecure/"):
            host = self.headers["Host"].rpartition(":")[0]
            self.answer(302, "Location", f"http://{host}:8080/open/{self.path.removeprefix('/open/insecure/')}")
        elif self.path.startswith("/open/truncated/"):
            self.truncated("/open/" + self.path.removeprefix("/open/truncated/"))
        else:
            super().do_GET()

    def answer(self, status, name, value):
        self.send_response(status)
        self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def truncated(self, path):
        try:
            with open(self.translate_path(path), "rb") as file:
                content = file.read()
        except OSError:
            self.answer(404, "Cache-Control", "no-store")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def __init__(self, port, certificate=None):
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(f"/srv/tls/{certificate}.pem", f"/srv/tls/{certificate}.key")
        super().__init__(("::", port), Handler)

    def finish_request(self, request, client_address):
        # The handshake is made in the client's own thread.
        request.settimeout(60)
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)
        if self.context:
            request.close()

    def handle_error(self, request, client_address):
        """A client that does not like the certificate is what some tests are about."""


os.makedirs(f"{ROOT}/open", exist_ok=True)
servers = [Server(8080), Server(8443, "server"), Server(8444, "expired")]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
