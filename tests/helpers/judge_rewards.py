"""What judges' answers are worth, slowly: written from what the rewards mean, in fractions, one comparison at
a time."""
import itertools
from fractions import Fraction


def weighted_sum(weights, scores):
    """Of {criterion: weight} and {criterion: score}, which have the same criteria."""
    assert set(weights) == set(scores)
    total = Fraction(0)
    for criterion in weights:
        total += Fraction(weights[criterion]) * Fraction(scores[criterion])
    return total


def shares_of_wins(count, says):
    """[the share of its comparisons that each of `count` works wins], where each pair is compared twice, once
    in each order, so that a judge who prefers what stands first (or second) gives both the same.

    Args:
      says: (work shown first, work shown second) -> "first", "second" or "tie", which is half a win for each.
    """
    wins = [Fraction(0)] * count
    for first, second in itertools.permutations(range(count), 2):
        said = says(first, second)
        if said == "first":
            wins[first] += 1
        elif said == "second":
            wins[second] += 1
        else:
            assert said == "tie"
            wins[first] += Fraction(1, 2)
            wins[second] += Fraction(1, 2)
    comparisons = 2 * (count - 1)
    return [won / comparisons if comparisons else Fraction(1, 2) for won in wins]


def ranking_rewards(order):
    """[the share of the others that each work stands above], of positions from best to worst; those in the
    same tuple stand equal, which is half above each other. 1 for the best of all, 0 for the worst."""
    place = {}
    for height, tied in enumerate(order):
        for work in tied:
            place[work] = height
    works = sorted(place)
    assert works == list(range(len(works)))
    rewards = []
    for work in works:
        above = Fraction(0)
        for other in works:
            if other != work:
                above += 1 if place[work] < place[other] else Fraction(place[work] == place[other], 2)
        rewards.append(above / (len(works) - 1) if len(works) > 1 else Fraction(1, 2))
    return rewards
