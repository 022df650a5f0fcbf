# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings that an action plugin adds to what a module returned."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils import _results


@pytest.mark.parametrize("there", [{}, {"warnings": None}, {"warnings": []}, {"warnings": ["one"]}, {"warnings": ("one",)}])
def test_warnings_are_added_and_the_list_that_was_there_stays_as_it_was(there):
    before = there.get("warnings")
    held = list(before or ())
    _results.warn(there, ["two"])
    assert there["warnings"] == [*held, "two"]
    assert list(before or ()) == held
