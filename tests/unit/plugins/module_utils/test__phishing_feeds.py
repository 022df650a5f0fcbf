# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.antispam.gateway.plugins.module_utils import _phishing_feeds

LISTS = {
    "openphish": "# comment\nhttp://a.example.net/\n\nHTTPS://b.example.net/x?a=1,2\n",
    "phishtank": 'phish_id,url,more\n1,http://a.example.net/,x\n2,"https://b.example.net/",x\n',
    "phishstats": '# heading\n"2026-01-01","7.1","http://a.example.net/","192.0.2.1"\n"2026-01-01","7.1","https://b.example.net/","192.0.2.1"\n',
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_each_format(kind):
    assert _phishing_feeds.check(LISTS[kind], kind) == 2


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("text", ["", "\n", "<html>\n<p>Come back later, please.\n</html>\n", "some words\n" * 5])
def test_what_is_no_list(kind, text):
    with pytest.raises(_phishing_feeds.FeedError, match="it has no link"):
        _phishing_feeds.check(text, kind)


def test_a_list_of_another_format():
    with pytest.raises(_phishing_feeds.FeedError, match="it is no list of the format openphish: of 11 lines, 9 have a link where it should be"):
        _phishing_feeds.check("http://a.example.net/\n" * 9 + "words\n" * 2, "openphish")
    _phishing_feeds.check("http://a.example.net/\n" * 9 + "words\n", "openphish")


def test_a_list_is_replaced_only_by_a_good_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_phishing_feeds, "fetch", lambda url: url)
    assert _phishing_feeds.update("openphish", "http://a.example.net/\n", tmp_path)
    assert not _phishing_feeds.update("openphish", "http://a.example.net/\n", tmp_path)
    with pytest.raises(_phishing_feeds.FeedError):
        _phishing_feeds.update("openphish", "nothing", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("openphish", "http://a.example.net/\n")]
    assert (tmp_path / "openphish").stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_fetched_is_an_error(tmp_path):
    with pytest.raises(_phishing_feeds.FeedError, match="it cannot be fetched: "):
        _phishing_feeds.fetch(f"file://{tmp_path}/nothing")
    with pytest.raises(_phishing_feeds.FeedError, match="it cannot be fetched: "):
        _phishing_feeds.fetch('http://127.0.0.1:9/a"b')
