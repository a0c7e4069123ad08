"""Generated word problems: the completion must end in exactly `#### N`."""
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.answers import answer_part
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import Action, Step, UserError

_ANSWER = re.compile(r"#### (-?[0-9]{1,100})\s*")


class WordProblems(SingleTurnTask):
    """Reward 1 if what follows the first #### (after any thinking) is the row's `answer` and nothing else,
    otherwise 0."""
    lowest_reward: ClassVar[float] = 0.0
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row without an integer `answer`."""
        _gold(row)

    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        """Scores one completion against the row's `answer`, an integer.

        Raises:
          UserError: the row has no integer `answer`.
        """
        gold = _gold(row)
        text = answer_part(action.text)
        start = text.find("####")
        answer = _ANSWER.fullmatch(text, start) if start >= 0 else None
        correct = answer is not None and int(answer[1]) == gold
        return Step(float(correct), info={"correct": float(correct), "answered": float(answer is not None)})


def _gold(row: Mapping[str, Any]) -> int:
    gold = row.get("answer")
    if type(gold) is not int:
        raise UserError(f"A row of the word problems needs an integer `answer`, but has {quoted(gold)} "
                        f"(columns: {named(row)}).")
    return gold
