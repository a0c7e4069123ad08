"""Metrics of an update, each with what makes one number of several: of the micro-batches of an update, and of
the updates of a step.

A metric says how it merges where it is made; nothing follows from how it is called.
"""
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Array = Any


class Merge(enum.Enum):
    """How values become one. Over micro-batches all but MAXIMUM add up: each holds its share of the
    minibatch's."""
    TOKEN_MEAN = "a mean over trained tokens: updates weigh by theirs"
    VALUE_MEAN = "a mean over the critic's trained values: updates weigh by theirs"
    UPDATE_MEAN = "one number an update, such as a loss or a norm: updates weigh alike"
    MAXIMUM = "the largest of all"
    LAST = "what the last update had"
    SUM = "a count, in float64"
    UNLOGGED = "a flag of one update, which no row holds"


@jax.tree_util.register_pytree_with_keys_class
class Metrics(Mapping[str, Array]):
    """Values by name, and how each merges. A pytree of the values; names and merging are static.

    Args:
      merge: of all values.
      values: by name.
    """

    def __init__(self, merge: Merge, values: Mapping[str, Array]):
        self._values: dict[str, Array] = dict(values)
        self._merges: dict[str, Merge] = dict.fromkeys(values, merge)

    @classmethod
    def empty(cls) -> "Metrics":
        return cls(Merge.UNLOGGED, {})

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def merge(self, name: str) -> Merge:
        return self._merges[name]

    def __or__(self, other: "Metrics") -> "Metrics":
        """Both; of a name that both have the other's value.

        Raises:
          TypeError: the other does not say how it merges.
          ValueError: they merge one name in two ways.
        """
        if not isinstance(other, Metrics):
            names = ", ".join(map(str, other))
            raise TypeError(f"{names}: a metric says how it merges, as in Metrics(Merge.TOKEN_MEAN, values).")
        for name in self._merges.keys() & other._merges.keys():
            if self.merge(name) is not other.merge(name):
                both = f"{self.merge(name).name} and as {other.merge(name).name}"
                raise ValueError(f"Metric {name!r} merges as {both}: which is it?")
        return self._made(self._values | other._values, self._merges | other._merges)

    def only(self, *merges: Merge) -> "Metrics":
        """Those that merge in one of these ways."""
        kept = {name: merge for name, merge in self._merges.items() if merge in merges}
        return self._made({name: self._values[name] for name in kept}, kept)

    def without(self, *merges: Merge) -> "Metrics":
        return self.only(*(merge for merge in Merge if merge not in merges))

    @classmethod
    def _made(cls, values: dict[str, Array], merges: dict[str, Merge]) -> "Metrics":
        made = cls.empty()
        made._values = values
        made._merges = merges
        return made

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Array]], tuple[tuple[str, Merge], ...]]:
        kinds = tuple(sorted(self._merges.items(), key=lambda item: item[0]))
        return [(jax.tree_util.DictKey(name), self._values[name]) for name, _ in kinds], kinds

    @classmethod
    def tree_unflatten(cls, kinds: tuple[tuple[str, Merge], ...], values: Sequence[Array]) -> "Metrics":
        return cls._made({name: value for (name, _), value in zip(kinds, values)}, dict(kinds))


def merged(updates: Sequence[Metrics], tokens: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """One value a name, of the metrics of several updates, on the host.

    Args:
      updates: all have the same metrics.
      tokens, values: trained tokens, and a critic's trained values, of each update.

    Raises:
      TypeError: an update's numbers do not say how they merge.
      ValueError: two updates have other metrics, or merge one in two ways.
    """
    first = updates[0]
    for update in updates:
        if not isinstance(update, Metrics):
            kind = type(update).__name__
            raise TypeError(f"An update returned a {kind} in place of Metrics, which say how they merge.")
        if update._merges != first._merges:
            other = sorted(update._merges.items() ^ first._merges.items(), key=str)
            raise ValueError(f"Updates of one step differ in {other}.")
    return {name: _merged(first.merge(name), [update[name] for update in updates], tokens, values)
            for name in first.without(Merge.UNLOGGED)}


def _merged(merge: Merge, column: Sequence[Array], tokens: Sequence[float], values: Sequence[float]) -> Any:
    if merge is Merge.SUM:
        return sum(np.asarray(value, np.float64) for value in column)
    numbers = [float(value) for value in column]
    if merge is Merge.MAXIMUM:
        return max(numbers)
    if merge is Merge.LAST:
        return numbers[-1]
    weights = {Merge.TOKEN_MEAN: tokens, Merge.VALUE_MEAN: values, Merge.UPDATE_MEAN: None}[merge]
    return float(np.average(numbers, weights=weights))
