"""Starts programs one after the other, each once the one before serves, and ends them together."""
import contextlib
import os
import pathlib
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from jaxrl_moe.serving.windows.program import Program, Running, adopt_orphans, end_orphans
from jaxrl_moe.types import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.1
LAST_LINES = 20
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Supervisor:
    """Runs programs as one; the last of them is what the others are there for: where it ends, all do.

    Args:
      programs: in the order in which they are started.
      start_seconds: that each may take until it serves.
      grace: seconds that each program has to end after SIGTERM, before it is killed.
      say: takes lines for people, and what the last program says.
    """

    def __init__(self, programs: Sequence[Program], *, start_seconds: float = 600.0, grace: float = 120.0,
                 say: "Teller"):
        self._programs = programs
        self._start_seconds = start_seconds
        self._grace = grace
        self._say = say
        self._running: list[Running] = []
        self._signals: list[int] = []

    def run(self) -> int:
        """Starts them and waits; the exit code of the last program, or of the one that has failed, or 128 and
        the signal's number where one came. Afterwards no process is left."""
        adopt_orphans()
        with self._heard():
            try:
                return self._start() or self._wait()
            finally:
                self._end()

    def _start(self) -> int:
        for program in self._programs:
            self._say(f"Starting {program.name}; its log is {program.log}")
            self._running.append(Running(program))
            code = self._serves(program)
            if code is not None:
                return code
        return 0

    def _serves(self, program: Program) -> int | None:
        """Waits until it serves; an exit code where it does not."""
        end = time.monotonic() + self._start_seconds
        while program.health:
            if (code := self._ended(early=True)) is not None:
                return code
            if healthy(program.health):
                self._say(f"{program.name} serves: {program.health} answers")
                break
            if time.monotonic() > end:
                self._tell(self._running[-1], f"{program.name} does not serve after {self._start_seconds:g} "
                           f"seconds: {program.health} has no good answer.")
                return 1
            time.sleep(LOOK_SECONDS)
        return None

    def _wait(self) -> int:
        last = self._running[-1]
        while (code := self._ended()) is None:
            self._say.show(last.new_output())
            time.sleep(LOOK_SECONDS)
        return code

    def _ended(self, early: bool = False) -> int | None:
        """The exit code for all where a signal came, or a program has ended; None: all run."""
        if self._signals:
            self._say(f"{signal.Signals(self._signals[0]).name} came: all programs end.")
            return 128 + self._signals[0]
        for running in self._running:
            code = running.code
            if code is None:
                continue
            is_last = running.program is self._programs[-1] and not early
            if code == 0 and is_last:
                self._say(f"{running.program.name} has ended well: the others end.")
                return 0
            self._tell(running, f"{running.program.name} has ended with exit code {code}: the others end.")
            return code or 1
        return None

    def _tell(self, running: Running, what: str) -> None:
        lines = running.last_lines(LAST_LINES) or "(nothing)"
        self._say(f"{what} What it said at last, in {running.program.log}:\n{lines}")

    def _end(self) -> None:
        """Ends the programs, those that were started last first; a second signal kills them at once."""
        came = len(self._signals)
        for running in reversed(self._running):
            end = time.monotonic() + self._grace  # of its own: a slow run takes no server's time
            running.terminate()
            while running.code is None and time.monotonic() < end and len(self._signals) < max(came, 1) + 1:
                time.sleep(LOOK_SECONDS / 2)
            if running.code is None:
                self._say(f"{running.program.name} has not ended in time, and is killed.")
            running.kill()
            if running.program is self._programs[-1]:
                self._say.show(running.new_output())
        end_orphans()

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Signals are noted in the block, and end nothing by themselves."""
        def note(number: int, _: Any) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def healthy(url: str) -> bool:
    """Whether a GET is answered with status 200."""
    try:
        with NO_PROXY.open(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def check_healthy(name: str, url: str) -> None:
    """Raises UserError where a server that runs elsewhere does not answer."""
    if not healthy(url):
        raise UserError(f"{name} does not answer at {url}: start it, or correct its address.")


class Teller:
    """Takes what is said: lines go to the terminal and to a log; what a program says, to the terminal
    alone."""

    def __init__(self, log: pathlib.Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a")

    def __call__(self, line: str) -> None:
        print(line, file=self._log, flush=True)
        self.show(f"{line}\n")

    def show(self, output: str) -> None:
        """To the terminal, if it is still there: it goes with its session, and the programs must end then."""
        try:
            print(output, end="", flush=True)
        except OSError:
            sys.stdout = open(os.devnull, "w")  # for what is left of this process

    def __enter__(self) -> "Teller":
        return self

    def __exit__(self, *_: Any) -> None:
        self._log.close()
