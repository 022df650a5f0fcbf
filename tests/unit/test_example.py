# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventories in the documentation are sites that the collection accepts: by the specification of every role, and by its own checks.

They are the example in docs/example, the gateway in ten lines in README.md, and the settings that the pages show.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.plugin_utils import _limits, _model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "example"
ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
GATEWAYS = ["mx1.example.com", "mx2.example.com"]


def specification(role: str) -> dict:
    return yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def variables_of(host: str) -> dict:
    """What the roles see of the inventory, rendered: the variables that begin with the name of a role, on top of the defaults of the roles."""
    loader = DataLoader()
    inventory = InventoryManager(loader, sources=[str(EXAMPLE / "inventory.yml")])
    found = VariableManager(loader, inventory).get_vars(host=inventory.get_host(host))
    templar = Templar(loader, variables=found)
    return {name: templar.template(value) for name, value in found.items() if name.startswith(tuple(f"{role}_" for role in ROLES))}


def problems_of(host: str, variables: dict) -> list[str]:
    """What the collection itself says of a site: its mistakes and warnings, without those of the host and of its network."""
    model = _model.derive(variables | {"inventory_hostname": host}, lambda value: value)
    try:
        _limits.derive(4, 8000, model.variables["gateway_message_size_limit"], True, model.variables["gateway_limits"], submission=True)
    except _limits.Contradiction as contradiction:
        return [*model.problems, str(contradiction)]
    return model.problems + model.warnings


@pytest.fixture(params=GATEWAYS)
def host(request) -> str:
    return request.param


def test_the_example_has_both_gateways_in_the_group_of_the_playbooks() -> None:
    inventory = InventoryManager(DataLoader(), sources=[str(EXAMPLE / "inventory.yml")])
    assert [each.name for each in inventory.groups["gateways"].get_hosts()] == GATEWAYS


@pytest.mark.parametrize("role", ROLES)
def test_every_role_accepts_its_variables(role: str, host: str) -> None:
    options = specification(role)
    given = {name: value for name, value in variables_of(host).items() if name in options}
    assert ArgumentSpecValidator(options).validate(given).error_messages == []


def test_the_checks_of_the_site_find_nothing(host: str) -> None:
    assert problems_of(host, variables_of(host)) == []


def test_the_checks_would_find_a_mistake(host: str) -> None:
    """Of each kind that is looked at, so that the test above is not green for having looked at nothing."""
    mistakes = {
        "gateway_postmaster": "nobody",
        "gateway_accounts": [{"name": "scanner@example.net", "password": "clear text"}],
        "gateway_dnsbl_lists": [{"domain": "list.example.org", "answers": "127.255.255.[0..255]", "weight": 1}],
        "gateway_limits": {"workers": 1000},
        "gateway_domain": [],
    }
    for name, value in mistakes.items():
        assert problems_of(host, variables_of(host) | {name: value}), name


def test_the_sources_of_recipients_are_what_the_module_takes(host: str) -> None:
    sources = {name: value for name, value in _source_options.FED.items() if name == "sources"}
    validated = ArgumentSpecValidator(sources).validate({"sources": variables_of(host)["gateway_recipient_sources"]})
    assert validated.error_messages == []


def test_no_secret_stands_beside_the_site() -> None:
    """Every secret of the site is a variable of the file that is meant to be encrypted, and each of those is used."""
    site = (EXAMPLE / "group_vars" / "gateways" / "site.yml").read_text()
    secrets = yaml.safe_load((EXAMPLE / "group_vars" / "gateways" / "secrets.yml").read_text())
    for name, value in secrets.items():
        assert "{{ " + name + " }}" in site, name
        assert value not in site, name


# --- The gateway in ten lines -----------------------------------------------------------------------------------------


def ten_lines() -> str:
    return re.search(r"^```yaml\n(gateways:\n.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def test_the_gateway_in_ten_lines_has_no_more() -> None:
    assert len(ten_lines().splitlines()) <= 10


def test_the_gateway_in_ten_lines_is_a_whole_site() -> None:
    gateways = yaml.safe_load(ten_lines())["gateways"]
    (host,) = gateways["hosts"]
    assert ArgumentSpecValidator(specification("gateway")).validate(gateways["vars"]).error_messages == []
    assert problems_of(host, gateways["vars"]) == []


# --- Settings on the pages --------------------------------------------------------------------------------------------


def shown() -> list:
    """The settings of the collection that a page shows, as pairs of page and settings."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]:
        for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL):
            settings = yaml.safe_load(block)
            if page.name != "modules.md" and isinstance(settings, dict) and "gateways" not in settings:
                found.append(pytest.param(settings, id=f"{page.relative_to(ROOT)}: {', '.join(settings)}"))
    return found


@pytest.mark.parametrize("settings", shown())
def test_settings_on_a_page_are_what_the_roles_take(settings: dict) -> None:
    known = {name: option for role in ROLES for name, option in specification(role).items()}
    assert not set(settings) - set(known)
    options = {name: {key: value for key, value in known[name].items() if key != "required"} for name in settings}
    assert ArgumentSpecValidator(options).validate(settings).error_messages == []


@pytest.mark.parametrize("settings", [each for each in shown() if "gateway_recipient_sources" in each.values[0]])
def test_sources_on_a_page_are_what_the_module_takes(settings: dict) -> None:
    sources = {name: value for name, value in _source_options.FED.items() if name == "sources"}
    assert ArgumentSpecValidator(sources).validate({"sources": settings["gateway_recipient_sources"]}).error_messages == []


def check_inventory(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook that judges variables alone, on the example, whose hosts do not exist."""
    playbook = ROOT / "playbooks" / "check_inventory.yml"
    command = ["ansible-playbook", "-i", str(EXAMPLE / "inventory.yml"), str(playbook), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_variables_are_judged_without_a_host() -> None:
    ran = check_inventory()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(f"ok: [{name}]" in ran.stdout for name in GATEWAYS)
    assert '"hostname": "mx2.example.com"' in ran.stdout


def test_a_mistake_in_the_variables_is_found_without_a_host() -> None:
    ran = check_inventory("-e", '{"gateway_postmaster": "nobody", "gateway_recipient_sources": [{"path": "users.txt", "column": "mail"}]}')
    assert ran.returncode == 2
    assert "gateway_postmaster: " in ran.stdout
    assert "gateway_recipient_sources[0] (users.txt): column is an option of csv files" in ran.stdout
    assert "unreachable=0" in ran.stdout
