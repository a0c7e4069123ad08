"""GSM8K: the final number of a completion, as answers.py finds it, against the gold, with a bonus for a
marker and a penalty for length."""
import dataclasses
import decimal
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from jaxrl_moe.envs.answers import answer_part, final_number, has_marker
from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.envs.numbers import parse_number
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import Action, Step, UserError

TOLERANCE = Fraction(1, 10**6)
MARKER_BONUS = 0.05
OVERLONG_PENALTY = 0.05


@dataclasses.dataclass
class Gsm8k(SingleTurnTask):
    """Grades GSM8K answers: 1 if the final number is right, +0.05 for a marker, -0.05 for an over-long
    completion.

    Attributes:
      overlong_tokens: a completion of more tokens than so many is over-long, and one that the token limit
        cut; 0: the latter alone.
      binary: the reward is 1 or 0 alone; marker and length are reported as ever.

    Raises:
      UserError: overlong_tokens is negative, or both are given.
    """
    overlong_tokens: int = 0
    binary: bool = False

    def __post_init__(self) -> None:
        check_least(self, overlong_tokens=0)
        if self.binary and self.overlong_tokens:
            raise UserError(f"overlong_tokens = {self.overlong_tokens} charges long completions, and "
                            "binary = true charges nothing: set one of them.")

    @property
    def lowest_reward(self) -> float:
        """That of a wrong answer that is over-long."""
        return 0.0 if self.binary else -OVERLONG_PENALTY

    @property
    def score_range(self) -> tuple[float, float]:
        """From the wrong answer that is over-long to the right one with a marker."""
        return self.lowest_reward, 1.0 if self.binary else 1.0 + MARKER_BONUS

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row without a gold number."""
        gold_number(row)

    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        """Scores one completion; only the completion is looked at, never the prompt.

        Raises:
          UserError: the row has no gold number.
        """
        gold = gold_number(row)
        text = answer_part(action.text)
        answer = final_number(text)
        correct = answer is not None and abs(answer - gold) <= TOLERANCE
        marker = has_marker(text)
        overlong = action.truncated or 0 < self.overlong_tokens < action.num_tokens
        reward = correct + (0.0 if self.binary else MARKER_BONUS * marker - OVERLONG_PENALTY * overlong)
        return Step(float(reward), info={
            "correct": float(correct), "marker": float(marker), "overlong": float(overlong),
            "answered": float(answer is not None)})


def gold_number(row: Mapping[str, Any]) -> Fraction:
    """Returns a row's gold: reward_spec.ground_truth, or what follows #### in `answer`, or `answer` itself,
    which is a number, or a text that is one.

    Raises:
      UserError: none of them is one number, or they are different ones.
    """
    spec = row.get("reward_spec")
    truth = spec.get("ground_truth") if isinstance(spec, Mapping) else None
    answer = row.get("answer")
    gold = answer if truth is None else truth
    number = _number(gold)
    stated = _number(answer)
    if number is not None and stated is not None and abs(number - stated) > TOLERANCE:
        raise UserError(f"A data row has two gold numbers: reward_spec.ground_truth is {quoted(truth)}, and "
                        f"its `answer` {quoted(answer)}. Drop the one that is not meant.")
    if number is None:
        raise UserError("A data row has no gold number: reward_spec.ground_truth or answer is "
                        f"{quoted(gold)} (the row's columns: {named(row)}). GSM8K rows end their `answer` in "
                        "'#### N'.")
    return number


def _number(gold: Any) -> Fraction | None:
    """The number that a gold is, or states behind its last ####."""
    readable = isinstance(gold, str | int | float | decimal.Decimal) and not isinstance(gold, bool)
    return parse_number(str(gold).rsplit("####", 1)[-1]) if readable else None
