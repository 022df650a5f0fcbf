# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records that a domain publishes about its mail, asked of the host's own resolver with dnspython.

Private to antispam.gateway.
"""

from __future__ import annotations

import re

try:
    import dns.exception
    import dns.resolver
except ImportError:
    dns = None  # type: ignore[assignment]

# Seconds for one question, all servers and tries together.
LIFETIME = 15
PACKAGE = "python3-dnspython"


class Unknown(Exception):
    """The DNS gave no answer, which says nothing about what is published; the text says why."""


def missing_package() -> str:
    """Return the Debian package to install, '' where it is there."""
    return "" if dns else PACKAGE


def lookup(name: str, kind: str) -> list[str]:
    """Return the records of one type as text, TXT strings joined; an empty list where there are none. Raises Unknown."""
    try:
        answer = dns.resolver.resolve(name, kind, lifetime=LIFETIME)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException as error:
        raise Unknown(f"{name} {kind}: {error}") from error
    if kind == "TXT":
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
    return sorted(record.to_text() for record in answer)


def tags(text: str) -> dict[str, str]:
    """Return the tag=value list of a DKIM, DMARC, MTA-STS or TLS-RPT record (RFC 6376 section 3.2) as a dictionary."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): re.sub(r"\s+", "", value) for name, equals, value in pairs if equals}
