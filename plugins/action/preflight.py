# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.antispam.gateway.plugins.plugin_utils import _judge, _model, _take_over, sources


class ActionModule(ActionBase):
    """The controller's half of a run: derive(variables), one look at the host, judge(model, observed)."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        given = task_vars or {}
        result = super().run(tmp, given)
        switches = {"survey": {"type": "bool", "default": True}, "only_ownership": {"type": "bool", "default": False}}
        validated = ArgumentSpecValidator(switches).validate(self._task.args)
        if validated.error_messages:
            raise AnsibleActionFail("; ".join(validated.error_messages))
        model = _model.derive(given, self._templar.template)
        observed: dict[str, t.Any] | None = None
        problems = []
        whose: list[str] = []
        only_ownership = validated.validated_parameters["only_ownership"]
        if validated.validated_parameters["survey"]:
            questions = _judge.ownership_questions(model) if only_ownership else _judge.questions(model)
            observed = self._execute_module("antispam.gateway.survey", questions, task_vars=given)
            if observed.get("failed") or observed.get("unreachable"):
                return observed
            # Tables alone are not a set-up that could be taken over.
            whose = _judge.ownership(model, observed, model.variables["gateway_take_over"] and not only_ownership)
            problems = [] if only_ownership else self._login(model, given)
        findings = _judge.judge(model, None if only_ownership else observed)
        problems = findings.problems + self._sources(model) + problems
        result["warnings"] = findings.warnings + ([] if observed is None or only_ownership else self._store(model, given))
        if self._task.check_mode:
            # Nothing is taken over, so the rest can be shown as well.
            result["warnings"] = result["warnings"] + whose
        else:
            problems += whose
        if problems:
            count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            msg = f"Nothing was changed: the site has {count}.\n" + "\n".join(f"- {problem}" for problem in problems)
            return result | {"failed": True, "msg": msg, "problems": problems}
        if observed is not None:
            lost = _take_over.lost_domains(model, observed["foreign"])
            result |= {"foreign_postfix": bool(observed["foreign"]["postfix"]), "lost_domains": lost, "queued_mail": observed["queued_mail"]}
        if observed is not None and not only_ownership:
            result |= {
                "debian": observed["system"][1],
                "packages": observed["packages"],
                "active": observed["active"],
                "ours": [service for service, path in _model.OPTIONAL_FILES.items() if path in observed["marked"]],
                "resolvers": observed["resolvers"],
            }
        return result | {"changed": False, "site": model.facts(findings.limits)}

    def _sources(self, model: _model.Model) -> list[str]:
        """Look at the sources of tables, which are on the controller or asked by it."""
        directory = self._loader.get_basedir()
        variables = ("gateway_recipient_sources", "gateway_sender_score_sources")
        return [problem for name in variables for problem in sources.mistakes(model.variables[name], directory, name)]

    def _store(self, model: _model.Model, given: dict[str, t.Any]) -> list[str]:
        """Ask the Redis server that the site names, by a call of its own, as _login does. Mail is judged without it, so it is no mistake."""
        store, login = model.store, model.variables["gateway_redis"] or {}
        if model.problems or store.own:
            return []
        asked = {"host": store.host, "port": store.port, "tls": store.tls, "username": login.get("username"), "password": login.get("password")}
        questions = {"hostname": model.site.hostname, "ca_file": model.variables["gateway_tls_ca_file"] or None, "store": asked}
        found = self._execute_module("antispam.gateway.survey", questions, task_vars=given)
        said = found.get("store") or (found.get("msg") if found.get("failed") else "")
        return [f"gateway_redis.server: {store.name} {said}; until that is put right, mail is judged without what is kept there"] if said else []

    def _login(self, model: _model.Model, given: dict[str, t.Any]) -> list[str]:
        """Log in to the smarthost, by a module of its own: what a module is given as a secret is masked in all that it returns."""
        hop = model.outgoing.smarthost
        login = model.variables["gateway_smarthost"] or {}
        # Without brackets Postfix asks the servers that MX records name.
        if model.problems or not hop or not hop.bracketed or not login.get("username"):
            return []
        arguments = {
            "host": hop.host,
            "port": hop.port,
            "helo": model.site.hostname,
            "tls": "require",
            "validate_certs": login["tls"] == "secure",
            "ca_path": model.variables["gateway_tls_ca_file"] or None,
            "username": login["username"],
            "password": login["password"],
            "stop_after": "login",
            "timeout": 30,
        }
        found = self._execute_module("antispam.gateway.smtp_conversation", arguments, task_vars=given)
        # Whether it answers at all, and with which certificate, the survey has seen; and Postfix knows more ways to log in.
        reply = found.get("reply") or {}
        if reply.get("step") != "login" or reply.get("code") == 235:
            return []
        said = " ".join(reply.get("lines") or [])
        return [f"gateway_smarthost: {hop} refuses the login of {login['username']} ({said}); correct username and password"]
