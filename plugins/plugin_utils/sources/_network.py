# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sources on other hosts have in common. Private to antispam.gateway."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import ssl
import urllib.error
import urllib.parse
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _base

# OpenSSL's X509_V_ERR_* (openssl-verification-options(1)).
_CERT_EXPIRED, _CERT_OTHER_NAME, _CERT_OTHER_ADDRESS, _CERT_UNKNOWN_AUTHORITY = 10, 62, 64, (2, 18, 19, 20, 21)


class Remote(_base.Transport):
    """A source on another host; location is a URL."""

    remote = True

    def name(self) -> str:
        return public(self.options.location)

    def identity(self) -> dict[str, Any]:
        # A token may stand in the query; another query is another source all the same.
        query = urllib.parse.urlsplit(self.options.location).query
        return {
            "location": self.name(),
            "location_query": hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest() if query else "",
            "headers": sorted(self.options["headers"] or ()),
        }

    def reason(self, host: str | None, error: Exception) -> str:
        """Return a sentence: why the host could not be asked. It does not quote what was sent."""
        if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
            error = error.reason
        kind = self.options.kind
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code == _CERT_EXPIRED:
                return f"the certificate of {host} has expired: renew it"
            if error.verify_code in (_CERT_OTHER_NAME, _CERT_OTHER_ADDRESS):
                return f"the certificate of {host} is for another name: write {kind} with the name in the certificate"
            if error.verify_code in _CERT_UNKNOWN_AUTHORITY:
                return f"the certificate of {host} is from an authority that is not trusted here: name its file in ca_path"
            return f"the certificate of {host} is not valid: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            options = "ca_path, client_cert and client_key" if kind == "url" else "ca_path"
            return f"TLS with {host} failed ({error.reason or 'the connection was closed'}): check the port in {kind}, {options}"
        if isinstance(error, TimeoutError):
            return f"{host} did not answer within {self.options['timeout']:g} seconds (timeout)"
        if isinstance(error, ConnectionRefusedError):
            return f"{host} refused the connection: check the port in {kind}, and whether the server runs"
        if isinstance(error, http.client.IncompleteRead):
            return "the answer is truncated: the server closed the connection before its end; try again, or look at the server"
        if isinstance(error, OSError):
            return f"cannot reach {host}: {error.strerror or type(error).__name__}"
        return f"{host} does not speak HTTP as it should ({type(error).__name__})"


def public(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query and fragment."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_loopback(host: str | None) -> bool:
    """Whether a host of a URL is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
