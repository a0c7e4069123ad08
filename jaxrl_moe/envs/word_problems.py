"""Generated word problems: the completion must end in exactly `#### N`."""
import re
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.types import Grade, UserError

_ANSWER = re.compile(r"#### (-?\d+)\s*")


class WordProblemsEnv:
    """Reward 1 if what follows the first #### is the row's `answer` and nothing else, otherwise 0."""
    lowest_reward = 0.0

    def grade(self, row: Mapping[str, Any], completion: str, num_tokens: int, truncated: bool) -> Grade:
        """Scores one completion against the row's `answer`, an integer.

        Raises:
          UserError: the row has no integer `answer`.
        """
        gold = row.get("answer")
        if not isinstance(gold, int):
            raise UserError(f"A row of the word problems needs an integer `answer`, but has {gold!r} (columns: "
                            f"{', '.join(row)}).")
        start = completion.find("####")
        answer = _ANSWER.fullmatch(completion, start) if start >= 0 else None
        correct = answer is not None and int(answer[1]) == gold
        return Grade(float(correct), {"correct": float(correct), "answered": float(answer is not None)})
