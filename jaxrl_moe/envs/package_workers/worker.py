"""A worker: a process that plays episodes of another package, asked and answering in lines of JSON."""
import collections
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from jaxrl_moe.envs.lines import Lines
from jaxrl_moe.envs.package_workers.launch import Launch
from jaxrl_moe.outside import Fields, OutsideError, parse
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status, UserError

LONGEST = 2**24       # bytes of a line, as inside/worker_loop.py has it
_CLOSING = 10.0       # seconds in which it shall close an episode
_DYING = 2.0          # seconds between the end of its answers and its own
_ENDING = 5.0         # seconds in which a worker that is asked no more shall end by itself
_LAST_WORDS = 600     # characters of what it printed, in a message
_CHUNK = 2**16


class Worker:
    """One process. Any thread may call it; it answers one call after the other.

    Args:
      launch: how it is started, which is done at once.

    Attributes:
      alive: whether it can be asked; once it cannot, it never can again.
    """

    def __init__(self, launch: Launch):
        self._package = launch.package
        self._limit = launch.limit
        self._lock = threading.Lock()    # of the pipes
        self._ending = threading.Lock()  # of its end
        self._ended: collections.deque[int] = collections.deque()  # episodes that are to be closed
        self._number = 0
        self.alive = True
        reading, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                launch.command(reading), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, bufsize=0, pass_fds=(reading,), env=dict(launch.environment),
                start_new_session=True)
        except OSError as error:
            os.close(self._lifeline)
            raise UserError(f"{launch.python} cannot be started: {error.strerror}. Name the interpreter of "
                            f"an environment that has {launch.package} by the setting python.") from error
        finally:
            os.close(reading)
        self._lines = Lines(self._process.stdin, self._process.stdout, self._package, LONGEST)
        self._printed: collections.deque[bytes] = collections.deque(maxlen=4)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()

    @property
    def runs(self) -> bool:
        """Whether it is alive, and has not ended by itself since it was last asked."""
        return self.alive and self._process.poll() is None

    def call(self, name: str, arguments: Mapping[str, Any], seconds: float, failed: Status) -> Fields:
        """What it answers.

        Args:
          name: of the call: begin, reset, step or close.
          arguments: of it, plain values.
          seconds: within which it shall answer, counted from when it has answered those before.
          failed: what the failure of this call counts as.

        Raises:
          UserError: it refuses what somebody has set or written in a row.
          EnvError: it failed. Where it was late, ended, or answered what it may not, it is not alive then.
        """
        with self._lock:
            answer = self._asked(name, arguments, seconds, failed)
            self._close_episodes()
        return self._result(answer, name, failed)

    def end_episode(self, number: int) -> None:
        """Lets it close an episode, now or as soon as it has answered the others."""
        self._ended.append(number)
        if self._lock.acquire(blocking=False):
            try:
                self._close_episodes()
            finally:
                self._lock.release()

    def _close_episodes(self) -> None:
        """One that cannot be closed ends with its worker."""
        while self._ended and self.alive:
            number = self._ended.popleft()
            try:
                answer = self._asked("close", {"episode": number}, _CLOSING, Status.STEP_FAILED)
                self._result(answer, "close", Status.STEP_FAILED)
            except UserError:
                self.kill()

    def _asked(self, name: str, arguments: Mapping[str, Any], seconds: float, failed: Status) -> Fields:
        if not self.alive:
            raise EnvError(failed, f"The worker of {self._package} has ended, and its episodes with it."
                           f"{self._last_words()}")
        try:
            return self._exchanged(name, arguments, time.monotonic() + seconds)
        except TimeoutError as error:
            self._abandon()
            raise EnvError(Status.TIMED_OUT, f"{self._package} did not answer `{name}` within {seconds:g} "
                           f"seconds, and its worker is killed: raise the setting {self._limit} beyond "
                           "that where it needs longer.") from error
        except EOFError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_DYING)  # so that its own exit code is told, and not that of a kill
            self._abandon()
            raise EnvError(failed, f"The worker of {self._package} ended in `{name}` with exit code "
                           f"{self._process.returncode}.{self._last_words()}") from error
        except OutsideError as error:
            self._abandon()
            raise EnvError(Status.MALFORMED, f"{error} Its worker is killed.") from error

    def _exchanged(self, name: str, arguments: Mapping[str, Any], deadline: float) -> Fields:
        self._number += 1
        request = {"id": self._number, "call": name, "arguments": arguments}
        line = json.dumps(request, allow_nan=False).encode()
        if len(line) >= LONGEST:  # with its end
            raise OutsideError(f"{self._package} would be sent {len(line) + 1} bytes; {LONGEST} are the "
                               "most.")
        self._lines.send(line, deadline)
        where = f"What {self._package} answers to `{name}`"
        answer = Fields(parse(self._lines.receive(deadline), where), where)
        answer.only(("id", "result", "error"))
        if answer.integer("id") != self._number or ("result" in answer) == ("error" in answer):
            raise OutsideError(f"{where} is no answer to it: it needs the id {self._number}, and either a "
                               "result or an error.")
        answer.object("result", None)
        error = answer.object("error", None)
        if error is not None:
            error.only(("kind", "message"))
            error.string("kind", choices=("refused", "failed"))
            error.string("message")
        return answer

    def _result(self, answer: Fields, name: str, failed: Status) -> Fields:
        error = answer.object("error", None)
        if error is None:
            return answer.object("result")
        message = cut(escaped(error.string("message")), 1000)
        if error.string("kind") == "refused":
            raise UserError(message)
        raise EnvError(failed, f"{self._package} failed in `{name}`: {message}")

    def _listen(self, stream: IO[bytes]) -> None:
        """Keeps the last of what it prints, so that its pipe never fills."""
        with contextlib.suppress(OSError, ValueError):  # closed
            while chunk := os.read(stream.fileno(), _CHUNK):
                self._printed.append(chunk)

    def _last_words(self) -> str:
        self._listener.join(1.0)
        text = b"".join(tuple(self._printed)).decode(errors="replace").strip()
        return f" It printed last: {escaped(text[-_LAST_WORDS:])}." if text else ""

    def kill(self) -> None:
        """Ends it and all that it has started, whatever they are at; a second time it does nothing."""
        with self._ending:
            if not self.alive:
                return
            self.alive = False
            os.close(self._lifeline)  # at which the guard kills them
            self._await_end(_ENDING)

    def close(self) -> None:
        """Lets it end its episodes, and ends it; a second time it does nothing."""
        idle = self._lock.acquire(timeout=_ENDING)
        if not idle:  # it hangs: whoever waits for it learns of its end, and abandons it
            self.kill()
            return
        try:
            with self._ending:
                if self.alive:
                    self._process.stdin.close()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(_ENDING)
            self._abandon()
        finally:
            self._lock.release()

    def _abandon(self) -> None:
        """Ends it, and what this process has of it."""
        self.kill()
        self._listener.join(1.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()

    def _await_end(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:  # the guard itself hangs
            self._process.kill()
            self._process.wait()
