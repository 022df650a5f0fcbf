#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_queue
short_description: Shows the mail that waits on a gateway, and holds, releases, flushes or deletes it
version_added: 0.3.0
description:
  - Asks C(gateway-queue) on the gateway, which the role C(administration) installs.
  - All conditions that are given must hold.
  - C(playbooks/queue.yml) asks all gateways at once. See C(docs/queue.md).
options:
  action:
    description:
      - V(list) only looks.
      - V(hold) keeps messages in the queue until they are released. V(release) lets them go on.
      - V(flush) has delivery tried again now. What is on hold stays there.
      - V(delete) removes messages. Nobody is told, so tell the sender.
    type: str
    choices: [list, hold, release, flush, delete]
    default: list
  sender:
    description: Envelope sender. V(@example.com) is every address of a domain, V(<>) the sender of reports.
    type: str
  recipient:
    description: A recipient that is still to be reached. V(@example.com) is every address of a domain.
    type: str
  reason:
    description: A part of what the next hop has said, in capitals or not.
    type: str
  older_than:
    description: How long a message has waited at least, as V(30m), V(2h), V(3d) or V(1w).
    type: str
  queue:
    description: The queue of Postfix that it is in.
    type: str
    choices: [active, deferred, hold, incoming, maildrop]
  queue_ids:
    description: Queue ids.
    type: list
    elements: str
    default: []
  all:
    description: Every message is meant. Without it an O(action) other than V(list) wants a condition.
    type: bool
    default: false
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: Says what would be changed.
  diff_mode:
    support: none
    details: What is changed is returned in RV(messages).
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Hold what an account has sent
  antispam.gateway.mail_queue:
    action: hold
    sender: alice@example.com

- name: Try again what waits for a server that is back
  antispam.gateway.mail_queue:
    action: flush
    recipient: "@example.net"
    reason: connection refused
"""

RETURN = r"""
messages:
  description:
    - The messages that were meant, the oldest first, as they were before. C(age) is in seconds, C(size) in bytes.
    - RV(messages) of an O(action) other than V(list) are those that it has changed.
  returned: success
  type: list
  elements: dict
  sample:
    - queue_id: 4cXh2k1Zr8z5k
      queue: deferred
      age: 5400
      size: 2048
      sender: alice@example.com
      recipients:
        - address: bob@example.net
          reason: "connect to mail.example.net[203.0.113.9]:25: Connection refused"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _command

COMMAND = "/usr/local/sbin/gateway-queue"
# The option of the command for each option of the module.
CONDITIONS = {"sender": "--from", "recipient": "--to", "reason": "--reason", "older_than": "--older-than", "queue": "--queue"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "choices": ["list", "hold", "release", "flush", "delete"], "default": "list"},
            "sender": {"type": "str"},
            "recipient": {"type": "str"},
            "reason": {"type": "str"},
            "older_than": {"type": "str"},
            "queue": {"type": "str", "choices": ["active", "deferred", "hold", "incoming", "maildrop"]},
            "queue_ids": {"type": "list", "elements": "str", "default": []},
            "all": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    words = [f"{option}={given[name]}" for name, option in CONDITIONS.items() if given[name]]
    words += [f"--id={queue_id}" for queue_id in given["queue_ids"]]
    if given["action"] != "list" and not words and not given["all"]:
        module.fail_json(msg=f"action {given['action']}: say which messages are meant, by {', '.join(CONDITIONS)} or queue_ids, or set all: true")
    words += ["--all"] if given["all"] else []
    words += ["--dry-run"] if module.check_mode else []
    missing = "; the role administration installs it: run antispam.gateway.site on this host first"
    found = _command.ask(module, [COMMAND, given["action"], "--json", *words], missing, fine=(0, 1))
    module.exit_json(changed=given["action"] != "list" and bool(found["messages"]), **found)


if __name__ == "__main__":
    main()
