# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway-unofficial-signatures: fetch ClamAV signatures of others than ClamAV, try them, and have clamd load them.

Private to antispam.gateway. A copy of this file is /usr/local/sbin/gateway-unofficial-signatures, which a timer starts. Debian's
fangfrisch(1) fetches, and compares checksums; what this adds is that a file reaches clamd only after ClamAV has loaded it, has found
a sample beside it and nothing in ordinary mail. One file that clamd cannot load would keep all signatures from it.

Everything is done as the user of clamd. In the directory of clamd's databases only files whose names begin with PREFIX are touched.
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import filecmp
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

SETTINGS = pathlib.Path("/etc/gateway-unofficial-signatures.json")
STATE = pathlib.Path("/var/lib/gateway-unofficial-signatures")
USER = "clamav"
UNIT = "gateway-unofficial-signatures.service"
# Whose a file in clamd's directory is, is seen from its name: unofficial-PROVIDER-FILE.
PREFIX = "unofficial-"
# The providers that fangfrisch of Debian 13 knows, each with the option that it needs to let the site in.
KNOWN: dict[str, str] = {"interserver": "", "malwarepatrol": "receipt", "sanesecurity": "", "securiteinfo": "customer_id", "urlhaus": ""}
# Those whose files may come from another server: the others' addresses are not made of one and a name.
MIRRORED = ("interserver", "sanesecurity", "securiteinfo")
# What clamd reads as text. The other kinds are signed by ClamAV.
KINDS = (
    *("cdb", "db", "fp", "ftm", "gdb", "hdb", "hdu", "hsb", "hsu", "idb", "ign", "ign2", "imp", "ldb", "ldu", "mdb", "mdu", "msb", "msu"),
    *("ndb", "ndu", "pdb", "rmd", "sdb", "sfp", "wdb", "yar", "yara", "zmd"),
)
FILE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:{'|'.join(KINDS)})")
# Seconds to fetch what a provider has, and to try one file.
FETCHING, TRYING = 900, 600
# What is found by a signature that every trial has, and what nothing may be found in.
SAMPLE = b"gateway-unofficial-signatures: this is a sample.\n"
ORDINARY = {
    "letter": b"From: Alice <alice@example.com>\r\nTo: Bob <bob@example.org>\r\nSubject: Our meeting\r\nDate: Mon, 5 Jan 2026 10:00:00 +0100\r\n"
    b"Message-ID: <1@example.com>\r\n\r\nHello Bob,\r\n\r\nthank you for your letter. We meet on Monday at ten, in room 12.\r\nPlease bring the report and"
    b" the invoice along.\r\n\r\nKind regards\r\nAlice\r\n",
    "web page": b'From: shop@example.net\r\nTo: bob@example.org\r\nSubject: Your order\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset="utf-8"\r\n\r\n'
    b'<html><head><title>Your order</title></head>\r\n<body><p style="color:#333">Your order is on its way. <a href="https://www.example.net/orders?id=7">'
    b'Look at it</a> or <a href="mailto:shop@example.net">write to us</a>.</p><img src="cid:logo" width="1" height="1"></body></html>\r\n',
    "attachment": b'From: alice@example.com\r\nTo: bob@example.org\r\nSubject: Numbers\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    b'\r\n--b\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n--b\r\nContent-Type: text/csv; name="numbers.csv"\r\nContent-Disposition: attachment;'
    b' filename="numbers.csv"\r\nContent-Transfer-Encoding: base64\r\n\r\nbmFtZSxudW1iZXIKYWxpY2UsMQpib2IsMgo=\r\n--b--\r\n',
    "every byte": bytes(range(256)) * 4,
}


class SignatureError(Exception):
    """Why a file, or a provider, stays as it is; the others are updated all the same."""


class Item(NamedTuple):
    """A file of a provider."""

    name: str
    url: str


def configuration(provider: Mapping[str, Any], directory: pathlib.Path) -> str:
    """Return the configuration that fangfrisch fetches one provider with, into a directory."""
    name = provider["name"]
    options = {"enabled": "yes", "local_directory": directory / "fetched"}
    for option in ("customer_id", "receipt", "product", "interval", "max_size"):
        if provider.get(option):
            options[option] = provider[option]
    server = provider.get("server_url") or ""
    if server and name in KNOWN:
        options["prefix"] = f"{server.rstrip('/')}/"
    if name not in KNOWN:
        checksum = provider.get("checksum") or "sha256"
        options |= {"interval": provider.get("interval") or "1h", "integrity_check": "disabled" if checksum == "none" else checksum}
        options |= {f"url_{index}": f"{server.rstrip('/')}/{file}" for index, file in enumerate(provider["files"])}
    lines = [f"{option} = {str(value).replace('$', '$$')}\n" for option, value in options.items()]
    # Files that fangfrisch knows of, and does not fetch by itself, have a name with a mark in front.
    lines += [f"url_{file} = ${{!url_{file}}}\n" for file in provider.get("add") or ()]
    lines += [f"url_{file} = disabled\n" for file in provider.get("leave_out") or ()]
    return f"[DEFAULT]\ndb_url = sqlite:///{directory}/fangfrisch.sqlite\ncleanup = disabled\n\n[{name}]\n{''.join(lines)}"


def fangfrisch(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run fangfrisch(1), or raise SignatureError."""
    kept = {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **kept}
    # What Python says of SQLAlchemy is not for an administrator.
    environment["PYTHONWARNINGS"] = "ignore"
    try:
        return subprocess.run(
            ["fangfrisch", *words], cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise SignatureError(f"it was not fetched within {seconds} s") from None
    except OSError as error:
        raise SignatureError(f"fangfrisch cannot be run ({error})") from None


def known(conf: pathlib.Path | None = None) -> configparser.ConfigParser:
    """Return what fangfrisch has as its configuration: its own, and that of a file."""
    done = fangfrisch(*(["--conf", str(conf)] if conf else []), "dumpconf")
    if done.returncode:
        raise SignatureError(f"fangfrisch cannot read its configuration: {last_line(done.stderr)}")
    parser = configparser.ConfigParser(interpolation=configparser.ExtendedInterpolation())
    parser.read_string(done.stdout)
    return parser


def items(provider: str, parser: configparser.ConfigParser) -> list[Item]:
    """Return the files that a provider has for this site."""
    found = []
    for option in parser.options(provider):
        if not option.startswith("url_"):
            continue
        url = parser.get(provider, option)
        if url.strip().lower().startswith("disabled") or not url.strip():
            continue
        name = parser.get(provider, f"filename_{option[4:]}", fallback="") or urllib.parse.urlsplit(url).path.rpartition("/")[2]
        found.append(Item(name, url))
    return found


def mistakes(providers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each file that fangfrisch does not know."""
    parser, found = known(), []
    for provider in providers:
        name = provider["name"]
        if name not in KNOWN:
            if parser.has_section(name):
                found.append(f"{name}: fangfrisch knows a provider of this name; give it another one")
            continue
        if not parser.has_section(name):
            found.append(f"{name}: this version of fangfrisch does not know this provider; remove it, or name its server_url and files under another name")
            continue
        options = parser.options(name)
        fetched, more = ({option[len(mark) :] for option in options if option.startswith(mark)} for mark in ("url_", "!url_"))
        for option, files in (("add", more), ("leave_out", fetched)):
            unknown = [file for file in provider.get(option) or () if file not in files]
            if unknown:
                found.append(f"{name}: {option}: fangfrisch does not know {', '.join(unknown)}; it knows {', '.join(sorted(files)) or 'none'}")
    return found


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing was said")


def complaints(output: str, wanted: Sequence[Item]) -> list[tuple[str, str]]:
    """Return (name of a file, what fangfrisch says against it); the name is '' where it names none. Its exit status is 0 whatever happens."""
    found: dict[tuple[str, str], None] = {}
    for entry in re.split(r"^(?=[A-Z]+: )", output, flags=re.MULTILINE):
        level, _colon, text = entry.partition("\nTraceback ")[0].partition(": ")
        text = " ".join(text.split())
        if level not in ("CRITICAL", "ERROR", "WARNING") or text.endswith("content length unknown"):
            continue
        # An address may be the beginning of another, and of a server that does not answer only the path is named.
        near = [item for item in wanted if item.url in text] or [item for item in wanted if urllib.parse.urlsplit(item.url).path in text]
        item = max(near, key=lambda each: len(each.url), default=None)
        found[(item.name if item else "", reason(text, item))] = None
    return list(found)


def reason(text: str, item: Item | None) -> str:
    """Return what fangfrisch says of a file in fewer words, without its address."""
    if item:
        for said in (item.url, urllib.parse.urlsplit(item.url).path):
            text = text.replace(said, item.name)
    if "Max retries exceeded" in text:
        said = re.sub(r"^\w+\(['\"]?|<[^<>]*>: |['\")]+$", "", text.rpartition("Caused by ")[2])
        text = f"its server cannot be reached: {said}"
    elif "download failed" in text:
        text = f"it cannot be fetched: {text}"
    elif "digest mismatch" in text:
        text = f"it is not what its checksum says: {text}"
    elif "exceeds defined limit" in text:
        text = f"it is larger than max_size: {text}"
    return text


def try_out(path: pathlib.Path, name: str) -> None:
    """Raise SignatureError where ClamAV does not work as it should with a file of signatures."""
    with tempfile.TemporaryDirectory(prefix="gateway-unofficial-signatures-") as directory:
        scratch = pathlib.Path(directory)
        for part in ("database", "mail"):
            (scratch / part).mkdir()
        (scratch / "database" / "trial.ndb").write_text(f"Gateway.Trial:0:*:{SAMPLE.strip().hex()}\n", encoding="ascii")
        shutil.copyfile(path, scratch / "database" / f"{PREFIX}{name}")
        (scratch / "mail" / "sample").write_bytes(SAMPLE)
        for kind, content in ORDINARY.items():
            (scratch / "mail" / kind).write_bytes(content)
        command = ["clamscan", "--no-summary", "--infected", "--recursive", f"--database={scratch / 'database'}", str(scratch / "mail")]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": str(scratch)}
        try:
            done = subprocess.run(
                command, cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TRYING, check=False
            )
        except subprocess.TimeoutExpired:
            raise SignatureError(f"ClamAV did not load it within {TRYING} s") from None
    said = (done.stderr + done.stdout).replace(f"{scratch}/database/{PREFIX}", "")
    errors = [line.partition(": ")[2] for line in said.splitlines() if line.startswith(("LibClamAV Error: ", "ERROR: "))]
    if done.returncode not in (0, 1) or errors:
        raise SignatureError(f"ClamAV cannot load it: {errors[0] if errors else last_line(said)}")
    found = dict(re.findall(rf"^{re.escape(str(scratch))}/mail/([^:]+): (.+) FOUND$", said, re.MULTILINE))
    if not found.pop("sample", ""):
        raise SignatureError("ClamAV does not find a sample any more beside it")
    for kind, virus in found.items():
        raise SignatureError(f"it finds {virus} in an ordinary message ({kind})")


def reload(address: str) -> str:
    """Have clamd load what is new, and return why it does not, '' where it does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(address)
            connection.sendall(b"nRELOAD\n")
            answer = connection.recv(100).decode("ascii", "replace").strip()
    except OSError as error:
        return str(error)
    return "" if answer == "RELOADING" else f"it answers {answer!r}"


class Signatures:
    """What the gateway has of its providers."""

    def __init__(self, settings: Mapping[str, Any], state: pathlib.Path = STATE) -> None:
        self.providers: list[dict[str, Any]] = settings["providers"]
        self.databases = pathlib.Path(settings["databases"])
        self.state = state
        self._wanted: dict[str, list[Item]] = {}

    def place(self, provider: str, name: str) -> pathlib.Path:
        return self.databases / f"{PREFIX}{provider}-{name}"

    def surplus(self) -> list[pathlib.Path]:
        """Return the files in clamd's directory that the site does not have any more."""
        wanted = {self.place(provider["name"], item.name) for provider in self.providers for item in self.wanted(provider)}
        return sorted(path for path in self.databases.glob(f"{PREFIX}*") if path not in wanted)

    def wanted(self, provider: Mapping[str, Any]) -> list[Item]:
        """Return the files of a provider, or raise SignatureError."""
        name = provider["name"]
        if name not in self._wanted:
            with tempfile.TemporaryDirectory(prefix="gateway-unofficial-signatures-") as scratch:
                conf = pathlib.Path(scratch) / "fangfrisch.conf"
                conf.write_text(configuration(provider, pathlib.Path(scratch)), encoding="utf-8")
                try:
                    self._wanted[name] = items(name, known(conf))
                except configparser.Error as error:
                    raise SignatureError(f"fangfrisch cannot use the settings of {name}: {error.message}") from None
        return self._wanted[name]

    def fetch(self, provider: Mapping[str, Any], wanted: Sequence[Item], force: bool) -> list[tuple[str, str]]:
        """Have fangfrisch bring what a provider has up to date, and return what it says against files; or raise SignatureError."""
        directory = self.state / provider["name"]
        conf, under_way = directory / "fangfrisch.conf", directory / "under_way"
        text = configuration(provider, directory)
        # Settings that are new may have other files, and a run that was killed may have left part of one: fangfrisch would take both for what it has.
        if under_way.exists() or not conf.exists() or conf.read_text(encoding="utf-8") != text:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(exist_ok=True)
        under_way.touch()
        conf.write_text(text, encoding="utf-8")
        words = ("--conf", str(conf))
        if not (directory / "fangfrisch.sqlite").exists():
            fangfrisch(*words, "initdb")
        done = fangfrisch(*words, *(["--force"] if force else []), "refresh", seconds=FETCHING)
        if done.returncode:
            # Next time it begins anew.
            raise SignatureError(f"fangfrisch ended in an error: {last_line(done.stderr)}")
        under_way.unlink()
        return complaints(done.stderr + done.stdout, wanted)

    def update(self, provider: Mapping[str, Any], force: bool = False) -> tuple[list[str], list[str]]:
        """Update the files of a provider. Return which are new, and what is wrong with others; or raise SignatureError."""
        name = provider["name"]
        wanted = self.wanted(provider)
        failed = self.fetch(provider, wanted, force)
        new = []
        for item in wanted:
            fetched, place = self.state / name / "fetched" / item.name, self.place(name, item.name)
            try:
                if not FILE_NAME.fullmatch(item.name):
                    raise SignatureError("this is no kind of signatures that is taken")
                if not fetched.is_file() and item.name not in dict(failed):
                    raise SignatureError("it was not fetched")
                if fetched.is_file() and not (place.is_file() and filecmp.cmp(fetched, place, shallow=False)):
                    try_out(fetched, item.name)
                    put(fetched, place)
                    new.append(item.name)
            except SignatureError as error:
                failed.append((item.name, str(error)))
        return new, [f"{file}: {why}; {self.stays(name, file)}" if file else why for file, why in failed]

    def stays(self, provider: str, file: str) -> str:
        return "its old signatures stay in use" if self.place(provider, file).exists() else "no signature of it is in use"


def put(path: pathlib.Path, place: pathlib.Path) -> None:
    """Let a file be one of clamd's databases, in one step. clamd does not look at a file of such a name before."""
    with tempfile.NamedTemporaryFile(dir=place.parent, prefix=f"{PREFIX}new-", delete=False) as file, path.open("rb") as source:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, place)


def mask(text: str, providers: Iterable[Mapping[str, Any]]) -> str:
    """Return a text without what nobody may see."""
    for provider in providers:
        for option, what in (("customer_id", "its customer_id"), ("receipt", "its receipt"), ("server_url", "its server")):
            secret = (provider.get(option) or "").rstrip("/")
            text = text.replace(secret, f"({what})") if secret else text
    return text


def work(signatures: Signatures, socket_address: str, *, force: bool = False, tidy: bool = False) -> tuple[list[str], list[str]]:
    """Update everything; tidy: only remove what the site does not have any more. Return what is new, and what failed."""
    new: list[str] = []
    failed: list[str] = []
    for provider in [] if tidy else signatures.providers:
        name = provider["name"]
        try:
            files, wrong = signatures.update(provider, force)
        except SignatureError as error:
            files, wrong = [], [f"{error}; its old signatures stay in use"]
        new += [f"{name}: {file}: new signatures" for file in files]
        failed += [f"{name}: {why}" for why in wrong]
    try:
        for path in signatures.surplus():
            path.unlink()
            new.append(f"{path.name} was removed")
        names = [provider["name"] for provider in signatures.providers]
        for left in [path for path in signatures.state.iterdir() if path.is_dir() and path.name not in names]:
            shutil.rmtree(left)
    except SignatureError as error:
        failed.append(str(error))
    if new:
        problem = reload(socket_address)
        if problem:
            # It looks at its directory when it starts, and by itself after SelfCheck.
            new.append(f"clamd was not told ({problem}); it loads them when it starts")
    return new, failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway-unofficial-signatures", description="Update the unofficial signatures of ClamAV.")
    parser.add_argument("--settings", type=pathlib.Path, default=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="ask every provider now, however little time has passed")
    parser.add_argument("--tidy", action="store_true", help="fetch nothing, and remove the signatures that the site does not have any more")
    parser.add_argument("--surplus", action="store_true", help="change nothing, and name what --tidy would remove")
    parser.add_argument("--check", action="store_true", help="change nothing and fetch nothing, and name what fangfrisch does not know")
    arguments = parser.parse_args()
    if os.geteuid() == 0 and not arguments.check and not arguments.surplus:
        os.chdir("/")
        if arguments.tidy:
            # A slow server would hold up whoever waits for it, and what it has been told is out of date.
            subprocess.run(["systemctl", "stop", UNIT], capture_output=True, check=False)
        os.execvp("runuser", ["runuser", "-u", USER, "--", sys.executable, *sys.argv])
    os.umask(0o077)
    settings = json.loads(arguments.settings.read_text(encoding="utf-8"))
    signatures = Signatures(settings)
    new: list[str] = []
    try:
        if arguments.check:
            failed = mistakes(signatures.providers) if signatures.providers else []
        elif arguments.surplus:
            new, failed = [path.name for path in signatures.surplus()], []
        else:
            with (signatures.state / ".lock").open("w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                new, failed = work(signatures, settings["clamd_socket"], force=arguments.force, tidy=arguments.tidy)
    except SignatureError as error:
        failed = [str(error)]
    for line in new:
        sys.stdout.write(mask(f"{line}\n", signatures.providers))
    for line in failed:
        sys.stderr.write(mask(f"gateway-unofficial-signatures: {line}\n", signatures.providers))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
