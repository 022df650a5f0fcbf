# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter in front of SpamAssassin's rules changes no answer. tools/compare-rules asks it where SpamAssassin is: on the gateway."""

from __future__ import annotations

import re

import pytest
from _network import CHECKOUT, GATEWAY, gateway, start

TOOL = CHECKOUT / "tools" / "compare-rules"
PLUGIN = "/etc/spamassassin/rule_prefilter.pm"


def run(*arguments):
    """Run the tool on the gateway; returns its status and what it says."""
    process = start(GATEWAY, ["perl", "-", *arguments], TOOL.read_text(encoding="utf-8"))
    output, errors = process.communicate(timeout=180)
    return process.returncode, output + errors


@pytest.fixture(name="broken_plugin")
def _broken_plugin():
    """A copy of the filter that claims what is not so: that $ is nothing but the end of the text."""
    path = gateway().check_output("mktemp --suffix=.pm")
    gateway().check_output("sed 's/^sub line_end .*/sub line_end { q(\\\\z) }/' %s > %s", PLUGIN, path)
    yield path
    gateway().check_output("rm %s", path)


def test_messages_get_the_same_hits_and_scores_with_the_filter_and_without():
    status, said = run("--awkward", "--aimed", "1", "--config", "normalize_charset 0")
    assert status == 0, said
    messages, differ, filtered, hit = map(int, re.search(r"(\d+) messages, (\d+) differ; (\d+) rules filtered, (\d+) of them hit", said).groups())
    assert differ == 0
    assert messages > 50, said
    assert hit > 0.9 * filtered > 500, said


def test_what_perl_finds_is_let_through_by_the_filter():
    status, said = run("--expressions", "500", "--seed", "1")
    assert status == 0, said
    for kind in ("expressions of rules", "random expressions"):
        filtered, hits, missed = map(int, re.search(rf"\d+ {kind}, (\d+) filtered, (\d+) hits, (\d+) missed", said).groups())
        assert (filtered > 100, hits > 500, missed) == (True, True, 0), said


def test_a_filter_that_rules_out_too_much_is_noticed(broken_plugin):
    status, said = run("--expressions", "500", "--seed", "1", "--plugin", broken_plugin)
    assert status == 1, said
    assert "missed: random" in said


def test_the_filter_is_in_use():
    """amavis loads it, and lint has nothing to say about it."""
    done = gateway().run("spamassassin --lint --debug=plugin")
    assert done.rc == 0, done.stderr
    assert f"loading Mail::SpamAssassin::Plugin::RulePrefilter from {PLUGIN}" in done.stderr
    assert "prefilter: all rules are run" not in done.stderr


WITHOUT_RE2 = r"""
BEGIN { unshift @INC, sub { die "hidden\n" if $_[1] eq "re/engine/RE2.pm"; return } }
use Mail::SpamAssassin;
my $sa = Mail::SpamAssassin->new({local_tests_only => 1, post_config_text => "body T_HELLO /hello/\n"});
$sa->compile_now(0, 1);
print $sa->check_message_text("Subject: x\n\nhello\n")->get_names_of_tests_hit;
"""


def test_without_its_package_all_rules_are_run_and_one_line_says_so():
    done = gateway().run("perl -e %s", WITHOUT_RE2)
    assert done.rc == 0, done.stderr
    assert "T_HELLO" in done.stdout
    assert done.stderr.count("prefilter: all rules are run: RE2: hidden") == 1, done.stderr
