"""The order of the prompts: shuffled anew each epoch, endless, one for all processes, with a position that
can be saved."""
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxrl_moe.data.rows import DataError
from jaxrl_moe.types import Prompt


class PromptIterator:
    """Draws prompts for ever, in an order that follows from the seed alone.

    Every process iterates over the same global order and takes its slice of what next_prompts returns, so the
    position is one number for the whole run.
    """

    def __init__(self, prompts: Sequence[Prompt], *, seed: int, shuffle: bool = True) -> None:
        dataset = grain.MapDataset.source(prompts)
        if shuffle:
            # Grain shuffles epoch e with seed + e: spread the seeds, so that two runs share no epoch.
            dataset = dataset.shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # the prompts lie in memory
        self._iterator = iter(dataset.repeat().to_iter_dataset(options))
        self._order = {
            "prompts": len(prompts),
            "checksum": _checksum(prompts),
            "seed": seed,
            "shuffle": shuffle
        }

    def next_prompts(self, count: int) -> list[Prompt]:
        """Returns the next `count` prompts; they may reach over the end of an epoch."""
        return [next(self._iterator) for _ in range(count)]

    def state(self) -> dict[str, Any]:
        """Returns the position as JSON-able values: `drawn` prompts so far, and what the order depends on."""
        return {"drawn": int(self._iterator.get_state()["next_index"]), **self._order}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position.

        Raises:
          DataError: the position was saved for another order (other data, seed or shuffle).
        """
        saved = {key: state.get(key) for key in self._order}
        if saved != self._order:
            raise DataError(f"The saved data position belongs to another order of prompts: it was {saved}, "
                            f"now it is {self._order}. Resume with the data, seed and data.shuffle of the "
                            "first start, or begin a new run in another run_dir.")
        self._iterator.set_state({"next_index": int(state["drawn"])})


def _checksum(prompts: Sequence[Prompt]) -> int:
    """A number that changes with any token of any prompt, and with their order."""
    value = 0
    for prompt in prompts:
        value = zlib.crc32(np.asarray(prompt.ids, np.int32).tobytes() + b"|", value)
    return value
