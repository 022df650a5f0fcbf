#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_account
short_description: Suspends an account that was stolen, or lets it back in
version_added: 0.3.0
description:
  - Asks C(gateway-account) on the gateway, which the role C(administration) installs where there are accounts.
  - A suspended account gets 421 to whatever it sends, on connections that are open too, and what it has in the queue is put on hold.
    A run of the playbook leaves it suspended.
  - C(playbooks/account.yml) does it on all gateways at once. See C(docs/queue.md).
options:
  name:
    description: The login, as in C(gateway_accounts).
    type: str
    required: true
  state:
    description: V(suspended) stops the account, V(active) lets it send.
    type: str
    choices: [suspended, active]
    required: true
  release:
    description: With O(state=active), let go on what is on hold. Without it, C(mail_queue) deletes or releases it later.
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
    details: What is changed is returned.
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Stop alice's account at once
  antispam.gateway.mail_account:
    name: alice@example.com
    state: suspended
"""

RETURN = r"""
on_hold:
  description: How many messages from the account's addresses are on hold.
  returned: success
  type: int
  sample: 12
released:
  description: How many of them were released.
  returned: success
  type: int
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _command

COMMAND = "/usr/local/sbin/gateway-account"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["suspended", "active"], "required": True},
            "release": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    suspend = module.params["state"] == "suspended"
    if suspend and module.params["release"]:
        module.fail_json(msg="release goes with state: active; remove it")
    words = ["suspend" if suspend else "resume", module.params["name"], "--json"]
    words += ["--release"] if module.params["release"] else []
    words += ["--dry-run"] if module.check_mode else []
    missing = ": this gateway has no accounts, or antispam.gateway.site has not run on it since it was written"
    result = _command.ask(module, [COMMAND, *words], missing)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
