#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bayes_learn
short_description: Teaches a gateway what is spam and what is ham, with messages that are there
version_added: 0.2.0
description:
  - Reads directories of messages, mboxes and Maildirs, on the controller or on the gateway, and has SpamAssassin learn each message once.
  - A message that is in corpora of both classes is an error before anything is learned.
  - Says after each portion how far it has come. A run that was ended goes on where it was, because what the gateway knows is not sent again.
  - Messages that are empty, larger than 10 MiB or do not begin with a header field are left out and counted.
  - C(playbooks/learn.yml) uses it for C(gateway_bayes_corpora). See C(docs/bayes.md).
options:
  corpora:
    description: Where messages are, and what they are.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: A directory with one message a file, also in directories below it; a Maildir; an mbox; or one message.
        type: path
        required: true
      class:
        description: What the messages are.
        type: str
        choices: [spam, ham]
        required: true
      remote_src:
        description: Whether O(corpora[].path) is on the gateway, and not on the controller.
        type: bool
        default: false
  request:
    description: What the controller asks of the host. It is no option for a task.
    type: dict
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: Counts the messages that would be learned.
  diff_mode:
    support: none
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Teach what the site has kept
  antispam.gateway.bayes_learn:
    corpora:
      - {path: /srv/corpus/spam, class: spam}
      - {path: /var/mail/archive.mbox, class: ham, remote_src: true}
"""

RETURN = r"""
examined:
  description: How many messages there are.
  returned: success
  type: int
learned:
  description: How many of them were learned now, or would be in check mode.
  returned: success
  type: int
known:
  description: How many had been learned before.
  returned: success
  type: int
flawed:
  description: How many cannot be learned.
  returned: success
  type: int
flaws:
  description: The first of these, each with the reason.
  returned: success
  type: list
  elements: str
"""

import json

from ansible.module_utils.basic import AnsibleModule

COMMAND = "/usr/local/sbin/gateway-bayes"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "corpora": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "class": {"type": "str", "choices": ["spam", "ham"], "required": True},
                    "remote_src": {"type": "bool", "default": False},
                },
            },
            "request": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    request = module.params["request"]
    if not request:
        module.fail_json(msg="antispam.gateway.bayes_learn reads messages on the controller, so it cannot be run without its action plugin; name it in a task")
    binary = request["archive"] if "archive" in request else None
    data = None
    if binary:
        with open(binary, "rb") as stream:
            data = stream.read()
    try:
        status, output, errors = module.run_command([COMMAND, "--json", *request["words"]], data=data or request.get("data"), binary_data=data is not None)
    except OSError as error:
        module.fail_json(msg=f"{COMMAND}: {error}; run antispam.gateway.site with gateway_bayes first")
    if status:
        said = errors.strip().splitlines()
        module.fail_json(msg=said[-1].removeprefix("gateway-bayes: ") if said else f"{COMMAND} ended with {status}")
    module.exit_json(changed=False, answer=json.loads(output))


if __name__ == "__main__":
    main()
