# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to test a gateway with.

Private to antispam.gateway. This file imports nothing of Ansible, as _smtp.py.
"""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import io
import zipfile
from collections.abc import Mapping, Sequence

SUBJECTS = {
    "clean": "Test: a clean message",
    "gtube": "Test: GTUBE, which every spam filter knows",
    "eicar": "Test: the EICAR test file",
    "eicar_zip": "Test: the EICAR test file in a zip archive",
    "oversize": "Test: a large message",
}
DEFAULT_OVERSIZE = 50 * 1024 * 1024 + 1

# Both test strings are put together here: a file that holds one whole is itself taken for spam or for a virus.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL" + "*C.34X"
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-" + "TEST-FILE!$H+H*"


def sample_message(
    sample: str = "clean",
    sender: str = "",
    recipients: Sequence[str] = (),
    domain: str = "localhost",
    subject: str | None = None,
    headers: Mapping[str, object] | None = None,
    size: int | None = None,
) -> bytes:
    """Return a well-formed message with CRLF line ends that a gateway must deliver or refuse, according to its kind (a key of SUBJECTS).

    `headers` are added, or replace the message's own; `size` is that of the kind oversize, in bytes. Raises ValueError,
    LookupError, AttributeError or TypeError, as the standard library does, for what cannot stand in a header.
    """
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = email.utils.make_msgid(domain=domain)
    # With a full name: SpamAssassin adds a point where one is missing and the client's host name looks like an address.
    message["From"] = f"Mail Gateway Test <{sender or 'MAILER-DAEMON@' + domain}>"
    message["To"] = ", ".join(recipients) or "undisclosed-recipients:;"
    message["Subject"] = SUBJECTS[sample] if subject is None else subject
    message["Auto-Submitted"] = "auto-generated"

    text = "This message was sent on purpose, to test a mail gateway. It can be deleted.\n"
    message.set_content(text + "\n" + GTUBE + "\n" if sample == "gtube" else text)
    # A name that no list of forbidden file types knows: it is the virus scanner that must say no.
    if sample == "eicar":
        message.add_attachment(EICAR.encode(), "application", "octet-stream", filename="eicar.txt")
    elif sample == "eicar_zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("eicar.txt", EICAR)
        message.add_attachment(archive.getvalue(), "application", "zip", filename="eicar.zip")

    for name, value in (headers or {}).items():
        del message[name]
        message[name] = str(value)

    data = message.as_bytes()
    if sample == "oversize":
        data += _padding((DEFAULT_OVERSIZE if size is None else size) - len(data))
    return data


def _padding(size: int) -> bytes:
    """Return lines of text, ``size`` bytes in all."""
    if size < 2:
        return b""
    lines = max(size // 64 - 1, 0)
    return (b"x" * 62 + b"\r\n") * lines + b"x" * (size - 64 * lines - 2) + b"\r\n"
