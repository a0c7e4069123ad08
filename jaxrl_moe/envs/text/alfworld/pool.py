"""Processes that play games: started as they are needed, replaced when they end, each with some of the
episodes."""
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl_moe.envs.text.alfworld.process import GameProcess
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.types import EnvError, Status, UserError


class Told(NamedTuple):
    """What a game says: the observation, the commands that would do something now, and whether it is won."""
    observation: str
    actions: tuple[str, ...]
    won: bool


class Play:
    """A game that is being played in a process."""

    def __init__(self, process: GameProcess, number: int):
        self._process = process
        self._number = number

    def begin(self, game: Mapping[str, Any]) -> Told:
        """Raises EnvError where the process fails."""
        return self._told({"call": "begin", **game}, Status.RESET_FAILED)

    def step(self, command: str) -> Told:
        """Gives a command; raises EnvError where the process fails."""
        return self._told({"call": "step", "command": command}, Status.STEP_FAILED)

    def data(self, game: Mapping[str, Any]) -> dict[str, str]:
        """A game of our own as ALFWorld keeps it in a file; raises EnvError where the process fails."""
        fields = self._process.ask({"call": "data", **game}, Status.RESET_FAILED)
        return {name: fields.string(name) for name in ("pddl_domain", "grammar", "pddl_problem")}

    def end(self) -> None:
        """Lets the process forget it; once."""
        self._process.end_episode(self._number)

    def _told(self, request: Mapping[str, Any], failed: Status) -> Told:
        fields = self._process.ask({**request, "episode": self._number}, failed)
        try:
            return Told(fields.string("observation"), tuple(fields.strings("actions")), fields.boolean("won"))
        except OutsideError as error:
            self._process.kill()
            raise EnvError(Status.MALFORMED, str(error)) from error


class GamePool:
    """Args:
      command: that starts a process.
      workers: processes at most.
      seconds: as of GameProcess.
    """

    def __init__(self, command: Sequence[str], workers: int, seconds: float):
        self._command = command
        self._workers = workers
        self._seconds = seconds
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._processes: list[GameProcess] = []
        self._closed = False

    def open(self) -> Play:
        """A game to be begun, in the process that has the fewest.

        Raises:
          EnvError: there is none, and none can be started.
          UserError: the pool is closed.
        """
        with self._lock:
            process = self._process()
            process.begin_episode()
            return Play(process, next(self._numbers))

    def greet(self) -> None:
        """Waits for one process to be there; raises EnvError where it fails."""
        with self._lock:
            process = self._process()
        process.greet()

    def close(self) -> None:
        """Ends the processes."""
        with self._lock:
            self._closed = True
            processes = self._processes
            self._processes = []
        for process in processes:
            process.close()

    def _process(self) -> GameProcess:
        if self._closed:
            raise UserError("The task is closed: make another one.")
        for process in [each for each in self._processes if not each.alive]:
            self._processes.remove(process)
            process.close()
        if len(self._processes) < self._workers and all(each.episodes for each in self._processes):
            self._processes.append(GameProcess(self._command, self._seconds))
        return min(self._processes, key=lambda each: each.episodes)
