# SPDX-License-Identifier: GPL-3.0-or-later
"""The same examples in every run: a gate may not fail by chance. `--hypothesis-profile=search` looks for new ones."""

from hypothesis import settings

settings.register_profile("repeat", derandomize=True, database=None, deadline=None)
settings.register_profile("search", database=None, deadline=None)
settings.load_profile("repeat")
