# SPDX-License-Identifier: GPL-3.0-or-later
"""A store. Imports stand in the fixtures: the collection can be imported only after this file was."""

from __future__ import annotations

import pytest


@pytest.fixture(name="privacy")
def _privacy():
    from ansible_collections.antispam.gateway.plugins.module_utils._messages.privacy import Privacy

    return Privacy("keep", "keep", b"key")


@pytest.fixture(name="database")
def _database(tmp_path):
    from ansible_collections.antispam.gateway.plugins.module_utils._messages import store

    database = store.connect(tmp_path / store.NAME, write=True)
    yield database
    database.close()


@pytest.fixture(name="record")
def _record(database, privacy):
    """Writes entries as the recorder does."""
    from ansible_collections.antispam.gateway.plugins.module_utils._messages import recorder
    from ansible_collections.antispam.gateway.plugins.module_utils._messages.joiner import Joiner

    def record(*given, privacy=privacy, **position):
        recorder.write(database, Joiner(database, privacy), given, **position)

    return record
