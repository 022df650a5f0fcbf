# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of every message that a gateway has seen: how it is kept, and how it is asked.

Private to antispam.gateway. The role records installs these files as the package ``messages`` of the gateway.
"""
