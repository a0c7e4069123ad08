"""Rewards of an update: several turns, penalties on length, and samples of single turns."""
import dataclasses

import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.learning.batch import sample_weights
from jaxrl_moe.learning.credit.advantages import with_advantages
from jaxrl_moe.learning.credit.rewards import all_equal, penalty, rewards_of, turns_of
from jaxrl_moe.learning.samples import by_rollout, from_groups
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.types import Step, Turn
from tests.helpers import rollouts
from tests.helpers.scripted_engine import PROMPTS, graded
from tests.rl import cases, oracle

RNG = np.random.default_rng(0)
GAMMA = 0.4


def section(**values):
    return AlgorithmSection(**values)


def episode(rewards, lengths, gap=2, outcome=7.0, **values):
    """An episode of several turns with `gap` observed tokens between them."""
    turns = []
    start = 0
    for reward, length in zip(rewards, lengths):
        turns.append(Turn(start, start + length, reward))
        start += length + gap
    tokens = turns[-1].end
    mask = np.zeros(tokens, np.int32)
    for turn in turns:
        mask[turn.start:turn.end] = 1
    truncated = values.pop("truncated", False)
    return dataclasses.replace(rollouts.rollout(RNG, completion=tokens, reward=outcome, truncated=truncated),
                               loss_mask=mask, **values, turns=tuple(turns),
                               sampler_logprobs=-np.arange(1.0, tokens + 1, dtype=np.float32) * mask)


def discounted(rewards, t):
    """sum over k >= t of gamma^(k-t) r_k, one by one."""
    total = 0.0
    for k in range(t, len(rewards)):
        total += GAMMA ** (k - t) * rewards[k]
    return total


def test_the_three_returns_of_an_episode():
    one = episode([0.3, 0.0, 1.2], [2, 3, 1])
    np.testing.assert_allclose(rewards_of(one, section()), [7.0])
    np.testing.assert_allclose(rewards_of(one, section(returns="trajectory")),
                               [discounted([0.3, 0.0, 1.2], 0)])
    np.testing.assert_allclose(rewards_of(one, section(returns="turns")),
                               [discounted([0.3, 0.0, 1.2], t) for t in range(3)])
    with pytest.raises(AlgorithmError, match="outcome, trajectory, turns; got 'turn'"):
        rewards_of(one, section(returns="turn"))


def achieving(achieved, **values):
    """An episode with rewards of its own whose turns tell what stands after them."""
    one = episode([9.0] * len(achieved), [2] * len(achieved), **values)
    return dataclasses.replace(
        one,
        turns=tuple(dataclasses.replace(turn, achieved=names) for turn, names in zip(one.turns, achieved)))


def test_step_rewards_take_the_place_of_the_turns_own():
    """The second turn achieves nothing new; the last loses one thing and wins two at once, which counts as
    one."""
    one = achieving([("wood",), ("wood",), ("table", "sword")])
    steps = [0.5, 0.0, 0.5]
    for returns, expected in (("trajectory", [discounted(steps, 0)]),
                              ("turns", [discounted(steps, t) for t in range(3)])):
        got = rewards_of(one, section(returns=returns, step_rewards="decision_stepwise", step_lambda=0.5))
        np.testing.assert_allclose(got, expected)
    samples = from_groups([rollouts.group([one])], section(returns="turns", step_rewards="decision_stepwise"))
    assert [sample.reward
            for sample in samples] == [pytest.approx(discounted([1, 0, 1], t)) for t in range(3)]


def test_the_penalty_is_charged_after_step_rewards():
    one = achieving([("wood",), ("wood",)], truncated=True)
    got = rewards_of(
        one,
        section(returns="turns", step_rewards="decision_stepwise", truncated="penalise",
                truncated_penalty=0.25))
    np.testing.assert_allclose(got, [1 - GAMMA * 0.25, -0.25])


def test_step_rewards_of_turns_that_do_not_say_what_they_achieve_are_refused():
    stepwise = section(returns="turns", step_rewards="decision_stepwise")
    with pytest.raises(AlgorithmError, match="turn 2 of a rollout of 3 does not say it: take an environment "
                                             "that fills Turn.achieved"):
        rewards_of(achieving([(), None, ("wood",)]), stepwise)
    with pytest.raises(AlgorithmError, match="turn 1 of a rollout of 1 does not say it"):
        rewards_of(rollouts.rollout(RNG, reward=1.0), stepwise)


class Crafting(SingleTurnTask):
    """A task of one decision that tells what it achieved, and has judges."""

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        return Step(0.0, info={"event": 1.0, "outcome": 0.5}, achieved=tuple(action.text.split()))


def test_what_a_grade_says_is_achieved_and_judged_reaches_the_update():
    for text, earned in (("wood table", 1.0), ("", 0.0)):
        (made,) = graded(Crafting(), PROMPTS[:1], 1, decode=lambda ids, text=text: text)
        (sample,) = from_groups([made], section(returns="turns", step_rewards="decision_stepwise"))
        assert sample.reward == earned
        assert from_groups([made], section(reward_blend=(1.0, 0.5, 2.0)))[0].reward == 1.5


@pytest.mark.parametrize("weights, blended", [((0.3, 0.3, 0.4), 0.3 * 7 + 0.3 * 0.5 + 0.4 * 0.25),
                                              ((0.2, 0.4, 0.4), 1.4 + 0.2 + 0.1)])
def test_a_blend_weighs_the_reward_and_the_numbers_of_judges_before_any_penalty(weights, blended):
    one = episode([1.0], [4], truncated=True, info={"event": 0.5, "outcome": 0.25, "correct": 1.0})
    np.testing.assert_allclose(rewards_of(one, section(reward_blend=weights)), [blended])
    charged = section(reward_blend=weights, truncated="penalise", truncated_penalty=0.5)
    np.testing.assert_allclose(rewards_of(one, charged), [blended - 0.5])


@pytest.mark.parametrize("info, lacking",
                         [({"correct": 1.0}, r"no 'event' \(it has 'correct'\)"),
                          ({"event": 1.0}, "no 'outcome'"),
                          ({}, r"no 'event' \(it has nothing\)")])
def test_a_blend_of_numbers_that_no_judge_gave_is_refused(info, lacking):
    with pytest.raises(AlgorithmError, match=f"algorithm.reward_blend .* {lacking}.* leave "
                                             "algorithm.reward_blend empty"):
        rewards_of(episode([1.0], [4], info=info), section(reward_blend=(0.3, 0.3, 0.4)))


@pytest.mark.parametrize("returns", ["outcome", "trajectory", "turns"])
def test_a_single_turn_has_its_reward_under_every_return(returns):
    plain = rollouts.rollout(RNG, completion=4, reward=0.6)
    assert turns_of(plain) == (Turn(0, 4, 0.6),)
    np.testing.assert_array_equal(rewards_of(plain, section(returns=returns)), [0.6])


def test_a_turns_sample_ends_with_the_turn_and_trains_its_tokens_alone():
    one = dataclasses.replace(episode([1.0, 0.5], [2, 3]),
                              expert_ids=np.arange(9, dtype=np.int8).reshape(9, 1, 1))
    first, second = from_groups([rollouts.group([one])], section(returns="turns"))
    ids = np.concatenate([one.prompt_ids, one.completion_ids])
    np.testing.assert_array_equal(first.ids_T, ids[:5])
    np.testing.assert_array_equal(second.ids_T, ids)
    assert first.mask_T.tolist() == [0, 0, 1, 1, 0]
    assert second.mask_T.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]
    assert first.sampler_logprobs_T.tolist() == [0, 0, -1, -2, 0]
    assert first.expert_ids_TLA.ravel().tolist() == [
        0, 1, 2, 3, 4
    ] and second.expert_ids_TLA.ravel().tolist()[-2:] == [8, -1]
    assert (first.rollout, second.rollout) == (0, 0) and by_rollout([rollouts.group([one])],
                                                                    [first, second]) == [[[first, second]]]


def test_a_group_compares_all_turns_of_its_rollouts():
    groups = [rollouts.group([episode([0.0, 1.0, 0.3], [2, 1, 3]), episode([1.0], [4])]),
              rollouts.group([episode([0.2, 0.0], [1, 1]), episode([0.0, 0.9], [2, 2])], 1)]
    got = with_advantages(from_groups(groups, section(returns="turns")), "grpo")
    returns = [[
        discounted([turn.reward for turn in r.turns], t) for r in g.rollouts for t in range(len(r.turns))
    ] for g in groups]
    expected = [value for row in oracle.advantages("grpo", returns) for value in row]
    cases.assert_close([s.advantages_T[0] for s in got], expected)
    assert [s.group for s in got] == [0, 0, 0, 0, 1, 1, 1, 1] and [s.rollout
                                                                   for s in got] == [0, 0, 0, 1, 0, 0, 1, 1]


def test_turn_rloo_compares_each_turn_with_the_same_turn_of_the_other_episodes():
    episodes = [episode([0.0, 1.0, 0.3], [2, 1, 3]), episode([1.0], [4]), episode([0.5, 0.2], [1, 1])]
    got = with_advantages(from_groups([rollouts.group(episodes)], section(returns="turns")), "turn_rloo")
    returns = [[discounted([turn.reward for turn in one.turns], t) for t in range(len(one.turns))]
               for one in episodes]
    expected = []
    for number, own in enumerate(returns):
        for turn, value in enumerate(own):
            others = [other[turn] for k, other in enumerate(returns) if k != number and len(other) > turn]
            expected.append(value - sum(others) / len(others) if others else 0.0)
    cases.assert_close([s.advantages_T[0] for s in got], expected)


def test_the_sequences_of_an_episode_share_its_reward_and_count_once_in_group_and_loss():
    """An episode whose history was rewritten twice has three sequences; it weighs what one of a single
    sequence does."""
    whole = rollouts.rollout(RNG, completion=4, reward=1.0)
    pieces = [rollouts.rollout(RNG, completion=length) for length in (2, 3)]
    branched = dataclasses.replace(whole, branches=tuple(pieces))
    other = rollouts.rollout(RNG, completion=5, reward=0.0)
    samples = with_advantages(from_groups([rollouts.group([branched, other])], section()), "grpo")
    assert [(s.rollout, s.reward, s.trained_tokens)
            for s in samples] == [(0, 1.0, 2), (0, 1.0, 3), (0, 1.0, 4), (1, 0.0, 5)]
    plain = with_advantages(from_groups([rollouts.group([whole, other])], section()), "grpo")
    assert {float(s.advantages_T[0]) for s in samples[:3]} == {float(plain[0].advantages_T[0])}
    assert samples[3].advantages_T[0] == plain[1].advantages_T[0]
    weights = sample_weights(samples, "seq-mean-token-mean")
    np.testing.assert_allclose(weights, [1 / (2 * 9)] * 3 + [1 / (2 * 5)])


@pytest.mark.parametrize("name, alone", [("reinforce", 1.0), ("dr_grpo", 0.0), ("grpo", 0.0)])
def test_the_turns_of_a_prompts_only_rollout_are_no_group(name, alone):
    """K = 1 keeps its raw returns under reinforce, as many turns as it has; the prompt beside it is centred
    as ever."""
    groups = [
        rollouts.group([episode([0.3, 0.0, 1.2], [2, 3, 1])]),
        rollouts.group([episode([1.0], [2]), episode([0.0], [2])], 1)
    ]
    got = [s.advantages_T[0] for s in with_advantages(from_groups(groups, section(returns="turns")), name)]
    np.testing.assert_allclose(got[:3], [alone * discounted([0.3, 0.0, 1.2], t) for t in range(3)], rtol=1e-6)
    assert got[3] > 0 > got[4]


def test_a_trajectorys_return_trains_every_turn_and_no_observation():
    groups = [rollouts.group([episode([0.5, 1.0], [2, 3]), episode([0.0, 0.2], [1, 2])])]
    got = with_advantages(from_groups(groups, section(returns="trajectory")), "dr_grpo")
    values = [discounted([0.5, 1.0], 0), discounted([0.0, 0.2], 0)]
    cases.assert_close([s.advantages_T[-1] for s in got], np.array(values) - np.mean(values))
    assert [s.trained_tokens
            for s in got] == [5, 3] and got[0].mask_T.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 0]


def test_the_last_turn_pays_for_the_length_and_is_the_one_that_a_limit_cuts():
    one = episode([1.0, 1.0], [3, 5], truncated=True)
    long = section(returns="turns", overlong_tokens=10, overlong_cushion=4, truncated="penalise",
                   truncated_penalty=0.25)
    # 8 tokens were drawn, observations do not count
    assert penalty(one, long) == pytest.approx(-0.25 - (8 - 6) / 4)
    np.testing.assert_allclose(rewards_of(one, long), [1.0 + GAMMA * 0.25, 0.25])
    first, second = from_groups([rollouts.group([one])], section(returns="turns", truncated="mask"))
    assert (first.trained_tokens, second.trained_tokens, first.truncated, second.truncated) == (3, 0, False,
                                                                                                True)


@pytest.mark.parametrize("length, expected", [(6, 0.0), (8, 0.0), (10, -0.5), (12, -1.0), (20, -1.0)])
def test_a_long_completion_pays_the_soft_penalty(length, expected):
    one = rollouts.rollout(RNG, completion=length, reward=1.0)
    (sample,) = from_groups([rollouts.group([one])], section(overlong_tokens=12, overlong_cushion=4))
    assert sample.reward == pytest.approx(1.0 + expected)


def test_a_penalty_leaves_equal_rewards_equal():
    """Which groups differ is asked of their grades: else all that is wrong would teach to be short."""
    pair = rollouts.group(
        [rollouts.rollout(RNG, completion=3, reward=1.0),
         rollouts.rollout(RNG, completion=9, reward=1.0)])
    assert all_equal(pair, section()) and all_equal(pair, section(overlong_tokens=10, overlong_cushion=4))
    judged = [
        dataclasses.replace(one, info={
            "event": event,
            "outcome": 0.0
        }) for one, event in zip(pair.rollouts, (0.0, 1.0))
    ]
    assert not all_equal(rollouts.group(judged), section(reward_blend=(1.0, 1.0, 0.0)))


@pytest.mark.parametrize("turns, message",
                         [((Turn(0, 3, 0.0), Turn(2, 5, 1.0)), "must follow each other"),
                          ((Turn(0, 9, 1.0),), "within its 5 completion tokens"),
                          ((Turn(0, 3, 1.0),), "token 3 .* belongs to none of its turns")])
def test_turns_that_cannot_be_are_refused(turns, message):
    with pytest.raises(AlgorithmError, match=message):
        turns_of(dataclasses.replace(rollouts.rollout(RNG, completion=5), turns=turns))


@pytest.mark.parametrize("returns", ["outcome", "trajectory", "turns"])
@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_no_finite_numbers_are_refused_whoever_gives_them(returns, reward):
    one = rollouts.rollout(np.random.default_rng(0), reward=reward)
    told = r"rewards are \[(nan|-?inf)\], which are not all finite .*mend what grades it"
    with pytest.raises(AlgorithmError, match=told):
        rewards_of(one, section(returns=returns))
