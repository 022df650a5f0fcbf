# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from _sources import LDAP, SECRET, read, refused, source
from ansible_collections.antispam.gateway.plugins.module_utils import _source_options
from ansible_collections.antispam.gateway.plugins.plugin_utils.sources import Source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["exactly one of", "none of them"]),
        ({"path": "users", "addresses": []}, ["exactly one of", "addresses and path"]),
        ({"path": "users", "column": "mail"}, ["column", "csv", "plain"]),
        ({"path": "users.csv", "column": "mail", "query": "a"}, ["query", "json"]),
        ({"path": "users.json", "with_values": True}, ["with_values", "plain"]),
        ({"path": "users", "username": "reader", "password": SECRET}, ["username", "no meaning", "path"]),
        ({"path": "users", "base": "dc=example"}, ["base", "no meaning"]),
        ({"addresses": ["a@example.com"], "encoding": "ascii"}, ["the list", "encoding"]),
        ({"path": "users.csv"}, ["users.csv", "column is missing"]),
        ({"path": "users.csv", "column": "mail", "header": False}, ["column is a number"]),
        ({"path": "users.csv", "column": "0", "header": False}, ["column is a number"]),
        ({"path": "users.csv", "column": "mail", "delimiter": "\\t"}, ["one character"]),
        ({"path": "users.csv", "column": "mail", "delimiter": '"'}, ["one character"]),
        ({"path": "users.csv", "value_column": "score"}, ["value_column needs column"]),
        ({"path": "users", "encoding": "klingon"}, ["'klingon' is not a character encoding"]),
        ({"path": "users", "encoding": "base64"}, ["'base64' is not a character encoding"]),
        ({"url": "ftp://www.example.com/users"}, ["not an http or https URL"]),
        ({"url": "file:///etc/passwd"}, ["not an http or https URL"]),
        ({"url": "https://www.example.com/a b"}, ["without spaces"]),
        ({"url": "https://[::1/users"}, ["not an http or https URL"]),
        ({"url": f"https://reader:{SECRET.replace(' ', '')}@www.example.com/"}, ["https://www.example.com/", "user name in it"]),
        ({"url": "https://www.example.com/", "password": SECRET}, ["username"]),
        ({"url": "https://www.example.com/", "username": "reader"}, ["username needs password"]),
        ({"url": "http://www.example.com/", "username": "reader", "password": SECRET}, ["clear text", "https"]),
        ({"url": "http://www.example.com/", "headers": {"Authorization": SECRET}}, ["clear text", "https"]),
        ({"url": "https://www.example.com/", "headers": {"Authorization": f"{SECRET}\nX: y"}}, ["headers", "line ends"]),
        ({"url": "https://www.example.com/", "client_key": "key.pem"}, ["client_cert"]),
        ({"url": "https://www.example.com/", "timeout": 0}, ["timeout"]),
        ({"ldap_uri": "ldaps://ldap.example.com"}, ["base"]),
        ({**LDAP, "ldap_uri": "https://ldap.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://a.example.com ldap://b.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://localhost,ldap://b.example.com"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "ldap_uri": "ldap://ldap.example.com/dc=example,dc=com??sub"}, ["ldap_uri is a scheme"]),
        ({**LDAP, "start_tls": True}, ["start_tls", "ldaps"]),
        ({**LDAP, "password": SECRET}, ["bind_dn"]),
        ({**LDAP, "bind_dn": "cn=reader"}, ["password"]),
        ({**LDAP, "bind_dn": "cn=reader", "password": ""}, ["anonymous"]),
        ({**LDAP, "bind_dn": "cn=reader", "password": f"{SECRET}\0"}, ["NUL"]),
        ({**LDAP, "ldap_uri": "ldap://ldap.example.com", "bind_dn": "cn=reader", "password": SECRET}, ["clear text", "start_tls: true"]),
        (
            {**LDAP, "ldap_uri": "ldap://ldap.example.com", "bind_dn": "cn=reader", "password": SECRET, "validate_certs": False},
            ["clear text", "start_tls: true"],
        ),
        ({**LDAP, "attributes": []}, ["attributes"]),
        ({**LDAP, "page_size": 0}, ["page_size"]),
        ({**LDAP, "filter": "(mail=\0)"}, ["filter", "NUL"]),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    refused(lambda: source(**options), *words)


@pytest.mark.parametrize("uri", ["ldap://localhost", "ldap://127.0.0.1:3389", "ldap://[::1]", "ldapi://%2Frun%2Fldapi", "ldapi://"])
def test_a_password_may_go_to_this_machine_in_clear_text(uri):
    source(ldap_uri=uri, base="dc=example,dc=com", bind_dn="cn=reader", password=SECRET)


def test_all_defaults_written_out_are_no_contradiction():
    everything = {name: specification.get("default") for name, specification in _source_options.SOURCE_OPTIONS.items()}
    assert Source({**everything, "path": "users"}, "/").name == "users"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"addresses": []}, "the list"),
        ({"path": "users.txt"}, "users.txt"),
        ({"url": "https://www.example.com:8443/users?token=abc#here"}, "https://www.example.com:8443/users"),
        (LDAP, "ldaps://ldap.example.com"),
        ({**LDAP, "name": "the directory"}, "the directory"),
    ],
)
def test_a_source_has_a_name(options, name):
    assert source(**options).name == name
    assert repr(source(**options)) == f"Source({name!r})"


def test_a_source_carries_what_is_not_for_the_reader():
    plain = source(path="users")
    assert (plain.domains, plain.value, plain.wildcards, plain.remote) == ([], "OK", False, False)
    told = source(url="https://www.example.com/", domains=["example.com"], value="", wildcards=True)
    assert (told.domains, told.value, told.wildcards, told.remote) == (["example.com"], "", True, True)


def test_the_identity_tells_what_is_read_and_no_secret():
    options = {"url": "https://www.example.com/users.csv?token=abc", "username": "reader", "password": SECRET, "column": "mail", "headers": {"X-Token": SECRET}}
    identity = source(**options).identity
    assert identity == source(**{**options, "password": "another", "timeout": 5, "name": "users"}).identity
    assert SECRET not in identity
    assert "abc" not in identity
    others = [{"url": "https://www.example.com/users.csv?token=abd"}, {"column": "name"}, {"encoding": "latin-1"}, {"delimiter": ";"}, {"username": "writer"}]
    assert len({identity, *(source(**{**options, **other}).identity for other in others)}) == 1 + len(others)


def test_the_identity_of_a_directory_tells_what_is_searched():
    others = [{"base": "dc=example"}, {"filter": "(a=b)"}, {"attributes": ["a"]}, {"scope": "onelevel"}, {"ldap_uri": "ldaps://other.example.com"}]
    assert len({source(**{**LDAP, **other}).identity for other in [{}, *others]}) == 1 + len(others)


def test_relative_paths_are_relative_to_the_base_directory(tmp_path):
    (tmp_path / "users").write_bytes(b"a@example.com\n")
    relative = Source({"path": "users"}, tmp_path)
    assert relative.fetch() == b"a@example.com\n"
    assert relative.identity == Source({"path": str(tmp_path / "users")}, "/").identity


def test_the_documentation_has_the_options_of_the_specification():
    import yaml
    from ansible_collections.antispam.gateway.plugins.doc_fragments import sources

    documented = yaml.safe_load(sources.ModuleDocFragment.DOCUMENTATION)["options"]["sources"]["suboptions"]
    said = {name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()}
    meant = {name: {key: value for key, value in option.items() if key != "no_log"} for name, option in _source_options.SOURCE_OPTIONS.items()}
    assert said == meant


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (b"", {}),
        (b"\n\n", {}),
        (b"# nobody\n", {}),
        (b"mail\n", {"column": "mail"}),
        (b'"mail"\n', {"column": "mail"}),
        (b"", {"column": "mail"}),
        (b"[]", {"path": "a.json"}),
        (b"{}", {"path": "a.json"}),
        (b"", {"path": None, "addresses": []}),
    ],
)
def test_a_source_with_nothing_in_it_is_refused(raw, options):
    refused(lambda: read(raw, **options), "no address in it")
