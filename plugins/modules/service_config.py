#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Switches services to validated configurations, all of them or none
version_added: 0.1.0
description:
  - Validates all configuration files of some services together, in a directory of their own. Then one service after the other gets its files and
    loads them, and has to answer before the next one gets its own.
  - Where a validation fails nothing is changed. Where a service does not load its files, all old files come back, of every service,
    and the services load those again.
  - A run that is killed leaves a journal. The next run puts the old files back before it begins, and so does C(gateway-recover.service)
    when the host starts, where that is installed.
  - A run that was interrupted between the switch and the reload is completed by the next one, because the module keeps a digest of what each
    running service was last given.
options:
  services:
    description: The services, in the order in which they load their files.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: How messages call it. Without it they name O(services[].unit).
        type: str
      unit:
        description: The systemd unit. Without one these are files that other services read, or that a command loads.
        type: str
      files:
        description: Every file that the caller owns of this service's configuration.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: path
            required: true
          content:
            description: The whole content. With neither this nor O(services[].files[].secret_content) the file is removed.
            type: str
          secret_content:
            description: The whole content of a file that no log and no diff may show.
            type: str
          owner:
            description: User name.
            type: str
            default: root
          group:
            description: Group name.
            type: str
            default: root
          mode:
            description: Permissions in octal.
            type: str
            default: "0644"
      directories:
        description: Directories that have to be there. They stay when the run fails.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: path
            required: true
          owner:
            description: User name.
            type: str
            default: root
          group:
            description: Group name.
            type: str
            default: root
          mode:
            description: Permissions in octal.
            type: str
            default: "0755"
      absent:
        description: Obsolete files that go when the new configuration comes, and come back if it does not stay.
        type: list
        elements: path
        default: []
      validate:
        description:
          - Commands, each a list of words, that must all end with 0. None is run where O(services[].state=stopped).
          - V({stage}) in a word stands for a directory that holds the new files of all services under their absolute paths.
        type: list
        elements: list
        default: []
      reject_output:
        description: A validation command that prints a line matching this regular expression has failed too.
        type: str
      listens:
        description: The TCP ports of this host that the service listens on. No two services may have the same.
        type: list
        elements: int
        default: []
      secret_in_old_files:
        description: A regular expression. What its first group matches in a file that is replaced is shown by no log and no diff either.
        type: str
      also_reads:
        description: Files of other owners that the service reads when it starts or reloads. It is told when one has changed.
        type: list
        elements: path
        default: []
      run:
        description: A command that loads the files, where there is no unit. It is run where the files differ, and where O(services[].run_check) asks for it.
        type: list
        elements: str
        default: []
      run_check:
        description: A command that changes nothing, and that prints something, or fails, where O(services[].run) has something to do.
        type: list
        elements: str
        default: []
      apply:
        description: How the running service loads new files; V(none) for files that it reads anew each time.
        type: str
        choices: [reload, restart, none]
        default: reload
      state:
        description:
          - V(started) has the unit enabled and running, V(stopped) has it disabled and not running.
          - V(enabled) has it enabled and leaves alone whether it runs, as for a unit that acts at boot.
        type: str
        choices: [started, stopped, enabled]
        default: started
      restart_on:
        description:
          - Regular expressions; a changed line that matches one makes a reload a restart.
          - So does an interrupted run, after which nobody knows which lines the service has not seen.
        type: list
        elements: str
        default: []
      replaces_workers:
        description:
          - Whether a reload ends with all worker processes replaced, as in amavisd. Then the new configuration counts as loaded
            once no worker from before the reload is left.
        type: bool
        default: false
      requires:
        description: Patterns of paths, each of which must match a file before the service is told anything. They are waited for.
        type: list
        elements: str
        default: []
      wait_for:
        description: What must answer before the new configuration counts as loaded.
        type: list
        elements: dict
        default: []
        suboptions:
          address:
            description: C(host:port), or the path of a UNIX socket.
            type: str
            required: true
          send:
            description: Text to send first.
            type: str
            default: ""
          expect:
            description: Text that the answer begins with.
            type: str
            required: true
      resolves:
        description: Names that these resolvers must find before the new configuration counts as loaded; without names, the root of the DNS.
        type: dict
        suboptions:
          nameservers:
            description: IP addresses.
            type: list
            elements: str
            required: true
          names:
            description: Names of hosts.
            type: list
            elements: str
            default: []
      throttles:
        description:
          - Whether the unit waits a minute before it starts a daemon again that has died, as master(8) does. Then it is restarted, not reloaded, where
            its old files come back because of that.
        type: bool
        default: false
      follows:
        description: Whether this is looked at last, and only where another service needed something. It has no files.
        type: bool
        default: false
      conversations:
        description: SMTP conversations that have to end as they should.
        type: list
        elements: dict
        default: []
        suboptions:
          host:
            description: Name or IP address.
            type: str
            required: true
          port:
            description: TCP port.
            type: int
            required: true
          tls:
            description: Whether to use STARTTLS, as in M(antispam.gateway.smtp_conversation).
            type: str
            default: may
          recipients:
            description: Envelope recipients. The sender is the null sender.
            type: list
            elements: str
            default: []
          sample:
            description: The message, as in M(antispam.gateway.smtp_conversation).
            type: str
            default: clean
          stop_after:
            description: The last step.
            type: str
            default: data
          expect:
            description: How the reply to the last step begins.
            type: str
            required: true
      deliveries:
        description:
          - Addresses that Postfix has to hand mail out to, as far as RCPT. Only a delivery agent that is not there, or dies, is a fault; what a next
            hop answers is none.
        type: dict
        suboptions:
          addresses:
            description: One for each delivery agent.
            type: list
            elements: str
            required: true
          sink:
            description: C(host:port) of loopback where smtp-sink(1) listens meanwhile.
            type: str
            required: true
      timeout:
        description: Seconds to wait for each of O(services[].wait_for).
        type: int
        default: 60
      requires_timeout:
        description: Seconds to wait for all of O(services[].requires).
        type: int
        default: 900
  secrets:
    description: Texts in the files that no log and no diff may show. Use it where the rest of a file may be shown.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - antispam.gateway.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The antispam.gateway maintainers (@antispam)
seealso:
  - module: antispam.gateway.converge
"""

EXAMPLES = r"""
- name: Postfix uses its configuration
  antispam.gateway.service_config:
    services:
      - unit: postfix.service
        files:
          - path: /etc/postfix/main.cf
            content: "{{ lookup('ansible.builtin.template', 'etc/postfix/main.cf.j2') }}"
        validate:
          - [postfix, -c, "{stage}/etc/postfix", check]
        restart_on: ["^inet_(interfaces|protocols)"]
        wait_for:
          - address: 127.0.0.1:25
            expect: "220 "
"""

RETURN = r"""
files:
  description: Paths of the files that changed, or would.
  returned: success
  type: list
  elements: str
actions:
  description: A dictionary of service to what it needed (start, stop, reload, restart, run, files or enable), or would need. Others needed nothing.
  returned: success
  type: dict
backup:
  description: The folder where copies of the files are kept that somebody else wrote and that were replaced, empty where there were none.
  returned: success
  type: str
undone:
  description: Units whose files were put back first, because a run was killed.
  returned: success
  type: list
  elements: str
"""

import contextlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _files, _service, _services, _transaction


def main() -> None:
    strings: dict[str, t.Any] = {"type": "list", "elements": "str", "default": []}
    access: dict[str, t.Any] = {"owner": {"type": "str", "default": "root"}, "group": {"type": "str", "default": "root"}}
    file: dict[str, t.Any] = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "secret_content": {"type": "str", "no_log": True},
        "mode": {"type": "str", "default": "0644"},
        **access,
    }
    probe: dict[str, t.Any] = {
        "address": {"type": "str", "required": True},
        "send": {"type": "str", "default": ""},
        "expect": {"type": "str", "required": True},
    }
    conversation: dict[str, t.Any] = {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "tls": {"type": "str", "default": "may"},
        "recipients": strings,
        "sample": {"type": "str", "default": "clean"},
        "stop_after": {"type": "str", "default": "data"},
        "expect": {"type": "str", "required": True},
    }
    service: dict[str, t.Any] = {
        "name": {"type": "str"},
        "unit": {"type": "str"},
        "files": {"type": "list", "elements": "dict", "default": [], "options": file},
        "directories": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"path": {"type": "path", "required": True}, "mode": {"type": "str", "default": "0755"}, **access},
        },
        "absent": {"type": "list", "elements": "path", "default": []},
        "validate": {"type": "list", "elements": "list", "default": []},
        "reject_output": {"type": "str"},
        "listens": {"type": "list", "elements": "int", "default": []},
        "secret_in_old_files": {"type": "str", "no_log": False},
        "also_reads": {"type": "list", "elements": "path", "default": []},
        "run": strings,
        "run_check": strings,
        "apply": {"type": "str", "choices": ["reload", "restart", "none"], "default": "reload"},
        "state": {"type": "str", "choices": ["started", "stopped", "enabled"], "default": "started"},
        "restart_on": strings,
        "replaces_workers": {"type": "bool", "default": False},
        "requires": strings,
        "wait_for": {"type": "list", "elements": "dict", "default": [], "options": probe},
        "resolves": {"type": "dict", "options": {"nameservers": {"type": "list", "elements": "str", "required": True}, "names": strings}},
        "throttles": {"type": "bool", "default": False},
        "follows": {"type": "bool", "default": False},
        "conversations": {"type": "list", "elements": "dict", "default": [], "options": conversation},
        "deliveries": {
            "type": "dict",
            "options": {"addresses": {"type": "list", "elements": "str", "required": True}, "sink": {"type": "str", "required": True}},
        },
        "timeout": {"type": "int", "default": 60},
        "requires_timeout": {"type": "int", "default": 900},
    }
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True, "options": service},
            # Ansible masks what is in here in everything that a module returns.
            "secrets": {**strings, "no_log": True},
        },
        supports_check_mode=True,
    )
    # Directories that are made on the way to a file.
    os.umask(0o022)
    try:
        # What has changed is looked at when nobody else changes anything.
        with contextlib.nullcontext(list[str]()) if module.check_mode else _files.alone() as undone:
            result = _transaction.converge(module, module.params, undone)
    except _service.Invalid as invalid:
        module.fail_json(msg=str(invalid), **invalid.more)
    except ValueError as error:
        module.fail_json(msg=f"{error}; nothing was changed")
    except _services.Failure as failure:
        module.fail_json(msg=str(failure))
    except OSError as error:
        module.fail_json(msg=f"cannot write the new files, the old ones stay in use: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
