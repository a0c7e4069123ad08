"""The task ScienceWorld: its settings and rows."""
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.bounds import check_above_zero, check_least
from jaxrl_moe.envs.text.answers import last_command
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.envs.text.sciworld.episode import SciWorldEpisode
from jaxrl_moe.envs.text.sciworld.game import Game
from jaxrl_moe.envs.text.sciworld.instructions import CALLING, FUNCTIONS, TELEPORT, TELEPORTING, instructions
from jaxrl_moe.envs.text.sciworld.jvm import LEAST_MB, JvmOptions, check_installed
from jaxrl_moe.envs.text.sciworld.pool import Pool
from jaxrl_moe.envs.text.sciworld.variations import Variation, tasks_of, variation_of
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

SIMPLIFICATIONS = ("easy", "teleportAction", "selfWateringFlowerPots", "openContainers", "openDoors",
                   "noElectricalAction")
ELECTRICAL = ("power-component", "conductivity")  # in the names of tasks that need circuits


@dataclasses.dataclass
class SciWorld(Task):
    """Tasks of science lessons in a house of rooms: ScienceWorld, in Java processes of its own. A reward is
    what an action gains of the score, of 1 in all; a wrong focus ends the episode and takes what was gained.

    Attributes:
      max_turns: commands after which an episode is cut.
      tasks: the only ones whose rows are taken, by name with commas between; empty: all.
      simplifications: the game's, with commas between: easy, or any of teleportAction, openDoors,
        openContainers, selfWateringFlowerPots and noElectricalAction; empty: none, as in AgentGym.
      jvms: Java processes at most, in which any number of episodes take turns.
      jvm_mb: megabytes of heap that each may take; about 200 come on top.
      timeout: seconds that a command, or the start of a process, may take.
      answers: commands are given in words ("react") or by calling functions.

    Raises:
      UserError: a number is out of range, or there is no such task or simplification.
    """
    max_turns: int = 30
    tasks: str = ""
    simplifications: str = ""
    jvms: int = 8
    jvm_mb: int = 256
    timeout: float = 120.0
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wire: ClassVar[str] = "sciworld"

    def __post_init__(self) -> None:
        check_least(self, max_turns=1, jvms=1, jvm_mb=LEAST_MB)
        check_above_zero(self, "timeout")
        self._names = tasks_of(self.tasks)
        self._simplified = _simplified(self.simplifications)
        self._teleport = bool({"easy", "teleportAction"}.intersection(self._simplified))
        functions = FUNCTIONS + (TELEPORTING,) * self._teleport
        self._form = CommandForm(last_command, functions if self.answers == "functions" else ())
        self._door = threading.Lock()
        self._pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The Java processes; none is started before the first game, or ready()."""
        with self._door:
            if self._pool is None:
                self._pool = Pool(self.jvms, JvmOptions(self.jvm_mb, self.timeout))
            return self._pool

    def ready(self) -> None:
        """Starts a Java process, which the first episode then plays in.

        Raises:
          UserError: Java or a package is missing, or no process begins.
        """
        check_installed()
        self.pool.warm()

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The commands as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The commands, and the form of an answer; the same for every row."""
        if self._form.functions:
            return CALLING + TELEPORT * self._teleport
        return instructions(False, self._teleport)

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no variation, or one of a task that `tasks` leaves out or
        that cannot be done with these simplifications."""
        self.variation(row)

    def open(self, row: Mapping[str, Any], seed: int) -> SciWorldEpisode:
        """An episode of the row's variation; all chance in it follows from the row, so the seed decides
        nothing."""
        return SciWorldEpisode(self.game(row), self._form)

    def game(self, row: Mapping[str, Any]) -> Game:
        """The row's game, which has not begun."""
        return Game(self.pool, self.variation(row), ",".join(self._simplified))

    def close(self) -> None:
        """Ends the Java processes, and with them the open episodes."""
        with self._door:
            pool = self._pool
            self._pool = None
        if pool is not None:
            pool.close()

    def variation(self, row: Mapping[str, Any]) -> Variation:
        """What a row names.

        Raises:
          UserError: as check_row says.
        """
        variation = variation_of(row)
        if variation.task not in self._names:
            raise UserError(f"the row is of {variation.task}, and tasks = {quoted(self.tasks)} leaves that "
                            "out: leave the row out, or add the task.")
        if "noElectricalAction" in self._simplified and any(mark in variation.task for mark in ELECTRICAL):
            raise UserError(f"the row is of {variation.task}, which needs circuits, and simplifications = "
                            f"{quoted(self.simplifications)} leaves these out: leave the row or "
                            "noElectricalAction out.")
        return variation


def _simplified(setting: str) -> tuple[str, ...]:
    """The simplifications of a setting."""
    names = [name.strip() for name in setting.split(",") if name.strip()]
    for name in names:
        if name not in SIMPLIFICATIONS:
            raise UserError(f"simplifications = {quoted(setting)}: there is no {quoted(name)}."
                            f"{did_you_mean(name, SIMPLIFICATIONS)} There are {', '.join(SIMPLIFICATIONS)}.")
    if "easy" in names and len(names) > 1:
        raise UserError(f"simplifications = {quoted(setting)}: easy stands alone, since it has others in it.")
    return tuple(names)
