# SPDX-License-Identifier: GPL-3.0-or-later
"""What several services have to agree on is not set by one daemon's own name."""

from __future__ import annotations

import re

import pytest
from _checkout import CHECKOUT
from ansible_collections.antispam.gateway.plugins.plugin_utils import _parameters, _schema, _shared

EVERY = [(variable, name, instead) for variable, shared in _shared.SHARED.items() for name, instead in shared.items()]
# Where the collection itself says it.
RENDERED = {
    "postfix_main_cf": "postfix/vars",
    "amavis_parameters": "amavis/templates/etc/amavis/conf.d/50-user.j2",
    "clamav_clamd_parameters": "clamav/vars",
    "clamav_freshclam_parameters": "clamav/vars",
    "dkimpy_milter_settings": "dkimpy_milter/vars",
    "mta_sts_settings": "mta_sts/vars",
    "redis_parameters": "redis/vars",
    "resolver_settings": "resolver/vars",
}


def problems(**given):
    empty = {variable: {} for variable in [*_parameters.WRITERS, "amavis_parameters", "mta_sts_settings"]}
    return _shared.check(empty | given)


def test_parameters_of_one_service_alone_are_the_sites():
    assert problems(postfix_main_cf={"smtpd_banner": "hello"}, amavis_parameters={"log_level": 1}, clamav_clamd_parameters={"MaxThreads": 11}) == []


@pytest.mark.parametrize(("variable", "name", "instead"), EVERY, ids=[f"{variable}-{name}" for variable, name, _instead in EVERY])
@pytest.mark.parametrize("value", [1, None], ids=["value", "null"])
def test_a_shared_parameter_is_refused_with_the_variable_that_sets_it_everywhere(variable, name, instead, value):
    (problem,) = problems(**{variable: {name: value}})
    assert problem.startswith(f"{variable}['{name}']: other services would go on with another value; ")
    assert problem.endswith(f"set {instead} in its place, which all of them follow" if instead else "leave it out, they meet where the collection says")


@pytest.mark.parametrize(("variable", "name", "instead"), EVERY, ids=[f"{variable}-{name}" for variable, name, _instead in EVERY])
def test_a_shared_parameter_is_one_that_the_collection_sets(variable, name, instead):
    """Otherwise nothing would be shared, or the advice would name what is not there."""
    place = CHECKOUT / "roles" / RENDERED[variable]
    files = sorted(place.glob("**/*.yml")) if place.is_dir() else [place]
    text = "".join(file.read_text() for file in files)
    assert re.search(rf"(?<![\w-]){name}\b", text)
    outer, _dot, option = instead.partition(".")
    if instead:
        assert outer in _schema.specs()
    if option:
        assert option in _schema.specs()[outer]["options"]


def test_the_listeners_in_front_of_the_filter_share_them_too():
    found = problems(
        postfix_master_cf={
            "smtp/inet": {"options": {"message_size_limit": 5, "smtpd_banner": "hello"}},
            "submission/inet": {"options": {"smtpd_proxy_filter": ""}},
            "smtpd/pass": None,
            "submissions/inet": {"options": ["a mistake of another kind"]},
            "127.0.0.1:10587/inet": {"options": {"message_size_limit": 5}},
        }
    )
    assert [problem.partition(": other services ")[0] for problem in found] == [
        "postfix_master_cf['smtp/inet']: options['message_size_limit']",
        "postfix_master_cf['submission/inet']: options['smtpd_proxy_filter']",
    ]
    assert found[0].endswith("set gateway_message_size_limit in its place, which all of them follow")


def test_the_page_about_parameters_lists_them():
    text = (CHECKOUT / "docs" / "parameters.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text.partition("## What several services share")[2], re.MULTILINE)
    shown = {(variable, name.strip(" `"), instead.strip("`")) for variable, names, instead in rows for name in names.split(",")}
    assert shown == {(variable, name, instead or "none") for variable, name, instead in EVERY}
