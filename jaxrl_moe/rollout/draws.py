"""Which prompts are drawn next, and under which draw numbers: those that an earlier start left unfinished
come first."""
import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.types import Prompt

Numbered = tuple[Prompt, int]  # a prompt and its draw number, which with the seed decides its noise


class Draws:
    """Hands out prompts with their draw numbers. Not thread-safe.

    Args:
      data: the order of the prompts.
      prompts: all of them.
    """

    def __init__(self, data: PromptIterator, prompts: Sequence[Prompt]):
        self._data = data
        self._number = 0
        self._again = []
        self._prompts = {prompt.index: prompt for prompt in prompts}

    def take(self, count: int) -> list[Numbered]:
        """The next `count` prompts: what was given back, in order of the draw numbers, then new ones."""
        again = self._again[:count]
        self._again = self._again[count:]
        fresh = self._data.next_prompts(count - len(again))
        first = self._number
        self._number = self._number + len(fresh)
        return [(self._prompts[index], sequence)
                for sequence, index in again] + list(zip(fresh, range(first, self._number)))

    def give_back(self, prompt: Prompt, sequence: int) -> None:
        """To be drawn again, under its own number."""
        bisect.insort(self._again, (sequence, prompt.index))

    def position(self, unfinished: Iterable[Numbered] = ()) -> dict[str, Any]:
        """Fields of checkpoint.Progress; `unfinished` are those taken that a resumed run shall draw again."""
        numbers = [*self._again, *((sequence, prompt.index) for prompt, sequence in unfinished)]
        unfinished = [list(pair) for pair in sorted(numbers)]
        return {"sequence": self._number, "data": self._data.state(), "unfinished": unfinished}

    def restore(self, position: Mapping[str, Any]) -> None:
        """Goes to a saved position. Raises DataError if it belongs to another order of prompts."""
        self._data.restore(position["data"])
        self._number = position["sequence"]
        self._again = sorted(map(tuple, position["unfinished"]))
