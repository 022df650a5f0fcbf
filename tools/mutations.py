# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks promises on the gateway of the test network, one after the other, and sees whether the test of that name notices.

A test that passes although its promise is broken is a defect. First all of the tests have to pass on the gateway as it is. A broken file is copied
before, and put back whatever happens.
"""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SSH = ["ssh", "-F", str(ROOT / ".work/ssh_config"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "mx1.example.com"]
MAIN_CF, MASTER_CF = "/etc/postfix/main.cf", "/etc/postfix/master.cf"
USER = "/etc/amavis/conf.d/50-user"
SCORES = "/etc/amavis/sender_scores_sitewide"
KEPT = "/run/antispam-gateway-mutation"
# Seconds. None of the tests takes a third of it.
PATIENCE = 300


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A promise that is broken."""

    what: str
    break_it: str  # a command of the shell on the gateway
    files: tuple[str, ...]
    test: str  # below tests/gateway


def main_cf(*settings: str) -> tuple[str, tuple[str, ...]]:
    return f"postconf -e {' '.join(map(repr, settings))}", (MAIN_CF,)


def master_cf(*settings: str) -> tuple[str, tuple[str, ...]]:
    return f"postconf -P {' '.join(map(repr, settings))}", (MASTER_CF,)


def amavis(statement: str) -> tuple[str, tuple[str, ...]]:
    # What comes last counts, and a file of Perl ends with a true value.
    return f"printf '%s\\n1;\\n' '{statement}' >>{USER}", (USER,)


# One for each part of the gateway.
MUTATIONS = [
    Mutation("the list of banned names", *amavis("$banned_filename_re = undef;"), "test_attachments.py::test_a_banned_file_name_is_refused"),
    Mutation("sender scores", f": >{SCORES}", (SCORES,), "test_promise.py::test_a_sender_score_refuses_mail_that_would_arrive"),
    Mutation(
        "XFORWARD",
        *master_cf("127.0.0.1:10025/inet/smtpd_authorized_xforward_hosts="),
        "test_reinjection.py::test_the_log_of_accepted_mail_names_the_real_client",
    ),
    Mutation("speed_adjust", *master_cf("smtpd/pass/smtpd_proxy_options="), "test_limits.py::test_a_slow_client_takes_no_worker_while_it_sends"),
    Mutation(
        "the size limit behind the filter",
        *main_cf("message_size_limit=52428800"),
        "test_limits.py::test_a_message_just_as_large_as_allowed_arrives_though_its_headers_grow",
    ),
    Mutation(
        "the level from which spam is refused",
        *amavis("$sa_kill_level_deflt = 2000;"),
        "test_promise.py::test_gtube_is_refused_at_the_end_of_data_and_never_arrives",
    ),
    Mutation(
        "the test for early talkers",
        *main_cf("postscreen_greet_action=ignore"),
        "test_connection_filtering.py::test_an_early_talker_is_refused_by_postscreen_and_no_smtpd_is_started_for_it",
    ),
    Mutation(
        "DNS lists",
        *main_cf("postscreen_dnsbl_action=ignore"),
        "test_connection_filtering.py::test_a_listed_client_is_refused_with_the_name_of_the_list",
    ),
    Mutation("the table of recipients", *main_cf("relay_recipient_maps="), "test_recipients.py::test_an_unknown_user_is_refused_at_rcpt"),
    Mutation("TLS for clients", *main_cf("smtpd_tls_security_level=none"), "test_tls.py::test_mail_over_starttls_arrives_and_says_so"),
    Mutation(
        "whom an account may send as",
        *master_cf("submission/inet/smtpd_sender_restrictions=", "submissions/inet/smtpd_sender_restrictions="),
        "test_submission.py::test_a_stolen_login_cannot_send_as_another_sender",
    ),
    Mutation(
        "the count of guesses at an account",
        *master_cf("submission/inet/smtpd_sasl_path=private/auth", "submissions/inet/smtpd_sasl_path=private/auth"),
        "test_login_guard.py::test_many_addresses_have_so_many_guesses_at_one_account_and_its_owner_goes_on",
    ),
    Mutation("bare newlines", *main_cf("smtpd_forbid_bare_newline=no"), "test_smuggling.py::test_a_bare_newline_never_splits_a_message"),
    Mutation("the virus scanner", *amavis("@bypass_virus_checks_maps = (1);"), "test_promise.py::test_eicar_is_refused_at_the_end_of_data_and_never_arrives"),
    Mutation("relaying", *main_cf("mynetworks=0.0.0.0/0"), "test_relaying.py::test_relaying_from_outside_is_refused"),
    Mutation(
        "failing closed without clamd",
        *amavis("@av_scanners = ();"),
        "test_faults.py::test_without_clamd_every_message_is_deferred_and_none_arrives",
    ),
    Mutation("checks of HELO", *main_cf("smtpd_helo_restrictions="), "test_connection_filtering.py::test_a_greeting_with_no_host_name_or_with_ours_is_refused"),
    Mutation("mail for the postmaster", *main_cf("virtual_alias_maps="), "test_recipients.py::test_postmaster_and_abuse_are_reached"),
    Mutation(
        "results of DKIM",
        *amavis("$enable_dkim_verification = 0;"),
        "test_sender_authentication.py::test_the_result_of_a_signature_stands_under_the_gateways_name",
    ),
]


def on_gateway(command: str) -> None:
    done = subprocess.run([*SSH, command], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        sys.exit(f"mx1.example.com: {command.splitlines()[0][:100]} failed: {(done.stderr or done.stdout).strip()}")


def load(files: tuple[str, ...]) -> None:
    """Let the service load its files. amavis is restarted: a worker that is busy would go on with the old ones for a while."""
    on_gateway("systemctl restart amavis" if files[0].startswith("/etc/amavis/") else "systemctl reload postfix")


def tests(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", *(f"{ROOT}/tests/gateway/{name}" for name in names)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE * len(names), check=False)


def noticed(mutation: Mutation) -> str:
    """Break the promise and put it back; return '' if the test has noticed, else what happened."""
    copies = "; ".join(f"cp --archive --parents {file} {KEPT}" for file in mutation.files)
    on_gateway(f"rm -rf {KEPT}; mkdir {KEPT}; {copies}")
    try:
        on_gateway(mutation.break_it)
        load(mutation.files)
        done = tests(mutation.test)
    except subprocess.TimeoutExpired:
        return f"the test does not end within {PATIENCE} s"
    finally:
        on_gateway(f"cp --archive {KEPT}/etc /")
        load(mutation.files)
    if done.returncode == 1 and "FAILED " in done.stdout and "ERROR " not in done.stdout:
        return ""
    return "the test passes" if done.returncode == 0 else done.stdout[-2000:] + done.stderr[-500:]


def main() -> None:
    chosen = [mutation for mutation in MUTATIONS if all(word in mutation.what + mutation.test for word in sys.argv[1:])]
    if not chosen:
        sys.exit(f"no promise has {' '.join(sys.argv[1:])!r} in its name; these are there: {', '.join(each.what for each in MUTATIONS)}")
    print(f"{len(chosen)} tests on the gateway as it is", flush=True)
    done = tests(*(mutation.test for mutation in chosen))
    if done.returncode:
        sys.exit(f"they do not pass, so nothing is broken further:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    missed = 0
    for number, mutation in enumerate(chosen, 1):
        started = time.monotonic()
        problem = noticed(mutation)
        missed += bool(problem)
        print(
            f"{number:2} of {len(chosen)}  {'NOT noticed' if problem else 'noticed':12} {mutation.what:38} {mutation.test}  {time.monotonic() - started:.0f} s"
        )
        if problem:
            print(problem)
        sys.stdout.flush()
    print(f"{len(chosen) - missed} of {len(chosen)} broken promises were noticed by the test of that name")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
