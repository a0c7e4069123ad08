r"""GSM8K: the final number of a completion against the gold, with a bonus for a marker and a penalty for
length.

The number is looked for in this order: the last \boxed{...}, the last "Final Answer:", the last ####, the
last number.
"""
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.numbers import find_numbers, parse_number, plain
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.types import Action, Step, UserError

TOLERANCE = 1e-6
MARKER_BONUS = 0.05
OVERLONG_PENALTY = 0.05
_MARKER = re.compile(r"####|\\boxed|final\s+answer", re.IGNORECASE)
_FINAL_ANSWER = re.compile(r"final\s+answer[\s*_]*(?::|=|\bis\b\s*:?)[\s*_]*([^\n]*)", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t*]*([^\n]*)")
_BOXED = re.compile(r"\\boxed\s*")
_BOX_LENGTH = 200  # characters looked at for the closing brace


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
        if self.overlong_tokens < 0:
            raise UserError(f"overlong_tokens = {self.overlong_tokens} is out of range: it must be at least "
                            "0.")
        if self.binary and self.overlong_tokens:
            raise UserError(f"overlong_tokens = {self.overlong_tokens} charges long completions, and "
                            "binary = true charges nothing: set one of them.")

    @property
    def lowest_reward(self) -> float:
        """That of a wrong answer that is over-long."""
        return 0.0 if self.binary else -OVERLONG_PENALTY

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row without a gold number."""
        gold_number(row)

    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        """Scores one completion; only the completion is looked at, never the prompt.

        Raises:
          UserError: the row has no gold number.
        """
        gold = gold_number(row)
        answer = final_number(action.text)
        correct = answer is not None and abs(answer - gold) <= TOLERANCE
        marker = bool(_MARKER.search(action.text))
        overlong = action.truncated or 0 < self.overlong_tokens < action.num_tokens
        reward = correct + (0.0 if self.binary else MARKER_BONUS * marker - OVERLONG_PENALTY * overlong)
        return Step(float(reward), info={
            "correct": float(correct), "marker": float(marker), "overlong": float(overlong),
            "answered": float(answer is not None)})


def gold_number(row: Mapping[str, Any]) -> float:
    """Returns a row's gold: reward_spec.ground_truth, or what follows #### in `answer`, or `answer` itself.

    Raises:
      UserError: none of them is one number.
    """
    spec = row.get("reward_spec")
    gold = spec.get("ground_truth") if isinstance(spec, Mapping) else None
    gold = row.get("answer") if gold is None else gold
    number = None if gold is None else parse_number(str(gold).rsplit("####", 1)[-1].strip())
    if number is None:
        raise UserError(f"A data row has no gold number: reward_spec.ground_truth or answer is {gold!r} (the "
                        f"row's columns: {', '.join(row)}). GSM8K rows end their `answer` in '#### N'.")
    return number


def final_number(completion: str) -> float | None:
    """Returns the number that a completion gives as its answer, or None."""
    for candidates in (_boxed(completion), _final_answers(completion), _after_hashes(completion)):
        if candidates:
            return candidates[-1]
    numbers = find_numbers(plain(completion))
    return numbers[-1][0] if numbers else None


def _boxed(text: str) -> list[float]:
    r"""The numbers in \boxed{...}, braces balanced; an equation gives its right side."""
    contents = (_braced(text[match.end():match.end() + _BOX_LENGTH]) for match in _BOXED.finditer(text))
    numbers = (parse_number(content.rsplit("=", 1)[-1]) for content in contents)
    return [number for number in numbers if number is not None]


def _braced(text: str) -> str:
    """The content of the braces that `text` begins with; its first word where none open there or they never
    close."""
    depth = 0
    for position, character in enumerate(text if text.startswith("{") else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[1:position]
    return (text.split() or [""])[0]


def _final_answers(text: str) -> list[float]:
    """The first number of each line that "Final Answer:" begins; of an equation, the first of its right
    side."""
    lines = (plain(match[1]).rsplit("=", 1)[-1] for match in _FINAL_ANSWER.finditer(text))
    return [numbers[0][0] for line in lines if (numbers := find_numbers(line))]


def _after_hashes(text: str) -> list[float]:
    """The numbers that directly follow ####, so that a heading such as '#### Step 1' is none."""
    lines = (plain(match[1]) for match in _HASHES.finditer(text))
    return [numbers[0][0] for line in lines
            if (numbers := find_numbers(line)) and not re.search(r"[^\s$(*]", line[:numbers[0][1]])]
