# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of sources share."""

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, SourceError
from hypothesis import settings
from hypothesis import strategies as st

# Nothing is kept between runs: a failure prints how to reproduce it.
quick = settings(max_examples=200)

SECRET = "correct horse"

# What may stand in a record without ending it.
texts = st.text(st.characters(exclude_characters="\0\r\n\ufeff", exclude_categories=["Cs"]), max_size=12)
names = st.from_regex(r"[a-z]{1,6}(\+[a-z]{1,3})?@[a-z]{1,6}\.example", fullmatch=True)


def source(**options):
    return Source(options, "/nowhere")


def read(raw, **options):
    """Return the Records of a file with this content."""
    return source(**{"path": "users.csv" if "column" in options else "users", **options}).records(raw)


def refused(function, *words):
    with pytest.raises(SourceError) as raised:
        function()
    sentence = str(raised.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    # Neither in the sentence, nor in an exception that is shown with it.
    assert SECRET not in sentence
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return sentence


LDAP = {"ldap_uri": "ldaps://ldap.example.com", "base": "dc=example,dc=com"}
