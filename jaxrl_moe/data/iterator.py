"""The order of the prompts: shuffled anew each epoch, endless, one for all processes, with a position that
can be saved."""
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxrl_moe.data.rows import DataError
from jaxrl_moe.outside import Fields
from jaxrl_moe.types import Prompt


class Order:
    """An endless order of rows that follows from the rows and a seed: what a position in it means.

    Args:
      rows_are: what the rows are, for messages, such as "prompts".
      rows: the bytes of each; a position is refused where they are others.
      seed: of the shuffles.
      shuffle: whether each epoch is shuffled.
    """

    def __init__(self, rows_are: str, rows: Sequence[bytes], seed: int, shuffle: bool = True):
        self._rows_are = rows_are
        self._known = {"rows": len(rows), "checksum": _checksum(rows), "seed": seed, "shuffle": shuffle}

    def position(self, drawn: int) -> dict[str, Any]:
        """JSON of a position: rows drawn so far, and what the order depends on."""
        return {"drawn": drawn, **self._known}

    def drawn(self, position: Mapping[str, Any] | None) -> int:
        """The rows drawn at a position that `position` gave.

        Raises:
          DataError: it was saved for another order, or is damaged.
        """
        fields = Fields(position or {}, f"the saved position in the {self._rows_are}")
        saved = {"rows": fields.integer("rows"), "checksum": fields.integer("checksum", most=2**32 - 1),
                 "seed": fields.integer("seed"), "shuffle": fields.boolean("shuffle")}
        if saved != self._known:
            raise DataError(f"The saved position belongs to another order of {self._rows_are}: "
                            f"{'; '.join(self._differences(saved))}. Resume with the files and settings of "
                            "the first start (the checkpoint's meta folder holds these), or begin a new run "
                            "in another run_dir.")
        return fields.integer("drawn", most=2**53)

    def _differences(self, saved: Mapping[str, Any]) -> Iterator[str]:
        names = {"rows": f"{self._rows_are} that are kept", "seed": "seed", "shuffle": "data.shuffle"}
        for key, name in names.items():
            if saved[key] != self._known[key]:
                yield f"{name}: {saved[key]} then, {self._known[key]} now"
        if saved["checksum"] != self._known["checksum"] and saved["rows"] == self._known["rows"]:
            yield f"as many {self._rows_are}, but with other contents, or in another sequence"


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
        self._order = Order("prompts", [_bytes(prompt) for prompt in prompts], seed, shuffle)

    def next_prompts(self, count: int) -> list[Prompt]:
        """Returns the next `count` prompts; they may reach over the end of an epoch."""
        return [next(self._iterator) for _ in range(count)]

    def state(self) -> dict[str, Any]:
        """Returns the position as JSON-able values: `drawn` prompts so far, and what the order depends on."""
        return self._order.position(int(self._iterator.get_state()["next_index"]))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position.

        Raises:
          DataError: the position was saved for another order (other data, seed or shuffle).
        """
        self._iterator.set_state({"next_index": self._order.drawn(state)})


def _bytes(prompt: Prompt) -> bytes:
    """Its tokens, and the row that grades are given by."""
    row = json.dumps(prompt.row, sort_keys=True, default=str)
    return np.asarray(prompt.ids, np.int32).tobytes() + row.encode(errors="surrogatepass")


def _checksum(rows: Sequence[bytes]) -> int:
    """A number that changes with any byte of any row, and with their order."""
    value = 0
    for row in rows:
        value = zlib.crc32(row + b"|", value)
    return value
