"""A process in a sandbox that has imported what takes seconds, and forks for each use."""
import contextlib
import fcntl
import os
import pathlib
import select
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from jaxrl_moe.envs.kernels.verdicts.inside import frames
from jaxrl_moe.sandbox.readable import nvidia_devices, nvidia_files, programs, python
from jaxrl_moe.sandbox.records import Bounds, Cause, Cell
from jaxrl_moe.sandbox.shut_in import ShutIn
from jaxrl_moe.sandbox.ways import Way

INSIDE = pathlib.Path(__file__).parent / "inside"
Mode = Literal["reference", "candidate", "compiler"]
_CONFIRM_SECONDS = 30.0  # for the process to look after a fork that it says has ended
_START_SECONDS = 300.0  # to import torch and Triton on a machine that is busy


class Answer(NamedTuple):
    """head: what was said, values of arrays in `parts`."""
    head: Mapping[str, Any]
    parts: Sequence[bytes]


class GoneError(Exception):
    """A fork has ended before it answered.

    Attributes:
      cause: what it was killed for; None: it ended by itself.
      code: with which it ended, as the process tells that it was forked from; None: that has ended too.
    """

    def __init__(self, message: str, cause: Cause | None, code: int | None = None):
        super().__init__(message)
        self.cause = cause
        self.code = code


class Warmed:
    """One thread uses it at a time. It starts when it is first used, and again where it was killed.

    Args:
      mode: which of the programs inside.
      interpreter: Python's, that has torch and Triton.
      device: torch's name of what it computes on.
      bounds: of the process and its fork together, without seconds, which `use` says.
      way: how it is shut in.
      environment: variables that it sees beside those it needs.
    """

    def __init__(self, mode: Mode, interpreter: str, device: str, bounds: Bounds, way: Way,
                 environment: Mapping[str, str] | None = None):
        self._mode = mode
        self._device = device
        self._interpreter = interpreter
        self._bounds = bounds
        self._way = way
        own = {"PYTHONPATH": str(INSIDE), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp",
               "PATH": "/usr/bin:/bin", "TRITON_CACHE_DIR": "/tmp/work/triton",
               "TRITON_INTERPRET": "1" if mode == "candidate" and device == "cpu" else "0"}
        self._environment = own | dict(environment or {})
        self._program: ShutIn | None = None
        self._late = False
        self._left = 0.0

    @contextlib.contextmanager
    def use(self, seconds: float) -> Iterator["Warmed"]:
        """A fork that may be asked within the block, and may take so many seconds of wall time in all; what
        passes between two questions does not count.

        Raises:
          UserError, SandboxError, OSError: the process cannot be started.
        """
        program = self._running()
        self._left = seconds
        try:
            with self._awaited(program):
                self._fork(program)
            yield self
            with self._awaited(program):
                self._say({"call": "end"})
                self._await_end()
        except BaseException:
            self.close()  # its pipes may be in the middle of a message
            raise

    def ask(self, call: str, most: int, parts: Sequence[bytes] = (), **said: Any) -> Answer:
        """What the fork answers.

        Args:
          most: bytes that its answer may have.

        Raises:
          GoneError: it has ended, was killed, or answers what is no message.
        """
        with self._awaited(self._program):
            self._say({"call": call, **said}, parts)
            head, answered = self._heard(most)
            if "ended" in head:
                self._confirm()
        if "ended" in head:
            raise GoneError(f"its process ended with code {head['ended']}", None, head["ended"])
        return Answer(head, answered)

    @contextlib.contextmanager
    def _awaited(self, program: ShutIn) -> Iterator[None]:
        """Counts what it takes within the block, and kills it where that is too long."""
        begin = time.monotonic()
        timer = threading.Timer(max(self._left, 0.0), self._cut, (program,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._left -= time.monotonic() - begin

    @property
    def device(self) -> str:
        """torch's name of what it computes on."""
        return self._device

    @property
    def running(self) -> bool:
        """Whether it has started, and has not ended since."""
        return self._program is not None and not self._program.ended

    def cut(self) -> None:
        """Kills it, from any thread: who uses it finds it gone."""
        program = self._program
        if program is not None:
            program.end()

    def close(self) -> None:
        """Ends it; the next use starts another."""
        program, self._program = self._program, None
        if program is not None:
            program.close()
            self._confirming.close()

    def _running(self) -> ShutIn:
        if self._program is None:
            self._late = False
            self._program = self._started()
            timer = threading.Timer(_START_SECONDS, self._cut, (self._program,))
            timer.start()
            try:
                self._heard(0)
            except GoneError:
                self.close()
                raise
            finally:
                timer.cancel()
        return self._program

    def _started(self) -> ShutIn:
        ours, theirs = os.pipe()
        high = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(theirs)
        self._confirming = open(ours, "rb", buffering=0)
        try:
            return ShutIn([self._interpreter, "-P", str(INSIDE / "warm.py"), self._mode, self._device],
                          self._cell(), self._bounds, self._way, descriptors={frames.CONFIRMING: high})
        except BaseException:
            self._confirming.close()
            raise
        finally:
            os.close(high)

    def _cell(self) -> Cell:
        readable = (*python(self._interpreter), *programs(), str(INSIDE))
        if self._device == "cpu":
            return Cell(readable, environment=self._environment)
        return Cell((*readable, *nvidia_files()), nvidia_devices(), self._environment)

    def _cut(self, program: ShutIn) -> None:
        self._late = True
        program.end()

    def _fork(self, program: ShutIn) -> None:
        try:
            program.stdin.write(b"f")
        except OSError as error:
            raise self._gone() from error

    def _say(self, head: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        try:
            frames.write(self._program.stdin, head, list(parts))
        except OSError as error:
            raise self._gone() from error

    def _heard(self, most: int) -> tuple[dict[str, Any], list[bytes]]:
        try:
            message = frames.read(self._program.stdout, most)
        except (frames.FrameError, OSError) as error:
            raise GoneError(f"its process wrote what it may not: {error}", None) from error
        if message is None:
            raise self._gone()
        return message

    def _gone(self) -> GoneError:
        ended = self._program.wait()
        cause = Cause.TIME if self._late else ended.cause
        words = {Cause.TIME: "it took too long", Cause.MEMORY: "it took too much memory",
                 Cause.PROCESSES: "it started too many processes", Cause.CPU: "it took too long"}
        return GoneError(words.get(cause, f"its process ended with code {ended.code}"), cause)

    def _await_end(self) -> None:
        while "ended" not in self._heard(0)[0]:
            pass
        self._confirm()

    def _confirm(self) -> None:
        """That a fork has ended says the process that it was forked from, over a pipe that no fork has."""
        if not select.select([self._confirming], [], [], _CONFIRM_SECONDS)[0] or not self._confirming.read(1):
            raise GoneError("its process said that it had ended, and had not", None)
