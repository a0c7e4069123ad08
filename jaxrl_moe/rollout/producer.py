"""Draws and grades groups in threads of its own while the trainer updates: the asynchronous half of the rollout.

One thread drives the engine; further ones grade. They share a Buffer with the trainer under one lock. Between two steps of the engine
the thread looks up: it stands still while the trainer wants the engine or its devices, ends stragglers, and admits new groups.
"""
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxrl_moe.rollout.buffer import Buffer, Entry
from jaxrl_moe.rollout.collect import TRAIN_STREAM, Decode, grade_one
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.graders import Graders
from jaxrl_moe.types import Completion, Engine, Env, Request, RolloutGroup, SamplingParams

STRAGGLERS = ("carry", "cut", "abort")  # rollout.stragglers


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the producer may draw, and when a batch is complete.

    Attributes:
      count: groups of a batch.
      bound: max_staleness.
      stragglers: a row of STRAGGLERS.
      graders: threads that grade.
      keep: which groups count for a batch; the others are set aside, and new ones take their place.
      most: graded groups after which a batch is complete with fewer than `count`, where groups are set aside.
    """
    count: int
    bound: int
    stragglers: str = "carry"
    graders: int = 1
    keep: Callable[[RolloutGroup], bool] | None = None
    most: int = 0


class Drawn(NamedTuple):
    """A batch: the groups that are kept, those that were set aside since the last batch, both in order of their draw numbers; groups
    that were aborted meanwhile; and, of what else was drawn and graded meanwhile too, the tokens of finished completions and the seconds,
    of all threads together."""
    kept: list[RolloutGroup]
    aside: list[RolloutGroup]
    aborted: int
    tokens: int
    draw_seconds: float
    grade_seconds: float


class Producer:
    """Fills a buffer of graded groups ahead of the trainer, which calls next() and publish() in turn.

    Args:
      engine: driven from here until close().
      draws: what is drawn, and under which numbers.
      env: grades; called from several threads at once if there are several graders.
      params: how completions are drawn; n is the group size.
      decode: token ids to text.
      rules: see there.
      last: version after the run's last batch.
    """

    def __init__(self, engine: Engine, draws: Draws, env: Env, params: SamplingParams, decode: Decode, rules: Rules, last: int):
        self._engine, self._draws, self._env, self._params, self._decode = engine, draws, env, params, decode
        self._rules, self._last, self._buffer = rules, last, None
        self._drawing: dict[Any, Entry] = {}                    # by the engine's handle; the driving thread's own
        self._aside: list[Entry] = []                           # set aside since the last batch
        self._once: set[int] = set()                            # draw numbers of aborted groups
        self._aborted, self._tokens, self._draw_seconds, self._grade_seconds = 0, 0, 0.0, 0.0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()                   # guards what is above and below
        self._held, self._working, self._closed = True, False, False
        self._graders = Graders(rules.graders)
        self._thread = threading.Thread(target=self._drive, name="producer", daemon=True)

    def publish(self, params: Any, version: int) -> Any:
        """New weights, from the engine's next step on; the first call starts the drawing. Requests in flight keep their tokens and go on,
        prefilled anew, so that each token's log-prob is that of its version over all tokens before it."""
        self._hold()
        self._engine.release()
        synced = self._engine.publish(params, version)
        with self._changed:
            if self._buffer is None:
                self._buffer = Buffer(self._rules.count, self._rules.bound, version, self._last)
                self._thread.start()
            self._buffer.version = version
        self._let_go()
        return synced

    def next(self, hold: bool) -> Drawn:
        """Waits for the next batch and takes it.

        Args:
          hold: nothing is drawn until publish(), and the engine gives its memory back: it shares devices with the update.

        Raises:
          Whatever the engine or a grader raised meanwhile.
        """
        with self._changed:
            while (batch := self._batch()) is None:
                self._changed.wait()
            self._buffer.take(batch)
            aside = sorted(self._aside, key=lambda entry: entry.sequence)
            drawn = Drawn([entry.group for entry in batch], [entry.group for entry in aside], self._aborted, self._tokens,
                          self._draw_seconds, self._grade_seconds)
            self._aside, self._aborted, self._tokens, self._draw_seconds, self._grade_seconds = [], 0, 0, 0.0, 0.0
            self._changed.notify_all()
        if hold:
            self._hold()
            self._engine.release()
        return drawn

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Within it the engine is the caller's; what is in flight waits."""
        self._hold()
        try:
            yield
        finally:
            self._engine.release()
            self._let_go()

    def position(self) -> dict[str, Any]:
        """Fields of checkpoint.Progress: a run that goes on from there draws anew what is neither in a batch nor set aside with one."""
        with self._changed:
            entries = [] if self._buffer is None else self._buffer.entries
            return self._draws.position((entry.prompt, entry.sequence) for entry in [*entries, *self._aside])

    def close(self) -> None:
        """Ends the threads; what is in flight is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._graders.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _hold(self):
        with self._changed:
            self._held = True
            self._changed.wait_for(lambda: not self._working)

    def _let_go(self):
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def _batch(self) -> list[Entry] | None:
        """The next batch if it is complete; else, where the rules say so, the stragglers that it waits for are to be ended. Raises what
        went wrong in another thread."""
        if self._failure is not None:
            raise self._failure
        buffer, rules = self._buffer, self._rules
        choice = buffer.choose()
        if choice.late:
            self._end_late(choice.late, choice.missing)
            return None
        if len(choice.batch) == rules.count:
            return choice.batch
        fits = len(buffer.entries) - len(choice.batch) <= rules.bound * rules.count  # the others can still be in time
        return choice.batch if self._exhausted() and fits else None

    def _exhausted(self) -> bool:
        """Whether so many groups were set aside that a batch makes do with what there is."""
        return self._rules.keep is not None and len(self._aside) + len(self._buffer.ready) >= self._rules.most

    def _end_late(self, late, missing):
        """Marks as many unfinished groups as the batch lacks, once it waits for nothing else; those being graded are waited for."""
        rules, ready = self._rules, len(self._buffer.ready)
        drawing = [entry for entry in late if entry.completions is None and not entry.ending]
        spare = missing - (len(late) - len(drawing))
        if rules.stragglers == "cut" and ready >= rules.count - missing:
            ended = drawing[:max(0, spare)]
        elif rules.stragglers == "abort" and ready >= rules.count:
            ended = [entry for entry in drawing if not entry.waited_for][:max(0, spare)]
        else:
            ended = []
        for entry in ended:
            entry.ending = True

    def _drive(self):
        """The thread that drives the engine."""
        try:
            while self._turn():
                start = time.perf_counter()
                self._end_stragglers()
                self._admit()
                done = self._engine.step() if self._drawing else {}
                for handle, completions in done.items():
                    self._grade(self._drawing.pop(handle), completions)
                with self._changed:
                    self._draw_seconds += time.perf_counter() - start
            for handle in self._drawing:
                self._engine.cancel(handle)
        except BaseException as error:
            self._fail(error)
        finally:
            with self._changed:
                self._working = False
                self._changed.notify_all()

    def _turn(self) -> bool:
        """Waits until there is something to draw and the engine is free; False at the end."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or not self._held and (self._drawing or self._room()))
            self._working = True
            return not self._closed

    def _room(self) -> int:
        return 0 if self._exhausted() else self._buffer.room

    def _admit(self):
        with self._changed:
            entries = [Entry(prompt, sequence, self._buffer.version) for prompt, sequence in self._draws.take(self._room())]
            self._buffer.entries += entries
        for entry in entries:
            entry.waited_for = entry.sequence in self._once
            entry.handle = self._engine.submit(Request(entry.prompt.ids, self._params, entry.sequence, stream=TRAIN_STREAM))
            self._drawing[entry.handle] = entry

    def _end_stragglers(self):
        """Cuts or aborts what is marked. Where there is nothing to cut yet, it goes on until there is."""
        for handle, entry in [(handle, entry) for handle, entry in self._drawing.items() if entry.ending]:
            if self._rules.stragglers == "abort":
                self._abort(handle, entry)
                continue
            completions = self._engine.cut(handle)
            if completions is not None:
                self._grade(self._drawing.pop(handle), completions)

    def _abort(self, handle, entry):
        del self._drawing[handle]
        self._engine.cancel(handle)
        with self._changed:
            self._once.add(entry.sequence)
            self._buffer.entries.remove(entry)
            self._draws.give_back(entry.prompt, entry.sequence)
            self._aborted += 1

    def _grade(self, entry: Entry, completions: list[Completion]):
        with self._changed:
            entry.completions = completions
            self._tokens += sum(len(completion.ids) for completion in completions)
        for sample in range(len(completions)):
            self._graders.put(functools.partial(self._grade_one, entry, sample))

    def _grade_one(self, entry: Entry, sample: int):
        """In a grader's thread."""
        if self._closed or self._failure is not None:
            return
        start = time.perf_counter()
        try:
            rollout = grade_one(entry.prompt, entry.completions[sample], self._env, self._decode)
            with self._changed:
                entry.rollouts[sample] = rollout
                self._grade_seconds += time.perf_counter() - start
                if len(entry.rollouts) == len(entry.completions):
                    self._graded(entry)
        except BaseException as error:
            self._fail(error)

    def _graded(self, entry):
        rollouts = [entry.rollouts[sample] for sample in range(len(entry.completions))]
        entry.group = RolloutGroup(entry.prompt, rollouts, entry.sequence)
        if self._rules.keep is not None and not self._rules.keep(entry.group):
            self._buffer.entries.remove(entry)
            self._aside.append(entry)
        self._changed.notify_all()

    def _fail(self, error):
        with self._changed:
            self._failure = error if self._failure is None else self._failure
            self._changed.notify_all()
