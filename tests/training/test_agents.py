"""Whole runs of episodes of several turns, on a tiny model: what they log and train, killed in the middle of
an episode, over environments that fail, and ahead of the weights."""
import collections

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.rollout.failures import EpisodesError
from jaxrl_moe.training import pipeline
from tests.helpers import tiny_run
from tests.helpers.runs import assert_same_run, rows, start
from tests.helpers.settings import refuse_settings

WALK = "tests.helpers.walks:Walk"
TURNS = dict(env__name=f"{WALK}(max_turns=4)", episodes__max_tokens=80, data__max_prompt_tokens=40,
             rollout__max_tokens=6, train__steps=3, eval__greedy=False, lora__dropout=0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def run(files, folder, **settings):
    config = resolve(tiny_run.settings(files, folder, **TURNS | settings))
    assert pipeline.run_all(config, bridges)
    return rows(folder / "metrics.jsonl"), rows(folder / "trajectories.jsonl")


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return run(files, folder)


def test_a_run_trains_the_turns_that_were_sampled_and_shows_what_stood_between(finished):
    metrics, drawn = finished
    trained = [row for row in drawn if row["phase"] == "train"]
    assert len(trained) == 3 * 3 * 4 and max(len(row["turns"]) for row in trained) > 1
    for row in trained:
        mask = np.array(row["loss_mask"])
        spans = np.zeros_like(mask)
        for first, last, _ in row["turns"]:
            spans[first:last] = 1
        np.testing.assert_array_equal(mask, spans)
        assert row["reward"] == pytest.approx(sum(reward for *_, reward in row["turns"]))
        assert not np.any(np.array(row["logprobs"])[mask == 0]) and mask[-1] == 1
        assert row["outcome"] in ("finished", "truncated") and len(row["messages"]) == len(row["turns"])
        assert "You are at 0." in row["prompt"]
        assert row["completion"].count("You are at") == len(row["turns"]) - 1
    for row in metrics[1:]:
        assert 1 < row["rollout/turns_mean"] <= 4 and row["rollout/branches_mean"] == 0
        assert row["mismatch/kl"] < 1e-9 and row["episodes/failed_frac"] == 0


@pytest.mark.parametrize("kill_at", [7, pytest.param(30, marks=pytest.mark.slow),
                                     pytest.param(61, marks=pytest.mark.slow)])
def test_a_run_killed_in_mid_episode_goes_on_to_the_same_bits(files, compiled, tmp_path, kill_at):
    recipes = {}
    text = ("import pathlib\nfrom tests.helpers.tiny_run import settings\ndef get_config():\n"
            "    return settings(pathlib.Path({files!r}), {folder!r}, **{settings!r})\n")
    for name in ("whole", "killed"):
        settings = TURNS | {"rollout__prompts_per_step": 2, "checkpoint__every": 1}
        if name == "killed":
            settings |= {"env__name": f"{WALK}(max_turns=4, kill_at={kill_at}, killed='{tmp_path}/mark')"}
        recipes[name] = tmp_path / f"{name}.py"
        folder = str(tmp_path / name)
        recipes[name].write_text(text.format(files=str(files), folder=folder, settings=settings))
    whole = start(recipes["whole"], compiled)
    killed = start(recipes["killed"], compiled)
    assert whole.wait() == 0, whole.stdout.read()
    assert killed.wait() == -9, killed.stdout.read()
    again = start(recipes["killed"], compiled)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_environments_that_fail_leave_as_many_trained_samples_and_none_of_a_failed_episode(files, tmp_path):
    metrics, drawn = run(files, tmp_path / "run", env__name=f"{WALK}(max_turns=4, fails=10, sure=false)",
                         eval__every=0, eval__at_start=False, eval__samples=1)
    phases = collections.Counter(row["phase"] for row in drawn)
    assert phases["train"] == 3 * 3 * 4
    assert all(row["outcome"] in ("finished", "truncated") for row in drawn if row["phase"] == "train")
    assert all(row["episodes/reset_failed_frac"] > 0 for row in metrics[1:])


def test_failures_without_end_stop_the_run_with_their_message(files, tmp_path):
    with pytest.raises(EpisodesError, match="reset_failed: 13.*the line is broken"):
        run(files, tmp_path / "run", env__name=f"{WALK}(max_turns=4, fails=1, sure=false)", eval__every=0,
            eval__at_start=False, episodes__error_window=8)


@pytest.mark.parametrize("stragglers", ["carry", "cut"])
def test_episodes_ahead_of_the_weights_are_trained_once_each_and_never_too_late(files, tmp_path, stragglers):
    metrics, drawn = run(files, tmp_path / "run", rollout__max_staleness=1, rollout__stragglers=stragglers,
                         algorithm__corrections=("tis",), eval__every=0, eval__at_start=False)
    trained = [(row["sequence"], row["sample"]) for row in drawn if row["phase"] == "train"]
    assert len(trained) == len(set(trained)) == 3 * 3 * 4
    assert all(row["rollout/staleness_max"] <= 1 and row["rollout/turns_mean"] > 1 for row in metrics)


@pytest.mark.parametrize("settings, told", [
    (dict(episodes__max_tokens=0), "episodes.max_tokens is not given"),
    (dict(episodes__max_tokens=5), "less than rollout.max_tokens = 6"),
    (dict(episodes__rounds=(9,)), "more than the 4 turns"),
    (dict(episodes__rounds=(2, 4)), "rounds_every = 0"),
    (dict(episodes__rounds_every=4), "names no second number"),
    (dict(episodes__order="fixed", rollout__max_staleness=1), "drawing and updating take turns"),
    (dict(env__name="gsm8k"), "episodes.max_tokens = 80 has no effect"),
    (dict(env__name="gsm8k", episodes__max_tokens=0, episodes__history="branch"), "'branch' has no effect")])
def test_settings_of_episodes_that_cannot_be_are_refused(files, tmp_path, settings, told):
    with pytest.raises(ConfigError, match=told):
        refuse_settings(resolve(tiny_run.settings(files, tmp_path, **TURNS | settings)))
