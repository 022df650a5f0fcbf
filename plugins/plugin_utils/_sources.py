# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of addresses, read on the controller: lists, files, HTTP and LDAP.

Private to antispam.gateway. A source is fetched as bytes and parsed in a second
step, so that one that has not changed need not be parsed. It yields all of its
records or an error, never a part. What an address may look like is not decided
here: records are what the source says, and Records.where() tells where.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import hashlib
import http
import http.client
import io
import ipaddress
import itertools
import json
import os
import re
import socket
import ssl
import stat
import urllib.error
import urllib.parse

from ansible_collections.antispam.gateway.plugins.module_utils import _source_options

# Bytes. More than this is not a list of addresses.
LIMIT = 1 << 30
REDIRECTS = 5

_FILE = {"path", "url"}
_NETWORK = {"url", "ldap_uri"}
_LDAP = {"ldap_uri"}
# What an option needs: the source is of one of these kinds, and in one of these formats.
_BELONGS = {
    "format": _FILE,
    "encoding": _FILE,
    "column": {"csv"},
    "value_column": {"csv"},
    "header": {"csv"},
    "delimiter": {"csv"},
    "query": {"json"},
    "with_values": {"plain"},
    "username": {"url"},
    "headers": {"url"},
    "client_cert": {"url"},
    "client_key": {"url"},
    "password": _NETWORK,
    "ca_path": _NETWORK,
    "validate_certs": _NETWORK,
    "timeout": _NETWORK,
    "start_tls": _LDAP,
    "bind_dn": _LDAP,
    "base": _LDAP,
    "scope": _LDAP,
    "filter": _LDAP,
    "attributes": _LDAP,
    "page_size": _LDAP,
}

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# OpenSSL's X509_V_ERR_* (openssl-verification-options(1)).
_CERT_EXPIRED, _CERT_OTHER_NAME, _CERT_OTHER_ADDRESS, _CERT_UNKNOWN_AUTHORITY = 10, 62, 64, (2, 18, 19, 20, 21)
# An ExtendedRequest with the name of StartTLS, and what says success in its answer (RFC 4511 sections 4.12 and 4.14).
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
_SUCCESS = b"\x0a\x01\x00"
_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null", int: "a number", float: "a number"}


class SourceError(Exception):
    """One sentence: which source, what is wrong with it, what to do. Never has a secret in it."""


class _DuplicateKey(ValueError):
    pass


class Records:
    """What a source says.

    keys are the addresses as written, values what belongs to each, or None where
    the source has no values.
    """

    def __init__(self, keys, values, numbers, place):
        """Take numbers, a function that returns the line (or the like) of each record, and place, which names one."""
        self.keys = keys
        self.values = values
        self._count, self._numbers, self._place = numbers, None, place

    def where(self, index):
        """Return the place of a record, such as "users.csv line 17". Lines are counted by the first call."""
        if self._numbers is None:
            self._numbers = self._count()
        return self._place(self._numbers[index])


class Source:
    """One source.

    name is what messages call it. identity names what is read and how, without
    secrets. domains, value and wildcards are the options of these names; value is
    "OK" where none is given. remote says that another machine is asked. header_lines
    is how many lines at the beginning of a by_line() source are not records.
    """

    def __init__(self, options, base_directory):
        """Take options as SOURCE_OPTIONS describes them; what is absent or None has its default.

        Raises SourceError for options that contradict each other. Relative paths are relative to base_directory.
        """
        defaults = {name: specification.get("default") for name, specification in _source_options.SOURCE_OPTIONS.items()}
        self._options = {**defaults, **{name: value for name, value in options.items() if value is not None}}
        self._directory = str(base_directory)
        kinds = [kind for kind in _source_options.KINDS if self._options[kind] is not None]
        if len(kinds) != 1:
            raise SourceError(f"a source has exactly one of {', '.join(_source_options.KINDS)}; one of yours has {' and '.join(kinds) or 'none of them'}")
        self._kind = kinds[0]
        self._location = self._options[self._kind]
        self.remote = self._kind in _NETWORK
        self.name = self._options["name"] or self._default_name()
        self.domains = list(self._options["domains"])
        self.wildcards = self._options["wildcards"]
        self.value = "OK" if self._options["value"] is None else self._options["value"]
        if self._kind == "url":
            self._check_url()
        self._format = self._find_format()
        self._columns = self._width = None
        self._check_options(defaults)
        if self._kind == "ldap_uri":
            self._check_ldap()
        if self._format == "csv":
            self._check_csv()
        self.header_lines = 1 if self._format == "csv" and self._options["header"] else 0
        self.identity = self._identify()
        # Whether each fetch asks another host.
        self.remote = self._kind in _NETWORK

    def __repr__(self):
        return f"Source({self.name!r})"

    def _refuse(self, sentence):
        return SourceError(f"{self.name}: {sentence}")

    # ---- options -------------------------------------------------------------------------------------------------

    def _default_name(self):
        if self._kind == "addresses":
            return "the list"
        return str(self._location) if self._kind == "path" else _public(self._location)

    def _find_format(self):
        if self._kind not in _FILE:
            return "list"
        if self._options["format"]:
            return self._options["format"]
        name = self._location if self._kind == "path" else urllib.parse.urlsplit(self._location).path
        ending = os.path.splitext(name)[1].lower()
        return {".csv": "csv", ".json": "json"}.get(ending, "plain")

    def _check_options(self, defaults):
        for option, owners in _BELONGS.items():
            if self._options[option] != defaults[option] and not owners & {self._kind, self._format}:
                if owners & {"plain", "csv", "json"} and self._kind in _FILE:
                    raise self._refuse(f"{option} is an option of {min(owners)} files, but the format is {self._format}: set format or remove {option}")
                raise self._refuse(f"{option} has no meaning for a source that is given by {self._kind}: remove it")
        for option, needed in _source_options.REQUIRED_BY.items():
            if self._options[option] is not None and any(self._options[name] is None for name in needed):
                raise self._refuse(f"{option} needs {needed[0]} as well")
        if not self._options["timeout"] > 0:
            raise self._refuse("timeout is a number of seconds above 0")
        try:
            self._codec = codecs.lookup(self._options["encoding"]).name
            # Refuses what is no encoding of text, such as base64.
            io.TextIOWrapper(io.BytesIO(), encoding=self._codec)
        except (LookupError, ValueError):
            raise self._refuse(f"'{self._options['encoding']}' is not a character encoding: write one such as utf-8 or iso-8859-15") from None

    def _check_csv(self):
        if len(self._options["delimiter"]) != 1 or self._options["delimiter"] in '"\r\n\0':
            raise self._refuse('delimiter is one character, and no quote or line end: write a tab as "\\t", in double quotes')
        if self._options["column"] is None:
            raise self._refuse("column is missing, the one that holds the addresses")
        for option in () if self._options["header"] else ("column", "value_column"):
            if self._options[option] is not None and not re.fullmatch("[1-9][0-9]{0,3}", self._options[option]):
                raise self._refuse(f"{option} is a number, counted from 1, where the file has no header")

    def _check_url(self):
        try:
            parts = urllib.parse.urlsplit(self._location)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or re.search("[\x00-\x20\x7f]", self._location):
            raise self._refuse("url is not an http or https URL without spaces: write one such as https://www.example.com/users.csv")
        if parts.username is not None:
            raise self._refuse("url has a user name in it: write username and password as options, where they are kept secret")
        if self._options["password"] is not None and self._options["username"] is None:
            raise self._refuse("password needs username as well")
        for name, value in (self._options["headers"] or {}).items():
            if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)) or not re.fullmatch("[\t\x20-\x7e\x80-\xff]*", str(value)):
                raise self._refuse("headers holds a name or value that HTTP cannot send: no line ends, and no characters outside of Latin-1")
        secret = self._options["password"] is not None or self._options["headers"]
        if secret and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise self._refuse("password and headers are not sent in clear text: use https")

    def _check_ldap(self):
        try:
            parts = urllib.parse.urlsplit(self._location)
            local = parts.scheme == "ldapi"
            valid = parts.scheme in ("ldap", "ldaps", "ldapi") and (local or parts.hostname) and (local or parts.port != 0)
        except ValueError:
            valid = False
        if not valid or parts.path not in ("", "/") or re.search("[\x00-\x20\x7f,?#@]", self._location):
            raise self._refuse("ldap_uri is a scheme, a host and perhaps a port, such as ldaps://ldap.example.com: the rest has options of its own")
        if self._options["start_tls"] and parts.scheme != "ldap":
            raise self._refuse(f"start_tls belongs to ldap://, and this is {parts.scheme}://: remove it")
        password = self._options["password"]
        if password is not None and self._options["bind_dn"] is None:
            raise self._refuse("password needs bind_dn as well")
        if password is not None and (not password or "\0" in password):
            # RFC 4513 section 5.1.2: a bind with a name and no password succeeds, and is anonymous.
            raise self._refuse("password is empty or has a NUL in it: a directory would take the bind for an anonymous one")
        if password is not None and parts.scheme == "ldap" and not self._options["start_tls"] and not _is_loopback(parts.hostname):
            raise self._refuse("password is not sent in clear text: set start_tls: true, or use ldaps://")
        if not self._options["attributes"]:
            raise self._refuse("attributes is empty: name those that hold the addresses")
        if not 0 < self._options["page_size"] < 1 << 31:
            raise self._refuse("page_size is a number above 0")
        for option in ("base", "filter", "bind_dn", "attributes"):
            if "\0" in "".join(self._options[option] or ""):
                raise self._refuse(f"{option} has a NUL in it")

    def _identify(self):
        described = {name: self._options[name] for name in _BELONGS if name not in ("password", "headers", "timeout", "validate_certs", "format")}
        if self._kind in _NETWORK:
            described["location"] = _public(self._location)
            # A token may stand in the query; another query is another source all the same.
            query = urllib.parse.urlsplit(self._location).query
            described["location_query"] = hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest() if query else ""
            described["headers"] = sorted(self._options["headers"] or ())
        else:
            described["location"] = self._path(self._location) if self._kind == "path" else self.name
        described.update(kind=self._kind, format=self._format, encoding=self._codec)
        return json.dumps(described, sort_keys=True)

    def _path(self, path):
        return os.path.normpath(os.path.join(self._directory, os.path.expanduser(str(path))))

    def _file_option(self, option):
        """Return the absolute path in an option that names a file, None without it."""
        if self._options[option] is None:
            return None
        path = self._path(self._options[option])
        try:
            with open(path, "rb"):
                return path
        except OSError as error:
            raise self._refuse(f"cannot read {option} {path}: {error.strerror}") from None

    # ---- fetching ------------------------------------------------------------------------------------------------

    def fetch(self):
        """Return the bytes of the source; of a list or a directory, the addresses joined by line feeds, in UTF-8."""
        fetch = {"addresses": self._fetch_list, "path": self._fetch_path, "url": self._fetch_url, "ldap_uri": self._fetch_ldap}[self._kind]
        return fetch()

    def _join(self, addresses, place):
        joined = "\n".join(addresses)
        if "\0" in joined or joined.count("\n") >= max(len(addresses), 1):
            for index, address in enumerate(addresses):
                if "\n" in address or "\0" in address:
                    raise self._refuse(f"{place(index)} is {address[:80]!r}, which has a line end or a NUL in it: an address has neither")
        try:
            return joined.encode()
        except UnicodeEncodeError as error:
            index = joined.count("\n", 0, error.start)
            raise self._refuse(f"{place(index)} is {addresses[index][:80]!r}, which has half a character in it (a surrogate)") from None

    def _fetch_list(self):
        return self._join(self._location, lambda index: f"entry {index + 1}")

    def _fetch_path(self):
        path = self._path(self._location)
        try:
            # Opening a pipe without a writer would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise self._refuse(f"{path} is not a file")
                if before.st_size > LIMIT:
                    raise self._refuse(f"{path} is larger than {LIMIT >> 20} MiB: that is no list of addresses")
                raw = file.read()
                after = os.fstat(descriptor)
        except OSError as error:
            raise self._refuse(f"cannot read {path}: {error.strerror}") from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(raw) != after.st_size:
            raise self._refuse(f"{path} changed while it was read: let the export write it aside and rename it into place")
        return raw

    def _fetch_url(self):
        # Most sources are files, and this takes as long as reading one.
        from ansible.module_utils.urls import open_url

        url = self._location
        secrets = {
            "url_username": self._options["username"],
            "url_password": self._options["password"],
            "force_basic_auth": self._options["username"] is not None,
            "headers": {str(name): str(value) for name, value in (self._options["headers"] or {}).items()},
            "client_cert": self._file_option("client_cert"),
            "client_key": self._file_option("client_key"),
        }
        ca_path = self._file_option("ca_path")
        for dummy in range(REDIRECTS + 1):
            status = location = None
            try:
                with open_url(
                    url,
                    timeout=self._options["timeout"],
                    validate_certs=self._options["validate_certs"],
                    ca_path=ca_path,
                    follow_redirects="none",
                    decompress=False,
                    use_netrc=False,
                    http_agent="antispam.gateway",
                    **secrets,
                ) as response:
                    return self._download(response)
            except urllib.error.HTTPError as error:
                # It is the answer itself, and holds the connection.
                status, location = error.code, error.headers.get("Location")
                error.close()
            except (OSError, http.client.HTTPException, ValueError) as error:
                # Without the exception: a ValueError quotes what could not be sent.
                raise self._refuse(self._network_reason(urllib.parse.urlsplit(url).hostname, error)) from None
            target = self._redirection(url, status, location)
            if _origin(target) != _origin(url):
                secrets = {}
            url = target
        raise self._refuse(f"the server redirects more than {REDIRECTS} times")

    def _redirection(self, url, status, location):
        """Return where an answer redirects to; raise SourceError if it does not, or to where we do not go."""
        if status not in (301, 302, 303, 307, 308) or not location:
            phrase = f" {http.HTTPStatus(status).phrase}" if status in set(http.HTTPStatus) else ""
            hint = {401: ": check username and password", 403: ": check what username may read", 404: ": check url"}.get(status, "")
            raise self._refuse(f"the server {urllib.parse.urlsplit(url).hostname} answered {status}{phrase}{hint}")
        try:
            target = urllib.parse.urljoin(url, location.replace(" ", "%20"))
            parts = urllib.parse.urlsplit(target)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise self._refuse("the server redirects to something that is not an http or https URL")
        if parts.scheme == "http" and urllib.parse.urlsplit(url).scheme == "https":
            raise self._refuse(f"the server redirects to clear text, {_public(target)}, where anyone could alter the answer: use an URL that stays with https")
        return target

    def _download(self, response):
        """Return the body; raise SourceError unless it is known to be whole (RFC 9112 section 8)."""
        if response.status != 200:
            raise self._refuse(f"the server answered {response.status} where 200 was expected")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._refuse("the server sent a compressed answer, which was not asked for")
        length = response.headers.get("Content-Length")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not chunked and not re.fullmatch("[0-9]{1,18}", length or ""):
            raise self._refuse("the answer announces no length, so nobody could tell whether it is whole: let the server send Content-Length")
        blocks, size = [], 0
        while block := response.read(1 << 20):
            blocks.append(block)
            size += len(block)
            if size > LIMIT:
                raise self._refuse(f"the answer is larger than {LIMIT >> 20} MiB: that is no list of addresses")
        if not chunked and size != int(length):
            raise self._refuse(f"the answer is truncated: {size} of {length} bytes arrived; try again, or look at the server")
        return b"".join(blocks)

    def _network_reason(self, host, error):
        if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
            error = error.reason
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code == _CERT_EXPIRED:
                return f"the certificate of {host} has expired: renew it"
            if error.verify_code in (_CERT_OTHER_NAME, _CERT_OTHER_ADDRESS):
                return f"the certificate of {host} is for another name: write {self._kind} with the name in the certificate"
            if error.verify_code in _CERT_UNKNOWN_AUTHORITY:
                return f"the certificate of {host} is from an authority that is not trusted here: name its file in ca_path"
            return f"the certificate of {host} is not valid: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            options = "ca_path, client_cert and client_key" if self._kind == "url" else "ca_path"
            return f"TLS with {host} failed ({error.reason or 'the connection was closed'}): check the port in {self._kind}, {options}"
        if isinstance(error, TimeoutError):
            return f"{host} did not answer within {self._options['timeout']:g} seconds (timeout)"
        if isinstance(error, ConnectionRefusedError):
            return f"{host} refused the connection: check the port in {self._kind}, and whether the server runs"
        if isinstance(error, http.client.IncompleteRead):
            return "the answer is truncated: the server closed the connection before its end; try again, or look at the server"
        if isinstance(error, OSError):
            return f"cannot reach {host}: {error.strerror or type(error).__name__}"
        return f"{host} does not speak HTTP as it should ({type(error).__name__})"

    # ---- LDAP ----------------------------------------------------------------------------------------------------

    def _fetch_ldap(self):
        try:
            import ldap
            import ldap.controls
        except ImportError:
            raise self._refuse(
                "a directory is read with the Python library python-ldap, which the controller's Python lacks: "
                "install the package python3-ldap (Debian), or python-ldap (PyPI)"
            ) from None
        host, connection = urllib.parse.urlsplit(self._location).hostname, None
        try:
            self._shake_hands(verify=False)
        except OSError as error:
            raise self._refuse(self._network_reason(host, error)) from None
        try:
            connection = ldap.initialize(self._location)
            self._connect(ldap, connection)
            return self._join(self._search(ldap, connection), lambda index: "an address")
        except ldap.LDAPError as error:
            reason = self._ldap_reason(ldap, error)
            if isinstance(error, (ldap.SERVER_DOWN, ldap.CONNECT_ERROR)):
                try:
                    self._shake_hands(verify=self._options["validate_certs"])
                except OSError as known:
                    reason = self._network_reason(host, known)
            # Without the exception: nothing that was sent may be shown.
            raise self._refuse(reason) from None
        finally:
            if connection is not None:
                with contextlib.suppress(ldap.LDAPError):
                    connection.unbind_s()

    def _shake_hands(self, verify):
        """Connect to the server as the library will, and hang up; raise OSError.

        A TLS handshake with a silent server has no end in libldap 2.5, and its errors do not tell what is wrong with a certificate.
        """
        parts = urllib.parse.urlsplit(self._location)
        if parts.scheme == "ldapi":
            return
        with socket.create_connection((parts.hostname, parts.port or {"ldap": 389, "ldaps": 636}[parts.scheme]), self._options["timeout"]) as connection:
            if self._options["start_tls"]:
                connection.sendall(_START_TLS)
                if _SUCCESS not in connection.recv(4096):
                    # The library will tell why.
                    return
            if self._options["start_tls"] or parts.scheme == "ldaps":
                context = ssl.create_default_context(cafile=self._file_option("ca_path"))
                if not verify:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.wrap_socket(connection, server_hostname=parts.hostname).close()

    def _connect(self, ldap, connection):
        """Set up and authenticate a connection (ldap_set_option(3))."""
        timeout = self._options["timeout"]
        connection.timeout = timeout
        connection.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_DEREF, ldap.DEREF_NEVER)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, timeout)
        connection.set_option(ldap.OPT_TIMEOUT, timeout)
        if not self._location.startswith("ldapi:"):
            if ca_path := self._file_option("ca_path"):
                connection.set_option(ldap.OPT_X_TLS_CACERTFILE, ca_path)
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND if self._options["validate_certs"] else ldap.OPT_X_TLS_NEVER)
            # Only now do the options above become those of this connection.
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if self._options["start_tls"]:
            connection.start_tls_s()
        if self._options["bind_dn"] is not None:
            connection.simple_bind_s(self._options["bind_dn"], self._options["password"])

    def _search(self, ldap, connection):
        """Return the addresses, sorted and unique, of a paged search (RFC 2696)."""
        scope = {"subtree": ldap.SCOPE_SUBTREE, "onelevel": ldap.SCOPE_ONELEVEL}[self._options["scope"]]
        page = ldap.controls.SimplePagedResultsControl(True, size=self._options["page_size"], cookie="")
        addresses, entries, references = set(), 0, 0
        while True:
            message = connection.search_ext(self._options["base"], scope, self._options["filter"], self._options["attributes"], serverctrls=[page])
            dummy, found, dummy, controls = connection.result3(message, timeout=self._options["timeout"])
            for dn, attributes in found:
                if dn is None:
                    references += 1
                else:
                    entries += 1
                    addresses.update(self._addresses_of(dn, attributes))
            answers = [control for control in controls if control.controlType == page.controlType]
            if not answers:
                raise self._refuse("the directory does not answer in pages (RFC 2696), so nobody could tell whether its answer is whole")
            page.cookie = answers[0].cookie
            if not page.cookie:
                break
        if references and not entries:
            raise self._refuse("the directory only refers to other servers, which are not asked: set ldap_uri and base to where the entries are")
        if not entries:
            raise self._refuse(f"no entry below {self._options['base']} matches {self._options['filter']}: check base, filter, and what bind_dn may read")
        if not addresses:
            names = ", ".join(self._options["attributes"])
            raise self._refuse(f"{entries} entries match, but none has an address in {names}: check attributes, and what bind_dn may read")
        return sorted(addresses)

    def _addresses_of(self, dn, attributes):
        wanted = {name.lower() for name in self._options["attributes"]}
        for described, values in attributes.items():
            # Options may follow the name of an attribute (RFC 4512 section 2.5).
            name, dummy, options = described.lower().partition(";")
            if name not in wanted:
                continue
            if "range=" in options and not options.endswith("-*"):
                # Active Directory's way to return no more than 1500 values of an attribute.
                raise self._refuse(f"the directory returned only a part of {name} of {dn}: split the entry")
            for value in values:
                try:
                    text = value.decode()
                except UnicodeDecodeError:
                    raise self._refuse(f"{name} of {dn} is not UTF-8") from None
                if name != "proxyaddresses":
                    yield text
                elif text[:5].lower() == "smtp:":
                    yield text[5:]

    def _ldap_reason(self, ldap, error):
        answer = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        said = f"{answer.get('desc', type(error).__name__)}, {answer.get('info', '')}".strip(", ")
        if self._options["password"] is not None:
            # A server could repeat what it was sent.
            said = said.replace(self._options["password"], "(password)")
        said = " ".join("".join(character if character.isprintable() else " " for character in said).split())[:200]
        base, filter_, seconds = self._options["base"], self._options["filter"], self._options["timeout"]
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

    # ---- parsing -------------------------------------------------------------------------------------------------

    def by_line(self, raw):
        """Say whether each line of raw, without the first header_lines, is a record of its own, so that part() can parse some of them.

        Remembers the columns of a CSV header, and raises SourceError for one without the wanted columns. In CSV without a header
        the first record says how many fields the others have, so they are not independent of it.
        """
        if self._format == "list":
            return True
        if self._format == "json" or self._codec not in ("utf-8", "ascii") or (self._format == "csv" and b'"' in raw):
            return False
        if self._format == "csv":
            first = self._lines(self._decode(raw[: raw.find(b"\n") + 1] or raw, self._line))
            if not self._options["header"] or not first or not first[0]:
                return False
            self._find_columns(first[0].split(self._options["delimiter"]))
        return True

    def records(self, raw):
        """Return the Records of the whole source; there is at least one."""
        if self._format == "list":
            records = self._parse_list(raw.decode().split("\n") if raw else [], lambda number: f"{self.name} entry {number}")
        else:
            text = self._decode(raw, self._line)
            if "\n" not in text and "\r" in text[:-1] and self._format != "json":
                raise self._refuse("its lines end with CR alone: save it with LF or CRLF")
            records = {"plain": self._parse_plain, "csv": self._parse_csv, "json": self._parse_json}[self._format](text, self._line)
        if not records.keys:
            raise self._refuse("there is no address in it, which is not taken for a wish to have none: look at what writes it")
        return records

    def part(self, lines):
        """Return the Records of some lines of a source that is by_line(), each given without its line feed; there may be none."""

        def place(number):
            return f"{self.name}, in the line {lines[number - 1][:80].decode(errors='replace')!r}"

        if self._format == "list":
            return self._parse_list([line.decode() for line in lines], place)
        text = self._decode(b"\n".join(lines), place)
        return self._parse_plain(text, place) if self._format == "plain" else self._parse_csv(text, place, whole=False)

    def _line(self, number):
        return f"{self.name} line {number}"

    def _decode(self, raw, place):
        if raw.startswith(_UTF16) and not self._codec.startswith(("utf-16", "utf-32")):
            raise self._refuse("it is UTF-16: save it as UTF-8, or set encoding: utf-16")
        if raw.startswith(codecs.BOM_UTF8) and self._codec != "utf-8-sig":
            raise self._refuse("it begins with a byte order mark: set encoding: utf-8-sig")
        try:
            text = raw.decode(self._codec)
        except UnicodeDecodeError as error:
            # The codec may have taken away a byte order mark.
            start = error.start + len(raw) - len(error.object)
            number = raw.count(b"\n", 0, start) + 1
            raise SourceError(
                f"{place(number)}: the byte 0x{raw[start]:02x} at offset {start} is not {self._options['encoding']}: "
                "save it as UTF-8, or set encoding to what it is, such as windows-1252"
            ) from None
        except UnicodeError:
            raise self._refuse(f"it is not {self._options['encoding']}: set encoding to what it is") from None
        if "\0" in text:
            number = text.count("\n", 0, text.index("\0")) + 1
            raise SourceError(f"{place(number)}: there is a NUL in it: it is damaged, or UTF-16 (then set encoding: utf-16-le or utf-16-be)")
        return text

    def _lines(self, text):
        """Return the lines without their line ends, LF or CRLF. Only these end a line, so not splitlines()."""
        if "\r" in text:
            text = text.replace("\r\n", "\n")
            if text.endswith("\r"):
                text = text[:-1]
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        return lines

    def _parse_list(self, keys, place):
        return Records(keys, None, lambda: range(1, len(keys) + 1), place)

    def _parse_plain(self, text, place):
        lines = self._lines(text)
        keys, values = [line for line in lines if line], None
        if "#" in text:
            keys = [line for line in keys if line[0] != "#"]

        def numbers():
            return [number for number, line in enumerate(lines, 1) if line and line[0] != "#"]

        if self._options["with_values"]:
            # Not split(): white space that is not ASCII has to stay where it is, to be refused.
            if "\t" in text:
                keys = [line.replace("\t", " ") for line in keys]
            pairs = [line.partition(" ") for line in keys]
            keys, values = [pair[0] for pair in pairs], [pair[2].strip(" ") for pair in pairs]
        return Records(keys, values, numbers, place)

    # ---- CSV (RFC 4180) ------------------------------------------------------------------------------------------

    def _find_columns(self, first):
        """Remember where the wanted columns are, by the fields of the first record."""
        wanted = [self._options[option] for option in ("column", "value_column") if self._options[option] is not None]
        if not self._options["header"]:
            positions = [int(number) - 1 for number in wanted]
            if max(positions) >= len(first):
                raise self._refuse(f"there is no column {max(positions) + 1}: the first record has {len(first)} (delimiter {self._options['delimiter']!r})")
        else:
            for name in wanted:
                if first.count(name) != 1:
                    many = "more than one column" if name in first else "no column"
                    there = ", ".join(repr(field[:40]) for field in first[:20])
                    raise self._refuse(f"there is {many} {name!r}: the header has {there} (delimiter {self._options['delimiter']!r})")
            positions = [first.index(name) for name in wanted]
        self._columns, self._width = positions, len(first)

    def _other_width(self, place, width):
        return SourceError(
            f"{place} has {width} fields where the first record has {self._width}: the file is damaged, or a field with "
            f"{self._options['delimiter']!r} in it is not quoted"
        )

    def _parse_csv(self, text, place, whole=True):
        if '"' in text:
            return self._parse_quoted_csv(text, place)
        delimiter = self._options["delimiter"]
        lines = self._lines(text)
        records = [line for line in lines if line]
        if not records:
            return Records([], None, list, place)
        skipped = self.header_lines if whole else 0
        if whole:
            self._find_columns(records[0].split(delimiter))
        del records[:skipped]

        def numbers():
            return [number for number, line in enumerate(lines, 1) if line][skipped:]

        wanted = self._width - 1
        if set(map(str.count, records, itertools.repeat(delimiter))) - {wanted}:
            index = next(index for index, line in enumerate(records) if line.count(delimiter) != wanted)
            raise self._other_width(place(numbers()[index]), records[index].count(delimiter) + 1)
        columns = [[line.split(delimiter, position + 1)[position] for line in records] for position in self._columns]
        return Records(columns[0], columns[1] if len(columns) > 1 else None, numbers, place)

    def _parse_quoted_csv(self, text, place):
        def reader():
            # Lines end with LF here, or the module would not see a line end in a field as it is.
            return csv.reader(io.StringIO(text, newline="\n"), delimiter=self._options["delimiter"], strict=True)

        def numbers():
            result, end, lines = [], 0, reader()
            for row in lines:
                if row:
                    result.append(end + 1)
                end = lines.line_num
            return result[self.header_lines :]

        kept, end, lines = [], 0, reader()
        self._width = None
        try:
            for row in lines:
                if self._width is None and row:
                    self._find_columns(row)
                    key, value = self._columns[0], self._columns[-1]
                if len(row) == self._width:
                    kept.append((row[key], row[value]))
                elif row:
                    raise self._other_width(place(end + 1), len(row))
                end = lines.line_num
        except csv.Error as error:
            raise SourceError(
                f"{place(end + 1)}: the record that begins here is not CSV ({error}): look for a quote that is not closed or not doubled, "
                f"and at the delimiter, {self._options['delimiter']!r}"
            ) from None
        del kept[: self.header_lines]
        keys = [pair[0] for pair in kept]
        return Records(keys, [pair[1] for pair in kept] if len(self._columns or ()) > 1 else None, numbers, place)

    # ---- JSON ----------------------------------------------------------------------------------------------------

    def _parse_json(self, text, dummy):
        try:
            found = json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise self._refuse(f"it is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
        except _DuplicateKey as error:
            raise self._refuse(f"an object in it has the key {str(error)[:80]!r} twice: only one of them can be meant") from None
        except (RecursionError, ValueError):
            raise self._refuse("its JSON is nested too deeply, or has too long a number") from None
        if self._options["query"] is not None:
            found = self._query(found)
        if isinstance(found, dict):
            return self._json_pairs(list(found.items()))
        if not isinstance(found, list):
            raise self._refuse(f"{self._what_is()} is {_JSON_TYPES[type(found)]} where a list of addresses is expected{self._json_help()}")
        for index, element in enumerate(found):
            if type(element) is not type(found[0]) or not isinstance(element, (str, list)):
                raise self._refuse(f"element {index + 1} of {self._what_is()} is {_JSON_TYPES[type(element)]} where an address is expected{self._json_help()}")
            if isinstance(element, list) and (len(element) != 2 or not isinstance(element[0], str)):
                raise self._refuse(f"element {index + 1} of {self._what_is()} is a list, but not of an address and its value{self._json_help()}")
        if found and isinstance(found[0], list):
            return self._json_pairs(found)
        return self._json_records(found, None)

    def _json_pairs(self, pairs):
        for number, (dummy, value) in enumerate(pairs, 1):
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise self._refuse(f"the value of element {number} of {self._what_is()} is {_JSON_TYPES[type(value)]} where a string or number belongs")
        return self._json_records([key for key, dummy in pairs], [str(value) for dummy, value in pairs])

    def _json_records(self, keys, values):
        try:
            "".join(keys).encode()
        except UnicodeEncodeError:
            raise self._refuse(f"{self._what_is()} has half a character in an address (a surrogate)") from None
        return Records(keys, values, lambda: range(1, len(keys) + 1), lambda number: f"{self.name} element {number}")

    def _what_is(self):
        return "the document" if self._options["query"] is None else f"what the query {self._options['query']} yields"

    def _json_help(self):
        return ": give a query, such as users[].mail" if self._options["query"] is None else ": correct the query"

    def _query(self, document):
        try:
            import jmespath
            import jmespath.exceptions
        except ImportError:
            raise self._refuse(
                "a query needs the Python library jmespath, which the controller's Python lacks: "
                "install the package python3-jmespath (Debian), or jmespath (PyPI)"
            ) from None
        try:
            return jmespath.search(self._options["query"], document)
        except jmespath.exceptions.JMESPathError as error:
            said = " ".join(str(error).split())[:200]
            raise self._refuse(f"the query {self._options['query']} cannot be applied: {said}") from None


def _unique(pairs):
    """Return the pairs of a JSON object as a dict; json would let the last of two equal keys win."""
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = collections.Counter(key for key, dummy in pairs)
        raise _DuplicateKey(counts.most_common(1)[0][0])
    return result


def _public(url):
    """Return a URL without what may be secret in it: user, password, query and fragment."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _origin(url):
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _is_loopback(host):
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
