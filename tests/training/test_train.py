"""The loop as a whole, on a tiny model: its log against its trajectories, its resumption to the bit, its
early ends."""
import dataclasses
import math
import os
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest

import bridges
from jaxrl_moe import begin
from jaxrl_moe.config import resolve
from jaxrl_moe.envs import TASKS
from jaxrl_moe.envs.gsm8k import Gsm8k
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.runs import monitor
from jaxrl_moe.runs.stopping import Ending
from jaxrl_moe.training import pipeline, train
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run
from tests.helpers.runs import assert_same_run, recomputed, rows, rows_so_far, start


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """run_dir of a run of 6 steps."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    # those of steps 2, 4 and 6, and one if an evaluation finds a better
    config = tiny_run.settings(files, run_dir, checkpoint__keep=4)
    assert pipeline.run_all(resolve(config), bridges)
    return run_dir


def test_a_run_leaves_logs_checkpoints_a_model_an_adapter_and_a_plot(finished):
    assert [row["step"] for row in rows(finished / "metrics.jsonl")] == [0, 1, 2, 3, 4, 5, 6]
    assert {"2", "4", "6"} <= {path.name for path in (finished / "checkpoints").iterdir()}
    for part in ("config.json", "model/model.safetensors", "adapter/adapter_model.safetensors",
                 "reward_curve.png", "tensorboard"):
        assert (finished / part).exists()


def test_the_log_has_the_names_that_users_look_for(finished):
    names = set(rows(finished / "metrics.jsonl")[3])
    wanted = {"reward": "mean std max min frac_zero_std pass_at_k",
              "completion": "length_mean length_max truncated_frac",
              "policy": "loss kl_loss entropy clip_frac_low clip_frac_high approx_kl ratio_mean ratio_max "
                        "grad_norm lr",
              "mismatch": "kl prob_diff_mean prob_diff_max pearson ess",
              "moe": "max_vio min_vio load_entropy",
              "rollout": "tokens_per_s staleness_mean staleness_max turns_mean aborted_frac",
              "time": "rollout_s reward_s old_logprobs_s update_s sync_s step_s",
              "perf": "tokens_per_s tflops_per_s peak_bytes compiles",
              "eval": "pass_at_1 pass_at_4 greedy"}
    assert {f"{group}/{name}" for group, text in wanted.items() for name in text.split()} <= names
    assert "time/checkpoint_s" in rows(finished / "metrics.jsonl")[3]


def test_the_policy_learns_something_and_the_sampler_agrees_with_the_trainer(finished):
    trained = rows(finished / "metrics.jsonl")[1:]
    assert max(row["policy/grad_norm"] for row in trained) > 1e-2
    assert max(abs(row["mismatch/kl"]) for row in trained) < 1e-9
    assert trained[-1]["policy/kl_loss"] > 0


def test_every_reward_and_length_number_in_the_log_follows_from_the_trajectories(finished):
    drawn = rows(finished / "trajectories.jsonl")
    for logged in rows(finished / "metrics.jsonl")[1:]:
        mine = [row for row in drawn if row["step"] == logged["step"] and row["phase"] == "train"]
        assert len(mine) == 12
        for name, value in recomputed(logged["step"], mine).items():
            assert math.isclose(logged[name], value, rel_tol=1e-6, abs_tol=1e-9), (name, logged["step"])


def test_every_evaluation_number_in_the_log_follows_from_the_trajectories(finished):
    drawn = rows(finished / "trajectories.jsonl")
    for logged in (row for row in rows(finished / "metrics.jsonl") if "eval/reward_mean" in row):
        sampled = [row for row in drawn if row["step"] == logged["step"] and row["phase"] == "eval"]
        greedy = [row for row in drawn if row["step"] == logged["step"] and row["phase"] == "greedy"]
        assert (len(sampled), len(greedy)) == (16, 4)
        assert math.isclose(logged["eval/reward_mean"], np.mean([row["reward"] for row in sampled]),
                            rel_tol=1e-6)
        assert math.isclose(logged["eval/pass_at_1"], np.mean([row["info"]["correct"] for row in sampled]))
        assert math.isclose(logged["eval/greedy"], np.mean([row["info"]["correct"] for row in greedy]))


def test_advantages_in_the_trajectories_are_those_of_their_groups(finished):
    train = [row for row in rows(finished / "trajectories.jsonl") if row["phase"] == "train"]
    groups = {}
    for row in train:
        groups.setdefault(row["sequence"], []).append(row)
    assert sorted(groups) == list(range(18))
    spread = 0
    for group in groups.values():
        rewards = np.array([row["reward"] for row in group])
        expected = np.zeros(4) if len(set(
            np.float32(rewards))) == 1 else (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
        np.testing.assert_allclose([row["advantage"] for row in group], expected, rtol=1e-5)
        spread += rewards.std() > 0
    assert spread > 0


def test_starting_a_finished_run_again_changes_nothing(files, finished):
    before = (finished / "metrics.jsonl").read_bytes()
    assert pipeline.run_all(resolve(tiny_run.settings(files, finished)), bridges)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(files, finished):
    with pytest.raises(UserError, match="lora.rank = 2 cannot go on from .*trained with lora.rank = 4"):
        pipeline.run_all(resolve(tiny_run.settings(files, finished, lora__rank=2)), bridges)


def test_another_seed_or_a_refused_resume_does_not_touch_a_run(files, finished):
    with pytest.raises(UserError, match="holds a run with seed 0"):
        pipeline.run_all(resolve(tiny_run.settings(files, finished, seed=1)), bridges)
    with pytest.raises(UserError, match="checkpoint.resume is false"):
        pipeline.run_all(resolve(tiny_run.settings(files, finished, checkpoint__resume=False)), bridges)


def test_a_lora_target_that_matches_nothing_is_refused_before_any_training(files, tmp_path):
    config = resolve(tiny_run.settings(files, tmp_path / "run", lora__targets=("q_prj",), sft__steps=4))
    with pytest.raises(UserError, match="q_prj"):
        pipeline.run_all(config, bridges)
    assert not (tmp_path / "run" / "sft").exists()


def test_sigterm_saves_and_a_second_start_ends_as_if_nothing_had_happened(files, finished, tmp_path,
                                                                          monkeypatch):
    whole = monitor.ProfilerWindow.before

    def before(window, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(window, step)

    config = resolve(tiny_run.settings(files, tmp_path / "run"))
    monkeypatch.setattr(monitor.ProfilerWindow, "before", before)
    assert pipeline.run_all(config, bridges) is Ending.STOPPED
    assert rows(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 5
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.setattr(monitor.ProfilerWindow, "before", whole)
    minutes = (time.monotonic() - begin.BEGAN) / 60
    late = dataclasses.replace(config, train=dataclasses.replace(config.train, max_minutes=minutes))
    assert pipeline.run_all(late, bridges) is Ending.OUT_OF_TIME
    assert pipeline.run_all(config, bridges) is Ending.DONE
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_run_goes_on_with_batches_of_other_sizes_at_the_next_prompt(files, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    changes = dict(rollout__prompts_per_step=2, rollout__group_size=3, algorithm__minibatches=1,
                   train__tokens_per_micro_batch=512, train__pack=True, train__steps=8, eval__every=0)
    assert pipeline.run_all(resolve(tiny_run.settings(files, tmp_path / "run", **changes)), bridges)
    drawn = [row for row in rows(tmp_path / "run" / "trajectories.jsonl") if row["phase"] == "train"]
    assert sorted({row["sequence"] for row in drawn}) == list(range(22))
    epoch = [row["prompt_index"] for row in drawn if row["sample"] == 0]
    assert len(set(epoch)) == 22  # of 24 prompts, none twice


def test_a_loss_that_is_not_finite_stops_the_run_with_a_dump(files, tmp_path, monkeypatch):
    real = pipeline.Learner.update

    def poisoned(learner, *args, **kwargs):
        return real(learner, *args, **kwargs) | Metrics(Merge.UPDATE_MEAN, {"loss": jnp.array(jnp.nan)})

    monkeypatch.setattr(pipeline.Learner, "update", poisoned)
    with pytest.raises(monitor.NonFiniteError, match="Step 1: .*nan.*npz"):
        pipeline.run_all(resolve(tiny_run.settings(files, tmp_path / "run")), bridges)
    assert (tmp_path / "run" / "non_finite_step_1.npz").exists()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_truncated_sampling_warns_and_logs_the_kept_mass(files, tmp_path, capsys):
    config = resolve(
        tiny_run.settings(files, tmp_path / "run", rollout__top_k=20, train__steps=1, eval__at_start=False))
    assert pipeline.run_all(config, bridges)
    assert "the policy gradient is biased" in " ".join(capsys.readouterr().out.split())
    assert 0.1 < rows(tmp_path / "run" / "metrics.jsonl")[0]["rollout/kept_mass"] < 1


def test_a_run_killed_in_the_middle_goes_on_to_the_same_bits(files, compiled, tmp_path):
    steps = 16
    recipes = {}
    for name in ("whole", "killed"):
        recipes[name] = tmp_path / f"{name}.py"
        recipes[name].write_text(
            tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / name), steps=steps))
    whole = start(recipes["whole"], compiled)
    assert whole.wait() == 0, whole.stdout.read()
    killed = start(recipes["killed"], compiled)
    log = tmp_path / "killed" / "metrics.jsonl"
    while killed.poll() is None and not (log.exists() and len(rows_so_far(log)) > 6):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 6 < len(rows_so_far(log)) < steps
    again = start(recipes["killed"], compiled)
    output = again.communicate()[0]
    assert again.returncode == 0 and "Going on from the checkpoint of step" in output
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_what_was_done_is_saved_where_a_batch_has_nothing_to_train_on(files, tmp_path, monkeypatch):
    config = resolve(
        tiny_run.settings(files, tmp_path, train__steps=4, checkpoint__every=0, eval__every=0,
                          eval__at_start=False))
    real = train.prepare
    seen = []

    def prepare(groups, *rest):
        seen.append(groups)
        if len(seen) == 3:
            groups = [
                dataclasses.replace(
                    group, rollouts=[
                        dataclasses.replace(one, loss_mask=0 * one.loss_mask) for one in group.rollouts
                    ]) for group in groups
            ]
        return real(groups, *rest)

    monkeypatch.setattr(train, "prepare", prepare)
    with pytest.raises(UserError, match="nothing to train on"):
        pipeline.run_all(config, bridges)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()] == ["2"]
    assert pipeline.run_all(config, bridges) and len(seen) == 5  # steps 3 and 4 again, from what was saved


def noting(made):
    """A task that adds each instance to `made`."""
    @dataclasses.dataclass
    class Noted(Gsm8k):
        def __post_init__(self):
            super().__post_init__()
            self.opened = 0
            self.closed = 0
            made.append(self)

        def open(self, row, seed):
            assert not self.closed
            self.opened += 1
            return super().open(row, seed)

        def close(self):
            self.closed += 1

    return Noted


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_has_one_task_and_closes_it_however_it_ends(files, tmp_path, monkeypatch, fails):
    made = []
    monkeypatch.setitem(TASKS, "noted", noting(made))
    short = dict(train__steps=1, sft__steps=1, eval__at_start=False, eval__every=1,
                 env__name="noted(overlong_tokens=20)")
    config = resolve(tiny_run.settings(files, tmp_path / "run", **short))
    if fails:
        monkeypatch.setattr(train, "prepare", lambda *_: int("the update broke"))
        with pytest.raises(ValueError, match="the update broke"):
            pipeline.run_all(config, bridges)
    else:
        assert pipeline.run_all(config, bridges)
    assert [task.closed for task in made] == [1] * len(made) and len([task
                                                                      for task in made if task.opened]) == 1
