"""One game of ScienceWorld in whichever Java process is at hand.

A game is what has been done in it: where another game was played in its process since, or the process died
between two calls, it is begun again and the same commands are given, whose observations must be the same.
"""
import dataclasses
from typing import NamedTuple

from jaxrl_moe.envs.text.sciworld.gateway import Gateway, JavaFailure, Reference
from jaxrl_moe.envs.text.sciworld.pool import Pool, Seat
from jaxrl_moe.envs.text.sciworld.variations import Variation
from jaxrl_moe.types import EnvError, Status

FIRST = "look around"  # which AgentGym's server does before the policy's first command
UNKNOWN = ("No known action", "Unknown action")  # how the game answers what is no command
FAILED = "The game could not do that. Nothing was done: give another command."


class Told(NamedTuple):
    """What the game says to a command; score: of 100, below 0 where the task is lost; over: won or lost;
    understood: whether it was a command."""
    observation: str
    score: int
    over: bool
    understood: bool = True


@dataclasses.dataclass(eq=False)
class Game:
    """A variation of a task that is being played. One thread uses it at a time.

    Attributes:
      pool: of the processes.
      variation: which.
      simplifications: as the game spells them, with commas between.
      task_description: what is to be done; "" before begin().
    """
    pool: Pool
    variation: Variation
    simplifications: str = ""
    task_description: str = ""

    def __post_init__(self) -> None:
        self._done: list[tuple[str, Told]] = []

    def begin(self) -> Told:
        """Begins; what is around.

        Raises:
          EnvError: the process died or hangs, or does not know the variation.
        """
        with self.pool.seat(self) as seat:
            self._load(seat)
            return self._do(seat, FIRST)

    def do(self, command: str) -> Told:
        """Gives a command, once begun. One at which the game fails changes nothing.

        Raises:
          EnvError: the process died or hangs, or the game did not come to the same state again.
        """
        try:
            with self.pool.seat(self) as seat:
                if seat.holder is not self:
                    self._again(seat)
                return self._do(seat, command)
        except JavaFailure:
            return Told(FAILED, self._done[-1][1].score, False, understood=False)

    def gold(self) -> list[str]:
        """The commands by which the game itself would do the task, one after the other."""
        with self.pool.seat(self) as seat:
            seat.holder = None
            self._load(seat, gold=True)
            commands = seat.jvm.gateway.texts(seat.jvm.game, "getGoldActionSequence")
            seat.holder = None
            return commands

    def end(self) -> None:
        """Leaves the process to others."""
        self.pool.leave(self)

    def _load(self, seat: Seat, gold: bool = False) -> None:
        seat.holder = None
        name, number = self.variation
        gateway = seat.jvm.gateway
        error = _text(gateway, seat.jvm.game, "load", name, number, self.simplifications, gold)
        if error:
            raise EnvError(Status.RESET_FAILED, f"ScienceWorld cannot begin {name}, variation {number}: "
                           f"{error}", final=True)
        self.task_description = _text(gateway, seat.jvm.game, "getTaskDescription")

    def _again(self, seat: Seat) -> None:
        done = self._done
        self._done = []
        try:
            self._load(seat)
            for command, told in done:
                if self._do(seat, command) != told:
                    raise EnvError(Status.STEP_FAILED, f"ScienceWorld's {self.variation.task} did not come "
                                   "to the same state again by the same commands.")
        finally:
            self._done = done
        seat.holder = self

    def _do(self, seat: Seat, command: str) -> Told:
        seat.holder = None  # until it has answered
        gateway = seat.jvm.gateway
        game = seat.jvm.game
        observation = _text(gateway, game, "step", command)
        score = round(100 * float(gateway.call(game, "getScore") or 0.0))
        over = bool(gateway.call(game, "getCompleted")) or score < 0
        told = Told(observation, score, over, not observation.startswith(UNKNOWN))
        self._done.append((command, told))
        seat.holder = self
        return told


def _text(gateway: Gateway, game: Reference, method: str, *arguments: str | int | bool) -> str:
    return str(gateway.call(game, method, *arguments) or "").strip()
