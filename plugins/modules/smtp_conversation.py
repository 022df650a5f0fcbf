#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_conversation
short_description: Holds one SMTP conversation and returns every reply
version_added: 0.1.0
description:
  - Connects to a mail server as another mail server would, offers it one message, and returns every reply with its code,
    its enhanced status code (RFC 3463) and the seconds it took.
  - A refusal is a result, not a failure. The task fails only if the conversation could not be held to its end, so say with
    C(failed_when) what you expect.
  - O(stop_after) ends the conversation politely before a message is sent. An open relay is looked for with
    O(stop_after=rcpt), which never reaches DATA.
options:
  host:
    description: Name or address of the mail server. Its MX records are not looked up.
    type: str
    required: true
  port:
    description: TCP port.
    type: int
    default: 25
  source_address:
    description: Address of this machine to connect from.
    type: str
  helo:
    description:
      - The name to greet the server with.
      - By default the fully qualified name of this machine, or its address in brackets if it has no such name.
    type: str
  early:
    description:
      - Send EHLO before the server has greeted. A mail server never does that. postscreen(8) refuses a client that does.
      - Needs O(tls=never), and O(stop_after=helo) or a later step.
    type: bool
    default: false
  sender:
    description: Envelope sender. The empty string is the null sender V(<>).
    type: str
    default: ""
  recipients:
    description: Envelope recipients. Required unless O(stop_after) is V(connect), V(helo), V(login) or V(mail).
    type: list
    elements: str
    default: []
  tls:
    description:
      - V(never) does not ask for TLS, V(may) uses STARTTLS if the server offers it, and V(require) fails if it does not.
      - V(implicit) begins with TLS, as on port 465 (RFC 8314).
      - A handshake that does not work is a failure with V(may) too. There is no second try in clear text.
    type: str
    choices: [never, may, require, implicit]
    default: may
  validate_certs:
    description:
      - Whether the server's certificate must be issued by a known authority, for the name O(host).
      - Mail servers do not ask that of each other, so it is off by default.
    type: bool
    default: false
  ca_path:
    description: File of PEM certificates to trust besides those of the system, with O(validate_certs=true).
    type: path
  username:
    description: Log in with AUTH PLAIN (RFC 4954) before the message is offered. Needs O(tls=require) or O(tls=implicit).
    type: str
  password:
    description: Password of O(username). It is in no result.
    type: str
  sample:
    description:
      - The message to send, from a built-in collection.
      - V(clean) is what every gateway should accept.
      - V(gtube) holds the test string that every spam filter takes for spam.
      - V(eicar) has the EICAR test file attached, which every virus scanner takes for a virus. It is harmless.
      - V(eicar_zip) has the same file attached in a zip archive.
      - V(oversize) is O(size) bytes large.
      - The default is V(clean), unless O(content) is given.
    type: str
    choices: [clean, gtube, eicar, eicar_zip, oversize]
  size:
    description:
      - Bytes of the sample V(oversize).
      - It is announced with MAIL FROM if the server offers SIZE, so a server with a lower limit refuses it without having seen it.
    type: int
    default: 52428801
  content:
    description: A whole message, header and body, to send in place of a sample. Line ends become CRLF.
    type: str
  subject:
    description: Subject of the sample.
    type: str
  headers:
    description: Header fields to add to the sample, or to replace in it.
    type: dict
    default: {}
  timeout:
    description: Seconds that the whole conversation may take.
    type: float
    default: 300
  stop_after:
    description: The last step before QUIT. V(data) is the whole conversation.
    type: str
    choices: [connect, helo, login, mail, rcpt, data]
    default: data
attributes:
  check_mode:
    support: none
    description: The module is skipped and opens no connection.
  diff_mode:
    support: none
    description: There is nothing to compare.
seealso:
  - name: RFC 5321
    description: Simple Mail Transfer Protocol.
    link: https://www.rfc-editor.org/rfc/rfc5321
  - name: RFC 3463
    description: Enhanced mail system status codes.
    link: https://www.rfc-editor.org/rfc/rfc3463
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: The gateway refuses a virus before it takes responsibility for it
  antispam.gateway.smtp_conversation:
    host: mx1.example.com
    sender: postmaster@example.org
    recipients: [alice@example.com]
    sample: eicar
  register: conversation
  failed_when: conversation.verdict != 'refused' or conversation.refused_at != 'end_of_data'

- name: A stranger may not relay through the gateway
  antispam.gateway.smtp_conversation:
    host: mx1.example.com
    recipients: [someone@example.net]
    stop_after: rcpt
  register: conversation
  failed_when: conversation.reply.code != 554 or conversation.reply.enhanced_code != '5.7.1'

- name: A message of one's own, with a verified certificate
  antispam.gateway.smtp_conversation:
    host: mx1.example.com
    tls: require
    validate_certs: true
    sender: bob@example.org
    recipients: [alice@example.com]
    content: |
      From: bob@example.org
      To: alice@example.com
      Subject: Hello
      Date: Thu, 01 Jan 2026 12:00:00 +0000
      Message-ID: <1@example.org>

      Hello Alice.
"""

RETURN = r"""
verdict:
  description:
    - V(accepted) if the server said yes to the last step asked of it, V(refused) if it said no for good (5xx), and V(deferred) if it
      said no for now (4xx).
    - With several recipients, one that was accepted is enough for the conversation to go on.
  returned: success
  type: str
  sample: refused
refused_at:
  description: >-
    The step that the server refused or deferred: V(connect), V(helo), V(starttls), V(login), V(mail), V(rcpt), V(data) or
    V(end_of_data). None if it was accepted.
  returned: success
  type: str
  sample: end_of_data
reply:
  description: The reply that decided, the last one before QUIT. One of RV(replies).
  returned: success
  type: dict
  sample:
    step: end_of_data
    command: "."
    code: 554
    enhanced_code: 5.7.0
    text: Reject, id=00512-01 - INFECTED
    lines: ["554 5.7.0 Reject, id=00512-01 - INFECTED"]
    seconds: 0.412
replies:
  description: Every reply, in order. After a failure, those that had come until then.
  returned: always, except after a wrong option
  type: list
  elements: dict
  contains:
    step:
      description: V(connect), V(helo), V(starttls), V(login), V(mail), V(rcpt), V(data), V(end_of_data) or V(quit).
      type: str
    command:
      description: What was sent, without the password, empty for the server's greeting.
      type: str
    code:
      description: Reply code.
      type: int
    enhanced_code:
      description: Enhanced status code, or none.
      type: str
    text:
      description: Text of the reply without its codes. The lines of a reply of several lines are separated by newlines.
      type: str
    lines:
      description: The lines of the reply as they came.
      type: list
      elements: str
    seconds:
      description: Time from the last byte sent to the end of the reply.
      type: float
extensions:
  description: What the server offered in its last reply to EHLO.
  returned: always, except after a wrong option
  type: list
  elements: str
  sample: [PIPELINING, SIZE 52428800, STARTTLS, ENHANCEDSTATUSCODES, 8BITMIME]
tls:
  description: Facts of the TLS connection, none if there was no TLS.
  returned: always, except after a wrong option
  type: dict
  contains:
    protocol:
      description: Version of the protocol.
      type: str
      sample: TLSv1.3
    cipher:
      description: Name of the cipher.
      type: str
      sample: TLS_AES_256_GCM_SHA384
    bits:
      description: Secret bits of the cipher.
      type: int
      sample: 256
    verified:
      description: Whether the certificate was verified.
      type: bool
queue_id:
  description: Queue id that the server named when it accepted the message, none if it named none.
  returned: always, except after a wrong option
  type: str
  sample: 4dVbQ60Jm2z1J
message_id:
  description: Message-ID of the message, none if the conversation ended before it was needed.
  returned: always, except after a wrong option
  type: str
  sample: <176380000000.1.2@example.org>
message_size:
  description: Bytes of the message, as announced with SIZE.
  returned: always, except after a wrong option
  type: int
bytes_sent:
  description: Bytes of the message that were sent after DATA. 0 if it was not reached.
  returned: always, except after a wrong option
  type: int
helo:
  description: The name that the server was greeted with.
  returned: always, except after a wrong option
  type: str
sender:
  description: Envelope sender.
  returned: always, except after a wrong option
  type: str
recipients:
  description: Envelope recipients.
  returned: always, except after a wrong option
  type: list
  elements: str
host:
  description: Host as it was given.
  returned: always, except after a wrong option
  type: str
port:
  description: TCP port.
  returned: always, except after a wrong option
  type: int
peer_address:
  description: Address of the server.
  returned: always, except after a wrong option
  type: str
  sample: 203.0.113.10
local_address:
  description: Address that this machine connected from.
  returned: always, except after a wrong option
  type: str
  sample: 203.0.113.20
seconds:
  description: Time that the whole conversation took.
  returned: always, except after a wrong option
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _samples, _smtp


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 25},
            "source_address": {"type": "str"},
            "helo": {"type": "str"},
            "early": {"type": "bool", "default": False},
            "sender": {"type": "str", "default": ""},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "tls": {"type": "str", "choices": list(_smtp.TLS), "default": "may"},
            "validate_certs": {"type": "bool", "default": False},
            "ca_path": {"type": "path"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "sample": {"type": "str", "choices": list(_samples.SUBJECTS)},
            "size": {"type": "int", "default": _samples.DEFAULT_OVERSIZE},
            "content": {"type": "str"},
            "subject": {"type": "str"},
            "headers": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 300},
            "stop_after": {"type": "str", "choices": list(_smtp.STOPS), "default": "data"},
        },
        mutually_exclusive=[("content", "sample"), ("content", "subject")],
        required_together=[("username", "password")],
        supports_check_mode=False,
    )
    try:
        result = _smtp.converse(**module.params)
    except _smtp.SmtpError as error:
        module.fail_json(msg=str(error), **error.result)
    # A message that was accepted is a change out there; everything else leaves no trace.
    reply = result["reply"]
    delivered = result["verdict"] == "accepted" and reply is not None and reply["step"] == "end_of_data"
    module.exit_json(changed=delivered, **result)


if __name__ == "__main__":
    main()
