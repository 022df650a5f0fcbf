# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _outgoing, _schema, _site

SALT_AND_HASH = "rasmuslerdorf$" + "Ab./" * 21 + "Ab"
HASH = "$6$" + SALT_AND_HASH
SECRET = "hunter2-Correct.Horse"
DOMAINS = [
    {"name": "example.com", "next_hop": "[mail.inside.example.com]", "next_hop_tls": "may"},
    {"name": "example.net", "next_hop": "[192.0.2.25]:2525"},
]


def outgoing(domains=None, smarthost=None, **arguments):
    """Each argument is the variable gateway_NAME; a smarthost may be its next hop alone."""
    given = {
        "hostname": "mx1.example.com",
        "domains": DOMAINS if domains is None else domains,
        "recipients": ["@example.com", "@example.net"],
        "postmaster": "postmaster@example.com",
        "smarthost": {"tls": "secure", "next_hop": smarthost} if isinstance(smarthost, str) else smarthost,
        "dkim_domains": [],
        "dkim_signing": True,
        "dkim_selector": None,
        **arguments,
    }
    defaults = {name: spec.get("default") for name, spec in _schema.specs().items()}
    variables = defaults | {f"gateway_{name}": value for name, value in given.items()}
    return _outgoing.Outgoing(_site.Site(variables), variables)


def only_problem(domains=None, **arguments):
    problems = outgoing(domains, **arguments).problems
    assert len(problems) == 1, problems
    return problems[0]


def account(name, *senders, password=HASH):
    return {"name": name, "password": password, "senders": list(senders)}


def domain(next_hop, level=None, name="example.com"):
    return {"name": name, "next_hop": next_hop, **({"next_hop_tls": level} if level else {})}


def test_a_site_without_outbound_settings_has_none():
    plain = outgoing()
    assert plain.problems == []
    assert (plain.accounts, plain.sender_logins(), plain.policies, plain.relayhost()) == ({}, {}, {}, "")
    assert (plain.smarthost, plain.dkim_domains, plain.dkim_selector, plain.forwarders) == (None, [], "", [])


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ("encrypt", []),
        ("may", []),
        ("dane", []),
        ("verify", ["mail.example.com"]),
        ("secure", ["mail.example.com", ".mail.example.com"]),
        ("secure match=mx.example.org", ["mx.example.org"]),
        ("secure match=hostname:.example.org protocols=>=TLSv1.2 match=nexthop", ["mail.example.com", ".example.org", "mail.example.com"]),
    ],
)
def test_the_names_of_a_certificate_follow_the_policy(policy, names):
    assert _outgoing.certificate_names(policy, "mail.example.com") == names


# ---- accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HASH,
        "$5$rounds=535000$salt$" + "a" * 43,
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$2y$10$" + "a" * 53,
        "$2a$12$" + "a" * 53,
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$" + "a" * 43,
        "$argon2i$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$" + "a" * 43,
        "{SHA512-CRYPT}" + HASH,
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$" + "a" * 43,
        "{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    ],
)
def test_what_makes_password_hashes_is_taken(text):
    assert outgoing(accounts=[account("alice@example.com", password=text)]).problems == []


@pytest.mark.parametrize("scheme", ["-5", "-6"])
def test_what_openssl_prints_is_a_password_hash(scheme):
    printed = subprocess.run(["openssl", "passwd", scheme, SECRET], check=True, capture_output=True, text=True).stdout.strip()
    assert _outgoing.password_hash(printed) is True


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        "",
        None,
        "{PLAIN}" + SECRET,
        "{SHA512}" + HASH,
        "$1$salt$" + SECRET * 2,
        "$apr1$salt$" + SECRET * 2,
        "$6$" + SECRET[:8],
        HASH + " " + SECRET,
        HASH + "\n",
        HASH + "\nroot:" + SECRET,
        HASH + ":1000",
        " " + HASH,
    ],
)
def test_what_is_no_password_hash_is_refused_and_never_repeated(text):
    problem = only_problem(accounts=[account("alice@example.com", password=text)])
    assert problem.startswith("gateway_accounts[0].password: this is no password hash; write what 'openssl passwd -6'")
    for secret in (SECRET, SALT_AND_HASH, "rasmuslerdorf"):
        assert secret not in problem


def test_no_other_mistake_of_an_account_repeats_its_hash():
    problems = outgoing(accounts=[account("alice@example.org", "x", "bob@example.org"), account("x"), *[account("bob@example.com")] * 2]).problems
    assert len(problems) == 5
    assert "rasmuslerdorf" not in "".join(problems)


def test_an_account_may_send_as_its_name_and_its_senders():
    accounts = [account("Alice@Example.com", "Sales@example.net", "@example.com"), account("bob@example.net", "sales@EXAMPLE.net")]
    found = outgoing(accounts=accounts)
    assert found.problems == []
    assert sorted(found.accounts) == ["alice@example.com", "bob@example.net"]
    assert found.sender_logins() == {
        "alice@example.com": "alice@example.com",
        "@example.com": "alice@example.com",
        "sales@example.net": "alice@example.com, bob@example.net",
        "bob@example.net": "bob@example.net",
    }


@pytest.mark.parametrize("senders", [None, []])
def test_an_account_without_senders_sends_as_itself(senders):
    entry = {"name": "alice@example.com", "password": HASH, "senders": senders}
    assert outgoing(accounts=[entry]).sender_logins() == {"alice@example.com": "alice@example.com"}


def test_an_account_is_of_the_site():
    problem = only_problem(accounts=[account("alice@example.org")])
    assert problem.startswith("gateway_accounts[0].name: alice@example.org is in example.org, which is not in gateway_domains; name the account by")
    assert outgoing(accounts=[account("alice@example.org")]).accounts == {}


@pytest.mark.parametrize("sender", ["sales@example.org", "@example.org", "sales@sub.example.com"])
def test_an_account_sends_only_for_the_site(sender):
    found = outgoing(accounts=[account("bob@example.com"), account("alice@example.com", "@example.net", sender)])
    assert [problem.partition(": ")[0] for problem in found.problems] == ["gateway_accounts[1].senders[1]"]
    assert "which is not in gateway_domains; an account sends for the site's own domains" in found.problems[0]
    assert sender not in found.sender_logins()


@pytest.mark.parametrize(
    ("entry", "variable"),
    [
        (account("alice"), "gateway_accounts[0].name"),
        (account("@example.com"), "gateway_accounts[0].name"),
        (account("alice bob@example.com"), "gateway_accounts[0].name"),
        (account("alice@example.com", "sales"), "gateway_accounts[0].senders[0]"),
        (account("alice@example.com", "sales@example.com", "a,b@example.com"), "gateway_accounts[0].senders[1]"),
    ],
)
def test_a_name_or_a_sender_that_is_no_address_is_a_mistake(entry, variable):
    assert only_problem(accounts=[entry]).startswith(f"{variable}: ")


def test_an_account_stands_in_the_list_once():
    problem = only_problem(accounts=[account("alice@example.com"), account("ALICE@example.com")])
    assert problem == "gateway_accounts[1].name: alice@example.com stands in the list twice; keep one of them"


# ---- the smarthost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "relayhost"),
    [
        ("[smtp.example.org]:587", "[smtp.example.org]:587"),
        ("[SMTP.Example.org]:25", "[smtp.example.org]"),
        ("example.org", "example.org"),
        ("[192.0.2.25]:587", "[192.0.2.25]:587"),
    ],
)
def test_the_smarthost_is_spoken_to_as_it_is_told(text, relayhost):
    found = outgoing(smarthost=text)
    assert found.problems == []
    assert found.relayhost() == relayhost
    assert found.policies == {relayhost: "secure"}
    assert outgoing(smarthost={"next_hop": text, "tls": "encrypt"}).policies == {relayhost: "encrypt"}


def test_a_smarthost_that_is_no_next_hop_is_a_mistake():
    assert only_problem(smarthost="smtp.example.org:submission").startswith("gateway_smarthost.next_hop: 'smtp.example.org:submission' is not a next hop")
    assert outgoing(smarthost="smtp.example.org:submission").relayhost() == ""


def test_port_465_is_no_port_for_a_smarthost():
    problem = only_problem(smarthost="[smtp.example.org]:465")
    assert problem.startswith("gateway_smarthost.next_hop: on port 465 TLS comes before SMTP")
    assert "name port 587" in problem


LOGIN = "gateway_smarthost: username and password go together"


@pytest.mark.parametrize(
    ("username", "password"),
    [("gateway", None), (None, SECRET), ("gate:way", SECRET), ("gate way", SECRET), ("gateway", SECRET + " x"), ("gateway", SECRET + "\n")],
)
def test_a_login_that_no_table_holds_is_a_mistake_without_the_password(username, password):
    problem = only_problem(smarthost={"next_hop": "[smtp.example.org]:587", "username": username, "password": password})
    assert problem.startswith(LOGIN)
    assert SECRET not in problem


@pytest.mark.parametrize(("username", "password"), [("gateway", SECRET), ("gateway@example.com", "a:b"), (None, None), ("", "")])
def test_a_login_that_a_table_holds_is_taken(username, password):
    assert outgoing(smarthost={"next_hop": "[smtp.example.org]:587", "username": username, "password": password}).problems == []


# ---- TLS ---------------------------------------------------------------------------------------------------------


def test_policies_stand_under_the_names_that_postfix_looks_up():
    policies = {
        "Example.ORG": "secure  match=.example.org",
        ".example.org": "dane-only",
        "[Mail.example.org]:25": "fingerprint match=AA:BB match=CC:DD",
        "[mail.example.org]:587": "encrypt",
        "[2001:DB8::0025]": "none",
    }
    found = outgoing(tls_policies=policies)
    assert found.problems == []
    assert found.policies == {
        "example.org": "secure match=.example.org",
        ".example.org": "dane-only",
        "[mail.example.org]": "fingerprint match=AA:BB match=CC:DD",
        "[mail.example.org]:587": "encrypt",
        "[2001:db8::25]": "none",
    }


def test_a_destination_may_be_asked_for_less_than_the_others():
    """The level for the world can be dane."""
    assert outgoing(tls_policies={"example.org": "may"}).policies == {"example.org": "may"}


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ({"example.org": "sercure"}, "gateway_tls_policies['example.org']: 'sercure' does not begin with a security level of Postfix: write one of none, may,"),
        ({"example.org": ""}, "gateway_tls_policies['example.org']: '' does not begin"),
        ({"example.org": "match=example.org secure"}, "gateway_tls_policies['example.org']: "),
        ({"example.org": None}, "gateway_tls_policies['example.org']: "),
        ({"example org": "secure"}, "gateway_tls_policies['example org']: 'example org' is not a next hop"),
        ({"192.0.2.25": "encrypt"}, "gateway_tls_policies['192.0.2.25']: '192.0.2.25' is an address without brackets"),
        ({".": "encrypt"}, "gateway_tls_policies['.']: '' is not a domain name"),
        ({"example.org": "may", "EXAMPLE.org:25": "may"}, "gateway_tls_policies['EXAMPLE.org:25']: example.org is there already in another spelling"),
    ],
)
def test_a_policy_that_cannot_be_is_a_mistake(policies, words):
    assert only_problem(tls_policies=policies).startswith(words)


@pytest.mark.parametrize("level", ["none", "encrypt", "secure"])
def test_a_next_hop_has_its_level(level):
    found = outgoing([domain("[Mail.inside.example.com]:25", level), domain("[192.0.2.25]:2525", name="example.net")])
    assert found.problems == []
    assert found.policies == {"[mail.inside.example.com]": level}


def test_certificates_are_for_names():
    problem = only_problem([domain("[192.0.2.25]", "secure")])
    assert problem.startswith("gateway_domains[0].next_hop_tls: [192.0.2.25] is an address, and certificates are for names")
    assert outgoing([domain("[192.0.2.25]", "encrypt")]).problems == []


@pytest.mark.parametrize(("first", "second"), [("encrypt", "secure"), ("secure", None), (None, "encrypt")])
def test_a_next_hop_of_two_domains_has_one_level(first, second):
    hops = ("[mail.inside.example.com]", "[MAIL.inside.example.com]:25")
    problem = only_problem([domain(hops[0], first), domain(hops[1], second, "example.net")])
    assert problem.startswith(f"gateway_domains[1].next_hop_tls: [mail.inside.example.com] has the level {first or 'may'} as well")
    assert outgoing([domain(hops[0], first), domain(hops[1], first, "example.net")]).problems == []


def test_a_next_hop_is_not_in_the_policies_with_another_level():
    hop = "[mail.inside.example.com]"
    problem = only_problem([domain(hop, "encrypt")], tls_policies={hop: "secure"})
    assert problem.startswith(f"gateway_domains[0].next_hop_tls: {hop} has the level secure as well")
    assert outgoing([domain(hop, "encrypt")], tls_policies={hop: "encrypt"}).problems == []


def test_a_next_hop_that_is_none_is_said_to_be_so_by_the_site_alone():
    assert outgoing([domain("mail inside", "secure")]).problems == []


# ---- DKIM --------------------------------------------------------------------------------------------------------


def test_domains_that_are_signed_for_are_canonical():
    found = outgoing(dkim_domains=["example.net", "Example.COM", "example.net"], dkim_selector="MX1-2026")
    assert found.problems == []
    assert (found.dkim_domains, found.dkim_selector) == (["example.com", "example.net"], "mx1-2026")


@pytest.mark.parametrize(
    ("name", "words"),
    [("example.org", "example.org is not in gateway_domains; only the site's own"), ("sub.example.com", "is not in gateway_domains"), ("com", "qualified")],
)
def test_only_domains_of_the_site_are_signed_for(name, words):
    problem = only_problem(dkim_domains=["example.com", name])
    assert problem.startswith("gateway_dkim_domains[1]: ")
    assert words in problem
    assert outgoing(dkim_domains=["example.com", name]).dkim_domains == ["example.com"]


@pytest.mark.parametrize("text", ["mx1", "2026", "a.b-c.d", "x" * 63])
def test_what_is_a_selector_is_taken(text):
    assert outgoing(dkim_selector=text).dkim_selector == text


@pytest.mark.parametrize("text", ["mx_1", "-mx1", "mx1-", "mx1.", ".mx1", "a..b", "mx 1", "../mx1", "mx1/x", "x" * 64, "mx1\n2", "é"])
def test_what_is_no_selector_is_refused(text):
    assert only_problem(dkim_selector=text).startswith(f"gateway_dkim_selector: '{text}' is not a selector")


def test_nothing_is_signed_where_nothing_is_to_be():
    found = outgoing(dkim_signing=False, dkim_domains=["example.com", "example.org"])
    assert (found.problems, found.dkim_domains) == ([], [])


def test_an_account_names_its_own_addresses_as_the_author_or_any():
    accounts = [account("Alice@example.com", "info@example.com", "@example.net"), account("bob@example.com") | {"any_from": True}]
    assert outgoing(accounts=accounts).authors() == {"alice@example.com": ["@example.net", "alice@example.com", "info@example.com"], "bob@example.com": None}


def test_an_account_that_is_not_there_names_nobody():
    accounts = [account("alice@example.org") | {"any_from": True}, account("bob@example.com")]
    assert outgoing(accounts=accounts).authors() == {"bob@example.com": ["bob@example.com"]}


# ---- forwarders --------------------------------------------------------------------------------------------------


def test_forwarders_are_networks():
    assert outgoing(forwarders=["192.0.2.25", "198.51.100.0/24", "2001:DB8::/32"]).forwarders == ["192.0.2.25/32", "198.51.100.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("192.0.2.25/24", "'192.0.2.25/24' has host bits set, which SpamAssassin refuses: write 192.0.2.0/24"),
        ("list.example.org", "'list.example.org' is not a network"),
        ("0.0.0.0/0", "0.0.0.0/0 is everybody; name the networks that are meant"),
        ("::/0", "::/0 is everybody"),
    ],
)
def test_a_forwarder_that_is_no_network_is_a_mistake(text, words):
    assert only_problem(forwarders=["198.51.100.0/24", text]).startswith(f"gateway_forwarders[1]: {words}")
    assert outgoing(forwarders=["198.51.100.0/24", text]).forwarders == ["198.51.100.0/24"]
