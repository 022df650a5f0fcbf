# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: prove_report
short_description: Compares SMTP conversations with what was promised
version_added: 0.1.0
description:
  - Makes the table that the playbook C(antispam.gateway.prove) shows, and names the rows that are not as promised.
options:
  _input:
    description:
      - Results of M(antispam.gateway.smtp_conversation) in a loop. The item of each is a dictionary with C(what), the name of its
        row, and C(promise), the reply that is promised (C(step), C(code), C(enhanced_code) and C(text), which must be a part of it
        in any case of letters).
      - C(not_applicable) in an item is the reason why its conversation was skipped.
      - C(trusted_may) in an item says that a trusted client is accepted where others get what was promised.
      - C(known_may) in an item says so of a client that postscreen(8) did not test, because it is trusted or has passed before.
        A test shows in a greeting of more than one line.
    type: list
    elements: dict
    required: true
  followed:
    description:
      - The result of M(antispam.gateway.delivery_status) for the clean message, which becomes a row of its own. Where the task was skipped there is none;
        where it could not see the message, the row says so.
    type: dict
  puts_off:
    description: Whether the gateway asks new clients to come back (450 4.2.0, 450 4.3.2), so that a row may say nothing this time.
    type: bool
    default: false
  trusted_networks:
    description: Networks whose hosts are trusted by the gateway. Its own loopback addresses always are.
    type: list
    elements: str
    default: []
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: What the gateway answered
  ansible.builtin.debug:
    msg: "{{ (conversations.results | antispam.gateway.prove_report(trusted_networks=['198.51.100.0/24'])).table }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    table:
      description: The table, one text a line.
      type: list
      elements: str
    not_ok:
      description: Names of the rows that are not as promised.
      type: list
      elements: str
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.antispam.gateway.plugins.module_utils._addresses import Network

HEADINGS = ("VERDICT", "SECONDS", "WHAT WAS SENT", "WHAT THE GATEWAY ANSWERED")
AT = {"connect": "connect", "helo": "EHLO", "starttls": "STARTTLS", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "end_of_data": "the end of DATA"}

# As the module smtp_conversation returns it: a dictionary for each.
Result = Mapping[str, Any]
Reply = Mapping[str, Any]
# Step, code, enhanced_code and text of the reply that is promised.
Promise = Mapping[str, Any]


def prove_report(
    results: Sequence[Result], trusted_networks: Iterable[object] = (), puts_off: bool = False, followed: Result | None = None
) -> dict[str, list[str]]:
    """Return the report that RETURN describes; AnsibleFilterError says which of the networks is none."""
    try:
        trusted = [ipaddress.ip_network(str(each).replace("[", "").replace("]", ""), strict=False) for each in trusted_networks]
    except ValueError as error:
        raise AnsibleFilterError(f"prove_report: trusted_networks: {error}") from error
    rows = [_row(each["item"], each, trusted, puts_off) for each in results]
    if followed and not followed.get("skipped"):
        rows.append(_followed(followed))
    return {"table": _table(_title(results), rows), "not_ok": [row["what"] for row in rows if row["verdict"] == "NOT OK"]}


def _row(case: Mapping[str, Any], result: Result, trusted: Sequence[Network], puts_off: bool) -> dict[str, Any]:
    """Return what, verdict, seconds, answer and promised of one conversation; `case` is its item."""
    row: dict[str, Any] = {"what": case["what"], "verdict": "NOT OK", "seconds": None, "answer": "", "promised": _promise(case["promise"])}
    if result.get("skipped"):
        return dict(row, verdict="not applicable", answer=case.get("not_applicable", "skipped"))
    if not result.get("verdict"):
        return dict(row, answer=result.get("msg", "no answer"))
    reply = _reply(case["promise"], result)
    row.update(seconds=reply["seconds"], answer=_one_line(reply))
    if reply["step"] == "starttls" and result["tls"]:
        row["answer"] += f" ({result['tls']['protocol']})"
    if _is_promised(case["promise"], reply):
        return dict(row, verdict="ok")
    if case.get("trusted_may") and result["verdict"] == "accepted" and _is_trusted(result["local_address"], trusted):
        return dict(row, verdict="not applicable", answer=f"{row['answer']} (trusted: {result['local_address']} may)")
    if puts_off and (reply["code"], reply["enhanced_code"]) in ((450, "4.2.0"), (450, "4.3.2")):
        return dict(row, verdict="not applicable", answer=f"{row['answer']} (a new client: ask again in some minutes)")
    if case.get("known_may") and result["verdict"] == "accepted" and result["replies"][0]["lines"][0][3:4] != "-":
        return dict(row, verdict="not applicable", answer=f"{row['answer']} (known: {result['local_address']} was not tested again)")
    return row


def _followed(result: Result) -> dict[str, Any]:
    """Return the row of the clean message on its way to the next hop."""
    row: dict[str, Any] = {"what": "clean mail, on its way", "verdict": "not seen", "seconds": None, "promised": "the next hop has it (status=sent)"}
    if not result.get("seen"):
        why = result.get("msg") or "the journal of the gateway does not show it"
        return dict(row, answer=f"this needs a login that may read the journal of the gateway ({' '.join(str(why).split())})")
    each = [f"{one['status']}, {one['relay']}: {one['text']}" for one in result["deliveries"]]
    return dict(row, verdict="ok" if result["sent"] else "NOT OK", answer="; ".join(each) or "it is still in the queue, and no delivery was tried")


def _reply(promise: Promise, result: Result) -> Reply:
    """Return the reply at the promised step; if the conversation did not get there, the one that decided it."""
    at_step: list[Reply] = [each for each in result["replies"] if each["step"] == promise["step"]]
    return (at_step or [result["reply"]])[-1]


def _is_promised(promise: Promise, reply: Reply) -> bool:
    return all(reply[key] == promise[key] for key in ("step", "code", "enhanced_code")) and promise.get("text", "").lower() in reply["text"].lower()


def _is_trusted(address: str, networks: Iterable[Network]) -> bool:
    client = ipaddress.ip_address(address)
    return client.is_loopback or any(client in network for network in networks)


def _promise(promise: Promise) -> str:
    text = f" with '{promise['text']}'" if promise.get("text") else ""
    return f"{promise['code']} {promise['enhanced_code']}{text} at {AT[promise['step']]}"


def _one_line(reply: Reply) -> str:
    words = [str(reply["code"]), reply["enhanced_code"] or "", reply["text"]]
    return " ".join(" ".join(words).split())


def _title(results: Iterable[Result]) -> list[str]:
    held = [each for each in results if each.get("local_address")]
    if not held:
        return []
    return ["{host} ({peer_address} port {port}), asked from {local_address}".format(**held[0])]


def _table(title: list[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines. The longest column is the last one, so that the others stand straight whatever the width of the screen."""
    lines = [HEADINGS]
    for row in rows:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        lines.append((row["verdict"], seconds, row["what"], row["answer"]))
        if row["verdict"] == "NOT OK":
            lines.append(("", "", "", f"promised: {row['promised']}"))
    first, second, third = (max(len(line[column]) for line in lines) for column in range(3))
    return title + [f"{a:{first}}  {b:>{second}}  {c:{third}}  {d}" for a, b, c, d in lines]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, list[str]]]]:
        return {"prove_report": prove_report}
