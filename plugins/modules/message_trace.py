#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: message_trace
short_description: Tells what happened to messages on a gateway
version_added: 0.3.0
description:
  - Asks C(gateway-trace) on the gateway, which the role C(records) installs. It only reads.
  - All that is given must hold. Without any of it, the latest messages are told.
  - C(playbooks/trace.yml) asks all gateways at once. See C(docs/where-is-my-mail.md).
options:
  sender:
    description: Envelope sender, or address in From. V(@example.com) is every address of a domain.
    type: str
  recipient:
    description: A recipient, as the client has named it or as the gateway has changed it. V(@example.com) is every address of a domain.
    type: str
  message_id:
    description: The Message-ID field, with or without its brackets.
    type: str
  queue_id:
    description: The word behind C(queued as) in a 250.
    type: str
  refusal_id:
    description: The word behind C(id=) in a refusal.
    type: str
  subject:
    description: Words that all stand in the subject, in any order.
    type: str
  client:
    description: IP address of the client. Its connections that brought no message are told as well.
    type: str
  since:
    description: A time as V(2026-03-01), V(2026-03-01 14:30), V(14:30), V(today) or V(yesterday), in the time zone of the gateway.
    type: str
  before:
    description: A time as O(since) has it.
    type: str
  last:
    description: How far back, as V(30m), V(2h), V(3d) or V(1w). Not together with O(since).
    type: str
  limit:
    description: So many stories at most, the latest.
    type: int
    default: 20
extends_documentation_fragment:
  - antispam.gateway.attributes.reads
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: What came of the mail to bob
  antispam.gateway.message_trace:
    recipient: bob@example.com
    last: 2h
  register: trace
"""

RETURN = r"""
stories:
  description: What happened to each message, or in each connection that brought none, the latest first. Times are milliseconds since 1970.
  returned: success
  type: list
  elements: dict
gaps:
  description: When the journal lost something, and why. Records may be missing there.
  returned: success
  type: list
  elements: dict
records:
  description: C(first) and C(last), the times of the first and the last record, and C(messages), how many there are.
  returned: success
  type: dict
text:
  description: The same as text, a line each.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _command

COMMAND = "/usr/local/sbin/gateway-trace"
# The option of the command for each option of the module.
QUESTIONS = {
    "sender": "--from",
    "recipient": "--to",
    "message_id": "--message-id",
    "queue_id": "--queue-id",
    "refusal_id": "--id",
    "subject": "--subject",
    "client": "--client",
    "since": "--since",
    "before": "--until",
    "last": "--last",
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**{name: {"type": "str"} for name in QUESTIONS}, "limit": {"type": "int", "default": 20}},
        mutually_exclusive=[["since", "last"]],
        supports_check_mode=True,
    )
    given = [f"{option}={module.params[name]}" for name, option in QUESTIONS.items() if module.params[name]]
    missing = ": nothing is recorded on this host. The role records installs it, unless the site says gateway_records: false"
    found = _command.ask(module, [COMMAND, "--json", f"--limit={module.params['limit']}", *given], missing, fine=(0, 1))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
