# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import math

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _limits
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=300)

SIZE = 52428800
SIZES = ("reinjection_size_limit", "queue_minfree", "unpack_quota", "clamd_stream_size", "clamd_scan_size")
# A host that has room for everything.
BIG = {"cpus": 8, "memory": 32768, "message_size_limit": SIZE, "official_databases": True, "submission": False}


def derive(overrides=None, **changes):
    return _limits.derive(**{**BIG, **changes}, overrides=overrides)


def contradiction(overrides=None, **changes):
    with pytest.raises(_limits.Contradiction) as raised:
        derive(overrides, **changes)
    return str(raised.value)


def assert_consistent(limits):
    """What an administrator was promised, said again in words of one's own."""
    workers, smtpd = limits["workers"], limits["smtpd_processes"]
    # Who comes in on the two ports for submission waits for the same workers.
    waiting = smtpd + 2 * limits.get("submission_processes", 0)
    clamd = _limits.CLAMD_OFFICIAL_MIB if limits["official"] else _limits.CLAMD_CUSTOM_MIB
    clamd *= 1 + limits["clamd_concurrent_reload"]
    assert _limits.SYSTEM_MIB + clamd + _limits.WORKER_MIB * workers <= limits["memory_mib"]
    assert limits["scan_deadline"] < limits["child_timeout"] < limits["proxy_timeout"] < 600
    assert math.ceil(waiting / workers) * limits["usual_scan"] < limits["proxy_timeout"]
    assert limits["usual_scan"] <= limits["scan_deadline"]
    assert limits["postscreen_clients"] >= smtpd
    assert all(limits[name] >= 0 for name in ("connections_per_minute", "messages_per_minute", "recipients_per_minute", "logins_per_minute"))
    assert 1 <= limits["connections_per_client"] <= max(1, workers / 2)
    assert limits["message_size_limit"] < limits["reinjection_size_limit"]
    assert limits["queue_minfree"] >= 1.5 * limits["reinjection_size_limit"]
    for name in ("clamd_stream_size", "clamd_scan_size", "unpack_quota"):
        assert limits[name] >= limits["message_size_limit"]
    assert limits["clamd_stream_size"] >= limits["unpack_quota"]


def test_every_host_gets_a_set_that_holds_or_the_arithmetic():
    cpus = [*range(1, 10), 12, 16, 24, 32, 48, 64, 96, 128, 192, 255, 256]
    gib = [*range(1, 17), 24, 32, 48, 64, 96, 128, 256, 384, 511, 512]
    taken = refused = 0
    for cpu, memory, official, size, submission in itertools.product(cpus, gib, (True, False), (1, 1024 * 1024, SIZE, 1024**3), (True, False)):
        try:
            limits = _limits.derive(cpu, memory * 1024, size, official, {}, submission)
        except _limits.Contradiction as text:
            refused += 1
            assert "memory: 300 MiB for the system + " in str(text)
            assert f"but the host has {memory * 1024} MiB" in str(text)
        else:
            taken += 1
            assert_consistent({**limits, "official": official})
    assert taken > refused > 0


def test_a_host_with_1_gib_is_enough_without_the_official_databases_and_too_little_with_them():
    assert derive(cpus=1, memory=1024, official_databases=False)["workers"] == 3
    text = contradiction(cpus=1, memory=1024)
    assert "300 MiB for the system + 1300 MiB for clamd + 2 workers x 150 MiB = 1900 MiB, but the host has 1024 MiB" in text


def test_memory_is_enough_to_the_mebibyte():
    assert derive(memory=1900)["workers"] == 2
    assert "1900 MiB, but the host has 1899 MiB" in contradiction(memory=1899)
    assert derive(memory=700, official_databases=False)["workers"] == 2
    assert "700 MiB, but the host has 699 MiB" in contradiction(memory=699, official_databases=False)


@pytest.mark.parametrize(("cpus", "workers"), [(1, 3), (2, 5), (4, 10), (8, 20), (64, 20)])
def test_workers_follow_the_cpus_up_to_twenty(cpus, workers):
    limits = derive(cpus=cpus)
    assert limits["workers"] == workers
    assert limits["smtpd_processes"] == 4 * workers + 100
    assert limits["connections_per_client"] == workers // 2
    assert limits["messages_per_minute"] == 60 * workers
    assert limits["logins_per_minute"] == 30


def test_clients_that_send_nothing_are_held_as_far_as_the_memory_goes():
    memory = 300 + 2 * 1300 + 20 * 150
    assert derive(memory=memory + 360)["smtpd_processes"] == 180
    assert derive(memory=memory + 200)["smtpd_processes"] == 100
    assert derive(memory=memory)["smtpd_processes"] == 80


def test_no_more_smtpd_than_get_their_turn_before_the_proxy_times_out():
    assert derive({"workers": 1})["smtpd_processes"] == 59
    assert derive({"workers": 1, "usual_scan": 20})["smtpd_processes"] == 14


def test_each_port_for_submission_has_a_process_for_each_worker():
    with_accounts, without = derive(submission=True), derive()
    assert with_accounts["submission_processes"] == with_accounts["workers"] == 20
    assert "submission_processes" not in without
    del with_accounts["submission_processes"]
    assert with_accounts == without


def test_who_submits_waits_for_the_same_workers():
    assert derive({"workers": 1}, submission=True)["smtpd_processes"] == 59 - 2
    assert derive({"workers": 1, "submission_processes": 10}, submission=True)["smtpd_processes"] == 59 - 2 * 10
    # No smtpd less than one, however many submit.
    assert "worst wait" in contradiction({"workers": 1, "submission_processes": 30}, submission=True)


def test_processes_for_submission_count_only_where_there_is_submission():
    assert derive({"submission_processes": 5000}) == derive()
    text = contradiction({"submission_processes": 5000}, submission=True)
    rounds = math.ceil((1 + 2 * 5000) / 20)
    assert f"(smtpd_processes 1 + submission_processes 5000 x 2 ports) / workers 20 = {rounds} rounds x usual_scan 5 s = {5 * rounds} s" in text
    assert "submission_processes is 0: it must be above 0" in contradiction({"submission_processes": 0}, submission=True)


def test_workers_follow_the_memory_where_it_is_scarce():
    scarce = derive(memory=2500)
    assert scarce["workers"] == (2500 - 300 - 1300) // 150 < derive()["workers"]


def test_clamd_loads_aside_only_where_the_memory_holds_it_twice():
    assert derive(memory=3200)["clamd_concurrent_reload"] is True
    assert derive(memory=3199)["clamd_concurrent_reload"] is False
    assert "2600 MiB for clamd" in contradiction({"clamd_concurrent_reload": True}, memory=2400)
    # What is not needed twice is there for workers.
    assert derive({"clamd_concurrent_reload": False}, memory=3500)["workers"] > derive(memory=3500)["workers"]


def test_what_the_store_may_fill_is_not_there_for_workers():
    scarce = derive(memory=2500, store=64)
    assert scarce["workers"] == (2500 - 300 - 1300 - 64) // 150 == derive(memory=2436)["workers"] < derive(memory=2500)["workers"]
    assert derive(memory=3264, store=64)["clamd_concurrent_reload"] is True
    assert derive(memory=3263, store=64)["clamd_concurrent_reload"] is False
    # What is left is for SMTP server processes.
    assert derive({"workers": 2}, memory=2000, store=10)["smtpd_processes"] == derive({"workers": 2}, memory=2000)["smtpd_processes"] - 5
    assert derive({"workers": 20}, memory=6100, store=200)["workers"] == 20
    text = "300 MiB for the system + 2600 MiB for clamd + 201 MiB for what is learned + 20 workers x 150 MiB = 6101 MiB, but the host has 6100 MiB"
    assert text in contradiction({"workers": 20}, memory=6100, store=201)


def test_sizes_follow_the_message_size_as_the_role_says():
    mib = 1024 * 1024
    limits = derive(message_size_limit=10 * mib)
    assert {name: limits[name] / mib for name in SIZES} == {
        "reinjection_size_limit": 11,
        "queue_minfree": 300,
        "unpack_quota": 100,
        "clamd_stream_size": 100,
        "clamd_scan_size": 100,
    }
    limits = derive({"workers": 1}, message_size_limit=50 * mib)
    assert limits["queue_minfree"] / mib == 602
    assert limits["clamd_scan_size"] / mib == 200


def test_a_given_limit_is_taken_and_the_others_follow_it():
    limits = derive({"workers": 6})
    assert (limits["workers"], limits["smtpd_processes"], limits["connections_per_client"]) == (6, 124, 3)
    limits = derive({"message_size_limit": 1, "reinjection_size_limit": 3 * SIZE})
    assert limits["message_size_limit"] == SIZE
    assert limits["queue_minfree"] >= 1.5 * 3 * SIZE
    limits = derive({"unpack_quota": 2 * SIZE})
    assert limits["clamd_stream_size"] == 2 * SIZE
    assert derive()["queue_minfree"] - limits["queue_minfree"] == 8 * SIZE
    assert derive({"unpack_quota": SIZE})["clamd_stream_size"] == derive()["reinjection_size_limit"], "the message itself is scanned too"


def test_a_limit_without_a_value_is_derived():
    assert derive({"workers": None, "proxy_timeout": None}) == derive() == derive(None)


@pytest.mark.parametrize(
    ("overrides", "arithmetic"),
    [
        ({"workers": 300}, "300 workers x 150 MiB = "),
        ({"scan_deadline": 120}, "scan_deadline 120 s must be below child_timeout 120 s"),
        ({"child_timeout": 300}, "child_timeout 300 s must be below proxy_timeout 300 s"),
        ({"proxy_timeout": 600}, "proxy_timeout 600 s must be below the 600 s"),
        ({"smtpd_processes": 100, "usual_scan": 60}, "100 / workers 20 = 5 rounds x usual_scan 60 s = 300 s, which must be below proxy_timeout 300 s"),
        ({"smtpd_processes": 1181}, "1181 / workers 20 = 60 rounds x usual_scan 5 s = 300 s"),
        ({"usual_scan": 61}, "usual_scan 61 s must not be above scan_deadline 60 s"),
        ({"postscreen_clients": 179}, "postscreen_clients 179 must not be below smtpd_processes 180"),
        ({"messages_per_minute": -1}, "messages_per_minute is -1: it must be above 0, or 0 for no limit"),
        ({"logins_per_minute": -1}, "logins_per_minute is -1: it must be above 0, or 0 for no limit"),
        ({"connections_per_client": 11}, "connections_per_client 11 is more than half of the 20 workers"),
        ({"reinjection_size_limit": SIZE}, f"reinjection_size_limit {SIZE} must be above the message size limit {SIZE}"),
        ({"queue_minfree": 80216063}, "queue_minfree 80216063 must be at least 1.5 x reinjection_size_limit 53477376 = 80216064"),
        ({"clamd_stream_size": SIZE - 1}, f"clamd_stream_size {SIZE - 1} must not be below"),
        ({"clamd_scan_size": SIZE - 1}, f"clamd_scan_size {SIZE - 1} must not be below"),
        ({"unpack_quota": SIZE - 1}, f"unpack_quota {SIZE - 1} must not be below"),
        (
            {"clamd_stream_size": 3 * SIZE, "unpack_quota": 3 * SIZE + 1},
            f"clamd_stream_size {3 * SIZE} must not be below unpack_quota {3 * SIZE + 1}: a part that clamd does not take is deferred for ever",
        ),
        ({"workers": 0}, "workers is 0: it must be above 0"),
        ({"scan_deadline": -1}, "scan_deadline is -1: it must be above 0"),
    ],
)
def test_a_contradiction_comes_with_its_arithmetic(overrides, arithmetic):
    assert arithmetic in contradiction(overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {"scan_deadline": 119},
        {"smtpd_processes": 1180},
        {"usual_scan": 60},
        {"connections_per_minute": 0},
        {"smtpd_processes": 1},
        {"connections_per_client": 10},
        {"proxy_timeout": 599},
        {"reinjection_size_limit": SIZE + 1},
        {"queue_minfree": 80216064, "reinjection_size_limit": 53477376},
        {"clamd_stream_size": SIZE, "unpack_quota": SIZE},
        {"workers": 1},
    ],
)
def test_what_just_holds_is_taken(overrides):
    limits = derive(overrides)
    assert {name: limits[name] for name in overrides} == overrides
    assert_consistent({**limits, "official": True})


def test_every_contradiction_is_reported_at_once():
    text = contradiction({"scan_deadline": 200, "smtpd_processes": 2000, "connections_per_client": 20, "unpack_quota": 1})
    for name in ("scan_deadline", "worst wait", "connections_per_client", "unpack_quota"):
        assert name in text


def test_a_message_size_of_zero_is_refused():
    """For Postfix it means no limit at all."""
    assert "message_size_limit is 0" in contradiction(message_size_limit=0)


names = [
    *("workers", "smtpd_processes", "postscreen_clients", "connections_per_client"),
    *("connections_per_minute", "messages_per_minute", "recipients_per_minute", "logins_per_minute"),
    *("usual_scan", "scan_deadline", "child_timeout", "proxy_timeout"),
]
some_limits = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.integers(-1, 700) for name in names},
        **{name: st.integers(0, 20 * SIZE) for name in SIZES},
        "clamd_concurrent_reload": st.booleans(),
        "submission_processes": st.integers(-1, 700),
    },
)


@quick
@given(some_limits, st.integers(1, 256), st.integers(1, 512), st.booleans(), st.booleans())
def test_any_overrides_end_in_a_set_that_holds_or_in_a_refusal(overrides, cpus, gib, official, submission):
    try:
        limits = derive(overrides, cpus=cpus, memory=gib * 1024, official_databases=official, submission=submission)
    except _limits.Contradiction as text:
        assert any(character.isdigit() for character in str(text))
        return
    if not submission:
        overrides.pop("submission_processes", None)
    assert {name: limits[name] for name in overrides} == overrides
    assert_consistent({**limits, "official": official})
