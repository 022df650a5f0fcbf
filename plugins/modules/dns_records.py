#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_records
short_description: Says what a site should publish about its mail, and compares it with what is published
version_added: 0.1.0
description:
  - Derives the records of each domain (MX, SPF, DKIM, DMARC, MTA-STS, TLS-RPT) and of the gateway (TLSA), asks the resolver of the host for them, and
    says of each whether it is published, is missing, or is other than it must be.
  - It only reads. Who publishes a stricter or a longer record than the one that is printed has it right as well, as long as the record says the same
    of this gateway.
options:
  hostname:
    description: The name of the gateway.
    type: str
    required: true
  gateways:
    description: The names of all gateways of the site; a domain's MX records may name these and no others.
    type: list
    elements: str
    required: true
  domains:
    description: The domains.
    type: list
    elements: str
    required: true
  keys:
    description: The DKIM keys, as M(antispam.gateway.dkim_keys) returns them.
    type: list
    elements: dict
    default: []
  certificate:
    description: Path of the certificate that the gateway shows, in PEM format.
    type: path
    required: true
  reports_to:
    description: The address that DMARC and TLS reports are asked for.
    type: str
    required: true
  smarthost:
    description: Whether another server hands the mail to the world, so that SPF must name that one.
    type: bool
    default: false
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: The module only reads.
  diff_mode:
    support: none
    details: Nothing is changed; the differences are the result.
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: What is published, and what should be
  antispam.gateway.dns_records:
    hostname: mx1.example.com
    gateways: [mx1.example.com]
    domains: [example.com]
    certificate: /etc/postfix/tls/gateway.pem
    reports_to: postmaster@example.com
  register: records
"""

RETURN = r"""
records:
  description: One element a record.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
    type:
      description: The record's type.
      type: str
    wanted:
      description: The record to publish.
      type: str
    published:
      description: What is published there now.
      type: list
      elements: str
    state:
      description: V(ok), V(missing), V(differs), or V(unknown) where the DNS does not answer.
      type: str
    note:
      description: What is wrong, or what goes with the record.
      type: str
table:
  description: The same to be read, a list of lines.
  returned: success
  type: list
  elements: str
wrong:
  description: The names of the records that are published and differ.
  returned: success
  type: list
  elements: str
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.antispam.gateway.plugins.module_utils import _records

try:
    import spf as pyspf  # Debian's python3-spf
except ImportError:
    pyspf = None

# Seconds for the policy of MTA-STS.
TIMEOUT = 15

# Those of the module.
Options = Mapping[str, Any]


class Record(TypedDict):
    """One record, as RETURN describes it."""

    name: str
    type: str
    wanted: str
    published: list[str]
    state: str
    note: str


class Report:
    """What was found out, a record after the other."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, name: str, kind: str, wanted: str, judge: Callable[[list[str]], str], relevant: Callable[[str], bool] = lambda text: True) -> Record:
        """Look a record up. `judge` gets the relevant published texts and returns what is wrong with them, '' if nothing is; it may raise Unknown."""
        record = Record(name=name, type=kind, wanted=wanted, published=[], state="unknown", note="")
        try:
            record["published"] = [text for text in _records.lookup(name, kind) if relevant(text)]
            record["note"] = judge(record["published"]) if record["published"] else ""
        except _records.Unknown as error:
            record["note"] = str(error)
        else:
            record["state"] = "missing" if not record["published"] else "differs" if record["note"] else "ok"
        self.records.append(record)
        return record

    def table(self) -> list[str]:
        """Return the lines of a report to be read."""
        lines = []
        for record in self.records:
            lines.append(f"{record['state']:<8} {record['name']}. {record['type']} {record['wanted']}")
            if record["state"] == "differs":
                lines += [f"{'':<8}   published: {text}" for text in record["published"]]
            if record["note"]:
                lines.append(f"{'':<8}   {record['note']}")
        return lines


def quoted(text: str) -> str:
    """Return a TXT record as a zone file has it: strings of 255 octets at most (RFC 1035 section 3.3)."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))


def mx(report: Report, domain: str, options: Options) -> None:
    """The domain's mail comes here, and to no server that is not a gateway of the site (RFC 5321 section 5.1)."""
    ours = {name.rstrip(".").lower() + "." for name in options["gateways"]}

    def judge(published: list[str]) -> str:
        named = {text.split()[1].lower() for text in published}
        if options["hostname"] + "." not in named:
            return f"{options['hostname']} is not among them, so it gets no mail"
        others = sorted(named - ours)
        return f"mail that goes to {', '.join(others)} is not scanned here" if others else ""

    report.add(domain, "MX", f"10 {options['hostname']}.", judge)


def spf(report: Report, domain: str, options: Options) -> None:
    """This gateway may send in the name of the domain (RFC 7208)."""

    def judge(published: list[str]) -> str:
        if len(published) > 1:
            return "there must be one record with v=spf1, or none counts (RFC 7208 section 4.5)"
        words = published[0].lower().split()
        if {"+all", "all"} & set(words):
            return "it lets the whole world send in the name of the domain"
        if options["smarthost"]:
            return ""
        result, address = evaluate(domain, options)
        return f"mail of this gateway from {address} gets {result} by it" if result else ""

    note = "the smarthost hands the mail over: publish what its operator asks for" if options["smarthost"] else ""
    wanted = "v=spf1 include:(the smarthost's domain) -all" if options["smarthost"] else "v=spf1 mx -all"
    record = report.add(domain, "TXT", quoted(wanted), judge, lambda text: text.lower().split(" ")[0] == "v=spf1")
    record["note"] = record["note"] or note


def evaluate(domain: str, options: Options) -> tuple[str, str]:
    """Return (result, address) of SPF for the first address of the gateway that does not pass (RFC 7208 section 2.6); ('', '') if all do. Raises Unknown."""
    for kind in ("A", "AAAA"):
        for address in _records.lookup(options["hostname"], kind):
            result = pyspf.check2(i=address, s=f"postmaster@{domain}", h=options["hostname"])[0]
            if result == "temperror":
                raise _records.Unknown(f"the DNS does not answer what SPF asks it about {address}")
            if result != "pass":
                return result, address
    return "", ""


def dkim(report: Report, key: Mapping[str, Any]) -> None:
    """One key of a domain (RFC 6376), an element of the option keys."""
    if key["record"] is None:
        return

    wanted = _records.tags(key["record"])

    def judge(published: list[str]) -> str:
        if any(_records.tags(text).get("p") == wanted["p"] for text in published):
            return ""
        return "it is the record of another key; with it, signatures of this gateway would fail"

    record = report.add(key["name"], "TXT", quoted(key["record"]), judge, lambda text: "p" in _records.tags(text))
    if record["state"] == "ok" and key["signing"] != key["selector"]:
        record["note"] = "the next run of antispam.gateway.site signs with it"


def dmarc(report: Report, domain: str, options: Options) -> None:
    """The domain has a policy (RFC 7489)."""

    def judge(published: list[str]) -> str:
        if len(published) > 1:
            return "there must be one record with v=DMARC1, or none counts (RFC 7489 section 6.6.3)"
        return "" if _records.tags(published[0]).get("p") in ("none", "quarantine", "reject") else "it has no policy: p=none, p=quarantine or p=reject"

    wanted = f"v=DMARC1; p=none; rua=mailto:{options['reports_to']}"
    report.add(f"_dmarc.{domain}", "TXT", quoted(wanted), judge, lambda text: text.replace(" ", "").startswith("v=DMARC1"))


def mta_sts(report: Report, domain: str, options: Options) -> None:
    """The policy that a domain may have names this gateway (RFC 8461)."""
    lines = ["version: STSv1", "mode: enforce", *(f"mx: {name}" for name in options["gateways"]), "max_age: 604800"]
    number = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def judge(published: list[str]) -> str:
        url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        try:
            policy = open_url(url, timeout=TIMEOUT, follow_redirects="none").read(65536).decode("utf-8", "replace")
        except Exception as error:  # whatever keeps a sender from the policy
            return f"{url} cannot be had: {error}"
        patterns = [value.strip().lower() for name, _colon, value in (line.partition(":") for line in policy.splitlines()) if name.strip() == "mx"]
        name = options["hostname"]
        if name in patterns or f"*.{name.partition('.')[2]}" in patterns:
            return ""
        return f"{url} does not name {name}, so senders that keep to it do not deliver here"

    record = report.add(f"_mta-sts.{domain}", "TXT", quoted(f"v=STSv1; id={number}"), judge, lambda text: text.replace(" ", "").startswith("v=STSv1"))
    record["note"] = record["note"] or f"goes with https://mta-sts.{domain}/.well-known/mta-sts.txt: {' / '.join(lines)}"


def tls_rpt(report: Report, domain: str, options: Options) -> None:
    """Reports about TLS have an address to go to (RFC 8460)."""

    def judge(published: list[str]) -> str:
        return "" if _records.tags(published[0]).get("rua") else "it names no address (rua=)"

    wanted = f"v=TLSRPTv1; rua=mailto:{options['reports_to']}"
    report.add(f"_smtp._tls.{domain}", "TXT", quoted(wanted), judge, lambda text: text.replace(" ", "").startswith("v=TLSRPTv1"))


def tlsa(report: Report, module: AnsibleModule, options: Options) -> None:
    """The gateway's certificate has the key that is published (RFC 7672). Ends the module where there is no certificate."""
    rc, out, err = module.run_command(["openssl", "x509", "-noout", "-pubkey", "-in", options["certificate"]])
    if rc:
        module.fail_json(msg=f"{options['certificate']}: it holds no certificate that can be read ({err.strip()}); run antispam.gateway.site first")
    der = base64.b64decode("".join(line for line in out.splitlines() if not line.startswith("-----")))
    wanted = f"3 1 1 {hashlib.sha256(der).hexdigest()}"

    def judge(published: list[str]) -> str:
        # Records of other usages may be right too, and cannot be judged by the key alone.
        if wanted in published or not all(text.startswith("3 1 1 ") for text in published):
            return ""
        return "none of them is the key of this gateway, so senders that use DANE do not deliver here"

    record = report.add(f"_25._tcp.{options['hostname']}", "TLSA", wanted, judge)
    if record["state"] == "missing":
        record["note"] = "only in a signed zone; it has to change with the key"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "hostname": {"type": "str", "required": True},
            "gateways": {"type": "list", "elements": "str", "required": True},
            "domains": {"type": "list", "elements": "str", "required": True},
            "keys": {"type": "list", "elements": "dict", "default": [], "no_log": False},
            "certificate": {"type": "path", "required": True},
            "reports_to": {"type": "str", "required": True},
            "smarthost": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    if _records.missing_package() or not pyspf:
        module.fail_json(msg=f"install the packages {_records.PACKAGE} and python3-spf; antispam.gateway.site does that")
    report = Report()
    for domain in options["domains"]:
        mx(report, domain, options)
        spf(report, domain, options)
        for key in options["keys"]:
            if key["domain"] == domain:
                dkim(report, key)
        dmarc(report, domain, options)
        mta_sts(report, domain, options)
        tls_rpt(report, domain, options)
    tlsa(report, module, options)
    wrong = [f"{record['name']} {record['type']}" for record in report.records if record["state"] == "differs"]
    module.exit_json(changed=False, records=report.records, table=report.table(), wrong=wrong)


if __name__ == "__main__":
    main()
