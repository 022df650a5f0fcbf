# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one consistent set of limits of a gateway, derived from its CPUs and memory.

Private to antispam.gateway. Sizes are bytes, times are seconds, memory of the
host is MiB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MIB = 1024 * 1024

# One amavis worker with SpamAssassin's rules: about 150 MiB, much of it shared.
WORKER_MIB = 150
# clamd with the official databases, and without them.
CLAMD_OFFICIAL_MIB = 1300
CLAMD_CUSTOM_MIB = 100
# Debian, Postfix and the page cache that keeps them quick.
SYSTEM_MIB = 300
# One smtpd that waits for its client or for a worker.
SMTPD_MIB = 2
# Clients that may be connected and send nothing. Each takes an smtpd process, none a worker.
IDLE_CLIENTS = 100
# 465 and 587.
SUBMISSION_PORTS = 2
# One dnsblog, and how many DNS lists a site has: when they all are slow at once, a quarter of the memory is theirs.
DNSBLOG_MIB = 4
LISTS = 4
# RFC 5321 section 4.5.3.2.6: how long a client waits for the reply to the end of DATA.
CLIENT_TIMEOUT = 600
# What amavis, clamd and SpamAssassin add to a message's headers stays below this.
HEADER_HEADROOM = MIB


class Contradiction(ValueError):
    """A set of limits that cannot hold; the text carries the arithmetic."""


def derive(
    cpus: int,
    memory: int,
    message_size_limit: int,
    official_databases: bool,
    overrides: Mapping[str, int | None] | None,
    submission: bool = False,
    store: int = 0,
) -> dict[str, int]:
    """Return every limit, with the given ones in place of the derived, or raise Contradiction.

    memory is in MiB, message_size_limit in bytes; of the limits, clamd_concurrent_reload is a bool.
    With submission there are two more ports whose clients wait for the same workers. store: MiB that the host's own Redis server may fill.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    limits: dict[str, int] = {"cpus": cpus, "memory_mib": memory, "message_size_limit": message_size_limit}

    def limit(name: str, derived: int) -> int:
        limits[name] = given.get(name, derived)
        return limits[name]

    clamd = CLAMD_OFFICIAL_MIB if official_databases else CLAMD_CUSTOM_MIB
    reload_twice = limit("clamd_concurrent_reload", memory >= SYSTEM_MIB + store + 2 * clamd + 2 * WORKER_MIB)
    clamd *= 2 if reload_twice else 1
    others = SYSTEM_MIB + clamd + store
    room = max((memory - others) // WORKER_MIB, 0)
    # Two or three workers a CPU is where throughput stops growing; 20 is the recipe's.
    workers = limit("workers", max(2, min(20, math.ceil(cpus * 2.5), room)))
    limit("scan_deadline", 60)
    limit("child_timeout", 120)
    proxy = limit("proxy_timeout", 300)
    # Who waits longer for a worker than proxy_timeout is asked to come back.
    usual = limit("usual_scan", 5)
    spare = (memory - others - workers * WORKER_MIB) // SMTPD_MIB
    in_time = workers * max((proxy - 1) // max(usual, 1), 1)
    submitting = SUBMISSION_PORTS * limit("submission_processes", workers) if submission else 0
    in_time = max(in_time - submitting, 1)
    smtpd = limit("smtpd_processes", min(max(workers * 4, min(workers * 4 + IDLE_CLIENTS, spare)), in_time))
    # postscreen keeps them all in one process, but each list that a new client is looked up in takes a dnsblog process until it has answered.
    limit("postscreen_clients", max(smtpd, min(20 * smtpd, memory // (LISTS * DNSBLOG_MIB))))
    limit("connections_per_client", max(1, workers // 2))
    # Half of what the workers get done with two messages a second each.
    limit("connections_per_minute", 60 * workers)
    limit("messages_per_minute", 60 * workers)
    limit("recipients_per_minute", 600 * workers)
    # Who logs in sends a message; more than an office behind one address does is guessing.
    limit("logins_per_minute", 30)

    inner = limit("reinjection_size_limit", message_size_limit + HEADER_HEADROOM)
    unpacked = limit("unpack_quota", 10 * message_size_limit)
    # smtpd itself asks for 1.5 times the limit. Every worker may be holding a
    # message, and amavis defers one that has no room to unpack what it may.
    limit("queue_minfree", max(2 * inner, workers * message_size_limit) + unpacked)
    # clamd refuses to look at more, and amavis defers such a message for ever.
    limit("clamd_stream_size", max(inner, unpacked))
    limit("clamd_scan_size", max(4 * message_size_limit, 100 * MIB))

    _check(limits, clamd, submitting, store)
    return limits


def _check(limits: dict[str, int], clamd: int, submitting: int, store: int) -> None:
    """clamd, store: their memory in MiB; submitting: SMTP server processes on the ports for submission."""
    problems: list[str] = []
    workers, smtpd = limits["workers"], limits["smtpd_processes"]
    usual, scan, child, proxy = (limits[name] for name in ("usual_scan", "scan_deadline", "child_timeout", "proxy_timeout"))

    def need(holds: bool, text: str) -> None:
        if not holds:
            problems.append(text)

    for name, value in limits.items():
        if name.endswith("_per_minute"):
            need(value >= 0, f"{name} is {value}: it must be above 0, or 0 for no limit")
        elif not isinstance(value, bool):
            need(value > 0, f"{name} is {value}: it must be above 0")
    if problems:
        raise Contradiction("; ".join(problems))

    total = SYSTEM_MIB + clamd + store + workers * WORKER_MIB
    kept = f" + {store} MiB for what is learned" if store else ""
    need(
        total <= limits["memory_mib"],
        f"memory: {SYSTEM_MIB} MiB for the system + {clamd} MiB for clamd{kept} + {workers} workers x {WORKER_MIB} MiB"
        f" = {total} MiB, but the host has {limits['memory_mib']} MiB",
    )
    need(usual <= scan, f"usual_scan {usual} s must not be above scan_deadline {scan} s, where a scan is ended")
    need(scan < child, f"scan_deadline {scan} s must be below child_timeout {child} s, or amavis ends a scan before its own deadline")
    need(child < proxy, f"child_timeout {child} s must be below proxy_timeout {proxy} s, or a client gets 451 for a message that is delivered")
    need(proxy < CLIENT_TIMEOUT, f"proxy_timeout {proxy} s must be below the {CLIENT_TIMEOUT} s that a client waits (RFC 5321 4.5.3.2.6)")
    rounds = math.ceil((smtpd + submitting) / workers)
    waiting = f"smtpd_processes {smtpd}"
    if submitting:
        waiting = f"({waiting} + submission_processes {submitting // SUBMISSION_PORTS} x {SUBMISSION_PORTS} ports)"
    need(
        rounds * usual < proxy,
        f"worst wait: {waiting} / workers {workers} = {rounds} rounds x usual_scan {usual} s = {rounds * usual} s, which must be below proxy_timeout {proxy} s",
    )
    need(
        limits["postscreen_clients"] >= smtpd,
        f"postscreen_clients {limits['postscreen_clients']} must not be below smtpd_processes {smtpd}: clients would be turned away while there is room",
    )
    per_client = limits["connections_per_client"]
    need(
        workers == 1 or 2 * per_client <= workers,
        f"connections_per_client {per_client} is more than half of the {workers} workers: one client could hold them all",
    )
    size, inner = limits["message_size_limit"], limits["reinjection_size_limit"]
    need(inner > size, f"reinjection_size_limit {inner} must be above the message size limit {size}: headers grow in the filter")
    need(
        limits["queue_minfree"] >= 1.5 * inner,
        f"queue_minfree {limits['queue_minfree']} must be at least 1.5 x reinjection_size_limit {inner} = {int(1.5 * inner)}",
    )
    need(
        limits["clamd_stream_size"] >= limits["unpack_quota"],
        f"clamd_stream_size {limits['clamd_stream_size']} must not be below unpack_quota {limits['unpack_quota']}:"
        " a part that clamd does not take is deferred for ever",
    )
    for name in ("clamd_stream_size", "clamd_scan_size", "unpack_quota"):
        need(limits[name] >= size, f"{name} {limits[name]} must not be below the message size limit {size}: large mail would go unscanned")
    if problems:
        raise Contradiction("; ".join(problems))
