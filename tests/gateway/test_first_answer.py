# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new gateway answers when it answers for the first time: a live MX must not bounce mail while it is set up."""

import json

import pytest


@pytest.mark.holds("T24", "T5")
def test_the_first_answer_on_port_25_is_that_of_a_configured_gateway(gateway):
    """files/first_answer.py has asked from before the first converge on."""
    banner, hello, mail, unknown, known, bye = json.loads(gateway.check_output("cat /var/lib/first_answer.json"))
    assert banner == "220 mx1.example.com ESMTP"
    assert [answer[:3] for answer in (hello, mail, unknown, known, bye)] == ["250", "250", "550", "250", "221"]
