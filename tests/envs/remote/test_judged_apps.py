"""A judge that the run asks about what a task app played, over HTTP, by the client of judges."""
import contextlib

import pytest

from jaxrl_moe.envs.remote.task_app import TaskApp
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fake_judge import FakeJudge
from tests.helpers.fake_task_app import FakeTaskApp, ModelsOnly, scripted


@contextlib.contextmanager
def judged(judge, **settings):
    """The step of an episode in which the policy said "one" and "three"."""
    with FakeTaskApp(scripted("one", "three")) as app, ModelsOnly() as endpoint:
        with contextlib.closing(TaskApp(app.url, judge_url=judge.url, **settings)) as task:
            yield lambda: task.open({"seed": 7}, 0).play(f"{endpoint.url}/sessions/1/v1")


@pytest.mark.parametrize("looks", [0, 2])
def test_a_verdict_is_the_reward_whenever_it_comes(looks, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "judges-key")
    with FakeJudge("judges-key", looks) as judge:
        with judged(judge, judge_key_env="JUDGE_KEY", rubric_id="page", run="r") as play:
            step = play()
    assert step.reward == step.info["outcome"] == 0.0 and step.notes["judge_answer"] == "It has 5 letters."
    body = judge.asked[0]
    assert body["trace"]["turns"] == [{"text": "one"}, {"text": "three"}] and body["task_app"]["id"] == "fake"
    assert body["options"]["rubric_id"] == "page" and body["options"]["run"] == "r"


def test_a_work_that_nobody_judges_by_the_deadline_is_not_tried_again():
    with FakeJudge(looks=None) as judge:
        with judged(judge, judge_deadline=0.2, on_deadline="drop") as play:
            with pytest.raises(EnvError) as failed:
                play()
    assert failed.value.final and failed.value.status == Status.TIMED_OUT


def test_a_key_that_the_judge_refuses_is_told_without_it(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "another-key")
    with FakeJudge("judges-key") as judge, judged(judge, judge_key_env="JUDGE_KEY") as play:
        with pytest.raises(UserError, match="401") as failed:
            play()
    assert "another-key" not in str(failed.value)
