"""How far judges agree: Cohen's and Fleiss' kappa.

An opinion is a category that a judge chose for a unit, such as a criterion of a work. Units of unlike kinds,
as binary and bounded scores, differ in what chance agrees on, so that chance is reckoned for each kind by
itself: kappa = sum of (observed - chance) / sum of (1 - chance) over the kinds, each with as many units as it
has. With one kind this is the kappa of the books.
"""
import collections
import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

BINS = 5  # of a bounded score: [0, 0.2), [0.2, 0.4), ..., [0.8, 1]

Opinions = Mapping[tuple[Hashable, Hashable], Mapping[str, Hashable]]  # (kind, unit) -> judge -> category


def binned(score: float) -> int:
    """The category of a bounded score."""
    return min(int(score * BINS + 1e-9), BINS - 1)


def cohen(pairs: Mapping[Hashable, Sequence[tuple[Hashable, Hashable]]]) -> float:
    """Cohen's kappa (1960) of two judges; NaN where chance alone agrees on all, or there is nothing.

    Args:
      pairs: of each kind, the categories that both chose for a unit.
    """
    return _kappa((len(chosen), _share(one == other for one, other in chosen), _chance(chosen))
                  for chosen in pairs.values() if chosen)


def fleiss(counts: Mapping[Hashable, Sequence[Mapping[Hashable, int]]]) -> float:
    """Fleiss' kappa (1971) of any judges, where units may have unlike numbers of them, at least two; NaN as
    with cohen().

    Args:
      counts: of each kind and unit, how many judges chose each category.
    """
    return _kappa((len(units), sum(map(_agreed, units)) / len(units), _pooled_chance(units))
                  for units in counts.values() if units)


def by_pair(opinions: Opinions) -> dict[tuple[str, str], dict[Hashable, list[tuple[Hashable, Hashable]]]]:
    """Of each pair of judges with common units, what cohen() takes."""
    found: dict = collections.defaultdict(lambda: collections.defaultdict(list))
    for (kind, _), chosen in opinions.items():
        for one, other in itertools.combinations(sorted(chosen), 2):
            found[one, other][kind].append((chosen[one], chosen[other]))
    return found


def counted(opinions: Opinions) -> dict[Hashable, list[Mapping[Hashable, int]]]:
    """What fleiss() takes; units of one judge say nothing."""
    found: dict = collections.defaultdict(list)
    for (kind, _), chosen in opinions.items():
        if len(chosen) > 1:
            found[kind].append(collections.Counter(chosen.values()))
    return found


def _kappa(kinds: Iterable[tuple[int, float, float]]) -> float:
    """From (units, observed agreement, agreement by chance) of each kind."""
    kinds = list(kinds)
    above = math.fsum(units * (observed - chance) for units, observed, chance in kinds)
    possible = math.fsum(units * (1 - chance) for units, _, chance in kinds)
    return above / possible if possible > 1e-12 else math.nan


def _share(true: Iterable[bool]) -> float:
    listed = list(true)
    return sum(listed) / len(listed)


def _chance(chosen: Sequence[tuple[Hashable, Hashable]]) -> float:
    """That two judges with these habits agree on a unit neither looked at."""
    one = collections.Counter(first for first, _ in chosen)
    other = collections.Counter(second for _, second in chosen)
    return sum(count * other[category] for category, count in one.items()) / len(chosen)**2


def _agreed(unit: Mapping[Hashable, int]) -> float:
    """The share of pairs of judges who agree on a unit."""
    judges = sum(unit.values())
    return sum(count * (count - 1) for count in unit.values()) / (judges * (judges - 1))


def _pooled_chance(units: Sequence[Mapping[Hashable, int]]) -> float:
    pooled: collections.Counter = collections.Counter()
    for unit in units:
        pooled.update(unit)
    return sum(count**2 for count in pooled.values()) / pooled.total()**2
