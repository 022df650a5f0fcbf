# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _signatures

OWN = {"name": "own", "server_url": "https://s.example.org/sigs", "files": ["a.ndb"]}
NOTHING = {"customer_id": None, "receipt": None, "product": None, "server_url": None, "checksum": None, "interval": None, "max_size": None}
SECRET = "not to be seen"


def problems(*entries):
    lists = {"files": [], "add": [], "leave_out": []}
    return _signatures.check({"clamav_unofficial_signatures": [{**NOTHING, **lists, **entry} for entry in entries]})


def test_what_a_site_may_write():
    assert not problems(
        {**OWN, "checksum": "sha512", "interval": "30m", "max_size": "20MB"},
        {"name": "securiteinfo", "customer_id": "0123abcd", "leave_out": ["android"]},
        {"name": "malwarepatrol", "receipt": "f123", "product": "8"},
        {"name": "sanesecurity", "server_url": "http://mirror.example.org/sanesecurity/", "add": ["foxhole_all_cdb"]},
        {"name": "urlhaus"},
    )


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "securiteinfo"}, "customer_id: securiteinfo gives signatures to those who have one"),
        ({"name": "malwarepatrol"}, "receipt: malwarepatrol gives signatures to those who have one"),
        ({"name": "urlhaus", "customer_id": "1234"}, "customer_id: urlhaus takes none"),
        ({"name": "urlhaus", "product": "1"}, "product: urlhaus takes none"),
        ({"name": "urlhaus", "server_url": "http://a.example.org/"}, "server_url: the files of urlhaus come from nowhere else"),
        ({"name": "urlhaus", "files": ["a.ndb"]}, "files: fangfrisch knows it for urlhaus"),
        ({"name": "urlhaus", "checksum": "none"}, "checksum: fangfrisch knows it for urlhaus"),
        ({"name": "interserver", "add": ["Shell.hdb"]}, "add: 'Shell.hdb' is no name that fangfrisch has for a file"),
        ({"name": "interserver", "leave_out": ["x = 1"]}, "leave_out: 'x = 1' is no name"),
        ({"name": "own", "files": ["a.ndb"]}, "server_url: fangfrisch does not know own"),
        ({"name": "own", "server_url": "http://a.example.org/"}, "files: fangfrisch does not know own"),
        ({**OWN, "add": ["x"]}, "add: only providers that fangfrisch knows have it"),
        ({**OWN, "customer_id": "x"}, "customer_id: only providers that fangfrisch knows have it"),
        ({**OWN, "files": ["a.ndb", "a.ndb"]}, "files: a file is there twice"),
        *[({**OWN, "files": [name]}, f"files: '{name}' is no name of a file of signatures") for name in ("../a.ndb", "a.cvd", "a", ".ndb", "a.ndb\n")],
        ({**OWN, "server_url": f"ftp://{SECRET}/"}, "server_url: this is not the URL of a directory"),
        ({**OWN, "server_url": f"http://a.example.org/?key={SECRET}"}, "server_url: this is not the URL of a directory"),
        ({"name": "securiteinfo", "customer_id": f"{SECRET}\n"}, "customer_id: it has characters that no such number has"),
        ({**OWN, "interval": "daily"}, "interval: it is no time"),
        ({**OWN, "max_size": "1GB"}, "max_size: it is no size"),
    ],
)
def test_a_mistake_is_one_sentence_and_shows_no_secret(entry, problem):
    (found,) = problems(entry)
    assert found.startswith(f"clamav_unofficial_signatures[0].{problem}")
    assert SECRET not in found


@pytest.mark.parametrize("name", ["Own", "own provider", "default", "fangfrischnews", "own]", "", "1own", "own-er"])
def test_a_name_that_cannot_be_one(name):
    assert problems({**OWN, "name": name})[0].startswith(f"clamav_unofficial_signatures[0].name: '{name}' is no name of a provider")


def test_a_name_that_is_there_twice():
    assert problems(OWN, OWN) == ["clamav_unofficial_signatures[1].name: own is there already; keep one of them"]
