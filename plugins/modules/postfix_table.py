#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postfix_table
short_description: Keeps a Postfix lookup table and its compiled form exactly as given
version_added: 0.1.0
description:
  - Writes the text source of a lookup table and its compiled form as new files, and renames both into place.
    A running smtpd answers from the old table or from the new one, never from a part.
  - A table of type lmdb is written by the module itself, with Debian's python3-lmdb; the other types by postmap(1) or postalias(1).
  - Looks at the compiled table itself, so a table that was changed, lost or left stale by hand is noticed and repaired.
  - An entry that Postfix would store differently from how it is written is refused, and so is any table postmap warns about.
options:
  path:
    description: Absolute path of the text source; the compiled form lies beside it.
    type: path
    required: true
  type:
    description: Lookup table type, see DATABASE_README.
    type: str
    choices: [lmdb, hash, btree, cdb]
    default: lmdb
  entries:
    description:
      - The whole table, a dictionary of key to value. What is not in it goes away. An empty table is a table.
      - Either this or O(secret_entries) is required.
    type: dict
  secret_entries:
    description: The same for a table whose values no log and no diff may show. Set O(mode) as well.
    type: dict
  aliases:
    description: Write and compile in the form of aliases(5).
    type: bool
    default: false
  owner:
    description: User that owns both files.
    type: str
    default: root
  group:
    description: Group of both files.
    type: str
    default: root
  mode:
    description: Permissions of both files in octal.
    type: str
    default: "0644"
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Postfix knows where each domain goes
  antispam.gateway.postfix_table:
    path: /etc/postfix/transport
    entries:
      example.com: "relay:[mail.inside.example.com]:25"
"""

RETURN = r"""
backup:
  description: The folder where the files of a table are kept that somebody else made, empty where there were none.
  returned: success
  type: str
before:
  description: Number of entries that were in the compiled table.
  returned: success
  type: int
added:
  description: Number of keys that were not in the compiled table.
  returned: success
  type: int
removed:
  description: Number of keys that are no longer in it.
  returned: success
  type: int
changed_values:
  description: Number of keys that have another value.
  returned: success
  type: int
after:
  description: Number of entries in the table.
  returned: success
  type: int
"""

import contextlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _backup, _files, _leftovers, _tables


def text(entries: bytes | None) -> str:
    """Return a table's text for a diff; None is no table."""
    return _tables.HEADER + "# There was no table.\n" if entries is None else entries.decode("utf-8", "replace")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "type": {"type": "str", "choices": ["lmdb", "hash", "btree", "cdb"], "default": "lmdb"},
            "entries": {"type": "dict"},
            "secret_entries": {"type": "dict", "no_log": True},
            "aliases": {"type": "bool", "default": False},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0644"},
        },
        mutually_exclusive=[("entries", "secret_entries")],
        required_one_of=[("entries", "secret_entries")],
        supports_check_mode=True,
    )
    options = module.params
    secret = options["entries"] is None
    entries = options["secret_entries"] if secret else options["entries"]
    path = options["path"]
    if entries is None:
        module.fail_json(msg=f"{path}: neither entries nor secret_entries has a value; an empty table is {{}}; nothing was changed")
    try:
        # Nobody may change the table between the look at it and the change.
        with contextlib.nullcontext() if module.check_mode else _files.alone():
            if not module.check_mode:
                _leftovers.remove(os.path.dirname(path))
            result = run(module, entries, secret)
    except OSError as error:
        module.fail_json(msg=f"{path}: cannot write the table, the old one stays in use: {error}")
    module.exit_json(**result)


def run(module: AnsibleModule, given: dict[str, t.Any], secret: bool) -> dict[str, t.Any]:
    """Bring the table up to date; return the result."""
    options, path = module.params, module.params["path"]
    access = (options["owner"], options["group"], options["mode"])
    table = _tables.Table(module, path, options["type"], access, options["aliases"])
    try:
        entries = _tables.fold(given, secret)
        source = _files.File(path, _tables.render(entries, table.aliases), *access)
        if not module.check_mode:
            source.ids()
    except ValueError as error:
        module.fail_json(msg=f"{path}: {error}; nothing was changed")
    before = table.read()
    added, removed, changed = _tables.difference(before or {}, entries)
    result: dict[str, t.Any] = {
        "changed": before != entries or source.differs or table.access_differs(),
        "before": len(before or {}),
        "added": len(added),
        "removed": len(removed),
        "changed_values": len(changed),
        "after": len(entries),
        "backup": "",
        "diff": {},
    }
    if result["changed"]:
        shown = None if before is None else _tables.render(before, table.aliases)
        texts = ["(the entries are secret)\n"] * 2 if secret else [text(shown), text(source.after)]
        result["diff"] = {"before_header": path, "after_header": path, "before": texts[0], "after": texts[1]}
        # Ours has its text beside it, with our header.
        if not _files.has_header(source.before or b""):
            result["backup"] = _backup.keep(table.files(), module.check_mode)
        if not module.check_mode:
            try:
                if table.missing():
                    raise ValueError(table.missing())
                table.write(entries, source.after)
            except ValueError as error:
                module.fail_json(msg=f"{path}: cannot write the table, the old one stays in use: {error}")
    return result


if __name__ == "__main__":
    main()
