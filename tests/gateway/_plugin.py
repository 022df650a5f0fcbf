# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests with a running gateway share. They need the test network: ``tools/testnet up`` and a converged gateway.

``pytest tests/gateway`` and ``pytest tests/playbooks`` run them, with Molecule or without.
``pytest tests/gateway tests/playbooks --collect-only --rows`` shows which test holds which promise.
A test that fails shows what the gateway has logged since it began.
"""

from __future__ import annotations

import pytest

import _network
from _promises import PROMISES


def pytest_addoption(parser):
    parser.getgroup("gateway").addoption("--rows", action="store_true", help="list the promises, each with the tests that hold it")


def pytest_configure(config):
    config.addinivalue_line("markers", "holds(*codes): the promises of tests/gateway/_promises.py that break this test when they break")


def pytest_collection_modifyitems(items):
    for item in items:
        for row in _rows(item):
            if row not in PROMISES:
                raise pytest.UsageError(f"{item.nodeid}: tests/gateway/_promises.py has no {row}")


def _rows(item):
    return [row for marker in item.iter_markers("holds") for row in marker.args]


def pytest_collection_finish(session):
    if not session.config.getoption("rows"):
        return
    table = {row: [] for row in PROMISES}
    for item in session.items:
        for row in _rows(item):
            # Parameters of a test are one test here.
            name = item.nodeid.partition("[")[0]
            if name not in table[row]:
                table[row].append(name)
    write = session.config.pluginmanager.getplugin("terminalreporter").write_line
    for row, names in table.items():
        for name in names or ["-"]:
            write(f"{row}\t{name}")


@pytest.fixture(scope="session", autouse=True)
def network():
    """The gateway answers, and no mail of an earlier run is in the way."""
    hint = "run `tools/testnet up` and converge the gateway"
    if not _network.SSH_CONFIG.exists():
        pytest.exit(f"There is no test network: {hint}.", returncode=4)
    try:
        _network.wait_until(lambda: _network.gateway().run("postqueue -p").rc == 0, "Postfix on the gateway", seconds=10)
    except (AssertionError, RuntimeError) as error:
        pytest.exit(f"There is no gateway to test ({error}): {hint}.", returncode=4)
    _network.empty_mailboxes()


@pytest.fixture(scope="session")
def gateway(network):
    return _network.gateway()


@pytest.fixture(scope="session")
def inside(network):
    return _network.inside()


@pytest.fixture(scope="session")
def outside(network):
    return _network.outside()


# --- On failure: the journal, and no mail left for the next test ------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _module_began(network):
    return _network.cursor()


@pytest.fixture(autouse=True)
def began(request, _module_began):
    """The place in the gateway's journal where the test began."""
    request.node.began = _network.cursor()
    request.node.module_began = _module_began
    yield request.node.began
    if getattr(request.node, "has_failed", False):
        _network.gateway().run("postsuper -d ALL")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed and hasattr(item, "began"):
        item.has_failed = True
        # What is shared between tests has happened before this one began.
        lines = _network.journal(item.began) or _network.journal(item.module_began)
        report.sections.append(("journal of the gateway", lines or "nothing was logged"))
        report.sections.append(("queue of the gateway", _network.gateway().run("postqueue -p").stdout))
    return report
