#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: relay_recipients
short_description: Keeps the valid recipients of a gateway exactly as their sources say
version_added: 0.1.0
description:
  - Reads the recipients of the relay domains on the controller, from lists, files, HTTP or a directory, checks every address,
    and makes the table that Postfix looks them up in (C(relay_recipient_maps)) hold exactly these.
  - A table of type lmdb is changed in one transaction while Postfix uses it. Every lookup is answered from the old addresses or from the new ones,
    and the new ones are live at once, without a reload. A table of another type is written as a new file and renamed into place.
  - The table itself is looked at in every run, so one that was changed by hand, lost or replaced is noticed and repaired.
  - Only what differs is sent. The controller caches the last content under C(ANSIBLE_HOME), readable for its user alone; without
    that cache the first run sends everything.
  - Where a source cannot be read to its end, or too many addresses would go, nothing is changed.
  - The table has no text file beside it. C(postmap -s lmdb:/etc/postfix/relay_recipients) prints it. Never run C(postmap -i) or C(postmap -d)
    on a table of type lmdb while something else writes it, they take no lock.
options:
  path:
    description: Absolute path of the table, without the suffix of its type.
    type: path
    default: /etc/postfix/relay_recipients
  type:
    description: Lookup table type, see DATABASE_README. Only V(lmdb) is changed in place, the others are built anew for every change.
    type: str
    choices: [lmdb, hash, btree, cdb]
    default: lmdb
  state:
    description:
      - V(exact) makes the table hold the addresses of the sources and no others.
      - V(present) adds them if they are missing. V(absent) removes them.
    type: str
    choices: [exact, present, absent]
    default: exact
  domains:
    description: The relay domains. An address of another domain is refused.
    type: list
    elements: str
    required: true
  recipients:
    description: Recipients beside those of O(sources). V(@example.com) accepts every address of a domain.
    type: list
    elements: str
    default: []
  on_invalid:
    description:
      - What becomes of an address that is not valid or not in O(domains). V(fail) changes nothing and names each with its line;
        V(skip) leaves them out, names the first ones in a warning, and counts them.
    type: str
    choices: [fail, skip]
    default: fail
  max_removed_percent:
    description: The largest share of the addresses, of all and of each domain, that one run may remove. More changes nothing.
    type: float
    default: 10
  max_removed_few:
    description: Up to this many removals, of all and of each domain, are never too many, but for the last address of a domain.
    type: int
    default: 10
  allow_removals:
    description: Whether this run may remove any number of addresses.
    type: bool
    default: false
  owner:
    description: User that owns the table. Without it, it stays as it is, and a new table belongs to root.
    type: str
  group:
    description: Group of the table. Without it, it stays as it is, and a new table belongs to root.
    type: str
  mode:
    description: Permissions of the table in octal. Without them, they stay as they are, and a new table gets 0644.
    type: str
extends_documentation_fragment:
  - antispam.gateway.attributes
  - antispam.gateway.sources
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
notes:
  - Addresses are stored as Postfix looks them up, in lower case, with international domains as A-labels (C(xn--))
    and quoted local parts with the fewest quotes.
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Recipients are what the directory's nightly export says
  antispam.gateway.relay_recipients:
    domains: [example.com]
    sources:
      - path: /srv/export/recipients.csv
        column: mail

- name: Add one recipient
  antispam.gateway.relay_recipients:
    domains: [example.com]
    state: present
    sources:
      - addresses: [new@example.com]
"""

RETURN = r"""
backup:
  description: The folder where the files of a table are kept that somebody else made, empty where there were none.
  returned: success
  type: str
before:
  description: Number of addresses that were in the table.
  returned: success
  type: int
after:
  description: Number of addresses that are in the table, or would be.
  returned: success
  type: int
added:
  description: Number of addresses that were not in the table.
  returned: success
  type: int
removed:
  description: Number of addresses that are no longer in it.
  returned: success
  type: int
changed_values:
  description: Number of addresses that have another value.
  returned: success
  type: int
unchanged:
  description: Number of addresses that stay as they are.
  returned: success
  type: int
left_out:
  description: Number of addresses of the sources that were left out, see O(on_invalid).
  returned: success
  type: int
summary:
  description: One line a domain.
  returned: success
  type: list
  elements: str
  sample: ["+12 -3 in example.com"]
timings:
  description: Seconds that each step took, on the controller and on the host.
  returned: success
  type: dict
"""

import contextlib
import json
import os
import pathlib
import time
import typing as t
from collections.abc import Collection

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _backup, _changeset, _files, _leftovers, _lmdb, _source_options, _tables


class Recipients:
    """The table on this host, and what it was last made to hold."""

    def __init__(self, module: AnsibleModule) -> None:
        options = module.params
        self.module, self.options = module, options
        self.table = _tables.Table(module, options["path"], options["type"], self._access())
        self.record = _files.STATE_DIRECTORY / (options["path"].strip("/").replace("/", "-") + ".table")
        self.known = self._known()

    def _access(self) -> tuple[str, str, str]:
        """What is not asked for stays as it is."""
        kinds = [self.options["type"], *_tables.SUFFIX]
        tables = (pathlib.Path(self.options["path"] + _tables.SUFFIX[kind]) for kind in kinds)
        there = next((table.stat() for table in tables if table.exists()), None)
        owner = self.options["owner"] or (_files.user_name(there.st_uid) if there else "root")
        group = self.options["group"] or (_files.group_name(there.st_gid) if there else "root")
        mode = self.options["mode"] or (f"{there.st_mode & 0o777:04o}" if there else "0644")
        return owner, group, mode

    def _known(self) -> dict[str, t.Any] | None:
        """What the table holds, if nobody has touched it since: a digest, and the number of addresses of each domain."""
        try:
            record = json.loads(self.record.read_bytes())
            told = record["type"], record["facts"], record["digest"], record["counts"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        facts = self.table.facts()
        return record if facts is not None and told[:2] == (self.table.kind, facts) else None

    @property
    def digest(self) -> str | None:
        return self.known["digest"] if self.known else None

    def remember(self, digest: str, counts: dict[str, int]) -> None:
        """Note what the table holds now, and how many entries of each domain."""
        record = {"type": self.table.kind, "facts": self.table.facts(), "digest": digest, "counts": counts}
        try:
            _files.replace(self.record, json.dumps(record).encode(), (0, 0), 0o600)
        except OSError as error:
            # The table is right; the next run asks for the whole.
            self.module.warn(f"cannot write {self.record}: {error}")

    def entries(self) -> _tables.Entries:
        """Return the entries that are in the table, of this type or of the one that it was of before."""
        return self.table.read_any() or {}

    def entries_to_keep(self) -> _tables.Entries:
        """As entries(); ValueError where there is a table that cannot be read, of which a difference would leave nothing."""
        entries = self.table.read_any()
        left = [f"{self.options['path']}{suffix}" for suffix in _tables.SUFFIX.values() if os.path.exists(f"{self.options['path']}{suffix}")]
        if entries is None and left:
            raise ValueError(f"{left[0]} cannot be read{'; ' if self.table.missing() else ''}{self.table.missing()}; state: exact makes it anew")
        return entries or {}

    def look_up(self, keys: Collection[bytes]) -> _tables.Entries:
        """Return those of the keys that are in the table, with their values."""
        if self.table.kind == "lmdb" and self.table.facts() is not None:
            return _lmdb.look_up(self.table.compiled, keys)
        entries = self.entries_to_keep()
        return {key: entries[key] for key in keys if key in entries}

    def fits(self, change: _changeset.Change) -> bool:
        """Whether a change can be made as it is; in check mode nothing else would tell."""
        new, old = [key for key, _value in change.added], change.removed + [key for key, _value in change.changed]
        return self.look_up([*new, *old]).keys() == set(old)

    def text_beside(self) -> bool:
        """Whether there is an obsolete text file: postmap would make a table of it."""
        return self.table.path.exists()


class Plan:
    """What is to be done: a change, and the whole content where it is known."""

    def __init__(self, change: _changeset.Change, counts: dict[str, int], content: _changeset.Content | None = None, total: int | None = None) -> None:
        """counts: how many entries of each domain there were before; total: of all, where the domains are not counted."""
        self.change, self.counts, self.content = change, counts, content
        self.total = sum(counts.values()) if total is None else total


def plan(recipients: Recipients) -> Plan | None:
    """Return the Plan for what was sent, or None if more has to be sent."""
    options = recipients.options
    sent = None if options["prepared"]["content"] is None else _changeset.Content(_changeset.unpack(options["prepared"]["content"]))
    if options["state"] != "exact":
        return by_difference(recipients, sent.entries() if sent else {})
    known: dict[str, int] = recipients.known["counts"] if recipients.known else {}
    if recipients.digest == options["prepared"]["wanted"]:
        return Plan(_changeset.Change(), known)
    if options["prepared"]["change"] and recipients.digest == options["prepared"]["base"]:
        change = _changeset.Change.parse(_changeset.unpack(options["prepared"]["change"]))
        if recipients.fits(change):
            return Plan(change, known)
    if sent is None:
        return None
    before = recipients.entries()
    if not before:
        return Plan(_changeset.Change.everything(sent, sent.counts(options["domains"])), {}, sent)
    return Plan(_changeset.Change.between(before, sent.entries()), _changeset.count_domains(list(before)), sent)


def by_difference(recipients: Recipients, given: _tables.Entries) -> Plan:
    """Return the Plan for entries that are to be there, or not, beside all others."""
    table = recipients.table
    facts = table.facts()
    if table.kind == "lmdb" and facts is not None:
        there, total = _lmdb.look_up(table.compiled, given), facts[-1]
    else:
        there = recipients.entries_to_keep()
        total = len(there)
    if recipients.options["state"] == "absent":
        change = _changeset.Change(removed=[key for key in given if key in there])
    else:
        change = _changeset.Change(
            added=[(key, value) for key, value in given.items() if key not in there],
            changed=[(key, value) for key, value in given.items() if there.get(key, value) != value],
        )
    return Plan(change, {}, total=total)


def apply(recipients: Recipients, found: Plan) -> None:
    """Make the table hold what it should; Conflict and ValueError mean that nothing was changed."""
    table, change, content = recipients.table, found.change, found.content
    touched = len(change.added) + len(change.removed) + len(change.changed)
    # A transaction copies every page that it touches; beyond a quarter a new file is quicker, and smaller.
    if table.kind == "lmdb" and table.facts() is not None and (content is None or 4 * touched <= found.total):
        if change:
            _lmdb.change(table.compiled, change.added, change.removed, change.changed)
        if table.access_differs():
            table.allow()
    elif content is not None:
        table.write(content.entries, pairs=content.pairs())
    else:
        table.write(change.applied(recipients.entries()))


def run(module: AnsibleModule, recipients: Recipients) -> dict[str, t.Any] | None:
    """Return the result, or None if the controller has to send more."""
    options = module.params
    recipients.table.check_access()
    options["domains"] = [_addresses.fqdn(name) for name in options["domains"]]
    found = plan(recipients)
    if found is None:
        return None
    change, counts = found.change, found.counts
    if options["state"] == "exact" and not options["allow_removals"]:
        problems = _changeset.too_many(change, counts, options["domains"], options["max_removed_percent"], options["max_removed_few"])
        if problems:
            module.fail_json(
                msg=f"{options['path']}: nothing was changed, {'; '.join(problems)}. Look at the sources; "
                f"if they are right, set {_source_options.called(options, 'allow_removals')}: true for one run.",
                problems=problems,
            )
    stale = recipients.text_beside()
    differs = bool(change) or recipients.table.facts() is None or recipients.table.access_differs() or stale
    # Of what is ours there is a record, or it was made by a part.
    somebodys = differs and options["state"] == "exact" and not recipients.record.exists()
    backup = _backup.keep(recipients.table.files(), module.check_mode) if somebodys else ""
    if not module.check_mode and (differs or recipients.digest != options["prepared"]["wanted"]):
        if recipients.table.missing():
            module.fail_json(msg=f"{options['path']}: nothing was changed: {recipients.table.missing()}")
        if differs:
            apply(recipients, found)
        if stale:
            os.replace(recipients.table.path, f"{recipients.table.path}.superseded")
            module.warn(f"{options['path']} was a text file that no longer belongs to the table; it is {options['path']}.superseded now")
        if options["state"] == "exact":
            left = dict(counts)
            for name, (added, removed) in change.by_domain().items():
                left[name] = left.get(name, 0) + added - removed
            recipients.remember(options["prepared"]["wanted"], {name: count for name, count in left.items() if count})
    return {
        "changed": differs,
        "backup": backup,
        "before": found.total,
        "after": found.total + len(change.added) - len(change.removed),
        "added": len(change.added),
        "removed": len(change.removed),
        "changed_values": len(change.changed),
        "unchanged": found.total - len(change.removed) - len(change.changed),
        "summary": _changeset.summary(change, found.total),
        "diff": change.diff(options["path"]),
    }


ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "path", "default": "/etc/postfix/relay_recipients"},
    "type": {"type": "str", "choices": ["lmdb", "hash", "btree", "cdb"], "default": "lmdb"},
    "domains": {"type": "list", "elements": "str", "required": True},
    "recipients": {"type": "list", "elements": "str", "default": []},
    **_source_options.FED,
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
}


def main() -> None:
    started = time.monotonic()
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    options = module.params
    try:
        with contextlib.nullcontext() if module.check_mode else _files.alone():
            if not module.check_mode:
                _leftovers.remove(os.path.dirname(options["path"]))
                _leftovers.remove(_files.STATE_DIRECTORY)
            recipients = Recipients(module)
            result = run(module, recipients)
    except _lmdb.Conflict as conflict:
        if options["prepared"]["content"] is not None:
            module.fail_json(msg=f"{options['path']}: nothing was changed, something else writes the table at the same time: {conflict}")
        result = None
    except (OSError, ValueError, _lmdb.Error) as error:
        module.fail_json(msg=f"{options['path']}: cannot write the table, the old one stays in use: {error}")
    if result is None:
        # The action plugin sends what fits the digest, or everything.
        module.exit_json(changed=False, send_more=True, digest=recipients.digest)
    module.exit_json(timings={"on the host": round(time.monotonic() - started, 3)}, **result)


if __name__ == "__main__":
    main()
