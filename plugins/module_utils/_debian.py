# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debian's packages wrote themselves, so that it is nobody's work.

Private to antispam.gateway. dpkg(1) keeps a digest of each conffile as it was
shipped, ucf(1) of each file that a package makes from answers, and debconf(7)
the answers.
"""

from __future__ import annotations

import functools
import hashlib
import pathlib
import re

DPKG_STATUS = pathlib.Path("/var/lib/dpkg/status")
UCF_HASHES = pathlib.Path("/var/lib/ucf/hashfile")
DEBCONF_ANSWERS = pathlib.Path("/var/cache/debconf/config.dat")
# What postfix.postinst copies.
COPIES = {"/etc/postfix/master.cf": pathlib.Path("/usr/share/postfix/master.cf.dist")}
# A conffile in the status file; of one that a package no longer has, a word follows.
_CONFFILE = re.compile(r"^ (/\S+) ([0-9a-f]{32})(?: \w+)*$", re.MULTILINE)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@functools.cache
def _shipped(status: pathlib.Path, hashes: pathlib.Path) -> dict[str, str]:
    """Return {path: MD5 digest of its content as the package wrote it}."""
    found = dict(_CONFFILE.findall(_text(status)))
    for line in _text(hashes).splitlines():
        digest, _space, path = line.partition("  ")
        found[path.strip()] = digest
    return found


def is_shipped(path: str, content: bytes) -> bool:
    """Return whether a file is as its package wrote it."""
    origin = COPIES.get(path)
    if origin and origin.is_file():
        return content == origin.read_bytes()
    return _shipped(DPKG_STATUS, UCF_HASHES).get(path) == hashlib.md5(content, usedforsecurity=False).hexdigest()


def answers(package: str) -> dict[str, str]:
    """Return {question: answer} of what debconf knows of a package; a question is without the package's name."""
    found = {}
    for stanza in _text(DEBCONF_ANSWERS).split("\n\n"):
        fields = dict(re.findall(r"^(\w+): (.*)$", stanza, re.MULTILINE))
        owner, _slash, question = fields.get("Name", "").partition("/")
        if owner == package and "Value" in fields:
            found[question] = fields["Value"]
    return found
