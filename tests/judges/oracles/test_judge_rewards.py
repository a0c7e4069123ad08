"""The slow rewards come to what was worked out by hand, and agree with each other."""
import itertools
from fractions import Fraction

import pytest

from jaxrl_moe.judges.rubric import Criterion, Rubric
from tests.helpers.judge_rewards import ranking_rewards, shares_of_wins, weighted_sum

HALF = Fraction(1, 2)


def judge_of(values, ties=()):
    """Prefers the larger value, whatever the order; `ties` are pairs that it cannot tell apart."""
    def says(first, second):
        if {first, second} in ties or values[first] == values[second]:
            return "tie"
        return "first" if values[first] > values[second] else "second"
    return says


def test_a_rubrics_sum_worked_out_by_hand():
    weights = {"works": 0.5, "looks": 0.25, "brief": 0.25}
    scores = {"works": 1, "looks": 0.5, "brief": 0}
    assert weighted_sum(weights, scores) == Fraction(5, 8)
    rubric = Rubric("r", tuple(Criterion(name, weight, "bounded", "d") for name, weight in weights.items()))
    assert rubric.total(rubric.checked(scores)) == 0.625


@pytest.mark.parametrize("weights", itertools.product((0.1, 0.3, 1.0), repeat=3))
def test_the_rubrics_total_is_the_sum_of_fractions(weights):
    names = ("a", "b", "c")
    given = dict(zip(names, weights))
    scores = {"a": 1.0, "b": 0.7, "c": 0.1}
    rubric = Rubric("r", tuple(Criterion(name, given[name], "bounded", "d") for name in names))
    assert rubric.total(scores) == pytest.approx(float(weighted_sum(given, scores)), rel=1e-15)


def test_shares_of_wins_worked_out_by_hand():
    assert shares_of_wins(3, judge_of([3, 1, 2])) == [1, 0, HALF]
    assert shares_of_wins(2, judge_of([1, 1])) == [HALF, HALF]
    # 0 beats 1 and ties 2, 2 beats 1: of four comparisons each 3, 0 and 3
    assert shares_of_wins(3, judge_of([2, 0, 1], ties=[{0, 2}])) == [Fraction(3, 4), 0, Fraction(3, 4)]
    assert shares_of_wins(1, None) == [HALF]


@pytest.mark.parametrize("always", ["first", "second"])
def test_a_judge_who_looks_at_the_order_alone_tells_nobody_apart(always):
    assert shares_of_wins(5, lambda first, second: always) == [HALF] * 5


def test_a_judge_who_prefers_what_stands_first_where_he_is_unsure_makes_ties():
    values = [3, 2, 2]

    def says(first, second):
        return "second" if values[second] > values[first] else "first"
    quarter = Fraction(1, 4)
    assert shares_of_wins(3, says) == shares_of_wins(3, judge_of(values)) == [1, quarter, quarter]


def test_ranks_worked_out_by_hand():
    assert ranking_rewards(((1,), (0, 2))) == [Fraction(1, 4), 1, Fraction(1, 4)]
    assert ranking_rewards(((0,), (1,), (2,), (3,))) == [1, Fraction(2, 3), Fraction(1, 3), 0]
    assert ranking_rewards(((0, 1, 2),)) == [HALF] * 3 and ranking_rewards(((0,),)) == [HALF]


@pytest.mark.parametrize("values", itertools.product((0, 1, 2), repeat=4))
def test_a_judge_of_one_mind_gives_pairs_and_ranks_the_same(values):
    order = tuple(tuple(work for work in range(4) if values[work] == value)
                  for value in sorted(set(values), reverse=True))
    rewards = ranking_rewards(order)
    assert rewards == shares_of_wins(4, judge_of(values))
    assert sum(rewards) == 2  # a mean of one half: what one wins another loses
