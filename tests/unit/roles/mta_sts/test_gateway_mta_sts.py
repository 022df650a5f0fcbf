# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that puts DANE before MTA-STS, with a resolver that says what a test wants."""

from __future__ import annotations

import asyncio
import sys
import types

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.resolver
import dns.rrset
import pytest
from _checkout import ROLES

TEMPLATE = ROLES / "mta_sts" / "templates" / "usr" / "local" / "sbin" / "gateway-mta-sts.j2"
RIGHT = "3 1 1 " + "ab" * 32
POLICY = b"OK secure match=mx.example.org"


def encode(data):
    return b"%d:%s," % (len(data), data)


@pytest.fixture(name="program")
def _program(monkeypatch):
    package, netstring, responder = (types.ModuleType(f"postfix_mta_sts_resolver{name}") for name in ("", ".netstring", ".responder"))
    netstring.encode = encode
    responder.STSSocketmapResponder = type("STSSocketmapResponder", (), {})
    package.daemon, package.netstring = types.ModuleType("daemon"), netstring
    for module in (package, netstring, responder):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    loaded = types.ModuleType("gateway_mta_sts")
    exec(compile(TEMPLATE.read_text(encoding="utf-8").partition("#}")[2], str(TEMPLATE), "exec"), loaded.__dict__)
    return loaded


class Resolver:
    """records: {"MX example.org": [text, ...]}; a name in `insecure` is not validated, one in `lost` is not answered. aliases: {name: target}."""

    def __init__(self, records, insecure=(), lost=(), aliases=None):
        self.records, self.insecure, self.lost, self.aliases = records, insecure, lost, aliases or {}
        self.asked = []

    async def resolve(self, name, kind, raise_on_no_answer, search):
        assert (raise_on_no_answer, search) == (False, False)
        key = f"{kind} {name.rstrip('.')}"
        self.asked.append(key)
        if key in self.lost:
            raise dns.resolver.NoNameservers()
        texts = self.records.get(key)
        if texts is None:
            raise dns.resolver.NXDOMAIN()
        response = dns.message.make_response(dns.message.make_query(name, kind))
        if key not in self.insecure:
            response.flags |= dns.flags.AD
        rrset = dns.rrset.from_text_list(name, 60, "IN", kind, texts) if texts else None
        return types.SimpleNamespace(response=response, rrset=rrset, canonical_name=dns.name.from_text(self.aliases.get(name.rstrip("."), name)))


def world(**changed):
    """A domain with one server, for which DANE works."""
    records = {"MX example.org": ["10 mx.example.org."], "A mx.example.org": ["192.0.2.1"], "AAAA mx.example.org": [], "TLSA _25._tcp.mx.example.org": [RIGHT]}
    return records | changed


def ask(program, resolver, destination="example.org"):
    return asyncio.run(program.has_dane(resolver, destination))


def test_a_server_with_a_tlsa_record_has_dane(program):
    assert ask(program, Resolver(world())) is True


@pytest.mark.parametrize("name", ["MX example.org", "A mx.example.org", "TLSA _25._tcp.mx.example.org"])
def test_what_nobody_has_signed_is_no_dane(program, name):
    assert ask(program, Resolver(world(), insecure=[name])) is False


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("2 0 2 " + "ab" * 64, True),
        ("3 0 0 " + "ab" * 10, True),
        ("1 1 1 " + "ab" * 32, False),
        ("0 1 1 " + "ab" * 32, False),
        ("3 1 9 " + "ab" * 32, False),
        ("3 9 1 " + "ab" * 32, False),
    ],
)
def test_records_that_postfix_cannot_use_are_no_dane(program, record, expected):
    assert ask(program, Resolver(world(**{"TLSA _25._tcp.mx.example.org": [record]}))) is expected


def test_a_digest_of_another_length_is_no_dane(program):
    assert program.usable(types.SimpleNamespace(usage=3, selector=1, mtype=1, cert=bytes(32))) is True
    assert program.usable(types.SimpleNamespace(usage=3, selector=1, mtype=1, cert=bytes(31))) is False


def test_one_of_several_servers_is_enough(program):
    records = world(**{"MX example.org": ["10 mx.example.org.", "20 other.example.org."], "A other.example.org": ["192.0.2.2"]})
    assert ask(program, Resolver(records)) is True


def test_a_server_that_is_an_alias_has_records_at_either_name(program):
    records = world(**{"TLSA _25._tcp.real.example.net": [RIGHT]})
    del records["TLSA _25._tcp.mx.example.org"]
    assert ask(program, Resolver(records, aliases={"mx.example.org": "real.example.net"})) is True
    assert ask(program, Resolver(world(), aliases={"mx.example.org": "real.example.net"})) is True


def test_a_domain_without_mx_is_its_own_server(program):
    records = {"MX example.org": [], "A example.org": ["192.0.2.1"], "TLSA _25._tcp.example.org": [RIGHT]}
    assert ask(program, Resolver(records)) is True


def test_a_domain_that_takes_no_mail_has_no_dane(program):
    assert ask(program, Resolver({"MX example.org": ["0 ."]})) is False


def test_brackets_and_port_are_those_of_postfix(program):
    resolver = Resolver({"A mx.example.org": ["192.0.2.1"], "TLSA _587._tcp.mx.example.org": [RIGHT]})
    assert ask(program, resolver, "[mx.example.org]:587") is True
    assert "MX mx.example.org" not in resolver.asked


def test_tlsa_records_that_cannot_be_had_count(program):
    """Postfix does not use such a server. A policy in their place would let an attacker choose."""
    assert ask(program, Resolver(world(), lost=["TLSA _25._tcp.mx.example.org"])) is True


def test_a_server_whose_address_cannot_be_had_is_none(program):
    assert ask(program, Resolver(world(), lost=["A mx.example.org"])) is False


# ---- the answer to Postfix -----------------------------------------------------------------------------------------


def answer(program, monkeypatch, resolver, original=POLICY):
    async def process_request(self, request):
        return encode(original)

    monkeypatch.setattr(program, "make_resolver", lambda: resolver)
    return asyncio.run(program.put_dane_first(process_request)(None, b"postfix example.org"))


def test_dane_takes_the_place_of_a_policy(program, monkeypatch):
    assert answer(program, monkeypatch, Resolver(world())) == encode(b"OK dane-only")


def test_without_dane_the_policy_counts(program, monkeypatch):
    assert answer(program, monkeypatch, Resolver({"MX example.org": ["10 mx.example.org."]})) == encode(POLICY)


def test_mail_waits_while_nobody_knows(program, monkeypatch):
    assert answer(program, monkeypatch, Resolver(world(), lost=["MX example.org"])).partition(b":")[2].startswith(b"TEMP ")


def test_without_a_policy_nobody_is_asked(program, monkeypatch):
    resolver = Resolver(world())
    assert answer(program, monkeypatch, resolver, b"NOTFOUND ") == encode(b"NOTFOUND ")
    assert resolver.asked == []


def test_a_real_resolver_asks_for_validated_answers(program):
    resolver = program.make_resolver()
    assert resolver.flags & dns.flags.AD and resolver.ednsflags & dns.flags.DO
