"""Grading a completion is an episode of one step: by several threads, in the order of the draws, and closed
whatever happens."""
import contextlib
import dataclasses
import threading
import time

import pytest

from jaxrl_moe.envs.single_turn import OneStep, SingleTurnTask
from jaxrl_moe.hosts.messages import pack, unpack
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.rollout.answers import Answer, from_plain
from jaxrl_moe.rollout.collect import EVAL_STREAM, collect
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.types import Action, SamplingParams, Status, Step, Turn, UserError
from tests.helpers.scripted_engine import PROMPTS, ScriptedEngine, graded, make, train

LAST = Step(0.5, info={"correct": 1}, achieved=("a",))


class Noted(Task):
    """Notes what is opened and closed, and how many episodes are open at once. `first` and `last` are what
    its episodes say."""
    concurrent = True
    deterministic = True

    def __init__(self, first=(), last=LAST, wait=lambda row: 0.0):
        self.first = first
        self.last = last
        self.wait = wait
        self.seeds = {}
        self.open_now = 0
        self.most = 0
        self._lock = threading.Lock()

    def check_row(self, row, index):
        pass

    def open(self, row, seed):
        with self._lock:
            self.seeds.setdefault(row["index"], []).append(seed)
            self.open_now += 1
            self.most = max(self.most, self.open_now)
        return NotedEnv(self, row)

    def close(self):
        pass


class NotedEnv(Env):
    def __init__(self, task, row):
        self._task = task
        self._row = row

    def reset(self):
        return self._task.first

    def step(self, action):
        time.sleep(self._task.wait(self._row))
        if isinstance(self._task.last, Exception):
            raise self._task.last
        return self._task.last

    def close(self):
        with self._task._lock:
            self._task.open_now -= 1


def text(ids):
    return " ".join(map(str, ids))


class ByLength(SingleTurnTask):
    """Grades the last prompts first."""

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        time.sleep(0.02 * (6 - row["index"]))
        return Step(row["index"] + 0.1 * action.num_tokens, info={"tokens": action.num_tokens})


@pytest.mark.parametrize("graders", [1, 3, 64])
def test_groups_come_in_the_order_of_their_draws_whichever_is_graded_first(graders):
    engine = ScriptedEngine(lambda sequence, sample: 1 + sample)
    engine.publish(None, 0)
    groups = collect(PROMPTS, Episodes(ByLength(), text, graders=graders), engine, SamplingParams(8, n=2), 5)
    assert [group.sequence for group in groups] == list(range(5, 12)) and [group.prompt
                                                                           for group in groups] == PROMPTS
    assert [[rollout.reward for rollout in group.rollouts]
            for group in groups] == [[index + 0.1, index + 0.2] for index in range(7)]
    assert groups[3].rollouts[1].info == {"tokens": 2.0} and groups[3].rollouts[1].text == "0 1"


@pytest.mark.parametrize("concurrent, graders, most", [(True, 1, 1), (True, 4, 4), (False, 4, 1)])
def test_as_many_threads_grade_as_the_setting_says_and_the_task_allows(concurrent, graders, most):
    task = Noted(wait=lambda row: 0.02)
    task.concurrent = concurrent
    graded(task, graders=graders)
    assert task.most == most and task.open_now == 0


def test_a_task_that_takes_one_thread_gets_one_where_rollouts_run_ahead_too():
    task = Noted(wait=lambda row: 0.002)
    task.concurrent = False
    with contextlib.closing(make(ScriptedEngine(), Rules(2, 1), task, last=3, graders=8)) as producer:
        assert len(list(train(producer, 3, hold=True))) == 3
    assert task.most == 1 and task.open_now == 0


@pytest.mark.parametrize("graders", [1, 4])
@pytest.mark.parametrize("error", [UserError("row 3 has no answer"), ValueError("the judge broke")])
def test_an_error_of_a_grader_ends_the_step_and_its_episodes_are_closed(graders, error):
    task = Noted(last=error, wait=lambda row: 0.005)
    with pytest.raises(GradeError, match=f"^Prompt [0-6]: the task {__name__}:Noted .*{error}") as raised:
        graded(task, graders=graders)
    assert raised.value.__cause__ is error
    deadline = time.monotonic() + 5
    while task.open_now and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not task.open_now and sum(map(len, task.seeds.values())) <= 14


def test_a_group_s_episodes_begin_alike_and_those_of_other_draws_and_streams_do_not():
    task = Noted()
    again = Noted()
    for noted, stream in ((task, 0), (again, EVAL_STREAM)):
        graded(noted, samples=3, seed=4, stream=stream)
    first = [seeds[0] for seeds in task.seeds.values()]
    assert all(seeds == [seeds[0]] * 3 for seeds in task.seeds.values()) and len(set(first)) == 7
    assert not set(first) & {seeds[0] for seeds in again.seeds.values()}
    other = Noted()
    graded(other, samples=3, seed=5)
    assert not set(first) & {seeds[0] for seeds in other.seeds.values()}


@pytest.mark.parametrize("task, reason", [
    (Noted(first=({"role": "user", "content": "go on"},)),
     "^Prompt 0: the task .*:Noted opens the row with messages of its own"),
    (Noted(last=Step(0.0, done=False)), "^Prompt 0: the task .*:Noted goes on after the first completion")])
def test_what_an_episode_of_one_step_cannot_do_is_refused_and_the_episode_closed(task, reason):
    with pytest.raises(UserError, match=reason):
        graded(task)
    assert not task.open_now


class Refusing(Noted):
    def open(self, row, seed):
        raise UserError("this row has no gold number")


@pytest.mark.parametrize("task, reason", [
    (Noted(first=({"role": "user", "content": "go on"},)), "Noted opens the row with messages"),
    (Noted(last=Step(0.0, done=False)), "Noted goes on after the first completion"),
    (Refusing(), "Refusing refuses it: this row has no gold number")])
def test_a_row_that_an_episode_fails_on_is_named_by_file_and_line(task, reason):
    prompt = dataclasses.replace(PROMPTS[3], where="d.jsonl, row 5")
    with pytest.raises(UserError, match=f"^d.jsonl, row 5: the task .*{reason}"):
        graded(task, [prompt])


@pytest.mark.parametrize("limit, status", [(3, Status.TRUNCATED), (4, Status.FINISHED)])
def test_a_rollout_says_how_its_episode_ended(limit, status):
    engine = ScriptedEngine(lambda *_: 3)
    engine.publish(None, 0)

    class Limited(ScriptedEngine):
        def generate(self, requests):
            reason = "length" if limit == 3 else "stop"
            return [[dataclasses.replace(each, finish_reason=reason) for each in samples]
                    for samples in engine.generate(requests)]

    (group, *_) = collect(PROMPTS, Episodes(Noted(), text), Limited(), SamplingParams(limit, n=2), 0)
    rollout = group.rollouts[0]
    assert rollout.turns == (Turn(0, 3, 0.5, ("a",)),) and rollout.info == {"correct": 1.0}
    assert rollout.status == status and rollout.truncated == (status == Status.TRUNCATED)


@pytest.mark.parametrize("answer", [
    Answer((3, 1), step=Step(0.5, False, {"a": 1.0}, ({"role": "user", "content": "x"},), ("b", "c"))),
    Answer((3, 1), messages=({"role": "user", "content": "x"},), seconds=0.5),
    Answer((3, 1), status=Status.TIMED_OUT, message="too late")])
def test_an_answer_travels_as_it_is(answer):
    assert from_plain(unpack(pack(answer.plain()))) == answer


def test_an_episode_takes_no_action_after_its_end():
    env = OneStep(ByLength(), {"index": 6})
    env.step(Action("x", 1, False))
    with pytest.raises(UserError, match="ended"):
        env.step(Action("x", 1, False))
