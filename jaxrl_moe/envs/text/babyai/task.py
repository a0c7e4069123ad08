"""The task BabyAI, and its episodes."""
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from jaxrl_moe.envs.text.answers import BadAction, action_of
from jaxrl_moe.envs.text.babyai.actions import Scene, moves_of
from jaxrl_moe.envs.text.babyai.description import available_line, describe
from jaxrl_moe.envs.text.babyai.levels import LEVELS, check_installed, level_and_seed, levels_of, make_world
from jaxrl_moe.envs.text.babyai.view import Names, look
from jaxrl_moe.outside import MOST_INT, Fields
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import Action, Messages, Step, UserError

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

    def open(self, row: Mapping[str, Any], seed: int) -> "BabyAIEpisode":
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


class BabyAIEpisode(Env):
    """One world, from its beginning to the end of its mission.

    Args:
      index: data index of the world.
      steps, binary: see BabyAI.

    Attributes:
      index: as given.
      world: minigrid's own, from reset() on; what it hides from the agent is there to be seen.
      scene: what the agent sees now.
      score: the rewards so far.
      is_fulfilled: whether the mission is.
    """

    def __init__(self, index: int, *, steps: int = 0, binary: bool = False):
        self.index = index
        self.world: Any = None
        self.scene: Scene
        self.score = 0.0
        self.is_fulfilled = False
        self._steps = steps
        self._binary = binary
        self._names = Names()
        self._invalid = 0
        self._ended = False

    @property
    def mission(self) -> str:
        """What is to be done, in minigrid's words."""
        return self.world.mission

    def reset(self) -> Messages:
        """Makes the world; returns the goal and what is in sight.

        Raises:
          UserError: it has begun already.
        """
        if self.world is not None or self._ended:
            raise UserError("This episode has begun already: open another one.")
        self.world = make_world(self.index)
        self.world.max_steps = self._steps or self.world.max_steps
        self._look()
        return _shown(f"Your goal: {self.mission}\n{describe(self.scene)}")

    def step(self, action: Action) -> Step:
        """Takes an action. One that cannot be taken changes nothing in the world, and the observation says
        why."""
        if self.world is None or self._ended:
            raise UserError("This episode has ended, or has not begun: open another one, and reset it.")
        try:
            moves = moves_of(action_of(action.text), self.scene)
        except BadAction as error:
            self._invalid += 1
            return self._told(0.0, f"{error}\n{available_line(self.scene)}")
        before = self.score
        for move in moves:
            self._move(move)
            if self._ended:  # also in the middle of an action
                break
        self._look()
        return self._told(self.score - before, "" if self._ended else describe(self.scene))

    def _look(self) -> None:
        view = look(self.world)
        self._names.learn(view)
        self.scene = Scene(view, self._names)

    def _move(self, move: int) -> None:
        _, reward, is_over, is_out_of_moves, _ = self.world.step(move)
        self.is_fulfilled = reward > 0
        self.score += float(self.is_fulfilled) if self._binary else float(reward)
        self._ended = bool(is_over or is_out_of_moves)

    def _told(self, reward: float, observation: str) -> Step:
        info = {"correct": float(self.is_fulfilled), "score": self.score, "invalid": float(self._invalid),
                "moves": float(self.world.step_count)}
        return Step(reward, self._ended, info, _shown(observation) if observation else ())

    def picture(self) -> np.ndarray:
        """The world from above, [height, width, 3] uint8; what the agent sees is lit."""
        return self.world.get_frame(highlight=True, tile_size=self.world.tile_size)

    def close(self) -> None:
        """There is nothing to free."""
        self._ended = True


def _shown(text: str) -> Messages:
    return ({"role": "user", "content": text},)
