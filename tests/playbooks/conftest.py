# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the playbook need a running gateway."""

# Of tests/gateway, which pytest.ini makes importable.
pytest_plugins = ["_plugin"]
