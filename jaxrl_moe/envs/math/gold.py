"""The answer of a row of mathematics, in the columns that its data sets have."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.answers import last_box
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import UserError

_NESTED = ("reward_model", "reward_spec")  # of DAPO-17k, of SkyRL: {"ground_truth": ...}
_COLUMNS = ("answer", "Answer")            # of MATH-500 and AIME


def gold_answer(row: Mapping[str, Any]) -> str:
    r"""Returns a row's answer: reward_model.ground_truth (DAPO-17k), reward_spec.ground_truth, `answer`
    (AIME, MATH-500), or the last \boxed{...} of `solution` (MATH). Where an answer has a box, what is in it.

    Raises:
      UserError: it has none.
    """
    nested = [row[name].get("ground_truth") for name in _NESTED if isinstance(row.get(name), Mapping)]
    given = [value for value in (*nested, *(row.get(name) for name in _COLUMNS)) if value is not None]
    solution = row.get("solution")
    if not given and isinstance(solution, str):
        given = [last_box(solution)]
    gold = _text(given[0]) if given else ""
    if not gold:
        raise UserError("A row of mathematics has no answer: reward_model.ground_truth, answer, or a "
                        "\\boxed{...} in solution is needed, and it has "
                        f"{quoted(given[0] if given else None)} (columns: {named(row)}).")
    return gold


def _text(value: Any) -> str:
    """An answer as a text; empty for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value).strip()
    box = last_box(text)
    return (text.strip("$") if box is None else box).strip()
