"""Plays groups of episodes in threads of its own while the trainer updates: the asynchronous half of the
rollout.

One thread drives the engine; the environments have further ones. It shares an Account with the trainer under
one lock. Between two steps of the engine the thread looks up: it stands still while the trainer wants the
engine or its devices, ends stragglers, and admits new groups.
"""
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from jaxrl_moe.protocols import StreamingEngine
from jaxrl_moe.rollout.ahead.account import Account, Drawn, Rules
from jaxrl_moe.rollout.ahead.buffer import Entry
from jaxrl_moe.rollout.collect import TRAIN_STREAM
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import Failures
from jaxrl_moe.rollout.play import Play
from jaxrl_moe.types import RolloutGroup, SamplingParams


class Producer:
    """Draws and grades ahead of the trainer, which calls next() and publish() in turn.

    Args:
      engine: driven from here until close().
      draws: what is drawn, and under which numbers.
      episodes: how they are played, in as many threads as it says.
      params: how completions are drawn; n is the group size.
      rules: see there.
      last: version after the run's last batch: nothing is drawn that no batch would take.
    """

    def __init__(self, engine: StreamingEngine, draws: Draws, episodes: Episodes, params: SamplingParams,
                 rules: Rules, last: int):
        self._engine = engine
        self._rules = rules
        at_once = rules.count * (rules.bound + 1) * params.n
        self._failures = Failures(episodes.settings, at_once)
        self._play = Play(engine, episodes, params, TRAIN_STREAM, fixed=False, failures=self._failures)
        self._playing: dict[int, Entry] = {}       # by the draw number; the driving thread's own
        self._account = Account(draws, rules, last)
        self._failure: BaseException | None = None
        self._held = True
        self._working = False
        self._closed = False
        self._changed = threading.Condition()      # guards all above but _play and _playing
        self._thread = threading.Thread(target=self._drive, name="producer", daemon=True)

    def publish(self, params: Any, version: int) -> Any:
        """New weights, from the engine's next step on; the first call starts the drawing. Requests in flight
        keep their tokens and go on, prefilled anew, so that each token's log-prob is that of its version over
        all tokens before it."""
        self._hold()
        self._engine.release()
        synced = self._engine.publish(params, version)
        with self._changed:
            self._account.publish(version)
        self._let_go()
        if self._thread.ident is None:
            self._thread.start()
        return synced

    def next(self, hold: bool) -> Drawn:
        """Waits for the next batch and takes it.

        Args:
          hold: nothing is drawn until publish(), and the engine gives its memory back: it shares devices with
            the update.

        Raises:
          Whatever the engine, a task or the accounts of failures raised meanwhile.
        """
        with self._changed:
            while self._failure is None and (drawn := self._account.take()) is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
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
        """See Account.position."""
        with self._changed:
            return self._account.position()

    def close(self) -> None:
        """Ends the threads; what is in flight is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
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

    def _drive(self):
        """The thread that drives the engine."""
        with self._failing(), self._resting(), contextlib.closing(self._play):
            while self._turn():
                start = time.perf_counter()
                self._end_stragglers()
                self._admit()
                ended = self._play.step()
                with self._changed:
                    self._note(ended, time.perf_counter() - start)
                    self._changed.notify_all()

    def _turn(self) -> bool:
        """Waits until there is something to do and the engine is free; False at the end."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._closed or not self._held and (self._playing or self._account.room))
            self._working = True
            return not self._closed

    def _admit(self):
        with self._changed:
            entries = self._account.admit()
        for entry in entries:
            self._playing[entry.sequence] = entry
            self._play.begin(entry.prompt, entry.sequence, entry.start)

    def _end_stragglers(self):
        """Cuts or aborts what is marked. Where there is nothing to cut yet, it goes on until there is."""
        for entry in [entry for entry in self._playing.values() if entry.ending]:
            if self._rules.stragglers == "abort":
                self._play.abort(entry.sequence)
                del self._playing[entry.sequence]
                with self._changed:
                    self._account.aborted(entry)
            else:
                self._play.cut(entry.sequence)

    def _note(self, ended: list[RolloutGroup], seconds: float):
        for group in ended:
            self._account.ended(self._playing.pop(group.sequence), group)
        for entry in self._playing.values():
            entry.drawing = self._play.drawing(entry.sequence)
        times = self._play.take_times()
        self._account.draw_seconds += seconds - times.waited
        self._account.grade_seconds += times.environments
        self._account.note(self._failures.take())

    @contextlib.contextmanager
    def _resting(self) -> Iterator[None]:
        """However the driving thread ends, nobody waits for it afterwards."""
        try:
            yield
        finally:
            with self._changed:
                self._working = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Keeps the first error of the threads for next() to raise."""
        try:
            yield
        except BaseException as error:
            with self._changed:
                self._failure = error if self._failure is None else self._failure
                self._changed.notify_all()
