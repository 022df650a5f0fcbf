# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from _sources import quick, refused, source, texts
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source, _base
from hypothesis import given
from hypothesis import strategies as st


@quick
@given(st.lists(texts, min_size=1).filter(any))
def test_a_list_comes_back_as_it_was(addresses):
    listed = source(addresses=addresses)
    raw = listed.fetch()
    assert listed.by_line(raw)
    assert listed.records(raw).keys == addresses
    assert listed.part(raw.split(b"\n")).keys == addresses
    assert listed.records(raw).values is None
    assert listed.records(raw).where(len(addresses) - 1) == f"the list entry {len(addresses)}"


@pytest.mark.parametrize("address", ["x\n@victim.example", "x\0@example.com", "\ud800@example.com"])
def test_an_address_that_would_become_another_one_is_refused(address):
    refused(source(addresses=["a@example.com", address]).fetch, "entry 2")


def test_one_address_with_a_line_end_is_refused():
    refused(source(addresses=["x\n@victim.example"]).fetch, "entry 1")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    refused(Source({"path": "missing"}, tmp_path).fetch, "missing: cannot read", "No such file")
    refused(Source({"path": "."}, tmp_path).fetch, "Is a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(Source({"path": "pipe"}, tmp_path).fetch, "is not a file")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "users").write_bytes(b"a@example.com\n")
    real = os.fstat
    calls = []

    def growing(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            with open(tmp_path / "users", "ab") as file:
                file.write(b"b@example.com\n")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", growing)
    refused(Source({"path": "users"}, tmp_path).fetch, "changed while it was read", "rename")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with open(tmp_path / "users", "wb") as file:
        file.truncate(_base.LIMIT + 1)
    refused(Source({"path": "users"}, tmp_path).fetch, "larger than 1024 MiB")
