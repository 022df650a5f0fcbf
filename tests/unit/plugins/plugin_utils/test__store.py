# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _store


def store(redis=None, **variables):
    given = {"gateway_bayes": True, "gateway_pen_pals": True, **variables}
    return _store.Store({**given, "gateway_redis": {"tls": True, **redis} if redis else None})


def test_without_a_name_it_is_the_gateways_own():
    found = store()
    assert found.problems == [] and found.own and found.wanted
    assert found.facts()["address"] == found.facts()["name"] == "/run/redis/amavis.sock"


@pytest.mark.parametrize(
    ("server", "tls", "name", "address", "check"),
    [
        ("Redis.example.com:6379", True, "redis.example.com:6379", "/run/gateway-redis/redis.sock", "checkHost"),
        ("192.0.2.1:1", True, "192.0.2.1:1", "/run/gateway-redis/redis.sock", "checkIP"),
        ("[2001:DB8::1]:65535", False, "[2001:db8::1]:65535", "[2001:db8::1]:65535", "checkIP"),
        ("redis.example.com:6379", False, "redis.example.com:6379", "redis.example.com:6379", "checkHost"),
    ],
)
def test_a_server_is_named_by_host_and_port(server, tls, name, address, check):
    found = store({"server": server, "tls": tls, "password": "x;y=z"})
    assert found.problems == [] and not found.own
    facts = found.facts()
    assert (facts["name"], facts["address"], facts["check"], facts["tls"]) == (name, address, check, tls)
    assert "x;y=z" not in str(facts)


@pytest.mark.parametrize(
    ("redis", "more", "words"),
    [
        ({"server": "redis.example.com"}, {}, "gateway_redis.server: 'redis.example.com' is not a server and its port"),
        ({"server": "redis.example.com:0"}, {}, "gateway_redis.server: 'redis.example.com:0' is not a server and its port"),
        ({"server": "2001:db8::1:6379"}, {}, "gateway_redis.server: '2001:db8::1:6379' is not a server and its port"),
        ({"server": "redis:6379"}, {}, "gateway_redis.server: 'redis' is not fully qualified"),
        ({"server": "redis.example.com:6379", "password": "two\nlines"}, {}, "gateway_redis.password: it has white space or control characters"),
        ({"server": "redis.example.com:6379", "username": "mx1"}, {}, "gateway_redis.username: it has no password"),
        ({"server": "redis.example.com:6379"}, {"gateway_bayes": False, "gateway_pen_pals": False}, "gateway_redis: gateway_bayes and gateway_pen_pals are f"),
    ],
)
def test_a_mistake_is_one_sentence(redis, more, words):
    (found,) = store(redis, **more).problems
    assert found.startswith(words)


def test_the_first_gateway_of_those_that_share_a_store_reads_the_mailboxes():
    shared, other = {"server": "redis.example.com:6379"}, {"server": "other.example.com:6379"}
    stores = {"mx1": None, "mx2": other, "mx3": shared, "mx4": shared, "mx5": other}
    hostvars = {name: {"gateway_redis": given} for name, given in stores.items()}

    def reads(name):
        return _store.reads_mailboxes({"gateway_redis": stores[name]}, {"inventory_hostname": name, "hostvars": hostvars, "groups": {"gateways": list(stores)}})

    assert [name for name in stores if reads(name)] == ["mx1", "mx2", "mx3"]
    assert _store.reads_mailboxes({"gateway_redis": shared}, {})
