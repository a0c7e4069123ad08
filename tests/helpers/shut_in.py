"""Programs in sandboxes of all kinds that this machine has: two ways, as whoever runs the tests and as a user
without privileges.

python -m tests.helpers.shut_in reads what is asked, a line of JSON each, runs that program in a sandbox and
prints how it ended: for tests that have another user run it.
"""
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.records import Bounds, Cause, Cell, Exit
from jaxrl_moe.sandbox.shut_in import run
from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.sandbox.working import why_not

TOKEN = f"sandbox-test-{os.getpid()}"  # of what the tests of this process start
PLAIN_USER = 61_190  # of nobody
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = [(way, plain) for way in Way for plain in (False, True)]
SMALL = Bounds(memory_mib=256, processes=32, seconds=600, disk_bytes=2**20, file_bytes=2**20)


def alive():
    """Processes that have TOKEN among their arguments, zombies included."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if TOKEN in path.read_text().split("\0"):
                found.append(int(path.parent.name))
    return found


def kind_name(kind):
    way, plain = kind
    return f"{way.value}-{'plain' if plain else 'root' if os.geteuid() == 0 else 'self'}"


@functools.cache
def missing(kind):
    """Why a kind cannot be had here; empty where it can."""
    way, plain = kind
    if not plain:
        return why_not(way)
    if os.geteuid() != 0:
        return "the user without privileges is the one who runs the tests"
    if shutil.which("bwrap") is None or shutil.which("setpriv") is None:
        return "no bwrap and setpriv to become another user by"
    try:
        return driver()({"why_not": way.value})
    except (OSError, ValueError) as error:
        return f"the user without privileges cannot run this Python: {error}"


def as_plain_user():
    """What makes a command line another user's, who reaches our Python even where it lies in root's home."""
    covered = ["--perms", "0755", "--tmpfs", "/root"]
    shown = []
    for path in filter(lambda path: path.startswith("/root/"), python()):
        for parent in reversed(pathlib.PurePath(path).parents[:-2]):
            shown += ["--perms", "0755", "--dir", str(parent)]
        shown += ["--ro-bind", path, path]
    return ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", *covered, *shown, "setpriv",
            f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups", "--"]


def run_python(kind, source, *arguments, bounds=SMALL, readable=(), environment=None, isolated=("-I", "-S")):
    """The Exit of a Python program in a sandbox; `source` is its text, or a file's path."""
    way, plain = kind
    named = [source] if os.path.isfile(source) else ["-c", source]
    command = [sys.executable, *isolated, *named, *arguments]
    shown = (*python(), *readable)
    if not plain:
        return run(command, Cell(shown, environment=environment or {}), bounds, way)
    asked = {"command": command, "readable": shown, "environment": environment or {}, "way": way.value,
             "bounds": dataclasses.asdict(bounds)}
    told = driver()(asked)
    told |= {name: told[name].encode("latin-1") for name in ("stdout", "stderr")}
    return Exit(**told | {"cause": told["cause"] and Cause(told["cause"])})


@functools.cache
def driver():
    """Asks one process of the user without privileges, which answers in turn and ends with this one."""
    process = subprocess.Popen([*as_plain_user(), sys.executable, "-m", "tests.helpers.shut_in"], cwd=ROOT,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(asked):
        process.stdin.write(json.dumps(asked) + "\n")
        return json.loads(process.stdout.readline())
    return ask


def answer(asked):
    if "why_not" in asked:
        return why_not(Way(asked["why_not"]))
    cell = Cell(tuple(asked["readable"]), environment=asked["environment"])
    ended = run(asked["command"], cell, Bounds(**asked["bounds"]), Way(asked["way"]))
    told = dataclasses.asdict(ended)
    return told | {name: told[name].decode("latin-1") for name in ("stdout", "stderr")}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
