"""Tasks of a taskset of verifiers, by the real package."""
import contextlib

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.types import UserError
from tests.helpers.adapters import FAKE, played, python_of_adapter, said

BOXED = """
import verifiers.v1 as vf
__all__ = ["Boxed"]


class Run(vf.Task[vf.TaskData]):
    @vf.reward()
    async def passes(self, trace, runtime) -> float:
        return 1.0


class Boxed(vf.Taskset[Run, vf.TasksetConfig]):
    def load(self):
        yield Run(vf.TaskData(prompt="Write a program."))
"""


@pytest.fixture(scope="module")
def python():
    return python_of_adapter("verifiers")


@pytest.fixture(scope="module")
def spelling(python):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FAKE.parent))
        settings = """options='{"count": 3}', workers=1, lowest=0, highest=1"""
        with contextlib.closing(make_task(f"verifiers(taskset='spelling_tasks', {settings})")) as task:
            task.ready()
            yield task


def test_a_task_is_asked_once_and_scored_by_its_own_rewards(spelling):
    expected = {"enots": (1.0, 1.0, 1.0), "stone": (0.25, 0.0, 1.0),
                "<think>enots</think> no": (0.0, 0.0, 0.0)}
    for answer, (reward, exact, length) in expected.items():
        (asked,), (step,) = played(spelling, {"id": 1}, said(answer))
        assert asked == {"role": "user", "content": "Say the word alone.\n\nWrite 'stone' backwards."}
        assert (step.reward, step.done, step.info["correct"]) == (reward, True, float(reward == 1))
        assert (step.info["exact"], step.info["length"]) == (exact, length)
        assert step.info["letters"] == len(answer.rpartition("</think>")[2].strip())


def test_a_task_that_is_not_there_is_refused(spelling):
    with pytest.raises(UserError, match="no task 3: the taskset has 3"):
        played(spelling, {"id": 3})


def test_tasksets_that_cannot_be_played_are_refused_before_the_run(python, tmp_path, monkeypatch):
    (tmp_path / "boxed_tasks.py").write_text(BOXED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for settings, told in (("taskset='boxed_tasks'", "needs a container or runtime for passes"),
                           ("taskset='no_such_tasks'", "cannot load taskset = 'no_such_tasks'")):
        with contextlib.closing(make_task(f"verifiers({settings})")) as task:
            with pytest.raises(UserError, match=told):
                task.ready()


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="options has an id"):
        make_task("verifiers(taskset='x', options='{\"id\": \"y\"}')")
    with pytest.raises(UserError, match="no range"):
        make_task("verifiers(taskset='x', lowest=1, highest=1)")
    assert make_task("verifiers(taskset='x', lowest=0, highest=1)").score_range == (0, 1)
