"""Kappas: textbook values, and what slow loops over pairs and permutations say."""
import collections
import itertools
import math
import random

import pytest

from jaxrl_moe.judges.agreement.kappa import binned, by_pair, cohen, counted, fleiss


def test_cohen_as_in_the_textbook():
    # 50 grant proposals: 20 both yes, 5 only the first, 10 only the second, 15 both no
    chosen = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen({"grant": chosen}) == pytest.approx(0.4)


def test_fleiss_as_in_the_textbook():
    # ten subjects, 14 raters, five categories; kappa is 0.210 there
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
             [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    counts = [dict(enumerate(row)) for row in table]
    assert fleiss({"subject": counts}) == pytest.approx(0.210, abs=5e-4)


def slow_cohen(kinds):
    """Chance as the share of all pairs (a unit of one judge, a unit of the other) that agree."""
    above = possible = 0.0
    for chosen in kinds.values():
        everywhere = list(itertools.product([one for one, _ in chosen], [other for _, other in chosen]))
        chance = sum(one == other for one, other in everywhere) / len(everywhere)
        above += sum((one == other) - chance for one, other in chosen)
        possible += len(chosen) * (1 - chance)
    return above / possible


def slow_fleiss(opinions):
    """Agreement over ordered pairs of judges of a unit, chance over ordered pairs of all opinions."""
    above = possible = 0.0
    kinds = {kind for kind, _ in opinions}
    for kind in kinds:
        units = [list(chosen.values()) for (other, _), chosen in opinions.items()
                 if other == kind and len(chosen) > 1]
        agreed = [sum(a == b for a, b in itertools.permutations(unit, 2))
                  / sum(1 for _ in itertools.permutations(unit, 2)) for unit in units]
        pool = list(itertools.chain(*units))
        chance = sum(a == b for a, b in itertools.product(pool, pool)) / len(pool)**2
        above += sum(share - chance for share in agreed)
        possible += len(units) * (1 - chance)
    return above / possible


@pytest.mark.parametrize("seed", range(5))
def test_kappas_over_kinds_agree_with_slow_loops(seed):
    dice = random.Random(seed)
    opinions = {(kind, unit): {judge: dice.choices(range(3), (5, 2, kind + 1))[0] for judge in "abcd"
                               if dice.random() < 0.7} for kind in range(2) for unit in range(12)}
    pairs = by_pair(opinions)
    assert set(pairs) == set(itertools.combinations("abcd", 2))
    for kinds in pairs.values():
        assert cohen(kinds) == pytest.approx(slow_cohen(kinds))
    assert fleiss(counted(opinions)) == pytest.approx(slow_fleiss(opinions))


def test_kinds_do_not_lend_each_other_chance():
    alone = [(0, 0)] * 5 + [(0, 1)] * 5 + [(1, 0)] * 5 + [(1, 1)] * 5
    assert cohen({"one": alone}) == cohen({"one": alone, "two": [(7, 7)] * 9}) == 0
    pooled = collections.defaultdict(list, {"all": alone + [(7, 7)] * 9})
    assert cohen(pooled) > 0.3


def test_where_chance_agrees_on_all_there_is_no_kappa():
    assert math.isnan(cohen({})) and math.isnan(fleiss({}))
    assert math.isnan(cohen({"one": [(1, 1)] * 4})) and math.isnan(fleiss({"one": [{1: 3}]}))
    assert cohen({"one": [(0, 1), (1, 0)]}) == -1


def test_bounded_scores_fall_into_five_bins():
    scores = (0, 0.19, 0.2, 0.3, 0.4, 0.6, 0.8, 0.1 + 0.7, 1)
    assert [binned(score) for score in scores] == [0, 0, 1, 1, 2, 3, 4, 4, 4]
