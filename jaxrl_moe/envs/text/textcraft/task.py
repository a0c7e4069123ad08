"""TextCraft as a task: a row names a goal, and its episode plays for it."""
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.text.answers import BadAction, action_of
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.envs.text.textcraft.book import RecipeBook
from jaxrl_moe.envs.text.textcraft.game import Game, Reply
from jaxrl_moe.envs.text.textcraft.goals import GoalSet, goal_set, opening
from jaxrl_moe.envs.text.textcraft.instructions import CALLING, FUNCTIONS, INSTRUCTIONS
from jaxrl_moe.envs.text.textcraft.planner import Goal
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import Action, Messages, Step, UserError


@dataclasses.dataclass
class TextCraft(Task):
    """Reward 1 for the command that makes the goal, else 0. A row says which goal by `id`, a number, or by
    `item_id`, as "textcraft_12".

    Attributes:
      recipes: "minecraft", those of the package textcraft, or "small", fifty of our own.
      max_turns: turns after which an episode is cut.
      max_depth: the goals are those that take at most so many crafts one after the other; 0: all.
      distractors: recipes of no use that are shown beside the others; None: 10 of minecraft, 2 of small.
      answers: commands are given in words ("react") or by calling functions.

    Raises:
      UserError: a number is out of range.
    """
    recipes: Literal["minecraft", "small"] = "minecraft"
    max_turns: int = 20
    max_depth: int = 0
    distractors: int | None = None
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wire: ClassVar[str] = "textcraft"

    def __post_init__(self) -> None:
        check_least(self, max_turns=1, max_depth=0, distractors=0)
        self._form = CommandForm(action_of, FUNCTIONS if self.answers == "functions" else ())

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The commands as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The commands, and the form of an answer; the same for every row."""
        return CALLING if self._form.functions else INSTRUCTIONS

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no goal of these recipes."""
        self.goal(row)

    def open(self, row: Mapping[str, Any], seed: int) -> "TextCraftEpisode":
        """An episode for the row's goal; how it begins follows from the goal, and nothing from the seed."""
        goals = self._set()
        goal = self.goal(row)
        distractors = goals.distractors if self.distractors is None else self.distractors
        return TextCraftEpisode(goals.book, goal, distractors, self._form)

    def close(self) -> None:
        """There is nothing to free."""

    def goal(self, row: Mapping[str, Any]) -> Goal:
        """The goal that a row names.

        Raises:
          UserError: it names none, or one of other recipes.
        """
        number = episode_number(row, "textcraft")
        if row.get("recipes") not in (None, self.recipes):
            raise UserError(f"The row is of the recipes {quoted(row['recipes'])}, and the task has "
                            f"{self.recipes!r}: write env.name=\"textcraft(recipes='...')\" as the rows say.")
        return self._numbered(number)

    def _numbered(self, number: int) -> Goal:
        goals = self._set()
        count = goals.within(self.max_depth) if self.max_depth else len(goals.goals)
        if number >= count:
            limit = f" of depth {self.max_depth} or less" * bool(self.max_depth)
            raise UserError(f"There is no goal {number}: the recipes {self.recipes!r} have {count}{limit}, "
                            "numbered from 0.")
        return goals.goals[number]

    def _set(self) -> GoalSet:
        return goal_set(self.recipes)


class TextCraftEpisode(Env):
    """One game, in commands and observations."""

    def __init__(self, book: RecipeBook, goal: Goal, distractors: int, form: CommandForm):
        self._game = Game(book, goal)
        self._opening = opening(book, goal, distractors)
        self._form = form
        self._turns = 0
        self._valid = 0
        self._life = Lifecycle()

    def reset(self) -> Messages:
        """The crafting commands and the goal."""
        self._life.begin()
        return self._form.observation(self._opening)

    def step(self, action: Action) -> Step:
        """Carries out the command that an answer gives. info: "correct", and "valid", the share of the turns
        up to now whose command did something."""
        self._life.check_running()
        reply = self._reply(action)
        self._turns += 1
        self._valid += reply.valid
        won = self._game.won
        if won:
            self._life.end()
        return Step(float(won), won, {"correct": float(won), "valid": self._valid / self._turns},
                    () if won else self._form.observation(reply.text, action), tuple(self._game.crafted))

    def _reply(self, action: Action) -> Reply:
        try:
            return self._game.do(self._form.command(action))
        except BadAction as error:
            return Reply(str(error), False)

    def close(self) -> None:
        """There is nothing to free."""
        self._life.end()
