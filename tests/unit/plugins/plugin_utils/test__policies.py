# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _policies, _schema, _site

HOP = "[mail.inside.example.com]"
OPTIONS = _schema.specs()["gateway_policies"]["options"]


def policies(*given, **arguments):
    """Each argument is the variable gateway_NAME."""
    defaults = {name: spec.get("default") for name, spec in _schema.specs().items()}
    more = {
        "hostname": "mx1.example.com",
        "domains": [{"name": name, "next_hop": HOP} for name in ("example.com", "example.net")],
        "recipients": ["@example.com", "@example.net"],
        "postmaster": "bob@example.com",
        **arguments,
    }
    variables = defaults | {"amavis_banned_extensions": ["exe", "zip"]} | {f"gateway_{name}": value for name, value in more.items()}
    whole = [{name: option.get("default") for name, option in OPTIONS.items()} | policy for policy in given]
    return _policies.Policies(_site.Site(variables), variables | {"gateway_policies": whole})


def test_what_a_policy_does_not_say_the_site_says():
    found = policies({"name": "plain", "domains": ["Example.NET"]}, spam_kill_level=7.5)
    assert found.problems == []
    assert found.members == {"example.net": "plain"}
    (plain,) = found.policies
    assert (plain["tag2_level"], plain["kill_level"], plain["refuse_encrypted"], plain["scores"]) == (5.0, 7.5, False, {})


def test_what_it_says_holds_for_its_own():
    given = {
        "spam_kill_level": 4,
        "spam_tag2_level": 3,
        "encrypted_content": "refuse",
        "allowed_senders": [".example.org"],
        "denied_senders": ["X@example.org"],
    }
    (found,) = policies({"name": "own", "recipients": ["bob@example.com"], "banned_extensions": ["zip"], **given}).policies
    assert (found["tag2_level"], found["kill_level"], found["refuse_encrypted"]) == (3, 4, True)
    assert found["scores"] == {".example.org": -100, "x@example.org": 100}
    assert [rule["endings"] for rule in found["attachment_rules"]] == [["zip"]]


def test_spam_that_is_not_refused_has_a_level_that_no_message_reaches():
    (found,) = policies({"name": "all", "domains": ["example.net"], "refuse_spam": False}).policies
    assert found["kill_level"] == _policies.NEVER


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"domains": []}, "gateway_policies[0]: it is for nobody; write domains, recipients or both"),
        ({"domains": ["example.org"]}, "gateway_policies[0].domains[0]: example.org is not in gateway_domains"),
        ({"recipients": ["bob@example.org"]}, "gateway_policies[0].recipients[0]: bob@example.org is not in gateway_domains"),
        ({"recipients": ["postmaster@example.com"]}, "gateway_policies[0].recipients[0]: postmaster@example.com goes with every policy"),
        ({"recipients": ["bob"]}, "gateway_policies[0].recipients[0]: "),
        ({"name": "a b"}, "gateway_policies[0].name: 'a b' is no name"),
        ({"spam_tag2_level": 9}, "gateway_policies[0]: spam_tag2_level 9 is above spam_kill_level 6.0"),
        ({"banned_extensions": ["*.exe"]}, "gateway_policies[0].banned_extensions[0]: '*.exe' is not the ending of a file name"),
        ({"denied_senders": ["."]}, "gateway_policies[0].denied_senders[0]: '.' is not one sender"),
        ({"denied_senders": ["@example.org"]}, "gateway_policies[0].denied_senders[0]: "),
        ({"allowed_senders": ["example.org"], "denied_senders": ["Example.org"]}, "gateway_policies[0].denied_senders[0]: example.org is there already"),
    ],
)
def test_a_policy_that_cannot_be(more, problem):
    (found,) = policies({"name": "one", "domains": ["example.net"], **more}).problems
    assert found.startswith(problem)


def test_two_policies_for_one_recipient_or_of_one_name():
    one, other = {"name": "one", "domains": ["example.net"]}, {"name": "other", "domains": ["example.net"]}
    assert policies(one, other).problems == ["gateway_policies[1].domains[0]: example.net is in the policy one as well; keep it in one of them"]
    assert policies(one, {"name": "one", "domains": ["example.com"]}).problems == [
        "gateway_policies: one stands there twice; give each policy a name of its own"
    ]
