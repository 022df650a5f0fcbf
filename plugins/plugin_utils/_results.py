# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What action plugins do with the results of modules.

Private to antispam.gateway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def warn(result: dict[str, Any], texts: Iterable[str]) -> None:
    """Add warnings to a result, in a new list: since ansible-core 2.21 the one that a module returned is None, or is still written to."""
    result["warnings"] = [*(result.get("warnings") or ()), *texts]
