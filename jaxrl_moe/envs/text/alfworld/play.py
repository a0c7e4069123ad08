"""Games as workers play them, processes of a Python that has the package alfworld."""
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from jaxrl_moe.envs.package_workers.launch import Launch, environment, python_of
from jaxrl_moe.envs.package_workers.pool import Pool, Seat
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import EnvError, Status

_FILE = pathlib.Path(__file__).parent / "worker" / "alfworld_games.py"
_INSTALL = "make alfworld"
_Read = TypeVar("_Read")


def game_workers(python: str, count: int, seconds: float) -> Pool:
    """Workers that play games; none is started yet.

    Args:
      python: path of the Python that has the package alfworld; empty: that of .venv-alfworld.
      count: of workers at most.
      seconds: within which each shall have begun.

    Raises:
      UserError: there is no such Python.
    """
    launch = Launch("ALFWorld", python_of("alfworld", python, _INSTALL), _FILE, _seen(), _INSTALL, "seconds")
    return Pool(launch, count, {}, seconds)


def _seen() -> dict[str, str]:
    """The variables that a worker sees; with them it imports from its own environment alone."""
    seen = environment(())
    seen.pop("PYTHONPATH", None)
    # The hashes of texts decide in which order its libraries list things.
    return seen | {"PYTHONNOUSERSITE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


class Told(NamedTuple):
    """What a game says: the observation, the commands that would do something now, and whether it is won."""
    observation: str
    actions: tuple[str, ...]
    won: bool


class Play:
    """A game at a worker, which is begun once, and ended in the end.

    Args:
      pool: of the workers.
      seconds: that an answer may take.
    """

    def __init__(self, pool: Pool, seconds: float):
        self._pool = pool
        self._seconds = seconds
        self._seat: Seat | None = None

    def begin(self, game: Mapping[str, Any]) -> Told:
        """Takes a worker, and begins a game.

        Raises:
          UserError: the pool is closed.
          EnvError: the worker fails.
        """
        self._seat = self._pool.take()
        return self._asked("reset", game, Status.RESET_FAILED, _told)

    def begin_in_full(self, game: Mapping[str, Any]) -> dict[str, str]:
        """The same; tells the game as ALFWorld keeps it in a file."""
        self._seat = self._pool.take()
        return self._asked("reset", {**game, "in_full": True}, Status.RESET_FAILED, _data)

    def step(self, command: str) -> Told:
        """Gives a command; raises EnvError where the worker fails."""
        return self._asked("step", {"command": command}, Status.STEP_FAILED, _told)

    def end(self) -> None:
        """Lets the worker forget it; a second time, or where it was not begun, it does nothing."""
        if self._seat is not None:
            self._pool.leave(self._seat)

    def _asked(self, name: str, arguments: Mapping[str, Any], failed: Status,
               read: Callable[[Fields], _Read]) -> _Read:
        answer = self._seat.call(name, arguments, self._seconds, failed)
        try:
            return read(answer)
        except OutsideError as error:  # the program is our own: one that answers so is no more to be trusted
            self._seat.worker.kill()
            raise EnvError(Status.MALFORMED, str(error)) from error


def _told(fields: Fields) -> Told:
    return Told(fields.string("observation"), tuple(fields.strings("actions")), fields.boolean("won"))


def _data(fields: Fields) -> dict[str, str]:
    data = fields.object("data")
    return {name: data.string(name) for name in ("pddl_domain", "grammar", "pddl_problem")}
