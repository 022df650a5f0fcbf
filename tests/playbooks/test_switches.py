# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of connection filtering, each switched off or on by its variable, under a gateway that goes on running."""

import pytest
from _faults import stopped
from _network import ALICE, STRANGER, TRUSTED, gateway, mailboxes, newcomer, postconf, wait_until
from _playbook import run

KEYS = ["test-key-of-a-customer", "4dd7c0ffee4dd7c0ffee"]
OFF = {
    "gateway_postscreen": False,
    "gateway_helo_checks": False,
    "gateway_own_resolver": False,
    "gateway_greylisting": True,
    "postgrey_delay": 2,
}
ZONES = [".", "113.0.203.in-addr.arpa", "100.51.198.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"]
OTHER_LISTS = {
    # Nobody answers for the list that is silent.
    "resolver_forward_zones": [{"name": name, "addresses": ["203.0.113.53"]} for name in ZONES]
    + [{"name": "silent.example.org", "addresses": ["203.0.113.61"]}],
    "gateway_dnsbl_lists": [
        {"domain": "bl.example.org", "answers": "127.0.0.[2..11]", "weight": 3},
        {"domain": "dead.example.org", "weight": 2},
        {"domain": "blocked.example.org", "weight": 2, "key": KEYS[1]},
        {"domain": "dq.example.org", "weight": 1, "key": KEYS[0]},
        {"domain": "silent.example.org", "weight": 2},
    ],
    "gateway_postscreen_deep_tests": True,
}


def main_process():
    return gateway().check_output("cat /var/spool/postfix/pid/master.pid").strip()


@pytest.fixture(name="master", scope="module")
def _master(network):
    return main_process()


@pytest.fixture(name="off", scope="module")
def _off(master):
    result = run(variables=OFF)
    assert result.rc == 0, result
    return result


class TestOff:
    @pytest.mark.usefixtures("off")
    @pytest.mark.parametrize("subnet", [1, 5], ids=["listed", "in a list with a key"])
    def test_without_postscreen_no_list_is_asked(self, subnet):
        record = newcomer(subnet).converse(stop_after="rcpt")
        assert len(record.replies[0]["lines"]) == 1
        assert record.answer == "450 4.2.0", "greylisted, and no more"

    @pytest.mark.usefixtures("off")
    def test_without_postscreen_the_denylist_still_holds(self):
        assert newcomer(6).converse(stop_after="rcpt").answer == "554 5.7.1"

    @pytest.mark.usefixtures("off")
    def test_without_the_checks_any_greeting_will_do(self):
        assert newcomer().converse(helo="mx1.example.com", stop_after="rcpt").answer == "450 4.2.0", "greylisted, and no more"

    @pytest.mark.usefixtures("off")
    def test_greylisting_puts_a_new_client_off_and_then_lets_it_in(self):
        client = newcomer()
        assert client.converse(stop_after="rcpt").answer == "450 4.2.0"
        wait_until(lambda: client.converse(stop_after="rcpt").answer == "250 2.1.5", "postgrey_delay to pass")
        record = client.converse()
        assert (record.answer, mailboxes(record.message_id)) == ("250 2.0.0", [ALICE])

    @pytest.mark.usefixtures("off")
    def test_an_unknown_recipient_is_refused_and_not_greylisted(self):
        assert newcomer().converse(recipients=["nobody@example.com"], stop_after="rcpt").answer == "550 5.1.1"

    @pytest.mark.usefixtures("off")
    def test_greylisting_concerns_no_trusted_host(self):
        assert TRUSTED.converse(stop_after="rcpt").answer == "250 2.1.5"

    @pytest.mark.usefixtures("off")
    def test_greylisting_concerns_nobody_in_the_allowlist(self):
        assert newcomer(7).converse(stop_after="rcpt").answer == "250 2.1.5"

    @pytest.mark.usefixtures("off")
    def test_while_postgrey_is_down_nobody_is_put_off(self):
        with stopped("postgrey"):
            assert newcomer().converse(stop_after="rcpt").answer == "250 2.1.5"

    @pytest.mark.usefixtures("off")
    def test_postfix_was_reloaded_not_restarted(self, master):
        assert main_process() == master


@pytest.fixture(name="other_lists", scope="module")
def _other_lists(network):
    result = run("--diff", "-vvv", variables=OTHER_LISTS)
    assert result.rc == 0, result
    return result


class TestLists:
    @pytest.mark.holds("T15")
    @pytest.mark.parametrize(
        "words",
        [
            "dead.example.org is left out: it lists 127.0.0.1, and so the world, with 127.0.0.2",
            "blocked.example.org is left out: its test point 127.0.0.2 is answered with 127.255.255.254",
            "silent.example.org gave no answer (",
            "bl.example.org has the weight 3, so it alone reaches gateway_dnsbl_threshold 3 and refuses a client",
        ],
        ids=["dead", "blocked", "silent", "a weight that is much"],
    )
    def test_a_list_that_cannot_be_used_or_that_is_silent_is_a_warning(self, other_lists, words):
        assert words in other_lists.said

    @pytest.mark.holds("T15")
    @pytest.mark.usefixtures("other_lists")
    def test_it_is_left_out(self):
        left = f"bl.example.org=127.0.0.[2..11]*3 {KEYS[0]}.dq.example.org=127.0.0.[2..254]*1 silent.example.org=127.0.0.[2..254]*2"
        assert postconf("postscreen_dnsbl_sites") == left
        assert newcomer(1).converse(stop_after="rcpt").answer == "550 5.7.1"

    @pytest.mark.holds("T33")
    def test_no_output_shows_a_key(self, other_lists):
        """The first stands in main.cf, before and after."""
        assert "dq.example.org" in other_lists.output
        assert not [key for key in KEYS if key in other_lists.output]

    @pytest.mark.usefixtures("other_lists")
    def test_the_host_asks_the_resolver_of_the_site(self):
        result = run(variables={**OTHER_LISTS, "gateway_nameservers": ["203.0.113.53"]})
        assert result.rc == 0, result
        assert gateway().check_output("grep ^nameserver /etc/resolv.conf") == "nameserver 203.0.113.53"

    @pytest.mark.holds("T14")
    @pytest.mark.usefixtures("other_lists")
    def test_deep_tests_ask_a_new_client_to_come_back(self):
        client = newcomer()
        assert client.converse(stop_after="rcpt").answer == "450 4.3.2"
        assert client.converse(stop_after="rcpt").answer == "250 2.1.5"


@pytest.fixture(name="checked", scope="module")
def _checked(network):
    """In check mode, because there is no root but that of the test network."""
    result = run("--check", "--diff", variables={"resolver_forward_zones": [], "gateway_dnsbl": False})
    assert result.rc == 0, result
    return result


class TestCheck:
    @pytest.mark.holds("T15")
    def test_unbound_takes_the_configuration_of_a_gateway_that_starts_at_the_root(self, checked):
        assert "unbound.service" in checked.switched
        assert "auto-trust-anchor-file" in checked.output

    def test_a_site_may_do_without_dns_lists(self, checked):
        assert {"postfix.service", "postfix@-.service"} & checked.switched.keys()
        assert "postscreen_dnsbl_allowlist_threshold = 0" in checked.output


class TestBack:
    def test_everything_is_as_it_was(self, master):
        result = run()
        assert result.rc == 0, result
        assert newcomer(1).converse(stop_after="rcpt").answer == "550 5.7.1"
        assert newcomer(5).converse(stop_after="rcpt").answer == "550 5.7.1"
        assert STRANGER.converse(helo="mx1.example.com", stop_after="rcpt").answer == "550 5.7.1"
        assert newcomer().converse(stop_after="rcpt").answer == "250 2.1.5"
        assert gateway().run("systemctl is-active postgrey").stdout.strip() == "inactive"
        assert gateway().check_output("grep ^nameserver /etc/resolv.conf") == "nameserver 127.0.0.1"
        assert main_process() == master
