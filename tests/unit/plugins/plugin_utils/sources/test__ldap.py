# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import ssl
import sys
import threading
import types

import pytest
from _sources import LDAP, SECRET, refused, source
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _ldap


class _Directory:
    """Stands in for python-ldap: the module and the connection. Answers in pages of page_size, as a server would."""

    class LDAPError(Exception):
        pass

    ERRORS = """
        INVALID_CREDENTIALS NO_SUCH_OBJECT INVALID_DN_SYNTAX FILTER_ERROR SIZELIMIT_EXCEEDED ADMINLIMIT_EXCEEDED TIMELIMIT_EXCEEDED PARTIAL_RESULTS
        UNAVAILABLE_CRITICAL_EXTENSION CONFIDENTIALITY_REQUIRED STRONG_AUTH_REQUIRED REFERRAL INSUFFICIENT_ACCESS INAPPROPRIATE_AUTH OPERATIONS_ERROR
        UNWILLING_TO_PERFORM TIMEOUT SERVER_DOWN CONNECT_ERROR OTHER
    """.split()
    SCOPE_SUBTREE, SCOPE_ONELEVEL = "sub", "one"

    def __init__(self):
        for name in self.ERRORS:
            setattr(self, name, type(name, (self.LDAPError,), {}))
        for name in ("PROTOCOL_VERSION", "REFERRALS", "DEREF", "NETWORK_TIMEOUT", "TIMEOUT", "X_TLS_CACERTFILE", "X_TLS_REQUIRE_CERT", "X_TLS_NEWCTX"):
            setattr(self, f"OPT_{name}", name)
        self.DEREF_NEVER, self.OPT_X_TLS_DEMAND, self.OPT_X_TLS_NEVER = "never", "demand", "allow anything"
        self.controls = types.SimpleNamespace(SimplePagedResultsControl=_Page)
        self.entries, self.options, self.calls, self.fails, self.pages = [], {}, [], {}, True

    def fail(self, step, name, **answer):
        self.fails[step] = getattr(self, name)({"desc": name, **answer})

    def _call(self, *call):
        self.calls.append(call)
        if call[0] in self.fails:
            raise self.fails[call[0]]

    def initialize(self, uri):
        self._call("initialize", uri)
        return self

    def set_option(self, name, value):
        self.options[name] = value

    def start_tls_s(self):
        self._call("start_tls")

    def simple_bind_s(self, dn, password):
        self._call("bind", dn, password)

    def unbind_s(self):
        self._call("unbind")

    def search_ext(self, base, scope, filterstr, attrlist, serverctrls):
        [page] = serverctrls
        assert page.criticality
        self._call("search", base, scope, filterstr, tuple(attrlist))
        return int(page.cookie or 0), page.size

    def result3(self, message, timeout):
        start, size = message
        if start:
            self._call("second page")
        end = start + size
        cookie = str(end) if end < len(self.entries) else ""
        return "result", self.entries[start:end], 1, [_Page(True, 0, cookie)] if self.pages else []


class _Page:
    controlType = "1.2.840.113556.1.4.319"

    def __init__(self, criticality, size, cookie):
        self.criticality, self.size, self.cookie = criticality, size, cookie


@pytest.fixture
def directory(monkeypatch):
    fake = _Directory()
    monkeypatch.setitem(sys.modules, "ldap", fake)
    monkeypatch.setitem(sys.modules, "ldap.controls", fake.controls)
    fake.entries = [(f"uid=u{number}", {"mail": [b"u%d@example.com" % number]}) for number in range(10)]
    return fake


LOCAL = {"ldap_uri": "ldapi://", "base": "dc=example,dc=com"}


def test_a_directory_is_read_in_pages(directory):
    found = source(**LOCAL, page_size=3)
    raw = found.fetch()
    assert found.by_line(raw)
    assert found.records(raw).keys == [f"u{number}@example.com" for number in range(10)]
    assert [call[0] for call in directory.calls].count("search") == 4
    assert directory.calls[1] == ("search", "dc=example,dc=com", "sub", "(mail=*)", ("mail",))
    assert directory.calls[-1] == ("unbind",)
    assert directory.options["REFERRALS"] == 0
    assert directory.options["PROTOCOL_VERSION"] == 3


def test_the_directory_is_told_who_asks_for_what(directory):
    options = {"bind_dn": "cn=reader", "password": SECRET, "scope": "onelevel", "filter": "(uid=*)", "attributes": ["mail", "proxyAddresses"]}
    source(**LOCAL, **options).fetch()
    assert directory.calls[1:3] == [("bind", "cn=reader", SECRET), ("search", "dc=example,dc=com", "one", "(uid=*)", ("mail", "proxyAddresses"))]


def test_proxy_addresses_are_those_of_smtp_alone(directory):
    directory.entries = [
        ("uid=b", {"PROXYADDRESSES": [b"smtp:b2@example.com", b"SMTP:b@example.com", b"sip:b@example.com", b"X500:/o=Example", b"b3@example.com"]}),
        ("uid=a", {"mail": [b"b@example.com", b"smtp:a@example.com"], "mail;lang-de": ["ä@example.com".encode()], "other": [b"c@example.com"]}),
    ]
    found = source(**LOCAL, attributes=["Mail", "proxyaddresses"])
    assert found.records(found.fetch()).keys == ["b2@example.com", "b@example.com", "smtp:a@example.com", "ä@example.com"]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"mail": [b"\xff@example.com"]}, ["mail of uid=a", "UTF-8"]),
        ({"mail": [b"x\n@victim.example"]}, ["line end or a NUL"]),
        ({"mail": [b"x\0@example.com"]}, ["line end or a NUL"]),
        ({"mail": [], "mail;range=0-1499": [b"a@example.com"]}, ["only a part of mail of uid=a"]),
        ({"other": [b"a@example.com"]}, ["1 entries match", "none has an address in mail"]),
    ],
)
def test_an_entry_that_cannot_be_taken_is_named(directory, attributes, words):
    directory.entries = [("uid=a", attributes)]
    refused(source(**LOCAL).fetch, "ldapi://:", *words)


def test_all_of_an_attribute_that_came_in_ranges_is_taken(directory):
    directory.entries = [("uid=a", {"mail;range=0-*": [b"a@example.com"]})]
    assert source(**LOCAL).fetch() == b"a@example.com"


def test_references_are_not_followed(directory):
    directory.entries.append((None, ["ldap://other.example.com/dc=example,dc=com"]))
    assert source(**LOCAL).fetch().count(b"\n") == 9
    directory.entries = directory.entries[-1:]
    refused(source(**LOCAL).fetch, "only refers to other servers")


def test_a_directory_without_entries_or_without_pages_is_refused(directory):
    directory.pages = False
    refused(source(**LOCAL).fetch, "does not answer in pages")
    directory.pages, directory.entries = True, []
    refused(source(**LOCAL).fetch, "no entry below dc=example,dc=com", "(mail=*)")


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("initialize", "OTHER", ["could not be read"]),
        ("bind", "INVALID_CREDENTIALS", ["bind_dn", "password"]),
        ("bind", "CONFIDENTIALITY_REQUIRED", ["start_tls: true"]),
        ("bind", "SERVER_DOWN", ["connection failed"]),
        ("search", "NO_SUCH_OBJECT", ["base dc=example,dc=com"]),
        ("search", "INVALID_DN_SYNTAX", ["not a DN"]),
        ("search", "FILTER_ERROR", ["(mail=*)", "RFC 4515"]),
        ("search", "UNAVAILABLE_CRITICAL_EXTENSION", ["pages"]),
        ("search", "REFERRAL", ["another server"]),
        ("search", "OPERATIONS_ERROR", ["bind_dn"]),
        ("second page", "SIZELIMIT_EXCEEDED", ["did not return everything", "prtotal"]),
        ("second page", "ADMINLIMIT_EXCEEDED", ["did not return everything"]),
        ("second page", "TIMELIMIT_EXCEEDED", ["did not return everything"]),
        ("second page", "PARTIAL_RESULTS", ["did not return everything"]),
        ("second page", "SERVER_DOWN", ["connection failed or was lost"]),
        ("second page", "TIMEOUT", ["30 seconds", "timeout"]),
    ],
)
def test_what_the_directory_does_not_do_is_an_error_and_no_short_list(directory, step, error, words):
    directory.fail(step, error, info=f"{SECRET} is what you sent\n\0\u202e")
    refused(source(**LOCAL, bind_dn="cn=reader", password=SECRET, page_size=3).fetch, "ldapi://:", error, "(password) is what you sent", *words)
    assert step == "initialize" or directory.calls[-1] == ("unbind",)


def test_an_error_without_an_explanation_is_a_sentence_too(directory):
    directory.fails["search"] = directory.OTHER("nothing to be told")
    refused(source(**LOCAL).fetch, "could not be read", "OTHER")


def test_the_library_is_told_what_to_trust(directory, monkeypatch, certificates):
    monkeypatch.setattr(_ldap.Ldap, "_shake_hands", lambda self, verify: None)
    remote = {**LDAP, "ldap_uri": "ldap://ldap.example.com", "start_tls": True, "timeout": 7}
    source(**remote, ca_path=certificates.ca_path, bind_dn="cn=reader", password=SECRET).fetch()
    assert directory.options["X_TLS_REQUIRE_CERT"] == "demand"
    assert directory.options["X_TLS_CACERTFILE"] == certificates.ca_path
    assert list(directory.options)[-1] == "X_TLS_NEWCTX"
    assert (directory.options["NETWORK_TIMEOUT"], directory.timeout) == (7, 7)
    assert [call[0] for call in directory.calls[:3]] == ["initialize", "start_tls", "bind"]
    source(**remote, validate_certs=False).fetch()
    assert directory.options["X_TLS_REQUIRE_CERT"] == "allow anything"


@pytest.mark.parametrize(("certificate", "words"), [("expired", ["has expired"]), ("other", ["for another name"]), ("good", [])])
def test_a_bad_certificate_of_a_directory_is_named(directory, web, certificates, certificate, words):
    """The library only says that it cannot connect, so the handshake is looked at beside it."""
    server = web(getattr(certificates, certificate))
    directory.fail("search", "SERVER_DOWN")
    options = {**LDAP, "ldap_uri": server.url.replace("https", "ldaps"), "timeout": 5}
    refused(source(**options, ca_path=certificates.ca_path).fetch, *words, *([] if words else ["SERVER_DOWN"]))
    refused(source(**options).fetch, "not trusted here")


@pytest.mark.parametrize("options", [{"ldap_uri": "ldaps://127.0.0.1:{}"}, {"ldap_uri": "ldap://127.0.0.1:{}", "start_tls": True}])
def test_a_directory_that_does_not_answer_is_named(directory, silent, closed, options):
    for port, word in ((silent, "0.2 seconds"), (closed, "refused the connection")):
        refused(source(**{**LDAP, **options, "ldap_uri": options["ldap_uri"].format(port), "timeout": 0.2}).fetch, word)
    assert not directory.calls


def test_start_tls_is_tried_as_the_library_does(directory, certificates):
    """The request and its answer, RFC 4511 section 4.14, and the handshake after them."""
    request = bytes.fromhex("301d 0201 01 7718 8016") + b"1.3.6.1.4.1.1466.20037"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.other)
    seen = []

    def serve(server):
        for dummy in range(2):
            connection = server.accept()[0]
            seen.append(connection.recv(4096))
            connection.sendall(bytes.fromhex("300c 0201 01 7807 0a01 00 0400 0400"))
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass

    directory.fail("start_tls", "CONNECT_ERROR")
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server], daemon=True)
        thread.start()
        uri = f"ldap://127.0.0.1:{server.getsockname()[1]}"
        refused(source(**{**LDAP, "ldap_uri": uri}, start_tls=True, ca_path=certificates.ca_path, timeout=5).fetch, "for another name")
        thread.join(5)
    assert seen == [request, request]


def test_a_missing_library_is_named_with_its_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "ldap", None)
    refused(source(**LOCAL).fetch, "python3-ldap", "python-ldap")
