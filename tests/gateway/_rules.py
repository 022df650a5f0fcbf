# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule channel of the test network: versions of it, signed or not, and what the gateway makes of them."""

from __future__ import annotations

import base64
import contextlib
import io
import tarfile

from _faults import FILES, reload_amavis, write
from _network import BOB, OUTSIDE, STRANGER, deliveries, gateway, message, outside, wait_until

CHANNEL = "rules.example.org"
SIGNER, ANOTHER_SIGNER = "rules.example.org.asc", "another_signer.asc"
UPDATE = "gateway-rule-channels"
STATE = "/var/lib/spamassassin/channels"
LOOK_UP = "perl -MNet::DNS -e 'print map { $_->txtdata } Net::DNS::Resolver->new->send(shift, q(TXT))->answer'"
ZONE = """$TTL 1
@        SOA ns.example.org. hostmaster.example.org. {version} 3600 600 86400 1
         NS  ns.example.org.
mirrors  TXT "http://ns.example.org/rules/MIRRORED.BY"
*.4      TXT "{version}"
"""


def archive(rules):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("rules.cf")
        member.size, member.mode = len(rules), 0o644
        tar.addfile(member, io.BytesIO(rules.encode()))
    return file.getvalue()


def signature(content, signer):
    """A detached signature, which gpg of the gateway makes with a key of tests/gateway/files."""
    host = gateway()
    ring = host.check_output("mktemp --directory")
    write(f"{ring}/key.asc", (FILES / signer).read_text(encoding="utf-8"))
    write(f"{ring}/content.b64", base64.b64encode(content).decode())
    gpg = f"gpg --batch --quiet --homedir={ring}"
    host.check_output(f"{gpg} --import {ring}/key.asc && base64 -d {ring}/content.b64 >{ring}/content")
    host.check_output(f"{gpg} --armor --detach-sign --output {ring}/signature {ring}/content")
    text = host.check_output(f"cat {ring}/signature; gpgconf --homedir {ring} --kill all; rm -r {ring}")
    return text + "\n"


def publish(version, rules, signer=SIGNER, signed=None):
    """Publish a version of the channel. signed: other content, whose signature it gets; signer: whose key signs, nobody's where it is None."""
    content = archive(rules)
    write("/tmp/rules.b64", base64.b64encode(content).decode(), OUTSIDE)
    outside().check_output(f"cd /srv/www/rules && base64 -d /tmp/rules.b64 >{version}.tar.gz && rm -f {version}.tar.gz.asc")
    if signer:
        write(f"/srv/www/rules/{version}.tar.gz.asc", signature(archive(signed) if signed else content, signer), OUTSIDE)
    write("/etc/bind/zones/rules.example.org", ZONE.format(version=version), OUTSIDE)
    outside().check_output("rndc reload rules.example.org")
    wait_until(lambda: gateway().run(f"{LOOK_UP} 1.0.4.{CHANNEL}").stdout == str(version), f"version {version} in the DNS")


@contextlib.contextmanager
def channel():
    """The channel, which has no version again afterwards, and the gateway no rule of it."""
    old = outside().check_output("cat /etc/bind/zones/rules.example.org")
    try:
        yield
    finally:
        write("/etc/bind/zones/rules.example.org", f"{old}\n", OUTSIDE)
        outside().check_output("rm -f /srv/www/rules/*.tar.gz*; systemctl restart named")
        gateway().check_output(f"rm -rf {STATE}")
        reload_amavis()


def rule(name, word, points=1.5):
    return f"body {name} /\\b{word}\\b/\ndescribe {name} A rule of the channel\nscore {name} {points}\n"


def hits(text, name):
    """Whether a rule counts for a message with this text, as its headers say."""
    record = STRANGER.converse(recipients=[BOB], content=message(f"{text}\n", recipients=[BOB]))
    assert record.answer == "250 2.0.0", record
    (delivered,) = deliveries(record.message_id)
    return name in delivered.message["X-Spam-Status"]
