"""What a run costs, against sums by hand."""
import json

import pytest

from jaxrl_moe.config import base, resolve, to_json
from jaxrl_moe.planning.costs import Rates, cost_lines, measured_text, step_times
from jaxrl_moe.types import UserError

RL = [{"step": 0, "eval/reward_mean": 0.1, "time/evaluate_s": 7.0},
      {"step": 1, "time/step_s": 50.0, "perf/compile_s": 30.0},
      {"step": 2, "time/step_s": 21.0, "perf/compile_s": 0.0, "time/checkpoint_s": 4.0},
      {"step": 3, "time/step_s": 31.0, "time/evaluate_s": 9.0}]
SFT = [{"step": 1, "time/step_s": 12.0, "perf/compile_s": 10.0}, {"step": 2, "time/step_s": 2.0},
       {"step": 2, "time/evaluate_s": 11.0, "time/step_s": 3.0}]


def recipe(**sections):
    config = base()
    config.env.name = "gsm8k"
    config.model.path = "model"
    config.data.path = config.data.eval_path = "rows.jsonl"
    config.train.steps = 100
    config.checkpoint.every = 25
    config.eval.every = 50
    for key, value in sections.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    return resolve(config)


def run_of(folder, rl=RL, sft=(), settings=None):
    for path, rows in ((folder, rl), (folder / "sft", sft)):
        path.mkdir(exist_ok=True)
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if settings is not None:
        (folder / "config.json").write_text(json.dumps(to_json(settings)))
    return str(folder)


def test_a_steps_time_leaves_out_what_does_not_come_with_every_step():
    times = step_times(RL)
    assert (times.step, times.evaluation, times.checkpoint, times.compiled, times.count) == (21, 8, 4, 30, 3)
    assert step_times(SFT, apart=True).step == 2 and step_times([]).count == 0


def test_the_seeds_budget_lasts_as_long_as_the_seed_says():
    for price, hours in ((0.69, 320.3), (1.19, 185.7)):  # an RTX 3090, an A100
        _, line = cost_lines(1.0, 0.5, 2, 1, Rates(price, 221), least=False)
        assert f"are {hours} GPU-hours" in line and f"in {hours} hours" in line
        assert f"about {int(221 / price / 0.5):,} steps" in line


def test_devices_use_a_budget_up_together_and_a_floor_is_told_as_one():
    run, budget = cost_lines(8.0, 0.08, 100, 4, Rates(2.0, 64.0), least=True)
    assert run == "whole run of 100 steps: at least 8 GPU-hours, 16.00 at 2 an hour"
    assert "32.0 GPU-hours, which 4 devices use up in 8.0 hours: at most 400 steps" in budget
    assert "the run takes 25.0% of it" in budget
    assert cost_lines(8.0, 0.08, 100, 4, Rates(), least=True) == [
        "whole run of 100 steps: at least 8 GPU-hours"]


def test_a_measured_runs_times_are_those_of_the_run_to_come(tmp_path):
    text = measured_text(recipe(), run_of(tmp_path, settings=recipe()), 2, Rates(3.0))
    seconds = 100 * 21 + 3 * 8 + 4 * 4 + 30  # steps; evaluations at the start, at 50 and 100; checkpoints
    assert f"about {seconds * 2 / 3600:,.3g} GPU-hours, {seconds * 2 / 3600 * 3:,.2f} at 3 an hour" in text
    assert "21 s a step of RL (median of 3" in text and "note" not in text


def test_sft_before_it_counts_too(tmp_path):
    config = recipe(sft__steps=10, sft__path="talks.jsonl")
    text = measured_text(config, run_of(tmp_path, sft=SFT, settings=config), 1, Rates())
    seconds = 100 * 21 + 3 * 8 + 4 * 4 + 30 + 10 * 2 + 11 + 10
    assert f"about {seconds / 3600:,.3g} GPU-hours" in text and "2 s a step of SFT (median of 3" in text


@pytest.mark.parametrize("settings, note", [
    (None, "nobody knows whether the measured run was like"),
    (dict(rollout__group_size=4, train__steps=7), "rollout.group_size: 4 -> 8.")])
def test_a_measured_run_that_was_another_is_told(tmp_path, settings, note):
    before = settings and recipe(**settings)
    assert note in measured_text(recipe(), run_of(tmp_path, settings=before), 1, Rates())


def test_too_few_steps_and_a_budget_without_a_price_are_refused(tmp_path):
    with pytest.raises(UserError, match="has 0 steps of RL.*--config.train.steps=5"):
        measured_text(recipe(), str(tmp_path / "none"), 1, Rates())
    with pytest.raises(UserError, match="has 1 steps of SFT"):
        measured_text(recipe(sft__steps=3, sft__path="talks.jsonl"), run_of(tmp_path, sft=SFT[:1]), 1,
                      Rates())
    with pytest.raises(UserError, match="give --price too"):
        Rates(budget=221)
