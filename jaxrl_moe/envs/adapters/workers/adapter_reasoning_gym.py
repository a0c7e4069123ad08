"""Asks and scores puzzles of reasoning-gym. Only an exact answer has a reward."""
import re
from typing import Any

import reasoning_gym
from adapter_harmless import FORMULAS, LITERALS, OWN, Guard, Late, harmless
from reasoning_gym.factory import DATASETS
from worker_loop import Refused, serve

GUARD = Guard()


def score(dataset: str, data: Any, answer: str, entry: dict[str, Any], seconds: float) -> tuple[float, str]:
    """(the scorer's score, why it was not asked or failed; empty: it was)."""
    if not harmless(dataset, answer):
        return 0.0, "refused"
    try:
        with GUARD.watching(dataset in (*FORMULAS, *LITERALS, *OWN), seconds):
            value = float(data.score_answer(answer, entry))
    except Late:
        return 0.0, "late"
    except Exception as error:  # some break at answers that they do not expect, which are no right ones
        return 0.0, "refused" if GUARD.tripped else f"the scorer broke: {type(error).__name__}"
    return (0.0, "refused") if GUARD.tripped else (value, "")


def is_exact(dataset: str, value: float, answer: str, entry: dict[str, Any]) -> bool:
    """Whether a score is the full one, and stands for a right answer."""
    if dataset == "game_of_life_halting":  # whose scorer takes any answer for right
        return answer.strip() == str(entry["answer"])
    return value >= 1 and (dataset != "puzzle24" or _has_its_numbers(answer, entry))


def _has_its_numbers(answer: str, entry: dict[str, Any]) -> bool:
    """The scorer of puzzle24 asks for any four numbers of its range, such as 6*4*1*1."""
    used = sorted(map(int, re.findall(r"\d+", answer)))
    return used == sorted(entry["metadata"]["numbers"])


class ReasoningGym:
    """One data set."""

    def begin(self, dataset: str, options: dict[str, Any], seed: int, size: int,
              seconds: float) -> dict[str, Any]:
        if dataset not in DATASETS:
            known = ", ".join(sorted(DATASETS))
            raise Refused(f"reasoning-gym has no data set {dataset!r}. It has {known}.")
        try:
            self._data = reasoning_gym.create_dataset(dataset, seed=seed, size=size, **options)
        except Exception as error:
            raise Refused(f"reasoning-gym refuses options = {options} of {dataset}: {type(error).__name__}: "
                          f"{error}") from error
        self._dataset = dataset
        self._seconds = seconds
        return {"size": len(self._data)}

    def open(self, number: int) -> "Puzzle":
        if number >= len(self._data):
            raise Refused(f"There is no puzzle {number}: {self._dataset} has {len(self._data)}, numbered "
                          "from 0.")
        return Puzzle(self._dataset, self._data, self._data[number], self._seconds)


class Puzzle:
    """One question."""

    def __init__(self, dataset: str, data: Any, entry: dict[str, Any], seconds: float):
        self._dataset = dataset
        self._data = data
        self._entry = entry
        self._seconds = seconds

    def reset(self) -> dict[str, Any]:
        return {"observation": [self._entry["question"]]}

    def step(self, answer: str) -> dict[str, Any]:
        value, failed = score(self._dataset, self._data, answer, self._entry, self._seconds)
        exact = float(is_exact(self._dataset, value, answer, self._entry))
        return {"reward": exact, "done": True, "valid": not failed,
                "info": {"correct": exact, "score": value},
                "notes": {"scoring": failed} if failed else {}}

    def close(self) -> None:
        """There is nothing to free."""


if __name__ == "__main__":
    serve(ReasoningGym())
