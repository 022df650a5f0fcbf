#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postfix_table
short_description: Keeps a Postfix lookup table and its compiled form exactly as given
version_added: 0.1.0
description:
  - Writes the text source of a lookup table, compiles it aside with postmap(1) or postalias(1), and renames both into place.
    A running smtpd answers from the old table or from the new one, never from a part.
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
    choices: [lmdb, hash, btree]
    default: lmdb
  entries:
    description: The whole table, a dictionary of key to value. What is not in it goes away. An empty table is a table.
    type: dict
    required: true
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

import glob
import os
import pathlib
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _tables


ASIDE = "antispam-"


class Table:
    """The two files of a table, as they are on the disk."""

    def __init__(self, module, entries):
        options = module.params
        self.module = module
        self.aliases = options["aliases"]
        self.command = "postalias" if self.aliases else "postmap"
        self.type = options["type"]
        self.entries = entries
        self.access = (options["owner"], options["group"], options["mode"])
        self.source = _files.File(options["path"], _tables.render(entries, self.aliases), *self.access)
        self.suffix = _tables.SUFFIX[self.type]
        # Tables come before the first main.cf, without which the commands do not run.
        self.config = tempfile.mkdtemp(prefix="postfix.", dir=module.tmpdir)
        main_cf = pathlib.Path(self.config, "main.cf")
        main_cf.write_text("compatibility_level = 3.6\n", encoding="ascii")
        # Postfix waits two seconds before it trusts a main.cf that has just been written.
        os.utime(main_cf, (0, 0))

    def run(self, *words):
        return self.module.run_command([self.command, "-c", self.config, *words], expand_user_and_vars=False, path_prefix="/usr/sbin")

    def dump(self, source):
        """Return the entries of the compiled form of source, None where there is none that can be read."""
        if not pathlib.Path(f"{source}{self.suffix}").exists() or not shutil.which(self.command, path="/usr/sbin:/usr/bin"):
            return None
        rc, out, err = self.run("-s", f"{self.type}:{source}")
        if rc or err:
            return None
        try:
            return _tables.parse_dump(out, self.aliases)
        except ValueError:
            return None

    def access_differs(self):
        return _files.File(f"{self.source.path}{self.suffix}", "", *self.access).access_differs

    def write(self):
        """Compile aside, look at what came of it, then rename: the compiled form first, because that is the one Postfix reads."""
        directory = self.source.path.parent
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for left in directory.glob(f".{glob.escape(self.source.path.name)}.{ASIDE}*"):
            # What an interrupted run left.
            shutil.rmtree(left)
        aside = pathlib.Path(tempfile.mkdtemp(prefix=f".{self.source.path.name}.{ASIDE}", dir=directory))
        try:
            source = aside / self.source.path.name
            _files.replace(source, self.source.after, self.source.ids(), self.source.mode)
            rc, out, err = self.run(f"{self.type}:{source}")
            printed = (err + out).replace(str(aside), str(directory)).strip()
            if rc or printed:
                self.refuse(f"{self.command} does not take it: {printed}")
            stored = self.dump(source)
            if stored != self.entries:
                added, removed, changed = _tables.difference(self.entries, stored or {})
                self.refuse(f"{self.command} would store other entries than these, look at: {', '.join((removed + changed + added)[:5])}")
            compiled = pathlib.Path(f"{source}{self.suffix}")
            with open(compiled, "rb") as written:
                os.fchown(written.fileno(), *self.source.ids())
                os.fchmod(written.fileno(), self.source.mode)
                os.fsync(written.fileno())
            compiled.rename(f"{self.source.path}{self.suffix}")
            # It is older than the compiled form, as Postfix expects.
            source.rename(self.source.path)
        finally:
            shutil.rmtree(aside)

    def refuse(self, reason):
        self.module.fail_json(msg=f"{self.source.path}: the old table stays in use; {reason}")


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "type": {"type": "str", "choices": ["lmdb", "hash", "btree"], "default": "lmdb"},
            "entries": {"type": "dict", "required": True},
            "aliases": {"type": "bool", "default": False},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0644"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        entries = _tables.fold(module.params["entries"])
        table = Table(module, entries)
        if not module.check_mode:
            table.source.ids()
    except ValueError as error:
        module.fail_json(msg=f"{path}: {error}; nothing was changed")
    before = table.dump(path)
    added, removed, changed = _tables.difference(before or {}, entries)
    result = {
        "changed": before != entries or table.source.differs or table.access_differs(),
        "added": len(added),
        "removed": len(removed),
        "changed_values": len(changed),
        "after": len(entries),
        "diff": {},
    }
    if result["changed"]:
        shown = _tables.HEADER + "# There was no table.\n" if before is None else _tables.render(before, table.aliases)
        result["diff"] = {"before_header": path, "after_header": path, "before": shown, "after": _tables.render(entries, table.aliases)}
        if not module.check_mode:
            try:
                with _files.alone():
                    table.write()
            except OSError as error:
                module.fail_json(msg=f"{path}: cannot write the table, the old one stays in use: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
