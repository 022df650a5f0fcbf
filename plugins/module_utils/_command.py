# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a command of the gateway, such as gateway-trace, for JSON. Private to antispam.gateway."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def ask(module: AnsibleModule, command: Sequence[str], missing: str, fine: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Return what a command says, or fail the module with what it says against it. missing: what follows its path where it is not there.

    fine: the exit statuses with which it has answered.
    """
    try:
        rc, out, err = module.run_command(list(command), handle_exceptions=False)
    except OSError:
        module.fail_json(msg=f"{command[0]} is not there{missing}")
    if rc not in fine:
        module.fail_json(msg=(err or out).strip().rpartition(f"{os.path.basename(command[0])}: ")[2].removeprefix("error: "))
    found: dict[str, Any] = json.loads(out)
    return found
