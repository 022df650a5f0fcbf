# SPDX-License-Identifier: GPL-3.0-or-later
"""Small PDF files, as far as a reader of their text looks into them."""

import zlib


def pdf(*pages, forms=()):
    """A PDF file; a page is its content stream. forms: content streams that others call by /F0, /F1 and so on."""
    count = len(pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(count))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    first = 4 + 2 * count
    resources = b"<< /Font << /F1 3 0 R >> /XObject << %s >> >>" % b" ".join(b"/F%d %d 0 R" % (number, first + number) for number in range(len(forms)))
    for number, content in enumerate(pages):
        data = zlib.compress(content, 9)
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources %s /Contents %d 0 R >>" % (resources, 5 + 2 * number))
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(data), data))
    for content in forms:
        data = zlib.compress(content, 9)
        kind = b"/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources " + resources
        objects.append(b"<< %s /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (kind, len(data), data))
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer


def page(*lines):
    """The content stream of a page with these lines of text."""
    return b"BT /F1 12 Tf 72 800 Td 14 TL " + b" ".join(b"(%s) Tj T*" % line.encode() for line in lines) + b" ET"


def endless():
    """A PDF of two kilobytes whose text nobody has the time to read: each form draws the next one 300 times."""
    depth = 5
    forms = [b"/F%d Do " % (number + 1) * 300 for number in range(depth)] + [b"BT /F1 12 Tf 72 700 Td (word) Tj ET"]
    return pdf(b"/F0 Do", forms=forms)
