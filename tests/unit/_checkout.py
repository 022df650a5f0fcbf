# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the checkout is, and what the files of its roles hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = CHECKOUT / "roles"


def load(role: str, *names: str) -> Any:
    """Return what a role's YAML file holds, {} where there is none."""
    path = ROLES.joinpath(role, *names)
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}
