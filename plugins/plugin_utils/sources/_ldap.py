# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that an LDAP directory has. Private to antispam.gateway."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _base, _network

# An ExtendedRequest with the name of StartTLS, and what says success in its answer (RFC 4511 sections 4.12 and 4.14).
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
_SUCCESS = b"\x0a\x01\x00"


class Ldap(_network.Remote):
    """A paged search in a directory (RFC 4511, RFC 2696); the addresses come sorted, each once."""

    def check(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.options.location)
            local = parts.scheme == "ldapi"
            valid = parts.scheme in ("ldap", "ldaps", "ldapi") and (local or parts.hostname) and (local or parts.port != 0)
        except ValueError:
            valid = False
        if not valid or parts.path not in ("", "/") or re.search("[\x00-\x20\x7f,?#@]", self.options.location):
            raise self.options.refuse("ldap_uri is a scheme, a host and perhaps a port, such as ldaps://ldap.example.com: the rest has options of its own")
        if self.options["start_tls"] and parts.scheme != "ldap":
            raise self.options.refuse(f"start_tls belongs to ldap://, and this is {parts.scheme}://: remove it")
        password = self.options["password"]
        if password is not None and self.options["bind_dn"] is None:
            raise self.options.refuse("password needs bind_dn as well")
        if password is not None and (not password or "\0" in password):
            # RFC 4513 section 5.1.2: a bind with a name and no password succeeds, and is anonymous.
            raise self.options.refuse("password is empty or has a NUL in it: a directory would take the bind for an anonymous one")
        if password is not None and parts.scheme == "ldap" and not self.options["start_tls"] and not _network.is_loopback(parts.hostname):
            raise self.options.refuse("password is not sent in clear text: set start_tls: true, or use ldaps://")
        if not self.options["attributes"]:
            raise self.options.refuse("attributes is empty: name those that hold the addresses")
        if not 0 < self.options["page_size"] < 1 << 31:
            raise self.options.refuse("page_size is a number above 0")
        for option in ("base", "filter", "bind_dn", "attributes"):
            if "\0" in "".join(self.options[option] or ""):
                raise self.options.refuse(f"{option} has a NUL in it")

    def fetch(self) -> bytes:
        try:
            import ldap
            import ldap.controls
        except ImportError:
            raise self.options.refuse(
                "a directory is read with the Python library python-ldap, which the controller's Python lacks: "
                "install the package python3-ldap (Debian), or python-ldap (PyPI)"
            ) from None
        host, connection = urllib.parse.urlsplit(self.options.location).hostname, None
        try:
            self._shake_hands(verify=False)
        except OSError as error:
            raise self.options.refuse(self.reason(host, error)) from None
        try:
            connection = ldap.initialize(self.options.location)
            self._connect(ldap, connection)
            return _base.join(self.options, self._search(ldap, connection), lambda index: "an address")
        except ldap.LDAPError as error:
            reason = self._ldap_reason(ldap, error)
            if isinstance(error, (ldap.SERVER_DOWN, ldap.CONNECT_ERROR)):
                try:
                    self._shake_hands(verify=self.options["validate_certs"])
                except OSError as known:
                    reason = self.reason(host, known)
            # Without the exception: nothing that was sent may be shown.
            raise self.options.refuse(reason) from None
        finally:
            if connection is not None:
                with contextlib.suppress(ldap.LDAPError):
                    connection.unbind_s()

    def _shake_hands(self, verify: bool) -> None:
        """Connect to the server as the library will, and hang up; raise OSError.

        A TLS handshake with a silent server has no end in libldap 2.5, and its errors do not tell what is wrong with a certificate.
        """
        parts = urllib.parse.urlsplit(self.options.location)
        if parts.scheme == "ldapi":
            return
        with socket.create_connection((parts.hostname, parts.port or {"ldap": 389, "ldaps": 636}[parts.scheme]), self.options["timeout"]) as connection:
            if self.options["start_tls"]:
                connection.sendall(_START_TLS)
                if _SUCCESS not in connection.recv(4096):
                    # The library will tell why.
                    return
            if self.options["start_tls"] or parts.scheme == "ldaps":
                context = ssl.create_default_context(cafile=self.options.file("ca_path"))
                if not verify:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.wrap_socket(connection, server_hostname=parts.hostname).close()

    def _connect(self, ldap: Any, connection: Any) -> None:
        """Set up and authenticate a connection (ldap_set_option(3))."""
        timeout = self.options["timeout"]
        connection.timeout = timeout
        connection.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_DEREF, ldap.DEREF_NEVER)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, timeout)
        connection.set_option(ldap.OPT_TIMEOUT, timeout)
        if not self.options.location.startswith("ldapi:"):
            if ca_path := self.options.file("ca_path"):
                connection.set_option(ldap.OPT_X_TLS_CACERTFILE, ca_path)
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND if self.options["validate_certs"] else ldap.OPT_X_TLS_NEVER)
            # Only now do the options above become those of this connection.
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if self.options["start_tls"]:
            connection.start_tls_s()
        if self.options["bind_dn"] is not None:
            connection.simple_bind_s(self.options["bind_dn"], self.options["password"])

    def _search(self, ldap: Any, connection: Any) -> list[str]:
        """Return the addresses, sorted and unique, of a paged search (RFC 2696)."""
        scope = {"subtree": ldap.SCOPE_SUBTREE, "onelevel": ldap.SCOPE_ONELEVEL}[self.options["scope"]]
        page = ldap.controls.SimplePagedResultsControl(True, size=self.options["page_size"], cookie="")
        addresses: set[str] = set()
        entries = references = 0
        while True:
            message = connection.search_ext(self.options["base"], scope, self.options["filter"], self.options["attributes"], serverctrls=[page])
            dummy, found, dummy, controls = connection.result3(message, timeout=self.options["timeout"])
            for dn, attributes in found:
                if dn is None:
                    references += 1
                else:
                    entries += 1
                    addresses.update(self._addresses_of(dn, attributes))
            answers = [control for control in controls if control.controlType == page.controlType]
            if not answers:
                raise self.options.refuse("the directory does not answer in pages (RFC 2696), so nobody could tell whether its answer is whole")
            page.cookie = answers[0].cookie
            if not page.cookie:
                break
        if references and not entries:
            raise self.options.refuse("the directory only refers to other servers, which are not asked: set ldap_uri and base to where the entries are")
        if not entries:
            raise self.options.refuse(f"no entry below {self.options['base']} matches {self.options['filter']}: check base, filter, and what bind_dn may read")
        if not addresses:
            names = ", ".join(self.options["attributes"])
            raise self.options.refuse(f"{entries} entries match, but none has an address in {names}: check attributes, and what bind_dn may read")
        return sorted(addresses)

    def _addresses_of(self, dn: str, attributes: Mapping[str, list[bytes]]) -> Iterator[str]:
        wanted = {name.lower() for name in self.options["attributes"]}
        for described, values in attributes.items():
            # Options may follow the name of an attribute (RFC 4512 section 2.5).
            name, dummy, options = described.lower().partition(";")
            if name not in wanted:
                continue
            if "range=" in options and not options.endswith("-*"):
                # Active Directory's way to return no more than 1500 values of an attribute.
                raise self.options.refuse(f"the directory returned only a part of {name} of {dn}: split the entry")
            for value in values:
                try:
                    text = value.decode()
                except UnicodeDecodeError:
                    raise self.options.refuse(f"{name} of {dn} is not UTF-8") from None
                if name != "proxyaddresses":
                    yield text
                elif text[:5].lower() == "smtp:":
                    yield text[5:]

    def _ldap_reason(self, ldap: Any, error: Any) -> str:
        answer = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        said = f"{answer.get('desc', type(error).__name__)}, {answer.get('info', '')}".strip(", ")
        if self.options["password"] is not None:
            # A server could repeat what it was sent.
            said = said.replace(self.options["password"], "(password)")
        said = " ".join("".join(character if character.isprintable() else " " for character in said).split())[:200]
        base, filter_, seconds = self.options["base"], self.options["filter"], self.options["timeout"]
        reasons = (
            (ldap.INVALID_CREDENTIALS, "the directory does not accept bind_dn with this password: check both"),
            (ldap.NO_SUCH_OBJECT, f"the directory has no base {base}, or does not show it: check base, and what bind_dn may read"),
            (ldap.INVALID_DN_SYNTAX, "base or bind_dn is not a DN: write one such as dc=example,dc=com"),
            (ldap.FILTER_ERROR, f"filter {filter_} is not an LDAP filter (RFC 4515): check its parentheses"),
            (
                (ldap.SIZELIMIT_EXCEEDED, ldap.ADMINLIMIT_EXCEEDED, ldap.TIMELIMIT_EXCEEDED, ldap.PARTIAL_RESULTS),
                "the directory did not return everything, its limits ended the search: allow bind_dn to read all pages "
                "(OpenLDAP: olcLimits with size.prtotal=unlimited), or make page_size smaller",
            ),
            (ldap.UNAVAILABLE_CRITICAL_EXTENSION, "the directory cannot answer in pages (RFC 2696), or does not start TLS"),
            (
                (ldap.CONFIDENTIALITY_REQUIRED, ldap.STRONG_AUTH_REQUIRED),
                "the directory wants encryption: set start_tls: true, or use ldaps://",
            ),
            (ldap.REFERRAL, "the directory refers to another server, which is not asked: set ldap_uri and base to where the entries are"),
            (
                (ldap.INSUFFICIENT_ACCESS, ldap.INAPPROPRIATE_AUTH, ldap.OPERATIONS_ERROR, ldap.UNWILLING_TO_PERFORM),
                "the directory does not allow this: check bind_dn, and what it may read",
            ),
            (ldap.TIMEOUT, f"the directory did not answer within {seconds:g} seconds (timeout)"),
        )
        for kinds, reason in reasons:
            if isinstance(error, kinds):
                return f"{reason} ({said})"
        if isinstance(error, (ldap.SERVER_DOWN, ldap.CONNECT_ERROR)):
            return f"the connection failed or was lost: check the server, ldap_uri, start_tls and ca_path ({said})"
        return f"the directory could not be read ({said})"
