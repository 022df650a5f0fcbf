# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the promises in docs/promises.md from the sentences of tests/gateway/_promises.py and the tests that hold each of them.

Only the part between the two marks below is written, the rest of the page is the author's.
With --check nothing is written: the exit status tells whether the page is up to date.
Runs in .work/venv ("make docs").
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "promises.md"
sys.path.insert(0, str(ROOT / "tests" / "gateway"))

from _promises import KINDS, PROMISES  # noqa: E402

BEGIN = "<!-- begin: written by tools/promises.py -->\n"
END = "<!-- end: written by tools/promises.py -->\n"


def held() -> dict[str, list[str]]:
    """The tests that hold each promise, as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "tests/gateway", "tests/playbooks", "--collect-only", "-q", "--rows"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr)
    tests: dict[str, list[str]] = {code: [] for code in PROMISES}
    for code, name in re.findall(r"^([SDT]\d+)\t(\S+)$", done.stdout, re.MULTILINE):
        if name != "-":
            tests[code].append(name)
    return tests


def page() -> str:
    tests = held()
    empty = [code for code, names in tests.items() if not names]
    if empty:
        sys.exit(f"No test holds {', '.join(empty)}: write one, or take the promise out of tests/gateway/_promises.py.")
    before, rest = PAGE.read_text().split(BEGIN)
    text = ""
    for kind, (title, introduction) in KINDS.items():
        text += f"\n## {title}\n\n{introduction}\n"
        for code in (code for code in PROMISES if code[0] == kind):
            text += f"\n### {code}\n\n{PROMISES[code]}\n\n" + "".join(f"- `{name}`\n" for name in tests[code])
    return before + BEGIN + text.removeprefix("\n") + END + rest.split(END)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the page is out of date, write nothing")
    check = parser.parse_args().check
    new = page()
    if PAGE.read_text() == new:
        return 0
    if not check:
        PAGE.write_text(new)
    print(f"{'out of date' if check else 'wrote'}: {PAGE.relative_to(ROOT)}")
    if check:
        print("Run 'make docs', look at the difference, and commit it.")
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main())
