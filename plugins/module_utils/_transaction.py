# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several services switch to their new files as one: all of them, or none.

Private to antispam.gateway. Everything is validated together before the first
file is switched; a journal stands until the last service works with its files.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _backup, _files, _foreign, _journal, _leftovers, _services
from ansible_collections.antispam.gateway.plugins.module_utils._service import Died, Read, Service

STAGE = pathlib.Path("/run")


def check_together(services: Iterable[Service]) -> None:
    """Raise ValueError for what the services may not share."""
    paths: dict[pathlib.Path, str] = {}
    ports: dict[int, str] = {}
    for service in services:
        for file in service.files:
            if file.path in paths:
                raise ValueError(f"{file.path} stands in files twice, of {paths[file.path]} and of {service.name}")
            paths[file.path] = service.name
        for port in service.options["listens"] if service.started else ():
            if port in ports:
                raise ValueError(f"port {port} is {ports[port]}'s, and {service.name} cannot listen on it as well; give one of them another port")
            ports[port] = service.name


def remove_stages() -> None:
    """Remove the staged files of runs that were killed."""
    for left in STAGE.glob("antispam-gateway.*"):
        owner = left.name.split(".")[1]
        if not (owner.isdigit() and pathlib.Path("/proc", owner).exists()):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


@contextlib.contextmanager
def staged(services: Iterable[Service]) -> Iterator[pathlib.Path]:
    """Yield a directory with the new files of all services under their absolute paths."""
    stage = pathlib.Path(tempfile.mkdtemp(prefix=f"antispam-gateway.{os.getpid()}.", dir=STAGE))
    try:
        # A daemon that checks its configuration may do so as its own user. The files keep their modes.
        stage.chmod(0o755)
        for service in services:
            for file in service.files:
                if file.after is not None:
                    file.write_to(stage / str(file.path).lstrip("/"))
        yield stage
    finally:
        shutil.rmtree(stage)


def make_directories(service: Service) -> None:
    """Make what is missing, open to its owner alone until it is as it should be."""
    for entry in service.missing_directories:
        path = pathlib.Path(entry["path"])
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(path, *_files.ids(path, entry["owner"], entry["group"]))
        path.chmod(_files.parse_mode(path, entry["mode"]))


def switch(services: list[Service], read: Read) -> None:
    """Let one service after the other load its files; raise Failure with all old files back."""
    changed = [file for service in services for file in service.changed_files]
    units = [service.unit.name for service in services if service.unit]
    done: list[Service] = []
    switched: list[_files.File] = []
    with _files.prepared(changed):
        names = [(str(file.path), str(file.old) if file.old else None, str(file.aside) if file.aside else None) for file in changed]
        _journal.write(names, units, _files.STATE_DIRECTORY)
        since = time.time()
        try:
            for service in services:
                service.wait_for_required()
                done.append(service)
                service.since = since
                # Without the marker, the next run lets the service load its files if this one is interrupted.
                if service.marker:
                    service.marker.unlink(missing_ok=True)
                make_directories(service)
                # What it reads of others, too, whoever of them comes later.
                reads = [read[path] for path in service.options["also_reads"] if path in read]
                due = [file for file in [*service.changed_files, *reads] if file in changed and file not in switched]
                switched += due
                _files.switch(due)
                service.activate()
        except BaseException as failure:
            # Whatever it is: a gateway that runs with half of the files is the worst of all.
            failed = time.time()
            back = roll_back(done, switched, isinstance(failure, Died))
            if not isinstance(failure, (_services.Failure, OSError)):
                raise
            raise _services.Failure(service.mask(f"{service.name}: {failure}; {back}{service.journal(failed)}")) from failure
        _journal.end(_files.STATE_DIRECTORY)


def roll_back(services: list[Service], switched: list[_files.File], died: bool) -> str:
    """Put the old files back and let the services load them; return a sentence about it. died: whether that is because of a daemon that died."""
    _files.restore(switched)
    _journal.end(_files.STATE_DIRECTORY)
    reasons = [*filter(None, (service.roll_back(died) for service in services))]
    if reasons:
        return f"the old files are back, but {'; '.join(reasons)}"
    if services and services[-1].action == "start":
        return "the old files are back and the service is stopped, as it was"
    return "the old files are back and in use"


def replaced(services: Iterable[Service]) -> list[pathlib.Path]:
    """Return the files that somebody else may have written and that are about to change. An obsolete file is ours, unless Postfix is not."""
    foreign = _foreign.has_postfix()
    return [file.path for service in services for file in service.changed_files if file.before is not None and (foreign or file in service.configuration)]


def remember(services: Iterable[Service], read: Read) -> None:
    """Note what each service was given."""
    for service in services:
        if service.marker:
            _files.replace(service.marker, service.digest(read, "after").encode("ascii"), (0, 0), 0o600)


def converge(module: AnsibleModule, options: dict[str, Any], undone: list[str]) -> dict[str, Any]:
    """Return the result of the module service_config. undone: the units of a run that was killed, whose files were put back.

    Raises Invalid and ValueError where nothing was changed, Failure where the old files are back, and OSError.
    """
    if not module.check_mode:
        remove_stages()
    services = [Service(module, each) for each in options["services"]]
    check_together(services)
    for service in services:
        service.everybodys_files = [file for each in services for file in each.files]
        service.check()
        module.no_log_values |= service.old_secrets()
    if not module.check_mode:
        for directory in {file.path.parent for service in services for file in service.files}:
            _leftovers.remove(directory)
    read = {str(file.path): file for service in services for file in service.files}
    for service in services:
        service.decide(read)
    waiting = [service for service in services if service.to_do]
    differing = [file for service in waiting for file in service.changed_files]
    diff = [file.diff() for file in differing]
    for service in waiting:
        if service.action != "none":
            diff.append({"prepared": f"{service.action} {service.name}\n"})
        diff += [{"prepared": f"make the directory {entry['path']}\n"} for entry in service.missing_directories]
    result = {
        "changed": bool(waiting),
        "files": [str(file.path) for file in differing],
        "actions": {service.name: service.to_do for service in waiting},
        "diff": diff,
        "undone": undone,
    }
    validated = [service for service in waiting if service.is_validated and service.options["validate"]]
    if validated:
        with staged(services) as stage:
            for service in validated:
                service.validate(stage)
    result["backup"] = _backup.keep(replaced(waiting), module.check_mode)
    if waiting and not module.check_mode:
        switch([*waiting, *(service for service in services if service.options["follows"])], read)
        remember(waiting, read)
    return result
