"""An engine without a model: every sample takes as many steps as a script says. And what goes with it:
prompts, a task, a trainer."""
import itertools
import threading
import time

import numpy as np

from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.protocols import StreamingEngine
from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.rollout.ahead.producer import Producer
from jaxrl_moe.rollout.collect import TRAIN_STREAM, collect
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.types import Completion, Prompt, SamplingParams, Step

DEVICE = "the one device"
PROMPTS = [Prompt(np.array([index], np.int32), {"index": index}, index) for index in range(7)]
PARAMS = SamplingParams(max_tokens=8, n=2)  # the scripted engine heeds no limit


class ScriptedEngine(StreamingEngine):
    """Draws one token a step of each sample in flight; `lengths(sequence, sample)` says how many. Notes what
    it must not meet."""

    devices = frozenset()

    def __init__(self, lengths=lambda sequence, sample: 1, pause=0.0, slots=10**6):
        self.lengths = lengths
        self.pause = pause
        self.slots = slots
        self.drawn = 0
        self.devices = {DEVICE}
        self.version = None
        self.flying = {}
        self.submitted = []
        self.released = 0
        self._handles = itertools.count()
        self._busy = threading.Lock()
        self.fail_at = None
        self.steps = 0

    def _alone(self):
        assert self._busy.acquire(blocking=False), "two threads drive the engine at once"
        return self._busy

    def publish(self, params, version):
        self._alone()
        self.version = version
        self._busy.release()
        return {"sync/bytes": 1.0}

    def release(self):
        self._alone()
        self.released += 1
        self._busy.release()

    def generate(self, requests):
        handles = [self.submit(request) for request in requests]
        done = {}
        while len(done) < len(handles):
            done |= self.step()
        return [done[handle] for handle in handles]

    def stats(self):
        return {"tokens": self.drawn}

    def close(self):
        self.flying.clear()

    def submit(self, request):
        handle = next(self._handles)
        self.submitted.append(request.sequence)
        self.flying[handle] = request, [[] for _ in range(request.params.n)]
        return handle

    def step(self):
        lock = self._alone()
        done = {}
        self.steps += 1
        try:
            time.sleep(self.pause)
            if self.steps == self.fail_at:
                raise RuntimeError("the engine broke")
            for handle, (request, samples) in list(self.flying.items())[:self.slots]:
                for sample, versions in enumerate(samples, request.sample):
                    if len(versions) < self.lengths(request.sequence, sample):
                        versions.append(self.version)
                        self.drawn += 1
                if all(
                        len(versions) == self.lengths(request.sequence, sample)
                        for sample, versions in enumerate(samples, request.sample)):
                    done[handle] = [completion(versions, "stop") for versions in samples]
                    del self.flying[handle]
            return done
        finally:
            lock.release()

    def cancel(self, handle):
        self.flying.pop(handle, None)

    def cut(self, handle):
        request, samples = self.flying[handle]
        if not all(samples):
            return None
        del self.flying[handle]
        return [
            completion(versions,
                       "stop" if len(versions) == self.lengths(request.sequence, sample) else "length")
            for sample, versions in enumerate(samples, request.sample)
        ]


def completion(versions, reason):
    count = len(versions)
    return Completion(np.arange(count, dtype=np.int32), np.zeros(count, np.float32), reason,
                      np.array(versions, np.int32))


class ScriptedTask(SingleTurnTask):
    """Grades by a function of (prompt's index, number of tokens), after a while."""

    def __init__(self, reward=lambda index, tokens: float(index % 2), delay=lambda: 0.0):
        self.reward = reward
        self.delay = delay

    def check_row(self, row, index):
        assert row["index"] == index

    def grade(self, row, action):
        time.sleep(self.delay())
        return Step(self.reward(row["index"], action.num_tokens))


def graded(task, prompts=PROMPTS, samples=2, first=10, stream=TRAIN_STREAM, decode=str, **settings):
    """Groups of `samples` completions of three tokens each, graded."""
    engine = ScriptedEngine(lambda sequence, sample: 3)
    engine.publish(None, 0)
    return collect(prompts, Episodes(task, decode, **settings), engine, SamplingParams(8, n=samples), first,
                   stream)


def make(engine, rules: Rules, task=None, last=10, position=None, seed=0, graders=1, prompts=PROMPTS,
         **settings):
    """A producer over seven prompts."""
    draws = Draws(PromptIterator(prompts, seed=seed), prompts)
    if position is not None:
        draws.restore(position)
    episodes = Episodes(task or ScriptedTask(), lambda ids: " ".join(map(str, ids)), graders=graders,
                        **settings)
    return Producer(engine, draws, episodes, PARAMS, rules, last)


def train(producer, steps, *, hold, version=0, update=lambda: None, stop_after=None):
    """The loop's calls from a version on; yields (version, batch, position after it) of each step."""
    producer.publish(None, version)
    for step in range(version, steps):
        batch = producer.next(hold)
        update()
        position = producer.position()
        producer.publish(None, step + 1)
        yield step, batch, position
