"""Kappas, shares of wins and ranks as they are computed in earnest come to those of the slow ones."""
import collections
import functools
import itertools
import math
import random

import pytest

from jaxrl_moe.judges.agreement.kappa import cohen, fleiss
from jaxrl_moe.judges.comparing import shares, won_both_ways, won_by_order
from jaxrl_moe.judges.queue.queue import Given
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric
from tests.helpers import kappa as slow
from tests.helpers.judge_rewards import ranking_rewards, shares_of_wins, weighted_sum

WON = {"first": 1.0, "second": 0.0, "tie": 0.5}
RUBRIC = Rubric("page", (Criterion("looks", 0.75, "bounded", "d"), Criterion("works", 0.25, "binary", "d")))


def same(found, expected):
    return math.isnan(found) if expected is None else found == pytest.approx(float(expected), abs=1e-12)


def winner(said, every, first, second):
    """Of works by their numbers; equal ones are tied."""
    return said.get((every[first], every[second]), "tie")


def test_kappas_are_the_slow_ones():
    drawn = random.Random(0)
    for table, expected in slow.COHEN:
        assert same(cohen({"kind": slow.answers_of_table(table)}), expected)
    assert round(fleiss({"kind": [dict(enumerate(row)) for row in slow.FLEISS]}), 3) == slow.FLEISS_KAPPA
    for _ in range(200):
        categories = range(drawn.randint(1, 4))
        pairs = [tuple(drawn.choices(categories, k=2)) for _ in range(drawn.randint(1, 20))]
        assert same(cohen({"kind": pairs}), slow.cohens_kappa(pairs)), pairs
        judges = drawn.randint(2, 5)
        answers = [drawn.choices(categories, k=judges) for _ in range(drawn.randint(1, 9))]
        counts = list(map(collections.Counter, answers))
        assert same(fleiss({"kind": counts}), slow.fleiss_kappa(answers)), answers


def test_shares_of_a_models_comparisons_are_the_slow_ones_equal_works_included():
    drawn = random.Random(1)
    for _ in range(100):
        counts = {str(work): drawn.randint(1, 3) for work in range(drawn.randint(2, 5))}
        said = {pair: drawn.choice(list(WON)) for pair in itertools.permutations(counts, 2)}
        every = [name for name, count in counts.items() for _ in range(count)]
        expected = shares_of_wins(len(every), functools.partial(winner, said, every))
        found = shares(counts, won_both_ways({pair: WON[place] for pair, place in said.items()}))
        assert [found[name] for name in every] == pytest.approx(list(map(float, expected)))
        order = drawn.sample(list(counts), len(counts))
        ranks = ranking_rewards([(list(counts).index(name),) for name in order])
        found = shares(dict.fromkeys(counts, 1), won_by_order(order))
        assert list(found.values()) == pytest.approx(list(map(float, ranks)))


@pytest.mark.parametrize("mode", ["pairwise", "ranking"])
@pytest.mark.parametrize("values", [(3, 1, 2, 0), (1, 1, 0, 2), (0, 0, 0, 0)])
def test_what_people_say_of_a_group_becomes_the_slow_rewards(tmp_path, mode, values):
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db")
    queue.add_judge("ada")
    works = [Work("A task.", (f"{number}",), group="group", group_size=4) for number in range(4)]
    items = [queue.put(work, Ask(RUBRIC, mode)) for work in works]
    while (lease := queue.lease("ada", 60.0)) is not None:
        shown = [values[int(work.turns[0])] for work in lease.works]
        order = [tuple(place for place, value in enumerate(shown) if value == level)
                 for level in sorted(set(shown), reverse=True)]
        queue.answer("ada", lease.token, Given(order=tuple(order)))
    found = [queue.state(item).verdict.reward for item in items]
    queue.close()
    levels = sorted(set(values), reverse=True)
    tiers = [[work for work in range(4) if values[work] == level] for level in levels]
    assert found == pytest.approx(list(map(float, ranking_rewards(tiers))))


def test_what_people_say_of_a_work_becomes_the_slow_sum_of_their_means(tmp_path):
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", overlap=2)
    said = {"ada": {"looks": 0.25, "works": 1}, "bob": {"looks": 0.75, "works": 0}}
    item = queue.put(Work("A task.", ("an answer",)), Ask(RUBRIC))
    for judge, scores in said.items():
        queue.add_judge(judge)
        assert queue.state(item).verdict is None
        queue.answer(judge, queue.lease(judge, 60.0).token, Given((scores,)))
    weights = {each.id: each.weight for each in RUBRIC.criteria}
    means = {name: sum(scores[name] for scores in said.values()) / 2 for name in weights}
    assert queue.state(item).verdict.reward == pytest.approx(float(weighted_sum(weights, means)))
    queue.close()
