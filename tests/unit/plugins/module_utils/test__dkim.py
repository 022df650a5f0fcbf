# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys made and read by openssl as it is."""

from __future__ import annotations

import base64
import os
import stat
import subprocess

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _dkim

NAME = "mx1._domainkey.example.com"
IDS = (os.getuid(), os.getgid())


def run(command, data=None, check_rc=False):
    """As AnsibleModule.run_command."""
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=check_rc)
    return done.returncode, done.stdout, done.stderr


def openssl(*words):
    return subprocess.run(["openssl", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Private keys, and much else that an administrator may put in their place."""
    directory = tmp_path_factory.mktemp("keys")
    for algorithm in _dkim.ALGORITHMS:
        (directory / algorithm).write_text(_dkim.make(run, algorithm))
    rsa = str(directory / "rsa")
    (directory / "traditional").write_text(openssl("rsa", "-traditional", "-in", rsa))
    (directory / "encrypted").write_text(openssl("pkey", "-in", rsa, "-aes256", "-passout", "pass:secret"))
    (directory / "public").write_text(openssl("pkey", "-in", rsa, "-pubout"))
    (directory / "ec").write_text(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"))
    (directory / "ed25519 in PEM").write_text(openssl("genpkey", "-algorithm", "ED25519"))
    (directory / "half").write_text("".join((directory / "rsa").read_text().splitlines(keepends=True)[:9]))
    # The last number in a key follows from two of the primes.
    der = base64.b64decode("".join((directory / "traditional").read_text().splitlines()[1:-1]))
    damaged = base64.encodebytes(der[:-9] + bytes([der[-9] ^ 1]) + der[-8:]).decode()
    (directory / "damaged").write_text(f"-----BEGIN RSA PRIVATE KEY-----\n{damaged}-----END RSA PRIVATE KEY-----\n")
    (directory / "garbage").write_text("no key at all\n")
    (directory / "binary").write_bytes(bytes(range(256)))
    (directory / "empty").write_text("")
    (directory / "31 bytes").write_text(base64.b64encode(bytes(31)).decode())
    (directory / "33 bytes").write_text(base64.b64encode(bytes(33)).decode())
    (directory / "directory").mkdir()
    return directory


# ---- keys --------------------------------------------------------------------------------------------------------


def test_an_rsa_key_has_2048_bits_and_its_public_half_is_what_openssl_says(keys):
    der = base64.b64decode(_dkim.public(run, keys / "rsa", "rsa"))
    shown = subprocess.run(["openssl", "pkey", "-pubin", "-inform", "DER", "-noout", "-text"], input=der, check=True, capture_output=True).stdout.decode()
    assert shown.startswith("Public-Key: (2048 bit)")
    assert (keys / "rsa").read_text().startswith("-----BEGIN PRIVATE KEY-----\n")


def test_an_rsa_key_in_the_traditional_form_is_the_same_key(keys):
    assert (keys / "traditional").read_text().startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert _dkim.public(run, keys / "traditional", "rsa") == _dkim.public(run, keys / "rsa", "rsa")


@pytest.mark.parametrize("given", ["nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n"])
def test_an_ed25519_key_is_that_of_rfc_8463(tmp_path, given):
    (tmp_path / "key").write_text(given)
    assert _dkim.public(run, tmp_path / "key", "ed25519") == "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_an_ed25519_key_is_the_base64_of_its_32_bytes(keys):
    assert len(base64.b64decode((keys / "ed25519").read_text(), validate=False)) == 32
    assert len(base64.b64decode(_dkim.public(run, keys / "ed25519", "ed25519"))) == 32


@pytest.mark.parametrize("algorithm", _dkim.ALGORITHMS)
def test_no_two_keys_are_the_same(keys, algorithm):
    assert _dkim.make(run, algorithm) != (keys / algorithm).read_text()


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *(("rsa", name) for name in ("garbage", "binary", "half", "damaged", "encrypted", "public", "ec", "ed25519", "ed25519 in PEM", "directory", "gone")),
        *(("ed25519", name) for name in ("garbage", "binary", "empty", "31 bytes", "33 bytes", "rsa", "ec", "ed25519 in PEM", "directory", "gone")),
    ],
)
def test_a_file_that_holds_no_such_key_is_named(keys, algorithm, name):
    with pytest.raises(_dkim.Broken) as raised:
        _dkim.public(run, keys / name, algorithm)
    assert str(raised.value) == f"{keys / name} is no {algorithm} key that can be read; put it right, or move it away and a new one is made"


def test_an_empty_file_is_no_key_whatever_openssl_would_read_instead(keys):
    """Without input, run_command leaves it the standard input of the module."""
    with pytest.raises(_dkim.Broken):
        _dkim.public(lambda command, data: run(command, data or (keys / "rsa").read_text()), keys / "empty", "rsa")


def test_a_record_is_that_of_rfc_6376():
    assert _dkim.record("rsa", "MIIB") == "v=DKIM1; k=rsa; p=MIIB"
    assert _dkim.record("ed25519", "11qY") == "v=DKIM1; k=ed25519; p=11qY"


# ---- what is published -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "state", "reason"),
    [
        (["v=DKIM1; k=rsa; p=MIIB"], "yes", ""),
        (["p=MI IB"], "yes", ""),
        (["v=DKIM1; p=other", "v=DKIM1; p=MIIB"], "other", f"{NAME} holds more than one key"),
        (["v=DKIM1; p=other"], "other", f"{NAME} holds another key"),
        (["v=DKIM1; p="], "other", f"{NAME} holds another key"),
        (["v=spf1 -all"], "no", f"{NAME} is not published"),
        ([], "no", f"{NAME} is not published"),
        (None, "unknown", f"the DNS does not answer ({NAME} TXT: the resolution lifetime expired)"),
    ],
)
def test_a_key_is_published_where_its_record_says_so(zone, texts, state, reason):
    zone[NAME, "TXT"] = texts
    assert _dkim.published(NAME, "MIIB") == (state, reason)
    assert zone.asked == [(NAME, "TXT")]


# ---- which key signs ---------------------------------------------------------------------------------------------


def keyring(tmp_path, *domains, signing=None, keys=("old", "new")):
    """A directory with keys, of which one signs."""
    found = _dkim.Keyring(run, tmp_path / "keys", list(domains), "ed25519")
    found.directory.mkdir()
    for selector in keys:
        found.path(selector).write_text("a key\n")
    if signing:
        (found.directory / "signing").write_text("\n".join(signing) + "\n")
    return found


def test_a_new_key_signs_once_it_is_published(tmp_path):
    first = keyring(tmp_path, "a.example")
    assert first.next("new", []) == ("", [])
    assert first.next("new", ["a.example"]) == ("new", ["a.example"])


def test_a_key_that_signs_goes_on_until_the_next_one_is_published(tmp_path):
    second = keyring(tmp_path, "a.example", signing=["old", "a.example"])
    assert second.next("new", []) == ("old", ["a.example"])
    assert second.next("new", ["a.example"]) == ("new", ["a.example"])


def test_a_key_that_signs_does_so_whatever_the_dns_says(tmp_path):
    assert keyring(tmp_path, "a.example", signing=["new", "a.example"]).next("new", []) == ("new", ["a.example"])


def test_a_shared_key_takes_over_only_for_all_that_the_one_before_signs_for(tmp_path):
    shared = keyring(tmp_path, "a.example", "b.example", "c.example", signing=["old", "a.example", "b.example"])
    assert shared.next("new", ["a.example"]) == ("old", ["a.example", "b.example"])
    assert shared.next("new", ["a.example", "c.example"]) == ("old", ["a.example", "b.example"])
    assert shared.next("new", ["b.example", "a.example"]) == ("new", ["a.example", "b.example"])
    assert shared.next("new", ["c.example", "b.example", "a.example"]) == ("new", ["a.example", "b.example", "c.example"])


def test_a_shared_key_begins_with_the_domains_that_have_published_it(tmp_path):
    shared = keyring(tmp_path, "a.example", "b.example")
    assert shared.next("new", ["b.example"]) == ("new", ["b.example"])


def test_a_shared_key_signs_for_a_further_domain_once_it_is_published_there(tmp_path):
    shared = keyring(tmp_path, "a.example", "b.example", signing=["new", "b.example"])
    assert shared.next("new", []) == ("new", ["b.example"])
    assert shared.next("new", ["a.example"]) == ("new", ["a.example", "b.example"])


def test_a_domain_that_is_gone_holds_no_key_back(tmp_path):
    shared = keyring(tmp_path, "a.example", signing=["old", "a.example", "gone.example"])
    assert shared.signing() == ("old", ["a.example"])
    assert shared.next("new", ["a.example"]) == ("new", ["a.example"])


@pytest.mark.parametrize(
    "signing",
    [None, [""], ["old"], ["gone", "a.example"], ["old", "other.example"], ["\xff", "a.example"]],
    ids=["no file", "empty", "no domain", "the key is gone", "another domain", "not ASCII"],
)
def test_what_names_no_key_that_is_there_is_as_if_none_signed(tmp_path, signing):
    assert keyring(tmp_path, "a.example", signing=signing).signing() == ("", [])


def test_what_is_written_is_what_is_read(tmp_path):
    shared = keyring(tmp_path, "a.example", "b.example", "c.example")
    shared.sign_with("new", ["a.example", "c.example"], IDS)
    assert shared.signing() == ("new", ["a.example", "c.example"])
    assert (shared.directory / "signing").read_text() == "new\na.example\nc.example\n"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_keys_are_for_their_group_alone(tmp_path, umask):
    mine = _dkim.Keyring(run, tmp_path / "dkim" / "a.example", ["a.example"], "ed25519")
    before = os.umask(umask)
    try:
        mine.add("new", IDS)
        mine.sign_with("new", ["a.example"], IDS)
    finally:
        os.umask(before)
    paths = [mine.directory.parent, mine.directory, mine.path("new"), mine.directory / "signing"]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths] == ["0o750", "0o750", "0o640", "0o640"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {IDS}
    assert sorted(path.name for path in mine.directory.iterdir()) == ["new.pem", "signing"]


def test_a_key_that_is_made_again_under_its_selector_waits_for_its_record(tmp_path):
    mine = keyring(tmp_path, "a.example", signing=["new", "a.example"], keys=())
    assert mine.public("new") == ""
    mine.add("new", IDS)
    assert mine.public("new") == _dkim.public(run, mine.path("new"), "ed25519")
    assert mine.next("new", []) == ("", [])


def test_a_key_that_is_made_leaves_the_one_in_use_alone(tmp_path):
    mine = keyring(tmp_path, "a.example", signing=["old", "a.example"], keys=("old",))
    mine.add("new", IDS)
    assert mine.next("new", []) == ("old", ["a.example"])


def test_a_directory_that_is_there_keeps_its_permissions(tmp_path):
    tmp_path.chmod(0o711)
    _dkim.Keyring(run, tmp_path / "keys", ["a.example"], "ed25519").add("new", IDS)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711
