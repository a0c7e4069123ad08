"""Algorithm settings in whole runs on a tiny model: what they log, what they train on, and that they resume
to the same bits."""
import dataclasses

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import Config, resolve
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.training import pipeline, source
from jaxrl_moe.training.selection import NothingToLearnError
from tests.helpers import rollouts, tiny_run
from tests.helpers.runs import assert_same_run, rows

SHORT = dict(train__steps=1, eval__every=0, eval__at_start=False, eval__greedy=False, eval__prompts=1,
             eval__samples=1)
DAPO = SHORT | dict(train__steps=4, rollout__dynamic_sampling=True, rollout__max_rounds=4,
                    rollout__prompts_per_step=2, algorithm__minibatches=1, algorithm__overlong_tokens=24,
                    algorithm__overlong_cushion=3, algorithm__kl_coef=0.05, algorithm__kl_target=2e-5,
                    algorithm__corrections=("tis", "veto"))
SAME = SHORT | dict(rollout__temperature=1e-3)  # a group's completions are all the same


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def run(files, run_dir, **settings):
    assert pipeline.run_all(resolve(tiny_run.settings(files, run_dir, **settings)), bridges)
    return run_dir


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """run_dir of 4 steps with dynamic sampling, a penalty on length, an adaptive KL coefficient and
    corrections."""
    return run(files, tmp_path_factory.mktemp("finished") / "run", **DAPO)


def by_sequence(drawn):
    groups = {}
    for row in drawn:
        groups.setdefault(row["sequence"], []).append(row)
    return groups


def penalised(row):
    """A row's reward less the soft penalty over the last 3 of 24 tokens."""
    return row["reward"] - min(max(len(row["completion_ids"]) - 21, 0) / 3, 1)


def test_every_number_of_the_selection_follows_from_the_trajectories(finished):
    drawn = rows(finished / "trajectories.jsonl")
    for logged in rows(finished / "metrics.jsonl"):
        used, dropped = ([row for row in drawn if row["step"] == logged["step"] and row["phase"] == phase]
                         for phase in ("train", "dropped"))
        equal = [
            len({np.float32(penalised(row)) for row in group}) == 1
            for group in by_sequence(dropped).values()
        ]
        assert not any(
            len({np.float32(penalised(row)) for row in group}) == 1 for group in by_sequence(used).values())
        expected = {
            "rollout/groups_drawn": len(by_sequence(used + dropped)),
            "rollout/groups_dropped_constant": sum(equal),
            "rollout/groups_dropped_surplus": len(equal) - sum(equal),
            "reward/mean": np.mean([row["reward"] for row in used + dropped]),
            "reward/used_mean": np.mean([row["reward"] for row in used]),
            "reward/shaped_mean": np.mean([penalised(row) for row in used])
        }
        assert {name: logged[name] for name in expected} == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose([row["used_reward"] for row in used], [penalised(row) for row in used],
                                   rtol=1e-12)
        assert all(row["used_reward"] is None and row["advantage"] is None for row in dropped)
        assert logged["rollout/rounds"] <= 4 and (logged["rollout/rounds"] == 4
                                                  or len(by_sequence(used)) == 2)
        assert logged["mismatch/kl"] < 1e-9
        assert (logged["correction/weight_mean"], logged["correction/dropped_frac"]) == pytest.approx(
            (1, 0), abs=1e-5)
    assert sum(row["phase"] == "dropped" for row in drawn) > 0


def test_no_draw_number_is_used_twice_and_none_is_left_out(finished):
    train_rows = [
        row for row in rows(finished / "trajectories.jsonl") if row["phase"] in ("train", "dropped")
    ]
    numbers = sorted({(row["step"], row["sequence"]) for row in train_rows})
    assert [sequence for _, sequence in numbers] == list(range(len(numbers)))


def test_the_kl_coefficient_follows_the_target(finished):
    logged = rows(finished / "metrics.jsonl")
    coefficient = 0.05
    for row in logged:
        assert row["policy/kl_coef"] == coefficient
        coefficient *= 1.3 if row["policy/kl"] > 3e-5 else 0.7 if row["policy/kl"] < 1e-5 else 1
    assert len({row["policy/kl_coef"] for row in logged}) > 2


@pytest.mark.slow
def test_a_run_without_anything_to_learn_is_saved_and_goes_on_as_if_nothing_had_happened(
        files, finished, tmp_path, monkeypatch):
    real = source.select

    def select(draw, config):
        batch = real(draw, config)
        steps = len(rows(tmp_path / "run" / "metrics.jsonl"))
        return dataclasses.replace(batch, used=[], constant=batch.drawn) if steps == 3 else batch

    monkeypatch.setattr(source, "select", select)
    with pytest.raises(NothingToLearnError, match="Step 4: none of . groups"):
        run(files, tmp_path / "run", **DAPO)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} >= {"2", "3"}
    assert max(row["step"] for row in rows(tmp_path / "run" / "trajectories.jsonl")) == 3
    monkeypatch.setattr(source, "select", real)
    assert_same_run(run(files, tmp_path / "run", **DAPO), finished)


def test_dynamic_sampling_of_equal_completions_gives_up_after_its_rounds(files, tmp_path):
    with pytest.raises(NothingToLearnError, match="none of 6 groups, drawn in 2 rounds"):
        run(files, tmp_path / "run", **SAME, rollout__dynamic_sampling=True, rollout__max_rounds=2)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_step_whose_groups_are_all_left_out_updates_nothing(files, tmp_path):
    (logged,) = rows(
        run(files, tmp_path / "run", **SAME, algorithm__drop_constant_groups=True) / "metrics.jsonl")
    assert logged["rollout/groups_dropped_constant"] == 3 and logged["reward/frac_zero_std"] == 1
    assert "policy/loss" not in logged and "reward/used_mean" not in logged
    assert {row["phase"] for row in rows(tmp_path / "run" / "trajectories.jsonl")} == {"dropped", "eval"}


def test_bypass_trains_several_minibatches_without_any_pass_before(files, tmp_path, monkeypatch):
    def forward(*args, **kwargs):
        raise AssertionError("the old log-probs are the sampler's, and there is no reference")

    monkeypatch.setattr(pipeline.Learner, "forward", forward)
    folder = run(files, tmp_path / "run", **SHORT, algorithm__bypass=True, algorithm__kl_coef=0.0,
                 optimizer__warmup_steps=0, algorithm__entropy_coef=0.1)
    (logged,) = rows(folder / "metrics.jsonl")
    # the second minibatch has moved from the sampler
    assert logged["policy/ratio_mean"] != 1.0 and "mismatch/kl" in logged


def test_full_fine_tuning_needs_no_pass_before_whatever_dropout_its_adapters_would_have():
    """No learner is at hand, so that any pass would fail."""
    config = Config()
    config = dataclasses.replace(config, lora=dataclasses.replace(config.lora, rank=0, dropout=0.1),
                                 algorithm=dataclasses.replace(config.algorithm, kl_coef=0.0))
    assert all(sample.old_logprobs_T is None for sample in prepare(rollouts.groups(), None, config))
    with pytest.raises(AttributeError):
        prepare(rollouts.groups(), None,
                dataclasses.replace(config, lora=dataclasses.replace(config.lora, rank=4)))


def test_kl_in_the_reward_adapts_and_several_returns_leave_single_turns_alone(files, tmp_path):
    folder = run(
        files, tmp_path / "run",
        **SHORT | dict(train__steps=2, algorithm__advantage="reinforce_pp", algorithm__kl_in="reward",
                       algorithm__kl_estimator="k1", algorithm__kl_target=0.5, algorithm__kl_coef=0.2,
                       algorithm__returns="turns", algorithm__turn_gamma=0.9))
    assert [row["policy/kl_coef"] for row in rows(folder / "metrics.jsonl")] == [0.2, 0.2 * 0.7]
    used = [row for row in rows(folder / "trajectories.jsonl") if row["phase"] == "train"]
    assert all(row["used_reward"] == row["reward"]
               and row["turns"] == [[0, len(row["completion_ids"]), row["reward"]]] for row in used)
