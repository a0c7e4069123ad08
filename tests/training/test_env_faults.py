"""Whole runs over an environment server of its own process that dies, hangs, refuses or talks nonsense: what
is trained is what a run without faults trains, and the run says what happened."""
import contextlib
import json
import re
import threading

import pytest

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.rollout.failures import FAILURES, EpisodesError
from jaxrl_moe.training import pipeline
from tests.helpers import tiny_run
from tests.helpers.env_servers import EnvProcess, FakeGym, forwarded
from tests.helpers.runs import rows
from tests.helpers.tiny_models import make_checkpoint
from tests.helpers.waiting import wait_until

STEPS = 3
EPISODES = 3 * 4  # of a step
CALLS = "/create /reset /step"
# all rewards are 0; turns that end early are penalised less, and so groups differ
SETTINGS = dict(data__max_prompt_tokens=40, episodes__max_tokens=200, rollout__max_tokens=6,
                rollout__stop_strings=tuple(" aeiou"), algorithm__overlong_tokens=18,
                algorithm__overlong_cushion=18, algorithm__minibatches=1, lora__dropout=0.0, eval__every=0,
                eval__at_start=False, train__steps=STEPS, checkpoint__every=0, logging__tensorboard=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The goals from 14 on begin with few tokens."""
    folder = tiny_run.make_files(tmp_path_factory.mktemp("files"))
    make_checkpoint(folder / "longer", num_hidden_layers=1, max_position_embeddings=256)
    goals = [{"question": "Craft it.", "id": number, "recipes": "small"} for number in range(14, 26)]
    (folder / "goals.jsonl").write_text("".join(json.dumps(goal) + "\n" for goal in goals))
    return folder


@pytest.fixture(scope="module")
def server():
    with EnvProcess("textcraft(recipes='small', distractors=0)") as process:
        yield process


def run(files, folder, url, task="", **settings):
    """(metrics, trajectories) of a run over the server at a URL."""
    own = dict(model__path=str(files / "longer"), data__path=str(files / "goals.jsonl"), data__eval_path="",
               env__name=f"agentgym(env='textcraft', url='{url}', max_turns=3{task})")
    config = resolve(tiny_run.settings(files, folder, **own | SETTINGS | settings))
    assert pipeline.run_all(config, bridges)
    return rows(folder / "metrics.jsonl"), rows(folder / "trajectories.jsonl")


@pytest.fixture(scope="module")
def sound(files, server, tmp_path_factory):
    metrics, drawn = run(files, tmp_path_factory.mktemp("sound") / "run", server.url)
    assert len(drawn) == STEPS * EPISODES and all(row["episodes/failed_frac"] == 0 for row in metrics)
    assert all(row["reward/shaped_mean"] < 0 and row["policy/grad_norm"] > 0.001 for row in metrics)
    return drawn


def trained(drawn):
    return [row for row in drawn if row["phase"] == "train"]


def assert_whole(metrics, drawn):
    """As many samples were trained as without faults, each once, none of an episode that failed."""
    assert [row["step"] for row in metrics] == list(range(1, STEPS + 1))
    taken = [(row["sequence"], row["sample"]) for row in trained(drawn)]
    assert len(taken) == len(set(taken)) == STEPS * EPISODES
    for row in trained(drawn):
        assert row["outcome"] in ("finished", "truncated") and row["reward"] == 0 and not row["message"]
        assert len(row["turns"]) > 1 and None not in (row["used_reward"], row["advantage"])


def kinds(metrics):
    """The classes of failures that were counted."""
    return {str(status) for status in FAILURES for row in metrics
            if row.get(f"episodes/{status}_frac", 0) > 0}  # none: all of the step was played ahead of it


def content(drawn):
    return [(row["step"], row["sequence"], row["sample"], row["completion_ids"], row["messages"],
             row["used_reward"]) for row in trained(drawn)]


@contextlib.contextmanager
def dying(server, calls):
    """The server is killed once it has answered so many calls more, and started again."""
    until = server.metric("env_calls_total") + calls

    def watch():
        wait_until(lambda: server.metric("env_calls_total") >= until)
        server.kill()
        server.start()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("settings", [{}, pytest.param(
    dict(rollout__max_staleness=1, algorithm__corrections=("tis",)), marks=pytest.mark.slow)])
def test_a_server_killed_in_mid_rollout_and_started_again_costs_its_open_episodes_one_try(
        files, server, sound, tmp_path, capfd, settings):
    with dying(server, 2 * EPISODES + 2):  # all have begun
        metrics, drawn = run(files, tmp_path / "run", server.url, **settings)
    assert_whole(metrics, drawn)
    assert server.metric("env_sessions_held") == 0
    assert kinds(metrics) <= {"unreachable", "step_failed", "reset_failed"}
    assert len(trained(drawn)) == len(drawn)  # none was given up
    said = capfd.readouterr().out
    failed = sum(map(int, re.findall(r"(\d+) of \d+ tries failed", said)))
    assert 0 < failed <= EPISODES * (2 if settings else 1)
    assert "broke the connection" in said or "There is no session" in said
    if not settings:
        assert content(drawn) == content(sound)


@pytest.mark.parametrize("fault, at, every, classes, task, settings", [
    ("500 page list half lacks drop error", CALLS, 9,
     {"step_failed", "reset_failed", "malformed", "unreachable"}, "", {}),
    pytest.param("nan text", "/step", 5, {"malformed"}, "", {}, marks=pytest.mark.slow),
    pytest.param("hang drip", CALLS, 20, {"timed_out"}, ", timeout=4", {}, marks=pytest.mark.slow),
    pytest.param("hang drip", CALLS, 20, {"timed_out"}, "", dict(episodes__step_timeout=4.0),
                 marks=pytest.mark.slow)])
def test_faults_that_are_tried_again_leave_the_very_samples_of_a_run_without_them(
        files, server, sound, tmp_path, capfd, fault, at, every, classes, task, settings):
    with FakeGym(forwarded(server.url), fault, at, every=every) as faulty:
        metrics, drawn = run(files, tmp_path / "run", faulty.url, task, episodes__max_error_rate=0.9,
                             episodes__retries=9, **settings)
    assert_whole(metrics, drawn)
    assert faulty.failed >= 3 and set() < kinds(metrics) <= classes  # which call meets which, threads decide
    assert content(drawn) == content(sound)
    said = capfd.readouterr().out
    assert "tries failed (" in said and ("step_timeout = 4 s" if settings else faulty.url) in said
    assert (tmp_path / "run" / "timeouts.jsonl").exists() == (classes == {"timed_out"})


@pytest.mark.slow
@pytest.mark.parametrize("failed", ["drop", "complete"])
def test_where_one_in_ten_resets_fails_others_are_trained_and_the_failed_ones_are_recorded(
        files, server, tmp_path, failed):
    with FakeGym(forwarded(server.url), "error", "/reset", every=10) as faulty:
        metrics, drawn = run(files, tmp_path / "run", faulty.url, episodes__retries=0,
                             episodes__failed=failed)
    assert_whole(metrics, drawn)
    assert faulty.failed >= 3 and kinds(metrics) == {"reset_failed"}
    lost = [row for row in drawn if row["outcome"] == "reset_failed"]
    assert len(lost) == (faulty.failed if failed == "drop" else 0)
    assert all(row["phase"] == "failed" and row["reward"] is None and row["advantage"] is None
               and "The id 5 is not valid" in row["message"] for row in lost)


@pytest.mark.slow
def test_a_server_that_fails_too_often_stops_the_run_saved_and_it_goes_on_from_there(
        files, server, sound, tmp_path):
    with FakeGym(forwarded(server.url), "500", "/step", after=3 * EPISODES, every=2) as faulty:
        with pytest.raises(EpisodesError, match="max_error_rate = 0.2 .*step_failed: .*/step answered with "
                                                "status 500: Internal Server Error.* goes on from its last"):
            run(files, tmp_path / "run", faulty.url)
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit()]
    assert saved in (["1"], ["2"])
    metrics, drawn = run(files, tmp_path / "run", server.url)
    assert_whole(metrics, drawn)
    assert content(drawn) == content(sound)
