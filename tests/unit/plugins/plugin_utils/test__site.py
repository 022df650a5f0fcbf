# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _schema, _site
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=200)
HOP = "[mail.inside.example.com]"


def domain(name="example.com", next_hop=HOP, verify=False):
    return {"name": name, "next_hop": next_hop, "verify_recipients": verify}


def site(allowed=(), denied=(), sourced=(), **changes):
    """Each change is that of the variable gateway_NAME; sourced has the domains of each source."""
    arguments = {
        "hostname": "mx1.example.com",
        "domains": [domain(), domain("example.net", HOP + ":26", verify=True), domain("staff.example.com")],
        "recipients": ["alice@example.com", "bob@example.com", "@staff.example.com"],
        "recipient_sources": [{"domains": names} if names else {} for names in sourced],
        "postmaster": "alice@example.com",
        "client_allowlist": list(allowed),
        "client_denylist": list(denied),
        **changes,
    }
    defaults = {name: spec.get("default") for name, spec in _schema.specs().items()}
    return _site.Site(defaults | {f"gateway_{name}": value for name, value in arguments.items()})


def only_problem(**changes):
    problems = site(**changes).problems
    assert len(problems) == 1, problems
    return problems[0]


# ---- what is derived ---------------------------------------------------------------------------------------------


def test_every_table_comes_from_the_one_list():
    example = site()
    assert example.problems == []
    assert example.relay_domains() == {"example.com": "OK", "example.net": "OK", "staff.example.com": "OK"}
    assert example.transport() == {
        "example.com": "relay:[mail.inside.example.com]",
        "example.net": "relay:[mail.inside.example.com]:26",
        "staff.example.com": "relay:[mail.inside.example.com]",
    }
    assert example.verify_recipients() == {"example.net": "reject_unverified_recipient"}
    assert example.relay_recipients() == ["@example.net", "@staff.example.com", "alice@example.com", "bob@example.com"]


def test_names_are_folded_everywhere():
    example = site(
        hostname="MX1.Example.com",
        domains=[domain("Example.COM", "[Mail.Inside.example.com]:25")],
        recipients=["Alice@EXAMPLE.com", "alice@example.com", "ALICE@example.COM"],
        postmaster="Alice@Example.com",
        aliases={"Info@Example.com": ["Alice@Example.com"]},
        sender_scores={"News@Example.ORG": "-1.5"},
    )
    assert example.problems == []
    assert example.hostname == "mx1.example.com"
    assert example.relay_domains() == {"example.com": "OK"}
    assert example.transport() == {"example.com": "relay:[mail.inside.example.com]"}
    assert example.relay_recipients() == ["alice@example.com"]
    assert example.virtual()["info@example.com"] == "alice@example.com"
    assert example.sender_scores == {"news@example.org": -1.5}


def test_an_international_domain_is_the_same_one_in_every_table():
    example = site(
        domains=[domain("münchen.example", "[mail.münchen.example]")],
        recipients=["alice@münchen.example"],
        postmaster="alice@xn--mnchen-3ya.example",
    )
    assert example.problems == []
    assert example.relay_domains() == {"xn--mnchen-3ya.example": "OK"}
    assert example.relay_recipients() == ["alice@xn--mnchen-3ya.example"]
    assert example.transport() == {"xn--mnchen-3ya.example": "relay:[mail.xn--mnchen-3ya.example]"}


@pytest.mark.parametrize("next_hop", ["[192.0.2.25]:26", "[2001:db8::25]", "[2001:db8::25]:26", "mail.inside.example.com", "mail.inside.example.com:26"])
def test_a_next_hop_reaches_the_transport_table_as_it_is(next_hop):
    assert site(domains=[domain(next_hop=next_hop)], recipients=["alice@example.com"]).transport() == {"example.com": f"relay:{next_hop}"}


def test_next_hops_are_named_by_their_variable():
    assert site().next_hops == [
        ("gateway_domains[0].next_hop", ("mail.inside.example.com", 25, True)),
        ("gateway_domains[1].next_hop", ("mail.inside.example.com", 26, True)),
        ("gateway_domains[2].next_hop", ("mail.inside.example.com", 25, True)),
    ]


def test_the_names_of_next_hops_are_named_once_and_addresses_are_none():
    example_hops = [HOP, "[192.0.2.25]", "[2001:db8::25]", "Inside.example.com:26", "[MAIL.inside.example.com]:26", "[a.münchen.example]"]
    domains = [domain(f"d{number}.example.com", hop, verify=True) for number, hop in enumerate(example_hops)]
    assert site(domains=domains, recipients=[]).next_hop_names() == ["a.xn--mnchen-3ya.example", "inside.example.com", "mail.inside.example.com"]


def test_networks_keep_their_order():
    networks = site(trusted_networks=["2001:db8::/32", "192.0.2.0/24"]).trusted_networks
    assert [str(network) for network in networks] == ["2001:db8::/32", "192.0.2.0/24"]


@pytest.mark.parametrize("name", ["example.com", "example.net", "staff.example.com", "mx1.example.com"])
@pytest.mark.parametrize("local", ["postmaster", "abuse"])
def test_role_mailboxes_of_every_domain_go_to_the_postmaster(local, name):
    assert site().virtual()[f"{local}@{name}"] == "alice@example.com"


def test_what_the_host_itself_sends_goes_to_the_postmaster():
    assert site().virtual()["root@mx1.example.com"] == "alice@example.com"
    assert {"root", "postmaster", "mailer-daemon", "clamav", "amavis"} <= site().system_aliases().keys()
    assert set(site().system_aliases().values()) == {"alice@example.com"}


def test_a_role_mailbox_that_the_site_lists_stays_where_it_is():
    example = site(recipients=["alice@example.com", "postmaster@example.com", "@staff.example.com"])
    assert "postmaster@example.com" not in example.virtual()
    assert example.virtual()["abuse@example.com"] == "alice@example.com"
    assert "postmaster@example.com" in example.relay_recipients()


def test_an_alias_of_the_site_goes_before_the_derived_one():
    example = site(aliases={"postmaster@example.com": ["bob@example.com", "friend@example.org"], "postmaster@mx1.example.com": "bob@example.com"})
    assert example.problems == []
    assert example.virtual()["postmaster@example.com"] == "bob@example.com, friend@example.org"
    assert example.virtual()["postmaster@mx1.example.com"] == "bob@example.com"
    assert example.virtual()["postmaster@example.net"] == "alice@example.com"


def test_the_postmaster_is_no_alias_to_itself():
    example = site(postmaster="postmaster@example.com")
    assert "postmaster@example.com" not in example.virtual()
    assert example.virtual()["abuse@example.com"] == "postmaster@example.com"


def test_a_copy_to_oneself_is_kept():
    """In virtual(5) this is how a mailbox keeps its mail and another gets a copy."""
    example = site(aliases={"bob@example.com": ["bob@example.com", "alice@example.com"]})
    assert example.problems == []
    assert example.virtual()["bob@example.com"] == "bob@example.com, alice@example.com"


def test_a_domain_may_live_in_a_sub_domain_of_another():
    example = site(domains=[domain(), domain("sub.example.com")], recipients=["alice@example.com", "@sub.example.com"])
    assert example.problems == []
    assert "@sub.example.com" in example.relay_recipients()


# ---- clients -----------------------------------------------------------------------------------------------------


def test_a_site_without_lists_of_clients_has_none():
    assert site().client_access() == []


def test_of_two_networks_of_a_client_the_smaller_one_comes_first():
    access = site(
        allowed=["192.0.2.0/24", "2001:db8::25", "198.51.100.7"],
        denied=["192.0.2.128/25", "192.0.0.0/16", "2001:db8::/32"],
    ).client_access()
    assert access == [
        ["2001:db8::25/128", "permit"],
        ["198.51.100.7/32", "permit"],
        ["2001:db8::/32", "reject"],
        ["192.0.2.128/25", "reject"],
        ["192.0.2.0/24", "permit"],
        ["192.0.0.0/16", "reject"],
    ]


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
@pytest.mark.parametrize(("option", "variable"), [("allowed", "gateway_client_allowlist"), ("denied", "gateway_client_denylist")])
def test_everybody_is_no_network_of_clients(network, option, variable):
    assert site(**{option: [network]}).problems == [f"{variable}: {network} is everybody; name the networks that are meant"]


# Few bits, so that networks lie within each other.
nets = st.builds(lambda bits, length: ipaddress.ip_network((bits << 26, length), strict=False), st.integers(0, 63), st.integers(1, 6))
nets6 = st.builds(lambda bits, length: ipaddress.ip_network(((bits << 122).to_bytes(16, "big"), length), strict=False), st.integers(0, 63), st.integers(1, 6))


@quick
@given(st.dictionaries(nets | nets6, st.booleans(), max_size=12), st.integers(0, 63), st.booleans())
def test_what_becomes_of_a_client_is_said_by_the_smallest_network_that_it_is_in(clients, bits, version6):
    chosen = site(allowed=[str(net) for net, allow in clients.items() if allow], denied=[str(net) for net, allow in clients.items() if not allow])
    assert chosen.problems == []
    client = ipaddress.IPv6Address(bits << 122) if version6 else ipaddress.IPv4Address(bits << 26)
    # cidr_table(5): the first match counts.
    found = next((action for net, action in chosen.client_access() if client in ipaddress.ip_network(net)), None)
    around = [net for net in clients if net.version == client.version and client in net]
    expected = {True: "permit", False: "reject"}[clients[max(around, key=lambda net: net.prefixlen)]] if around else None
    assert found == expected
    assert len(chosen.client_access()) == len(clients)


def test_the_order_of_clients_is_that_of_the_networks_not_of_the_lists():
    """A table that changes without need is a reload."""
    networks = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/25", "2001:db8::/32"]
    assert site(denied=networks).client_access() == site(denied=networks[::-1]).client_access()


@pytest.mark.parametrize("variable", ["allowed", "denied"])
def test_a_network_of_clients_may_stand_in_its_list_twice(variable):
    example_site = site(**{variable: ["192.0.2.25", "192.0.2.25/32"]})
    assert example_site.problems == []
    assert [net for net, _action in example_site.client_access()] == ["192.0.2.25/32"]


@pytest.mark.parametrize(
    ("allowed", "denied", "net"),
    [
        ("192.0.2.25", "192.0.2.25/32", "192.0.2.25/32"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8:0::/48", "2001:db8::/48", "2001:db8::/48"),
    ],
)
def test_a_network_of_clients_that_is_in_both_lists_is_a_mistake(allowed, denied, net):
    problem = only_problem(allowed=["198.51.100.0/24", allowed], denied=["203.0.113.0/24", denied])
    assert problem == f"gateway_client_denylist: {net} is in gateway_client_allowlist as well; keep one of them"


def test_a_network_within_another_is_no_contradiction():
    assert site(allowed=["192.0.2.25"], denied=["192.0.2.0/24"]).problems == []
    assert site(allowed=["192.0.2.0/24"], denied=["192.0.2.25"]).problems == []


@pytest.mark.parametrize(("argument", "variable"), [("allowed", "gateway_client_allowlist"), ("denied", "gateway_client_denylist")])
@pytest.mark.parametrize("text", ["192.0.2.25/24", "mail.example.org", "", "fe80::%eth0/64"])
def test_a_client_that_is_no_network_is_a_mistake_with_its_place(argument, variable, text):
    assert only_problem(**{argument: ["192.0.2.0/24", text]}).startswith(f"{variable}[1]: '{text}' ")


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hostname": "mx1"}, ["gateway_hostname", "'mx1'", "fully qualified"]),
        ({"hostname": "mx_1.example.com"}, ["gateway_hostname", "not a domain name"]),
        ({"hostname": "example.com"}, ["gateway_hostname", "relay domain", "name of its own"]),
        ({"postmaster": "alice"}, ["gateway_postmaster", "no @"]),
        ({"postmaster": "root@mx1.example.com"}, ["gateway_postmaster", "no mailboxes"]),
        ({"postmaster": "alice@localhost"}, ["gateway_postmaster", "alice@localhost"]),
        ({"trusted_networks": ["192.0.2.0/24", "127.0.0.1/8"]}, ["gateway_trusted_networks[1]", "127.0.0.0/8"]),
        ({"recipients": ["alice@example.com", "@staff.example.com", "eve@example.org"]}, ["gateway_recipients", "eve@example.org", "not in gateway_domains"]),
        ({"recipients": ["alice@example.com", "@staff.example.com", "a b@example.com"]}, ["gateway_recipients[2]", "local part"]),
        ({"recipients": ["alice@example.com"]}, ["gateway_domains", "who receives mail in staff.example.com", "'@staff.example.com'", "verify_recipients"]),
        ({"aliases": {"info@example.org": ["alice@example.com"]}}, ["gateway_aliases", "info@example.org", "neither"]),
        ({"aliases": {"info@example.com": ["alice@example.com", "bob"]}}, ["gateway_aliases['info@example.com'][1]", "no @"]),
        ({"aliases": {"@example.com": ["alice@example.com"]}}, ["gateway_aliases['@example.com']", "local part"]),
        ({"sender_scores": {"@example.org": 5}}, ["gateway_sender_scores['@example.org']", "never matches"]),
        ({"sender_scores": {"example.org": "high"}}, ["gateway_sender_scores['example.org']", "not a score"]),
    ],
)
def test_a_mistake_is_one_sentence_with_its_variable(changes, words):
    problem = only_problem(**changes)
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (domain("example"), ["gateway_domains[3].name", "'example'"]),
        (domain("example.org", "2001:db8::25", verify=True), ["gateway_domains[3].next_hop", "not a next hop"]),
        (domain("Example.NET", verify=True), ["gateway_domains[3].name", "example.net stands in the list twice"]),
    ],
)
def test_a_mistake_in_a_domain_names_its_place_in_the_list(entry, words):
    problem = only_problem(domains=[domain(), domain("example.net", verify=True), domain("staff.example.com"), entry])
    for word in words:
        assert word in problem


def test_a_mistake_in_a_next_hop_makes_no_mistakes_of_the_recipients():
    problem = only_problem(domains=[domain(next_hop="relay:mail"), domain("example.net", verify=True), domain("staff.example.com")])
    assert "gateway_domains[0].next_hop" in problem


LISTED = ["alice@example.com", "@staff.example.com"]


def test_a_forgotten_domain_is_one_mistake_however_many_recipients_it_has():
    lost = [f"user{number:03}@example.org" for number in range(312)]
    assert only_problem(recipients=[*LISTED, *reversed(lost)]) == (
        "gateway_recipients: example.org is not in gateway_domains, but 312 recipients are in it (user000@example.org, ...); add the domain or remove them"
    )


def test_each_forgotten_domain_is_a_mistake():
    assert site(recipients=["b@one.example", "a@one.example", "@two.example", *LISTED]).problems == [
        "gateway_recipients: two.example is not in gateway_domains, but @two.example is in it; add the domain or remove the recipient",
        "gateway_recipients: one.example is not in gateway_domains, but 2 recipients are in it (a@one.example, ...); add the domain or remove them",
    ]


def test_a_domain_that_a_source_feeds_needs_no_recipients_here():
    for sourced in ([["example.com", "Staff.example.com"]], [["example.com"], ["staff.example.com"]], [[]], [["example.com"], []]):
        assert site(recipients=[], sourced=sourced).problems == []


def test_a_domain_that_no_source_feeds_needs_recipients():
    assert "nothing says who receives mail in staff.example.com" in only_problem(recipients=["alice@example.com"], sourced=[["example.com"]])
    assert len(site(recipients=[], sourced=[]).problems) == 2


def test_a_source_of_a_domain_that_is_none_is_one_mistake_of_the_source():
    assert only_problem(sourced=[[], ["example.com", "example.org"]]) == (
        "gateway_recipient_sources[1].domains: example.org is not in gateway_domains; add the domain or remove it from the source"
    )
    assert only_problem(sourced=[["not a domain"]]).startswith("gateway_recipient_sources[0].domains[0]: ")


def test_the_recipients_of_the_inventory_are_a_list_with_the_wildcards_of_verified_domains():
    assert site().relay_recipients() == ["@example.net", "@staff.example.com", "alice@example.com", "bob@example.com"]


def test_a_site_without_domains_is_refused():
    assert "the list is empty" in only_problem(domains=[], recipients=[])


def test_all_mistakes_are_reported_at_once():
    problems = site(hostname="mx1", postmaster="alice", trusted_networks=["x"], recipients=["eve@example.org"], sender_scores={"": "y"}).problems
    for word in ("gateway_hostname", "gateway_postmaster", "gateway_trusted_networks[0]", "eve@example.org", "gateway_sender_scores", "staff.example.com"):
        assert any(word in problem for problem in problems), word


@pytest.mark.parametrize("targets", [None, [], 5, ""])
def test_an_alias_that_leads_nowhere_is_a_mistake(targets):
    assert "gateway_aliases['info@example.com']" in only_problem(aliases={"info@example.com": targets})


def test_two_spellings_of_one_alias_are_a_mistake():
    problem = only_problem(aliases={"Info@example.com": ["alice@example.com"], "info@example.com": ["bob@example.com"]})
    assert "gateway_aliases" in problem
    assert "info@example.com" in problem


def test_two_spellings_of_one_sender_are_a_mistake():
    problem = only_problem(sender_scores={"Example.org": 5, "example.org": -5})
    assert "gateway_sender_scores" in problem
    assert "example.org" in problem


# ---- what the schema has refused already -------------------------------------------------------------------------


def test_what_is_missing_is_said_by_the_schema_alone():
    """And nothing is held against the recipients of domains that are not there."""
    assert site(hostname=None, domains=None, postmaster=None, sourced=[["example.org"]], aliases={"info@example.org": ["a@example.org"]}).problems == []


# ---- an address to prove the gateway with ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "alice@example.com"),
        ({"postmaster": "root@elsewhere.example"}, "alice@example.com"),
        ({"postmaster": "root@elsewhere.example", "recipients": ["@example.com", "@staff.example.com", "bob@staff.example.com"]}, "bob@staff.example.com"),
        ({"postmaster": "root@elsewhere.example", "recipients": ["@example.com", "@staff.example.com"]}, ""),
    ],
)
def test_the_postmaster_gets_the_messages_that_prove_the_gateway_if_a_next_hop_has_the_address(changes, address):
    assert site(**changes).prove_recipient() == address


def test_the_domains_that_a_source_may_accept_as_a_whole_are_known():
    sources = [{"domains": ["Example.com"]}, {"domains": ["staff.example.com"], "wildcards": True}]
    assert site(recipient_sources=sources).wildcard_sources == {"staff.example.com"}
    assert site(recipient_sources=[{"wildcards": True}]).wildcard_sources == {"example.com", "example.net", "staff.example.com"}
