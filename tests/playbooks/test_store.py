# SPDX-License-Identifier: GPL-3.0-or-later
"""One memory for several gateways: a Redis server that the site names takes the place of the gateway's own, over TLS, and goes again."""

import json

import pytest
from _network import ALICE, BOB, STRANGER, TRUSTED, gateway, mailboxes, message, wait_until
from _playbook import run

NAME, PORT = "mx1.example.com", 6390
PASSWORD = "Kept-to-itself;17"
FRIEND = "author@softly.example.org"
# What a host beside the gateway would run. It is on the gateway itself, as a process of its own.
DIRECTORY = "/run/named-store"
CERTIFICATE = f"""
mkdir -p -m 755 {DIRECTORY} && cd {DIRECTORY}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out ca.pem -days 30 -subj /CN=store -addext subjectAltName=DNS:{NAME}
"""
OPTIONS = f"--port 0 --tls-port {PORT} --tls-cert-file {DIRECTORY}/ca.pem --tls-key-file {DIRECTORY}/key.pem --tls-ca-cert-file {DIRECTORY}/ca.pem"
SERVER = f"systemd-run --quiet --collect --unit=named-store redis-server {OPTIONS} --tls-auth-clients no --save '' --requirepass '{PASSWORD}'"
NAMED = {
    "gateway_redis": {"server": f"{NAME}:{PORT}", "password": PASSWORD},
    "gateway_tls_ca_file": f"{DIRECTORY}/ca.pem",
}


def named(words):
    return gateway().check_output(f"redis-cli --tls --cacert {DIRECTORY}/ca.pem -h {NAME} -p {PORT} --no-auth-warning -a '{PASSWORD}' {words}")


def own(words):
    return gateway().check_output(f"redis-cli -s /run/redis/amavis.sock {words}")


def learned():
    return json.loads(gateway().check_output("gateway-bayes --json status"))["spam"]


def is_active(unit):
    return gateway().run(f"systemctl is-active {unit}").stdout.strip() == "active"


def correspond():
    """Alice writes, is answered with a message of seven points, and has it, or not."""
    sent = message(sender=ALICE, recipients=[FRIEND])
    assert TRUSTED.converse(recipients=[FRIEND], content=sent).answer == "250 2.0.0"
    answer = message("This is worth seven points.\n", sender=FRIEND, headers={"In-Reply-To": sent["Message-ID"]})
    return STRANGER.converse(sender=FRIEND, recipients=[ALICE], content=answer).answer


@pytest.fixture(name="store", scope="module")
def _store(network):
    """A server that a site may name. Afterwards the gateway has its own again."""
    # redis-server is installed already; its own service is the gateway's.
    gateway().check_output(CERTIFICATE)
    gateway().check_output(SERVER)
    wait_until(lambda: gateway().run(f"ss --no-header --listening --tcp 'sport = :{PORT}'").stdout, "the named server")
    yield
    gateway().run("systemctl stop named-store")
    result = run()
    gateway().check_output(f"rm -rf {DIRECTORY}; gateway-bayes reset; redis-cli -s /run/redis/amavis.sock -n 1 flushdb")
    assert result.rc == 0, result


def test_a_named_server_takes_the_place_of_the_gateways_own_and_goes_again(store):
    gateway().check_output("gateway-bayes reset && printf 'Subject: kept\\n\\nan offer of old\\n' >/run/old && gateway-bayes learn --spam /run/old")
    assert learned() == 1

    switched = run("--diff", "-vvv", variables=NAMED)
    assert switched.rc == 0, switched
    assert PASSWORD not in switched.output
    assert (is_active("redis-server"), is_active("gateway-redis-tls")) == (False, True)
    assert gateway().check_output("stat -c '%U:%G %a' /etc/gateway-redis.login /etc/gateway-bayes.json").split("\n") == ["root:amavis 640"] * 2
    assert gateway().check_output(f"grep --recursive --files-with-matches --fixed-strings '{PASSWORD}' /etc | sort").split() == [
        "/etc/gateway-bayes.json",
        "/etc/gateway-redis.login",
    ]
    # What the named server holds is what counts, for the pen pals and for Bayes.
    assert correspond() == "250 2.0.0"
    assert named("-n 1 dbsize") == "2"
    assert learned() == 0
    gateway().check_output("gateway-bayes learn --spam /run/old")
    assert learned() == int(named("get v:NSPAM")) == 1
    again = run(variables=NAMED)
    assert (again.rc, again.changed) == (0, []), again

    back = run()
    assert back.rc == 0, back
    assert (is_active("redis-server"), is_active("gateway-redis-tls")) == (True, False)
    assert not gateway().file("/etc/gateway-redis.login").exists
    # What was learned before is still there.
    assert learned() == 1
    before = named("-n 1 dbsize")
    assert correspond() == "250 2.0.0"
    assert named("-n 1 dbsize") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gateway_redis": {"server": f"{NAME}:{PORT}", "password": "wrong"}}, "does not let this gateway in (WRONGPASS"),
        ({"gateway_redis": {"server": f"{NAME}:6391", "password": PASSWORD}}, "does not answer ([Errno 111] Connection refused)"),
        # Its certificate is no other's.
        ({"gateway_redis": {"server": f"203.0.113.10:{PORT}", "password": PASSWORD}}, "does not answer ([SSL: CERTIFICATE_VERIFY_FAILED]"),
    ],
    ids=["wrong password", "no server", "another certificate"],
)
def test_a_named_server_that_cannot_be_used_is_a_warning_and_mail_goes_on(store, changes, words):
    named("flushall")
    result = run(variables={**NAMED, **changes})
    assert result.rc == 0, result
    assert "gateway_redis.server: " in result.said and words in result.said, result
    assert PASSWORD not in result.output
    assert correspond() == "554 5.7.0"
    record = STRANGER.converse(recipients=[BOB])
    assert (record.answer, mailboxes(record.message_id)) == ("250 2.0.0", [BOB])
    assert named("dbsize") == "0"
