"""Whole runs whose episodes a task app plays, which is written from its contract alone: what is trained is
what the app answered, each rollout once, whatever fails, is killed or is started again."""
import contextlib
import functools
import re
import threading

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError
from tests.helpers import fake_task_app, tiny_run
from tests.helpers.fake_judge import FakeJudge, rule
from tests.helpers.fake_task_app import FakeTaskApp
from tests.helpers.processes import free_port
from tests.helpers.runs import rows, start
from tests.helpers.settings import refuse_settings
from tests.helpers.waiting import wait_until

STEPS = 2
EPISODES = 3 * 4  # of a step
PLAYED = dict(data__path="", data__seeds="3,5,8-29", data__eval_path="", data__eval_seeds="100-103",
              episodes__max_tokens=300, rollout__max_tokens=6, train__steps=STEPS,
              train__tokens_per_micro_batch=2048, eval__prompts=2, eval__samples=2, eval__every=2,
              eval__greedy=False, lora__dropout=0.0, algorithm__minibatches=1, endpoint__serve=True,
              logging__tensorboard=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_talking_files(tmp_path_factory.mktemp("files"))


def settings(app, task="", **changes):
    return PLAYED | {"env__name": f"task_app(url='{app.url}', max_turns=4{task})",
                     "endpoint__port": free_port()} | changes


def run(files, folder, app, task="", **changes):
    """(metrics, trajectories) of a run over the app."""
    config = resolve(tiny_run.settings(files, folder, **settings(app, task, **changes)))
    assert pipeline.run_all(config, bridges, beside_training)
    return rows(folder / "metrics.jsonl"), rows(folder / "trajectories.jsonl")


def trained(drawn):
    return [row for row in drawn if row["phase"] == "train"]


def answered(app, row):
    """What the app answered for a row: its metrics, and its steps."""
    answer = app.answers[row["notes"]["run_id"]]
    return answer["metrics"], answer["trajectories"][0]["steps"]


def assert_each_once(app, drawn):
    """Each rollout stands in one row, with its numbers, and each sample is trained once."""
    taken = [(row["sequence"], row["sample"]) for row in trained(drawn)]
    assert len(taken) == len(set(taken)) == STEPS * EPISODES
    sound = [row for row in drawn if row["reward"] is not None]
    ids = [row["notes"]["run_id"] for row in sound]
    assert len(ids) == len(set(ids))
    for row in sound:
        metrics, steps = answered(app, row)
        assert row["reward"] == sum(step["reward"] for step in steps) == metrics["mean_return"]
        assert row["info"]["event"] == metrics["events_score"]
        assert row["info"]["outcome"] == metrics["outcome_score"]
        assert row["info"]["correct"] == metrics["details"]["correct"]
        assert len(row["turns"]) == len(steps) == 2


@pytest.fixture(scope="module")
def played(files, tmp_path_factory):
    """A run that rewards each call of the policy."""
    with FakeTaskApp(fake_task_app.played) as app:
        drawn = run(files, tmp_path_factory.mktemp("played") / "run", app, ", by_calls=true",
                    algorithm__returns="turns", algorithm__turn_gamma=1.0)
    return app, *drawn


def test_a_run_trains_on_what_the_app_answered(played):
    app, metrics, drawn = played
    assert_each_once(app, drawn)
    assert {body["env"]["seed"] for body in app.asked} <= {3, 5, *range(8, 30), *range(100, 104)}
    assert app.calls["/health"] == 1 and metrics[-1]["rollout/turns_mean"] == 2
    assert all(row["mismatch/kl"] < 1e-9 for row in metrics[1:])
    for row in trained(drawn):
        own = row["prompt_index"]
        assert app.asked and (3, 5, *range(8, 30))[own] in {body["env"]["seed"] for body in app.asked}


def test_the_rewards_of_single_steps_are_those_of_the_turns(played):
    app, _, drawn = played
    for row in trained(drawn):
        rewards = [step["reward"] for step in answered(app, row)[1]]
        assert [turn[2] for turn in row["turns"]] == rewards
        np.testing.assert_allclose(row["used_reward"], np.cumsum(rewards[::-1])[::-1])


@pytest.mark.slow
def test_decision_stepwise_rewards_the_calls_that_unlock_something(files, tmp_path):
    with FakeTaskApp(fake_task_app.played) as app:
        _, drawn = run(files, tmp_path / "run", app, ", by_calls=true", eval__every=0, eval__at_start=False,
                       data__eval_seeds="", algorithm__step_rewards="decision_stepwise",
                       algorithm__step_lambda=0.5, algorithm__returns="trajectory", algorithm__turn_gamma=0.4)
    for row in trained(drawn):
        said = [step["tool_calls"][0]["arguments"] for step in answered(app, row)[1]]
        unlocks = [0.5 * (len(text) % 2 == 0) for text in said]
        assert row["used_reward"] == pytest.approx(unlocks[0] + 0.4 * unlocks[1])
    assert len({row["used_reward"] for row in trained(drawn)}) > 1


@pytest.mark.parametrize("weights", [(0.2, 0.4, 0.4), pytest.param((0.3, 0.3, 0.4), marks=pytest.mark.slow)])
def test_blends_weigh_what_the_app_gave_and_its_failures_are_never_trained(files, tmp_path, weights):
    with FakeTaskApp(fake_task_app.played, fault="500,,drop,,twice,,other run,,one step,") as app:
        metrics, drawn = run(files, tmp_path / "run", app, ", by_calls=true", episodes__max_error_rate=0.9,
                             episodes__retries=6, eval__every=0, eval__at_start=False, data__eval_seeds="",
                             algorithm__reward_blend=weights)
    assert_each_once(app, drawn)
    for row in trained(drawn):
        numbers, _ = answered(app, row)
        parts = [numbers["mean_return"], numbers["events_score"], numbers["outcome_score"]]
        assert row["used_reward"] == pytest.approx(float(np.dot(parts, weights)))
    assert len({row["used_reward"] for row in trained(drawn)}) > 2
    kinds = {f"episodes/{status}_frac" for status in ("malformed", "step_failed", "unreachable")}
    assert all(sum(row[kind] for row in metrics) > 0 for kind in kinds)


@pytest.mark.slow
def test_verdicts_of_a_judge_that_takes_its_time_are_the_rewards(files, tmp_path):
    with FakeTaskApp(fake_task_app.played) as app, FakeJudge(looks=1) as judge:
        task = f", judge_url='{judge.url}', max_concurrent_rollouts=4"
        _, drawn = run(files, tmp_path / "run", app, task, eval__every=0, eval__at_start=False,
                       data__eval_seeds="", rollout__max_staleness=1)
    assert len(trained(drawn)) == STEPS * EPISODES
    for row in trained(drawn):
        text = answered(app, row)[1][-1]["tool_calls"][0]["arguments"]
        assert row["reward"] == row["info"]["outcome"] == rule(text)
        assert row["notes"]["judge_answer"] == f"It has {len(text)} letters."
    assert len({row["reward"] for row in trained(drawn)}) > 1


def test_a_run_that_the_app_does_not_let_in_is_over_before_it_began(files, tmp_path, monkeypatch):
    monkeypatch.setenv("ENVIRONMENT_API_KEY", "wrong")
    with FakeTaskApp(key="right") as app, pytest.raises(UserError, match="refuses the API key"):
        run(files, tmp_path / "run", app)
    assert not app.asked and not (tmp_path / "run/checkpoints").exists()


COMPARING = ", judge_url='http://j:1', judge_mode='pairwise', judge_deadline=9, on_deadline='drop', "


@pytest.mark.parametrize("task, changes, message", [
    ("", dict(endpoint__serve=False), "endpoint.serve = False must be true"),
    ("", dict(algorithm__step_rewards="decision_stepwise", algorithm__returns="turns"),
     "algorithm.step_rewards = 'decision_stepwise' .*by_calls=true"),
    ("", dict(episodes__step_timeout=5.0), "episodes.step_timeout = 5.0 has no effect"),
    ("", dict(rollout__graders=9), "rollout.graders = 9 has no effect, .*max_concurrent_rollouts"),
    ("", dict(rollout__stragglers="cut", rollout__max_staleness=1), "rollout.stragglers = 'cut' cannot be"),
    (COMPARING + "group_size=4", {}, "eval.samples = 2 is not the group_size = 4"),
    (COMPARING + "group_size=4", dict(eval__samples=4, eval__greedy=True), "eval.greedy = True cannot be"),
    (COMPARING + "group_size=3", {}, "rollout.group_size = 4 is not the group_size = 3"),
    ("", dict(data__path="p.jsonl"), "data.seeds = '3,5,8-29' and data.path = 'p.jsonl' both"),
    ("", dict(data__eval_path="p.jsonl"), "data.eval_seeds = '100-103' and data.eval_path"),
    ("", dict(data__seeds="3-"), "data.seeds: '3-' is no number"),
    ("", dict(data__generate="babyai"), "data.generate = 'babyai' has no effect")])
def test_settings_that_task_apps_cannot_be_played_under_are_refused(tmp_path, task, changes, message):
    class Nowhere:
        url = "http://127.0.0.1:1"

    config = resolve(tiny_run.settings(tmp_path, tmp_path / "run", **settings(Nowhere, task, **changes)))
    with pytest.raises(ConfigError, match=message):
        refuse_settings(config)


RECIPE = """import pathlib
from tests.helpers.tiny_run import settings

def get_config():
    return settings(pathlib.Path({files!r}), {folder!r}, **{settings!r})
"""


def asked_so_often(app, count, process):
    return len(app.asked) >= count or process.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_a_run_that_is_killed_counts_no_rollout_twice(files, compiled, tmp_path, kills):
    recipe = tmp_path / "recipe.py"
    with FakeTaskApp(fake_task_app.played) as app:
        own = settings(app, checkpoint__every=1, episodes__max_error_rate=0.9)
        recipe.write_text(RECIPE.format(files=str(files), folder=str(tmp_path / "run"), settings=own))
        for kill in range(kills):
            process = start(recipe, compiled)
            wait_until(functools.partial(asked_so_often, app, len(app.asked) + 5 + 3 * kill, process), 240)
            process.kill()
            process.communicate()
        process = start(recipe, compiled)
        output = process.communicate()[0]
        assert process.returncode == 0, output
    drawn = rows(tmp_path / "run/trajectories.jsonl")
    assert_each_once(app, drawn)


@pytest.mark.slow
def test_an_app_that_dies_in_mid_rollout_and_is_started_again_loses_nothing(files, tmp_path):
    app = FakeTaskApp(fake_task_app.played)
    port = int(app.url.rpartition(":")[2])
    lives = contextlib.ExitStack()

    def restart():
        wait_until(lambda: len(app.asked) >= 4, 240)
        app.fault = "drop"  # what is at work is lost
        app.__exit__()
        again = lives.enter_context(FakeTaskApp(fake_task_app.played, port=port))
        again.answers = app.answers
    thread = threading.Thread(target=restart)
    thread.start()
    with lives:
        metrics, drawn = run(files, tmp_path / "run", app, episodes__max_error_rate=0.9, eval__at_start=False)
        thread.join()
    assert_each_once(app, drawn)
    assert re.fullmatch("[0-9a-f]{32}", drawn[0]["notes"]["run_id"]) and metrics
