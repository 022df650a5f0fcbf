#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: queued_mail
short_description: Mail that waits in the queue while a gateway takes over a host
version_added: 0.1.0
description:
  - A Postfix that somebody else has set up may have mail in its queue that depends on this set-up, on a C(content_filter) or a transport of its own.
  - With O(state=held) the old set-up first delivers what it can. What is left is put on hold, so that the new set-up cannot deliver it unscanned.
  - With O(state=scanned) the messages that were put on hold go through amavis. What amavis accepts is in the queue again, once. What it refuses
    stays on hold and is named, because its sender was told long ago that it was accepted.
  - With O(state=released) the messages that were put on hold are given back to the set-up that is there.
  - The role C(gateway) uses this where C(gateway_take_over) is set. See C(docs/take-over.md).
options:
  state:
    description: What is to be done.
    type: str
    choices: [held, scanned, released]
    required: true
  timeout:
    description: Seconds that the old set-up has to deliver its mail, with O(state=held).
    type: int
    default: 60
  lost_domains:
    description: Domains that the former set-up took mail for and the new one does not. Their mail stays on hold, because it could only be returned.
    type: list
    elements: str
    default: []
  host:
    description: Where amavis listens, with O(state=scanned).
    type: str
    default: 127.0.0.1
  port:
    description: The port of amavis.
    type: int
    default: 10024
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: The queue is only counted.
  diff_mode:
    support: none
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - module: antispam.gateway.converge
"""

EXAMPLES = r"""
- name: Nothing leaves the queue unscanned
  antispam.gateway.queued_mail:
    state: held
"""

RETURN = r"""
waiting:
  description: The queue IDs of the messages that are to be dealt with.
  returned: success
  type: list
  elements: str
sent:
  description: The messages that amavis has accepted, with O(state=scanned).
  returned: success
  type: list
  elements: str
kept:
  description: The messages that stay on hold, each with the reason, with O(state=scanned).
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _queue


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "scanned", "released"], "required": True},
            "timeout": {"type": "int", "default": 60},
            "lost_domains": {"type": "list", "elements": "str", "default": []},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 10024},
        },
        supports_check_mode=True,
    )
    options = module.params
    sent: list[str] = []
    kept: list[str] = []
    try:
        if module.check_mode:
            # Of a Postfix that was removed the configuration may be left.
            is_there = module.get_bin_path("postqueue") is not None
            left = _queue.Record().held if options["state"] != "held" else _queue.waiting(module.run_command) if is_there else []
            module.exit_json(changed=bool(left), waiting=left, sent=sent, kept=kept)
        with _files.alone():
            if options["state"] == "held":
                left = _queue.hold(module.run_command, options["timeout"], options["lost_domains"])
            elif options["state"] == "released":
                left = _queue.release(module.run_command)
            else:
                left = _queue.Record().held
                sent, kept = _queue.scan(module.run_command, options["host"], options["port"])
    except OSError as error:
        module.fail_json(msg=f"the queue of Postfix: {error}; what is on hold stays on hold, and the next run goes on with it")
    if kept:
        module.warn(
            "messages that were in the queue before stay on hold; look at each with 'postcat -q', then release it with 'postsuper -H' or remove it"
            f" with 'postsuper -d': {'; '.join(kept)}"
        )
    module.exit_json(changed=bool(left), waiting=left, sent=sent, kept=kept)


if __name__ == "__main__":
    main()
