# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that gives Postfix a certificate, run as it is rendered. What Postfix gets is loaded as a server loads it."""

from __future__ import annotations

import shlex
import ssl
import subprocess

import jinja2
import pytest
from _checkout import ROLES

TEMPLATE = ROLES / "postfix" / "templates" / "usr" / "local" / "sbin" / "gateway-certificate.j2"
NAME = "mx1.example.com"


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory):
    """Keys and certificates as text, by kind."""
    directory = tmp_path_factory.mktemp("made")
    text = {}
    for kind, key, name in (("rsa", "rsa:2048", NAME), ("authority", "rsa:2048", "ca.example.com"), ("elliptic", "ec", NAME)):
        options = ["-newkey", key, *(["-pkeyopt", "ec_paramgen_curve:prime256v1"] if key == "ec" else [])]
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        command = ["openssl", "req", "-x509", *options, "-nodes", *names, "-days", "30", "-keyout", directory / "key", "-out", directory / "certificate"]
        subprocess.run(command, check=True, capture_output=True)
        text[f"{kind} key"] = (directory / "key").read_text()
        text[kind] = (directory / "certificate").read_text()
    parameters = subprocess.run(["openssl", "ecparam", "-name", "prime256v1"], check=True, capture_output=True, text=True).stdout
    text["elliptic key with parameters"] = parameters + text["elliptic key"]
    return text


class Host:
    def __init__(self, directory, self_signed=False):
        self.certificate, self.key, self.chain = directory / "it's fullchain.pem", directory / "privkey.pem", directory / "gateway.pem"
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        environment.filters["quote"] = lambda value: shlex.quote(str(value))
        script = environment.from_string(TEMPLATE.read_text()).render(
            __postfix_certificate=self.certificate,
            __postfix_key=self.key,
            __gateway_site={"hostname": NAME, "tls_certificate": "" if self_signed else str(self.certificate)},
            __postfix_tls_chain=self.chain,
            __postfix_unit="postfix.service",
        )
        self.script = directory / "gateway-certificate"
        self.script.write_text(script.replace("/run/", f"{directory}/"))
        self.directory = directory
        self.command("systemctl", f'echo "$@" >>{directory}/told')

    def command(self, name, text):
        """A command that stands in for the host's."""
        (self.directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.directory / name).chmod(0o755)

    def run(self, certificate, key, *options):
        self.certificate.write_text(certificate)
        self.key.write_text(key)
        return self.call(*options)

    def call(self, *options):
        environment = {"PATH": f"{self.directory}:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(["sh", self.script, *options], check=False, capture_output=True, text=True, env=environment)
        assert not list(self.directory.glob("gateway-certificate.??????")), "a copy was left"
        return done

    def reloads(self):
        told = self.directory / "told"
        return told.read_text().count("reload postfix.service") if told.exists() else 0


@pytest.fixture(name="host")
def _host(tmp_path):
    return Host(tmp_path)


def shown(chain):
    """The names of the certificates that a server with this file shows; it has to begin with the key, and hold one."""
    text = chain.read_text()
    assert text.startswith("-----BEGIN PRIVATE KEY-----")
    assert text.count("PRIVATE KEY-----") == 2
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain)
    return text.count("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("kind, key", [("rsa", "rsa key"), ("elliptic", "elliptic key"), ("elliptic", "elliptic key with parameters")])
def test_a_good_pair_is_put_in_use_once(host, made, kind, key):
    done = host.run(made[kind] + made["authority"], made[key])
    assert done.returncode == 0, done.stderr
    assert shown(host.chain) == 2
    assert host.chain.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    assert host.run(made[kind] + made["authority"], made[key]).stdout == ""
    assert host.reloads() == 1


@pytest.mark.parametrize("key", ["rsa + rsa key", "rsa key + rsa"])
def test_key_and_certificate_may_stand_in_one_file(host, made, key):
    both = "".join(made[part] for part in key.split(" + "))
    done = host.run(both, both)
    assert done.returncode == 0, done.stderr
    assert shown(host.chain) == 1


def test_a_key_may_end_without_a_line_feed(host, made):
    done = host.run(made["rsa"], made["rsa key"].rstrip("\n"))
    assert done.returncode == 0, done.stderr
    assert shown(host.chain) == 1


def test_a_reload_that_failed_is_tried_again(host, made):
    working = (host.directory / "systemctl").read_text().splitlines()[1]
    host.command("systemctl", f"{working}; case $1 in reload) exit 1 ;; esac")
    assert host.run(made["rsa"], made["rsa key"]).returncode == 1
    host.command("systemctl", working)
    done = host.run(made["rsa"], made["rsa key"])
    assert (done.returncode, bool(done.stdout)) == (0, True)
    assert host.reloads() == 2
    assert host.run(made["rsa"], made["rsa key"]).stdout == ""


def test_a_certificate_of_tomorrow_waits(host, made):
    host.command("date", 'case $1 in +%s) echo 0 ;; *) PATH=/usr/bin:/bin exec date "$@" ;; esac')
    done = host.run(made["rsa"], made["rsa key"])
    assert done.returncode == 1
    assert "is not valid before" in done.stderr
    assert not host.chain.exists()


def test_check_changes_nothing_and_says_what_would_be_put_in_use(host, made):
    done = host.run(made["rsa"], made["rsa key"], "--check")
    assert (done.returncode, bool(done.stdout)) == (0, True)
    assert not host.chain.exists()
    assert host.reloads() == 0


BAD = {
    "another key": (["rsa"], ["authority key"], "does not belong to"),
    "another name": (["authority"], ["authority key"], f"is not for {NAME}"),
    "no key": (["rsa"], ["rsa"], "is no key that can be read"),
    "no certificate": (["rsa key"], ["rsa key"], "is no certificate"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_pair_leaves_the_one_before(host, made, bad):
    assert host.run(made["rsa"], made["rsa key"]).returncode == 0
    before = host.chain.read_text()
    certificate, key, words = BAD[bad]
    done = host.run("".join(made[part] for part in certificate), "".join(made[part] for part in key))
    assert done.returncode == 1
    assert words in done.stderr
    assert host.chain.read_text() == before
    assert host.reloads() == 1


def test_a_chain_that_is_written_half_leaves_the_one_before(host, made):
    assert host.run(made["rsa"], made["rsa key"]).returncode == 0
    done = host.run(made["rsa"] + made["authority"][: len(made["authority"]) // 2], made["rsa key"])
    assert done.returncode == 1
    assert "is not whole" in done.stderr
    assert shown(host.chain) == 1


# ---- a site without a certificate --------------------------------------------------------------------------------


@pytest.fixture(name="plain")
def _plain(tmp_path):
    """A host that has none, in a directory that is not there yet."""
    host = Host(tmp_path, self_signed=True)
    host.script.write_text(
        host.script.read_text().replace(shlex.quote(str(host.certificate)), f"{tmp_path}/made/it.crt").replace(str(host.key), f"{tmp_path}/made/it.key")
    )
    host.certificate, host.key = tmp_path / "made" / "it.crt", tmp_path / "made" / "it.key"
    return host


def test_a_certificate_is_made_once_and_put_in_use(plain):
    assert plain.call("--check").stdout == f"{plain.certificate}, self-signed\n"
    assert not plain.certificate.exists()
    done = plain.call()
    assert done.returncode == 0, done.stderr
    assert shown(plain.chain) == 1
    assert [path.stat().st_mode & 0o777 for path in (plain.key, plain.chain)] == [0o600, 0o600]
    assert (plain.call().stdout, plain.call("--check").stdout, plain.reloads()) == ("", "", 1)
    names = subprocess.run(["openssl", "x509", "-noout", "-in", plain.certificate, "-checkhost", NAME], check=True, capture_output=True, text=True).stdout
    assert "does match" in names


def test_a_certificate_that_was_made_half_is_made_anew(plain):
    plain.certificate.parent.mkdir()
    plain.key.write_text("half of a key")
    assert plain.call().returncode == 0
    assert shown(plain.chain) == 1


def test_a_certificate_that_is_named_is_never_made(host):
    host.key.write_text("")
    assert host.call().returncode == 1
    assert not host.certificate.exists()
