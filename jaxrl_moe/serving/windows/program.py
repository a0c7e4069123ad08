"""A program that is started beside others, in a process group of its own."""
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_SUBREAPER = 36    # PR_SET_CHILD_SUBREAPER: orphans of descendants become children
_LIBC = ctypes.CDLL(None)


@dataclasses.dataclass(frozen=True)
class Program:
    """What is to be started.

    Attributes:
      name: for people, and of its log.
      command: with its options; no key may stand there, as all users of the machine see it.
      log: file that its output is appended to.
      health: URL that answers with status 200 once it serves; empty: nothing is waited for.
      variables: of its environment, beside those that are inherited.
    """
    name: str
    command: Sequence[str]
    log: pathlib.Path
    health: str = ""
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


class Running:
    """A program that was started. It gets SIGTERM where this process dies."""

    def __init__(self, program: Program):
        self.program = program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            self._began = self._shown = log.tell()
            self._process = subprocess.Popen(
                program.command, env=os.environ | program.variables, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_end_with_parent)

    @property
    def code(self) -> int | None:
        """Its exit code, as shells tell it; None: it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def terminate(self) -> None:
        """Asks it to end."""
        if self.code is None:
            self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, with all of its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def new_output(self) -> str:
        """What it has said since the last call."""
        with self.program.log.open("rb") as log:
            log.seek(self._shown)
            data = log.read()
        self._shown += len(data)
        return data.decode(errors="replace")

    def last_lines(self, count: int) -> str:
        """What it said at last."""
        text = self.program.log.read_bytes()[self._began:].decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-count:])


def adopt_orphans() -> None:
    """From now on, what descendants of this process leave behind becomes its children."""
    _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)


def end_orphans(seconds: float = 10.0) -> None:
    """Kills all children of this process, and theirs, until none is left."""
    end = time.monotonic() + seconds
    while children := _children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def _children() -> list[int]:
    found = []
    for thread in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found += map(int, thread.read_text().split())
    return found


def _end_with_parent() -> None:
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
