"""The task BabyAI: its settings and rows."""
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.text.answers import action_of
from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.instructions import CALLING, FUNCTIONS, INSTRUCTIONS
from jaxrl_moe.envs.text.babyai.levels import LEVELS, check_installed, level_and_seed, levels_of
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError


@dataclasses.dataclass
class BabyAI(Task):
    """Missions in rooms of which the agent sees what is before it. The reward comes with the action that
    fulfils the mission: minigrid's, 1 - 0.9 * (low-level moves made) / (most moves allowed).

    Attributes:
      max_turns: actions after which an episode is cut.
      levels: the only ones whose rows are taken, by name or number, such as "GoToRedBall,13"; empty: all.
      steps: low-level moves after which an episode ends; 0: as many as minigrid gives the level.
      binary: the reward is 1 where the mission is fulfilled, however many moves it took.
      answers: actions are given in words ("react") or by calling functions.

    Raises:
      UserError: a number is out of range, there is no such level, or no minigrid.
    """
    max_turns: int = 20
    levels: str = ""
    steps: int = 0
    binary: bool = False
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wire: ClassVar[str] = "babyai"

    def __post_init__(self) -> None:
        check_least(self, max_turns=1, steps=0)
        self._levels = levels_of(self.levels)
        self._form = CommandForm(action_of, FUNCTIONS if self.answers == "functions" else ())
        check_installed()

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The actions as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The actions, and the form of an answer; the same for every row."""
        return CALLING if self._form.functions else INSTRUCTIONS

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no world, or one of a level that `levels` leaves out."""
        level, _ = level_and_seed(episode_number(row, "babyai"))
        if level not in self._levels:
            raise UserError(f"the row's world is one of level {level} ({LEVELS[level - 1]}), and levels = "
                            f"{quoted(self.levels)} leaves that out: leave the row out, or add the level.")

    def open(self, row: Mapping[str, Any], seed: int) -> BabyAIEpisode:
        """An episode in the row's world; all chance in it follows from the row, so the seed decides
        nothing."""
        index = episode_number(row, "babyai")
        return BabyAIEpisode(index, self._form, steps=self.steps, binary=self.binary)

    def close(self) -> None:
        """There is nothing to free."""
