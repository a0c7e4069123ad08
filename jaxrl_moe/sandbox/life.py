"""A program in a sandbox from its start to its end, as the thread sees it that watches over it."""
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from jaxrl_moe.sandbox.pipes import Pipes, high_pipe
from jaxrl_moe.sandbox.records import Bounds, Cause, Cell, Exit
from jaxrl_moe.sandbox.usage import usage
from jaxrl_moe.sandbox.ways import Way, machine
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import UserError

_INTERVAL = 0.1  # seconds from one look at what it uses to the next
_PATIENCE = 60.0  # seconds for what takes none, but for the load of the machine
_MIB = 2**20
_BY_SIGKILL = 128 + signal.SIGKILL


class SandboxError(Exception):
    """A program could not be shut in, and has not begun."""


class Life:
    """One thread starts it, watches and closes it, and stays so long: it would end with its thread
    (PR_SET_PDEATHSIG). Others may kill it.

    What was started outside the sandbox waits for the first process inside, with which the kernel ends all
    others; so that one is killed, and the one outside only if that does not help.

    Args: as ShutIn, which says how to use it.
      uid: that it gets, of root's.
    """

    def __init__(self, command: Sequence[str], cell: Cell, bounds: Bounds, way: Way, uid: int | None,
                 descriptors: Mapping[int, int]):
        self._bounds = bounds
        self._lock = threading.Lock()
        self._first: tuple[int, int] | None = None  # the first process inside, and a descriptor of it
        self._cause: Cause | None = None
        self._kill_outside = float("inf")
        self._said = b""
        self._code: int | None = None
        self._peak = 0
        self._began = time.monotonic()
        self._status, status = high_pipe()
        files = [status]
        try:
            line, taken = way.started_by(command, cell, bounds, machine(), uid, status)
            files += taken
            self.process = subprocess.Popen(
                _numbered(line, descriptors), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, bufsize=0, env={}, cwd="/", start_new_session=True,
                pass_fds=(*files, *descriptors.values()))
        except BaseException:
            os.close(self._status)
            raise
        finally:
            for each in files:
                os.close(each)

    def kill(self, cause: Cause) -> None:
        """Kills it at once; the first cause is the one that is told."""
        with self._lock:
            self._cause = self._cause or cause
            if self._first is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._first[1], signal.SIGKILL)

    def watch(self, pipes: Pipes) -> None:
        """Serves the pipes and holds it to its bounds, until nothing of it is left."""
        outside = os.pidfd_open(self.process.pid)
        try:
            pipes.serve(self._status, select.POLLIN, self._hear)
            pipes.serve(outside, select.POLLIN, lambda: False)
            look = self._began
            while pipes.serves(outside):
                pipes.step(look - time.monotonic())
                if time.monotonic() >= look:
                    self._hold(pipes.over)
                    look = time.monotonic() + _INTERVAL
        finally:
            os.close(outside)
        self._wait_inside()
        pipes.drain(_PATIENCE)

    def exit(self, stdout: bytes, stderr: bytes) -> Exit:
        """How it ended.

        Raises:
          SandboxError: it has not begun.
        """
        outside = self.process.wait()
        code = self._code
        if code is None and (self._cause is not None or outside == -signal.SIGKILL):
            code = _BY_SIGKILL
        if code is None:
            said = stderr.decode(errors="replace").strip()
            raise SandboxError(f"A program could not be shut in: {cut(escaped(said))}")
        return Exit(code, self._cause, stdout, stderr, self._peak / _MIB, time.monotonic() - self._began)

    def close(self) -> None:
        """Ends it, however far it has come; its input and output are the caller's to close."""
        self.process.kill()
        self.process.wait()
        self._wait_inside()
        self.process.stderr.close()
        os.close(self._status)

    def _hear(self) -> bool:
        """What shuts it in tells of it, a line of JSON each."""
        said = os.read(self._status, 2**12)
        *lines, self._said = (self._said + said).split(b"\n")
        for told in map(json.loads, filter(None, lines)):
            if "child-pid" in told:
                self._begun(told["child-pid"])
            self._code = told.get("exit-code", self._code)
        return bool(said)

    def _begun(self, first: int) -> None:
        with contextlib.suppress(ProcessLookupError), self._lock:
            self._first = first, os.pidfd_open(first)
        if self._cause is not None:
            self.kill(self._cause)

    def _hold(self, over: bool) -> None:
        """Kills it where it is over its bounds."""
        now = time.monotonic()
        if self._cause is None:
            cause = Cause.OUTPUT if over else self._overstepped(now - self._began)
            if cause is not None:
                self.kill(cause)
        if self._cause is not None:
            self._kill_outside = min(self._kill_outside, now + _PATIENCE)
            if now >= self._kill_outside:
                self.process.kill()

    def _overstepped(self, seconds: float) -> Cause | None:
        if seconds > self._bounds.seconds:
            return Cause.TIME
        if self._first is None:
            return None
        used = usage(self._first[0], self._bounds.memory_mib * _MIB)
        self._peak = max(self._peak, used.memory)
        over = {Cause.MEMORY: used.memory > self._bounds.memory_mib * _MIB,
                Cause.PROCESSES: used.processes > self._bounds.processes,
                Cause.CPU: used.cpu_seconds > self._bounds.cpu_seconds}
        return next((cause for cause, too_much in over.items() if too_much), None)

    def _wait_inside(self) -> None:
        """Until the first process inside, and with it all of them, are gone."""
        with self._lock:
            first, self._first = self._first, None
        if first is None:
            return
        ended = select.poll()
        ended.register(first[1], select.POLLIN)
        ended.poll(_PATIENCE * 1000)
        os.close(first[1])
        # Where this process is a container's first, it has to bury orphans.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(first[0], 0)


def _numbered(command: list[str], descriptors: Mapping[int, int]) -> list[str]:
    """The command line with descriptors of this process under other numbers, for which Popen has nothing.

    Raises:
      UserError: bash is not installed.
    """
    if not descriptors:
        return command
    bash = shutil.which("bash")
    if bash is None:
        raise UserError("bash is not installed")
    moved = [f"{number}<&{ours}" for number, ours in descriptors.items()]
    closed = [f"{ours}<&-" for ours in set(descriptors.values())]
    return [bash, "-c", f'exec {" ".join([*moved, *closed])} && exec "$@"', "bash", *command]
