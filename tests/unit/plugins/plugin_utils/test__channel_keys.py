# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml
from _checkout import CHECKOUT
from ansible_collections.antispam.gateway.plugins.plugin_utils import _channel_keys

INVENTORY = yaml.safe_load((CHECKOUT / "molecule" / "shared" / "inventory" / "hosts.yml").read_text(encoding="utf-8"))
KEY = INVENTORY["gateways"]["vars"]["spamassassin_channels"][0]["key"]
FINGERPRINT = "DF5B9C0E2DB44F9D7B1C34D591FDF8B637D35FD9"
LINES = KEY.splitlines(keepends=True)


def problems(*entries):
    return _channel_keys.check({"spamassassin_channels": [{"name": "rules.example.org", "key": KEY, "key_id": None, **entry} for entry in entries]})


def test_the_fingerprint_is_the_one_that_gpg_says():
    assert _channel_keys.fingerprint(KEY) == FINGERPRINT


@pytest.mark.parametrize("more", [{}, {"key": KEY.replace("\n", "\r\n")}, {"key": f"my key:\n{KEY}\nend\n"}, {"key": "".join(LINES[:-2] + LINES[-1:])}])
def test_a_channel_with_its_key(more):
    assert problems(more) == []


@pytest.mark.parametrize("key_id", [FINGERPRINT, FINGERPRINT.lower(), FINGERPRINT[-16:], "0x" + FINGERPRINT[-8:], FINGERPRINT[:20] + "  " + FINGERPRINT[20:]])
def test_the_key_that_is_meant(key_id):
    assert problems({"key_id": key_id}) == []


@pytest.mark.parametrize("key_id", ["24C063D8", FINGERPRINT[-4:], "not hexadecimal"])
def test_another_key_than_the_one_that_is_meant(key_id):
    (found,) = problems({"key_id": key_id})
    assert found.startswith(f"spamassassin_channels[0].key_id: the key has the fingerprint {FINGERPRINT}; ")


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (None, "rules.example.org has no key, so nobody could tell"),
        ("", "rules.example.org has no key, so nobody could tell"),
        ("0x24C063D8", "this is no public key in ASCII armor"),
        ("/etc/keys/channel.asc", "this is no public key in ASCII armor"),
        (KEY.replace("PUBLIC", "PRIVATE"), "this is a private key"),
        ("".join(LINES[:3] + LINES[4:]), "the key is damaged"),
        ("".join(LINES[:2] + LINES[-1:]), "this is no public key in ASCII armor"),
        (LINES[0] + "\nAAAA\n" + LINES[-1], "the key is damaged"),
    ],
)
def test_what_is_no_key(key, problem):
    (found,) = problems({"key": key})
    assert found.startswith(f"spamassassin_channels[0].key: {problem}")


def test_a_key_of_another_version():
    (found,) = problems({"key": LINES[0] + "\nxgIGAA==\n" + LINES[-1]})
    assert found.startswith("spamassassin_channels[0].key: it is a key of version 6")


def test_a_name_that_cannot_be_one():
    assert problems({"name": "rules"})[0].startswith("spamassassin_channels[0].name: ")
    assert problems({"name": "updates.spamassassin.org"})[0].startswith("spamassassin_channels[0].name: updates.spamassassin.org is updated without")
    assert problems({}, {})[0].startswith("spamassassin_channels[1].name: rules.example.org has the same files as rules.example.org")


def test_what_the_gateway_gets():
    entry = {"name": "Rules.Example.ORG", "key": f"\n{KEY}", "key_id": None}
    (found,) = _channel_keys.channels({"spamassassin_channels": [entry]})
    assert found == {"name": "rules.example.org", "files": "rules_example_org", "key": KEY}
