# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of this collection's modules mean. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    # A module names this fragment and states only its own support, and details where they help.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
  diff_mode:
    description: Shows in diff mode what it changes, or would change.
"""

    # For a module that only reads, instead of the fragment above.
    READS = r"""
options: {}
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
    details: The module only reads.
  diff_mode:
    description: Shows in diff mode what it changes, or would change.
    support: none
    details: Nothing is changed, so there is no difference to show.
"""
