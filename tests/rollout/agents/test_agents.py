"""Episodes in the hands of agents: what ends them, and what becomes of agents that hang, break or answer
twice."""
import threading
import time

import numpy as np
import pytest

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.envs.agent import AgentTask
from jaxrl_moe.protocols import AgentEpisode
from jaxrl_moe.rollout.agents.agents import Agents
from jaxrl_moe.rollout.agents.session import SessionError
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.rollout.answers import from_plain
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.types import Completion, EnvError, Prompt, SamplingParams, Status, Step
from tests.helpers.waiting import wait_until

PROMPT = Prompt(np.array([1], np.int32), {"question": "2 + 2?"}, 0, "d.jsonl, row 1")
KEY = (0, 0)


class Played(AgentTask, AgentEpisode):
    """Its episodes are played by a function of the base_url."""

    def __init__(self, how, closing=lambda: None):
        self.max_turns = 4
        self.how = how
        self.closing = closing

    def open(self, row, seed):
        return self

    def play(self, base_url):
        return self.how(base_url)

    def close(self):
        self.closing()


def episodes(task, **settings):
    return Episodes(task, lambda ids: " ".join(map(str, ids)), settings=EpisodesSection(**settings),
                    sessions=AgentSessions())


def agents_of(task, **settings):
    given = episodes(task, **settings)
    return Agents(given, 0, SamplingParams(max_tokens=4), 100), given.sessions


def call(session, prompt=(1, 2)):
    """A call of the policy, drawn at once."""
    request = session.enter(np.array(prompt, np.int32), None, (), ())
    completion = Completion(np.array([5], np.int32), np.zeros(1, np.float32), "stop", np.zeros(1, np.int32))
    session.drew(request, completion, lambda _: (), None, None)
    session.left(request.turn)


def number_of(base_url):
    return base_url.split("/")[-2]


def test_an_agent_that_never_calls_and_never_ends_times_out():
    gone = threading.Event()
    agents, sessions = agents_of(Played(lambda _: gone.wait(60)), step_timeout=0.2)
    agents.give(KEY, PROMPT, 4)
    (answer,) = agents.answers([KEY], 10)
    gone.set()
    assert answer.status == Status.TIMED_OUT and "step_timeout" in answer.message


def test_an_episode_that_nobody_has_taken_does_not_time_out():
    agents, sessions = agents_of(Played(lambda _: time.sleep(0.1)), step_timeout=0.2)
    agents.give(KEY, PROMPT, 4)
    wait_until(lambda: sessions.waiting)
    assert agents.answers([KEY], 0.5) == []
    sessions.take()
    assert agents.answers([KEY], 10)[0].status == Status.TIMED_OUT


def test_that_nobody_asks_for_an_episode_is_said_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr("jaxrl_moe.rollout.agents.agents.REMINDER_S", 0.3)
    agents, sessions = agents_of(Played(lambda _: None))
    sessions.url = "http://here:8000"
    agents.give(KEY, PROMPT, 4)
    agents.answers([KEY], 0.8)
    said = [record.getMessage() for record in caplog.records]
    assert 1 <= len(said) <= 2 and said[0].startswith("1 episodes wait for agents")
    assert said[0].endswith("POST http://here:8000/sessions.")
    sessions.take()
    agents.answers([KEY], 0.5)
    assert len(caplog.records) == len(said)


def test_an_agent_that_says_its_episode_goes_on_has_said_nothing():
    def play(base_url):
        with sessions.using(number_of(base_url)) as session:
            call(session)
        return Step(1.0, False)

    agents, sessions = agents_of(Played(play))
    agents.give(KEY, PROMPT, 4)
    (answer,) = agents.answers([KEY], 10)
    assert answer.status == Status.MALFORMED and "done" in answer.message


def answer_of(steps, prompts=((1,), (1, 5), (1, 5, 5)), **settings):
    """What comes of an episode whose agent makes calls of these prompts and tells of these steps."""
    def play(base_url):
        with sessions.using(number_of(base_url)) as session:
            for prompt in prompts:
                call(session, prompt)
        return steps

    agents, sessions = agents_of(Played(play), **settings)
    agents.give(KEY, PROMPT, 4)
    (answer,) = agents.answers([KEY], 10)
    return answer, agents


def test_steps_of_calls_stand_at_their_turns_and_the_last_is_that_of_the_whole():
    steps = (Step(0.5, False, achieved=("wood",)), Step(0.0, False), Step(0.25, True, {"correct": 1.0}))
    answer, agents = answer_of(steps)
    drafts, truncated, before = agents.drafts(KEY)
    assert answer.step == steps[2] and before == steps[:2] and not truncated
    (trace,) = [draft.trace() for draft in drafts]
    assert [turn.reward for turn in trace.turns] == [0.5, 0, 0]
    assert [turn.achieved for turn in trace.turns] == [("wood",), None, None]


@pytest.mark.parametrize("steps, prompts, message", [
    ((Step(1.0),), ((1,), (1, 5)), "tells of 1 steps, and has made 2 calls"),
    ((Step(1.0, False), Step(1.0, False), Step(1.0)), ((1,), (1, 5)), "tells of 3 steps"),
    ((Step(1.0, False), Step(1.0, False), Step(1.0)), ((1,), (9,), (1, 5)), "back and forth"),
    ((), ((1,),), "says nothing of it"), ((Step(1.0), Step(1.0)), ((1,), (1, 5)), "its last step alone"),
    ([Step(1.0, False)], ((1,),), "its last step alone"), ((1.0,), ((1,),), "let step.. return"),
    (Step(1.0), (), "without a call of the policy")])
def test_steps_that_do_not_fit_the_calls_are_malformed(steps, prompts, message):
    answer, _ = answer_of(steps, prompts)
    assert answer.status == Status.MALFORMED and message.partition("..")[0] in answer.message


def test_a_failure_that_is_final_says_so():
    def play(base_url):
        raise EnvError(Status.TIMED_OUT, "nobody judged it", True)

    agents, _ = agents_of(Played(play))
    agents.give(KEY, PROMPT, 4)
    (answer,) = agents.answers([KEY], 10)
    assert answer.final and from_plain(answer.plain()) == answer


def test_a_task_with_a_time_out_of_its_own_may_take_longer_than_a_step():
    go = threading.Event()
    task = Played(lambda _: go.wait(60) and None)
    task.ends_itself = True
    agents, sessions = agents_of(task, step_timeout=0.1, episode_timeout=0.1)
    agents.give(KEY, PROMPT, 4)
    assert agents.answers([KEY], 0.4) == []
    go.set()
    wait_until(lambda: sessions.waiting)


def test_of_two_outcomes_the_first_stands():
    """As where an agent finishes its session over HTTP, and the task returns what it thinks of it."""
    def play(base_url):
        with sessions.using(number_of(base_url)) as session:
            call(session)
        sessions.finish(number_of(base_url), Step(0.25, True))
        return Step(1.0, True)

    agents, sessions = agents_of(Played(play))
    agents.give(KEY, PROMPT, 4)
    wait_until(lambda: agents._held[KEY].job.done)
    (answer,) = agents.answers([KEY], 10)
    assert answer.step.reward == 0.25


def test_an_episode_is_cut_once_its_policy_has_had_a_turn():
    agents, sessions = agents_of(AgentTask())
    agents.give(KEY, PROMPT, 4)
    agents.cut(KEY)
    wait_until(lambda: sessions.waiting)
    session = sessions.take()
    call(session)  # else it would be finished without a call, which is a failure
    agents.cut(KEY)
    with pytest.raises(SessionError, match="The run ends this episode"):
        call(session)


def test_what_a_task_breaks_with_while_it_closes_is_told():
    def break_down():
        raise ValueError("cannot close")

    task = Played(lambda _: None, break_down)
    task.deterministic = True  # else a fresh one may not break
    agents, sessions = agents_of(task)
    agents.give(KEY, PROMPT, 4)
    wait_until(lambda: sessions.waiting)
    agents.end(KEY)
    with pytest.raises(GradeError, match="cannot close"):
        wait_until(lambda: agents.answers([], 0.05))
