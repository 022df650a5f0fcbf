# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of bayes_learn: read what is here, send what the gateway lacks, say how far it has come."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.antispam.gateway.plugins.module_utils import _bayes
from ansible_collections.antispam.gateway.plugins.plugin_utils import _results

# Messages that the gateway is asked about, and sent, at once.
PORTION = 500
# Seconds after which the gateway says how far it has come with messages of its own.
TURN = 20
CORPUS = {
    "path": {"type": "path", "required": True},
    "class": {"type": "str", "choices": list(_bayes.CLASSES), "required": True},
    "remote_src": {"type": "bool", "default": False},
}
WHO = "the inventory"


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        given = {"corpora": {"type": "list", "elements": "dict", "required": True, "options": CORPUS}}
        validated = ArgumentSpecValidator(given).validate(self._task.args)
        if validated.error_messages:
            raise AnsibleActionFail(f"{'; '.join(validated.error_messages)}; nothing was learned")
        self._given, self._vars = validated.validated_parameters, task_vars or {}
        self._host = str(self._vars.get("inventory_hostname", ""))
        self._totals = {"examined": 0, "learned": 0, "known": 0, "flawed": 0}
        self._flaws: list[str] = []
        places = [(corpus, None if corpus["remote_src"] else self._place(corpus["path"])) for corpus in self._given["corpora"]]
        self._refuse_both_classes(places)
        for corpus, place in places:
            if place is None:
                self._learn_there(corpus)
            else:
                self._learn_here(corpus, place)
        if self._flaws:
            _results.warn(result, [f"{self._totals['flawed']:,} messages cannot be learned: {'; '.join(self._flaws[:5])}"])
        return result | self._totals | {"changed": self._totals["learned"] > 0, "flaws": self._flaws}

    def _place(self, path: str) -> _bayes.Place:
        try:
            place = _bayes.Place(path)
        except _bayes.BayesError as error:
            raise AnsibleActionFail(f"{error}; nothing was learned") from error
        if not len(place):
            raise AnsibleActionFail(f"{path}: there is no message; name a directory of messages, a Maildir or an mbox; nothing was learned")
        return place

    def _ask(self, *words: str, **more: t.Any) -> dict[str, t.Any]:
        done = self._execute_module("antispam.gateway.bayes_learn", {**self._given, "request": {"words": list(words), **more}}, task_vars=self._vars)
        if done.get("failed"):
            raise AnsibleActionFail(str(done["msg"]))
        answer: dict[str, t.Any] = done["answer"]
        return answer

    def _refuse_both_classes(self, places: list[tuple[dict[str, t.Any], _bayes.Place | None]]) -> None:
        """Raise AnsibleActionFail where a message stands in a corpus of spam and in one of ham: nobody knows which it is."""
        of: dict[str, dict[str, str]] = {kind: {} for kind in _bayes.CLASSES}
        for corpus, place in places:
            found = self._ask("digests", corpus["path"])["digests"] if place is None else {message.digest: message.name for message in self._usable(place)}
            if not found:
                raise AnsibleActionFail(f"{corpus['path']}: there is no message that can be learned; nothing was learned")
            of[corpus["class"]] |= found
        both = sorted(of["spam"].keys() & of["ham"].keys(), key=of["spam"].__getitem__)
        if both:
            first = "; ".join(f"{of['spam'][digest]} is {of['ham'][digest]}" for digest in both[:5])
            raise AnsibleActionFail(f"{len(both):,} messages are in corpora of spam and of ham, remove each from one of them: {first}; nothing was learned")

    @staticmethod
    def _usable(place: _bayes.Place) -> t.Iterator[_bayes.Message]:
        return (message for message in (place[index] for index in range(len(place))) if not message.flaw())

    def _count(self, answer: dict[str, t.Any], kind: str, path: str, done: int, total: int) -> None:
        for name in self._totals:
            self._totals[name] += answer[name]
        self._flaws += answer["flaws"][: 20 - len(self._flaws)]
        Display().display(f"{self._host}: {path}: {done:,} of {total:,} messages of {kind}, {self._totals['learned']:,} learned in this run")

    def _learn_there(self, corpus: dict[str, t.Any]) -> None:
        kind, path = corpus["class"], corpus["path"]
        if self._task.check_mode:
            found = self._ask("digests", path)
            known = self._known(kind, list(found["digests"]))
            usable = len(found["digests"])
            answer = {"examined": found["total"], "learned": usable - len(known), "known": len(known), "flawed": 0, "flaws": []}
            self._count(answer, kind, path, found["total"], found["total"])
            return
        after: int | None = 0
        while after is not None:
            answer = self._ask("learn", f"--{kind}", "--by", WHO, "--after", str(after), "--seconds", str(TURN), path)
            after = answer["next"]
            self._count(answer, kind, path, answer["total"] if after is None else after, answer["total"])

    def _known(self, kind: str, digests: list[str]) -> set[str]:
        return set(self._ask("known", f"--{kind}", data="\n".join(digests))["known"])

    def _learn_here(self, corpus: dict[str, t.Any], place: _bayes.Place) -> None:
        kind, path = corpus["class"], corpus["path"]
        for start in range(0, len(place), PORTION):
            end = min(start + PORTION, len(place))
            messages = [place[index] for index in range(start, end)]
            known = self._known(kind, [message.digest for message in messages])
            new = [message for message in messages if message.digest not in known]
            answer: dict[str, t.Any] = {"examined": len(new), "learned": len(new), "known": 0, "flawed": 0, "flaws": []}
            if new and not self._task.check_mode:
                answer = self._send(kind, new)
            answer["examined"] += len(messages) - len(new)
            answer["known"] += len(messages) - len(new)
            self._count(answer, kind, path, end, len(place))

    def _send(self, kind: str, messages: list[_bayes.Message]) -> dict[str, t.Any]:
        """Have the gateway learn messages that are here."""
        with tempfile.NamedTemporaryFile(prefix="antispam-gateway-") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for message in messages:
                    member = tarfile.TarInfo(message.name.lstrip(os.sep))
                    member.size = len(message.content)
                    archive.addfile(member, io.BytesIO(message.content))
            file.flush()
            base: t.Any = super()  # without annotations
            remote = self._connection._shell.join_path(self._make_tmp_path(), "messages.tar")
            base._transfer_file(file.name, remote)
            try:
                return self._ask("learn", f"--{kind}", "--by", WHO, "--tar", archive=remote)
            finally:
                base._remove_tmp_path(self._connection._shell.tmpdir)
                self._connection._shell.tmpdir = None
