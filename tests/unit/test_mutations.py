# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-mutations` names tests that are there, each once."""

from __future__ import annotations

import re
import runpy

import pytest
from _checkout import CHECKOUT

MUTATIONS = runpy.run_path(str(CHECKOUT / "tools" / "mutations.py"))["MUTATIONS"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.what for mutation in MUTATIONS])
def test_the_test_that_has_to_notice_is_there(mutation):
    file, _colons, name = mutation.test.partition("::")
    assert re.search(rf"^def {name}\(", (CHECKOUT / "tests" / "gateway" / file).read_text(), re.MULTILINE)


def test_each_breaks_something_else():
    assert len(MUTATIONS) >= 16
    assert len({mutation.break_it for mutation in MUTATIONS}) == len({mutation.test for mutation in MUTATIONS}) == len(MUTATIONS)
