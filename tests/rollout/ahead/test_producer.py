"""Drawing ahead of the trainer, with an engine and a task that take their time as scripted: the bound, the
accounts, the ends."""
import contextlib
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.rollout.ahead.buffer import Buffer, Entry
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.types import RolloutGroup, UserError
from tests.helpers.scripted_engine import PROMPTS, ScriptedEngine, ScriptedTask, make, train


def versions(group):
    return np.concatenate([rollout.policy_version for rollout in group.rollouts])


def numbers(groups):
    return [group.sequence for group in groups]


def simulate(seed, bound, drop, abort):
    """A buffer whose groups are graded, dropped and aborted at random moments; returns [(version, the batch's
    entries)] and the dropped."""
    rng = random.Random(seed)
    count = 3
    steps = 12
    buffer = Buffer(count, bound, 0, steps)
    number = 0
    batches = []
    dropped = []
    again = []
    while buffer.step < steps:
        while buffer.room:
            sequence = again.pop(0) if again else number
            number += sequence == number
            buffer.entries.append(Entry(PROMPTS[0], sequence, buffer.version))
        waiting = [entry for entry in buffer.entries if entry.group is None]
        for entry in rng.sample(waiting, min(len(waiting), rng.randint(0, 3))):
            if rng.random() < drop:
                buffer.entries.remove(entry)
                dropped.append(entry.sequence)
            else:
                entry.group = RolloutGroup(entry.prompt, [], entry.sequence)
        choice = buffer.choose()
        if choice.late and rng.random() < abort:
            assert 0 < choice.missing <= len(choice.late)
            buffer.entries.remove(choice.late[0])
            again.append(choice.late[0].sequence)
        elif len(choice.batch) == count:
            buffer.take(choice.batch)
            batches.append((buffer.step - 1, choice.batch))
            if buffer.version < buffer.step and rng.random() < 0.7 or not buffer.room:
                buffer.version = buffer.step
        elif buffer.version < buffer.step:
            buffer.version = buffer.step
    return batches, dropped, number


@pytest.mark.parametrize("bound", [0, 1, 2, 5])
@pytest.mark.parametrize("drop, abort", [(0, 0), (0.4, 0), (0.2, 0.3)])
def test_no_batch_of_the_buffer_holds_what_is_too_old_and_every_number_is_in_one(bound, drop, abort):
    for seed in range(30):
        batches, dropped, number = simulate(seed, bound, drop, abort)
        assert all(0 <= version - entry.start <= bound for version, batch in batches for entry in batch)
        assert sorted([entry.sequence for _, batch in batches
                       for entry in batch] + dropped) == list(range(number))


def test_a_batch_takes_the_first_that_are_ready_as_long_as_the_others_can_be_in_time():
    buffer = Buffer(2, 1, 0, 10)
    buffer.entries = [Entry(PROMPTS[0], number, 0) for number in range(4)]
    for number in (3, 1):
        buffer.entries[number].group = RolloutGroup(PROMPTS[0], [], number)
    # 0 and 2 may still be in the batch of version 1
    assert [entry.sequence for entry in buffer.choose().batch] == [1, 3]
    buffer.take(buffer.choose().batch)
    buffer.version = 1
    buffer.entries.append(Entry(PROMPTS[0], 4, 1, group=RolloutGroup(PROMPTS[0], [], 4)))
    choice = buffer.choose()  # ... and have to be
    assert not choice.batch and [entry.sequence for entry in choice.late] == [0, 2] and choice.missing == 2


def random_times(seed):
    """An engine, a task and an update whose durations are random, some requests being far longer than
    others."""
    rng = random.Random(seed)
    lengths = {}
    engine = ScriptedEngine(lambda *which: lengths.setdefault(which, rng.choice((1, 1, 2, 3, 5, 40))),
                            pause=0.0003, slots=rng.choice((2, 5, 1000)))
    task = ScriptedTask(lambda index, tokens: float(tokens), lambda: rng.choice((0, 0, 0.002)))
    return engine, task, lambda: time.sleep(rng.choice((0, 0.004)))


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("stragglers", ["carry", "cut", "abort"])
@pytest.mark.parametrize("bound", [1, 2, 4])
def test_every_draw_is_trained_once_within_the_bound_whatever_takes_how_long(bound, stragglers, hold):
    engine, task, update = random_times(bound)
    with contextlib.closing(make(engine, Rules(3, bound, stragglers), task, last=20, graders=3)) as producer:
        steps = [(version, batch) for version, batch, _ in train(producer, 20, hold=hold, update=update)]
    trained = [group for _, batch in steps for group in batch.kept]
    assert sorted(numbers(trained)) == list(range(60)) and all(len(batch.kept) == 3 for _, batch in steps)
    assert all(0 <= (version - versions(group)).min() and (version - versions(group)).max() <= bound
               for version, batch in steps for group in batch.kept)
    for group in trained:
        assert (np.diff(versions(group)[:len(group.rollouts[0].completion_ids)]) >= 0).all()
        whole = [
            len(rollout.completion_ids) == engine.lengths(group.sequence, sample)
            for sample, rollout in enumerate(group.rollouts)
        ]
        assert [not rollout.truncated
                for rollout in group.rollouts] == whole and (all(whole) or stragglers == "cut")
    assert sum(batch.aborted for _, batch in steps) == len(engine.submitted) - 60
    assert sum(batch.tokens for _, batch in steps) == sum(len(versions(group)) for group in trained)
    assert not engine.flying


@pytest.mark.parametrize("stragglers, step", [("carry", 1), ("cut", 1), ("abort", 2)])
def test_a_straggler_is_waited_for_or_cut_or_drawn_again_once_its_time_is_up(stragglers, step):
    engine = ScriptedEngine(lambda sequence, sample: 300 if sequence == 0 else 2, pause=0.0003)
    with contextlib.closing(make(engine, Rules(2, 1, stragglers), last=4)) as producer:
        batches = [batch for _, batch, _ in train(producer, 4, hold=True)]
    assert [0 in numbers(batch.kept) for batch in batches] == [number == step for number in range(4)]
    straggler = batches[step].kept[0].rollouts[0]
    assert straggler.truncated == (stragglers == "cut") and (
        (len(straggler.completion_ids) == 300) == (stragglers != "cut"))
    assert set(straggler.policy_version) <= ({1, 2} if stragglers == "abort" else {0, 1})
    assert [batch.aborted for batch in batches] == [0, int(stragglers == "abort"), 0, 0]


def test_groups_that_do_not_count_are_set_aside_and_replaced():
    engine, _, update = random_times(0)
    rules = Rules(3, 2, keep=lambda group: group.sequence % 3 > 0, most=100)
    with contextlib.closing(make(engine, rules, last=10, graders=2)) as producer:
        steps = list(train(producer, 10, hold=False, update=update))
    kept, aside = ([number for _, batch, _ in steps for number in numbers(getattr(batch, which))]
                   for which in ("kept", "aside"))
    assert len(kept) == 30 and sorted(kept + aside) == list(range(len(kept + aside)))
    assert all(number % 3 for number in kept) and not any(number % 3 for number in aside)
    assert all((version - versions(group)).max() <= 2 for version, batch, _ in steps for group in batch.kept)


def test_a_batch_makes_do_with_what_there_is_once_enough_was_set_aside():
    rules = Rules(3, 2, keep=lambda group: group.sequence % 20 == 7, most=12)
    with contextlib.closing(make(ScriptedEngine(), rules, ScriptedTask(delay=lambda: 0.001),
                                 last=4)) as producer:
        steps = list(train(producer, 4, hold=True))
    assert all(
        len(batch.kept) < 3 and 12 <= len(batch.kept) + len(batch.aside) <= 12 + 9 for _, batch, _ in steps)
    drawn = [number for _, batch, _ in steps for number in numbers([*batch.kept, *batch.aside])]
    assert sorted(drawn) == list(range(len(drawn)))


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_ends_anywhere_goes_on_from_its_checkpoint_with_nothing_lost_and_nothing_twice(seed):
    rng = random.Random(seed)
    done = []
    position = None
    version = 0
    while version < 15:
        engine, task, update = random_times(rng.random())
        rules = Rules(2, 2, rng.choice(("carry", "abort")),
                      (lambda group: group.sequence % 4 > 0) if seed % 2 else None, most=100)
        since = []
        # steps until a kill; what came after the last checkpoint is lost with it
        stop = rng.randint(1, 6)
        with contextlib.closing(make(engine, rules, task, last=15, position=position, graders=2)) as producer:
            for step, batch, now in train(producer, 15, hold=rng.random() < 0.5, version=version,
                                          update=update):
                assert all((step - versions(group)).max() <= 2 for group in batch.kept)
                since += numbers([*batch.kept, *batch.aside])
                if rng.random() < 0.5 or step == 14:  # a checkpoint
                    done = done + since
                    since = []
                    position = now
                    version = step + 1
                stop -= 1
                if not stop:
                    break
    assert sorted(done) == list(range(
        position["sequence"])) and len(done) >= 30 and not position["unfinished"]


def test_while_the_trainer_holds_its_devices_nothing_is_drawn_but_grading_goes_on():
    engine = ScriptedEngine(pause=0.001)
    graded = []
    task = ScriptedTask(lambda index, tokens: graded.append(time.perf_counter()) or 0.0, lambda: 0.01)
    with contextlib.closing(make(engine, Rules(2, 2), task)) as producer:
        producer.publish(None, 0)
        producer.next(hold=True)
        before = engine.steps
        released = engine.released
        start = len(graded)
        time.sleep(0.05)
        assert engine.steps == before and released == 2 and len(graded) > start
        producer.publish(None, 1)
        with producer.idle():
            before = engine.steps
            time.sleep(0.02)
            assert engine.steps == before
        producer.next(hold=True)


def test_a_slow_grader_holds_up_neither_the_drawing_nor_other_graders():
    engine = ScriptedEngine()
    with contextlib.closing(make(engine, Rules(4, 1), ScriptedTask(delay=lambda: 0.1), last=2,
                                 graders=16)) as producer:
        producer.publish(None, 0)
        start = time.perf_counter()
        drawn = producer.next(hold=False)
        # eight or more completions at 0.1 s, at once
        assert time.perf_counter() - start < 0.4 and drawn.grade_seconds > 0.7
        assert len(engine.submitted) == 8


@pytest.mark.parametrize("where", ["engine", "task", "user"])
def test_an_error_in_a_thread_is_raised_where_the_batch_is_waited_for(where):
    engine = ScriptedEngine(lambda *_: 3)
    engine.fail_at = 7 if where == "engine" else None

    def reward(index, tokens):
        if where == "task" and len(engine.submitted) > 4:
            raise ValueError("the judge broke")
        if where == "user":
            raise UserError("row 3 has no answer")
        return 0.0

    expected = {"engine": (RuntimeError, "the engine broke"),
                "task": (GradeError, "ScriptedTask broke: ValueError: the judge broke"),
                "user": (UserError, "no answer")}
    with contextlib.closing(make(engine, Rules(2, 1), ScriptedTask(reward))) as producer:
        with pytest.raises(expected[where][0], match=expected[where][1]):
            list(train(producer, 10, hold=True))
    assert not any(thread.name == "producer" for thread in threading.enumerate())


def test_an_interrupt_ends_a_wait_for_a_grader_that_hangs():
    hangs = threading.Event()
    start = time.perf_counter()
    # a shell's background jobs start with it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.closing(
            make(ScriptedEngine(), Rules(2, 1),
                 ScriptedTask(delay=lambda: hangs.wait(20) and 0))) as producer:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(train(producer, 2, hold=True))
    signal.signal(signal.SIGINT, before)
    assert time.perf_counter() - start < 5
    hangs.set()
