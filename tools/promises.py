# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/promises.md from the sentences of tests/gateway/_promises.py and the tests that hold each of them.

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

HEAD = """\
# Promises, and the tests that hold them

This page answers two questions: what may you rely on, and who checks it? Each promise has a code and the tests that fail when the promise is
broken. The tests build a whole gateway and speak to it over SMTP. [What is tested, and what is not](../README.md#what-is-tested-and-what-is-not)
names the limits of this.

Written by tools/promises.py (`make docs`) from `tests/gateway/_promises.py` and the tests. The tests are in the repository, not in the archive of
the collection. To run one of them after `make demo`:

```
pytest tests/gateway/test_promise.py::test_a_250_means_queued_under_the_id_it_names
```
"""


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
    text = HEAD
    for kind, (title, introduction) in KINDS.items():
        text += f"\n## {title}\n\n{introduction}\n"
        for code in (code for code in PROMISES if code[0] == kind):
            text += f"\n### {code}\n\n{PROMISES[code]}\n\n" + "".join(f"- `{name}`\n" for name in tests[code])
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the page is out of date, write nothing")
    check = parser.parse_args().check
    new = page()
    if PAGE.exists() and PAGE.read_text() == new:
        return 0
    if not check:
        PAGE.write_text(new)
    print(f"{'out of date' if check else 'wrote'}: {PAGE.relative_to(ROOT)}")
    if check:
        print("Run 'make docs', look at the difference, and commit it.")
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main())
