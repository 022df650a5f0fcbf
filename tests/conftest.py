# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout importable as ansible_collections.antispam.gateway for plain pytest."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Kept for the whole run: the interpreter removes it at exit.
_tree = tempfile.TemporaryDirectory(prefix="antispam-gateway-tests-")


def pytest_configure() -> None:
    namespace = Path(_tree.name) / "ansible_collections" / "antispam"
    namespace.mkdir(parents=True)
    (namespace / "gateway").symlink_to(CHECKOUT, target_is_directory=True)
    sys.path.insert(0, _tree.name)
