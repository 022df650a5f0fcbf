# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what follows from the schema: docs/modules.md from the modules' DOCUMENTATION, and from each role's
meta/argument_specs.yml the table of variables in its README.md and its defaults/main.yml.

In a README only the part between the two marks below is written, the rest is the author's.
With --check nothing is written: the names of stale files are shown, and the exit status tells.
Runs in .work/venv ("make docs").
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from antsibull_docs_parser import dom
from antsibull_docs_parser.parser import Context, parse

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = "antispam.gateway"
BEGIN = "<!-- begin: written by tools/reference.py -->\n"
END = "<!-- end: written by tools/reference.py -->\n"


def as_list(value):
    return value if isinstance(value, list) else [value] if value else []


def markdown(text: str) -> str:
    """Ansible's documentation markup as Markdown that can be read without a renderer too."""
    out = []
    for part in parse([text], Context(), errors="exception")[0]:
        if isinstance(part, dom.TextPart):
            out.append(escape(part.text))
        elif isinstance(part, dom.BoldPart):
            out.append(f"**{escape(part.text)}**")
        elif isinstance(part, dom.ItalicPart):
            out.append(f"*{escape(part.text)}*")
        elif isinstance(part, dom.LinkPart):
            out.append(f"[{escape(part.text)}]({part.url})")
        elif isinstance(part, dom.URLPart):
            out.append(f"<{part.url}>")
        elif isinstance(part, (dom.ModulePart, dom.PluginPart)):
            out.append(code(part.fqcn if isinstance(part, dom.ModulePart) else part.plugin.fqcn))
        elif isinstance(part, (dom.OptionNamePart, dom.ReturnValuePart)):
            out.append(code(part.name if part.value is None else f"{part.name}={part.value}"))
        elif isinstance(part, dom.OptionValuePart):
            out.append(code(part.value))
        elif isinstance(part, dom.EnvVariablePart):
            out.append(code(part.name))
        elif isinstance(part, dom.CodePart):
            out.append(code(part.text))
        else:
            raise ValueError(f"tools/reference.py does not know the markup of {part!r} in: {text}")
    return "".join(out)


def escape(text: str) -> str:
    for character in "\\*<[":
        text = text.replace(character, "\\" + character)
    return text


def code(text) -> str:
    return f"`` {text} ``" if "`" in str(text) else f"`{text}`"


def value(data) -> str:
    return code(json.dumps(data, ensure_ascii=False))


def cell(paragraphs: list[str]) -> str:
    """Table cells are one line each, and a bar would end them even inside of code."""
    return "<br>".join(" ".join(p.split()) for p in paragraphs).replace("|", "\\|")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head)] + rows
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def type_of(option: dict) -> str:
    kind = option.get("type", "str")
    if option.get("elements"):
        kind += " of " + option["elements"]
    return kind


def option_rows(options: dict, prefix: str = ""):
    for name, option in options.items():
        paragraphs = [markdown(text) for text in as_list(option.get("description"))]
        if option.get("choices"):
            paragraphs.append("One of " + ", ".join(value(c) for c in option["choices"]) + ".")
        if option.get("aliases"):
            paragraphs.append("Also called " + ", ".join(code(a) for a in option["aliases"]) + ".")
        default = "*required*" if option.get("required") else value(option["default"]) if "default" in option else ""
        yield [code(prefix + name), type_of(option), cell([default]), cell(paragraphs)]
        nested = option.get("options") or option.get("suboptions")
        if nested:
            inner = prefix + name + ("[]." if option.get("type") == "list" else ".")
            yield from option_rows(nested, inner)


def attribute_rows(attributes: dict):
    for name, attribute in attributes.items():
        paragraphs = as_list(attribute.get("description")) + as_list(attribute.get("details"))
        yield [code(name), attribute["support"], cell([markdown(text) for text in paragraphs])]


def return_rows(values: dict, prefix: str = ""):
    for name, returned in values.items():
        paragraphs = [markdown(text) for text in as_list(returned.get("description"))]
        yield [code(prefix + name), type_of(returned), cell([markdown(str(returned.get("returned", "")))]), cell(paragraphs)]
        if returned.get("contains"):
            inner = prefix + name + ("[]." if returned.get("type") == "list" else ".")
            yield from return_rows(returned["contains"], inner)


def role_table(role: Path) -> str:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    text = ""
    for name, spec in specs.items():
        if name != "main":
            text += f"\nEntry point `{name}`: {markdown(spec['short_description'])}.\n\n"
        if spec.get("options"):
            text += table(["Variable", "Type", "Default", "Meaning"], list(option_rows(spec["options"])))
        else:
            text += "This entry point has no variables.\n"
    return text


def role_readme(role: Path) -> str:
    path = role / "README.md"
    if path.exists():
        old = path.read_text()
    else:
        main = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
        prose = "\n\n".join(markdown(text) for text in as_list(main.get("description")))
        old = f"# {COLLECTION}.{role.name}\n\n{prose}\n\n## Variables\n\n{BEGIN}{END}"
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        sys.exit(f"{path.relative_to(ROOT)}: put these two lines where the table of variables belongs:\n{BEGIN}{END}")
    before, rest = old.split(BEGIN)
    return before + BEGIN + role_table(role) + END + rest.split(END)[1]


def module_docs() -> dict:
    names = sorted(f"{COLLECTION}.{p.stem}" for p in (ROOT / "plugins" / "modules").glob("*.py") if p.stem != "__init__")
    if not names:
        return {}
    collections = subprocess.run([ROOT / "tools" / "stage"], check=True, capture_output=True, text=True).stdout.strip()
    found = subprocess.run(
        [Path(sys.executable).parent / "ansible-doc", "-t", "module", "--json", *names],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections},
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return json.loads(found.stdout)


def modules_page() -> str:
    text = "# Modules\n\nWritten by tools/reference.py (`make docs`) from the modules' own documentation.\n"
    for name, docs in module_docs().items():
        doc = docs["doc"]
        text += f"\n## {name}\n\n{markdown(doc['short_description'])}.\n\n"
        text += "".join(f"- {markdown(p)}\n" for p in as_list(doc["description"]))
        if doc.get("options"):
            text += "\n### Options\n\n" + table(["Option", "Type", "Default", "Meaning"], list(option_rows(doc["options"])))
        if doc.get("attributes"):
            text += "\n### Attributes\n\n" + table(["Attribute", "Support", "Meaning"], list(attribute_rows(doc["attributes"])))
        if doc.get("notes"):
            text += "\n### Notes\n\n" + "".join(f"- {markdown(p)}\n" for p in as_list(doc["notes"]))
        if docs.get("examples"):
            text += "\n### Examples\n\n```yaml\n" + docs["examples"].strip("\n") + "\n```\n"
        if docs.get("return"):
            text += "\n### Return values\n\n" + table(["Key", "Type", "Returned", "Meaning"], list(return_rows(docs["return"])))
    return text


class _Indented(yaml.SafeDumper):
    """Writes lists as yamllint wants them."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


def defaults(specs: Path) -> str:
    """The literal defaults of a role. What is computed from other variables stands in the code that computes it."""
    options = yaml.safe_load(specs.read_text())["argument_specs"]["main"].get("options", {})
    found = {name: option["default"] for name, option in options.items() if "default" in option}
    text = "---\n# SPDX-License-Identifier: GPL-3.0-or-later\n# Written by tools/reference.py (make docs) from meta/argument_specs.yml.\n"
    return text + yaml.dump(found, Dumper=_Indented, sort_keys=False, width=150, allow_unicode=True) if found else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="name what is out of date, write nothing")
    check = parser.parse_args().check

    pages = {ROOT / "docs" / "modules.md": modules_page()}
    for specs in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        role = specs.parent.parent
        pages[role / "README.md"] = role_readme(role)
        if defaults(specs):
            pages[role / "defaults" / "main.yml"] = defaults(specs)

    stale = 0
    for path, new in pages.items():
        old = path.read_text() if path.exists() else ""
        if old == new:
            continue
        stale += 1
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new)
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}")
    if check and stale:
        print("Run 'make docs', look at the difference, and commit it.")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
