# SPDX-License-Identifier: GPL-3.0-or-later
"""Outbound mail, switched on and off under a gateway that goes on running: signing, records, a smarthost, certificates that are renewed."""

import base64
import contextlib
import re
import subprocess
from pathlib import Path

import dkim
import dns.exception
import dns.resolver
import pytest
from _faults import stopped, write
from _network import ALICE, BOB, STRANGER, TRUSTED, deliveries, gateway, inside, mailboxes, message, newcomer, outside, postconf, wait_for_journal, wait_until
from _playbook import refused, run

FRIEND = "friend@example.org"
DNS = "antispam.gateway.dns"
ACME = "/etc/letsencrypt/live/mx1.example.com"
INSIDE_CA = "/usr/local/share/inside-ca.pem"
HOP = "[mail.inside.example.com]"
ALL_ON = {
    "gateway_dkim_ed25519": True,
    "gateway_hide_internal_hops": True,
    "gateway_8bitmime": False,
    "gateway_tls_policies": {"bad.sts.example.org": "encrypt"},
    "gateway_dmarc_reject": True,
    "gateway_forwarders": ["198.18.90.0/24"],
    "gateway_protect_own_domains": True,
    "gateway_tls_acme_directory": ACME,
    "gateway_tls_ca_file": INSIDE_CA,
    "gateway_domains": [
        {"name": "example.com", "next_hop": HOP, "next_hop_tls": "secure"},
        {"name": "example.net", "next_hop": "[mail.inside.example.com]:25", "verify_recipients": True, "next_hop_tls": "secure"},
        {"name": "staff.example.com", "next_hop": HOP, "next_hop_tls": "secure"},
    ],
}
SMARTHOST = {"next_hop": "[mail.example.org]:587", "username": "relay", "password": "relay-secret"}
SIGNERS = ["amavis", "dkimpy_milter"]
# From fields of messages by sender@example.org.
SEVERAL_AUTHORS = {
    "two addresses": "From: sender@example.org, friend@example.org",
    "two fields": "From: sender@example.org\r\nFrom: friend@example.org",
    "a blank before the colon": "From: sender@example.org\r\nFROM : friend@example.org",
    "one address in two fields": "From: sender@example.org\r\nFrom: sender@example.org",
    "a group": "From: Us: Sender <sender@example.org>, friend@example.org;",
    "a comma in a comment and one outside": 'From: "Sender, Somebody" (a, b) <sender@example.org>,\r\n friend@example.org',
    "wrong": "From: <sender@example.org> <friend@example.org>",
}
ONE_AUTHOR = {
    "a comma and an address in the name": 'From: "Sender, Somebody a@b.example" (a, c@d.example) <sender@example.org>',
    "an address in place of the name": "From: sender@example.org <sender@example.org>",
    "the same address twice": "From: Sender <sender@example.org>, SENDER@example.org",
    "a group": "From: Us: sender@example.org;",
    "a name without quotation marks": "From: Sender, Somebody <sender@example.org>",
    "none": "X-From: sender@example.org, friend@example.org",
}


# --- The network around it --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def published(zone, *lines):
    """Records that stand in a zone of the name server for a while. The gateway's resolver has not asked for them before."""
    path = f"/etc/bind/zones/{zone}"
    before = outside().file(path).content_string
    try:
        write(path, before + "".join(f"{line}\n" for line in lines), name="ns.example.org")
        forget()
        yield
    finally:
        write(path, before, name="ns.example.org")
        forget()


def forget():
    """Let the name server read its zones, and the gateway's resolver ask again."""
    outside().check_output("systemctl restart named")
    wait_until(lambda: outside().run("dig +short @203.0.113.53 example.org SOA").stdout, "the name server")
    gateway().check_output("systemctl restart unbound")
    wait_until(lambda: gateway().run("getent ahostsv4 mail.example.org").rc == 0, "the resolver")


def renew(directory, name="mx1.example.com", key=None, options="-days 30"):
    """Have a certificate from an ACME client: the two files, one after the other. Returns its fingerprint."""
    new = f"{directory}/new"
    gateway().check_output(
        f"mkdir -p {new} && cd {new} && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -addext subjectAltName=DNS:{name}"
        f" {options} -keyout privkey.pem -out fullchain.pem 2>&1 && {f'cp {key} privkey.pem' if key else 'true'} && mv fullchain.pem .. && mv privkey.pem .."
    )
    return gateway().check_output(f"openssl x509 -noout -fingerprint -sha256 -in {directory}/fullchain.pem")


def shown():
    """The fingerprint of the certificate that a new client sees."""
    command = "openssl s_client -starttls smtp -connect 203.0.113.10:25 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    return outside().run(command).stdout.strip()


def printed(variables):
    """The records of keys that the playbook prints for publishing: {name: text of a zone file}."""
    said = run(playbook=DNS, variables=variables).said
    return dict(re.findall(r"([a-z0-9.-]+[.]_domainkey[.][a-z.]+)[.] TXT ((?:\"[^\"]*\" ?)+)", said))


@contextlib.contextmanager
def printed_is_published(selectors, variables=None):
    """Publish these records as they are printed."""
    found = {name: text for name, text in printed(variables or ALL_ON).items() if name.split("._domainkey.")[0] in selectors}
    assert found
    with contextlib.ExitStack() as stack:
        for zone in ("example.com", "example.net"):
            lines = [f"{name}. 1 TXT {text}" for name, text in found.items() if name.endswith(f"{zone}")]
            stack.enter_context(published(zone, *lines))
        yield


def verified(delivered):
    """The algorithms and domains of the signatures of a message that an independent verifier finds good."""
    raw = delivered.message.as_bytes()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = ["203.0.113.53"]

    def text(name, timeout=5):
        try:
            return b"".join(resolver.resolve(name.decode().rstrip("."), "TXT")[0].strings)
        except dns.exception.DNSException:
            return None

    good = []
    for index, header in enumerate(delivered.message.get_all("DKIM-Signature", [])):
        tags = dict(re.findall(r"([a-z]+)=([^;]*)", "".join(header.split())))
        if dkim.DKIM(raw).verify(idx=index, dnsfunc=text):
            good.append((tags["a"], tags["d"], tags["s"]))
    return good


def written(head, sender="sender@example.org"):
    """A message with these lines in place of its From."""
    text = bytes(message(sender=sender)).decode().replace("\r\n", "\n").replace("\n", "\r\n")
    return re.sub(r"^From:.*\r\n", lambda _found: f"{head}\r\n", text, count=1, flags=re.MULTILINE)


def dkim_record(key):
    """The record of a DKIM key, as a zone file has it."""
    command = ["openssl", "pkey", "-pubout", "-outform", "DER"]
    public = base64.b64encode(subprocess.run(command, input=key, stdout=subprocess.PIPE, check=True).stdout).decode()
    text = f"v=DKIM1; k=rsa; p={public}"
    return " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))


def arrived(client=TRUSTED, **arguments):
    record = client.converse(**{"recipients": [FRIEND], "content": message(sender=arguments.get("sender", ALICE), recipients=[FRIEND]), **arguments})
    assert record.answer == "250 2.0.0", record
    (delivered,) = deliveries(record.message_id)
    return delivered


# --- Everything on ----------------------------------------------------------------------------------------------------


@pytest.fixture(name="restored", scope="module", autouse=True)
def _restored(network):
    """The gateway is left with what the inventory says, and without keys in use: by then their records are gone."""
    yield
    gateway().check_output("rm -f /etc/amavis/dkim/*/signing")
    assert run().rc == 0
    assert arrived().message.get_all("DKIM-Signature", []) == []


@pytest.fixture(name="master", scope="module")
def _master(restored):
    return gateway().check_output("cat /var/spool/postfix/pid/master.pid").strip()


@pytest.fixture(name="on", scope="module")
def _on(master):
    """A gateway with everything switched on; its keys are there, and nothing of them is published."""
    # Keys of an earlier run may be published already.
    gateway().check_output("rm -rf /etc/amavis/dkim /etc/dkimpy-milter/keys")
    renew(ACME)
    write(INSIDE_CA, inside().check_output("cat /srv/tls/ca.pem"))
    result = run(variables=ALL_ON)
    assert result.rc == 0, result
    yield result


@pytest.fixture(name="signing", scope="module")
def _signing(on):
    """Its keys are published, and a second run has seen that."""
    with printed_is_published(("mx1", "mx1-ed25519")):
        result = run(variables=ALL_ON, roles=SIGNERS)
        assert result.rc == 0, result
        yield result


class TestOn:
    def test_nothing_was_restarted_that_holds_connections(self, on, master):
        assert gateway().check_output("cat /var/spool/postfix/pid/master.pid").strip() == master

    @pytest.mark.holds("S9")
    def test_an_unpublished_new_key_never_signs_and_the_run_says_so(self, on):
        assert "mx1._domainkey.example.com is not published, so no rsa key signs for example.com" in on.said
        assert arrived().message.get_all("DKIM-Signature", []) == []

    def test_no_private_key_is_shown(self, on):
        assert "PRIVATE KEY" not in on.output
        seed = gateway().check_output("cat /etc/dkimpy-milter/keys/mx1-ed25519.pem")
        assert seed not in on.output

    @pytest.mark.holds("D16")
    def test_mail_goes_on_to_a_next_hop_whose_certificate_is_verified(self, on, began):
        record = STRANGER.converse(recipients=[BOB])
        assert mailboxes(record.message_id) == [BOB]
        lines = wait_for_journal(began, "TLS connection established to mail.inside.example.com")
        assert all("Verified TLS connection" in line for line in lines)

    @pytest.mark.holds("S9", "D16")
    def test_a_policy_of_the_site_counts_more_than_that_of_the_domain(self, on):
        assert arrived(recipients=["somebody@bad.sts.example.org"]).mailbox == "all@bad.sts.example.org"

    @pytest.mark.holds("T9")
    def test_8bitmime_is_not_offered(self, on):
        assert "8BITMIME" not in STRANGER.converse(stop_after="helo").extensions

    @pytest.mark.holds("S9", "T8")
    @pytest.mark.parametrize("hop", ["pc.inside.example.com (pc [198.51.100.77])", "localhost (localhost [127.0.0.1])"])
    def test_how_a_message_got_here_from_inside_is_not_told(self, on, hop):
        headers = {"Received": f"from {hop} by mail.inside.example.com (Postfix); Thu, 1 Jan 2026 00:00:00 +0000"}
        received = " ".join(arrived(content=message(sender=ALICE, headers=headers)).message.get_all("Received"))
        assert "198.51.100." not in received
        assert "inside.example.com" not in received
        assert "mx1.example.com" in received

    def test_how_a_message_got_here_from_outside_is_told(self, on):
        record = STRANGER.converse()
        (delivered,) = deliveries(record.message_id)
        assert STRANGER.source_address in " ".join(delivered.message.get_all("Received"))

    @pytest.mark.holds("S8", "T31")
    def test_a_forged_message_is_refused_where_the_site_says_so(self, on):
        sender = "author@reject.example.org"
        record = newcomer().converse(sender=sender, content=message(sender=sender))
        assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0")
        assert mailboxes(record.message_id) == []

    def test_a_forged_message_is_refused_whatever_the_dns_owes_about_other_domains(self, on):
        author = "author@reject.example.org"
        # The reason for which this signature is no good has the word in it.
        quoted = b"DKIM-Signature: v=DNS; a=rsa-sha256; d=reject.example.org; s=test; h=from; bh=AAAA; b=AAAA\r\n"
        with published("example.net", "owing 1 A 203.0.113.20", 'owing 1 TXT "v=spf1 include:bogus.example.org -all"'):
            for sender, field in (("sender@owing.example.net", b""), (author, quoted)):
                assert newcomer().converse(sender=sender, content=field + bytes(message(sender=author))).answer == "554 5.7.0"

    def test_a_message_is_not_refused_while_the_dns_owes_an_answer_about_its_author(self, on):
        author = "author@owing.example.org"
        records = "owing 1 A 203.0.113.20", 'owing 1 TXT "v=spf1 include:bogus.example.org -all"', '_dmarc.owing 1 TXT "v=DMARC1; p=reject"'
        with published("example.org", *records):
            assert newcomer().converse(sender=author, content=message(sender=author)).answer == "250 2.0.0"

    @pytest.mark.holds("S8", "T38")
    @pytest.mark.parametrize(
        "sender, head",
        [
            (ALICE, f"From: {ALICE}"),
            ("sender@example.org", f'From: "Somebody" <{BOB}>'),
            ("sender@example.org", "From: bob@sub.staff.example.com"),
            (BOB, "From: sender@example.org"),
            ("", f"From: {BOB.upper()}"),
            ("sender@example.org", f"Received-SPF: pass (forged) identity=mailfrom\r\nFrom: {ALICE}"),
            ("sender@example.org", f"Authentication-Results: mx1.example.com; spf=pass smtp.mailfrom={ALICE}\r\nFrom: {ALICE}"),
        ],
        ids=["both", "from", "a name below", "envelope", "null sender", "forged spf", "forged results"],
    )
    def test_who_claims_a_domain_of_the_site_and_does_not_prove_it_is_refused(self, on, sender, head):
        record = STRANGER.converse(sender=sender, recipients=[BOB], content=written(head))
        assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0"), record
        assert re.search("claims to come from (staff[.])?example[.]com, which is served here, and neither SPF nor DKIM proves it", record.text), record
        assert mailboxes(record.message_id) == []

    @pytest.mark.holds("T38")
    @pytest.mark.parametrize("domain", ["example.com.example.org", "notexample.com"])
    def test_a_domain_of_others_with_a_similar_name_is_not_one_of_the_site(self, on, domain):
        assert STRANGER.converse(recipients=[BOB], content=written(f"From: somebody@{domain}")).answer == "250 2.0.0"

    @pytest.mark.holds("T38")
    def test_spf_proves_a_domain_of_the_site(self, on):
        records = 'news 1 TXT "v=spf1 ip4:203.0.113.20 -all"', "news 1 MX 10 mx1"
        with published("example.com", *records):
            sender = "letter@news.example.com"
            assert STRANGER.converse(sender=sender, content=written(f"From: {ALICE}")).answer == "250 2.0.0"
            assert newcomer().converse(sender=sender, content=written(f"From: {ALICE}")).answer == "554 5.7.0"

    @pytest.mark.holds("T38")
    def test_dkim_proves_a_domain_of_the_site(self, on):
        key = (Path(__file__).resolve().parents[1] / "gateway" / "files" / "test._domainkey.reject.example.org.pem").read_bytes()
        content = written(f"From: {ALICE}").encode()
        with published("example.com", f"test._domainkey.news 1 TXT {dkim_record(key)}"):
            signed = dkim.sign(content, b"test", b"news.example.com", key, include_headers=[b"from", b"subject"]) + content
            sender = "list@softly.example.org"
            assert newcomer().converse(sender=sender, content=signed).answer == "250 2.0.0"
            record = newcomer().converse(sender=sender, content=signed.replace(b"A message of", b"No message of"))
            assert "claims to come from example.com" in record.text

    @pytest.mark.holds("T38")
    def test_a_message_is_not_refused_while_the_dns_owes_an_answer_about_the_site(self, on):
        with published("example.com", "owing 1 A 203.0.113.20", 'owing 1 TXT "v=spf1 include:bogus.example.org -all"'):
            sender = "author@owing.example.com"
            assert newcomer().converse(sender=sender, content=written(f"From: {sender}")).answer == "250 2.0.0"

    @pytest.mark.holds("T38")
    @pytest.mark.parametrize("client", [TRUSTED, newcomer(90)], ids=["inside", "forwarder"])
    def test_who_is_trusted_to_send_in_the_name_of_the_site_proves_nothing(self, on, client):
        record = client.converse(sender=ALICE, recipients=[BOB], content=written(f"From: {ALICE}"))
        assert record.answer == "250 2.0.0"
        assert mailboxes(record.message_id) == [BOB]

    @pytest.mark.holds("S8", "T31")
    @pytest.mark.parametrize("head", SEVERAL_AUTHORS.values(), ids=SEVERAL_AUTHORS)
    def test_a_message_of_several_authors_is_refused(self, on, head):
        record = STRANGER.converse(content=written(head))
        assert (record.reply["step"], record.answer) == ("end_of_data", "554 5.7.0"), record
        assert "names more than one author" in record.text
        assert mailboxes(record.message_id) == []

    @pytest.mark.parametrize("head", ONE_AUTHOR.values(), ids=ONE_AUTHOR)
    def test_a_message_of_one_author_is_not_refused(self, on, head):
        assert STRANGER.converse(content=written(head)).answer == "250 2.0.0"

    @pytest.mark.parametrize("client", [TRUSTED, newcomer(90)], ids=["inside", "forwarder"])
    def test_several_authors_are_not_refused_where_dmarc_is_not_asked(self, on, client):
        assert client.converse(content=written(SEVERAL_AUTHORS["two addresses"])).answer == "250 2.0.0"

    def test_the_author_himself_is_not_refused(self, on):
        sender = "author@reject.example.org"
        assert STRANGER.converse(sender=sender, content=message(sender=sender)).answer == "250 2.0.0"

    @pytest.mark.holds("T31")
    def test_a_forwarder_is_not_refused_for_what_it_forwards(self, on):
        sender = "author@reject.example.org"
        record = newcomer(90).converse(sender=sender, content=message(sender=sender))
        assert record.answer == "250 2.0.0"
        (delivered,) = deliveries(record.message_id)
        assert "DMARC_REJECT" not in delivered.message["X-Spam-Status"]

    def test_a_domain_that_asks_for_nothing_is_not_refused(self, on):
        sender = "author@none.example.org"
        assert newcomer().converse(sender=sender, content=message(sender=sender)).answer == "250 2.0.0"


class TestSigning:
    @pytest.mark.holds("S9", "T11", "T32")
    def test_an_outgoing_message_verifies_with_both_keys_under_an_independent_verifier(self, signing):
        assert sorted(verified(arrived())) == [("ed25519-sha256", "example.com", "mx1-ed25519"), ("rsa-sha256", "example.com", "mx1")]

    @pytest.mark.holds("S9", "T34")
    def test_what_an_account_sends_is_signed_as_well(self, signing):
        delivered = arrived(STRANGER, port=587, tls="require", username=ALICE, password="alice-secret", sender=ALICE)
        assert [domain for _algorithm, domain, _selector in verified(delivered)] == ["example.com"] * 2

    def test_a_message_that_is_attached_stays_as_it_is(self, signing):
        content = message(sender=ALICE, recipients=[FRIEND])
        content.add_attachment(message(headers={"Received": "from spammer.example by mail.example.org"}))
        delivered = arrived(content=content)
        assert b"from spammer.example by mail.example.org" in delivered.message.as_bytes()
        assert len(verified(delivered)) == 2

    @pytest.mark.holds("T32")
    def test_while_dkimpy_milter_is_down_mail_goes_out_with_the_first_signature(self, signing):
        with stopped("dkimpy-milter"):
            assert verified(arrived()) == [("rsa-sha256", "example.com", "mx1")]

    def test_what_comes_from_outside_is_not_signed(self, signing):
        record = newcomer(90).converse(content=message(sender=ALICE))
        (delivered,) = deliveries(record.message_id)
        assert delivered.message.get_all("DKIM-Signature", []) == []

    def test_a_new_selector_does_not_sign_before_it_is_published_and_the_old_one_goes_on(self, signing):
        result = run(variables={**ALL_ON, "gateway_dkim_selector": "next"}, roles=["amavis"])
        assert result.rc == 0
        assert "next._domainkey.example.com is not published, so mx1 goes on signing for example.com" in result.said
        assert ("rsa-sha256", "example.com", "mx1") in verified(arrived())

    def test_a_new_selector_signs_once_it_is_published(self, signing):
        new = {**ALL_ON, "gateway_dkim_selector": "next"}
        with printed_is_published(("next",), new):
            assert run(variables=new, roles=["amavis"]).rc == 0
            assert ("rsa-sha256", "example.com", "next") in verified(arrived())
        # And back, which a published key may at once.
        assert run(variables=ALL_ON, roles=["amavis"]).rc == 0
        assert ("rsa-sha256", "example.com", "mx1") in verified(arrived())

    def test_a_failure_of_the_dns_takes_no_working_key_out_of_use(self, signing):
        # What the run needs besides is known to the resolver.
        gateway().check_output("getent ahosts mail.inside.example.com")
        outside().check_output("systemctl stop named")
        try:
            result = run(variables={**ALL_ON, "gateway_dkim_selector": "later", "gateway_dkim_domains": ["example.com"]}, roles=["amavis"])
        finally:
            forget()
        assert result.rc == 0
        assert "the DNS does not answer" in result.said
        assert "mx1 goes on signing for example.com" in result.said
        assert ("rsa-sha256", "example.com", "mx1") in verified(arrived())

    def test_the_records_are_compared_with_what_is_published(self, signing):
        result = run(playbook=DNS, variables=ALL_ON)
        assert result.rc == 0, result
        for name in ("mx1._domainkey.example.com. TXT", "example.com. MX 10 mx1.example.com.", 'example.com. TXT "v=spf1 mx -all"'):
            assert f"ok {name}" in result.said
        assert "missing _dmarc.example.com. TXT" in result.said

    def test_a_record_that_is_wrong_is_shown_and_fails(self, signing):
        with published("example.com", "_25._tcp.mx1 1 TLSA 3 1 1 " + "ab" * 32, '_dmarc 1 TXT "v=DMARC1; p=none"'):
            result = run(playbook=DNS, variables=ALL_ON)
        assert result.rc != 0
        assert "Published, and not right: _25._tcp.mx1.example.com TLSA." in result.said
        assert "ok _dmarc.example.com. TXT" in result.said


# --- Certificates -----------------------------------------------------------------------------------------------------


class TestRenewal:
    @pytest.mark.holds("D16")
    def test_a_renewed_certificate_is_picked_up_without_a_lost_connection(self, on, master):
        # One conversation goes on over it, and others begin meanwhile.
        slow = {"send": "NOOP\r\n", "chunk": 1, "pause": 0.5}
        client = STRANGER.begin(tls="never", script=["", "EHLO mail.example.org\r\n", slow, slow, slow, "NOOP\r\n", "QUIT\r\n"])
        fingerprint = renew(ACME)
        record = STRANGER.converse(tls="require", recipients=[BOB])
        wait_until(lambda: shown() == fingerprint, "the renewed certificate")
        assert STRANGER.finish(client).answers() == ["220", "250", *["250 2.0.0"] * 4, "221 2.0.0"]
        assert record.answer == "250 2.0.0"
        assert mailboxes(record.message_id) == [BOB]
        assert gateway().check_output("cat /var/spool/postfix/pid/master.pid").strip() == master

    @pytest.mark.parametrize(
        "broken, words",
        [
            ({"key": "/etc/amavis/dkim/example.com/mx1.pem"}, "does not belong to"),
            ({"name": "mx9.example.com"}, "is not for mx1.example.com"),
        ],
        ids=["another key", "another name"],
    )
    def test_a_renewal_that_went_wrong_does_not_reach_a_client(self, on, began, broken, words):
        before = shown()
        renew(ACME, **broken)
        wait_until(lambda: words in gateway().run("journalctl --quiet --unit gateway-certificate --lines 20").stdout, "the complaint")
        assert shown() == before
        fingerprint = renew(ACME)
        wait_until(lambda: shown() == fingerprint, "the renewed certificate")


# --- A smarthost ------------------------------------------------------------------------------------------------------


class TestSmarthost:
    @pytest.mark.holds("S9")
    def test_mail_for_the_world_goes_to_the_smarthost_with_a_login(self, on):
        result = run(variables={**ALL_ON, "gateway_smarthost": SMARTHOST})
        assert result.rc == 0, result
        assert "relay-secret" not in result.output
        received = " ".join(arrived().message.get_all("Received"))
        assert "(Authenticated sender: relay)" in received
        assert gateway().file("/etc/postfix/smarthost_password").mode == 0o600
        assert gateway().file("/etc/postfix/smarthost_password.lmdb").mode == 0o600

    def test_mail_for_the_site_does_not(self, on, began):
        record = STRANGER.converse(recipients=[BOB])
        assert mailboxes(record.message_id) == [BOB]
        assert "relay=mail.inside.example.com" in wait_for_journal(began, f"{record.queue_id}: to=<{BOB}>")[0]


# --- Bad input --------------------------------------------------------------------------------------------------------

OUTBOUND_MISTAKES = {
    "a smarthost that refuses the login": ({"gateway_smarthost": {**SMARTHOST, "password": "other-secret"}}, "refuses the login of relay", "other-secret"),
    "a password where a hash belongs": (
        {"gateway_accounts": [{"name": ALICE, "password": "correct horse battery staple"}]},
        "gateway_accounts[0].password: this is no password hash",
        "battery",
    ),
    "a domain to sign that is not ours": ({"gateway_dkim_domains": ["example.org"]}, "gateway_dkim_domains[0]: example.org is not in gateway_domains", None),
    "a next hop that takes less": (
        {"gateway_domains": [{"name": "example.com", "next_hop": "[mail.inside.example.com]:2525"}], "gateway_recipients": [ALICE]},
        "takes messages of 1000000 bytes",
        None,
    ),
    "an account of another domain": (
        {"gateway_accounts": [{"name": FRIEND, "password": "$6$salt$" + "x" * 86}]},
        "gateway_accounts[0].name: friend@example.org is in example.org, which is not in gateway_domains",
        None,
    ),
    "a proof that nobody asks for": (
        {"gateway_protect_own_domains": True, "gateway_sender_authentication": False},
        "gateway_protect_own_domains: with gateway_sender_authentication: false neither SPF nor DKIM is asked",
        None,
    ),
    "a key that cannot be read": (
        {"gateway_tls_certificate_file": "/etc/ssl/certs/ca-certificates.crt", "gateway_tls_key_file": "/no/such.key"},
        "gateway_tls_key_file: /no/such.key cannot be read",
        None,
    ),
}


@pytest.mark.parametrize("mistake", OUTBOUND_MISTAKES)
def test_a_mistake_is_named_before_anything_is_switched(mistake):
    variables, words, secret = OUTBOUND_MISTAKES[mistake]
    said = refused(variables)
    assert words in said
    assert not secret or secret not in said


@pytest.mark.parametrize(
    "options, words",
    [("-days 30", "is not for mx1.example.com"), ("-not_before 20200101000000Z -not_after 20200201000000Z", "has expired")],
    ids=["mismatched", "expired"],
)
def test_a_certificate_that_no_client_should_see_is_refused(options, words):
    directory = "/run/bad-certificate"
    renew(directory, name="mx1.example.com" if "not_after" in options else "mx9.example.com", options=options)
    assert words in refused({"gateway_tls_acme_directory": directory})


# --- And back ---------------------------------------------------------------------------------------------------------


class TestOffAgain:
    def test_what_is_not_wanted_any_more_goes(self, master):
        result = run()
        assert result.rc == 0, result
        host = gateway()
        assert not host.file("/etc/postfix/smarthost_password").exists
        assert not host.file("/etc/postfix/smarthost_password.lmdb").exists
        assert postconf("relayhost") == ""
        assert not host.service("dkimpy-milter").is_running
        assert host.check_output("cat /var/spool/postfix/pid/master.pid").strip() == master
        assert run("--check").changed == []

    def test_without_accounts_nobody_is_let_in(self):
        result = run(variables={"gateway_accounts": [], "gateway_mta_sts": False, "gateway_dkim_signing": False, "gateway_sender_authentication": False})
        assert result.rc == 0, result
        for port in (465, 587):
            record = STRANGER.converse(port=port, stop_after="connect", timeout=5, may_break_off=True)
            assert "connection refused" in record["error"]
        assert not gateway().service("dovecot").is_running
        assert not gateway().service("gateway-login-guard").is_running
        assert not gateway().service("postfwd").is_running
        assert not gateway().service("postfix-mta-sts-resolver").is_running

    def test_without_sender_authentication_nothing_is_counted(self):
        sender = "author@reject.example.org"
        record = newcomer().converse(sender=sender, content=message(sender=sender))
        (delivered,) = deliveries(record.message_id)
        assert not re.search("SPF_|DMARC_|DKIM_", delivered.message["X-Spam-Status"])
