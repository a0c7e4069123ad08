"""Puzzles of reasoning-gym, with a reward for exact answers alone."""
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jaxrl_moe.envs.adapters.forms import Form
from jaxrl_moe.envs.adapters.task import AdapterTask, json_setting, worker_file
from jaxrl_moe.envs.answers import answer_part
from jaxrl_moe.envs.bounds import check_range
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.types import Action, Messages, UserError

INSTRUCTIONS = ("Solve the puzzle. Give your final answer, and nothing but it, between <answer> and "
                "</answer>; what stands elsewhere does not count.")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def stated_answer(text: str) -> str:
    """What stands in the last <answer>...</answer>; without any, all of the answer. What was thought before
    </think> counts for nothing."""
    answer = answer_part(text)
    marked = _ANSWER.findall(answer)
    return (marked[-1] if marked else answer).strip()


class Stated(Form):
    """An answer between tags."""

    def said(self, action: Action) -> Mapping[str, Any]:
        return {"answer": stated_answer(action.text)}

    def shown(self, texts: Sequence[str], action: Action | None = None) -> Messages:
        return tuple({"role": "user", "content": text} for text in texts)


@dataclasses.dataclass
class ReasoningGymTask(AdapterTask):
    """One puzzle an episode: it is shown after the row's prompt, and answered once. A row has its number in
    `id`. The reward is 1 for an answer that the data set's scorer holds for exact, and else 0; what it gives
    for less, as 0.33 for "17x" where 7 is right, is the number "score" of info.

    Attributes:
      dataset: of reasoning-gym, such as "basic_arithmetic".
      options: further settings of the data set, a JSON object, such as {"min_terms": 2}.
      seed: of the data set, with which the number decides the puzzle.
      size: puzzles, numbered from 0; some data sets have fewer.
      scoring: seconds after which an answer that is still being scored has no reward.
      workers, timeout, python, variables: see AdapterTask.

    Raises:
      UserError: a setting is out of range, or cannot be read.
    """
    dataset: str
    options: str = ""
    seed: int = 0
    size: int = 1000
    scoring: float = 10.0
    workers: int = 2
    timeout: float = 60.0
    python: str = ""
    variables: str = ""
    max_turns: ClassVar[int] = 2  # more than 1, since the episode shows the puzzle; the first answer ends it
    lowest_reward: ClassVar[float] = 0.0
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    deterministic: ClassVar[bool] = True
    package: ClassVar[str] = "reasoning-gym"
    place: ClassVar[str] = "reasoning-gym"
    install: ClassVar[str] = "make env-adapters ADAPTERS=reasoning-gym"
    worker: ClassVar[pathlib.Path] = worker_file("reasoning_gym")

    def __post_init__(self) -> None:
        self._options = json_setting("options", self.options)
        for name in ("seed", "size"):
            if name in self._options:
                raise UserError(f"options has {name}, which is a setting of its own: write {name}=....")
        check_range(self, seed=(0, 2**31 - 1), size=(1, 2**31 - 1))
        if not 0 < self.scoring < self.timeout:
            raise UserError(f"scoring = {self.scoring:g} is out of range: it must be above 0, and below "
                            f"timeout = {self.timeout:g}.")
        super().__post_init__()

    def settings(self) -> Mapping[str, Any]:
        return {"dataset": self.dataset, "options": self._options, "seed": self.seed, "size": self.size,
                "seconds": self.scoring}

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"number": episode_number(row, "reasoning_gym", self.size - 1)}

    def form(self, row: Mapping[str, Any]) -> Stated:
        return Stated()

    def instructions(self, row: Mapping[str, Any]) -> str:
        """How the answer is marked."""
        return INSTRUCTIONS
