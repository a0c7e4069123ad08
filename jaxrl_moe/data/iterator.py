"""The order of the prompts: shuffled anew each epoch, endless, one for all processes, with a position that
can be saved."""
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import grain
import numpy as np

from jaxrl_moe.data.mixing import Mixing
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
      weights: how several files are mixed, as text; empty: there is one.
    """

    def __init__(self, rows_are: str, rows: Sequence[bytes], seed: int, shuffle: bool = True,
                 weights: str = ""):
        self._rows_are = rows_are
        self._known = {"rows": len(rows), "checksum": _checksum(rows), "seed": seed, "shuffle": shuffle}
        self._known |= {"weights": weights} if weights else {}

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
        saved |= {"weights": fields.string("weights")} if "weights" in fields else {}
        if saved != self._known:
            raise DataError(f"The saved position belongs to another order of {self._rows_are}: "
                            f"{'; '.join(self._differences(saved))}. Resume with the files and settings of "
                            "the first start (the checkpoint's meta folder holds these), or begin a new run "
                            "in another run_dir.")
        return fields.integer("drawn", most=2**53)

    def _differences(self, saved: Mapping[str, Any]) -> Iterator[str]:
        names = {"rows": f"{self._rows_are} that are kept", "seed": "seed", "shuffle": "data.shuffle",
                 "weights": "data.weights"}
        for key, name in names.items():
            then = saved.get(key, "none")
            now = self._known.get(key, "none")
            if then != now:
                yield f"{name}: {then} then, {now} now"
        if saved["checksum"] != self._known["checksum"] and saved["rows"] == self._known["rows"]:
            yield f"as many {self._rows_are}, but with other contents, or in another sequence"


class PromptIterator:
    """Draws prompts for ever, in an order that follows from the seed alone.

    Every process iterates over the same global order and takes its slice of what next_prompts returns, so the
    position is one number for the whole run. Where there are several files, each has an order and epochs of
    its own, and how many of its prompts are among the first ones follows from the weights alone.

    Args:
      prompts: all of them.
      seed: of the shuffles.
      shuffle: whether each epoch is shuffled.
      weights: {name of a file: its weight}, as the prompts name theirs in `env`; empty: there is one file.
    """

    def __init__(self, prompts: Sequence[Prompt], *, seed: int, shuffle: bool = True,
                 weights: Mapping[str, Fraction] | None = None) -> None:
        self._mixing = Mixing(weights or {"": Fraction(1)})
        seeds = np.random.SeedSequence(seed).generate_state(max(1, len(weights or ())))
        files = [[prompt for prompt in prompts if prompt.env == name] for name in weights or ()] or [prompts]
        self._files = [_endless(file, int(of_file) if shuffle else None)
                       for file, of_file in zip(files, seeds, strict=True)]
        self._order = Order("prompts", [_bytes(prompt) for prompt in prompts], seed, shuffle,
                            self._mixing.text if weights else "")
        self._drawn = 0

    def next_prompts(self, count: int) -> list[Prompt]:
        """Returns the next `count` prompts; they may reach over the end of an epoch."""
        first = self._drawn
        self._drawn = first + count
        return [self._prompt(number) for number in range(first, self._drawn)]

    def _prompt(self, number: int) -> Prompt:
        file, place = self._mixing.draw(number)
        return self._files[file][place]

    def state(self) -> dict[str, Any]:
        """Returns the position as JSON-able values: `drawn` prompts so far, and what the order depends on."""
        return self._order.position(self._drawn)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position.

        Raises:
          DataError: the position was saved for another order (other data, seed or shuffle).
        """
        self._drawn = self._order.drawn(state)


def _endless(prompts: Sequence[Prompt], seed: int | None) -> grain.MapDataset:
    """The prompts by number, epoch after epoch, each of these in an order of its own; None: in that of the
    file."""
    dataset = grain.MapDataset.source(prompts)
    if seed is not None:
        # Grain shuffles epoch e with seed + e: these seeds are spread, so that two runs share no epoch.
        dataset = dataset.shuffle(seed=seed)
    return dataset.repeat()


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
