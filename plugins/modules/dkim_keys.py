#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_keys
short_description: Keeps DKIM keys, and lets a new one sign only once its record is published
version_added: 0.1.0
description:
  - Makes the keys of a selector where they are not there yet, each domain its own, and says which key signs.
  - A new key signs from the first run on that finds its record in the DNS. Until then the one before signs, or none.
  - A key that signs is only ever replaced by another one whose record is published, so a failure of the DNS takes no working key out of use.
  - Keys that are no longer used stay on the host. What was signed with them is still being verified.
options:
  directory:
    description: Where the keys are, with a directory for each domain in it unless O(shared).
    type: path
    required: true
  domains:
    description: The domains that are signed for (tag C(d=), RFC 6376 section 3.5).
    type: list
    elements: str
    required: true
  selector:
    description: The selector of the keys that are wanted (tag C(s=)).
    type: str
    required: true
  algorithm:
    description: V(rsa) keys have 2048 bits and are PEM files, V(ed25519) keys are the files that dkimpy reads.
    type: str
    choices: [rsa, ed25519]
    default: rsa
  shared:
    description:
      - One key for all domains. A new one takes over when it is published for every domain that the one before signs for.
    type: bool
    default: false
  group:
    description: The group that may read the keys, that of the program which signs.
    type: str
    default: root
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows which selectors are there and which one signs. It shows no key.
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - name: RFC 6376
    description: DomainKeys Identified Mail (DKIM) Signatures.
    link: https://www.rfc-editor.org/rfc/rfc6376
"""

EXAMPLES = r"""
- name: Every domain has a key for amavisd
  antispam.gateway.dkim_keys:
    directory: /etc/amavis/dkim
    domains: [example.com]
    selector: mx1-2026
    group: amavis
  register: dkim
"""

RETURN = r"""
domains:
  description: One element a domain.
  returned: success
  type: list
  elements: dict
  contains:
    domain:
      description: The domain.
      type: str
    selector:
      description: The selector that is wanted.
      type: str
    name:
      description: Name of the record to publish.
      type: str
    record:
      description: Text of the TXT record to publish; none in check mode for a key that is still to be made.
      type: str
    published:
      description: Whether it is published, V(yes), V(no), V(other) for another key, or V(unknown) where the DNS does not answer.
      type: str
    signing:
      description: The selector that signs, empty where none does.
      type: str
    path:
      description: File of the key that signs, empty where none does.
      type: str
"""

import contextlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _dkim, _files, _leftovers, _records


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "domains": {"type": "list", "elements": "str", "required": True},
            "selector": {"type": "str", "required": True},
            "algorithm": {"type": "str", "choices": ["rsa", "ed25519"], "default": "rsa"},
            "shared": {"type": "bool", "default": False},
            "group": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    options = module.params
    groups = [options["domains"]] if options["shared"] else [[domain] for domain in options["domains"]]
    result: dict[str, Any] = {"changed": False, "domains": [], "diff": {"before": "", "after": ""}}
    try:
        if _records.missing_package() and not module.check_mode:
            raise ValueError(f"install the package {_records.PACKAGE}, without which no record can be looked up")
        ids = _files.ids(options["directory"], "root", options["group"]) if not module.check_mode else None
        keyrings = []
        for domains in groups:
            directory = options["directory"] if options["shared"] else f"{options['directory']}/{domains[0]}"
            keyrings.append(_dkim.Keyring(module.run_command, directory, domains, options["algorithm"]))
        # Nobody may make a key between the look at what is there and the change.
        with contextlib.nullcontext() if module.check_mode else _files.alone():
            if not module.check_mode:
                for directory in {directory for keyring in keyrings for directory in keyring.directories()}:
                    _leftovers.remove(directory)
            # Every file is looked at before the first one is changed.
            publics = [keyring.public(options["selector"]) for keyring in keyrings]
            for keyring, public in zip(keyrings, publics):
                bring_up_to_date(module, keyring, public, ids, result)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{options['directory']}: {error}")
    module.exit_json(**result)


def bring_up_to_date(module: AnsibleModule, keyring: _dkim.Keyring, public: str, ids: tuple[int, int] | None, result: dict[str, Any]) -> None:
    """Make the key where there is none (`public` is empty), let it sign where it may, and add to the module's result; `ids` is None in check mode."""
    selector, algorithm = module.params["selector"], keyring.algorithm
    existed = bool(public)
    before = keyring.signing()
    if not existed:
        result["changed"] = True
        if ids:
            keyring.add(selector, ids)
            public = keyring.public(selector)
    keys = {domain: look_up(domain, selector, public) for domain in keyring.domains}
    after = keyring.next(selector, [domain for domain, key in keys.items() if key["published"] == "yes"])
    if after != before:
        result["changed"] = True
        if ids:
            keyring.sign_with(*after, ids)
    for domain, key in keys.items():
        signs = domain in after[1]
        key["record"] = _dkim.record(algorithm, public) if public else None
        key["signing"], key["path"] = (after[0], str(keyring.path(after[0]))) if signs else ("", "")
        reason = key.pop("reason") or f"{selector} is not published for every domain"
        if key["signing"] != selector:
            what = f"{after[0]} goes on signing" if signs else f"no {algorithm} key signs"
            module.warn(f"DKIM: {reason}, so {what} for {domain}; see antispam.gateway.dns")
        was = before[0] if domain in before[1] else "none"
        path = keyring.path(selector)
        result["diff"]["before"] += f"{domain}: {'key' if existed else 'no key'} {path}, signs with {was}\n"
        result["diff"]["after"] += f"{domain}: key {path}, signs with {key['signing'] or 'none'}\n"
        result["domains"].append(key)


def look_up(domain: str, selector: str, public: str) -> dict[str, Any]:
    """Return what is known of one domain's record: domain, selector, name, published, and the reason where it is not."""
    key: dict[str, Any] = {
        "domain": domain,
        "selector": selector,
        "name": f"{selector}._domainkey.{domain}",
        "published": "no",
        "reason": "the key is still to be made",
    }
    if not public:
        return key
    if _records.missing_package():
        key["published"], key["reason"] = "unknown", f"the package {_records.PACKAGE} is still to be installed"
    else:
        key["published"], key["reason"] = _dkim.published(key["name"], public)
    return key


if __name__ == "__main__":
    main()
