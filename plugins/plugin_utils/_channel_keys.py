# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule channels of a site, and the keys that they are signed with.

Private to antispam.gateway; used on the controller. It touches no host, and asks nobody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.module_utils import _addresses, _rule_channels

# Debian's timer updates this one, with the key that is in its package.
OWN = "updates.spamassassin.org"
ARMOR = re.compile(r"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\n(?:[!-~]+: .*\n)*\s*\n((?:[A-Za-z0-9+/=]+[ \t]*\n)+)-----END PGP PUBLIC KEY BLOCK-----")


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each mistake."""
    problems: list[str] = []
    seen: dict[str, str] = {}
    for index, entry in enumerate(variables["spamassassin_channels"]):
        variable = f"spamassassin_channels[{index}]"
        try:
            name = _addresses.fqdn(entry["name"])
        except ValueError as error:
            problems.append(f"{variable}.name: {error}")
            name = ""
        if name == OWN:
            problems.append(f"{variable}.name: {OWN} is updated without being named, see spamassassin_update_rules; remove it")
        elif name and _rule_channels.file_name(name) in seen:
            problems.append(f"{variable}.name: {name} has the same files as {seen[_rule_channels.file_name(name)]}; keep one of them")
        elif name:
            seen[_rule_channels.file_name(name)] = name
        if not entry.get("key"):
            problems.append(f"{variable}.key: {entry['name']} has no key, so nobody could tell its rules from forged ones; write the public key that signs it")
            continue
        try:
            found = fingerprint(entry["key"])
        except ValueError as error:
            problems.append(f"{variable}.key: {error}")
            continue
        wanted = re.sub(r"\s|^0x", "", entry.get("key_id") or "").upper()
        if wanted and (not re.fullmatch(r"(?:[0-9A-F]{8}){1,5}", wanted) or not found.endswith(wanted)):
            problems.append(f"{variable}.key_id: the key has the fingerprint {found}; correct key_id, or get the key that the channel publishes")
    return problems


def channels(variables: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the gateway has to know of each channel; the site is to be without mistakes."""
    names = [_addresses.fqdn(entry["name"]) for entry in variables["spamassassin_channels"]]
    keys = [entry["key"].strip() + "\n" for entry in variables["spamassassin_channels"]]
    return [{"name": name, "files": _rule_channels.file_name(name), "key": key} for name, key in zip(names, keys, strict=True)]


def fingerprint(key: str) -> str:
    """Return the fingerprint of an armored public key (RFC 4880 sections 4.2, 6 and 12.2), or raise ValueError."""
    text = key.replace("\r\n", "\n") + "\n"
    if "PRIVATE KEY BLOCK" in text:
        raise ValueError("this is a private key, which signs rules and belongs to nobody else; write the public one")
    found = ARMOR.search(text)
    if not found:
        raise ValueError("this is no public key in ASCII armor; write what 'gpg --armor --export KEY' prints, or {{ lookup('file', 'channel.asc') }}")
    lines = found[1].split()
    checksum = lines.pop() if lines[-1].startswith("=") else ""
    try:
        packets = base64.b64decode("".join(lines), validate=True)
        if checksum and base64.b64decode(checksum[1:], validate=True) != _crc24(packets).to_bytes(3, "big"):
            raise ValueError
        body = _first_packet(packets)
    except (ValueError, IndexError, binascii.Error):
        raise ValueError("the key is damaged; write all lines that 'gpg --armor --export KEY' prints") from None
    if body[:1] != b"\x04":
        raise ValueError(f"it is a key of version {body[0] if body else 0}, and gpg on Debian 12 and 13 takes version 4; write such a key")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()


def _crc24(data: bytes) -> int:
    """RFC 4880 section 6.1."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF


def _first_packet(data: bytes) -> bytes:
    """Return the body of the first packet, which is to be a public key."""
    first = data[0]
    if first & 0xC0 == 0x80:
        tag, width = (first & 0x3C) >> 2, (1, 2, 4)[first & 3]
        start, length = 1 + width, int.from_bytes(data[1 : 1 + width], "big")
    elif data[1] < 192:
        tag, start, length = first & 0x3F, 2, data[1]
    else:
        tag, start, length = first & 0x3F, 3, ((data[1] - 192) << 8) + data[2] + 192
    if not first & 0x80 or tag != 6 or len(data) < start + length:
        raise ValueError
    return data[start : start + length]
