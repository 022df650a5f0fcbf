# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.antispam.gateway.plugins.plugin_utils import _model, _results, _schema

COLLECTION = pathlib.Path(__file__).resolve().parents[2]
# What a role says of a service or of a file for this action alone.
OF_A_SERVICE = ("optional", "foundation", "files")
PROGRAM_HEADER = "#!/usr/bin/python3\n# Managed by Ansible (antispam.gateway). Changes made here are undone by the next run.\n"
OF_A_FILE = ("template", "source", "present", "secret")


class ActionModule(ActionBase):
    """Renders what roles declare, and has the host switch to it as one."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        given = task_vars or {}
        result = super().run(tmp, given)
        arguments = {
            "roles": {"type": "list", "elements": "str", "required": True, "choices": list(_schema.roles())},
            "step": {"type": "str", "choices": ["packages", "foundation", "services"], "required": True},
        }
        validated = ArgumentSpecValidator(arguments).validate(self._task.args)
        if validated.error_messages:
            raise AnsibleActionFail("; ".join(validated.error_messages))
        roles, step = validated.validated_parameters["roles"], validated.validated_parameters["step"]
        preflight = given.get("__gateway_preflight") or {}
        if "site" not in preflight:
            raise AnsibleActionFail("antispam.gateway.preflight has not looked at this host; include the role antispam.gateway.gateway first")
        variables = _role_vars(self._loader) | dict(given) | _model.settings(given, self._templar.template)
        self._render = self._templar.copy_with_new_env(available_variables=variables).template
        if step == "packages":
            return result | {"changed": False} | self._missing(roles, variables, preflight["packages"])
        services = [service for role in roles for service in self._services(role, variables, preflight)]
        services = sorted((each for each in services if each["foundation"] == (step == "foundation")), key=lambda each: each.get("follows", False))
        missing = self._missing(roles, variables, preflight["packages"])["packages"] if self._task.check_mode else []
        # What validates, or what is validated, is not there yet; nor are keys and tables, which other tasks write first.
        if missing:
            result["warnings"] = [f"not validated, because packages have to be installed first: {', '.join(missing)}"]
        elif self._task.check_mode and preflight["foreign_postfix"]:
            result["warnings"] = ["not validated, because this host is still as somebody else has set it up"]
        if result.get("warnings"):
            services = [service | {"validate": []} for service in services]
        sent = {"services": [{name: value for name, value in service.items() if name not in OF_A_SERVICE[:2]} for service in services]}
        secrets = [secret for role in roles for secret in self._declared(role, "secrets", variables) or []]
        queued = step == "services" and "postfix" in roles and (preflight["foreign_postfix"] or preflight["queued_mail"])
        if queued and preflight["foreign_postfix"]:
            self._queued_mail("held", preflight, given)
        done: dict[str, t.Any] = self._execute_module("antispam.gateway.service_config", sent | {"secrets": secrets}, task_vars=given)
        done["summary"] = [f"{name}: {action}" for name, action in done.get("actions", {}).items()]
        if done.get("backup"):
            done["summary"].append(f"copies of the files that somebody else wrote: {done['backup']}")
        _results.warn(done, result.get("warnings", []))
        if queued and done.get("failed"):
            try:
                self._queued_mail("released", preflight, given)
            except AnsibleActionFail as error:
                # What went wrong first is said first.
                done["msg"] = f"{done['msg']} Queued mail is still on hold: {error}"
        elif queued:
            mail = self._queued_mail("scanned", preflight, given)
            _results.warn(done, mail.get("warnings") or [])
            done["summary"] += [f"queued mail, scanned and on its way: {message}" for message in mail.get("sent", [])]
        return done

    def _queued_mail(self, state: str, preflight: dict[str, t.Any], given: dict[str, t.Any]) -> dict[str, t.Any]:
        """Have the host deal with mail that a former set-up has queued."""
        site = preflight["site"]
        arguments = {"state": state, "lost_domains": preflight["lost_domains"], "host": site["loopback"], "port": site["ports"]["amavis"]}
        done: dict[str, t.Any] = self._execute_module("antispam.gateway.queued_mail", arguments, task_vars=given)
        if done.get("failed"):
            raise AnsibleActionFail(str(done["msg"]))
        return done

    def _declared(self, role: str, what: str, variables: dict[str, t.Any]) -> t.Any:
        """Return what a role says in __ROLE_WHAT, None where it says nothing."""
        name = f"__{role}_{what}"
        if name not in variables:
            return None
        try:
            return self._render(variables[name])
        except AnsibleError as error:
            raise AnsibleActionFail(f"role {role}: {name} cannot be rendered: {error}; nothing was changed") from error

    def _missing(self, roles: list[str], variables: dict[str, t.Any], installed: list[str]) -> dict[str, t.Any]:
        """Return the packages that are to be installed, and the answers to their questions (debconf(7))."""
        wanted = [package for role in roles for package in self._declared(role, "packages", variables) or []]
        missing = [package for package in dict.fromkeys(wanted) if package not in installed]
        answers = [answer for role in roles for answer in self._declared(role, "debconf", variables) or [] if answer["name"] in missing]
        return {"packages": missing, "debconf": answers}

    def _services(self, role: str, variables: dict[str, t.Any], preflight: dict[str, t.Any]) -> t.Iterator[dict[str, t.Any]]:
        """Return the services of a role, as service_config takes them."""
        optional = preflight["site"]["optional"]
        for declared in self._declared(role, "services", variables) or []:
            service = {"foundation": False, **declared}
            if "optional" in service and not optional[service["optional"]]:
                # One that somebody else has set up is left alone.
                if service["optional"] not in preflight["ours"]:
                    continue
                service |= {"state": "stopped", "listens": []}
            service["files"] = [self._file(role, file, variables) for file in service.get("files", [])]
            yield service

    def _file(self, role: str, declared: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return a file as service_config takes it. Its template has the path of the file below the role's templates, and .j2."""
        file = {name: value for name, value in declared.items() if name not in OF_A_FILE}
        if "content" in file or not declared.get("present", True):
            return file
        if "source" in declared:
            # A program of the collection has no line that names its interpreter while it is a part of Ansible.
            content = PROGRAM_HEADER + (COLLECTION / declared["source"]).read_text(encoding="utf-8")
        else:
            template = COLLECTION / "roles" / role / "templates" / f"{declared.get('template', declared['path']).lstrip('/')}.j2"
            try:
                content = self._render(trust_as_template(template.read_text(encoding="utf-8")), escape_backslashes=False)
            except AnsibleError as error:
                raise AnsibleActionFail(f"role {role}: {declared['path']} cannot be rendered: {error}; nothing was changed") from error
        return file | {"secret_content" if declared.get("secret") else "content": content}


def _role_vars(loader: t.Any) -> dict[str, t.Any]:
    """Return the internal variables of all roles: a play that names one role reads those of another, too."""
    found: dict[str, t.Any] = {}
    for role in _schema.roles():
        for path in sorted((COLLECTION / "roles" / role / "vars").glob("**/*.yml")):
            found |= loader.load_from_file(str(path), trusted_as_template=True) or {}
    return found
