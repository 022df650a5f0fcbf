# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says is so: links lead somewhere, and figures, settings and commands are those of the collection."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.antispam.gateway.plugins.plugin_utils import _limits, _model

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# CHANGELOG.md is written by antsibull-changelog, with anchors of another kind.
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *ROOT.glob("roles/*/README.md"), *ROOT.glob("molecule/**/*.md"), *ROOT.glob("tools/**/*.md")]
    if path.name != "CHANGELOG.md"
)


def prose(path: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"``.+?``|`[^`\n]+`", lambda match: "x" * len(match[0]), text)


def anchors(path: Path) -> set[str]:
    """The anchors of headings, as GitHub and GitLab make them."""
    found: set[str] = set()
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number, unique = 0, anchor
        while unique in found:
            number += 1
            unique = f"{anchor}-{number}"
        found.add(unique)
    return found


def links(path: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(path: Path) -> None:
    broken = []
    for link in links(path):
        name, _hash, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        path = queue.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        queue += [(path.parent / link.partition("#")[0]).resolve() for link in links(path) if not link.startswith("#")]
    assert not set(DOCS.glob("**/*.md")) - seen


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_page_begins_with_a_title_and_has_no_other_of_its_rank(path: Path) -> None:
    titles = re.findall(r"^# .+$", prose(path), re.MULTILINE)
    assert len(titles) == 1 and path.read_text().startswith("# ")


@pytest.mark.parametrize(
    "heading",
    ["A gateway in ten lines", "What is refused where", "Where is my mail?", "What protects the gateway from a bad export", "What is tested, and what is not"],
)
def test_what_a_postmaster_asks_first_has_a_heading(heading: str) -> None:
    assert [path for path in PAGES if re.search(rf"^## {re.escape(heading)}$", path.read_text(), re.MULTILINE)]


# Words that a reader has to know this project, or English very well, to understand; and what to say instead.
IDIOMS = {
    r"front door": "postscreen, connection filtering",
    r"way out": "outbound mail, what to do",
    r"another time": "obsolete",
    r"sigil": "$ or @",
    r"zombie": "unwanted client",
    r"\baside\b": "in a directory of its own",
    r"puts? off": "asks to come back",
    r"in good order": "well-behaved",
    r"tak(?:es?|en) up": "loads",
    r"\bfolded\b": "in lower case",
    r"keep (?:them )?company": "say what it does",
    r"handed on": "passes",
    r"do(?:es)? without": "switches off",
    r"held against": "counts for",
}


@pytest.mark.parametrize("path", [*PAGES, *sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_words_are_those_of_the_field(path: Path) -> None:
    text = " ".join(prose(path).split())
    assert not {idiom: instead for idiom, instead in IDIOMS.items() if re.search(idiom, text, re.IGNORECASE)}


# Of these, what has no other meaning in code.
IN_CODE = [r"front door", r"another time", r"sigil", r"zombie", r"tak(?:es?|en) up", r"in good order", r"keep (?:them )?company"]
CODE = [path for name in ("plugins", "roles", "playbooks", "tests", "tools", "molecule") for path in sorted((ROOT / name).rglob("*")) if path.is_file()]


def test_names_and_comments_use_the_same_words() -> None:
    assert len(CODE) > 200
    for path in CODE:
        if path == Path(__file__).resolve() or path.suffix in (".pem", ".pyc"):
            continue
        text = " ".join(path.read_text(encoding="utf-8", errors="replace").replace("_", " ").split())
        assert not [idiom for idiom in IN_CODE if re.search(idiom, text, re.IGNORECASE)], path


def test_the_page_about_records_has_the_search_that_the_tests_of_the_journal_use() -> None:
    assert re.search(r"^(journalctl .*--grep) '", (DOCS / "where-is-my-mail.md").read_text(), re.MULTILINE)


# --- Settings ---------------------------------------------------------------------------------------------------------


def marked(path: Path, mark: str) -> str:
    """What follows a mark, up to the next heading or paragraph of another kind."""
    text = path.read_text().partition(f"<!-- {mark}: held by tests/unit/test_documentation.py -->\n")[2]
    assert text, f"{path.name} has no mark {mark}"
    return text


def derived_parameters() -> dict:
    """main.cf as the role postfix derives it, not rendered yet."""
    variables: dict = {}
    for path in sorted((ROOT / "roles" / "postfix" / "vars").glob("**/*.yml")):
        variables |= yaml.safe_load(path.read_text())
    return variables


def test_the_restrictions_that_are_shown_are_the_derived_ones() -> None:
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", marked(DOCS / "parameters.md", "restrictions"), re.DOTALL)[1])["postfix_main_cf"]
    variables = derived_parameters()
    derived = {name: value for group in variables["__postfix_main_cf"] if isinstance(group["parameters"], dict) for name, value in group["parameters"].items()}
    given = {
        "inventory_hostname": "mx1.example.com",
        "gateway_domains": [{"name": "example.com", "next_hop": "[mail.example.com]"}],
        "gateway_recipients": ["alice@example.com"],
        "gateway_postmaster": "alice@example.com",
    }
    model = _model.derive(given, lambda value: value)
    assert not model.problems
    context = {**variables, **model.variables, "__gateway_site": model.facts({})}
    templar = Templar(DataLoader(), {name: trust(value) for name, value in context.items()})
    assert shown == {name: templar.template(trust(derived[name])) for name in shown}
    # The null list for ETRN is left out: ETRN is not offered.
    assert {name for name in derived if re.fullmatch(r"smtpd_\w+_restrictions", name)} - set(shown) == {"smtpd_etrn_restrictions"}


def trust(value):
    """Mark every text in it as a template, as those of vars/main.yml are."""
    if isinstance(value, dict):
        return {name: trust(each) for name, each in value.items()}
    if isinstance(value, list):
        return [trust(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value


def test_an_example_of_a_restriction_repeats_the_derived_ones() -> None:
    blocks = [
        yaml.safe_load(block)["postfix_main_cf"] for block in re.findall(r"```yaml\n(postfix_main_cf:.*?)```", (DOCS / "parameters.md").read_text(), re.DOTALL)
    ]
    derived, examples = blocks[0], blocks[1:]
    assert examples
    for example in examples:
        for name, restrictions in example.items():
            assert [each for each in restrictions if each in derived[name]] == derived[name]


def test_the_table_of_sizes_is_what_the_limits_derive() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) MiB \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) MiB \|$", marked(DOCS / "installation.md", "sizing"), re.MULTILINE)
    assert len(rows) >= 3
    for row in rows:
        cpus, memory, *shown = (int(cell.replace(",", "")) for cell in row)
        limits = _limits.derive(cpus, memory, 50 * _limits.MIB, True, {}, store=64)
        assert shown == [limits["workers"], limits["smtpd_processes"], limits["postscreen_clients"], limits["queue_minfree"] // _limits.MIB]
        assert limits["unpack_quota"] == 500 * _limits.MIB


def test_the_example_of_a_site_with_4000_users_keeps_to_the_arithmetic_of_the_limits() -> None:
    limits = _limits.derive(5, 5100, 50 * _limits.MIB, True, {"workers": 12}, store=64)
    assert limits["smtpd_processes"] == 12 * 4 + _limits.IDLE_CLIENTS == 148
    assert limits["clamd_concurrent_reload"]
    total = _limits.SYSTEM_MIB + 2 * _limits.CLAMD_OFFICIAL_MIB + 12 * _limits.WORKER_MIB + 148 * _limits.SMTPD_MIB + 64
    assert total == 5060
    text = (DOCS / "installation.md").read_text()
    assert "300 + 2,600 + 12 x 150 + 148 x 2 + 64 = 5,060 MiB" in text
    assert "4,000 x 50 / 10 = 20,000 messages an hour, or 5.6 a second" in " ".join(text.split())


def test_the_playbooks_work_on_the_group_that_the_documentation_names() -> None:
    assert "the hosts of the group `gateways`" in (DOCS / "installation.md").read_text()
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        for play in yaml.safe_load(path.read_text()):
            assert play["hosts"] == "gateways", path.name
            assert "serial" not in play, f"{path.name}: docs/installation.md says that all gateways are changed at the same time"
            assert play["become"] is (path.name not in ("check_inventory.yml", "prove.yml")), path.name


# --- Active Directory -------------------------------------------------------------------------------------------------

# userAccountControl, msExchRecipientTypeDetails (none for a group) and whether Exchange delivers to it in the site's eyes.
NORMAL, DISABLED = 0x200, 0x202
ENTRIES = {
    "user": ({"proxyAddresses": "SMTP:a@example.com", "userAccountControl": NORMAL, "msExchRecipientTypeDetails": 1}, True),
    "user who left": ({"proxyAddresses": "SMTP:a@example.com", "userAccountControl": DISABLED, "msExchRecipientTypeDetails": 1}, False),
    "shared mailbox": ({"proxyAddresses": "SMTP:a@example.com", "userAccountControl": DISABLED, "msExchRecipientTypeDetails": 4}, True),
    "room": ({"proxyAddresses": "SMTP:a@example.com", "userAccountControl": DISABLED, "msExchRecipientTypeDetails": 16}, True),
    "equipment": ({"proxyAddresses": "SMTP:a@example.com", "userAccountControl": DISABLED, "msExchRecipientTypeDetails": 32}, True),
    "group": ({"proxyAddresses": "SMTP:a@example.com"}, True),
    "account without a mailbox": ({"userAccountControl": NORMAL}, False),
}


def selects(filter_: str, entry: dict) -> bool:
    """Evaluate an LDAP filter (RFC 4515) of the kinds that the documentation uses; an attribute that is not there equals nothing."""
    assert filter_[0] == "(" and filter_[-1] == ")", filter_
    inner = filter_[1:-1]
    if inner[0] in "&|!":
        parts, depth, start = [], 0, 1
        for index, character in enumerate(inner):
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0 and character == ")":
                parts.append(inner[start : index + 1])
                start = index + 1
        found = [selects(part, entry) for part in parts]
        return {"&": all(found), "|": any(found), "!": not found[0]}[inner[0]]
    attribute, _equals, value = inner.partition("=")
    name, _colon, rule = attribute.rstrip(":").partition(":")
    if name not in entry:
        return False
    if rule:
        assert rule == "1.2.840.113556.1.4.803", rule
        return int(entry[name]) & int(value) == int(value)
    return value == "*" or str(entry[name]) == value


def documented_filters() -> set[str]:
    text = "".join(path.read_text() for path in [*DOCS.glob("*.md"), *DOCS.glob("example/**/*.yml")])
    return {found.strip('"') for found in re.findall(r"^ +filter: (\S+)$", text, re.MULTILINE)}


def test_there_is_one_filter_for_active_directory() -> None:
    assert len(documented_filters()) == 1


@pytest.mark.parametrize("kind", ENTRIES)
def test_the_filter_for_active_directory_finds_who_receives_mail(kind: str) -> None:
    entry, receives = ENTRIES[kind]
    for filter_ in documented_filters():
        assert selects(filter_, entry) is receives


# --- The command line for cron ----------------------------------------------------------------------------------------

STAND_INS = {
    # Fails where there is a file "fail"; waits as long as there is a file "hold".
    "ansible-playbook": """echo "$@" >>calls
echo "run $(wc -l <calls)"
while [ -e hold ]; do sleep 0.02; done
[ ! -e fail ]""",
    "mail": """[ ! -e no-mail ] || exit 1
{ echo "$@"; cat; } >>mails""",
}


class Cron:
    """The line of docs/recipients.md as cron runs it, in a directory of its own and with stand-ins for Ansible and mail."""

    def __init__(self, directory: Path) -> None:
        self.directory, bin_ = directory / "ansible", directory / "bin"
        for path in (self.directory, bin_):
            path.mkdir()
        for name, script in STAND_INS.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
            (bin_ / name).chmod(0o755)
        line = re.search(r"^\*/5 \* \* \* \* ansible (.+)$", (DOCS / "recipients.md").read_text(), re.MULTILINE)[1]
        words = {"/usr/local/bin/update-recipients": str(DOCS / "example" / "update-recipients"), "/srv/ansible": str(self.directory)}
        assert line.split() == list(words)
        self.command = " ".join(words[word] for word in line.split())
        self.environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(["sh", "-c", self.command], cwd="/", env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self) -> tuple[int, str]:
        process = self.start()
        output = process.communicate(timeout=20)[0]
        return process.returncode, output

    def read(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def remove(self, name: str) -> None:
        (self.directory / name).unlink()


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    return Cron(tmp_path)


def test_a_second_run_leaves_the_first_one_and_its_log_alone_and_mails_nothing(cron: Cron) -> None:
    cron.touch("hold")
    first = cron.start()
    deadline = time.monotonic() + 20
    while "run 1" not in cron.read("update-recipients.log"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert cron.run() == (0, "")
    assert cron.read("update-recipients.log") == "run 1\n"
    assert len(cron.read("calls").splitlines()) == 1
    cron.remove("hold")
    assert (first.communicate(timeout=20)[0], first.returncode) == ("", 0)
    assert cron.read("mails") == ""


def test_a_lasting_failure_is_one_mail_and_its_end_another(cron: Cron) -> None:
    cron.touch("fail")
    assert [cron.run() for _time in range(3)] == [(1, "")] * 3
    assert cron.read("mails") == "-s recipients were not updated postmaster\nrun 1\n"
    cron.remove("fail")
    assert [cron.run() for _time in range(2)] == [(0, "")] * 2
    assert cron.read("mails").splitlines()[2:] == ["-s recipients are updated again postmaster", "run 4"]


def test_a_mail_that_could_not_be_sent_is_sent_by_the_next_run(cron: Cron) -> None:
    cron.touch("fail")
    cron.touch("no-mail")
    cron.run()
    cron.remove("no-mail")
    cron.run()
    assert cron.read("mails") == "-s recipients were not updated postmaster\nrun 2\n"


def test_the_vault_password_is_used_where_there_is_one(cron: Cron) -> None:
    cron.run()
    cron.touch(".vault-password")
    cron.run()
    assert cron.read("calls").splitlines() == [
        "-i inventory.yml antispam.gateway.recipients",
        "--vault-password-file .vault-password -i inventory.yml antispam.gateway.recipients",
    ]


def test_without_the_directory_nothing_is_run(cron: Cron) -> None:
    cron.command += "/nowhere"
    code, output = cron.run()
    assert code == 1 and "nowhere" in output
    assert cron.read("calls") == ""
