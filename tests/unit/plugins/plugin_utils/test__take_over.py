# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of somebody else's would lose, each with the variable that keeps it."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _judge, _model, _schema, _shared, _take_over

NOTHING = {"postfix": None, "amavis": [], "spamassassin": [], "replaced": [], "in_force": []}


def model(**changes):
    given = {
        "inventory_hostname": "mx1.example.com",
        "gateway_domains": [{"name": "example.com", "next_hop": "[mail.example.com]"}, {"name": "open.example", "next_hop": "[mail.example.com]"}],
        "gateway_recipients": ["alice@example.com", "@open.example"],
        "gateway_postmaster": "alice@example.com",
        "gateway_trusted_networks": ["192.0.2.0/24"],
    }
    made = _model.derive(given | changes, lambda value: value)
    assert not made.problems
    return made


def postfix(**found):
    return NOTHING | {"postfix": {"parameters": {}, "services": {}, "relay_domains": [], "recipients": [], "recipients_count": 0} | found}


def findings(foreign, **changes):
    return _take_over.findings(model(**changes), foreign)


def test_nothing_of_somebody_elses_is_nothing_to_say():
    assert findings(NOTHING) == findings(postfix()) == []
    assert _judge.ownership(model(), {"foreign": NOTHING}, False) == []


@pytest.mark.parametrize(
    ("name", "value", "keeps"),
    [
        ("always_bcc", "archive@example.com", "postfix_main_cf['always_bcc'] keeps it"),
        ("message_size_limit", "104857600", "gateway_message_size_limit keeps it"),
        ("smtpd_milters", "inet:127.0.0.1:8891", "postfix_main_cf['smtpd_milters'] keeps it"),
        ("transport_maps", "hash:/etc/postfix/transport", "gateway_domains[].next_hop keeps it"),
        ("mynetworks", "127.0.0.0/8 198.51.100.0/24", "gateway_trusted_networks keeps it"),
        ("relayhost", "[smtp.example.org]", "gateway_smarthost keeps it"),
    ],
)
def test_a_parameter_is_named_with_the_variable_that_keeps_it(name, value, keeps):
    assert findings(postfix(parameters={name: value})) == [f"Postfix: main.cf has {name} = {value}, which would go; {keeps}"]


def test_a_content_filter_has_no_variable():
    assert findings(postfix(parameters={"content_filter": "smtp-amavis:[127.0.0.1]:10024"}))[0].endswith("which would go")


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("always_bcc", "archive@example.com", {"postfix_main_cf": {"always_bcc": "other@example.com"}}),
        ("message_size_limit", "104857600", {"gateway_message_size_limit": 104857600}),
        ("mynetworks", "127.0.0.0/8, 192.0.2.0/24", {}),
        ("mydestination", "", {}),
        ("relayhost", "[smtp.example.org]:587", {"gateway_smarthost": {"next_hop": "[smtp.example.org]:587"}}),
    ],
)
def test_what_the_inventory_says_is_no_finding(name, value, changes):
    assert findings(postfix(parameters={name: value}), **changes) == []


def test_services_of_master_cf_are_named():
    service = {"smtp-amavis/unix": "smtp -o x=1"}
    assert findings(postfix(services=service)) == [
        "Postfix: master.cf has the service smtp-amavis/unix (smtp -o x=1), which would go; postfix_master_cf['smtp-amavis/unix'] keeps it"
    ]
    assert findings(postfix(services=service), postfix_master_cf={"smtp-amavis/unix": None}) == []


def test_domains_and_recipients_that_the_inventory_lacks_are_named():
    found = postfix(
        relay_domains=["Example.com", "old.example"],
        recipients=["Alice@example.com", "bob@example.com", "x@open.example", "y@old.example"],
        recipients_count=4,
    )
    assert findings(found) == [
        "Postfix: the relay domain old.example would be refused; gateway_domains keeps it",
        "Postfix: the recipient bob@example.com would be refused; gateway_recipients keeps it",
    ]


def test_recipients_of_a_domain_that_a_source_feeds_are_not_judged():
    found = postfix(recipients=["bob@example.com"], recipients_count=1)
    assert findings(found, gateway_recipient_sources=[{"path": "users.txt"}]) == []


def test_many_are_counted():
    found = findings(postfix(recipients=[f"u{number}@example.com" for number in range(30)], recipients_count=40_000))
    assert len(found) == _take_over.NAMED + 2
    assert found[-2:] == ["Postfix: 20 more recipients would be refused", "Postfix: 40,000 recipients are listed, of which 30 were compared"]


def test_lines_of_amavis_and_spamassassin_are_named():
    found = NOTHING | {"amavis": ["$sa_kill_level_deflt = 8;", "$log_level = 3;"], "spamassassin": ["score MINE 3", "body MINE /x/"]}
    assert findings(found, amavis_parameters={"log_level": 3}) == [
        "amavis: 50-user has '$sa_kill_level_deflt = 8;', which would go; amavis_parameters or amavis_perl keeps it",
        "SpamAssassin: local.cf has 'score MINE 3', which would go; spamassassin_scores['MINE'] keeps it",
        "SpamAssassin: local.cf has 'body MINE /x/', which would go; spamassassin_rules keeps it",
    ]


def test_files_are_named():
    found = NOTHING | {"replaced": ["/etc/clamav/clamd.conf"], "in_force": ["/etc/spamassassin/99_mine.cf", "/etc/amavis/conf.d/60-mine"]}
    assert [text.partition("; ")[0] for text in findings(found)] == [
        "/etc/clamav/clamd.conf would be replaced",
        "/etc/spamassassin/99_mine.cf would stay in force, and no inventory has it",
        "/etc/amavis/conf.d/60-mine would stay in force, and no inventory has it",
    ]


def test_the_inventory_allows_it():
    foreign = postfix(parameters={"always_bcc": "archive@example.com"})
    first, *rest = _judge.ownership(model(), {"foreign": foreign}, False)
    assert first.startswith("gateway_take_over: somebody else has set up this host, and one thing would go or stay unowned")
    assert len(rest) == 1
    assert _judge.ownership(model(), {"foreign": foreign}, True) == []


@pytest.mark.parametrize("text", ["@lookup_sql_dsn = (['DBI:mysql:db', 'mail', 'hunter2']);", "user_scores_sql_password hunter2", "$my_secret = 'hunter2';"])
def test_a_password_is_not_shown(text):
    found = findings(NOTHING | {"amavis": [text], "spamassassin": [text]}) + findings(postfix(parameters={"x": f"pgsql:user:hunter2@host {text}"}))
    assert len(found) == 3
    assert "hunter2" not in " ".join(found)


def test_domains_that_the_site_does_not_take_mail_for_are_lost():
    assert _take_over.lost_domains(model(), postfix(relay_domains=["Example.com", "old.example"])) == ["old.example"]
    assert _take_over.lost_domains(model(), NOTHING) == []


def test_only_services_that_the_site_wants_are_looked_at():
    assert "/etc/default/postgrey" not in _take_over.files(model())
    assert "/etc/default/postgrey" in _take_over.files(model(gateway_greylisting=True))


def test_what_keeps_something_is_a_variable_of_the_collection():
    named = [*_take_over.KEPT_BY.values(), *_take_over.FILES.values(), *_shared.SHARED["postfix_main_cf"].values()]
    for text in filter(None, named):
        for word in text.replace(" or ", " and ").removesuffix(" and its like").split(" and "):
            assert word.partition("[")[0].partition(".")[0] in _schema.specs(), word
