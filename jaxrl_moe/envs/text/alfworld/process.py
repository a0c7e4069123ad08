"""A process that plays games: started, asked one line of JSON at a time, and ended. It ends with this one,
however this one ends."""
import collections
import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.lines import Lines
from jaxrl_moe.outside import Fields, OutsideError, parse
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status

LONGEST_LINE = 2**22  # bytes; answers of large rooms have some thousand
_ENDED_SECONDS = 10.0  # that one that is killed has to be gone
_LAST_SECONDS = 2.0    # that one that has closed its pipes has to end by itself
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")


class GameProcess:
    """Several threads may ask it; it answers them one after the other. Whatever goes wrong with it ends it.

    Args:
      command: that starts it; it says in a first line that it is there.
      seconds: that an answer may take, the first line included.
      name: for messages.

    Attributes:
      episodes: that are open in it.
    """

    def __init__(self, command: Sequence[str], seconds: float, name: str = "ALFWorld's process"):
        self.episodes = 0
        self._seconds = seconds
        self._name = name
        self._lock = threading.Lock()      # held while it is asked
        self._counting = threading.Lock()
        self._over: collections.deque[int] = collections.deque()
        self._greeted = False
        self._said = tempfile.TemporaryFile()
        # The hashes of texts decide in which order its libraries list things.
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0,
                env=environment | {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}, start_new_session=True)
        except OSError as error:
            self._said.close()
            raise EnvError(Status.UNREACHABLE, f"{name} cannot be started by {command[0]}: "
                           f"{error.strerror or error}.") from error
        self._lines = Lines(self._process.stdin, self._process.stdout, name, LONGEST_LINE)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any], failed: Status) -> Fields:
        """What it answers.

        Raises:
          EnvError: it says that it cannot, which is `failed`; or it has ended, does not answer in time, or
            answers what is no JSON, and is ended.
        """
        with self._lock:
            try:
                if not self._greeted:
                    self._answer(failed)
                    self._greeted = True
                while self._over:
                    self._asked({"call": "end", "episode": self._over.popleft()}, failed)
                return self._asked(request, failed)
            except OutsideError as error:
                self.kill()
                raise EnvError(Status.MALFORMED, str(error)) from error

    def greet(self) -> None:
        """Waits until it is there; raises EnvError as ask() does."""
        with self._lock:
            if not self._greeted:
                self._answer(Status.UNREACHABLE)
                self._greeted = True

    def begin_episode(self) -> None:
        """Counts one."""
        with self._counting:
            self.episodes += 1

    def end_episode(self, number: int) -> None:
        """Has it forget an episode, when it is next asked; nobody waits for it."""
        with self._counting:
            self.episodes -= 1
        self._over.append(number)

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()

    def close(self) -> None:
        """Ends it, and frees what it held here."""
        self.kill()
        with self._lock, contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDED_SECONDS)
            for pipe in (self._process.stdin, self._process.stdout, self._said):
                pipe.close()

    def _asked(self, request: Mapping[str, Any], failed: Status) -> Fields:
        fields = self._answer(failed, json.dumps(request).encode())
        if "error" in fields:
            raise EnvError(failed, f"{self._name} cannot: {cut(escaped(fields.string('error')))}")
        return fields

    def _answer(self, failed: Status, asked: bytes | None = None) -> Fields:
        """What it says next, or to what it is asked."""
        end = time.monotonic() + self._seconds
        where = f"The answer of {self._name}"
        try:
            if asked is not None:
                self._lines.send(asked, end)
            return Fields(parse(self._lines.receive(end), where), where)
        except TimeoutError as error:
            self.kill()
            raise EnvError(Status.TIMED_OUT, f"{self._name} has not answered in {self._seconds:g} s, and was "
                           "ended: raise the setting `seconds` where games need longer.") from error
        except (EOFError, OSError, ValueError) as error:  # it has ended, or its pipes are closed
            raise self._ended(failed) from error

    def _ended(self, failed: Status) -> EnvError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        self.kill()  # it may have closed its pipes alone
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDED_SECONDS)
        code = self._process.returncode
        return EnvError(failed, f"{self._name} has ended with {code}.{self._last_words()}")

    def _last_words(self) -> str:
        if self._said.closed:
            return ""
        self._said.seek(0)
        lines = self._said.read(100_000).decode(errors="replace").split("\n")
        told = [line.strip() for line in lines if line.strip()]
        return f" It said: {cut(escaped(' '.join(told[-2:])))}" if told else ""
