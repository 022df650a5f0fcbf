#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Derives the settings of an antispam gateway from its variables, and judges them and the host
version_added: 0.2.0
description:
  - Reads the variables of all roles of this collection, of the types that the roles' argument specifications name, and derives from them
    what the roles render. This happens on the controller, and asks nobody.
  - With O(survey) it then looks at the host with M(antispam.gateway.survey), and judges what it finds.
  - All mistakes are reported together, each with the variable, the cause and what to do, before anything is changed.
  - A variable that differs by a letter or two from one that a role knows is a mistake. Of any other that begins like a variable of
    this collection a warning says that it has no effect.
options:
  survey:
    description: Whether to look at the host and to ask its neighbours. Without it no connection is made, and there are no limits.
    type: bool
    default: true
  only_ownership:
    description: Whether to look at nothing but whose the configuration of the host is. Nobody else is asked, and there are no limits.
    type: bool
    default: false
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is changed.
  diff_mode:
    support: none
    details: Nothing is changed, so there is no difference to show.
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - module: antispam.gateway.survey
  - module: antispam.gateway.converge
"""

EXAMPLES = r"""
- name: Look at a site before anything is changed
  antispam.gateway.preflight:
  register: preflight
"""

RETURN = r"""
problems:
  description: The mistakes, a sentence each.
  returned: failure
  type: list
  elements: str
site:
  description: What the roles derive their settings from.
  returned: success
  type: dict
debian:
  description: The major version of Debian on the host.
  returned: success, with O(survey)
  type: str
foreign_postfix:
  description: Whether the host has a Postfix that somebody else has set up.
  returned: success, with O(survey)
  type: bool
lost_domains:
  description: Domains that this Postfix takes mail for and the site does not.
  returned: success, with O(survey)
  type: list
  elements: str
queued_mail:
  description: Whether messages are on hold on account of M(antispam.gateway.queued_mail).
  returned: success, with O(survey)
  type: bool
packages:
  description: Names of the packages that are installed.
  returned: success, with O(survey)
  type: list
  elements: str
active:
  description: Which of the services that others start from are active.
  returned: success, with O(survey)
  type: list
  elements: str
ours:
  description: Which of the services that not every site has were set up by this collection.
  returned: success, with O(survey)
  type: list
  elements: str
resolvers:
  description: The addresses of the resolvers that the host asks.
  returned: success, with O(survey)
  type: list
  elements: str
"""
