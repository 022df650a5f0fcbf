# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _schema, _site, _teaching

BOX = {"host": "imap.example.com", "port": 993, "starttls": False, "username": "alice", "password": "secret", "spam_folders": ["Junk"], "ham_folders": []}


def teaching(**arguments):
    """Each argument is the variable gateway_NAME."""
    defaults = {name: spec.get("default") for name, spec in _schema.specs().items()}
    given = {
        "hostname": "mx1.example.com",
        "domains": [{"name": "example.com", "next_hop": "[mail.inside.example.com]"}],
        "recipients": ["bob@example.com"],
        "postmaster": "bob@example.com",
        **arguments,
    }
    variables = defaults | {f"gateway_{name}": value for name, value in given.items()}
    return _teaching.Teaching(_site.Site(variables), variables)


def test_a_site_that_teaches_nothing_has_no_addresses():
    assert (teaching().addresses, teaching().problems) == ({}, [])


def test_the_addresses_of_both_classes():
    found = teaching(bayes_addresses={"spam": "Spam@Example.COM", "ham": "ham@example.com"}, bayes_mailboxes=[BOX])
    assert found.problems == []
    assert found.addresses == {"spam@example.com": "spam", "ham@example.com": "ham"}


@pytest.mark.parametrize(
    ("addresses", "more", "problem"),
    [
        ({"spam": "spam"}, {}, "gateway_bayes_addresses.spam: "),
        ({"spam": "spam@example.org"}, {}, "gateway_bayes_addresses.spam: spam@example.org is in example.org, which is not in gateway_domains"),
        ({"ham": "bob@example.com"}, {}, "gateway_bayes_addresses.ham: bob@example.com is in gateway_recipients"),
        ({"ham": "team@example.com"}, {"aliases": {"team@example.com": ["bob@example.com"]}}, "gateway_bayes_addresses.ham: team@example.com is in gateway_al"),
        ({"spam": "x@example.com", "ham": "x@example.com"}, {}, "gateway_bayes_addresses.ham: x@example.com is gateway_bayes_addresses.spam as well"),
        (
            {"spam": "x@example.com"},
            {"aliases": {"y@example.com": ["x@example.com"]}},
            "gateway_aliases['y@example.com']: x@example.com is in gateway_bayes_ad",
        ),
        ({"spam": "x@example.com"}, {"bayes": False}, "gateway_bayes_addresses: gateway_bayes is false, so nothing would be learned"),
    ],
)
def test_an_address_that_cannot_teach(addresses, more, problem):
    (found,) = teaching(bayes_addresses=addresses, **more).problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"host": "imap..example"}, "gateway_bayes_mailboxes[0].host: "),
        ({"port": 70000}, "gateway_bayes_mailboxes[0].port: 70000 is no port"),
        ({"spam_folders": []}, "gateway_bayes_mailboxes[0]: it names no folder"),
        ({"ham_folders": ["Junk"]}, "gateway_bayes_mailboxes[0]: the folder Junk stands there twice"),
    ],
)
def test_a_mailbox_that_cannot_be_read(more, problem):
    (found,) = teaching(bayes_mailboxes=[BOX | more]).problems
    assert found.startswith(problem)
    assert "secret" not in found
