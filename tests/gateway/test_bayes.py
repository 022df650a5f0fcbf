# SPDX-License-Identifier: GPL-3.0-or-later
"""Bayes: what the gateway has learned counts, and a store that is lost costs nothing but that."""

import re
import shlex

import pytest
from _faults import added, main_process, reload_amavis
from _network import BOB, STRANGER, TRUSTED, cursor, deliveries, gateway, message, wait_for_journal, wait_until

STORE = "/run/redis/amavis.sock"
SPAM = "lottery zebrafund unclaimed transfer quickcash beneficiary jackpotline offshore wirefee luckydraw"
HAM = "meeting budget roofing invoice colleagues wednesday drawings carpenter schedule concrete"
# Messages of each kind, each with words of its own beside those of its kind.
TEACHER = f"""
import os, random
random.seed(5)
for kind, words in (("spam", {SPAM!r}), ("ham", {HAM!r})):
    os.makedirs(f"/run/lessons/{{kind}}", exist_ok=True)
    for number in range(220):
        chosen = random.sample(words.split(), 8) + [f"w{{random.randrange(10**6)}}" for _ in range(5)]
        with open(f"/run/lessons/{{kind}}/{{number}}", "w") as file:
            file.write(f"Message-ID: <{{kind}}{{number}}@lessons.example.org>\\nFrom: a{{number}}@{{kind}}.example.org\\nTo: bob@example.com\\n"
                f"Date: Thu, 1 Jan 2026 00:00:{{number % 60:02}} +0000\\nSubject: {{chosen[0]}}\\n\\n" + " ".join(chosen) + "\\n")
"""


def redis(*words):
    return gateway().check_output(f"redis-cli -s {STORE} {shlex.join(words)}")


def as_amavis(command):
    return gateway().check_output(f"cd / && runuser -u amavis -- {command}")


def counts():
    """How many messages of spam and ham have been learned."""
    said = as_amavis("sa-learn --dump magic")
    return tuple(int(re.search(rf"(\d+)\s+\d+\s+non-token data: {name}\n", said + "\n")[1]) for name in ("nspam", "nham"))


@pytest.fixture(name="taught", scope="module")
def _taught(network):
    """A gateway that has learned 220 messages of each kind; afterwards it knows nothing."""
    redis("flushall")
    gateway().check_output("python3 -c %s && chmod -R a+rX /run/lessons", TEACHER)
    as_amavis("sa-learn --spam /run/lessons/spam")
    as_amavis("sa-learn --ham /run/lessons/ham")
    # A snapshot to come back to.
    redis("save")
    gateway().check_output("cp -p /var/lib/redis/dump.rdb /run/taught.rdb")
    reload_amavis()
    yield
    redis("flushall")
    gateway().check_output("rm -rf /run/lessons /run/taught.rdb")
    reload_amavis()


@pytest.fixture(name="stored")
def _stored(taught):
    """The store has what was taught."""
    gateway().check_output("systemctl stop redis-server && cp -p /run/taught.rdb /var/lib/redis/dump.rdb && systemctl start redis-server")
    wait_until(lambda: gateway().run(f"redis-cli -s {STORE} ping").stdout == "PONG\n", "redis")
    yield
    gateway().run("systemctl kill --signal=CONT redis-server; systemctl start redis-server")


@pytest.fixture(name="knows")
def _knows(stored):
    """The gateway knows what it was taught, and no worker has given the store up."""
    reload_amavis()


def send(text):
    return STRANGER.converse(recipients=[BOB], content=message(f"{text}\n", recipients=[BOB]))


def judged(text):
    """The rules that a message with this text hits, and its points."""
    record = send(text)
    assert record.answer == "250 2.0.0", record
    (delivered,) = deliveries(record.message_id)
    status = "".join(delivered.message["X-Spam-Status"].split())
    points = dict(re.findall(r"([A-Z][A-Z0-9_]+)=(-?[\d.]+)", status.partition("tests=[")[2]))
    return {name: float(value) for name, value in points.items()}


def bayes(rules):
    return [name for name in rules if name.startswith("BAYES_")]


def without_bayes():
    """How both kinds are judged now: no rule of Bayes, and the points of the set without it."""
    judgement = [judged(text) for text in (SPAM, HAM)]
    assert [bayes(rules) for rules in judgement] == [[], []]
    return judgement


@pytest.fixture(name="plain", scope="module")
def _plain(network):
    """How both kinds are judged before anything was learned."""
    redis("flushall")
    reload_amavis()
    return without_bayes()


def test_what_was_taught_counts(plain, knows):
    """What arrived before is refused, and what is like the mail of the site has points in its favour."""
    assert send(SPAM).answer == "554 5.7.0"
    assert bayes(judged(HAM)) == ["BAYES_00"]


def test_a_message_is_learned_once_and_the_other_way_where_it_was_wrong(stored):
    assert counts() == (220, 220)
    as_amavis("sa-learn --spam /run/lessons/spam")
    assert counts() == (220, 220)
    as_amavis("sa-learn --ham /run/lessons/spam/7")
    assert counts() == (219, 221)
    as_amavis("sa-learn --forget /run/lessons/spam/7")
    assert counts() == (219, 220)


def test_what_is_surely_ham_or_spam_is_learned_and_not_from_the_sites_own_hosts(taught):
    redis("flushall")
    with added("etc/spamassassin/zz_sure_points.cf"):
        for client in (TRUSTED, STRANGER):
            for word in ("surelyham", "surelyspam", "neither"):
                client.converse(recipients=[BOB], content=message(f"{word}\n", recipients=[BOB], headers={"Subject": word}))
            assert counts() == ((0, 0) if client is TRUSTED else (1, 1))


def test_the_store_listens_on_no_port_and_lets_nobody_else_in(stored):
    assert "redis" not in gateway().check_output("ss --no-header --listening --tcp --processes")
    assert gateway().run(f"runuser -u nobody -- redis-cli -s {STORE} ping").rc != 0
    assert as_amavis(f"redis-cli -s {STORE} ping") == "PONG"


def test_while_the_store_is_down_mail_is_judged_without_it(plain, knows):
    assert bayes(judged(HAM)) == ["BAYES_00"]
    began = cursor()
    gateway().check_output("systemctl stop redis-server")
    assert without_bayes() == plain
    assert wait_for_journal(began, "bayes: the store is not asked for 30 s")


def test_a_store_that_does_not_answer_holds_nobody(plain, knows):
    assert bayes(judged(HAM)) == ["BAYES_00"]
    gateway().check_output("systemctl kill --signal=STOP redis-server")
    assert without_bayes() == plain


def test_a_store_that_comes_back_counts_again(knows):
    pid = main_process("redis-server")
    gateway().check_output(f"kill -KILL {pid}")
    judged(HAM)
    wait_until(lambda: bayes(judged(HAM)) == ["BAYES_00"], "the store to be asked again", 60)


def test_a_store_that_was_emptied_under_a_worker_is_as_a_new_one(plain, knows):
    assert bayes(judged(HAM)) == ["BAYES_00"]
    redis("flushall")
    assert without_bayes() == plain
    as_amavis("sa-learn --spam /run/lessons/spam")
    assert counts() == (220, 0)


def test_a_store_of_another_version_is_not_used(plain, knows):
    redis("set", "v:DB_VERSION", "2")
    assert without_bayes() == plain


def test_what_is_kept_has_a_bound_and_the_counts_stay(stored):
    redis("config", "set", "maxmemory", "2mb")
    for name in ("more", "again"):
        gateway().check_output("python3 -c %s && chmod -R a+rX /run/lessons", TEACHER.replace("lessons", name).replace("seed(5)", f"seed('{name}')"))
        as_amavis(f"sa-learn --spam /run/{name}/spam")
        gateway().check_output(f"rm -r /run/{name}")
    assert counts()[1] == 220
    assert int(re.search(r"^used_memory:(\d+)", redis("info", "memory"), re.MULTILINE)[1]) < 2_500_000
    # Every word is forgotten some day.
    assert redis("eval", "for _, k in ipairs(redis.call('keys', 'w:*')) do if redis.call('ttl', k) < 0 then return k end end return 'none'", "0") == "none"
