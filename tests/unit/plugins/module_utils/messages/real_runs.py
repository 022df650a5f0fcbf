# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a real run of tests/gateway/test_records.py on each release of Debian."""

from __future__ import annotations

import json
import pathlib

from ansible_collections.antispam.gateway.plugins.module_utils._messages.joiner import Entry

RELEASES = ["debian12", "debian13"]


def entries(release):
    return [Entry(*json.loads(line)) for line in (pathlib.Path(__file__).parent / f"{release}.jsonl").read_text(encoding="utf-8").splitlines()]
