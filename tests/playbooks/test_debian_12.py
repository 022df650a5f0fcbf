# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook says on Debian 12 only."""

import pytest
from _network import debian
from _playbook import refused


def debian12():
    return debian() == 12


@pytest.mark.holds("T17")
@pytest.mark.skipif("not debian12()", reason="this gateway is not Debian 12")
def test_debian_12_is_refused_unless_its_defect_is_accepted():
    said = refused({"gateway_accept_debian12_postfix_panic": False})
    assert "any client can crash" in said
    assert "use Debian 13, or set gateway_accept_debian12_postfix_panic: true to accept this" in said


@pytest.mark.holds("T41")
@pytest.mark.skipif("not debian12()", reason="this gateway is not Debian 12")
def test_unofficial_signatures_are_refused_because_debian_12_has_no_fangfrisch():
    said = refused({"clamav_unofficial_signatures": [{"name": "urlhaus"}]})
    assert "clamav_unofficial_signatures: this host runs Debian 12, which has no package fangfrisch; use Debian 13, set the variable to []" in said
