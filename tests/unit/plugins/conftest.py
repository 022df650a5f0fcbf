# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share: a module's run, an SMTP server and a DNS that answer as told and remember what they were told, certificates, and a host."""

from __future__ import annotations

import collections
import contextlib
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import types

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args


@pytest.fixture(autouse=True)
def debian(tmp_path_factory, monkeypatch):
    """A Debian without packages, whose root is here and not that of this machine. Yields its path."""
    from ansible_collections.antispam.gateway.plugins.module_utils import _backup, _debian, _foreign

    root = tmp_path_factory.mktemp("debian")
    monkeypatch.setattr(_backup, "DIRECTORY", root / "var/backups/antispam-gateway")
    monkeypatch.setattr(_debian, "DPKG_STATUS", root / "var/lib/dpkg/status")
    monkeypatch.setattr(_debian, "UCF_HASHES", root / "var/lib/ucf/hashfile")
    monkeypatch.setattr(_debian, "DEBCONF_ANSWERS", root / "var/cache/debconf/config.dat")
    monkeypatch.setattr(_debian, "COPIES", {"/etc/postfix/master.cf": root / "usr/share/postfix/master.cf.dist"})
    monkeypatch.setattr(_foreign, "ROOT", root)
    return root


ANSWERS = {
    "connect": "220 fake.example.net ESMTP",
    "EHLO": "250-fake.example.net greets you\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 ENHANCEDSTATUSCODES",
    "HELO": "250 fake.example.net",
    "STARTTLS": "220 2.0.0 Ready to start TLS",
    "AUTH": "235 2.7.0 Authentication successful",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 End data with <CR><LF>.<CR><LF>",
    "end_of_data": "250 2.0.0 Ok: queued as 4dVbQ60Jm2z1J",
    "QUIT": "221 2.0.0 Bye",
}

# Answers that are none.
DROP = object()
SILENCE = object()


class SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Session)
        self.port = self.server_address[1]
        self.answers = dict(ANSWERS)
        self.certificate = None
        # Whether TLS comes before SMTP.
        self.implicit_tls = False
        self.commands = []
        self.data = b""
        self.ended = threading.Event()

    @property
    def verbs(self):
        return [command.split(" ")[0] for command in self.commands]

    def handle_error(self, request, client_address):
        """A client that goes away is what some tests are about."""


class _Session(socketserver.StreamRequestHandler):
    def handle(self):
        if self.server.implicit_tls:
            self.start_tls()
        if not self.answer("connect"):
            return
        while line := self.rfile.readline():
            command = line.rstrip(b"\r\n").decode("latin-1")
            self.server.commands.append(command)
            verb = command.split(" ")[0]
            if not self.answer(verb):
                return
            if verb == "STARTTLS":
                self.start_tls()
            if verb == "DATA" and str(self.server.answers["DATA"]).startswith("354") and not self.take_message():
                return

    def finish(self):
        super().finish()
        self.server.ended.set()

    def answer(self, step):
        """Send the answer; False if the connection is to be closed."""
        answer = self.server.answers.get(step, "500 5.5.2 Error: command not recognized")
        if isinstance(answer, list):
            answer = answer.pop(0)
        if answer is SILENCE:
            self.rfile.read()  # until the client has had enough
            return False
        if answer is DROP:
            return False
        self.wfile.write(answer.encode("latin-1") + b"\r\n")
        return step != "QUIT" and not answer.startswith("421")

    def start_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate)
        self.request = context.wrap_socket(self.request, server_side=True)
        self.setup()

    def take_message(self):
        while not self.server.data.endswith(b"\r\n.\r\n"):
            line = self.rfile.readline()
            if not line:
                return False
            self.server.data += line
            if "in_data" in self.server.answers:
                return self.answer("in_data")
        return self.answer("end_of_data")


@pytest.fixture
def call_main(capfd, monkeypatch):
    """Run a module with these arguments and return its result; `warnings` are those of the last run, `printed` is all else that it wrote."""

    # Ansible keeps them for the whole process, and shows them itself where it takes that for a controller.
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: call.warnings.append(text))

    def call(module, **arguments):
        call.warnings = []
        with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
            module.main()
        out, err = capfd.readouterr()
        call.printed = out + err
        result = json.loads(out)
        assert bool(ended.value.code) == result.get("failed", False)
        return result

    return call


@pytest.fixture
def serve():
    """Let a socketserver answer until the test is over; returns it."""
    with contextlib.ExitStack() as at_the_end:

        def start(server):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            for step in (thread.join, server.server_close, server.shutdown):  # the last one first
                at_the_end.callback(step)
            return server

        yield start


@pytest.fixture
def smtp_server(serve):
    server = SmtpServer()
    server.DROP, server.SILENCE = DROP, SILENCE
    return serve(server)


def self_signed(path, name):
    """Make a certificate for a name, with its key, in one file."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    files = ["-keyout", path, "-out", path.with_suffix(".crt")]
    subprocess.run(["openssl", "req", "-x509", *curve, *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost, with its key, in one file."""
    return self_signed(tmp_path_factory.mktemp("tls") / "localhost.pem", "localhost")


@pytest.fixture(scope="session")
def gateway_certificate(tmp_path_factory):
    """The same for mx1.example.com."""
    return self_signed(tmp_path_factory.mktemp("tls") / "gateway.pem", "mx1.example.com")


class Zone(dict):
    """What the DNS holds: {(name, type): texts}, None where it does not answer. `asked` is what was looked up."""

    def __init__(self):
        super().__init__()
        self.asked = []


@pytest.fixture
def zone(monkeypatch):
    # The collection cannot be imported before tests/conftest.py is done.
    from ansible_collections.antispam.gateway.plugins.module_utils import _records

    found = Zone()

    def lookup(name, kind):
        found.asked.append((name, kind))
        texts = found.get((name, kind), [])
        if texts is None:
            raise _records.Unknown(f"{name} {kind}: the resolution lifetime expired")
        return list(texts)

    monkeypatch.setattr(_records, "lookup", lookup)
    monkeypatch.setattr(_records, "missing_package", lambda: "")
    return found


class NextHop:
    """A mail server that the gateway speaks to, with a certificate that is right; a test makes it another one."""

    def __init__(self):
        self.extensions = ["PIPELINING", "SIZE 104857600", "STARTTLS", "8BITMIME"]
        # Why there is no conversation, none with TLS, and none with a verified certificate.
        self.unreachable = self.tls_failure = self.untrusted = ""
        # The step that is refused, and how.
        self.refused_at, self.refusal = None, ""


class Host:
    """A plain host that is good for a gateway; a test makes it another one."""

    release = ("debian", "13")
    cpus, memory = 4, 8192
    packages: tuple = ()
    resolvers: tuple = ("192.0.2.1",)
    own = ("127.0.0.1", "203.0.113.10")

    def __init__(self):
        self.free = {"spool": 50 * 1024**3, "lib": 50 * 1024**3}
        self.ports: dict = {}
        self.addresses: dict = {}
        self.processes: set = set()
        self.next_hops = collections.defaultdict(NextHop)
        # Arguments of every conversation, and those whose connections were tried.
        self.conversations = []
        self.tried = []

    def spoken_to(self, name):
        """The conversations with one server, in their order."""
        return [each for each in self.conversations if each["host"] == name]

    def converse(self, host, port, helo, tls, stop_after, timeout, validate_certs=False, ca_path=None, certificate_names=()):
        """As _smtp.converse does, without a network."""
        from ansible_collections.antispam.gateway.plugins.module_utils import _smtp

        self.conversations.append(
            {"host": host, "port": port, "helo": helo, "tls": tls, "validate_certs": validate_certs, "ca_path": ca_path, "names": list(certificate_names)}
        )
        assert (stop_after, 0 < timeout <= 30) == ("helo", True)
        hop = self.next_hops[host]
        result = {"extensions": hop.extensions, "tls": None, "verdict": "accepted", "refused_at": None, "reply": {"lines": ["250 Ok"]}}
        if hop.unreachable:
            raise _smtp.SmtpError(hop.unreachable)
        if hop.refused_at == "starttls" and tls == "never":
            return result
        if hop.refused_at:
            extensions = hop.extensions if hop.refused_at == "starttls" else []
            return {**result, "extensions": extensions, "verdict": "refused", "refused_at": hop.refused_at, "reply": {"lines": [hop.refusal]}}
        if tls == "never":
            return result
        if hop.tls_failure or hop.untrusted and validate_certs:
            raise _smtp.SmtpError(hop.tls_failure or hop.untrusted)
        return {**result, "tls": {"protocol": "TLSv1.3"}}


@pytest.fixture
def host(monkeypatch, tmp_path):
    """The host that the module survey finds when it is run in this process."""
    from ansible_collections.antispam.gateway.plugins.module_utils import _host, _smtp

    example = Host()
    monkeypatch.setattr(_smtp, "converse", example.converse)

    def getaddrinfo(name, port, *arguments, **options):
        found = example.addresses.get(name, ["198.51.100.25"])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    class Socket:
        """Every address answers but those that begin with 192.0.2; those of this host can be bound."""

        def __init__(self, *arguments):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            pass

        def settimeout(self, seconds):
            pass

        def connect(self, target):
            example.tried.append(target)
            if target[0].startswith("192.0.2."):
                raise OSError(111, "Connection refused")

        def bind(self, target):
            if target[0] not in example.own:
                raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(_host, "socket", types.SimpleNamespace(**{**vars(socket), "getaddrinfo": getaddrinfo, "socket": Socket}))
    monkeypatch.setattr(_host, "os_release", lambda: example.release)
    monkeypatch.setattr(_host, "cpus", lambda: example.cpus)
    monkeypatch.setattr(_host, "memory_mib", lambda: example.memory)
    monkeypatch.setattr(_host, "installed", lambda: list(example.packages))
    monkeypatch.setattr(_host, "resolv_conf", lambda: list(example.resolvers))
    monkeypatch.setattr(_host, "running", lambda names: [name for name in names if name in example.processes])
    monkeypatch.setattr(_host, "listeners", lambda port, loopback_only=False: example.ports.get(port, set()))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=example.free[str(path).split("/")[2]]))
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text("#!/bin/sh\nexit ${FAKE_SYSTEMCTL:-3}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    return example
