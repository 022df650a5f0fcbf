# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that a web server has. Private to antispam.gateway."""

from __future__ import annotations

import http
import http.client
import re
import urllib.error
import urllib.parse
from typing import Any

from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import _base, _network

REDIRECTS = 5


class Http(_network.Remote):
    """A download. At most REDIRECTS redirects are followed; what is secret goes to the first host alone."""

    formatted = True

    def file_name(self) -> str:
        return str(urllib.parse.urlsplit(self.options.location).path)

    def check(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.options.location)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or re.search("[\x00-\x20\x7f]", self.options.location):
            raise self.options.refuse("url is not an http or https URL without spaces: write one such as https://www.example.com/users.csv")
        if parts.username is not None:
            raise self.options.refuse("url has a user name in it: write username and password as options, where they are kept secret")
        if self.options["password"] is not None and self.options["username"] is None:
            raise self.options.refuse("password needs username as well")
        for name, value in (self.options["headers"] or {}).items():
            if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)) or not re.fullmatch("[\t\x20-\x7e\x80-\xff]*", str(value)):
                raise self.options.refuse("headers holds a name or value that HTTP cannot send: no line ends, and no characters outside of Latin-1")
        secret = self.options["password"] is not None or self.options["headers"]
        if secret and parts.scheme == "http" and not _network.is_loopback(parts.hostname):
            raise self.options.refuse("password and headers are not sent in clear text: use https")

    def fetch(self) -> bytes:
        # Most sources are files, and this takes as long as reading one.
        from ansible.module_utils.urls import open_url

        url = self.options.location
        secrets = {
            "url_username": self.options["username"],
            "url_password": self.options["password"],
            "force_basic_auth": self.options["username"] is not None,
            "headers": {str(name): str(value) for name, value in (self.options["headers"] or {}).items()},
            "client_cert": self.options.file("client_cert"),
            "client_key": self.options.file("client_key"),
        }
        ca_path = self.options.file("ca_path")
        for dummy in range(REDIRECTS + 1):
            status = location = None
            try:
                with open_url(
                    url,
                    timeout=self.options["timeout"],
                    validate_certs=self.options["validate_certs"],
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
                raise self.options.refuse(self.reason(urllib.parse.urlsplit(url).hostname, error)) from None
            target = self._redirection(url, status, location)
            if _origin(target) != _origin(url):
                secrets = {}
            url = target
        raise self.options.refuse(f"the server redirects more than {REDIRECTS} times")

    def _redirection(self, url: str, status: int, location: str | None) -> str:
        """Return where an answer redirects to; raise SourceError if it does not, or to where we do not go."""
        if status not in (301, 302, 303, 307, 308) or not location:
            phrase = f" {http.HTTPStatus(status).phrase}" if status in set(http.HTTPStatus) else ""
            hint = {401: ": check username and password", 403: ": check what username may read", 404: ": check url"}.get(status, "")
            raise self.options.refuse(f"the server {urllib.parse.urlsplit(url).hostname} answered {status}{phrase}{hint}")
        try:
            target = urllib.parse.urljoin(url, location.replace(" ", "%20"))
            parts = urllib.parse.urlsplit(target)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise self.options.refuse("the server redirects to something that is not an http or https URL")
        if parts.scheme == "http" and urllib.parse.urlsplit(url).scheme == "https":
            raise self.options.refuse(
                f"the server redirects to clear text, {_network.public(target)}, where anyone could alter the answer: use an URL that stays with https"
            )
        return target

    def _download(self, response: Any) -> bytes:
        """Return the body; raise SourceError unless it is known to be whole (RFC 9112 section 8)."""
        if response.status != 200:
            raise self.options.refuse(f"the server answered {response.status} where 200 was expected")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self.options.refuse("the server sent a compressed answer, which was not asked for")
        length = response.headers.get("Content-Length")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not chunked and not re.fullmatch("[0-9]{1,18}", length or ""):
            raise self.options.refuse("the answer announces no length, so nobody could tell whether it is whole: let the server send Content-Length")
        blocks, size = [], 0
        while block := response.read(1 << 20):
            blocks.append(block)
            size += len(block)
            if size > _base.LIMIT:
                raise self.options.refuse(f"the answer is larger than {_base.LIMIT >> 20} MiB: that is no list of addresses")
        if not chunked and size != int(length):
            raise self.options.refuse(f"the answer is truncated: {size} of {length} bytes arrived; try again, or look at the server")
        return b"".join(blocks)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
