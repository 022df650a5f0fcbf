# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments: what is refused for its type, what cannot be looked into, and messages made to mislead."""

import base64
import io
import random
import struct
import tarfile
import zipfile

import pytest
from _network import ALICE, ENCRYPTED_ZIP, STRANGER, deliveries, gateway, mailboxes, message


def windows_program():
    """The head of one: what file(1) goes by."""
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    pe = b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, 224, 0x102)
    optional = struct.pack("<H", 0x10B).ljust(40, b"\0") + struct.pack("<HHHHHH", 4, 0, 0, 0, 4, 0)
    return (dos + pe + optional.ljust(68, b"\0") + struct.pack("<H", 2)).ljust(1024, b"\0")


def send(*attachments, text="See the attachment.\n"):
    return STRANGER.converse(content=message(text, attachments))


def archive_of(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


# --- Banned types -----------------------------------------------------------------------------------------------------


@pytest.mark.holds("S4", "D12", "S8")
@pytest.mark.parametrize("name", ["setup.exe", "SETUP.EXE", "invoice.pdf.exe", "macro.js", "disk.iso", "link.lnk", "page.hta", "run.vbs", "räume.scr"])
def test_a_banned_file_name_is_refused(name):
    record = send((name, b"just text"))
    assert record.answer == "554 5.7.0"
    assert "BANNED" in record.text
    assert mailboxes(record.message_id) == []


@pytest.mark.holds("D12")
def test_a_banned_type_is_refused_for_its_content_whatever_its_name():
    record = send(("notes.txt", windows_program()))
    assert record.answer == "554 5.7.0"
    assert "BANNED" in record.text


@pytest.mark.holds("D12", "T29")
def test_a_banned_file_name_in_a_zip_is_refused():
    record = send(("documents.zip", archive_of(("readme.txt", b"text"), ("setup.exe", b"just text"))))
    assert record.answer == "554 5.7.0"
    assert "BANNED" in record.text


# How the gateway's own tools pack the file setup.dat; the packers come with the unpackers.
PACKERS = {
    "zip": "$sevenzip a -bso0 -tzip out setup.dat && cat out.zip",
    "7z": "$sevenzip a -bso0 -t7z out setup.dat && cat out.7z",
    "tar.xz": "tar -cJf - setup.dat",
    "tar.bz2": "tar -cjf - setup.dat",
    "gz": "gzip -c setup.dat",
    "xz": "xz -c setup.dat",
    "zst": "zstd -qc setup.dat",
    "lz4": "lz4 -qc setup.dat",
    "lzo": "lzop -c setup.dat",
    "arj": "arj a -y out setup.dat >/dev/null && cat out.arj",
    "cpio": "echo setup.dat | cpio -o --quiet",
}


def packed_on_the_gateway(kind, content):
    unpack = f"sevenzip=$(command -v 7z || command -v 7zz) && cd $(mktemp -d) && echo {base64.b64encode(content).decode()} | base64 -d >setup.dat"
    packed = base64.b64decode(gateway().check_output(f"{unpack} && {{ {PACKERS[kind]}; }} | base64 -w0; rm -rf $PWD"))
    assert packed
    return packed


@pytest.mark.holds("T29", "D12")
@pytest.mark.parametrize("kind", PACKERS)
def test_a_program_in_an_archive_is_refused(kind):
    record = send((f"documents.{kind}", packed_on_the_gateway(kind, windows_program())))
    assert record.answer == "554 5.7.0"
    assert "BANNED" in record.text


@pytest.mark.holds("D12")
@pytest.mark.parametrize("name", ["report.pdf", "photo.jpg", "notes.txt", "table.xlsx", "sounds.tar.gz"])
def test_an_ordinary_attachment_arrives(name):
    record = send((name, b"just text"), ("documents.zip", archive_of(("notes.txt", b"text"))))
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert delivery.message["Subject"] == "Test"
    assert next(delivery.message.iter_attachments()).get_content() == b"just text"


# --- What no scanner can open -----------------------------------------------------------------------------------------


@pytest.mark.holds("T21", "T11")
def test_an_encrypted_archive_arrives_marked():
    record = send(("secret.zip", ENCRYPTED_ZIP))
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert delivery.mailbox == ALICE
    assert delivery.message["Subject"] == "***UNCHECKED*** Test"
    (attachment,) = delivery.message.iter_attachments()
    assert attachment.get_content() == ENCRYPTED_ZIP


# Noise, which no packer makes smaller: damage in the middle is damage of the content.
NOISE = random.Random(1).randbytes(6000)
DAMAGE = {
    "cut": lambda packed: packed[: len(packed) // 2],
    "altered": lambda packed: packed[:3000] + bytes(byte ^ 0x55 for byte in packed[3000:3100]) + packed[3100:],
}


@pytest.mark.holds("T29", "T21")
@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_that_is_damaged_arrives_marked_and_another_unmarked(kind):
    packed = packed_on_the_gateway(kind, NOISE)
    # cpio has no checksum of what it holds.
    copies = {"": packed, **{name: damage(packed) for name, damage in DAMAGE.items() if (kind, name) != ("cpio", "altered")}}
    for name, copy in copies.items():
        record = send((f"documents.{kind}", copy))
        assert record.answer == "250 2.0.0"
        (delivery,) = deliveries(record.message_id)
        assert delivery.message["Subject"] == ("***UNCHECKED*** Test" if name else "Test"), name or "as it was"


def _nested(levels):
    content, name = b"text", "notes.txt"
    for level in range(levels):
        content, name = archive_of((name, content)), f"level{level}.zip"
    return content


def _tar_of_empty_files(count):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"{number}.txt"))
    return file.getvalue()


BOMBS = {
    "much_from_little": lambda: ("zeros.zip", archive_of(("zeros.dat", bytes(80_000_000)))),
    "too_many_files": lambda: ("many.zip", archive_of(*((f"{number}.txt", b"") for number in range(4000)))),
    "too_many_files_in_a_tar": lambda: ("many.tar.gz", _tar_of_empty_files(4000)),
    "too_many_levels": lambda: ("deep.zip", _nested(20)),
}


@pytest.mark.holds("T21", "S8")
@pytest.mark.parametrize("kind", BOMBS)
def test_an_archive_beyond_the_unpacking_limits_is_refused(kind):
    record = send(BOMBS[kind]())
    assert record.answer == "554 5.7.0"
    assert mailboxes(record.message_id) == []


# --- MIME that two readers would understand differently ---------------------------------------------------------------

PART = "--{0}\r\nContent-Type: text/plain\r\n\r\nA part.\r\n--{0}--\r\n"
AMBIGUOUS = {
    "boundary_twice": ('Content-Type: multipart/mixed; boundary="one"; boundary="two"\r\n', PART.format("one") + PART.format("two")),
    "boundary_twice_in_two_ways": (
        "Content-Type: multipart/mixed; boundary=one; boundary*=us-ascii''two\r\n",
        PART.format("one") + PART.format("two"),
    ),
    "content_type_twice": (
        'Content-Type: multipart/mixed; boundary="one"\r\nContent-Type: multipart/mixed; boundary="two"\r\n',
        PART.format("one") + PART.format("two"),
    ),
    "content_type_of_two_kinds": ('Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary="one"\r\n', PART.format("one")),
    "encoding_twice": (
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n",
        base64.b64encode(b"A text.").decode() + "\r\n",
    ),
}


@pytest.mark.holds("T11")
@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_mime_is_refused(kind):
    content_headers, body = AMBIGUOUS[kind]
    built = message()
    headers = "".join(f"{name}: {built[name]}\r\n" for name in ("Date", "Message-ID", "From", "To", "Subject"))
    record = STRANGER.converse(content=headers + "MIME-Version: 1.0\r\n" + content_headers + "\r\n" + body)
    assert record.answer == "554 5.7.0"
    assert mailboxes(record.message_id) == []
