#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sender_scores
short_description: Keeps the points that amavis adds for envelope senders exactly as their sources say
version_added: 0.1.0
description:
  - Reads senders and their points on the controller, from lists, files, HTTP or a directory, checks every key and every score,
    and makes the file that amavis reads them from hold exactly these.
  - amavis reads the file when it starts or reloads. The module reloads it after a change and is done once every worker has the new scores;
    if amavis does not load them, the old file comes back.
  - The scores are for the whole site, so that a message has one verdict whoever receives it.
  - An envelope sender is whatever the client says. Negative points for a sender or a domain let anybody who forges it through.
    To favour a domain, use what its DKIM signature proves, C(@signer_reputation_maps) of amavis.
options:
  path:
    description: Absolute path of the file.
    type: path
    default: /etc/amavis/sender_scores_sitewide
  state:
    description:
      - V(exact) makes the file hold the keys of the sources and no others.
      - V(present) adds them, or gives them the score of the sources. V(absent) removes them.
    type: str
    choices: [exact, present, absent]
    default: exact
  scores:
    description:
      - Keys and their points, beside those of O(sources).
      - "A key is C(user@example.org), C(user@) for a local part in any domain, C(example.org) for a domain, C(.example.org) for it and all below it,
        C(.) for everybody, or C(@) for the null sender. C(@example.org) never matches in amavis and is refused."
    type: dict
    default: {}
  on_invalid:
    description:
      - What becomes of a key or a score that is not valid. V(fail) changes nothing and names each with its line;
        V(skip) leaves them out, names the first ones in a warning, and counts them.
    type: str
    choices: [fail, skip]
    default: fail
  max_removed_percent:
    description: The largest share of the keys that one run may remove. More changes nothing.
    type: float
    default: 10
  max_removed_few:
    description: Up to this many removals are never too many.
    type: int
    default: 10
  allow_removals:
    description: Whether this run may remove any number of keys.
    type: bool
    default: false
  timeout:
    description: Seconds to wait until every worker of amavis has the new scores. A million of them took 40 s.
    type: int
    default: 180
extends_documentation_fragment:
  - antispam.gateway.attributes
  - antispam.gateway.sources
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Points come from a file with the columns sender and score
  antispam.gateway.sender_scores:
    sources:
      - path: /srv/export/scores.csv
        column: sender
        value_column: score

- name: Somebody who always writes like a spammer
  antispam.gateway.sender_scores:
    state: present
    scores:
      newsletter@example.org: -2.5
"""

RETURN = r"""
backup:
  description: The folder where the file is kept that somebody else wrote, empty where there was none.
  returned: success
  type: str
before:
  description: Number of keys that were in the file.
  returned: success
  type: int
after:
  description: Number of keys that are in the file, or would be.
  returned: success
  type: int
added:
  description: Number of keys that were not in the file.
  returned: success
  type: int
removed:
  description: Number of keys that are no longer in it.
  returned: success
  type: int
changed_values:
  description: Number of keys that have another score.
  returned: success
  type: int
unchanged:
  description: Number of keys that stay as they are.
  returned: success
  type: int
summary:
  description: One line.
  returned: success
  type: list
  elements: str
  sample: ["+2 -0 sender scores, 1 with other points"]
left_out:
  description: Number of keys of the sources that were left out, see O(on_invalid).
  returned: success
  type: int
timings:
  description: Seconds that each step took, on the controller and on the host.
  returned: success
  type: dict
"""

import contextlib
import hashlib
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _backup, _changeset, _files, _leftovers, _services, _source_options

# {sender: points}, as they stand in the file.
Entries = dict[bytes, bytes]

ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "path", "default": "/etc/amavis/sender_scores_sitewide"},
    "scores": {"type": "dict", "default": {}},
    **_source_options.FED,
    "timeout": {"type": "int", "default": 180},
}


def parse(text: bytes | None) -> Entries:
    """Return the entries of a file in the form of amavis's read_hash."""
    lines = (line.split(b"#", 1)[0].rstrip() for line in (text or b"").split(b"\n"))
    # A line without a value counts as +1.
    return {key: value.strip() or b"1" for key, _space, value in (line.partition(b" ") for line in lines if line)}


def render(entries: Entries) -> bytes:
    return _files.TABLE_HEADER + b"".join(key + b" " + value + b"\n" for key, value in sorted(entries.items()))


def wanted_entries(options: dict[str, t.Any], before: Entries) -> Entries:
    """Return what the table is to hold."""
    given = _changeset.Content(_changeset.unpack(options["prepared"]["content"])).entries()
    if options["state"] == "present":
        return {**before, **given}
    if options["state"] == "absent":
        return {key: value for key, value in before.items() if key not in given}
    return given


def summary(change: _changeset.Change, count: int) -> list[str]:
    """Return what changes in a table of some entries, a sentence a line."""
    if not change:
        return [f"nothing to change, {count} sender scores"]
    return [f"+{len(change.added)} -{len(change.removed)} sender scores, {len(change.changed)} with other points"]


def activate(module: AnsibleModule, amavis: _services.Unit, file: _files.File) -> None:
    """Switch the file; amavis has loaded it when this returns. Raises Failure, with the old file back."""
    with _files.prepared([file]):
        _files.switch([file])
        try:
            if not amavis.stopped:
                workers = amavis.workers()
                amavis.apply("reload")
                problem = _services.until(lambda _left: _services.workers_left(amavis, workers), amavis, module.params["timeout"])
                if problem:
                    raise _services.Failure(problem)
        except _services.Failure as failure:
            failed = time.time()
            _files.restore([file])
            with contextlib.suppress(_services.Failure):
                amavis.apply("reload")
            raise _services.Failure(f"{failure}; the old scores are back. The last lines of its journal:\n{amavis.journal(failed)}") from failure


def run(module: AnsibleModule) -> dict[str, t.Any] | None:
    """Return the result, or None if the controller has to send the content."""
    options = module.params
    path = options["path"]
    amavis = _services.Unit(module, "amavis.service")
    marker = _files.STATE_DIRECTORY / (path.strip("/").replace("/", "-") + ".table")
    there = _files.File(path, None)
    before = parse(there.before)
    # What amavis was last given: after an interrupted run it may lack what stands in the file.
    given = marker.read_text(encoding="ascii") if marker.exists() else ""
    held = hashlib.sha256(there.before or b"").hexdigest()
    if options["state"] == "exact" and given == f"{options['prepared']['wanted']} {held}":
        after = before
    elif options["prepared"]["content"] is None:
        return None
    else:
        after = wanted_entries(options, before)
    change = _changeset.Change.between(before, after)
    removed = len(change.removed)
    if options["state"] == "exact" and not options["allow_removals"] and removed > options["max_removed_few"]:
        if 100 * removed > options["max_removed_percent"] * len(before):
            module.fail_json(
                msg=f"{path}: nothing was changed, {removed} of {len(before)} scores would go ({100 * removed / len(before):.1f} %,"
                f" at most {options['max_removed_percent']:g} % may). Look at the sources;"
                f" if they are right, set {_source_options.called(options, 'allow_removals')}: true for one run."
            )
    file = _files.File(path, there.before if not change and before and (there.before or b"").startswith(_files.TABLE_HEADER) else render(after))
    pending = given.partition(" ")[2] != held and not amavis.stopped
    changed = file.differs or pending
    backup = _backup.keep([file.path], module.check_mode) if changed else ""
    if changed and not module.check_mode:
        marker.unlink(missing_ok=True)
        activate(module, amavis, file)
    wanted = options["prepared"]["wanted"] if options["state"] == "exact" else "-"
    now = f"{wanted} {hashlib.sha256(file.after or b'').hexdigest()}"
    if not module.check_mode and (changed or given != now):
        _files.replace(marker, now.encode("ascii"), (0, 0), 0o600)
    return {
        "changed": changed,
        "backup": backup,
        "before": len(before),
        "after": len(after),
        "added": len(change.added),
        "removed": removed,
        "changed_values": len(change.changed),
        "unchanged": len(before) - removed - len(change.changed),
        "summary": summary(change, len(before)),
        "diff": change.diff(path),
    }


def main() -> None:
    started = time.monotonic()
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        with contextlib.nullcontext() if module.check_mode else _files.alone():
            if not module.check_mode:
                _leftovers.remove(os.path.dirname(path))
                _leftovers.remove(_files.STATE_DIRECTORY)
            result = run(module)
    except _services.Failure as failure:
        module.fail_json(msg=f"{path}: {failure}")
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{path}: cannot write the scores, the old ones stay in use: {error}")
    if result is None:
        module.exit_json(changed=False, send_more=True)
    module.exit_json(timings={"on the host": round(time.monotonic() - started, 3)}, **result)


if __name__ == "__main__":
    main()
