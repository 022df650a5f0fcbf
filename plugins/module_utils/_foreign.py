# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody else has set up on this host, service by service.

Private to antispam.gateway. A file with our header line is ours, and what a
Debian package wrote itself is nobody's. Everything else is somebody's work.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable
from typing import TypedDict

from ansible_collections.antispam.gateway.plugins.module_utils import _debian, _files

# (arguments) -> (exit status, standard output, standard error), as AnsibleModule.run_command; raises OSError where there is no such command.
Run = Callable[..., tuple[int, str, str]]

ROOT = pathlib.Path("/")
# More recipients than these are counted, not listed.
MOST = 20_000
# {parameter: debconf's question that its value comes from}, see postfix.postinst
_ASKED = {"mydestination": "destinations", "mynetworks": "mynetworks", "relayhost": "relayhost", "mailbox_size_limit": "mailbox_limit"}
# What postfix.postinst writes without a question, or for a question with few answers.
_WRITTEN = {
    "alias_database": r"(hash|lmdb):/etc/aliases",
    "alias_maps": r"((hash|lmdb):/etc/aliases|\$alias_database)(, ?nis:mail\.aliases)?",
    "compatibility_level": r".*",
    "cyrus_sasl_config_path": r"/etc/postfix/sasl",
    "default_transport": r"error",
    "html_directory": r".*",
    "inet_interfaces": r"all|loopback-only",
    "inet_protocols": r"all|ipv4|ipv6",
    "mailbox_command": r'(procmail -a "\$EXTENSION")?',
    "mailbox_size_limit": r"0|51200000",
    "mydomain": r".*",
    "myhostname": r".*",
    "myorigin": r"/etc/mailname",
    "readme_directory": r".*",
    "recipient_delimiter": r"\+?",
    "relay_transport": r"error",
    "relayhost": r"",
    "smtpd_relay_restrictions": r"permit_mynetworks,? permit_sasl_authenticated,? (defer|reject)_unauth_destination",
    "smtpd_tls_session_cache_database": r"btree:\$\{data_directory\}/smtpd_scache",
    "smtpd_use_tls": r"yes",
}
_LOOPBACK = re.compile(r"127\.0\.0\.0/8|\[::ffff:127\.0\.0\.0\]/104|\[::1\]/128")
_MAP = re.compile(r"(hash|btree|lmdb|cdb|dbm|texthash):(/\S+)")


class Postfix(TypedDict):
    """What is in a Postfix that somebody set up."""

    parameters: dict[str, str]  # of main.cf
    services: dict[str, str]  # of master.cf: {name/type: command}
    relay_domains: list[str]
    recipients: list[str]  # at most MOST
    recipients_count: int


class Foreign(TypedDict):
    """What somebody set up. A service that is ours, or not there, has nothing."""

    postfix: Postfix | None
    amavis: list[str]  # statements of 50-user
    spamassassin: list[str]  # lines of local.cf
    # Files that our configuration replaces, and those that it leaves in force.
    replaced: list[str]
    in_force: list[str]


def look(run: Run, files: Iterable[str]) -> Foreign:
    """Return what is somebody else's. files: configuration files of services that are to have ours, one a service."""
    in_force = []
    # What the service went on reading when we took it over was named then.
    for ours, pattern in (("/etc/amavis/conf.d/50-user", "etc/amavis/conf.d/*"), ("/etc/spamassassin/local.cf", "etc/spamassassin/*.cf")):
        if not _files.is_ours(_place(ours)):
            in_force += [f"/{path.relative_to(ROOT)}" for path in sorted(ROOT.glob(pattern)) if f"/{path.relative_to(ROOT)}" != ours]
    return Foreign(
        postfix=_postfix(run) if has_postfix() else None,
        amavis=_statements("/etc/amavis/conf.d/50-user"),
        spamassassin=_statements("/etc/spamassassin/local.cf"),
        replaced=[path for path in files if is_foreign(path)],
        in_force=[path for path in in_force if is_foreign(path)],
    )


def _place(path: str) -> pathlib.Path:
    return ROOT / path.lstrip("/")


def has_postfix() -> bool:
    """Return whether this host has a Postfix that is not ours."""
    return is_foreign("/etc/postfix/main.cf")


def is_foreign(path: str) -> bool:
    """Return whether a file is there, and is somebody else's."""
    try:
        return is_foreign_content(path, _place(path).read_bytes())
    except OSError:
        return False


def is_foreign_content(path: str, content: bytes) -> bool:
    """Return whether a file with this content is somebody else's: neither ours nor as its package wrote it."""
    return not _files.has_header(content) and not _debian.is_shipped(path, content)


def _statements(path: str) -> list[str]:
    """Return what stands in a file of amavis or SpamAssassin: no comments, and not what makes it a file of Perl."""
    if not is_foreign(path):
        return []
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in _read(path).splitlines())
    return [line for line in lines if line and not re.fullmatch(r"use strict;|1;", line)]


def logical_lines(text: str) -> list[str]:
    """Return the lines of main.cf or master.cf, each with those that continue it (postconf(5)), without comments and with single blanks."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    return [" ".join(line.split()) for line in lines]


def main_cf(text: str) -> dict[str, str]:
    """Return {parameter: value}; of one that is there twice the last counts."""
    found = {}
    for line in logical_lines(text):
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found


def master_cf(text: str) -> dict[str, str]:
    """Return {name/type: command with its options} (master(5))."""
    found = {}
    for line in logical_lines(text):
        fields = line.split(maxsplit=7)
        if len(fields) == 8:
            found[f"{fields[0]}/{fields[1]}"] = fields[7]
    return found


def _read(path: str) -> str:
    try:
        return _place(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _postfix(run: Run) -> Postfix:
    own = main_cf(_read("/usr/share/postfix/main.cf.debian") + _read("/usr/share/postfix/main.cf.tls"))
    answers = _debian.answers("postfix")
    parameters = {
        name: value for name, value in main_cf(_read("/etc/postfix/main.cf")).items() if own.get(name) != value and not _is_answer(name, value, answers)
    }
    services = master_cf(_read("/usr/share/postfix/master.cf.dist"))
    names, maps = (_words(run, name, parameters) for name in ("relay_domains", "relay_recipient_maps"))
    recipients = sorted(set().union(*(_keys(run, name) for name in maps)))
    return Postfix(
        parameters=parameters,
        services={name: command for name, command in master_cf(_read("/etc/postfix/master.cf")).items() if services.get(name) != command},
        relay_domains=sorted(set().union(*(_keys(run, name) or {name} for name in names))),
        recipients=recipients[:MOST],
        recipients_count=len(recipients),
    )


def _words(run: Run, name: str, parameters: dict[str, str]) -> list[str]:
    """Return the words of a parameter that is set, with what it refers to; without Postfix's own program as they stand in the file."""
    if name not in parameters:
        return []
    rc, out, _err = _try(run, "postconf", "-hx", name)
    return (parameters[name] if rc else out).replace(",", " ").split()


def _try(run: Run, *words: str) -> tuple[int, str, str]:
    """Run a command that may not be there: of a Postfix that was removed the configuration may be left."""
    try:
        return run(list(words))
    except OSError as error:
        return 127, "", str(error)


def _is_answer(name: str, value: str, answers: dict[str, str]) -> bool:
    """Return whether the package writes this value by itself, or for what it was answered."""
    if re.fullmatch(_WRITTEN.get(name, r"(?!)"), value):
        return True
    if name == "mynetworks" and all(_LOOPBACK.fullmatch(word) for word in value.replace(",", " ").split()):
        return True
    answer = answers.get(_ASKED.get(name, ""))
    return answer is not None and answer.replace(",", " ").split() == value.replace(",", " ").split()


def _keys(run: Run, name: str) -> set[str]:
    """Return the keys of a table that can be listed; none of any other, or of what is no table."""
    table = _MAP.fullmatch(name)
    if not table:
        return set()
    if table[1] == "texthash":
        return {line.split()[0] for line in logical_lines(_read(table[2]))}
    rc, out, _err = _try(run, "postmap", "-s", name)
    return {line.split("\t")[0] for line in out.splitlines() if line} if not rc else set()
