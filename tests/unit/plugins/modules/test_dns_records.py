# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with a DNS, an SPF library and a web that hold what they are told, and a certificate as it is."""

from __future__ import annotations

import hashlib
import io
import subprocess
import types

import pytest
import yaml
from ansible_collections.antispam.gateway.plugins.module_utils import _records
from ansible_collections.antispam.gateway.plugins.modules import dns_records

NAME, DOMAIN = "mx1.example.com", "example.com"
POLICY_URL = "https://mta-sts.example.com/.well-known/mta-sts.txt"
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmax_age: 604800\r\n"
KEY = {
    "domain": DOMAIN,
    "selector": "mx1",
    "name": "mx1._domainkey.example.com",
    "record": "v=DKIM1; k=rsa; p=" + "MIIB" * 98,
    "published": "yes",
    "signing": "mx1",
    "path": "/etc/amavis/dkim/example.com/mx1.pem",
}
MX, SPF, DKIM, DMARC, MTA_STS, TLS_RPT, TLSA = (
    (DOMAIN, "MX"),
    (DOMAIN, "TXT"),
    (KEY["name"], "TXT"),
    ("_dmarc.example.com", "TXT"),
    ("_mta-sts.example.com", "TXT"),
    ("_smtp._tls.example.com", "TXT"),
    ("_25._tcp.mx1.example.com", "TLSA"),
)


class World:
    """What the module asks for; a test makes it another one."""

    def __init__(self, zone, key):
        self.zone = zone
        # What SPF says of an address, and of which address, sender and name it was asked.
        self.spf, self.spf_asked = {}, []
        # Policies, or exceptions, by address; and how long was waited for them.
        self.web, self.timeouts = {POLICY_URL: POLICY}, []
        zone.update(
            {
                MX: ["10 mx1.example.com."],
                SPF: ["v=spf1 mx -all", "some-verification=1"],
                DKIM: [KEY["record"]],
                DMARC: ["v=DMARC1; p=reject"],
                MTA_STS: ["v=STSv1; id=1"],
                TLS_RPT: ["v=TLSRPTv1; rua=mailto:tls@example.com"],
                TLSA: [f"3 1 1 {key}"],
                (NAME, "A"): ["192.0.2.25"],
                (NAME, "AAAA"): ["2001:db8::25"],
            }
        )

    def check2(self, i, s, h):
        self.spf_asked.append((i, s, h))
        return self.spf.get(i, "pass"), "an explanation"

    def open_url(self, url, timeout, follow_redirects):
        assert follow_redirects == "none"  # RFC 8461 section 3.3
        self.timeouts.append(timeout)
        found = self.web[url]
        if isinstance(found, Exception):
            raise found
        return io.BytesIO(found.encode("utf-8") if isinstance(found, str) else found)


@pytest.fixture(scope="session")
def key(gateway_certificate):
    """SHA-256 of the public key, by another way than the module's."""
    public = subprocess.run(["openssl", "pkey", "-in", gateway_certificate, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    return hashlib.sha256(public).hexdigest()


@pytest.fixture
def world(zone, monkeypatch, key):
    example = World(zone, key)
    monkeypatch.setattr(dns_records, "pyspf", types.SimpleNamespace(check2=example.check2))
    monkeypatch.setattr(dns_records, "open_url", example.open_url)
    return example


@pytest.fixture
def run(world, call_main, gateway_certificate):
    def run_module(check_mode=False, **arguments):
        wanted = {
            "hostname": NAME,
            "gateways": [NAME],
            "domains": [DOMAIN],
            "keys": [KEY],
            "certificate": str(gateway_certificate),
            "reports_to": "postmaster@example.com",
        }
        result = call_main(dns_records, **{**wanted, **arguments}, _ansible_check_mode=check_mode)
        assert not result.get("changed", False)
        return result

    return run_module


@pytest.fixture
def record(run):
    def find(which, **arguments):
        (found,) = [entry for entry in run(**arguments)["records"] if (entry["name"], entry["type"]) == which]
        return found

    return find


def states(result):
    return {(entry["name"], entry["type"]): entry["state"] for entry in result["records"]}


# ---- the whole ---------------------------------------------------------------------------------------------------

ALL = (MX, SPF, DKIM, DMARC, MTA_STS, TLS_RPT, TLSA)


@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "real"])
def test_a_site_that_publishes_everything_is_right(run, check_mode):
    result = run(check_mode=check_mode)
    assert states(result) == dict.fromkeys(ALL, "ok")
    assert result["wrong"] == []


def test_what_is_not_published_is_missing_and_not_wrong(run, world):
    world.zone.clear()
    result = run()
    assert states(result) == dict.fromkeys(ALL, "missing")
    assert result["wrong"] == []
    assert {tuple(entry["published"]) for entry in result["records"]} == {()}


def test_what_cannot_be_looked_up_is_unknown_and_not_wrong(run, world):
    world.zone.update(dict.fromkeys(ALL))
    result = run()
    assert states(result) == dict.fromkeys(ALL, "unknown")
    assert result["wrong"] == []
    for entry in result["records"]:
        assert entry["note"].startswith(f"{entry['name']} {entry['type']}: the resolution lifetime expired")


def test_what_is_wrong_is_named(run, world):
    world.zone.update({MX: ["10 mail.example.org."], DMARC: ["v=DMARC1"], SPF: None})
    del world.zone[TLS_RPT]
    result = run()
    assert result["wrong"] == ["example.com MX", "_dmarc.example.com TXT"]
    assert states(result) == {**dict.fromkeys(ALL, "ok"), MX: "differs", DMARC: "differs", SPF: "unknown", TLS_RPT: "missing"}


def test_each_domain_has_its_records_and_the_gateway_one(run, world):
    world.web["https://mta-sts.example.net/.well-known/mta-sts.txt"] = OSError("no such host")
    found = list(states(run(domains=[DOMAIN, "example.net"], keys=[KEY, {**KEY, "domain": "example.net", "name": "mx1._domainkey.example.net"}])))
    others = [(name.replace("example.com", "example.net"), kind) for name, kind in ALL if kind != "TLSA"]
    assert sorted(found) == sorted([*ALL, *others])


def test_a_domain_without_a_key_has_no_dkim_record(run):
    assert set(states(run(keys=[]))) == set(ALL) - {DKIM}
    assert set(states(run(keys=[{**KEY, "record": None}]))) == set(ALL) - {DKIM}


def test_the_table_is_to_be_read_and_copied(run, world):
    world.zone[MX] = ["10 mail.example.org."]
    world.zone[TLS_RPT] = []
    table = run()["table"]
    assert table[:3] == [
        "differs  example.com. MX 10 mx1.example.com.",
        "           published: 10 mail.example.org.",
        "           mx1.example.com is not among them, so it gets no mail",
    ]
    assert 'ok       example.com. TXT "v=spf1 mx -all"' in table
    assert 'missing  _smtp._tls.example.com. TXT "v=TLSRPTv1; rua=mailto:postmaster@example.com"' in table
    assert not [line for line in table if "tls@example.com" in line or "v=DMARC1; p=reject" in line]


def test_what_is_documented_is_what_is_returned(run):
    documented = yaml.safe_load(dns_records.RETURN)
    result = run()
    assert set(documented) == set(result) - {"changed", "invocation"}
    assert {frozenset(entry) for entry in result["records"]} == {frozenset(documented["records"]["contains"])}


@pytest.mark.parametrize("missing", ["dnspython", "spf"])
def test_a_host_without_the_libraries_is_told_which(run, monkeypatch, missing):
    if missing == "spf":
        monkeypatch.setattr(dns_records, "pyspf", None)
    else:
        monkeypatch.setattr(_records, "missing_package", lambda: _records.PACKAGE)
        monkeypatch.setattr(_records, "lookup", None)
    assert run()["msg"] == "install the packages python3-dnspython and python3-spf; antispam.gateway.site does that"


# ---- MX ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "note"),
    [
        (["10 mx1.example.com."], ""),
        (["20 MX1.Example.COM.", "10 mx2.example.com."], ""),
        (["10 mx2.example.com."], "mx1.example.com is not among them, so it gets no mail"),
        (["0 ."], "mx1.example.com is not among them, so it gets no mail"),
        (["10 mx1.example.com.", "20 b.example.org.", "20 a.example.org."], "mail that goes to a.example.org., b.example.org. is not scanned here"),
    ],
)
def test_mail_goes_to_the_gateways_and_nowhere_else(record, world, published, note):
    world.zone[MX] = published
    found = record(MX, gateways=[NAME, "Mx2.example.com"])
    assert (found["state"], found["note"], found["published"]) == ("differs" if note else "ok", note, published)
    assert found["wanted"] == "10 mx1.example.com."


# ---- SPF ---------------------------------------------------------------------------------------------------------


def test_spf_is_evaluated_for_every_address_of_the_gateway(record, world):
    found = record(SPF)
    assert (found["state"], found["note"], found["wanted"]) == ("ok", "", '"v=spf1 mx -all"')
    assert found["published"] == ["v=spf1 mx -all"]
    assert world.spf_asked == [("192.0.2.25", "postmaster@example.com", NAME), ("2001:db8::25", "postmaster@example.com", NAME)]


@pytest.mark.parametrize("result", ["fail", "softfail", "neutral", "permerror"])
@pytest.mark.parametrize("address", ["192.0.2.25", "2001:db8::25"])
def test_an_address_that_does_not_pass_is_named(record, world, address, result):
    world.spf[address] = result
    found = record(SPF)
    assert (found["state"], found["note"]) == ("differs", f"mail of this gateway from {address} gets {result} by it")


def test_spf_is_unknown_where_its_evaluation_gets_no_answer(run, record, world):
    world.spf["192.0.2.25"] = "temperror"
    found = record(SPF)
    assert (found["state"], found["published"]) == ("unknown", ["v=spf1 mx -all"])
    assert "192.0.2.25" in found["note"]
    assert run()["wrong"] == []


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_spf_is_unknown_where_the_gateway_cannot_be_looked_up(record, world, kind):
    world.zone[NAME, kind] = None
    found = record(SPF)
    assert (found["state"], found["note"]) == ("unknown", f"{NAME} {kind}: the resolution lifetime expired")


@pytest.mark.parametrize("text", ["v=spf1 mx +all", "V=SPF1 ALL", "v=spf1 +all exp=explain.example.com"])
def test_spf_that_lets_everybody_in_is_wrong(record, world, text):
    world.zone[SPF] = [text]
    found = record(SPF)
    assert (found["state"], found["note"]) == ("differs", "it lets the whole world send in the name of the domain")


def test_spf_is_one_record(record, world):
    world.zone[SPF] = ["v=spf1 mx -all", "v=spf1 a -all"]
    assert record(SPF)["note"].startswith("there must be one record with v=spf1")


@pytest.mark.parametrize("texts", [["v=spf10 mx -all"], ["verification=v=spf1"], ["v=spf2.0/pra mx"]])
def test_other_texts_are_not_spf(record, world, texts):
    world.zone[SPF] = texts
    found = record(SPF)
    assert (found["state"], found["published"]) == ("missing", [])


def test_with_a_smarthost_its_operator_says_what_spf_is(record, world):
    world.spf["192.0.2.25"] = "fail"
    found = record(SPF, smarthost=True)
    assert (found["state"], found["note"]) == ("ok", "the smarthost hands the mail over: publish what its operator asks for")
    assert "include:" in found["wanted"]
    assert world.spf_asked == []
    world.zone[SPF] = ["v=spf1 +all"]
    assert record(SPF, smarthost=True)["note"].startswith("it lets the whole world send")


# ---- DKIM --------------------------------------------------------------------------------------------------------


def test_a_long_record_is_strings_of_255_octets(record):
    wanted = record(DKIM)["wanted"]
    strings = [text.strip('"') for text in wanted.split('" "')]
    assert [len(text) for text in strings] == [255, len(KEY["record"]) - 255]
    assert "".join(strings) == KEY["record"]


@pytest.mark.parametrize(
    ("published", "state"),
    [
        ([KEY["record"]], "ok"),
        (["p=" + KEY["record"].partition("p=")[2]], "ok"),
        ([KEY["record"].replace("MIIBMIIB", "MIIB MIIB", 1)], "ok"),
        (["v=DKIM1; p=other", KEY["record"]], "ok"),
        (["v=DKIM1; p=other"], "differs"),
        (["v=DKIM1; p="], "differs"),
        (["v=spf1 -all"], "missing"),
    ],
)
def test_the_key_of_the_gateway_is_looked_for(record, world, published, state):
    world.zone[DKIM] = published
    found = record(DKIM)
    assert (found["state"], "another key" in found["note"]) == (state, state == "differs")


@pytest.mark.parametrize("signing", ["", "mx0"])
def test_a_key_that_is_published_and_does_not_sign_yet_will_do_so(record, world, signing):
    key = {**KEY, "signing": signing, "path": ""}
    assert record(DKIM, keys=[key])["note"] == "the next run of antispam.gateway.site signs with it"
    assert record(DKIM)["note"] == ""
    world.zone[DKIM] = []
    assert record(DKIM, keys=[key])["note"] == ""


# ---- DMARC -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "state"),
    [
        (["v=DMARC1; p=none; rua=mailto:postmaster@example.com"], "ok"),
        (["v=DMARC1;p=quarantine"], "ok"),
        (["v = DMARC1 ; p = reject"], "ok"),
        (["v=DMARC1; p=rejected"], "differs"),
        (["v=DMARC1; rua=mailto:postmaster@example.com"], "differs"),
        (["v=DMARC1; p=none", "v=DMARC1; p=none"], "differs"),
        (["v=DMARC1; p=none", "v=spf1 -all"], "ok"),
        (["v=spf1 -all"], "missing"),
    ],
)
def test_a_dmarc_record_has_a_policy(record, world, published, state):
    world.zone[DMARC] = published
    found = record(DMARC)
    assert found["state"] == state
    assert bool(found["note"]) == (state == "differs")
    assert found["wanted"] == '"v=DMARC1; p=none; rua=mailto:postmaster@example.com"'


# ---- MTA-STS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        (POLICY, "ok"),
        ("version: STSv1\nmode: testing\nmx: *.example.com\nmax_age: 1\n", "ok"),
        ("version:STSv1\nmx:mail.example.org\nmx:  MX1.example.com  \n", "ok"),
        ("version: STSv1\nmx: mail.example.org\n", "differs"),
        ("version: STSv1\nmx: *.com\n", "differs"),
        ("version: STSv1\nmx: *.mx1.example.com\n", "differs"),
        ("", "differs"),
        (b"\xff\xfe", "differs"),
    ],
)
def test_the_policy_names_the_gateway(record, world, policy, state):
    world.web[POLICY_URL] = policy
    found = record(MTA_STS)
    assert found["state"] == state
    assert found["note"].startswith("goes with " if state == "ok" else f"{POLICY_URL} does not name mx1.example.com, so senders")


def test_a_policy_that_cannot_be_had_is_wrong(record, world):
    world.web[POLICY_URL] = OSError("certificate verify failed")
    found = record(MTA_STS)
    assert (found["state"], found["note"]) == ("differs", f"{POLICY_URL} cannot be had: certificate verify failed")


def test_nobody_asks_for_a_policy_that_no_record_announces(record, world):
    world.zone[MTA_STS] = ["v=spf1 -all"]
    world.web.clear()
    found = record(MTA_STS, gateways=[NAME, "mx2.example.com"])
    assert (found["state"], world.timeouts) == ("missing", [])
    policy = "version: STSv1 / mode: enforce / mx: mx1.example.com / mx: mx2.example.com / max_age: 604800"
    assert found["note"] == f"goes with {POLICY_URL}: {policy}"


def test_a_policy_is_not_waited_for_for_ever(record, world):
    record(MTA_STS)
    assert len(world.timeouts) == 1
    assert 0 < world.timeouts[0] <= 60


def test_another_policy_has_another_id(record):
    one, two = record(MTA_STS)["wanted"], record(MTA_STS, gateways=[NAME, "mx2.example.com"])["wanted"]
    assert one == record(MTA_STS)["wanted"] != two
    for wanted in (one, two):
        tags = _records.tags(wanted.strip('"'))
        assert tags["v"] == "STSv1"
        assert tags["id"].isalnum() and len(tags["id"]) <= 32


# ---- TLS reports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "state"),
    [
        (["v=TLSRPTv1; rua=https://reports.example.org"], "ok"),
        (["v=TLSRPTv1;"], "differs"),
        (["v=TLSRPTv1; rua="], "differs"),
        (["v=spf1 -all"], "missing"),
    ],
)
def test_reports_have_an_address(record, world, published, state):
    world.zone[TLS_RPT] = published
    found = record(TLS_RPT)
    assert (found["state"], found["note"]) == (state, "it names no address (rua=)" if state == "differs" else "")


# ---- TLSA --------------------------------------------------------------------------------------------------------

OTHER = "0" * 64


@pytest.mark.parametrize(
    ("published", "state"),
    [
        (["3 1 1 {key}"], "ok"),
        ([f"3 1 1 {OTHER}", "3 1 1 {key}"], "ok"),
        ([f"2 1 1 {OTHER}"], "ok"),
        ([f"3 1 1 {OTHER}", f"2 1 1 {OTHER}"], "ok"),
        ([f"3 1 1 {OTHER}"], "differs"),
        ([f"3 1 1 {OTHER}", "3 1 1 1" + OTHER[1:]], "differs"),
    ],
)
def test_the_key_of_the_certificate_is_among_the_records(record, world, key, published, state):
    world.zone[TLSA] = [text.format(key=key) for text in published]
    found = record(TLSA)
    assert (found["state"], found["wanted"]) == (state, f"3 1 1 {key}")
    assert found["note"].partition(",")[0] == ("none of them is the key of this gateway" if state == "differs" else "")


def test_a_tlsa_record_is_for_a_signed_zone_only(record, world):
    world.zone[TLSA] = []
    found = record(TLSA)
    assert (found["state"], found["note"]) == ("missing", "only in a signed zone; it has to change with the key")


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_gateway_without_a_certificate_is_told_what_to_do(run, tmp_path, content):
    path = tmp_path / "gateway.pem"
    if content:
        path.write_text(content)
    result = run(certificate=str(path))
    assert result["msg"].startswith(f"{path}: it holds no certificate that can be read (")
    assert result["msg"].endswith("; run antispam.gateway.site first")
