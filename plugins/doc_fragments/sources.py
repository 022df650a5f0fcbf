# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sources of addresses are, for every module that reads them. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    # The same options as in plugins/module_utils/_source_options.py.
    DOCUMENTATION = r"""
options:
  prepared:
    description: What the controller has read from the sources. Set by the action plugin of the same name, never by a task.
    type: dict
    suboptions:
      wanted:
        description: Digest that names the wanted content.
        type: str
      base:
        description: Digest that names the content before it.
        type: str
      change:
        description: What turns that one into the wanted one, compressed.
        type: str
      content:
        description: The whole wanted content, compressed.
        type: str
  variables:
    description:
      - What errors and warnings call the options, as a dictionary of option to variable. For a role that takes them from variables of its own.
      - An option that is not in it cannot be set where the role is used, and is not recommended.
    type: dict
    default: {}
  sources:
    description:
      - Where the addresses come from. All sources together are the table.
      - Each has exactly one of O(sources[].addresses), O(sources[].path), O(sources[].url) and O(sources[].ldap_uri).
      - Sources are read on the controller. One that fails, is empty, is truncated or has another form than declared is an error;
        it never makes a shorter list.
      - Relative paths are relative to the directory of the playbook.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What messages call the source, beside its place in the list.
          - By default its path, its URL without the query, its LDAP URI, or V(the list).
        type: str
      addresses:
        description: The addresses themselves.
        type: list
        elements: str
      path:
        description: File on the controller.
        type: path
      url:
        description:
          - What to download, with http or https. A user name or a password in it is refused.
          - An answer of another length than announced is refused, and so is one that does not announce its length and is not chunked.
          - Redirects are followed, but not from https to http. O(sources[].username), O(sources[].password), O(sources[].headers) and
            O(sources[].client_cert) are not sent to another host.
        type: str
      ldap_uri:
        description:
          - The directory server, such as V(ldaps://dc1.example.com) or V(ldap://ldap.example.com:389). V(ldapi) is the local socket.
          - The search is paged (RFC 2696). References to other servers are not followed; a search that finds nothing else is an error.
          - Needs C(python3-ldap) (Debian) or C(python-ldap) (PyPI) on the controller.
        type: str
      format:
        description:
          - Form of the file or download. By default V(csv) or V(json) if the name ends in C(.csv) or C(.json), else V(plain).
          - V(plain) has an address on each line. Empty lines and lines that begin with C(#) do not count.
          - V(csv) is RFC 4180. All records have as many fields as the first one.
          - V(json) is a list of addresses, a list of V([address, value]) pairs, or an object of address to value;
            or any document with O(sources[].query).
        type: str
        choices: [plain, csv, json]
      encoding:
        description:
          - Character encoding of the file or download.
          - Set V(utf-8-sig) for a file that begins with a byte order mark, as Excel writes it.
        type: str
        default: utf-8
      column:
        description:
          - The column of a CSV file that holds the addresses. Required with O(sources[].format=csv).
          - Its name, exactly as in the first line; or its number, counted from 1, with O(sources[].header=false).
        type: str
      value_column:
        description: The column that holds the values, written as O(sources[].column).
        type: str
      header:
        description: Whether the first record of a CSV file holds the names of the columns.
        type: bool
        default: true
      delimiter:
        description: The character between the fields of a CSV file. Write a tab as V("\\t"), in double quotes.
        type: str
        default: ","
      query:
        description:
          - JMESPath expression that finds the addresses in a JSON document, such as V(users[?enabled].mail).
          - It yields what O(sources[].format) describes for V(json).
          - Needs C(python3-jmespath) (Debian) or C(jmespath) (PyPI) on the controller.
        type: str
      with_values:
        description: Whether lines of a plain file hold a value after the address and a space or tab.
        type: bool
        default: false
      username:
        description: User for HTTP basic authentication.
        type: str
      password:
        description:
          - Password of O(sources[].username) or O(sources[].bind_dn).
          - It is not sent in clear text, unless the server is this machine. Use C(https), C(ldaps) or O(sources[].start_tls).
        type: str
      headers:
        description: HTTP header fields to send. They are treated as O(sources[].password) is, because tokens stand there.
        type: dict
      client_cert:
        description: File of the PEM certificate that shows the web server who asks. It may hold the key too.
        type: path
      client_key:
        description: File of the PEM key of O(sources[].client_cert), without a passphrase.
        type: path
      ca_path:
        description: File of PEM certificates to trust instead of those of the system.
        type: path
      validate_certs:
        description: Whether the server's certificate must be valid and for its name. Without it, anyone on the way can read and alter everything.
        type: bool
        default: true
      timeout:
        description: Seconds to wait for the server at each step.
        type: float
        default: 30
      start_tls:
        description: Whether to use StartTLS on an C(ldap) connection. There is no second try without it.
        type: bool
        default: false
      bind_dn:
        description: Who reads the directory, as a DN; Active Directory also takes V(reader@example.com). Anonymous by default.
        type: str
      base:
        description: DN below which to search. Required with O(sources[].ldap_uri).
        type: str
      scope:
        description: V(subtree) is everything below O(sources[].base), V(onelevel) only what is directly below it.
        type: str
        choices: [subtree, onelevel]
        default: subtree
      filter:
        description:
          - LDAP filter (RFC 4515) of the entries.
          - In Active Directory with Exchange, do not leave out all disabled accounts. Shared, room and equipment mailboxes are disabled accounts that
            receive mail.
        type: str
        default: (mail=*)
      attributes:
        description:
          - Attributes that hold the addresses; all of their values count.
          - Of V(proxyAddresses), only the values with the prefix C(smtp:) count (C(SMTP:) is the primary address); the prefix is removed.
        type: list
        elements: str
        default: [mail]
      page_size:
        description: Entries to ask for at a time. It must not be above what the server allows; Active Directory allows 1000.
        type: int
        default: 500
      domains:
        description: The relay domains that this source is responsible for. By default all.
        type: list
        elements: str
        default: []
      value:
        description: The value of addresses that come without one. Recipients have V(OK) by default, scores nothing.
        type: str
      wildcards:
        description: Whether V(@example.com) is accepted. It makes every address of the domain a valid recipient.
        type: bool
        default: false
"""
