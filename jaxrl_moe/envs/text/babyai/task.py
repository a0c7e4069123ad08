"""The task BabyAI: its settings and rows."""
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.levels import LEVELS, check_installed, level_and_seed, levels_of
from jaxrl_moe.outside import MOST_INT, Fields
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import UserError

_ITEM = re.compile(r"babyai_(0|[1-9][0-9]{0,9})")


@dataclasses.dataclass
class BabyAI(Task):
    """Missions in rooms of which the agent sees what is before it. The reward comes with the action that
    fulfils the mission: minigrid's, 1 - 0.9 * (low-level moves made) / (most moves allowed).

    Attributes:
      max_turns: actions after which an episode is cut.
      levels: the only ones whose rows are taken, by name or number, such as "GoToRedBall,13"; empty: all.
      steps: low-level moves after which an episode ends; 0: as many as minigrid gives the level.
      binary: the reward is 1 where the mission is fulfilled, however many moves it took.

    Raises:
      UserError: a number is out of range, there is no such level, or no minigrid.
    """
    max_turns: int = 20
    levels: str = ""
    steps: int = 0
    binary: bool = False
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for setting, least in (("max_turns", 1), ("steps", 0)):
            if getattr(self, setting) < least:
                raise UserError(f"{setting} = {getattr(self, setting)} is out of range: it must be at least "
                                f"{least}.")
        self._levels = levels_of(self.levels)
        check_installed()

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no world, or one of a level that `levels` leaves out."""
        level, _ = level_and_seed(index_of(row))
        if level not in self._levels:
            raise UserError(f"the row's world is one of level {level} ({LEVELS[level - 1]}), and levels = "
                            f"{quoted(self.levels)} leaves that out: leave the row out, or add the level.")

    def open(self, row: Mapping[str, Any], seed: int) -> BabyAIEpisode:
        """An episode in the row's world; all chance in it follows from the row, so the seed decides
        nothing."""
        return BabyAIEpisode(index_of(row), steps=self.steps, binary=self.binary)

    def close(self) -> None:
        """There is nothing to free."""


def index_of(row: Mapping[str, Any]) -> int:
    """The data index that a row gives, as `id`, or in AgentGym's `item_id` such as "babyai_12".

    Raises:
      UserError: it gives none, or two.
    """
    fields = Fields(row, "the row")
    index = fields.integer("id", None)
    item = fields.string("item_id", "")
    if index is None and not item:
        raise UserError(f"no data index in `id` or `item_id` (columns: {named(row)}): add one, such as "
                        '"id": 12.')
    if not item:
        return index
    matched = _ITEM.fullmatch(item)
    if not matched or int(matched[1]) > MOST_INT:
        raise UserError(f"item_id is {quoted(item)}: write babyai_ and a data index up to {MOST_INT}, such "
                        "as babyai_12.")
    if index not in (None, int(matched[1])):
        raise UserError(f"id is {index} and item_id {quoted(item)}, which are two worlds: drop one of them.")
    return int(matched[1])
