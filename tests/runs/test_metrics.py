"""Numbers of a step against slow recomputation."""
import dataclasses
import itertools
import math

import numpy as np
import pytest

from jaxrl_moe.rl import mismatch
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.types import LossInputs
from jaxrl_moe.runs import console, evaluation, metrics, report
from jaxrl_moe.types import Prompt, Rollout, RolloutGroup, Status


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


def of_env(env, *given, **more):
    one = group(*given, **more)
    return dataclasses.replace(one, prompt=dataclasses.replace(one.prompt, env=env))


MIXED = [of_env("b", [1.0, 0.0], [2, 4], correct=[1, 0]), of_env("a", [0.5, 0.5], [1, 1], correct=[0, 0]),
         of_env("b", [1.0, 1.0], [2, 2], correct=[1, 1])]


def test_numbers_of_each_environment_are_those_of_its_groups_alone():
    found = metrics.rollout_metrics(MIXED, version=4)
    own = {name: value for name, value in found.items() if name.count("/") == 2}
    assert own == {
        "env/a/reward": 0.5, "env/a/success": 0.0, "env/a/count": 2.0, "env/a/turns": 1.0,
        "env/a/frac_zero_std": 1.0, "env/b/reward": 0.75, "env/b/success": 0.75, "env/b/count": 4.0,
        "env/b/turns": 1.0, "env/b/frac_zero_std": 0.5}
    assert found["env/correct"] == 0.5
    unsure = [dataclasses.replace(rollout, info={}) for rollout in MIXED[0].rollouts]
    assert "env/b/success" not in metrics.of_each_env([dataclasses.replace(MIXED[0], rollouts=unsure)])
    assert metrics.of_each_env([group([1.0], [1])]) == {}


def test_evaluations_of_each_environment_leave_out_what_failed():
    lost = dataclasses.replace(MIXED[0].rollouts[0], status=Status.UNREACHABLE)
    failed = dataclasses.replace(MIXED[1], rollouts=[lost])
    found = evaluation.of_each([*MIXED, failed, of_env("c", [0.0], [1], correct=[0]),
                                dataclasses.replace(failed, prompt=of_env("d", [1.0], [1]).prompt)])
    assert {name: value for name, value in found.items() if name.endswith(("count", "frac", "pass_at_1"))
            and "truncated" not in name} == {
        "eval/a/pass_at_1": 0.0, "eval/a/count": 1.0, "eval/a/failed_frac": 0.5, "eval/b/pass_at_1": 0.75,
        "eval/b/count": 2.0, "eval/b/failed_frac": 0.0, "eval/c/pass_at_1": 0.0, "eval/c/count": 1.0,
        "eval/c/failed_frac": 0.0, "eval/d/count": 0.0, "eval/d/failed_frac": 1.0}
    assert evaluation.greedy_metrics([*MIXED, failed]) == {
        "eval/greedy": 0.5, "eval/a/greedy": 0.0, "eval/b/greedy": 0.75}


def test_the_console_and_the_report_tell_of_each_environment():
    row = {"reward/mean": 0.5, "env/valid": 0.1, "env/a/success": 0.25, "env/a/reward": 0.3,
           "env/b/reward": 0.4, "eval/reward_mean": 0.5, "eval/pass_at_1": 0.6, "eval/a/pass_at_1": 0.7,
           "eval/a/reward_mean": 0.1, "eval/b/reward_mean": 0.2, "eval/a/greedy": 0.9, "step": 1}
    assert console.summary(row).endswith("  a 0.250  b 0.400  held-out a 0.700  held-out b 0.200")
    told = dict(report.summary([row], []))
    assert told["accuracy after RL, a"] == "pass@1 0.700, greedy 0.900"
    assert told["accuracy after RL, b"] == "pass@1 0.200" and told["accuracy after RL"] == "pass@1 0.600"
    assert console.of_envs({"env/correct": 1.0, "moe/layer_00/max_vio": 1.0}, "env", "success") == {}
