"""Many episodes of several turns over one engine: which tokens a turn goes on from, in which order turns are
drawn, and what becomes of environments that fail."""
import contextlib
import dataclasses
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.rollout.collect import collect
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import EpisodesError, Failures, by_status
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.rollout.play import Play
from jaxrl_moe.rollout.timeouts import Timeouts
from jaxrl_moe.types import Action, EnvError, Prompt, SamplingParams, Status, Step
from tests.helpers.scripted_engine import ScriptedEngine, make, train

PROMPTS = [Prompt(np.array([index], np.int32), {"index": index}, index, f"d.jsonl, row {index + 1}",
                  ({"role": "user", "content": str(index)},)) for index in range(7)]


class Said(NamedTuple):
    message: dict
    action: Action


class Shown(NamedTuple):
    ids: np.ndarray
    bridge: np.ndarray | None


class Talk:
    """A turn's bridge is -1, then the observation's number; after `rewrites` turns a new sequence begins."""

    def __init__(self, rewrites=(), malformed=()):
        self.rewrites = rewrites
        self.malformed = malformed

    def prompt(self, messages):
        return np.array([int(message["content"]) for message in messages], np.int32)

    def assistant(self, ids, truncated, begun=""):
        return Said({"role": "assistant", "content": " ".join(map(str, ids))},
                    Action(" ".join(map(str, ids)), len(ids), truncated, malformed=self.malformed))

    def next_prompt(self, context, messages, drawn, observation):
        assert messages[-1]["role"] == "assistant" and list(drawn[len(messages) - 1])
        bridge = np.array([-1, *(len(message["content"]) for message in observation)], np.int32)
        if len(drawn) in self.rewrites:
            return Shown(np.array([7, 7, *bridge], np.int32), None)
        return Shown(np.concatenate([context, bridge]), bridge)


class Rooms(Task):
    """Each turn is worth its number; an episode of row i is done after i + 1 turns. Notes what is open;
    `faults` are exceptions, or seconds to wait, by (row, turn), each met once an attempt in `times`."""
    concurrent = True
    deterministic = True

    def __init__(self, faults=None, times=1, turns=lambda index: index + 1, max_turns=8):
        self.faults = faults or {}
        self.times = times
        self.turns = turns
        self.max_turns = max_turns
        self.open_now = 0
        self.opened = []
        self.met = {}
        self.lock = threading.Lock()

    def check_row(self, row, index):
        pass

    def open(self, row, seed):
        with self.lock:
            self.open_now += 1
            self.opened.append((row["index"], seed))
        return Room(self, row["index"])

    def meet(self, index, turn):
        fault = self.faults.get((index, turn))
        if fault is None:
            return
        with self.lock:
            self.met[index, turn] = self.met.get((index, turn), 0) + 1
            if self.met[index, turn] > self.times:
                return
        if isinstance(fault, BaseException):
            raise fault
        time.sleep(fault)

    def close(self):
        pass


class Room(Env):
    def __init__(self, task, index):
        self.task = task
        self.index = index
        self.turn = 0

    def reset(self):
        self.task.meet(self.index, 0)
        return ({"role": "user", "content": "40"},)

    def step(self, action):
        self.turn += 1
        self.task.meet(self.index, self.turn)
        done = self.turn >= self.task.turns(self.index)
        return Step(float(self.turn), done, {"turns": self.turn},
                    () if done else ({"role": "user", "content": "x" * self.turn},))

    def close(self):
        with self.task.lock:
            self.task.open_now -= 1


def played(task, prompts=PROMPTS, n=2, engine=None, talk=None, fixed=True, stream=0, params=None, **settings):
    """The groups that come of it, with the engine and the failures."""
    engine = engine or ScriptedEngine(lambda sequence, sample: 2 + sample)
    engine.publish(None, 0)
    longest = settings.pop("longest", 0)
    timeouts = settings.pop("timeouts", None)
    episodes = Episodes(task, lambda ids: " ".join(map(str, ids)), graders=8,
                        settings=EpisodesSection(**settings), talk=lambda *_: talk or Talk(), longest=longest,
                        timeouts=timeouts)
    failures = Failures(episodes.settings, 1)
    play = Play(engine, episodes, params or SamplingParams(8, n=n), stream, fixed=fixed, failures=failures)
    with contextlib.closing(play):
        for sequence, prompt in enumerate(prompts, 20):
            play.begin(prompt, sequence)
        return play.all(), engine, by_status(failures.take())


def settled(task):
    """What is open once closing has had its time."""
    deadline = time.monotonic() + 5
    while task.open_now and time.monotonic() < deadline:
        time.sleep(0.01)
    return task.open_now


@pytest.mark.parametrize("fixed", [True, False])
def test_an_episode_is_its_prompt_its_turns_and_the_bridges_between_them(fixed):
    task = Rooms()
    groups, engine, tries = played(task, fixed=fixed)
    assert [group.sequence for group in groups] == list(range(20, 27)) and not settled(task)
    for index, group in enumerate(groups):
        for sample, rollout in enumerate(group.rollouts):
            turn = list(range(2 + sample))
            ids = [*turn]
            mask = [1] * len(turn)
            for number in range(1, index + 1):
                ids += [-1, number, *turn]
                mask += [0, 0, *[1] * len(turn)]
            assert rollout.prompt_ids.tolist() == [index, 40] and rollout.completion_ids.tolist() == ids
            assert rollout.loss_mask.tolist() == mask and not rollout.branches
            assert [turn.reward for turn in rollout.turns] == list(range(1, index + 2))
            assert rollout.reward == sum(range(index + 2)) and rollout.info == {"turns": index + 1}
            assert rollout.status == Status.FINISHED and not rollout.truncated
            assert all(rollout.loss_mask[turn.start:turn.end].all() for turn in rollout.turns)
            assert (rollout.policy_version == 0).all()
            assert [len(turn.observation) for turn in rollout.turns] == [1] * index + [0]
    assert tries == {Status.FINISHED: 14}


def test_the_noise_of_a_turn_is_named_by_its_draw_sample_and_turn():
    asked = []

    class Engine(ScriptedEngine):
        def submit(self, request):
            asked.append((request.sequence, request.sample, request.turn, request.stream, request.params.n))
            return super().submit(request)

    played(Rooms(), PROMPTS[:3], engine=Engine(lambda *_: 1), stream=1)
    assert sorted(asked) == [(20 + index, sample, turn, 1, 1) for index in range(3) for sample in range(2)
                             for turn in range(index + 1)]


def test_in_fixed_order_turns_are_drawn_alike_whichever_environment_answers_first():
    orders = []
    for delays in (0.0, 0.03):
        faults = {(index, turn): delays * ((index * 5 + turn) % 3) for index in range(7) for turn in range(3)}
        _, engine, _ = played(Rooms(faults, times=99))
        orders.append(engine.submitted)
    assert orders[0] == orders[1]


def test_as_answered_a_slow_environment_holds_no_other_up():
    ended = []
    task = Rooms({(0, 1): 0.4})
    engine = ScriptedEngine(lambda *_: 1)
    engine.publish(None, 0)
    episodes = Episodes(task, str, graders=8, talk=lambda *_: Talk())
    failures = Failures(episodes.settings, 1)
    play = Play(engine, episodes, SamplingParams(8, n=1), 0, fixed=False, failures=failures)
    with contextlib.closing(play):
        for prompt in PROMPTS:
            play.begin(prompt, prompt.index)
        while not play.idle:
            ended += [group.sequence for group in play.step()]
    assert ended[-1] == 0 and set(ended) == set(range(7))


def test_a_history_that_is_rewritten_begins_a_new_sequence_of_the_same_episode():
    (group,), _, _ = played(Rooms(turns=lambda _: 4), PROMPTS[:1], n=1, talk=Talk(rewrites=(2,)))
    (rollout,) = group.rollouts
    (earlier,) = rollout.branches
    assert earlier.completion_ids.tolist() == [0, 1, -1, 1, 0, 1] and [
        turn.reward for turn in earlier.turns] == [1, 2]
    assert rollout.prompt_ids.tolist() == [7, 7, -1, 2]
    assert rollout.completion_ids.tolist() == [0, 1, -1, 3, 0, 1]
    assert [turn.reward for turn in rollout.turns] == [3, 4] and rollout.reward == 10 and rollout.drawn == 8


@pytest.mark.parametrize("settings, turns", [
    (dict(rounds=(3,)), 3), (dict(rounds=(99,)), 8), (dict(longest=14), 3), (dict(longest=15), 4)])
def test_a_limit_of_turns_or_tokens_ends_an_episode_as_truncated(settings, turns):
    task = Rooms(turns=lambda _: 99)
    (group,), _, tries = played(task, PROMPTS[:1], n=1, **settings)
    (rollout,) = group.rollouts
    assert rollout.status == Status.TRUNCATED and rollout.truncated and len(rollout.turns) == turns
    assert rollout.loss_mask[-1] == 1 and tries == {Status.TRUNCATED: 1} and not settled(task)


def test_the_tokens_of_a_turn_are_bounded_by_what_is_left_of_the_episode():
    asked = []

    class Engine(ScriptedEngine):
        def submit(self, request):
            asked.append(request.params.max_tokens)
            return super().submit(request)

    played(Rooms(turns=lambda _: 3), PROMPTS[:1], n=1, engine=Engine(lambda *_: 2), longest=14)
    assert asked == [8, 8, 4]


def test_rounds_are_scheduled_by_the_step():
    settings = EpisodesSection(rounds=(2, 4, 6), rounds_every=10)
    episodes = Episodes(Rooms(max_turns=5), str, settings=settings)
    rounds = [episodes.rounds(step, PROMPTS[0]) for step in (0, 9, 10, 19, 20, 1000)]
    assert rounds == [2, 2, 4, 4, 5, 5]


class OfRows(Rooms):
    """Rows differ in their turns, and in the range that their rewards are brought to 0..1 from."""

    def turns_of(self, row):
        return 2 if row["index"] == 2 else self.max_turns

    def scaled_from(self, row):
        return None if row["index"] == 0 else (-1.0, 4.0)


def test_turns_and_ranges_of_rewards_may_differ_from_row_to_row():
    groups, _, _ = played(OfRows(), PROMPTS[:3], n=1)
    rollouts = [group.rollouts[0] for group in groups]
    assert [rollout.reward for rollout in rollouts] == pytest.approx([1.0, 0.8, 0.8])
    turns = [[turn.reward for trace in rollout.traces for turn in trace.turns] for rollout in rollouts]
    assert turns == [[1.0], pytest.approx([0.4, 0.4]), pytest.approx([0.4, 0.4])]
    assert [rollout.truncated for rollout in rollouts] == [False, False, True]


def test_rewards_beyond_the_range_of_their_row_end_the_run():
    with pytest.raises(GradeError, match="row 4: the episode's rewards sum to 10"):
        played(OfRows(), PROMPTS[3:4], n=1)


def test_a_prompt_that_leaves_no_room_for_a_turn_is_refused():
    with pytest.raises(GradeError, match="^d.jsonl, row 1: the episode begins with 2 tokens.*max_tok"):
        played(Rooms(), PROMPTS[:1], longest=2)


FAILURES = [EnvError(Status.UNREACHABLE, "no route"), EnvError(Status.STEP_FAILED, "500"),
            EnvError(Status.MALFORMED, "nonsense")]


@pytest.mark.parametrize("fault", FAILURES, ids=lambda fault: fault.status)
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_failure_is_tried_again_with_a_fresh_environment_and_its_own_noise(turn, fault):
    task = Rooms({(2, turn): fault}, times=1)
    plain, *_ = played(Rooms())
    groups, engine, tries = played(task)
    status = Status.RESET_FAILED if turn == 0 and fault.status == Status.STEP_FAILED else fault.status
    assert tries == {Status.FINISHED: 14, status: 1}
    for group, expected in zip(groups, plain, strict=True):
        for one, other in zip(group.rollouts, expected.rollouts, strict=True):
            np.testing.assert_array_equal(one.completion_ids, other.completion_ids)
            assert one.reward == other.reward
    assert len(task.opened) == 15 and not settled(task)
    assert len({seed for index, seed in task.opened if index == 2}) == 1


@pytest.mark.parametrize("fixed", [True, False])
def test_what_fails_in_all_its_tries_drops_its_group_and_never_becomes_a_zero(fixed):
    task = Rooms({(2, 2): FAILURES[0]}, times=99)
    groups, _, tries = played(task, fixed=fixed, retries=1)
    failed = groups[2]
    assert not failed.trusted and [group.trusted for group in groups].count(False) == 1
    told = failed.rollouts[-1]
    assert told.status == Status.UNREACHABLE and told.message.startswith("d.jsonl, row 3: the task")
    assert "no route" in told.message and tries[Status.UNREACHABLE] >= 2 and not settled(task)


@pytest.mark.parametrize("turn", [0, 1])
def test_a_failure_that_is_final_is_not_tried_again(turn):
    class Unjudged(EnvError):
        final = True

    for fault in (EnvError(Status.TIMED_OUT, "nobody judged it", True), Unjudged(Status.TIMED_OUT, "late")):
        task = Rooms({(2, turn): fault})
        groups, _, tries = played(task, retries=5)
        assert not groups[2].trusted and tries[Status.TIMED_OUT] == 1 and not settled(task)
        groups, _, tries = played(Rooms({(2, turn): fault}), retries=5, failed="complete")
        assert groups[2].trusted and tries[Status.TIMED_OUT] == 1


def test_a_step_says_whether_a_limit_of_the_environment_ended_it_and_leaves_notes_for_people():
    class Judged(Rooms):
        def open(self, row, seed):
            room = super().open(row, seed)
            step = room.step

            def told(action):
                said = step(action)
                return dataclasses.replace(said, notes={"turn": str(room.turn)}, truncated=said.done)
            room.step = told
            return room

    (group,), _, tries = played(Judged(), PROMPTS[2:3], n=1)
    (rollout,) = group.rollouts
    assert rollout.status == Status.TRUNCATED and rollout.truncated and tries == {Status.TRUNCATED: 1}
    assert rollout.notes == {"turn": "3"} and rollout.reward == 6


def test_a_failed_episode_can_be_completed_by_another_of_its_group():
    task = Rooms({(2, 1): FAILURES[1]}, times=2)
    groups, _, tries = played(task, retries=0, failed="complete")
    assert all(group.trusted and len(group.rollouts) == 2 for group in groups)
    assert len(groups[2].rollouts[1].turns) == 3 and tries[Status.STEP_FAILED] == 2
    hopeless = Rooms({(2, 1): FAILURES[1]}, times=999)
    groups, _, tries = played(hopeless, retries=0, failed="complete")
    assert not groups[2].trusted and tries[Status.STEP_FAILED] <= 4 and not settled(hopeless)


@pytest.mark.parametrize("fault", [0.5, EnvError(Status.TIMED_OUT, "a call's own")], ids=["step", "call"])
@pytest.mark.parametrize("turn", [0, 2])
def test_what_does_not_answer_in_time_has_failed_and_is_closed_when_it_does(turn, fault, tmp_path):
    task = Rooms({(2, turn): fault}, times=1)
    path = tmp_path / "timeouts.jsonl"
    groups, _, tries = played(task, step_timeout=0.15, timeouts=Timeouts(path))
    assert all(group.trusted for group in groups) and tries == {Status.FINISHED: 14, Status.TIMED_OUT: 1}
    assert not settled(task)
    again = Rooms()  # a run that is resumed sees it again, though its environment is quick now
    _, _, tries = played(again, timeouts=Timeouts(path))
    assert tries == {Status.FINISHED: 14, Status.TIMED_OUT: 1} and not settled(again)
    assert len(path.read_text().splitlines()) == 1


def test_an_episode_s_environment_may_take_so_long_in_all():
    task = Rooms({(4, turn): 0.06 for turn in range(5)}, times=99)
    _, _, tries = played(task, episode_timeout=0.15, retries=0)
    assert tries[Status.TIMED_OUT] >= 1


def test_a_task_that_is_not_deterministic_may_break_and_one_that_is_stops_the_run():
    for fault, status in ((KeyError("x"), Status.CRASHED), (EnvError(Status.CRASHED, "x"), Status.CRASHED)):
        task = Rooms({(2, 1): fault})
        task.deterministic = False
        assert played(task)[2][status] == 1
    with pytest.raises(GradeError, match="^d.jsonl, row 3: the task .*Rooms broke: KeyError"):
        played(Rooms({(2, 1): KeyError("x")}))


def test_too_many_failures_stop_the_run_with_the_commonest_message():
    task = Rooms({(index, 1): FAILURES[index % 2] for index in (0, 2, 4, 5)}, times=99)
    with pytest.raises(EpisodesError, match="the last 8 tries .* [3-8] of . tries failed .*no route"):
        played(task, PROMPTS * 3, error_window=8, max_error_rate=0.25, retries=5)


def test_a_malformed_call_is_told_to_the_policy_and_counted_and_the_environment_hears_nothing():
    class Tools(Rooms):
        def tools(self, row):
            return ({"type": "function", "function": {"name": "look"}},)

    task = Tools(turns=lambda _: 1, max_turns=3)
    (group,), *_ = played(task, PROMPTS[:1], n=1, talk=Talk(malformed=("no JSON",)))
    (rollout,) = group.rollouts
    assert rollout.info["malformed_calls"] == 3 and rollout.status == Status.TRUNCATED and rollout.reward == 0
    assert "no JSON" in rollout.turns[0].observation[0]["content"]


def test_an_engine_without_streaming_draws_turn_by_turn():
    engine = ScriptedEngine(lambda sequence, sample: 2 + sample)
    engine.publish(None, 0)
    episodes = Episodes(Rooms(), str, graders=8, talk=lambda *_: Talk())
    groups = collect(PROMPTS, episodes, engine, SamplingParams(8, n=2), 20)
    streamed, *_ = played(Rooms())
    for group, other in zip(groups, streamed, strict=True):
        assert [one.completion_ids.tolist() for one in group.rollouts] == [
            one.completion_ids.tolist() for one in other.rollouts]


@pytest.mark.parametrize("stragglers", ["carry", "cut", "abort"])
def test_episodes_run_ahead_of_the_trainer_and_those_that_fail_make_room_for_others(stragglers):
    task = Rooms({(3, 1): FAILURES[0]}, times=999, turns=lambda index: 1 + index % 3)
    rules = Rules(2, 2, stragglers)
    engine = ScriptedEngine(lambda sequence, sample: 1 + sequence % 4)
    producer = make(engine, rules, task, last=8, graders=4, prompts=PROMPTS, talk=lambda *_: Talk(),
                    settings=EpisodesSection(max_error_rate=1.0))
    with contextlib.closing(producer):
        for step, batch, _ in train(producer, 8, hold=True):
            assert len(batch.kept) == 2 and all(group.trusted for group in batch.kept)
            assert all(step - rollout.policy_version.min() <= 2 for group in batch.kept
                       for rollout in group.rollouts)
            assert all(group.prompt.index == 3 for group in batch.failed)
    assert not settled(task)
