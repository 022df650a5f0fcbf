# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from _sources import SECRET, refused, source
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _base


def test_a_download_over_http(web):
    server = web()
    server.says("/users.csv", b"mail\na@example.com\n")
    table = source(url=f"{server.url}/users.csv?all=1", column="mail")
    assert table.records(table.fetch()).keys == ["a@example.com"]
    assert table.records(table.fetch()).where(0) == f"{server.url}/users.csv line 2"
    assert server.requests[0][0] == "/users.csv?all=1"
    assert "Authorization" not in server.requests[0][1]


def test_a_download_over_https_with_all_that_can_be_shown(web, certificates):
    server = web(certificates.good, client_ca=certificates.ca_path)
    options = {"url": f"{server.url}/users", "ca_path": certificates.ca_path, "timeout": 5}
    shown = {"username": "reader", "password": SECRET, "headers": {"X-Token": "t"}, "client_cert": certificates.client}
    assert source(**options, **shown).fetch() == b"a@example.com\n"
    dummy, headers = server.requests[0]
    assert headers["Authorization"] == "Basic cmVhZGVyOmNvcnJlY3QgaG9yc2U="
    assert headers["X-Token"] == "t"
    refused(source(**options).fetch, "127.0.0.1")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("expired", True, ["has expired"]),
        ("other", True, ["for another name"]),
        ("good", False, ["not trusted here", "ca_path"]),
    ],
)
def test_a_certificate_that_is_not_good_is_refused(web, certificates, certificate, trusted, words):
    server = web(getattr(certificates, certificate))
    options = {"url": f"{server.url}/users", "username": "reader", "password": SECRET, "timeout": 5}
    refused(source(**options, **({"ca_path": certificates.ca_path} if trusted else {})).fetch, "the certificate of 127.0.0.1", *words)
    assert not server.requests
    assert source(**options, validate_certs=False).fetch() == b"a@example.com\n"


@pytest.mark.parametrize(("status", "words"), [(401, ["check username"]), (403, ["Forbidden"]), (404, ["check url"]), (500, []), (599, []), (304, [])])
def test_an_answer_that_is_an_error_is_named(web, status, words):
    server = web()
    server.says("/users", b"", status=status)
    refused(source(url=f"{server.url}/users?token=abc", username="reader", password=SECRET).fetch, f"{server.url}/users:", str(status), *words)


@pytest.mark.parametrize("status", [204, 206])
def test_an_answer_that_is_no_whole_file_is_refused(web, status):
    server = web()
    server.says("/users", b"", status=status)
    refused(source(url=f"{server.url}/users").fetch, str(status), "200 was expected")


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({"Content-Length": "14"}, b"a@example", ["truncated", "9 of 14"]),
        ({"Content-Length": "999999999999"}, b"a@example", ["truncated", "9 of 999999999999"]),
        ({"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n9\r\nmpl", ["truncated"]),
        ({"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n", ["truncated"]),
        ({}, b"a@example.com\n", ["no length"]),
        ({"Content-Length": "14", "Content-Encoding": "gzip"}, b"a@example.com\n", ["compressed"]),
    ],
)
def test_an_answer_that_is_not_whole_is_refused(web, headers, body, words):
    server = web()
    server.answers["/users"] = (200, headers, body)
    refused(source(url=f"{server.url}/users").fetch, *words)


def test_a_chunked_answer_is_taken(web):
    server = web()
    server.answers["/users"] = (200, {"Transfer-Encoding": "chunked"}, b"5\r\na@exa\r\n9\r\nmple.com\n\r\n0\r\n\r\n")
    assert source(url=f"{server.url}/users").fetch() == b"a@example.com\n"


def test_an_answer_that_is_too_large_is_refused(web, monkeypatch):
    monkeypatch.setattr(_base, "LIMIT", 13)
    refused(source(url=f"{web().url}/users").fetch, "larger than")


def test_redirects_are_followed_but_take_no_secret_to_another_host(web):
    first, second = web(), web()
    first.says("/old", b"", status=302, Location="/users")
    first.says("/away", b"", status=307, Location=f"{second.url}/users")
    options = {"username": "reader", "password": SECRET, "headers": {"X-Token": "t"}}
    assert source(url=f"{first.url}/old", **options).fetch() == b"a@example.com\n"
    assert source(url=f"{first.url}/away", **options).fetch() == b"a@example.com\n"
    assert all("Authorization" in headers and "X-Token" in headers for dummy, headers in first.requests)
    [(dummy, headers)] = second.requests
    assert "Authorization" not in headers
    assert "X-Token" not in headers


@pytest.mark.parametrize(
    ("location", "words"),
    [("http://127.0.0.1/users", ["clear text"]), ("file:///etc/passwd", ["not an http or https URL"]), ("/users", ["more than 5 times"])],
)
def test_a_redirect_to_where_we_do_not_go_is_refused(web, certificates, location, words):
    server = web(certificates.good)
    server.says("/users", b"", status=301, Location=location)
    refused(source(url=f"{server.url}/users", ca_path=certificates.ca_path).fetch, *words)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_does_not_answer_is_named(web, silent, closed, scheme):
    refused(source(url=f"{scheme}://127.0.0.1:{silent}/users", timeout=0.2).fetch, "0.2 seconds", "timeout")
    refused(source(url=f"{scheme}://127.0.0.1:{closed}/users").fetch, "refused the connection")


def test_a_server_that_does_not_speak_tls_is_named(web, closed):
    server = web()
    refused(source(url=f"{server.url.replace('http', 'https')}/users", timeout=5).fetch, "TLS with 127.0.0.1 failed")


@pytest.mark.parametrize("option", ["ca_path", "client_cert"])
def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path, web, certificates, option):
    server = web(certificates.good)
    options = {"ca_path": certificates.ca_path, "url": f"{server.url}/users"}
    refused(source(**{**options, option: "missing.pem"}).fetch, f"cannot read {option} /nowhere/missing.pem")
    (tmp_path / "empty.pem").write_bytes(b"")
    refused(source(**{**options, option: str(tmp_path / "empty.pem")}).fetch, "TLS with 127.0.0.1 failed", option)
