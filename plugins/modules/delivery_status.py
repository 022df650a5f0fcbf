#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: delivery_status
short_description: Follows a message that Postfix has queued until its next hop has it
version_added: 0.2.0
description:
  - Reads the journal of the host until Postfix has sent the message to every recipient, has given it up, or says why it waits.
  - It only reads. The user must be allowed to read the journal of the system.
options:
  queue_id:
    description: The queue ID, the word behind C(queued as) in Postfix's answer.
    type: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 60
extends_documentation_fragment:
  - antispam.gateway.attributes.reads
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: See that a message leaves
  antispam.gateway.delivery_status:
    queue_id: 4jbRyT4jNqzCc1s
  register: followed
  failed_when: not followed.sent
"""

RETURN = r"""
sent:
  description: Whether a next hop has taken the message for every recipient.
  returned: success
  type: bool
deliveries:
  description: What became of it for each recipient, C(recipient), C(relay), C(status) (sent, deferred, bounced ...) and C(text), what the relay said.
  returned: success
  type: list
  elements: dict
seen:
  description: Whether the journal knows the message at all.
  returned: success
  type: bool
"""

import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# How Postfix's delivery agents log (log_adhoc.c): to=<...>, [orig_to=<...>,] relay=..., delay=..., dsn=..., status=... (...)
_DELIVERY = re.compile(r": to=<([^>]*)>.*? relay=([^,]+),.* status=([a-z]+) \((.*)\)$")


def deliveries(lines: list[str], queue_id: str) -> tuple[list[dict[str, str]], bool]:
    """Return (what became of the message for each recipient, whether it has left the queue) of lines of the journal."""
    found: dict[str, dict[str, str]] = {}
    removed = False
    for line in lines:
        if f": {queue_id}: " not in line:
            continue
        removed = removed or line.endswith(f"{queue_id}: removed")
        match = _DELIVERY.search(line)
        if match:
            found[match[1]] = dict(zip(("recipient", "relay", "status", "text"), match.groups()))
    return list(found.values()), removed


def main() -> None:
    module = AnsibleModule(
        argument_spec={"queue_id": {"type": "str", "required": True}, "timeout": {"type": "int", "default": 60}},
        supports_check_mode=True,
    )
    queue_id = module.params["queue_id"]
    if not re.fullmatch(r"[0-9A-Za-z]{6,}", queue_id):
        module.fail_json(msg=f"queue_id: '{queue_id}' is not a queue ID of Postfix; give the word behind 'queued as'")
    deadline = time.monotonic() + module.params["timeout"]
    while True:
        # Queue IDs are not used again for as long as anybody would wait (enable_long_queue_ids).
        _rc, out, _err = module.run_command(["journalctl", "--no-pager", "--quiet", "--output=cat", "--since=-1h", f"--grep={queue_id}"])
        # With --output=cat nothing stands before the message.
        found, removed = deliveries([f": {line}" for line in out.splitlines()], queue_id)
        waits = found and any(each["status"] == "deferred" for each in found)
        if removed or waits or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    result: dict[str, Any] = {"changed": False, "deliveries": found, "seen": bool(out.strip())}
    module.exit_json(**result, sent=removed and bool(found) and all(each["status"] == "sent" for each in found))


if __name__ == "__main__":
    main()
