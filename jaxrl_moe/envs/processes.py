"""Programs that answer requests over pipes, and that can be killed: for what may hang, crash or eat memory.

A program reads a line of JSON and answers with one, again and again; its first line, unasked, says that it is
ready. It ends when its input does, so that it does not outlive us.
"""
import contextlib
import json
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from jaxrl_moe.envs.lines import Lines, TooLong
from jaxrl_moe.outside import Fields, OutsideError, parse

MOST_ANSWER = 2**20  # bytes of a line that a program writes


class WorkerError(Exception):
    """A program did not answer a request; it has been killed.

    Attributes:
      timed_out: it took too long; else it ended, or wrote what it may not.
    """

    def __init__(self, message: str, timed_out: bool):
        super().__init__(message)
        self.timed_out = timed_out


class WorkerStartError(Exception):
    """A program cannot be started, or is not ready in time."""


class Worker:
    """One program. One thread uses it at a time; any may end it.

    Args:
      command: that starts it.
      start_seconds: until it must be ready; on a machine that is busy much of it may pass.

    Raises:
      WorkerStartError: it is not ready by then.
    """

    def __init__(self, command: Sequence[str], start_seconds: float = 300.0):
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL, bufsize=0)
            self._lines = Lines(self._process.stdin, self._process.stdout, "A worker", MOST_ANSWER)
            self._answer(time.monotonic() + start_seconds)
        except (OSError, WorkerError) as error:
            raise WorkerStartError(f"{shlex.join(command)} cannot be started: {error} Run it to see why."
                                   ) from error

    def ask(self, request: Mapping[str, Any], seconds: float) -> Fields:
        """The answer to a request.

        Raises:
          WorkerError: none came in so many seconds, or it is none; the program is dead then.
        """
        return self._answer(time.monotonic() + seconds, json.dumps(request).encode())

    def end(self) -> None:
        """Ends it at once: a thread that waits for its answer is told so."""
        self._process.kill()

    def kill(self) -> None:
        """The same by the thread that uses it, which waits until it has ended; a second time it does
        nothing."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _answer(self, end: float, asked: bytes | None = None) -> Fields:
        """What it says next, or to what it is asked."""
        try:
            if asked is not None:
                self._lines.send(asked, end)
            return Fields(parse(self._lines.receive(end), "A worker's answer"), "A worker's answer")
        except TimeoutError as error:
            raise self._failed("took too long", timed_out=True) from error
        except (EOFError, OSError) as error:
            raise self._failed("has ended") from error
        except TooLong as error:
            raise self._failed("wrote too much") from error
        except OutsideError as error:
            raise self._failed(f"answered with what is none: {error}") from error

    def _failed(self, what: str, timed_out: bool = False) -> WorkerError:
        self.kill()
        return WorkerError(f"The program {what} (exit code {self._process.returncode}).", timed_out)


class WorkerPool:
    """Some programs of one kind, started when they are needed and replaced when they have been killed. Any
    thread may ask.

    Args:
      command: that starts one.
      size: most of them at a time; who asks meanwhile waits for one.
    """

    def __init__(self, command: Sequence[str], size: int):
        self._command = command
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)  # not started yet
        self._lock = threading.Lock()
        self._alive: set[Worker] = set()
        self._closed = False

    def ask(self, request: Mapping[str, Any], seconds: float) -> Fields:
        """The answer of one of them. The time is that of the answer alone, without the wait for a program and
        its start.

        Raises:
          WorkerError: the program did not answer, and is replaced; or the pool is closed.
          WorkerStartError: none can be started.
        """
        with self._lent() as worker:
            return worker.ask(request, seconds)

    def close(self) -> None:
        """Ends all, those that are asked included; a second time it does nothing."""
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.end()
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for worker in idle:
            if worker is not None:
                self._dropped(worker)
            self._idle.put(None)  # for those who wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Worker]:
        worker = self._idle.get()
        back = None
        try:
            worker = worker or self._started()
            yield worker
            back = worker
        finally:
            if worker is not None and (back is None or self._closed):
                back = self._dropped(worker)
            self._idle.put(back)

    def _dropped(self, worker: Worker) -> None:
        worker.kill()
        with self._lock:
            self._alive.discard(worker)

    def _started(self) -> Worker:
        worker = Worker(self._command)
        with self._lock:
            if not self._closed:
                self._alive.add(worker)
                return worker
        worker.kill()
        raise WorkerError("The pool is closed.", timed_out=False)
