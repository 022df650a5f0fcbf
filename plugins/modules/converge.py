#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: converge
short_description: Renders what roles of this collection declare, and switches the host to it as one
version_added: 0.2.0
description:
  - Each role says in C(__ROLE_services) which files, validations, units, reloads and probes it has. This renders the files, on the controller,
    and hands all services together to M(antispam.gateway.service_config).
  - M(antispam.gateway.preflight) must have looked at the host, and its result stand in C(__gateway_preflight), as the role
    P(antispam.gateway.gateway#role) does it.
options:
  roles:
    description: Names of roles of this collection, without the collection's.
    type: list
    elements: str
    required: true
  step:
    description:
      - V(packages) only returns what has to be installed first.
      - V(foundation) switches what the rest of the run needs, the resolver and the updates of signatures; V(services) switches that rest.
    type: str
    choices: [packages, foundation, services]
    required: true
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: What is not installed yet cannot validate anything; then a warning says so.
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - module: antispam.gateway.service_config
"""

EXAMPLES = r"""
- name: Switch Postfix to its configuration
  antispam.gateway.converge:
    roles: [postfix]
    step: services
"""

RETURN = r"""
packages:
  description: Packages that are not installed.
  returned: with O(step=packages)
  type: list
  elements: str
debconf:
  description: Answers to the questions of these packages, as M(ansible.builtin.debconf) takes them.
  returned: with O(step=packages)
  type: list
  elements: dict
summary:
  description: What each service needed, a line each.
  returned: with other steps
  type: list
  elements: str
"""
