"""Works of a group that people compare: pairs, rankings, equal works. In both databases."""
import dataclasses

import pytest

from jaxrl_moe.judges.queue.queue import Given
from tests.helpers.judged import (
    MINUTES,
    PAIRWISE,
    RANKING,
    answer_all,
    best_first,
    group,
    number_of,
    work,
)


def copied(each, copy):
    return dataclasses.replace(each, copy=copy)


def test_pairs_of_a_group_are_compared_once_all_are_there(queue):
    works = group(4)
    items = [queue.put(each, PAIRWISE) for each in works[:3]]
    assert queue.lease("ann", MINUTES) is None
    items.append(queue.put(works[3], PAIRWISE))
    leases = answer_all(queue, "ann", best_first)
    assert len({frozenset(map(number_of, lease.works)) for lease in leases}) == len(leases) == 6
    assert all(lease.ask.mode == "pairwise" and not lease.ask.run for lease in leases)
    assert all(shown.group == "" and shown.group_size == 1 for lease in leases for shown in lease.works)
    rewards = [queue.state(item).verdict.reward for item in items]
    assert rewards == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_sides_of_pairs_change_from_judge_to_judge(opened, queue):
    queue = opened(overlap=2)
    for each in group(6):
        queue.put(each, PAIRWISE)
    shown = [{lease.item: [number_of(each) for each in lease.works] for lease in
              answer_all(queue, name, best_first)} for name in ("ann", "bob")]
    assert len(shown[0]) == 15
    assert all(shown[0][item] == shown[1][item][::-1] for item in shown[0])
    assert 0 < sum(left > right for left, right in shown[0].values()) < 15


def test_a_whole_group_is_ranked_with_ties(queue):
    items = [queue.put(each, RANKING) for each in group(4)]

    def ranked(lease):
        at = {number_of(shown): place for place, shown in enumerate(lease.works)}
        return Given(order=((at[3],), (at[1], at[2]), (at[0],)))
    (lease,) = answer_all(queue, "ann", ranked)
    assert len(lease.works) == 4
    rewards = [queue.state(item).verdict.reward for item in items]
    assert rewards == pytest.approx([0, 0.5, 0.5, 1])


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_equal_works_of_a_group_are_one_item_and_tie(queue, ask):
    works = group(3, size=4)
    items = [queue.put(each, ask) for each in (works[0], works[1], works[0])]
    assert items[0] == items[2] and queue.lease("ann", MINUTES) is None  # again, by a run that was killed
    queue.put(works[2], ask)
    assert queue.lease("ann", MINUTES) is None
    assert queue.put(copied(works[1], 1), ask) == items[1]
    answer_all(queue, "ann", best_first)
    rewards = [queue.state(queue.put(each, ask)).verdict.reward for each in works]
    numbers = [0, 1, 1, 2]
    for number, reward in enumerate(rewards):  # each work beside the three others of its group
        others = [*numbers[:numbers.index(number)], *numbers[numbers.index(number) + 1:]]
        shares = [(number > other) + (number == other) / 2 for other in others]
        assert reward == pytest.approx(sum(shares) / 3)


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_two_equal_works_that_beat_a_third_have_three_quarters(queue, ask):
    worse, better = group(2, size=3)
    items = [queue.put(each, ask) for each in (better, copied(better, 1), worse)]
    answer_all(queue, "ann", best_first)
    assert [queue.state(item).verdict.reward for item in items] == [0.75, 0.75, 0]


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_a_work_beyond_the_groups_size_joins_it(queue, ask):
    items = [queue.put(each, ask) for each in group(3, size=2)]
    answer_all(queue, "ann", best_first)
    assert [queue.state(item).verdict.reward for item in items] == pytest.approx([0, 0.5, 1])


def test_a_group_of_equal_works_needs_no_judge(queue):
    each = work(1, group="g", group_size=3)
    (item,) = {queue.put(copied(each, copy), PAIRWISE) for copy in range(3)}
    assert queue.state(item).verdict.reward == 0.5
    assert queue.lease("ann", MINUTES) is None


def test_a_work_that_is_left_alone_is_not_taken_for_a_group_of_equal_ones(queue):
    works = group(2)
    items = [queue.put(each, PAIRWISE) for each in works]
    queue.drop(items[0], "gone")
    assert queue.put(works[1], PAIRWISE) == items[1]
    assert queue.state(items[1]).verdict is None
    assert len(answer_all(queue, "ann", best_first)) == 1
    assert queue.state(items[1]).verdict.reward == 1 and queue.state(items[0]).verdict is None
    assert queue.put(works[0], PAIRWISE) == items[0] and queue.state(items[0]).verdict.reward == 0
