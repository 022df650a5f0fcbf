# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments: what is refused for its type, what cannot be looked into, and messages made to mislead."""

import base64
import io
import random
import re
import tarfile
import urllib.parse
import zipfile

import _office
import pytest
from _network import ALICE, ENCRYPTED_ZIP, STRANGER, deliveries, gateway, mailboxes, message, wait_for_journal, windows_program


# What the sender reads of every refused attachment.
REFUSED = " is not accepted here: "


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
    assert REFUSED in record.text
    assert mailboxes(record.message_id) == []


@pytest.mark.holds("D12")
def test_a_banned_type_is_refused_for_its_content_whatever_its_name():
    record = send(("notes.txt", windows_program()))
    assert record.answer == "554 5.7.0"
    assert REFUSED in record.text


@pytest.mark.holds("D12", "T29")
def test_a_banned_file_name_in_a_zip_is_refused():
    record = send(("documents.zip", archive_of(("readme.txt", b"text"), ("setup.exe", b"just text"))))
    assert record.answer == "554 5.7.0"
    assert REFUSED in record.text


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
    assert REFUSED in record.text


@pytest.mark.holds("D12")
@pytest.mark.parametrize("name", ["report.pdf", "photo.jpg", "notes.txt", "table.xlsx", "sounds.tar.gz"])
def test_an_ordinary_attachment_arrives(name):
    record = send((name, b"just text"), ("documents.zip", archive_of(("notes.txt", b"text"))))
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert delivery.message["Subject"] == "Test"
    assert next(delivery.message.iter_attachments()).get_content() == b"just text"


# --- Names as Windows takes them ----------------------------------------------------------------------------------------


def with_field(field, content=b"just text", media_type="application/octet-stream"):
    """A message with an attachment whose Content-Disposition is written as it stands here."""
    built = message("See the attachment.\n", [("@@", content)]).as_string()
    return built.replace('attachment; filename="@@"', f"attachment; {field}").replace("application/octet-stream", media_type)


def answers(contents):
    """{name: answer} of messages that are sent at the same time, some at a time: more is not one client's share."""
    names, records = list(contents), []
    for start in range(0, len(names), 2):
        records += STRANGER.converse_at_once([{"content": contents[name]} for name in names[start : start + 2]])
    return {name: record.answer for name, record in zip(names, records, strict=True)}


PROGRAM_NAMES = {
    "a dot": 'filename="invoice.exe."',
    "a dot and a blank": 'filename="invoice.exe. "',
    "a tab": 'filename="invoice.exe\t"',
    "a no-break space": "filename*=utf-8''invoice.exe%C2%A0",
    "an ideographic space": "filename*=utf-8''invoice.exe%E3%80%80",
    "a zero width space": "filename*=utf-8''invoice.exe%E2%80%8B",
    "the stream with the data": 'filename="invoice.exe::$DATA"',
    "another stream": 'filename="invoice.exe:readme.txt"',
    "a stream that is a program": 'filename="readme.txt:invoice.exe"',
    "a direction mark before the end": "filename*=utf-8''invoice%E2%80%AEfdp.exe",
    "a direction mark in the ending": "filename*=utf-8''invoice.e%E2%80%8Exe",
    "a soft hyphen": "filename*=utf-8''invoice.e%C2%ADxe",
    "full-width forms": "filename*=utf-8''invoice%EF%BC%8E%EF%BD%85%EF%BD%98%EF%BD%85",
    "an encoded word": 'filename="=?utf-8?B?aW52b2ljZS5leGU=?="',
    "an encoded word without its end": 'filename="=?utf-8?B?aW52b2ljZS5leGU="',
    "two encoded words": 'filename="=?utf-8?Q?invoice=2Ee?= =?utf-8?Q?xe?="',
    "an encoded word in an encoded word": 'filename="=?utf-8?Q?=3D=3Futf-8=3FQ=3Finvoice=2Eexe=3F=3D?="',
    "percent signs": 'filename="invoice%2Eexe"',
    "UTF-16": "filename*=utf-16le''i%00.%00e%00x%00e%00",
    "a zero": "filename*=utf-8''invoice.exe%00.txt",
    "a path": r'filename="C:\\temp\\invoice.exe"',
    "a second name": 'filename="a.txt"; filename="b.exe"',
    "a second name, encoded": "filename=\"a.txt\"; filename*=utf-8''b.exe",
    "a first name, encoded": "filename*=utf-8''a.txt; filename=\"b.exe\"",
    "pieces": 'filename*0="invoice.e"; filename*1="xe"',
    "pieces in another order": 'filename*1="xe"; filename*0="invoice.e"',
    "a quotation mark that is missing": 'filename="invoice.exe',
    "a class identifier": 'filename="invoice.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}"',
}


@pytest.mark.holds("T35", "D12")
def test_a_program_is_one_whatever_its_name_is_dressed_up_with():
    assert answers({what: with_field(field) for what, field in PROGRAM_NAMES.items()}) == dict.fromkeys(PROGRAM_NAMES, "554 5.7.0")


@pytest.mark.holds("T35", "S8")
def test_an_attachment_whose_name_cannot_be_judged_is_not_delivered(began):
    field = ";\r\n ".join(f"filename*{number}=a" for number in range(1100))
    record = STRANGER.converse(content=with_field(field))
    assert record.answer == "450 4.7.0"
    wait_for_journal(began, "not finished by the hook of attachments (more than 1000 names of one attachment")
    assert mailboxes(record.message_id) == []


ORDINARY_NAMES = [
    "invoice.exe.pdf",
    "www.example.com.pdf",
    "Re: offer: draft.txt",
    "100%.pdf",
    "x=?y.txt",
    "notes.txt. ",
    "faxe",
    "Minutes 12.5.",
    "Grüße an alle.odt",
    "报告.pdf",
    "تقرير\u200f.pdf",
    "readme",
    "key.asc",
    "photo.jpeg",
    "archive.tar.gz",
]


@pytest.mark.holds("T35", "D12")
def test_a_name_that_only_looks_like_one_of_a_program_is_none():
    contents = {name: with_field(f"filename*=utf-8''{urllib.parse.quote(name)}") for name in ORDINARY_NAMES}
    assert answers(contents) == dict.fromkeys(ORDINARY_NAMES, "250 2.0.0")


@pytest.mark.holds("T35", "D12")
def test_what_outlook_and_exchange_refuse_is_refused():
    """One of each group, and those that were added last."""
    endings = ["appref-ms", "cab.exe", "cpl", "deb", "hta", "library-ms", "mdb", "one", "psd1", "py", "rdp", "search-ms", "theme", "url", "vhdx", "xll"]
    assert answers({ending: with_field(f'filename="scan.{ending}"') for ending in endings}) == dict.fromkeys(endings, "554 5.7.0")


# --- Archives and documents ---------------------------------------------------------------------------------------------

ODT = ("mimetype", "application/vnd.oasis.opendocument.text"), ("META-INF/manifest.xml", "<manifest/>"), ("content.xml", "<content/>")
EPUB = ("mimetype", "application/epub+zip"), ("META-INF/container.xml", "<container/>")
SCRIPT = ("scripts/setup.js", "alert(1)")
REFUSED_ARCHIVES = {
    "a program with a dot and a blank.zip": archive_of(("invoice.exe. ", b"x")),
    "a program in full-width forms.zip": archive_of(("invoice\uff0e\uff45\uff58\uff45", b"x")),
    "a program in a folder named like one.zip": archive_of(("www.example.com/", b""), ("www.example.com/setup.exe", b"x")),
    "a program behind the beginning of a document.zip": archive_of(*_office.DOCUMENT, ("setup.exe", b"x")),
    "a script behind the beginning of an e-book.zip": archive_of(*EPUB, SCRIPT),
    "a script behind the beginning of an ODF document": archive_of(*ODT, SCRIPT),
}
WELCOME = {
    "a folder named like a program.zip": archive_of(("www.example.com/", b""), ("www.example.com/index.html", b"<p>hello</p>")),
    "letter.docx": archive_of(*_office.DOCUMENT),
    "signed.docx": archive_of(*_office.DOCUMENT, ("_xmlsignatures/origin.sigs", ""), ("_xmlsignatures/sig1.xml", "<Signature/>")),
    "letter.odt": archive_of(*ODT),
    "letter with a script of its own.odt": archive_of(*ODT, ("Scripts/python/macro.py", "x")),
    "book.epub": archive_of(*EPUB, SCRIPT),
    "contract.asice": archive_of(("mimetype", "application/vnd.etsi.asic-e+zip"), ("META-INF/signatures0.xml", "<x/>"), ("contract.pdf", b"%PDF-1.4\n")),
}


@pytest.mark.holds("T35", "T29", "D12")
def test_an_archive_is_one_whatever_it_begins_with():
    contents = {name: message(attachments=[(name, content)]) for name, content in REFUSED_ARCHIVES.items()}
    assert answers(contents) == dict.fromkeys(REFUSED_ARCHIVES, "554 5.7.0")


@pytest.mark.holds("T35", "D12")
@pytest.mark.parametrize("name", WELCOME)
def test_documents_arrive_as_they_are(name):
    record = send((name, WELCOME[name]))
    assert record.answer == "250 2.0.0"
    (delivery,) = deliveries(record.message_id)
    assert delivery.message["Subject"] == "Test"
    assert next(delivery.message.iter_attachments()).get_content() == WELCOME[name]


@pytest.mark.holds("T35", "D12")
def test_an_attached_message_is_looked_into():
    def carriers(name):
        inner = message(attachments=[(name, b"just text")])
        twice = message()
        twice.add_attachment(inner)
        outer = message()
        outer.add_attachment(twice)
        head = 'Content-Type: message/rfc822; name="letter.docx"'
        return {
            f"{name} in a message": twice,
            f"{name} in a message in a message": outer,
            f"{name} in a message that is named like a document": _with_body("multipart/mixed", TEXT, (head, inner.as_string())),
            f"{name} in a file that is a message": message(attachments=[("message.eml", bytes(inner))]),
            f"{name} in such a file in an archive": message(attachments=[("messages.zip", archive_of(("message.eml", bytes(inner))))]),
        }

    refused, welcome = carriers("setup.js"), carriers("notes.txt")
    assert answers(refused | welcome) == dict.fromkeys(refused, "554 5.7.0") | dict.fromkeys(welcome, "250 2.0.0")


def _with_body(content_type, *parts):
    """A message whose body is these parts, each (header, text)."""
    built = message()
    head = "".join(f"{name}: {built[name]}\r\n" for name in ("Date", "Message-ID", "From", "To", "Subject")) + "MIME-Version: 1.0\r\n"
    body = "".join(f"--b1\r\n{header}\r\n\r\n{text}\r\n" for header, text in parts)
    return f'{head}Content-Type: {content_type}; boundary="b1"\r\n\r\n{body}--b1--\r\n'


TEXT = ("Content-Type: text/plain", "Dear Alice, see you on Tuesday. Anna")
BASE64 = "Content-Transfer-Encoding: base64"
DER = base64.b64encode(b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" + bytes(40)).decode()
ARMOR = "-----BEGIN PGP {0}-----\r\n\r\niQEzBAEBCAAdFiEEexample0example0exampleFAmA=\r\n=abcd\r\n-----END PGP {0}-----"
EVENT = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR"
CARD = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Anna Example\r\nEND:VCARD"
SIGNED = "multipart/signed; micalg=sha-256; protocol="
PERSONAL = {
    "signed with S/MIME": _with_body(
        f'{SIGNED}"application/pkcs7-signature"', TEXT, (f'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n{BASE64}', DER)
    ),
    "encrypted with S/MIME": with_field('filename="smime.p7m"', b"\x30\x80\x06\x09" + bytes(60), "application/pkcs7-mime; smime-type=enveloped-data"),
    "signed with PGP": _with_body(
        f'{SIGNED}"application/pgp-signature"',
        TEXT,
        ('Content-Type: application/pgp-signature; name="signature.asc"', ARMOR.format("SIGNATURE")),
    ),
    "encrypted with PGP": _with_body(
        'multipart/encrypted; protocol="application/pgp-encrypted"',
        ("Content-Type: application/pgp-encrypted", "Version: 1"),
        ('Content-Type: application/octet-stream; name="encrypted.asc"', ARMOR.format("MESSAGE")),
    ),
    "a key": with_field('filename="key.asc"', ARMOR.format("PUBLIC KEY BLOCK").encode(), "application/pgp-keys"),
    "an invitation": _with_body("multipart/alternative", TEXT, ("Content-Type: text/calendar; charset=utf-8; method=REQUEST; name=invite.ics", EVENT)),
    "a business card": with_field('filename="anna.vcf"', CARD.encode(), "text/vcard"),
}


@pytest.mark.holds("T35", "D12")
def test_signed_and_encrypted_messages_invitations_and_cards_arrive():
    assert answers(PERSONAL) == dict.fromkeys(PERSONAL, "250 2.0.0")


# --- Macros -------------------------------------------------------------------------------------------------------------

AUTOMATIC, ON_CLICK = _office.project(_office.AUTOMATIC), _office.project(_office.ON_CLICK)
MACROS = {
    "starts.docm": (_office.docm(AUTOMATIC), "554 5.7.0"),
    "starts, a large module.docm": (_office.docm(_office.project(_office.AUTOMATIC, 6000)), "554 5.7.0"),
    "starts, under another name.docx": (_office.docm(AUTOMATIC, "word/media/image1.bin"), "554 5.7.0"),
    "starts.doc": (AUTOMATIC, "554 5.7.0"),
    "starts.xls": (_office.macro_sheet(True), "554 5.7.0"),
    "starts, in an archive.zip": (archive_of(("a.docm", _office.docm(AUTOMATIC))), "554 5.7.0"),
    "nobody can read it.doc": (_office.ole({"_VBA_PROJECT": bytes(100), "x": bytes(5000)}), "554 5.7.0"),
    "waits for a click.docm": (_office.docm(ON_CLICK), "250 2.0.0"),
    "waits for a click.doc": (ON_CLICK, "250 2.0.0"),
    "waits for a click.xls": (_office.macro_sheet(False), "250 2.0.0"),
    "no macro.doc": (_office.ole({"WordDocument": bytes(5000)}), "250 2.0.0"),
}


@pytest.mark.holds("T36")
def test_macros_that_start_by_themselves_are_refused_and_others_arrive():
    contents = {name: message(attachments=[(name, content)]) for name, (content, _answer) in MACROS.items()}
    assert answers(contents) == {name: answer for name, (_content, answer) in MACROS.items()}


# --- What the sender reads ----------------------------------------------------------------------------------------------

IF_WRONG = ". If this is a mistake, turn to postmaster@example.com"
WORDS = {
    "an attachment": (
        lambda: message(attachments=[("invoice.exe", b"x")]),
        'The attachment "invoice.exe" is not accepted here: it is a program',
    ),
    "one in an archive": (
        lambda: message(attachments=[("documents.zip", archive_of(("setup.js", b"x")))]),
        'The attachment "setup.js" in "documents.zip" is not accepted here: it is a script',
    ),
    "by its content": (
        lambda: message(attachments=[("notes.txt", windows_program())]),
        'The attachment "notes.txt" is not accepted here: files with this content are refused',
    ),
    "a macro": (
        lambda: message(attachments=[("table.xls", _office.macro_sheet(True))]),
        'The attachment "table.xls" is not accepted here: it has macros that start when it is opened, or that cannot be read',
    ),
    "letters that are not ASCII": (
        lambda: message(attachments=[("Räume\u202e.scr", b"x")]),
        'The attachment "R?ume.scr" is not accepted here: it is a program',
    ),
    "a name of many letters": (
        lambda: message(attachments=[("a" * 300 + "-end-of-the-name.exe", b"x")]),
        f'The attachment "{"a" * 24}...{"a" * 4}-end-of-the-name.exe" is not accepted here: it is a program',
    ),
    "a name with words of amavis": (
        lambda: message(attachments=[("[:TESTS] %n %a _SCORE_.exe", b"x")]),
        'The attachment "[:TESTS] %n %a _SCORE_.exe" is not accepted here: it is a program',
    ),
    "an archive beyond the limits, in the words of the inventory": (
        lambda: message(attachments=[("many.zip", archive_of(*((f"{number}.txt", b"") for number in range(4000))))]),
        "Send large archives to [https://files.example.com/_UP_?to=100%25|#1]",
    ),
    "ambiguous structure": (
        lambda: message().as_string().replace("Content-Type: text/plain", "Content-Type: text/html\r\nContent-Type: text/plain"),
        "The structure of this message is wrong, so that mail programs would show it differently",
    ),
}


@pytest.mark.holds("T37", "S8")
@pytest.mark.parametrize("what", WORDS)
def test_a_refusal_says_what_was_wrong_and_where_to_turn(what):
    content, words = WORDS[what]
    record = STRANGER.converse(content=content())
    (line,) = record.reply["lines"]
    assert re.fullmatch(r"554 5\.7\.0 Reject, id=[0-9-]+ - (.*)", line)[1] == words + IF_WRONG
    assert len(line) < 510


@pytest.mark.holds("T37", "S8")
@pytest.mark.parametrize(("sample", "words"), [("gtube", "This message looks like spam"), ("eicar", "This message contains a virus: [A-Za-z0-9.]+")])
def test_a_refusal_of_spam_and_of_a_virus_says_so(sample, words):
    record = STRANGER.converse(sample=sample)
    assert re.fullmatch(rf"Reject, id=[0-9-]+ - {words}{re.escape(IF_WRONG)}", record.text)
    inside = ["mx1", "127.0.0.1", "amavis", "SpamAssassin", "ClamAV", "score"]
    assert not [word for word in inside if word.lower() in record.text.lower()]


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
