"""Numbers of a step against slow recomputation."""
import dataclasses
import itertools
import math

import numpy as np
import pytest

from jaxrl_moe.rl import mismatch
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.types import LossInputs
from jaxrl_moe.runs import metrics
from jaxrl_moe.types import Prompt, Rollout, RolloutGroup


def group(rewards, lengths, version=3, correct=None):
    rollouts = [
        Rollout(prompt_ids=np.arange(4), completion_ids=np.arange(length),
                loss_mask=np.ones(length, np.int32), sampler_logprobs=np.zeros(length, np.float32),
                policy_version=np.full(length, version), reward=reward, text="", truncated=length > 5,
                info={} if correct is None else {"correct": float(right)})
        for reward, length, right in zip(rewards, lengths, correct or rewards)
    ]
    return RolloutGroup(Prompt(np.arange(4), {}, 0), rollouts, 0)


@pytest.mark.parametrize("n, c", [(4, 0), (4, 1), (4, 3), (4, 4), (6, 2)])
def test_pass_at_k_is_the_share_of_k_subsets_that_hold_a_right_one(n, c):
    right = [1] * c + [0] * (n - c)
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(right, k))
        assert math.isclose(metrics.pass_at_k(n, c, k), sum(map(any, subsets)) / len(subsets))


def test_rollout_metrics_are_those_of_the_flattened_batch():
    groups = [
        group([1.0, 0.0, 1.05], [2, 4, 9], correct=[1, 0, 1]),
        group([0.05, 0.05, 0.05], [3, 3, 3], 1, [0, 0, 0])
    ]
    found = metrics.rollout_metrics(groups, version=4)
    rewards = np.array([1.0, 0.0, 1.05, 0.05, 0.05, 0.05])
    tokens = [1] * 15 + [3] * 9
    expected = {
        "reward/mean": rewards.mean(),
        "reward/std": rewards.std(),
        "reward/max": 1.05,
        "reward/min": 0.0,
        "reward/frac_zero_std": 0.5,
        "reward/pass_at_k": 0.5,
        "completion/length_mean": 4.0,
        "completion/length_max": 9.0,
        "completion/truncated_frac": 1 / 6,
        "rollout/staleness_mean": np.mean(tokens),
        "rollout/staleness_max": 3.0,
        "rollout/turns_mean": 1.0,
        "rollout/branches_mean": 0.0,
        "rollout/aborted_frac": 0.0,
        "env/correct": 1 / 3
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-6), name


def test_turns_are_what_the_policy_drew_between_observations_and_an_episode_without_any_is_aborted():
    masks = [[1, 1, 0, 1, 0, 0, 1], [0, 1, 0], [1, 1, 1], []]
    one = group([0.0] * 4, [len(mask) for mask in masks])
    rollouts = [
        dataclasses.replace(rollout, loss_mask=np.array(mask, np.int32))
        for rollout, mask in zip(one.rollouts, masks)
    ]
    found = metrics.rollout_metrics([RolloutGroup(one.prompt, rollouts, 0)], version=4)
    assert found["rollout/turns_mean"] == (3 + 1 + 1 + 0) / 4 and found["rollout/aborted_frac"] == 1 / 4


def test_without_a_correct_flag_there_is_no_pass_at_k():
    plain = group([1.0, 0.0], [2, 2])
    for rollout in plain.rollouts:
        rollout.info.clear()
    assert "reward/pass_at_k" not in metrics.rollout_metrics([plain], 3)


def test_expert_load_metrics_are_0_when_balanced_and_name_the_worst_layer():
    balanced = metrics.load_metrics(np.array([[5, 5, 5, 5]]))
    assert balanced["moe/max_vio"] == balanced["moe/min_vio"] == 0
    assert math.isclose(balanced["moe/load_entropy"], math.log(4))
    skewed = metrics.load_metrics(np.array([[5, 5, 5, 5], [20, 0, 0, 0]]))
    assert skewed["moe/max_vio"] == skewed["moe/layer_01/max_vio"] == 3.0
    assert skewed["moe/min_vio"] == -1.0
    assert skewed["moe/layer_01/load_entropy"] == 0.0
    assert skewed["moe/layer_00/max_vio"] == 0.0


def test_updates_of_unlike_size_merge_into_the_numbers_of_the_whole_step():
    rng = np.random.default_rng(0)
    old, sampler = -rng.exponential(size=(2, 1000)).astype(np.float32)
    # the second, smaller update is quite unlike the first
    sampler = np.where(np.arange(1000) < 900, old - 0.01, sampler)
    parts = [slice(0, 900), slice(900, 1000)]

    def moments(part):
        count = old[part].size
        zeros = np.zeros((1, old[part].size), np.float32)
        inputs = LossInputs(*[zeros] * 5, num_tokens=count, sampler_logprobs_BT=sampler[part][None])
        of_tokens = mismatch.moments(old[part][None], dataclasses.replace(inputs, mask_BT=zeros + 1))
        of_updates = Metrics(Merge.UPDATE_MEAN, {"loss": 0.5, "policy/loss": count / 900})
        return of_tokens | of_updates | Metrics(Merge.LAST, {"policy/lr": count})

    whole = metrics.update_metrics([moments(slice(0, 1000))])
    merged = metrics.update_metrics([moments(part) for part in parts], [900.0, 100.0], [1.0, 1.0])
    for name in ("kl", "pearson", "ess", "k1", "kl_max", "prob_diff_mean", "prob_diff_max"):
        assert merged[f"mismatch/{name}"] == pytest.approx(whole[f"mismatch/{name}"], rel=1e-4), name
    assert merged["policy/lr"] == 100 and merged["policy/loss"] == pytest.approx((1 + 1 / 9) / 2)


def test_slots_are_counted_beyond_32_bits():
    counts = {"load": np.full((2, 2), 2**30), "probability": np.full(2, 2.0**30), "slots": 2**32,
              "dropped": np.int32(0)}
    update = Metrics(Merge.UPDATE_MEAN, {"loss": 0.0}) | Metrics(Merge.SUM, counts)
    assert metrics.update_metrics([update, update], [1.0, 1.0], [1.0, 1.0])["moe/dropped"] == 0



def test_a_stopwatch_adds_up_a_phase_and_never_exceeds_the_step():
    watch = metrics.Stopwatch()
    for _ in range(3):
        with watch("rollout"):
            sum(range(1000))
    times = watch.times()
    assert 0 < times["time/rollout_s"] <= times["time/step_s"]
