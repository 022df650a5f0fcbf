# SPDX-License-Identifier: GPL-3.0-or-later
"""Small documents of Microsoft Office and others, as far as a filter looks into them."""

import io
import struct
import zipfile

SECTOR, CUTOFF, END, FREE, FAT = 512, 4096, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def compressed(source):
    """Source of VBA as its modules hold it ([MS-OVBA] 2.4.1), with references to what has been said before."""
    result = b"\x01"
    for start in range(0, len(source), 4096):
        chunk, position, tokens = source[start : start + 4096], 0, b""
        while position < len(chunk):
            flags, group = 0, b""
            for bit in range(8):
                if position >= len(chunk):
                    break
                bits = max(4, (position - 1).bit_length()) if position else 4
                longest, distance = 0, 0
                for length in range(min(18, len(chunk) - position), 2, -1):
                    found = chunk.rfind(chunk[position : position + length], 0, position)
                    if found >= 0 and position - found <= 1 << bits:
                        longest, distance = length, position - found
                        break
                if longest:
                    flags |= 1 << bit
                    group += struct.pack("<H", (distance - 1) << (16 - bits) | (longest - 3))
                    position += longest
                else:
                    group += chunk[position : position + 1]
                    position += 1
            tokens += bytes([flags]) + group
        result += struct.pack("<H", 0xB000 | (len(tokens) - 1)) + tokens
    return result


def ole(streams):
    """An OLE file ([MS-CFB]) with these streams, all in its root; small ones lie in the mini stream."""
    mini, mini_fat, sectors, fat, entries = b"", [], [], [], []

    def place(data):
        count = -(-len(data) // SECTOR)
        start = len(sectors)
        for number in range(count):
            sectors.append(data[number * SECTOR : (number + 1) * SECTOR].ljust(SECTOR, b"\0"))
            fat.append(start + number + 1 if number + 1 < count else END)
        return start if count else END

    for name, data in streams.items():
        if len(data) >= CUTOFF:
            start = place(data)
        else:
            start, count = len(mini_fat), -(-len(data) // 64)
            mini += data.ljust(count * 64, b"\0")
            mini_fat += [start + number + 1 if number + 1 < count else END for number in range(count)]
        entries.append((name, 2, start, len(data)))
    mini_start = place(mini)
    mini_fat_start = place(struct.pack(f"<{len(mini_fat)}I", *mini_fat)) if mini_fat else END
    directory = b""
    for name, kind, start, size in [("Root Entry", 5, mini_start, len(mini)), *entries]:
        text = name.encode("utf-16-le") + b"\0\0"
        directory += text.ljust(64, b"\0") + struct.pack("<HBB3I16sI8s8sIQ", len(text), kind, 1, FREE, FREE, FREE, b"", 0, b"", b"", start, size)
    directory_start = place(directory)
    fat_sector = len(sectors)
    fat.append(FAT)
    assert len(fat) <= SECTOR // 4
    sectors.append(struct.pack(f"<{SECTOR // 4}I", *fat, *[FREE] * (SECTOR // 4 - len(fat))))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6s", 0x3E, 3, 0xFFFE, 9, 6, b"")
    header += struct.pack("<9I", 0, 1, directory_start, 0, CUTOFF, mini_fat_start, int(bool(mini_fat)), END, 0)
    return header + struct.pack("<109I", fat_sector, *[FREE] * 108) + b"".join(sectors)


def project(source, size=0):
    """A VBA project with one module, as vbaProject.bin or as the macros of an old document."""
    module = b"cache of compiled code\0" + compressed(b'Attribute VB_Name = "ThisDocument"\r\n' + source.encode())
    return ole({"_VBA_PROJECT": b"\xcc\x61" + bytes(100), "dir": bytes(100), "ThisDocument": module.ljust(size, b"\0"), "WordDocument": bytes(5000)})


AUTOMATIC = 'Private Sub Document_Open()\r\n  MsgBox "hello"\r\nEnd Sub\r\n'
ON_CLICK = 'Sub Sum_of_the_table()\r\n  MsgBox "Document_Open is said here only"\r\nEnd Sub\r\n'


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name) if name == "mimetype" else name, content)
    return file.getvalue()


TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{0}</Types>'
RELATIONS = '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
DOCUMENT = ("[Content_Types].xml", TYPES.format("")), ("_rels/.rels", RELATIONS), ("word/document.xml", '<?xml version="1.0"?><document/>')


def docm(vba, name="word/vbaProject.bin"):
    content_type = f'<Override PartName="/{name}" ContentType="application/vnd.ms-office.vbaProject"/>'
    return zipped(("[Content_Types].xml", TYPES.format(content_type)), *DOCUMENT[1:], (name, vba))


def macro_sheet(called):
    """An Excel workbook with a sheet of Excel 4.0 macros ([MS-XLS]); called: whether Excel starts it."""

    def record(kind, data):
        return struct.pack("<HH", kind, len(data)) + data

    sheet = record(0x85, struct.pack("<IBBBB", 0, 0, 1, 6, 0) + b"Macro1")
    name = record(0x18, struct.pack("<HBBHHHBBBB", 0x20 if called else 0, 0, 1, 0, 0, 0, 0, 0, 0, 0) + (b"\0\x01" if called else b"\0A"))
    return ole({"Workbook": (record(0x809, bytes(16)) + sheet + name + record(0x0A, b"")).ljust(CUTOFF, b"\0")})
