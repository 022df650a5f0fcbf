# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys on the disk (RFC 6376, RFC 8463), and which of them signs.

Private to antispam.gateway.
"""

from __future__ import annotations

import base64
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Collection, Sequence

from ansible_collections.antispam.gateway.plugins.module_utils import _files, _leftovers, _records

ALGORITHMS = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ed25519": ["-algorithm", "ED25519"],
}
# What DER has before the 32 bytes of a private and of a public Ed25519 key (RFC 8410).
ED25519_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
ED25519_PUBLIC = bytes.fromhex("302a300506032b6570032100")
ED25519_LENGTH = 32

# Runs a command and returns (return code, output, errors), as AnsibleModule.run_command does.
Run = Callable[..., tuple[int, str, str]]


class Broken(ValueError):
    """A file that holds no key; the text names it and the way out."""


def make(run: Run, algorithm: str) -> str:
    """Return a new private key (a key of ALGORITHMS) as the signer reads it: PEM for RSA, base64 of the 32 bytes for Ed25519."""
    pem = run(["openssl", "genpkey", *ALGORITHMS[algorithm]], check_rc=True)[1]
    if algorithm == "rsa":
        return pem
    return base64.b64encode(_der(pem).removeprefix(ED25519_PRIVATE)).decode("ascii") + "\n"


def public(run: Run, path: str | pathlib.Path, algorithm: str) -> str:
    """Return the base64 text of a key's tag p=; raises Broken."""
    try:
        text = pathlib.Path(path).read_text(encoding="ascii")
        if not text:
            raise ValueError("without input, openssl would read another one")
        if algorithm == "ed25519":
            key = base64.b64decode(text.strip(), validate=True)
            if len(key) != ED25519_LENGTH:
                raise ValueError("openssl takes no notice of what stands behind a key")
            inside = base64.b64encode(ED25519_PRIVATE + key).decode("ascii")
            text = f"-----BEGIN PRIVATE KEY-----\n{inside}\n-----END PRIVATE KEY-----\n"
        # "openssl rsa -check" takes no other kind of key and no public one; the empty password keeps it from asking for one.
        command = ["openssl", "rsa", "-passin", "pass:", "-check", "-pubout"] if algorithm == "rsa" else ["openssl", "pkey", "-pubout"]
        rc, out, _err = run(command, data=text)
        # It says what it found, and exits with 0 all the same.
        whole = algorithm != "rsa" or "RSA key ok" in out
        der = _der(out) if rc == 0 and whole else b""
    except (OSError, ValueError):
        rc, der = 1, b""
    if rc or not der:
        raise Broken(f"{path} is no {algorithm} key that can be read; put it right, or move it away and a new one is made")
    return base64.b64encode(der.removeprefix(ED25519_PUBLIC)).decode("ascii")


def _der(pem: str) -> bytes:
    """Return what PEM holds; openssl may print more than that."""
    inside = re.search(r"-----BEGIN [A-Z ]+-----(.*?)-----END", pem, re.DOTALL)
    return base64.b64decode(inside[1]) if inside else b""


def record(algorithm: str, key: str) -> str:
    """Return the text of a public key's TXT record (RFC 6376 section 3.6.1)."""
    return f"v=DKIM1; k={algorithm}; p={key}"


def published(name: str, key: str) -> tuple[str, str]:
    """Return whether a public key's record is published: 'yes', 'no', 'other' (another key is) or 'unknown', and why not."""
    try:
        found = [tags for tags in map(_records.tags, _records.lookup(name, "TXT")) if "p" in tags]
    except _records.Unknown as error:
        return "unknown", f"the DNS does not answer ({error})"
    if len(found) > 1:
        # RFC 6376 section 3.6.2.2 leaves open which one counts.
        return "other", f"{name} holds more than one key"
    if any(tags["p"] == key for tags in found):
        return "yes", ""
    if found:
        return "other", f"{name} holds another key"
    return "no", f"{name} is not published"


class Keyring:
    """The keys of one directory, and the domains that they sign for.

    Beside the keys, SELECTOR.pem, a file `signing` has the selector in use in its first line, and below it the domains that are signed with it.
    """

    def __init__(self, run: Run, directory: str, domains: Sequence[str], algorithm: str) -> None:
        self.run, self.domains, self.algorithm = run, domains, algorithm
        self.directory = pathlib.Path(directory)

    def directories(self) -> list[pathlib.Path]:
        """Return the directories that this writes in, the upper ones first."""
        return [self.directory.parent.parent, self.directory.parent, self.directory]

    def path(self, selector: str) -> pathlib.Path:
        return self.directory / f"{selector}.pem"

    def public(self, selector: str) -> str:
        """Return the base64 text of a key's tag p=, '' where there is no file; raises Broken."""
        path = self.path(selector)
        return public(self.run, path, self.algorithm) if path.exists() else ""

    def signing(self) -> tuple[str, list[str]]:
        """Return (selector, domains) in use, ('', []) where there is none or its key is gone."""
        try:
            selector, *domains = (self.directory / "signing").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return "", []
        domains = [domain for domain in self.domains if domain in domains]
        return (selector, domains) if self.path(selector).exists() and domains else ("", [])

    def next(self, selector: str, published: Collection[str]) -> tuple[str, list[str]]:
        """Return (selector, domains) to sign with from now on: a new key takes over once it is published for all that the old one signs for."""
        before, domains = self.signing()
        if before == selector:
            return before, [domain for domain in self.domains if domain in domains or domain in published]
        if published and set(domains) <= set(published):
            return selector, [domain for domain in self.domains if domain in published]
        return before, domains

    def add(self, selector: str, ids: tuple[int, int]) -> None:
        """Make the key of a selector; its file and the directories get the owner and the group `ids`. Raises OSError."""
        if not self.signing()[0]:
            # It names a key that is gone, which may have had this very selector.
            (self.directory / "signing").unlink(missing_ok=True)
        for directory in self.directories()[1:]:
            if not directory.exists():
                directory.parent.mkdir(parents=True, exist_ok=True)
                # With its owner from the first moment on: nobody would look at that again.
                aside = tempfile.mkdtemp(prefix=_leftovers.aside(directory.name), dir=directory.parent)
                os.chown(aside, *ids)
                os.chmod(aside, 0o750)
                os.rename(aside, directory)
        _files.replace(self.path(selector), make(self.run, self.algorithm).encode("ascii"), ids, 0o640)

    def sign_with(self, selector: str, domains: Sequence[str], ids: tuple[int, int]) -> None:
        """Write what signing() reads. Raises OSError."""
        _files.replace(self.directory / "signing", "\n".join([selector, *domains, ""]).encode("ascii"), ids, 0o640)
