"""Comparisons of works become rewards: against loops over all pairs and ranks."""
import itertools
import random
from collections import Counter

import pytest

from jaxrl_moe.judges.comparing import shares, won_both_ways, won_by_order


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_an_order_gives_the_share_of_works_that_are_worse(count):
    names = [str(number) for number in range(count)]
    order = random.Random(count).sample(names, count)
    rewards = shares(dict.fromkeys(names, 1), won_by_order(order))
    for rank, name in enumerate(order):
        assert rewards[name] == pytest.approx((count - 1 - rank) / (count - 1), abs=1e-15)


def test_a_judge_who_always_prefers_the_first_or_the_second_says_nothing():
    names = "abcd"
    for bias in (0.0, 1.0):
        shown = dict.fromkeys(itertools.permutations(names, 2), bias)
        assert shares(dict.fromkeys(names, 1), won_both_ways(shown)) == dict.fromkeys(names, 0.5)


def test_shares_are_those_of_a_loop_over_all_members_among_which_some_are_equal():
    draws = random.Random(5)
    for _ in range(50):
        members = draws.choices("abcde", k=draws.randint(2, 9))
        if len(set(members)) == 1:
            continue
        shown = {pair: draws.choice((0.0, 0.5, 1.0)) for pair in itertools.permutations(set(members), 2)}
        rewards = shares(Counter(members), won_both_ways(shown))
        for at, own in enumerate(members):
            total = 0.0
            for other_at, other in enumerate(members):
                if other_at != at:
                    total += 0.5 if own == other else (shown[own, other] + 1 - shown[other, own]) / 2
            assert rewards[own] == pytest.approx(total / (len(members) - 1), abs=1e-12)
        assert sum(rewards[own] for own in members) == pytest.approx(len(members) / 2)


def test_works_that_are_all_equal_share_the_middle():
    assert shares({"a": 4}, won_by_order([])) == {"a": 0.5}
