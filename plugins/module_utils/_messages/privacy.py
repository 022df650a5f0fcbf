# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records keep of addresses and subjects: the text itself, or a keyed hash of it.

Private to antispam.gateway. Who has the store alone learns nothing from a hash; who asks for an address that is known finds it, because
the key lies on the gateway. Domain and address are hashed each, so that a domain can be asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pathlib
import re
import secrets
import unicodedata

_KEY_BYTES = 32
# What looks like an address in the text of an answer.
_IN_TEXT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s<>()\[\],;:"@]+)@[^\s<>()\[\],;:"@]+')
_WORDS = re.compile(r"\w+")
MAX_WORDS = 60


def key_of(path: pathlib.Path, create: bool = False) -> bytes:
    """Return the key that lies in a file; create: make it where it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if not create:
            return b""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
    return path.read_bytes()


class Privacy:
    """What is kept, as the site has said it."""

    def __init__(self, addresses: str, subjects: str, key: bytes) -> None:
        self.hash_addresses, self.hash_subjects, self._key = addresses == "hash", subjects == "hash", key

    def _hash(self, text: str, length: int) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:length]

    def address(self, address: str) -> str:
        """Return an address as it is kept to be shown."""
        if not self.hash_addresses or not address:
            return address
        domain, _at, local = self._key_of(address).partition("@")
        return f"{local}@{domain}" if local else domain

    def key(self, address: str) -> str:
        """Return an address as it is kept to be found: domain first, so that all of one domain stand together. For @domain, how each begins."""
        return self._key_of(address) if self.hash_addresses and address else _plain_key(address)

    def _key_of(self, address: str) -> str:
        plain = _plain_key(address)
        domain, at, local = plain.partition("@")
        return f"{self._hash(domain, 16)}@{self._hash(plain, 20) if local else ''}" if at else self._hash(plain, 16)

    def text(self, text: str) -> str:
        """Return the text of an answer as it is kept."""
        return _IN_TEXT.sub(lambda match: self.address(match[0]), text) if self.hash_addresses else text

    def subject(self, subject: str) -> str:
        """Return a subject as it is kept to be shown, nothing where only hashes are kept."""
        return "" if self.hash_subjects else subject

    def words(self, subject: str) -> str:
        """Return the words of a subject as they are kept to be found."""
        folded = folded_subject(subject)
        if not self.hash_subjects:
            return folded
        found = dict.fromkeys(_WORDS.findall(folded))
        return " ".join(self._hash(word, 10) for word in list(found)[:MAX_WORDS])

    def wanted(self, words: str) -> list[str]:
        """Return what has to stand in words() of a subject, for each word that is asked for."""
        folded = folded_subject(words)
        return [self._hash(word, 10) for word in _WORDS.findall(folded)] if self.hash_subjects else folded.split()


def folded_subject(subject: str) -> str:
    """Return a subject in which upper and lower case, and what looks alike in Unicode, are the same."""
    return unicodedata.normalize("NFKC", subject).casefold()


def _plain_key(address: str) -> str:
    folded = unicodedata.normalize("NFC", address).casefold()
    local, at, domain = folded.rpartition("@")
    return f"{domain.rstrip('.')}@{local}" if at else folded
