"""Starts a worker, and leaves no process of it behind: `python worker_guard.py LIFELINE FILE`.

The guard ends with the worker, and ends it, with all that it has started, once the other end of the pipe
LIFELINE is closed: by whoever started it, or by that process's death, however it died.
"""
import contextlib
import ctypes
import os
import pathlib
import runpy
import select
import signal
import sys
import time

_SUBREAPER = 36    # PR_SET_CHILD_SUBREAPER of Linux: orphans of descendants become children
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_LOOK = 0.02       # seconds between two looks at what is left


def _prctl(option: int, value: int) -> None:
    """What Linux alone has; elsewhere only the worker's own process group is ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _parents() -> dict[int, int]:
    """{process: its parent}, of all processes."""
    parents = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    return parents


def descendants(process: int) -> set[int]:
    """All processes that a process has started, and that these have."""
    parents = _parents()
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def _end_all(worker: int) -> None:
    """Kills what is left until nothing is."""
    left = {worker}
    while left:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid())
        if left:
            time.sleep(_LOOK)


def _watch(lifeline: int, worker: int) -> int:
    """Waits for the end of the worker, or for that of the lifeline; the worker's exit code."""
    ends = [os.pidfd_open(worker)] if hasattr(os, "pidfd_open") else []
    while True:
        heard, _, _ = select.select([lifeline, *ends], [], [], None if ends else _LOOK)
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if lifeline in heard:
            return -signal.SIGKILL


def main(lifeline: int, file: str) -> None:
    """Becomes the guard of a worker, which runs a file."""
    _prctl(_SUBREAPER, 1)
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != guard:  # it has died before it could be heard
            os._exit(1)
        os.close(lifeline)
        sys.argv = [file]
        sys.path.append(str(pathlib.Path(file).parent))  # last, so that it hides no package
        sys.path.append(str(pathlib.Path(__file__).parent))
        runpy.run_path(file, run_name="__main__")
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    for stream in (0, 1, 2):
        os.close(stream)
    code = _watch(lifeline, worker)
    _end_all(worker)
    os._exit(max(code, 0) if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
