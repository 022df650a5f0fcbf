# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that the tests of sources ask, and certificates for them."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class _Certificates:
    """An authority, and certificates from it, as PEM files."""

    def __init__(self, directory):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        authority = self._builder(self.key, self.subject, 10).add_extension(x509.BasicConstraints(True, None), True)
        authority = authority.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False).add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), True
        )
        self.ca_path = str(directory / "ca.pem")
        (directory / "ca.pem").write_bytes(authority.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, key, subject, days):
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now + datetime.timedelta(days=days)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(min(now, end) - datetime.timedelta(days=1)).not_valid_after(end)

    def issue(self, name, alternative, days=10):
        """Return the path of a certificate with its key; with negative days it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), days)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return str(path)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    made = _Certificates(tmp_path_factory.mktemp("tls"))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made.good = made.issue("good", address)
    made.expired = made.issue("expired", address, days=-1)
    made.other = made.issue("other", x509.DNSName("www.example.com"))
    made.client = made.issue("client", x509.DNSName("client.example.com"))
    return made


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answers[self.path.partition("?")[0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments):
        """Nothing is written to the terminal."""


class _WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate=None, client_ca=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.answers, self.context = [], {}, None
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED

    def get_request(self):
        connection, address = super().get_request()
        return (self.context.wrap_socket(connection, server_side=True) if self.context else connection), address

    def handle_error(self, request, client_address):
        """A client that does not like the certificate is what some tests are about."""

    def says(self, path, body, status=200, **headers):
        self.answers[path] = (status, {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}, body)


@pytest.fixture
def web(monkeypatch):
    """Return a function that starts a web server with these arguments."""
    servers = []
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(*arguments, **options):
        server = _WebServer(*arguments, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        server.says("/users", b"a@example.com\n")
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def silent():
    """The port of a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
