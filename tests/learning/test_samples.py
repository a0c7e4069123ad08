import dataclasses

import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.learning import samples as S
from jaxrl_moe.learning.credit.advantages import Credit, with_advantages
from jaxrl_moe.rl.advantages import ADVANTAGES
from jaxrl_moe.rl.table import AlgorithmError
from tests.helpers import rollouts
from tests.rl import cases, oracle

RNG = np.random.default_rng(0)
WITHOUT_CRITIC = sorted(name for name, row in ADVANTAGES.items() if not row.critic)


def test_a_sample_holds_each_value_at_the_index_that_predicts_its_token():
    episode = dataclasses.replace(
        rollouts.rollout(RNG, 2, 3), prompt_ids=np.array([5, 6]), completion_ids=np.array([7, 8, 9]),
        loss_mask=np.array([1, 0, 1]), sampler_logprobs=np.array([-0.5, 0, -0.25], np.float32), reward=0.7,
        expert_ids=np.arange(8, dtype=np.uint8).reshape(4, 2, 1))
    (sample,) = S.from_groups([rollouts.group([episode])])
    assert sample.ids_T.tolist() == [5, 6, 7, 8, 9]
    assert sample.mask_T.tolist() == [0, 1, 0, 1, 0] and sample.trained_tokens == 2
    assert sample.sampler_logprobs_T.tolist() == [0, -0.5, 0, -0.25, 0]
    assert sample.reward == 0.7 and sample.group == 0
    assert sample.expert_ids_TLA[:, :, 0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [-1, -1]]


def test_truncated_completions_are_kept_masked_or_penalised():
    pair = [rollouts.rollout(RNG, reward=1.0, truncated=True), rollouts.rollout(RNG, reward=0.0)]
    group = rollouts.group(pair)
    kept, masked, penalised = (S.from_groups([group], AlgorithmSection(truncated=mode,
                                                                       truncated_penalty=0.75))
                               for mode in ("keep", "mask", "penalise"))
    assert [s.reward for s in kept] == [s.reward for s in masked] == [1.0, 0.0]
    assert [s.reward for s in penalised] == [0.25, 0.0]
    assert [s.trained_tokens for s in masked] == [0, 5] and [s.trained_tokens for s in penalised] == [5, 5]
    assert S.trainable(masked) == [masked[1]]


def test_an_unknown_truncation_rule_is_refused():
    with pytest.raises(AlgorithmError, match="keep, mask, penalise, bootstrap; got 'drop'"):
        S.from_groups([], AlgorithmSection(truncated="drop"))


def test_an_empty_prompt_is_refused():
    with pytest.raises(AlgorithmError, match="empty prompt"):
        S.from_groups([rollouts.group([rollouts.rollout(RNG, prompt=0)])])


def test_a_batch_without_trained_tokens_is_refused():
    batch = S.from_groups([rollouts.group([rollouts.rollout(RNG, truncated=True)])],
                          AlgorithmSection(truncated="mask"))
    with pytest.raises(AlgorithmError, match="nothing to train on: none of its 1 sequences"):
        S.trainable(batch)


def test_a_conversation_trains_its_masked_tokens_with_advantage_one():
    (sample,) = S.from_conversations([([1, 2, 3, 4], [0, 0, 1, 1])])
    assert sample.mask_T.tolist() == [0, 1, 1, 0] and sample.advantages_T.tolist() == [1, 1, 1, 1]
    assert sample.sampler_logprobs_T is None


@pytest.mark.parametrize("name", sorted(set(WITHOUT_CRITIC) - {"reinforce_pp", "reinforce_pp_baseline"}))
def test_every_token_has_its_completions_advantage(name):
    groups = rollouts.groups(count=3, size=4)
    batch = with_advantages(S.from_groups(groups), name)
    expected = oracle.advantages(name, [[r.reward for r in g.rollouts] for g in groups])
    for sample, value in zip(batch, [v for row in expected for v in row], strict=True):
        np.testing.assert_allclose(sample.advantages_T, value, rtol=1e-6)


def test_groups_of_different_sizes_keep_their_own_baselines():
    groups = [
        rollouts.group([rollouts.rollout(RNG, reward=r) for r in rewards]) for rewards in ([1, 0], [1, 1, 0])
    ]
    batch = with_advantages(S.from_groups(groups), "dr_grpo")
    np.testing.assert_allclose([s.advantages_T[0] for s in batch], [0.5, -0.5, 1 / 3, 1 / 3, -2 / 3],
                               rtol=1e-6)


def with_logprobs(batch, seed=1):
    rng = np.random.default_rng(seed)
    for field in ("old_logprobs_T", "ref_logprobs_T"):
        batch = S.with_values(batch, field, [-rng.random(len(s.ids_T)).astype(np.float32) for s in batch])
    return batch


def test_reinforce_pp_whitens_discounted_token_returns_with_kl_in_the_reward():
    batch = with_logprobs(S.from_groups(rollouts.groups(seed=2, holes=True)))
    got = with_advantages(batch, "reinforce_pp", Credit(gamma=0.9, kl_coef=0.1))
    flat = []
    for s in batch:
        rewards = [-0.1 * float(a - b) for a, b in zip(s.old_logprobs_T, s.ref_logprobs_T)]
        rewards[max(t for t in range(len(rewards)) if s.mask_T[t])] += s.reward
        flat += oracle.returns(rewards, s.mask_T, 0.9).values()
    cases.assert_close(np.concatenate([s.advantages_T[s.mask_T > 0] for s in got]), oracle.whiten(flat))


def test_reinforce_pp_baseline_whitens_centred_rewards_over_tokens():
    groups = rollouts.groups(seed=2)
    got = with_advantages(S.from_groups(groups), "reinforce_pp_baseline")
    scalars = oracle.advantages("dr_grpo", [[r.reward for r in g.rollouts] for g in groups])
    flat = [v for s, v in zip(got, sum(scalars, [])) for _ in range(s.trained_tokens)]
    cases.assert_close(np.concatenate([s.advantages_T[s.mask_T > 0] for s in got]), oracle.whiten(flat))


def test_kl_in_the_reward_comes_off_the_scalar_of_a_group_estimator():
    batch = with_logprobs(S.from_groups(rollouts.groups(seed=3, count=1)))
    got = with_advantages(batch, "dr_grpo", Credit(kl_coef=0.1, kl_estimator="k3"))
    rewards = [s.reward - 0.1 * sum(oracle.kl("k3", float(s.old_logprobs_T[t]), float(s.ref_logprobs_T[t]), 0)
                                    for t in np.flatnonzero(s.mask_T)) for s in batch]
    cases.assert_close([s.advantages_T[0] for s in got], np.array(rewards) - np.mean(rewards))


def test_kl_in_the_reward_needs_log_probs():
    with pytest.raises(AlgorithmError, match="KL penalty in the reward needs"):
        with_advantages(S.from_groups(rollouts.groups()), "grpo", Credit(kl_coef=0.1))


@pytest.mark.parametrize("reward", [0.95, 1.05])
@pytest.mark.parametrize("name", WITHOUT_CRITIC)
def test_a_constant_batch_has_exactly_zero_advantages(name, reward):
    batch = S.from_groups([rollouts.group([rollouts.rollout(RNG, reward=reward) for _ in range(7)])])
    assert not any(s.advantages_T.any() for s in with_advantages(batch, name))


def test_rewards_that_differ_by_rounding_alone_are_constant():
    batch = S.from_groups([rollouts.group([rollouts.rollout(RNG, reward=r) for r in (0.1 + 0.2, 0.3)])])
    assert not any(s.advantages_T.any() for s in with_advantages(batch, "grpo"))
