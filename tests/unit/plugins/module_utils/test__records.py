# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _records


class DNSException(Exception):
    pass


class NXDOMAIN(DNSException):
    pass


class NoAnswer(DNSException):
    pass


class NoNameservers(DNSException):
    pass


class Text:
    """A TXT record of several strings."""

    def __init__(self, *strings):
        self.strings = strings


class Record:
    def __init__(self, text):
        self.text = text

    def to_text(self):
        return self.text


@pytest.fixture
def dnspython(monkeypatch):
    """As much of it as is used; `answer` is what comes, or the exception; `asked` the questions."""
    fake = types.SimpleNamespace(answer=[], asked=[])

    def resolve(name, kind, lifetime):
        fake.asked.append((name, kind, lifetime))
        if isinstance(fake.answer, Exception):
            raise fake.answer
        return fake.answer

    resolver = types.SimpleNamespace(resolve=resolve, NXDOMAIN=NXDOMAIN, NoAnswer=NoAnswer, NoNameservers=NoNameservers)
    monkeypatch.setattr(_records, "dns", types.SimpleNamespace(resolver=resolver, exception=types.SimpleNamespace(DNSException=DNSException)))
    return fake


def test_the_strings_of_a_txt_record_are_one_text(dnspython):
    dnspython.answer = [Text(b"v=DKIM1; k=rsa; ", b"p=MIIB", b"IjAN"), Text(b"v=spf1 -all")]
    assert _records.lookup("mx1._domainkey.example.com", "TXT") == ["v=DKIM1; k=rsa; p=MIIBIjAN", "v=spf1 -all"]
    assert [question[:2] for question in dnspython.asked] == [("mx1._domainkey.example.com", "TXT")]


def test_a_text_that_is_no_utf_8_is_no_failure(dnspython):
    dnspython.answer = [Text(b"caf\xe9 ", "é".encode())]
    assert _records.lookup("example.com", "TXT") == ["caf\ufffd é"]


def test_other_records_are_sorted_text(dnspython):
    dnspython.answer = [Record("20 mx2.example.com."), Record("10 mx1.example.com.")]
    assert _records.lookup("example.com", "MX") == ["10 mx1.example.com.", "20 mx2.example.com."]


def test_a_question_has_its_time(dnspython):
    _records.lookup("example.com", "MX")
    assert 0 < dnspython.asked[0][2] <= 60


@pytest.mark.parametrize("nothing", [NXDOMAIN("no such name"), NoAnswer("no record of this type"), []])
@pytest.mark.parametrize("kind", ["TXT", "MX"])
def test_no_records_are_an_answer(dnspython, kind, nothing):
    dnspython.answer = nothing
    assert _records.lookup("example.com", kind) == []


@pytest.mark.parametrize("failure", [NoNameservers("all nameservers failed: SERVFAIL"), DNSException("the resolution lifetime expired")])
def test_no_answer_is_not_the_same_as_no_records(dnspython, failure):
    dnspython.answer = failure
    with pytest.raises(_records.Unknown, match=f"^example.com TXT: {failure}$"):
        _records.lookup("example.com", "TXT")


def test_the_package_that_is_missing_is_named(dnspython, monkeypatch):
    assert _records.missing_package() == ""
    monkeypatch.setattr(_records, "dns", None)
    assert _records.missing_package() == "python3-dnspython"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("v=DKIM1; k=rsa; p=MIIB", {"v": "DKIM1", "k": "rsa", "p": "MIIB"}),
        (" V = DKIM1 ;P=MII B\tIj AN== ; ", {"v": "DKIM1", "p": "MIIBIjAN=="}),
        ("v=DMARC1;p=none;rua=mailto:a@example.com, mailto:b@example.com", {"v": "DMARC1", "p": "none", "rua": "mailto:a@example.com,mailto:b@example.com"}),
        ("v=DKIM1; p=", {"v": "DKIM1", "p": ""}),
        ("no tags at all", {}),
        ("", {}),
        (";;", {}),
    ],
)
def test_tags_are_what_a_record_says(text, tags):
    assert _records.tags(text) == tags
