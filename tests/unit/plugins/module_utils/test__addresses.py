# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _addresses
from hypothesis import given, settings
from hypothesis import strategies as st

# Nothing is kept between runs: a failure prints how to reproduce it.
quick = settings(max_examples=200)

labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
domains = st.builds(lambda left, last: ".".join([*left, last]), st.lists(labels, min_size=1, max_size=4), st.from_regex("[A-Za-z]{2,6}", fullmatch=True))
atoms = st.text(alphabet="abcXYZ019!$%&'*+/=?^_`{|}~-", min_size=1, max_size=12)
local_parts = st.builds(".".join, st.lists(atoms, min_size=1, max_size=4))
addresses = st.builds(lambda local, name: f"{local}@{name}", local_parts, domains)


def refused(function, text, *words):
    """The sentence names what was written and says each of the words."""
    with pytest.raises(ValueError) as raised:
        function(text)
    sentence = str(raised.value)
    for word in (str(text).strip(), *words):
        assert word in sentence
    return sentence


# ---- domains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("example.com", "example.com"),
        ("Mail.EXAMPLE.com", "mail.example.com"),
        (" example.com\n", "example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("1and1.example", "1and1.example"),
        ("3.example", "3.example"),
        ("localhost", "localhost"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_a_domain_has_one_spelling(text, canonical):
    assert _addresses.domain(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "example.com.",
        ".example.com",
        "example..com",
        "-mail.example.com",
        "mail-.example.com",
        "my_host.example.com",
        "exam ple.com",
        "example.com\nexample.net",
        "example.com:25",
        "[example.com]",
        "user@example.com",
        "a" * 64 + ".example",
        "ü" * 60 + ".example",
        "℀.example",
    ],
)
def test_what_is_no_domain_is_refused(text):
    refused(_addresses.domain, text)


def test_a_domain_that_is_too_long_is_refused():
    longest = ".".join(["a" * 49] * 5 + ["com"])
    assert len(longest) == _addresses.MAX_DOMAIN
    assert _addresses.domain(longest) == longest
    refused(_addresses.domain, "b" + longest, "253")


@pytest.mark.parametrize("text", ["192.0.2.1", "1.2.3.4", "１９２.0.2.1", "example.1"])
def test_an_address_is_no_domain(text):
    refused(_addresses.domain, text, "IP address")


@pytest.mark.parametrize("text", ["straße.example", "faß.example"])
def test_a_domain_that_python_would_turn_into_another_one_is_refused(text):
    """IDNA 2003 writes ss for ß, which is a domain of somebody else today (RFC 5895)."""
    refused(_addresses.domain, text)


@quick
@given(domains)
def test_the_spelling_of_a_domain_is_final(text):
    name = _addresses.domain(text)
    assert name == _addresses.domain(name) == _addresses.domain(text.upper())


@quick
@given(st.text(max_size=40))
def test_any_text_is_a_domain_in_ascii_or_a_sentence(text):
    try:
        name = _addresses.domain(text)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert _addresses.domain(name) == name


def test_a_host_needs_its_domain():
    assert _addresses.fqdn("MX1.example.com") == "mx1.example.com"
    refused(_addresses.fqdn, "mx1", "fully qualified")
    refused(_addresses.fqdn, "my_host.example.com", "not a domain name")


# ---- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alice@example.com", "alice@example.com"),
        ("Alice.Smith+Lists@EXAMPLE.com", "alice.smith+lists@example.com"),
        ("o'hara@example.com", "o'hara@example.com"),
        ("alice@münchen.example", "alice@xn--mnchen-3ya.example"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_an_address_has_one_spelling(text, canonical):
    assert _addresses.address(text) == canonical


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no @"),
        ("alice", "no @"),
        ("@example.com", "local part"),
        ("alice@", "not a domain name"),
        ("alice smith@example.com", "local part"),
        ('"alice smith"@example.com', "local part"),
        ("alice..smith@example.com", "local part"),
        (".alice@example.com", "local part"),
        ("alice@bob@example.com", "local part"),
        ("Alice <alice@example.com>", "local part"),
        ("alïce@example.com", "local part"),
        ("\ufeffalice@example.com", "local part"),
        ("alice\u00a0@example.com", "local part"),
        ("alice\n@example.com", "local part"),
        ("a" * 65 + "@example.com", "64"),
        ("#alice@example.com", "comment"),
        ("alice@192.0.2.1", "IP address"),
        ("alice@[192.0.2.1]", "not a domain name"),
    ],
)
def test_what_is_no_address_is_refused(text, word):
    with pytest.raises(ValueError, match=word):
        _addresses.address(text)


def test_an_address_that_is_too_long_is_refused():
    name = ".".join(["a" * 47] * 4 + ["com"])
    local = "b" * (_addresses.MAX_ADDRESS - len(name) - 1)
    assert _addresses.address(f"{local}@{name}") == f"{local}@{name}"
    refused(_addresses.address, f"b{local}@{name}", "254")


def test_a_letter_outside_ascii_never_becomes_one_inside():
    """The Kelvin sign is k in lower case: the address would be somebody else's."""
    refused(_addresses.address, "\u212aim@example.com")


@quick
@given(addresses)
def test_the_spelling_of_an_address_is_final(text):
    address = _addresses.address(text)
    assert address == _addresses.address(address) == _addresses.address(text.upper())


def test_a_wildcard_is_an_address_only_where_it_may_be():
    assert _addresses.address("@Example.com", wildcard=True) == "@example.com"
    with pytest.raises(ValueError, match="local part"):
        _addresses.address("@example.com")
    assert _addresses.address("Alice@Example.com", wildcard=True) == "alice@example.com"
    with pytest.raises(ValueError, match="fully qualified"):
        _addresses.address("@localhost", wildcard=True)


# ---- networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical", "in_postfix"),
    [
        ("192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.25", "192.0.2.25/32", "192.0.2.25/32"),
        (" 198.51.100.0/255.255.255.0 ", "198.51.100.0/24", "198.51.100.0/24"),
        ("2001:DB8::/32", "2001:db8::/32", "[2001:db8::]/32"),
        ("2001:db8::25", "2001:db8::25/128", "[2001:db8::25]/128"),
    ],
)
def test_a_network_has_one_spelling(text, canonical, in_postfix):
    network = _addresses.network(text)
    assert str(network) == canonical
    assert _addresses.postfix_network(network) == in_postfix


@pytest.mark.parametrize(
    ("text", "meant"),
    [("127.0.0.1/8", "127.0.0.0/8"), ("192.0.2.25/24", "192.0.2.0/24"), ("2001:db8::1/64", "2001:db8::/64")],
)
def test_a_network_with_host_bits_is_refused_with_what_was_meant(text, meant):
    refused(_addresses.network, text, "451", f"write {meant}")


@pytest.mark.parametrize("text", ["", "192.0.2.0/33", "192.0.2", "[2001:db8::]/32", "example.com", "all", "192.0.2.0/24 203.0.113.0/24", "3221225985"])
def test_what_is_no_network_is_refused(text):
    refused(_addresses.network, text, "192.0.2.0/24")


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_trusting_the_whole_world_is_refused(text):
    """It would be an open relay."""
    refused(_addresses.network, text)


def test_a_network_of_one_interface_is_refused():
    """Postfix does not read a scope in mynetworks."""
    refused(_addresses.network, "fe80::%eth0/64")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "172.16.0.0/12", "fd00::/8", "2001:db8::/32"])
def test_the_networks_of_a_large_site_are_taken(text):
    assert str(_addresses.network(text)) == text


@quick
@given(st.ip_addresses(), st.data())
def test_a_network_is_taken_or_refused_with_one_that_is_taken(address, data):
    length = data.draw(st.integers(8 if address.version == 4 else 16, address.max_prefixlen))
    try:
        network = _addresses.network(f"{address}/{length}")
    except ValueError as error:
        network = _addresses.network(str(error).rpartition(" write ")[2])
        assert address in network
    assert network == ipaddress.ip_network((address, length), strict=False)


# ---- networks of clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("128.0.0.0/1", "128.0.0.0/1"),
        ("2000::/3", "2000::/3"),
        ("192.0.2.25", "192.0.2.25/32"),
        (" 198.51.100.0/255.255.255.0 ", "198.51.100.0/24"),
        ("2001:DB8:0::25", "2001:db8::25/128"),
    ],
)
def test_a_network_of_clients_may_have_any_size(text, canonical):
    assert str(_addresses.client_network(text)) == canonical


@pytest.mark.parametrize(("text", "meant"), [("192.0.2.25/24", "192.0.2.0/24"), ("2001:db8::1/64", "2001:db8::/64"), ("192.0.2.25/0", "0.0.0.0/0")])
def test_a_network_of_clients_with_host_bits_is_refused_with_what_was_meant(text, meant):
    assert refused(_addresses.client_network, text).endswith(f"write {meant}")


@pytest.mark.parametrize("text", ["", "192.0.2.0/33", "192.0.2", "[2001:db8::]/32", "example.com", "192.0.2.1-192.0.2.9", "192.0.2.0/24 reject", "3221225985"])
def test_what_is_no_network_of_clients_is_refused(text):
    refused(_addresses.client_network, text, "192.0.2.0/24")


@pytest.mark.parametrize("text", ["fe80::%eth0/64", "fe80::1%eth0"])
def test_a_network_of_clients_of_one_interface_is_refused(text):
    refused(_addresses.client_network, text, "interface")


@quick
@given(st.ip_addresses(), st.data())
def test_every_network_that_is_trusted_may_be_one_of_clients(address, data):
    length = data.draw(st.integers(0, address.max_prefixlen))
    net = ipaddress.ip_network((address, length), strict=False)
    assert _addresses.client_network(str(net)) == net
    try:
        assert _addresses.network(str(net)) == net
    except ValueError:
        assert length < {4: 8, 6: 16}[address.version]


# ---- addresses of hosts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.53", "192.0.2.53"),
        (" 192.0.2.53\n", "192.0.2.53"),
        ("2001:DB8:0:0::53", "2001:db8::53"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_an_ip_address_has_one_spelling(text, canonical):
    assert _addresses.ip(text) == canonical
    assert _addresses.ip(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "ns.example.com", "192.0.2", "192.0.2.256", "192.0.2.053", "192.0.2.53/32", "192.0.2.53:53", "[2001:db8::53]", "2001:db8::53/128", "3221225985"],
)
def test_what_is_no_ip_address_is_refused(text):
    refused(_addresses.ip, text, "is not an IP address", "192.0.2.53 or 2001:db8::53")
    assert not _addresses.is_ip(text)


@pytest.mark.parametrize("text", ["192.0.2.53", "0.0.0.0", "2001:db8::53", "2001:DB8::53", "::", "::ffff:192.0.2.53"])
def test_an_ip_address_is_one(text):
    assert _addresses.is_ip(text)


@quick
@given(st.ip_addresses())
def test_an_ip_address_is_read_however_it_is_written(address):
    for text in (str(address), address.exploded, address.exploded.upper()):
        assert _addresses.ip(text) == str(address)
        assert _addresses.is_ip(text)


# ---- next hops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts", "written"),
    [
        ("[mail.example.com]", ("mail.example.com", 25, True), "[mail.example.com]"),
        (" [Mail.Example.com]:2525 ", ("mail.example.com", 2525, True), "[mail.example.com]:2525"),
        ("[mail.example.com]:25", ("mail.example.com", 25, True), "[mail.example.com]"),
        ("mail.example.com", ("mail.example.com", 25, False), "mail.example.com"),
        ("mail.example.com:26", ("mail.example.com", 26, False), "mail.example.com:26"),
        ("[mail.münchen.example]", ("mail.xn--mnchen-3ya.example", 25, True), "[mail.xn--mnchen-3ya.example]"),
        ("[192.0.2.25]", ("192.0.2.25", 25, True), "[192.0.2.25]"),
        ("[192.0.2.25]:65535", ("192.0.2.25", 65535, True), "[192.0.2.25]:65535"),
        ("[192.0.2.25]:1", ("192.0.2.25", 1, True), "[192.0.2.25]:1"),
        ("[2001:db8::25]", ("2001:db8::25", 25, True), "[2001:db8::25]"),
        ("[2001:DB8:0::25]:26", ("2001:db8::25", 26, True), "[2001:db8::25]:26"),
        ("[IPv6:2001:db8::25]:26", ("2001:db8::25", 26, True), "[2001:db8::25]:26"),
    ],
)
def test_a_next_hop_has_one_spelling(text, parts, written):
    hop = _addresses.next_hop(text)
    assert hop == (hop.host, hop.port, hop.bracketed) == parts
    assert str(hop) == str(_addresses.NextHop(*parts)) == written
    assert _addresses.next_hop(written) == parts


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not a next hop"),
        ("relay:[mail.example.com]", "not a next hop"),
        ("[mail.example.com", "not a next hop"),
        ("mail.example.com]", "not a next hop"),
        ("[[mail.example.com]]", "not a next hop"),
        ("[mail.example.com]:", "not a next hop"),
        ("[mail.example.com]:smtp", "not a next hop"),
        ("[mail.example.com] [mail2.example.com]", "not a next hop"),
        ("mail.example.com mail2.example.com", "not a next hop"),
        ("2001:db8::25", "not a next hop"),
        ("[mail.example.com]:0", "65535"),
        ("[mail.example.com]:65536", "65535"),
        ("[mail_1.example.com]", "not a domain name"),
        ("[192.0.2.256]", "IP address"),
        ("[ipv6:mail.example.com]", "not a domain name"),
    ],
)
def test_what_is_no_next_hop_is_refused(text, word):
    with pytest.raises(ValueError, match=word):
        _addresses.next_hop(text)


def test_an_address_without_brackets_is_refused_with_the_way_to_write_it():
    refused(_addresses.next_hop, "192.0.2.25", "[192.0.2.25]")


def test_a_next_hop_that_was_left_empty_is_refused():
    """A key without a value in YAML arrives as None, which is no host name."""
    with pytest.raises(ValueError):
        _addresses.next_hop(None)


# ---- sender scores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Newsletter@Example.org", "newsletter@example.org"),
        ("newsletter@", "newsletter@"),
        ("Example.ORG", "example.org"),
        (".Example.org", ".example.org"),
        (".org", ".org"),
        ("@", "@"),
        (".", "."),
        (" example.org ", "example.org"),
        ("münchen.example", "xn--mnchen-3ya.example"),
    ],
)
def test_a_score_key_has_one_spelling(text, key):
    assert _addresses.score_key(text) == key
    assert _addresses.score_key(key) == key


def test_a_score_key_that_never_matches_is_refused_with_those_that_do():
    refused(_addresses.score_key, "@example.org", "'example.org'", "'.example.org'")


@pytest.mark.parametrize("text", ["", "#example.org", "user name@example.org", "..", "..example.org", "a@b@", "@@", "192.0.2.1", "#x@"])
def test_what_is_no_score_key_is_refused(text):
    with pytest.raises(ValueError):
        _addresses.score_key(text)


@pytest.mark.parametrize(("text", "value"), [("-2.5", -2.5), (8, 8.0), (" 0 ", 0.0), ("1e1", 10.0), (100, 100.0), (-100.0, -100.0)])
def test_a_score_is_a_number(text, value):
    result = _addresses.score(text)
    assert result == value
    assert isinstance(result, float)


@pytest.mark.parametrize("text", ["", "high", None, True, "nan", "inf", "-inf", 100.1, -101, "1,5", "2 points", [1]])
def test_what_is_no_score_is_refused(text):
    with pytest.raises(ValueError, match="not a score"):
        _addresses.score(text)
