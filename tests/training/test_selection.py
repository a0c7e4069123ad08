"""Which of the drawn groups an update uses."""
import dataclasses

import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection, Config, RolloutSection
from jaxrl_moe.runs.metrics import rollout_metrics
from jaxrl_moe.training.selection import nothing_to_learn, refill, select, selection_metrics
from tests.helpers import rollouts

RNG = np.random.default_rng(0)


def config(dynamic=True, wanted=4, rounds=10, **algorithm):
    return dataclasses.replace(Config(), algorithm=AlgorithmSection(**algorithm), rollout=RolloutSection(
        prompts_per_step=wanted, dynamic_sampling=dynamic, max_rounds=rounds))


class Source:
    """Groups whose rewards differ where `differs` says so, by draw number; it notes what was asked for."""

    def __init__(self, differs, reward=1.0, first=0):
        self.differs = differs
        self.reward = reward
        self.asked = []
        self.first = first

    def __call__(self, count):
        first = self.first
        self.first = self.first + count
        self.asked.append((count, first))
        return [self.group(number) for number in range(first, first + count)]

    def group(self, number):
        other = 0.0 if self.differs(number) else self.reward
        return rollouts.group(
            [rollouts.rollout(RNG, reward=self.reward),
             rollouts.rollout(RNG, reward=other)], number)


def numbers(groups):
    return [group.sequence for group in groups]


def test_without_dynamic_sampling_one_round_is_used_whole():
    source = Source(lambda n: n % 2, first=10)
    batch = select(source, config(dynamic=False))
    assert source.asked == [(4, 10)] and numbers(batch.used) == [10, 11, 12, 13
                                                                 ] and not batch.dropped and batch.rounds == 1


def test_groups_of_equal_rewards_are_replaced_by_further_draws_until_the_batch_is_full():
    source = Source(lambda n: n in (1, 5, 6, 7, 8, 9))
    batch = select(source, config())
    # 1 of 4 kept: 3 more at that share are 12, but a round draws at most 4; then 4 of 8 kept are all that is
    # wanted
    assert source.asked == [(4, 0), (4, 4)] and batch.rounds == 2
    assert numbers(batch.used) == [1, 5, 6, 7] and numbers(batch.constant) == [0, 2, 3, 4
                                                                               ] and batch.surplus == []


def test_what_is_drawn_beyond_the_batch_is_set_aside_in_draw_order():
    source = Source(lambda n: n not in (0, 1))
    batch = select(source, config())  # 2 of 4 kept: the 2 that miss ask for 4
    assert source.asked == [(4, 0), (4, 4)]
    assert numbers(batch.used) == [2, 3, 4, 5] and numbers(batch.surplus) == [6, 7] and numbers(
        batch.dropped) == [0, 1, 6, 7]
    assert numbers(batch.drawn) == list(range(8))


def test_the_rounds_are_bounded_and_what_there_is_is_used():
    source = Source(lambda n: n == 2)
    batch = select(source, config(rounds=3))
    assert source.asked == [(4, 0), (4, 4), (4, 8)] and numbers(batch.used) == [2] and batch.rounds == 3


@pytest.mark.parametrize("kept, drawn, wanted, count", [
    (0, 4, 4, 4), (3, 4, 4, 2), (2, 4, 4, 4), (7, 8, 8, 2), (15, 16, 16, 2), (9, 30, 10, 4), (1, 30, 10, 10)])
def test_a_refill_draws_what_misses_at_the_share_kept_so_far(kept, drawn, wanted, count):
    assert refill(kept, drawn, wanted) == count


def test_left_out_groups_are_not_replaced_without_dynamic_sampling():
    source = Source(lambda n: n % 2)
    batch = select(source, config(dynamic=False, drop_constant_groups=True))
    assert len(source.asked) == 1 and numbers(batch.used) == [1, 3] and numbers(batch.constant) == [0, 2]


def test_groups_are_compared_by_their_graded_rewards_and_trained_on_with_penalties():
    shaped = config(overlong_tokens=5, overlong_cushion=5)
    rewards = [rollouts.rollout(RNG, completion=length, reward=1.0) for length in (2, 4)]
    batch = select(lambda count: [rollouts.group(rewards, n) for n in range(count)], shaped)
    # all are right: that one is longer teaches nothing about the task
    assert not batch.used and batch.constant
    with_wrong = [
        *rewards,
        rollouts.rollout(RNG, completion=2, reward=1.0 - 1.0),
        rollouts.rollout(RNG, completion=4, reward=2.0)
    ]
    batch = select(lambda count: [rollouts.group(with_wrong, n) for n in range(count)], shaped)
    metrics = selection_metrics(batch, shaped)
    assert len(batch.used) == 4
    assert metrics["reward/used_mean"] == 1.0 and metrics["reward/shaped_mean"] == pytest.approx(1 - 0.6)


def test_the_metrics_count_groups_and_tell_drawn_rewards_from_used_ones():
    batch = select(Source(lambda n: n > 1), config())
    metrics = selection_metrics(batch, config())
    assert metrics == {
        "rollout/rounds": 2,
        "rollout/groups_drawn": 8,
        "rollout/groups_dropped_constant": 2,
        "rollout/groups_dropped_surplus": 2,
        "reward/used_mean": 0.5,
        "reward/shaped_mean": 0.5
    }
    drawn = rollout_metrics(batch.drawn, 0)
    assert drawn["reward/mean"] == pytest.approx(
        (2 * 1.0 + 6 * 0.5) / 8) and drawn["reward/frac_zero_std"] == 0.25


def test_nothing_to_learn_is_explained():
    batch = select(Source(lambda n: False), config(rounds=2))
    assert batch.used == [] and "reward/used_mean" not in selection_metrics(batch, config())
    message = str(nothing_to_learn(batch, config(rounds=2), 7))
    assert "Step 7: none of 8 groups, drawn in 2 rounds" in message
    assert "rollout.max_rounds (now 2)" in message
