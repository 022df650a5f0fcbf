# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator sets by a daemon's own name, as that daemon takes it.

Private to antispam.gateway; used on the controller. YAML has booleans, numbers,
lists and dictionaries; each daemon has its own words for some of them and none
for the others. Every function returns text, or a list of texts where the
daemon's file has a line a value, and raises ValueError with a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")
_PERL_NAME = re.compile(r"[A-Za-z_]\w*(?:::\w+)*\Z", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)\Z", re.ASCII)
_SERVICE = re.compile(r"\S+/(?:inet|unix|unix-dgram|fifo|pass)\Z")
# master(5). The fields that are y, n or -.
_FLAGS = ("private", "unprivileged", "chroot")
_FIELDS = (*_FLAGS, "wakeup", "process_limit", "command", "options")

Value = str | list[str] | None


def _scalar(value: Any, true: str = "yes", false: str = "no") -> str:
    """Return one value as text."""
    if isinstance(value, bool):
        return true if value else false
    if isinstance(value, (str, int, float)):
        return str(value)
    kind = "a list" if isinstance(value, list) else "a dictionary" if isinstance(value, dict) else "null" if value is None else "this"
    raise ValueError(f"{kind} cannot be written there; write text, a number, true or false")


def _one_line(text: str) -> str:
    """Return text that stays in its line: what follows a line break would be a parameter of its own."""
    if re.search(r"[\r\n\0]", text.rstrip("\n")):
        raise ValueError("it has a line break in it; write one line")
    return text.rstrip("\n")


def _lines(value: Any) -> Value:
    """Return what stands behind a name, or in a line a value behind the same name."""
    if isinstance(value, list):
        return [_one_line(_scalar(each)) for each in value]
    return None if value is None else _one_line(_scalar(value))


def _joined(separator: str) -> Callable[[Any], Value]:
    def join(value: Any) -> Value:
        found = _lines(value)
        return separator.join(found) if isinstance(found, list) else found

    return join


def postfix(value: Any) -> Value:
    """Return a value of main.cf (postconf(5)). A list stays one, which is written a line an entry.

    A line break is good where the next line begins with white space, which continues the value.
    """
    if isinstance(value, str):
        text = value.rstrip("\n")
        if re.search(r"\r|\0|\n(?=\S|\n|\Z)", text):
            raise ValueError("a line in it begins without white space, so it would be a parameter of its own; write a list")
        return text
    return _lines(value)


def postfix_service(fields: Any) -> dict[str, Any] | None:
    """Return the fields of a service of master.cf (master(5)) that an administrator sets."""
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ValueError(f"it is no dictionary; write one with any of {', '.join(_FIELDS)}")
    unknown = sorted(str(name) for name in fields if name not in _FIELDS)
    if unknown:
        raise ValueError(f"{unknown[0]} is no field of a service; a service has {', '.join(_FIELDS)}")
    result: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "options":
            result[name] = parameters(value or {}, _joined(","), "options")
        elif isinstance(value, bool) and name not in _FLAGS:
            raise ValueError(f"{name} is {'true' if value else 'false'}; write {'text' if name == 'command' else 'a number'}")
        else:
            result[name] = _one_line(_scalar(value, "y", "n"))
    return result


def spamassassin_score(value: Any) -> Value:
    """Return a score of Mail::SpamAssassin::Conf(3pm): a number, or four, one a score set."""
    if isinstance(value, bool):
        raise ValueError("it is true or false; write a number such as 2.5")
    text = _joined(" ")(value)
    numbers = [word for word in str(text).split() if _NUMBER.match(word)]
    if len(numbers) not in (1, 4) or len(numbers) != len(str(text).split()):
        raise ValueError("it is no score; write a number such as 2.5, or four, one for each score set")
    return text


def _perl(value: Any) -> str:
    if value is None:
        return "undef"
    if isinstance(value, bool):
        # Not undef for false: where amavis finds undef it goes back to its default, which may be true.
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + _scalar(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def amavis(parameters_: dict[str, Any], where: str) -> dict[str, str]:
    """Return {variable with its $ or @: Perl expression}: text is a scalar, a list an array, a dictionary a hash (perldata(1))."""
    result = {}
    for name, value in parameters_.items():
        _check_name(name, where, _PERL_NAME)
        try:
            if isinstance(value, list):
                result[f"@{name}"] = f"({''.join(_perl(each) + ', ' for each in value)})"
            elif isinstance(value, dict):
                result[f"%{name}"] = f"({''.join(f'{_perl(str(key))} => {_perl(each)}, ' for key, each in value.items())})"
            else:
                result[f"${name}"] = _perl(value)
        except ValueError as error:
            raise ValueError(f"{where}['{name}']: in a list or a dictionary {error}") from error
    return result


def _check_name(name: Any, where: str, pattern: re.Pattern[str]) -> None:
    if not isinstance(name, str) or not pattern.match(name):
        raise ValueError(f"{where}['{name}']: '{name}' is not the name of a parameter")


def parameters(given: Any, write: Callable[[Any], Any], where: str, names: re.Pattern[str] = _NAME) -> dict[str, Any]:
    """Return {name: what write() makes of its value}; ValueError names the parameter."""
    if not isinstance(given, dict):
        raise ValueError(f"{where}: it is no dictionary; write one of name to value")
    result = {}
    for name, value in given.items():
        _check_name(name, where, names)
        try:
            result[name] = write(value)
        except ValueError as error:
            raise ValueError(f"{where}['{name}']: {error}") from error
    return result


# {variable: how its values are written}. mta_sts_settings becomes YAML again, which has all of them.
WRITERS: dict[str, Callable[[Any], Any]] = {
    "postfix_main_cf": postfix,
    "postfix_master_cf": postfix_service,
    "resolver_settings": _lines,
    "clamav_clamd_parameters": _lines,
    "clamav_freshclam_parameters": _lines,
    "redis_parameters": _lines,
    "dovecot_settings": _joined(" "),
    "dkimpy_milter_settings": _joined(","),
    "spamassassin_scores": spamassassin_score,
}


def write_all(variables: dict[str, Any]) -> list[str]:
    """Put every value that is given by a daemon's own name in that daemon's words; return sentences about those that have none."""
    problems = []
    for variable, write in WRITERS.items():
        result: dict[str, Any] = {}
        for name, value in variables[variable].items():
            try:
                result |= parameters({name: value}, write, variable, _SERVICE if variable == "postfix_master_cf" else _NAME)
            except ValueError as error:
                problems.append(str(error))
        variables[variable] = result
    written: dict[str, str] = {}
    for name, value in variables["amavis_parameters"].items():
        try:
            written |= amavis({name: value}, "amavis_parameters")
        except ValueError as error:
            problems.append(str(error))
    variables["amavis_parameters"] = written
    return problems
