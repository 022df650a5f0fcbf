# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix lookup tables: a text source and its compiled form (postmap(1), postalias(1)).

Private to antispam.gateway. The text is what an administrator reads; the
compiled form is what Postfix reads, so both are looked at to know the truth.
"""

from __future__ import annotations

import re

# What postmap would store under another name, join to the line before, or drop in silence.
_FORBIDDEN = re.compile("[\x00-\x20\x7f\u00a0\ufeff]")
_QUOTED_VALUE = re.compile("[\x00-\x1f\x7f]")

SUFFIX = {"lmdb": ".lmdb", "hash": ".db", "btree": ".db", "cdb": ".cdb"}
HEADER = "# Managed by Ansible (antispam.gateway). Changes made here are undone by the next run.\n"


def check(key, value):
    """Raise ValueError for an entry that Postfix would not store as it is written."""
    if not key or _FORBIDDEN.search(key):
        raise ValueError(f"the key {key!r} is empty or has a space, control character, non-breaking space or byte order mark in it")
    if key.startswith("#"):
        raise ValueError(f"the key {key!r} begins with '#', which makes its line a comment")
    if not value or _QUOTED_VALUE.search(value) or value != value.strip():
        raise ValueError(f"the value {value!r} of {key} is empty, begins or ends with a space, or has a control character in it")


def fold(entries):
    """Return entries as Postfix stores them: keys in lower case, checked."""
    result = {}
    for key, value in entries.items():
        key, value = str(key).lower(), "" if value is None else str(value)
        check(key, value)
        if key in result and result[key] != value:
            raise ValueError(f"the key {key} stands in the table twice with different values once it is in lower case")
        result[key] = value
    return result


def render(entries, aliases=False):
    """Return the text source: sorted, so that a change is a small difference."""
    colon = ":" if aliases else ""
    return HEADER + "".join(f"{key}{colon}\t{value}\n" for key, value in sorted(entries.items()))


def parse_dump(text, aliases=False):
    """Return the entries that postmap -s or postalias -s printed."""
    entries = {}
    # Not splitlines(): a value may have U+2028 and its like in it.
    for line in text.removesuffix("\n").split("\n") if text else ():
        key, tab, value = line.partition("\t")
        if not tab:
            raise ValueError(f"cannot read the line {line!r}")
        entries[key.removesuffix(":") if aliases else key] = value
    if aliases:
        # postalias(1) adds these for NIS.
        for key in ("@", "YP_LAST_MODIFIED", "YP_MASTER_NAME"):
            entries.pop(key, None)
    return entries


def difference(before, after):
    """Return (added, removed, changed) as sorted lists of keys."""
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    changed = sorted(key for key in after.keys() & before.keys() if after[key] != before[key])
    return added, removed, changed
