"""Shut in by namespaces that we make ourselves, where bubblewrap is not installed: another process of
Python's makes them (launcher.py), since that takes a process of one thread."""
import base64
import json
import os
import sys
from collections.abc import Sequence

from jaxrl_moe.sandbox import launcher
from jaxrl_moe.sandbox.pipes import memory_file
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.seccomp import filter_for
from jaxrl_moe.sandbox.syscalls import OWN, Machine


def started_by(command: Sequence[str], cell: Cell, bounds: Bounds, machine: Machine, uid: int | None,
               status: int) -> tuple[list[str], list[int]]:
    """As bubblewrap.started_by."""
    asked = {
        "command": list(command), "environment": dict(cell.environment), "uid": uid, "status": status,
        "parent": os.getpid(), "readable": [(os.path.realpath(path), path) for path in cell.shown()],
        "devices": [(os.path.realpath(path), path) for path in cell.devices],
        "disk": f"size={bounds.disk_bytes},nr_inodes={bounds.files}", "held": bounds.of_a_process(),
        "filter": base64.b64encode(filter_for(machine, cell.nests)).decode(), "nests": cell.nests,
        "numbers": machine.numbers(OWN)}
    told = memory_file(json.dumps(asked).encode())
    return [sys.executable, "-I", "-S", launcher.__file__, str(told)], [told]
