# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of attachments that are refused by the ending of their names.

Private to antispam.gateway; used on the controller. docs/attachments.md shows
the groups to administrators, and names the lists that they are made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Group(NamedTuple):
    """Endings that are refused for the same reason."""

    # Completes "The attachment ... is not accepted here:"; it stands in a comment of a regular expression, so without parentheses.
    reason: str
    endings: str


GROUPS = {
    "programs": Group(
        "it is a program",
        "apk app com cpl deb dex dll elf exe fxp gadget jar kext lib library macho pif prg scr sys vxd xbap",
    ),
    "installers": Group(
        "it installs a program",
        "appcontent-ms appinstaller application appref-ms appx appxbundle diagcab jnlp msi msix msixbundle msp mst msu webpnp",
    ),
    "scripts": Group(
        "it is a script",
        "asp aspx bas bat cdxml cmd csh hta htc js jse ksh mcf msh msh1 msh1xml msh2 msh2xml mshxml pl plg ps1 ps1xml ps2 ps2xml psc1 psc2 psd1 psdm1"
        " pssc py pyc pyo pyw pyz pyzw sct vb vbe vbp vbs vsmacros vsw ws wsc wsf wsh",
    ),
    "shortcuts": Group(
        "it starts or opens something else",
        "ani asx grp library-ms lnk mad maf mag mam maq mar mas mat mau mav maw osd pcd printerexport rdp scf search-ms settingcontent-ms shb shs theme udl"
        " url website wsb xnk",
    ),
    "disk images": Group(
        "it is a disk image or an archive that is not looked into",
        "ace img iso rev uif vhd vhdx",
    ),
    "settings": Group(
        "it changes settings, certificates or help of a computer",
        "bgi cer chm cnt crt der hlp hpj inf ins isp its msc ops prf reg",
    ),
    "databases and add-ins": Group(
        "it may hold programs",
        "ade adp mda mdb mde mdt mdw mdz one ppa ppam pst xll",
    ),
    "pages and rests": Group(
        "it is a saved web page or a temporary file, which may hold scripts",
        "mht mhtml tmp",
    ),
}
OTHER = "files of this type are refused"
_ENDING = re.compile(r"[a-z0-9][a-z0-9_+-]*(?:\.[a-z0-9_+-]+)*\Z")
_LISTS = ("amavis_banned_extensions", "amavis_banned_extensions_extra", "amavis_allowed_extensions")


def default() -> list[str]:
    """Return every ending of the groups, in order."""
    return sorted(ending for group in GROUPS.values() for ending in group.endings.split())


def _ending(text: str) -> str:
    """Return an ending as it is compared: without the dot, in lower case."""
    return text.strip().lower().removeprefix(".")


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each ending that is none."""
    return [
        f"{variable}[{index}]: {text!r} is not the ending of a file name; write one without the dot, such as exe"
        for variable in _LISTS
        for index, text in enumerate(variables[variable] or ())
        if not _ENDING.match(_ending(text))
    ]


def rules(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is refused by name, as {reason, endings}: one rule for each group, the last one for what is in no group."""
    wanted = {_ending(text) for variable in _LISTS[:2] for text in variables[variable] or ()}
    wanted -= {_ending(text) for text in variables["amavis_allowed_extensions"]}
    result = []
    for group in GROUPS.values():
        endings = sorted(wanted.intersection(group.endings.split()))
        wanted.difference_update(endings)
        result.append({"reason": group.reason, "endings": endings})
    result.append({"reason": OTHER, "endings": sorted(wanted)})
    return [rule for rule in result if rule["endings"]]
