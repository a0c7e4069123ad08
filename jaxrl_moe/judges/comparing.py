"""How comparisons of works become rewards."""
from collections.abc import Callable, Iterable, Mapping


def shares(counts: Mapping[str, int], won: Callable[[str, str], float]) -> dict[str, float]:
    """The share of the other works that each work beats; a tie is half a win, as between equal works.

    For a strict order of G works this is (G - 1 - rank) / (G - 1).

    Args:
      counts: {work: how many works are equal to it, itself included}, of at least two works.
      won: what the first of two different works has of the comparison with the second, from 0 to 1.
    """
    return {work: share({other: won(work, other) for other in counts if other != work}, counts, work)
            for work in counts}


def share(won: Mapping[str, float], counts: Mapping[str, int], work: str) -> float:
    """The share of the other works that one beats; see shares().

    Args:
      won: what it has of the comparison with each different work; others are left out.
      counts: of all of these, and of the work itself.
    """
    equal = counts[work] - 1
    wins = sum(counts[other] * each for other, each in won.items())
    return (wins + equal / 2) / (sum(counts[other] for other in won) + equal)


def won_both_ways(shown_first: Mapping[tuple[str, str], float]) -> Callable[[str, str], float]:
    """`won` of comparisons of each pair in both orders, so that a judge who prefers a place sees all works
    tied.

    Args:
      shown_first: {(first, second): what the one that was shown first has of it: 1, 1/2 for a tie, or 0}.
    """
    return lambda work, other: (shown_first[work, other] + 1 - shown_first[other, work]) / 2


def won_by_order(best_first: Iterable[str]) -> Callable[[str, str], float]:
    """`won` of an order without ties."""
    rank = {work: number for number, work in enumerate(best_first)}
    return lambda work, other: float(rank[work] < rank[other])
