"""Shut in by bubblewrap (bwrap), which makes the sandbox; util-linux's setpriv and prlimit then make the
program nobody's, and bounded.

bwrap --unshare-user started by root leaves it root for files, so for root there is no user namespace: the
mounts are root's own, and within them setpriv gives up all privileges.
"""
import os
import shutil
from collections.abc import Sequence

from jaxrl_moe.sandbox.pipes import memory_file
from jaxrl_moe.sandbox.readable import libraries
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.seccomp import filter_for
from jaxrl_moe.sandbox.syscalls import Machine
from jaxrl_moe.types import UserError

_SPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_TOOLS = ("bwrap", "setpriv", "prlimit", "choom")
_FIRST_TO_DIE = "1000"  # whom the kernel kills where memory ends (choom)


def started_by(command: Sequence[str], cell: Cell, bounds: Bounds, machine: Machine, uid: int | None,
               status: int) -> tuple[list[str], list[int]]:
    """The command line that runs a program in a sandbox.

    Args:
      uid: that it gets, of root's; None: this user's.
      status: descriptor on which bwrap tells, in JSON, the first process and how the program exits.

    Returns:
      It, and the descriptors that it takes beside, which are the caller's to close.

    Raises:
      UserError: a tool is not installed.
    """
    tools = {name: _path(name) for name in _TOOLS}
    held = bounds.of_a_process().items()
    inner = [tools["prlimit"], *(f"--{name}={value}:{value}" for name, value in held)]
    if uid is not None:
        inner = [tools["setpriv"], f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                 "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", *inner]
    arguments = ["--die-with-parent", "--new-session", *_SPACES, "--hostname", "sandbox", "--clearenv"]
    arguments += [] if uid is not None else ["--unshare-user"]
    for name, value in cell.environment.items():
        arguments += ["--setenv", name, value]
    arguments += _mounts(cell, bounds, (tools["setpriv"], tools["prlimit"]))
    rules = memory_file(filter_for(machine, cell.nests))
    arguments += ["--chdir", "/tmp", "--seccomp", str(rules), "--json-status-fd", str(status)]
    told = memory_file(b"".join(os.fsencode(each) + b"\0" for each in arguments))  # and shown to nobody
    outer = [tools["choom"], "-n", _FIRST_TO_DIE, "--", tools["bwrap"], "--args", str(told)]
    return [*outer, "--", *inner, "--", *command], [rules, told]


def _path(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UserError(f"{name} is not installed")
    return path


def _mounts(cell: Cell, bounds: Bounds, tools: tuple[str, ...]) -> list[str]:
    """In this order: what is shown may lie in /tmp, and what is made read-only comes last."""
    arguments = ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):
        arguments += ["--perms", "1777", "--size", str(bounds.disk_bytes), "--tmpfs", folder]
    for path in cell.shown((*libraries(), *tools)):
        for parent in _parents(path):
            arguments += ["--perms", "0755", "--dir", parent]
        arguments += ["--ro-bind", path, path]
    for path in cell.devices:
        arguments += ["--dev-bind", path, path]
    # A browser writes to /proc who is who in its own namespaces.
    sealed = ("/", "/dev") if cell.nests else ("/", "/dev", "/proc")
    return arguments + [each for path in sealed for each in ("--remount-ro", path)]


def _parents(path: str) -> list[str]:
    """Of "/a/b/c": /a and /a/b."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
