# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal says to the person whose message it is, as templates of amavis's macro language.

Private to antispam.gateway; used on the controller. A reply is one line of
ASCII of at most 512 bytes (RFC 5321 4.5.3.1.5), and amavis cuts its own part at
450, so all that stands in it has a length of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# {kind: what is said where the site says nothing else}
TEXTS = {
    "spam": "This message looks like spam",
    "dmarc": "The domain of the author asks to refuse this message, which did not come from its servers (DMARC)",
    "authors": "From in the header of this message names more than one author; send it with one From that has one address (DMARC)",
    "own_domain": "This message claims to come from {domain}, which is served here, and neither SPF nor DKIM proves it",
    "from": "This account may not send with {address} in From or Sender; write one of the account's own addresses there",
    "from_unclear": "From in the header of this message is missing, wrong or there twice; write one From, such as From: name@example.com",
    "virus": "This message contains a virus: {virus}",
    "attachment": "The attachment {file} is not accepted here: {reason}",
    "unreadable": "This message has an encrypted or damaged attachment, which cannot be checked for viruses",
    "too_large": "This message has an archive that is too large to be checked when unpacked, or has too many files or levels",
    "ambiguous": "The structure of this message is wrong, so that mail programs would show it differently",
}
# {kind: {placeholder: the macro of amavis that has it}}. A name may be as long as its sender likes.
PLACEHOLDERS = {
    "virus": {"virus": "[:limit|80|%V]"},
    # As the hook 44-authors shortens it.
    "from": {"address": "[:supplementary_info|GATEWAY-ADDRESS]"},
    # One of gateway_domains.
    "own_domain": {"domain": "[:limit|80|[:supplementary_info|GATEWAY-DOMAIN]]"},
    # What the hook 44-attachments makes of amavis's own description of the part, and of the rule.
    "attachment": {"file": "%F", "reason": "[:limit|80|[:banning_rule_comment]]"},
}
# A scan that did not finish is nobody's mistake: the client only comes back, and there is nobody to turn to.
UNFINISHED = "The check of this message was not finished, please try again later"
# Of what is sent to the addresses of gateway_bayes_addresses.
NOT_LEARNED = "To teach the gateway, forward the message as an attachment, to this address alone"
_TEXT_LENGTH, _CONTACT_LENGTH = 130, 80
_CONTACT = re.compile(r"(?:https?://[!-~]+|(?:mailto:)?[!-?A-~]+@[A-Za-z0-9.-]+\.[A-Za-z0-9-]+)\Z", re.ASCII)


def literal(text: str) -> str:
    """Return text as amavis's macro processor gives it back unchanged."""
    quoted = re.sub(r"([\\\[\]|%#\"])", r"\\\1", text)
    # _NAME_ is a tag of SpamAssassin there. What a backslash and an underline stand for is nothing.
    return re.sub(r"_(?=[A-Z])", r"_\\_", quoted)


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each text that cannot stand in a reply."""
    problems = []
    contact = variables["gateway_contact"] or ""
    if contact and (not _CONTACT.match(contact) or len(contact) > _CONTACT_LENGTH):
        problems.append(
            f"gateway_contact: {contact!r} cannot stand in an SMTP reply; write an address such as postmaster@example.com, or a URL"
            f" that begins with https://, in at most {_CONTACT_LENGTH} ASCII characters"
        )
    for kind, text in variables["gateway_refusal_texts"].items():
        if text is None:
            continue
        where = f"gateway_refusal_texts.{kind}"
        if not text.isascii() or not text.isprintable() or not text.strip() or len(text) > _TEXT_LENGTH or "\\" in text:
            # amavis writes a backslash twice.
            problems.append(f"{where}: it cannot stand in an SMTP reply; write one line of at most {_TEXT_LENGTH} ASCII characters, without a backslash")
        known = PLACEHOLDERS.get(kind, {})
        for name in re.findall(r"{(.*?)}", text):
            if name not in known:
                can = "{" + "} and {".join(known) + "}" if known else "none"
                problems.append(f"{where}: {{{name}}} stands for nothing there; this text may have {can}")
    return problems


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return {kind: the text of the site, or else the default}."""
    return TEXTS | {kind: text for kind, text in variables["gateway_refusal_texts"].items() if text}


def words(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return {kind: how the text of a refusal begins, up to what is different each time}."""
    return {kind: text.partition("{")[0].strip() for kind, text in _texts(variables).items()}


def templates(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return {kind: what amavis expands}, with `unfinished` for scans that did not finish, `not_learned` for what cannot teach."""
    contact = variables["gateway_contact"]
    end = literal(f". If this is a mistake, turn to {contact}") if contact else ""
    result = {}
    for kind, given in _texts(variables).items():
        text = literal(given)
        for name, macro in PLACEHOLDERS.get(kind, {}).items():
            text = text.replace("{" + name + "}", macro)
        result[kind] = f"id=%n - {text}{end}"
    return result | {"unfinished": f"id=%n - {UNFINISHED}", "not_learned": f"id=%n - {NOT_LEARNED}"}
