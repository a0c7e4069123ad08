"""A process that has imported what takes seconds, and forks for each who asks. Runs in the sandbox.

    python warm.py candidate|reference|compiler DEVICE

It reads a byte, forks, and lets the child talk over the same pipes; when that has ended it kills whatever
it left, empties the folder it had, and sends {"ended": exit code}, which another pipe confirms. It knows no
secret, and neither does a child.
"""
import contextlib
import ctypes
import importlib
import os
import pathlib
import shutil
import signal
import sys

import frames

WORK = pathlib.Path("/tmp/work")
FOLDERS = (pathlib.Path("/tmp"), pathlib.Path("/dev/shm"))
_PR_SET_DUMPABLE = 4


def main() -> None:
    mode, device = sys.argv[1:]
    reading, writing = _own_pipes()
    kept = _found()
    program = importlib.import_module(mode)
    program.warm(device)
    # A child of the same user can then neither read nor write the memory of this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
    _say(writing, {"ready": True})
    while os.read(reading, 1):
        child = os.fork()
        if child == 0:
            os.close(frames.CONFIRMING)  # a child cannot say that it has ended while it lives
            _play(program, reading, writing, device)
        _, status = os.waitpid(child, 0)
        _tidy(kept)
        os.write(frames.CONFIRMING, b"e")
        _say(writing, {"ended": os.waitstatus_to_exitcode(status)})


def _own_pipes() -> tuple[int, int]:
    """The pipes under other numbers, so that what is printed goes nowhere."""
    pipes = (os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return pipes


def _say(writing: int, head: dict) -> None:
    with open(writing, "wb", closefd=False) as stream:
        frames.write(stream, head)


def _play(program, reading: int, writing: int, device: str) -> None:
    """The child's whole life."""
    code = 1
    try:
        WORK.mkdir()
        os.chdir(WORK)
        with open(reading, "rb", closefd=False) as coming, open(writing, "wb", closefd=False) as going:
            program.serve(coming, going, WORK, device)
        code = 0
    finally:
        os._exit(code)


def _tidy(kept: frozenset[pathlib.Path]) -> None:
    """Ends what a child has left: in this sandbox there is nobody but it, this process and the first one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass
    for folder in FOLDERS:
        _empty(folder, kept)


def _found() -> frozenset[pathlib.Path]:
    """What the sandbox has there from the beginning: folders on the way to what it shows, and that itself."""
    found: set[pathlib.Path] = set()
    waiting = list(FOLDERS)
    while waiting:
        inner = list(waiting.pop().iterdir())
        found.update(inner)
        waiting.extend(filter(_is_own_folder, inner))
    return frozenset(found)


def _empty(folder: pathlib.Path, kept: frozenset[pathlib.Path]) -> None:
    for path in folder.iterdir():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif _is_own_folder(path):
            _empty(path, kept)


def _is_own_folder(path: pathlib.Path) -> bool:
    """Whether it is of this sandbox alone, and not shown from the machine."""
    return path.is_dir() and not path.is_symlink() and not path.is_mount()


if __name__ == "__main__":
    main()
