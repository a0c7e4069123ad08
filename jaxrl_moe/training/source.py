"""Where the loop's batches come from: drawn and graded when they are asked for, or ahead of it, bounded by
rollout.max_staleness."""
import abc
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from typing import Any, Protocol

import jax

from jaxrl_moe.config import AlgorithmSection, Config
from jaxrl_moe.learning.credit.rewards import all_equal
from jaxrl_moe.protocols import Engine, StreamingEngine
from jaxrl_moe.rollout.ahead.account import Drawn, Rules
from jaxrl_moe.rollout.ahead.producer import Producer
from jaxrl_moe.rollout.collect import TRAIN_STREAM
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import Failures
from jaxrl_moe.rollout.play import Play
from jaxrl_moe.runs.metrics import Stopwatch
from jaxrl_moe.training.selection import Selection, select
from jaxrl_moe.types import RolloutGroup, SamplingParams


class Source(Protocol):
    """Gives the loop its batches. publish() comes first; then next() and publish() follow each other."""

    @abc.abstractmethod
    def publish(self, params: Any, version: int) -> Any:
        """Draws from these weights from now on; what the engine says that took."""

    @abc.abstractmethod
    def next(self, watch: Stopwatch) -> Selection:
        """The next batch. An engine that shares devices with the trainer then stands still, its memory free,
        until publish()."""

    @abc.abstractmethod
    def idle(self) -> contextlib.AbstractContextManager[None]:
        """Within it the engine is the caller's, for an evaluation; its memory is free afterwards."""

    @abc.abstractmethod
    def position(self) -> dict[str, Any]:
        """Fields of checkpoint.Progress: a run that goes on from there trains on what is not in a batch
        yet."""


@contextlib.contextmanager
def open_source(config: Config, engine: Engine, episodes: Episodes, draws: Draws,
                params: SamplingParams) -> Iterator[Source]:
    """The source that the settings ask for; ends what it started. Above max_staleness 0 the engine must be a
    StreamingEngine.

    Raises:
      TypeError: the engine is no StreamingEngine there.
    """
    if config.rollout.max_staleness == 0:
        failures = Failures(episodes.settings, config.rollout.prompts_per_step * params.n)
        play = Play(engine, episodes, params, TRAIN_STREAM, fixed=in_fixed_order(config, episodes),
                    failures=failures)
        with contextlib.closing(play):
            yield Synchronous(config, engine, draws, play, failures)
        return
    if not isinstance(engine, StreamingEngine):
        raise TypeError(f"a {type(engine).__name__} draws whole batches alone, and rollout.max_staleness "
                        "needs a StreamingEngine")
    producer = Producer(engine, draws, episodes, params, _rules(config), config.train.steps)
    with contextlib.closing(producer):
        yield Asynchronous(config, engine, producer)


def in_fixed_order(config: Config, episodes: Episodes) -> bool:
    """Whether turns are drawn in the same order in every run, see episodes.order."""
    order = config.episodes.order
    return order == "fixed" or order == "auto" and episodes.task.deterministic


def _rules(config: Config) -> Rules:
    rollout = config.rollout
    return Rules(
        rollout.prompts_per_step, rollout.max_staleness, rollout.stragglers,
        keep=functools.partial(_differs, section=config.algorithm) if rollout.dynamic_sampling else None,
        most=rollout.max_rounds * rollout.prompts_per_step)


def _differs(group: RolloutGroup, section: AlgorithmSection) -> bool:
    return not all_equal(group, section)


@dataclasses.dataclass
class Synchronous(Source):
    """Draws and grades a batch when the loop asks for it: strictly on policy."""
    config: Config
    engine: Engine
    draws: Draws
    play: Play
    failures: Failures
    step: int = 0

    def publish(self, params: Any, version: int) -> Any:
        self.step = version
        return self.engine.publish(params, version)

    def next(self, watch: Stopwatch) -> Selection:
        failed: list[RolloutGroup] = []
        start = time.perf_counter()
        batch = select(functools.partial(self._collect, failed), self.config)
        self.engine.release()
        waited = self.play.take_times().waited
        watch.add("rollout", time.perf_counter() - start - waited)
        watch.add("reward", waited)
        return dataclasses.replace(batch, failed=failed, tries=self.failures.take())

    def _collect(self, failed: list[RolloutGroup], count: int) -> list[RolloutGroup]:
        """The next groups whose episodes can be trusted; others are appended to `failed`."""
        kept: list[RolloutGroup] = []
        while len(kept) < count:
            for prompt, sequence in self.draws.take(count - len(kept)):
                self.play.begin(prompt, sequence, self.step)
            groups = self.play.all()
            kept += [group for group in groups if group.trusted]
            failed += [group for group in groups if not group.trusted]
        return sorted(kept, key=lambda group: group.sequence)

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        yield
        self.engine.release()

    def position(self) -> dict[str, Any]:
        return self.draws.position()


class Asynchronous(Source):
    """Takes batches that a producer draws and grades ahead, while the loop updates."""

    def __init__(self, config: Config, engine: StreamingEngine, producer: Producer):
        self._config = config
        self._engine = engine
        self._producer = producer
        self._shares = True

    def publish(self, params: Any, version: int) -> Any:
        synced = self._producer.publish(params, version)
        self._shares = bool(self._engine.devices & jax.tree.leaves(params)[0].sharding.device_set)
        return synced

    def next(self, watch: Stopwatch) -> Selection:
        """As Source.next; "wait" is the time that the loop lost, "rollout" and "reward" what threads spent
        meanwhile."""
        with watch("wait"):
            drawn = self._producer.next(hold=self._shares)
        watch.add("rollout", drawn.draw_seconds)
        watch.add("reward", drawn.grade_seconds)
        return self._selection(drawn)

    def idle(self) -> contextlib.AbstractContextManager[None]:
        return self._producer.idle()

    def position(self) -> dict[str, Any]:
        return self._producer.position()

    def _selection(self, drawn: Drawn) -> Selection:
        algorithm = self._config.algorithm
        rollout = self._config.rollout
        used = drawn.kept
        aside = drawn.aside
        if algorithm.drop_constant_groups:
            used, aside = ([group for group in drawn.kept if _differs(group, algorithm) == differs]
                           for differs in (True, False))
        rounds = math.ceil((len(used) + len(aside)) / rollout.prompts_per_step)
        return Selection(used, aside, [], rounds, drawn.aborted, drawn.tokens, drawn.failed, drawn.tries)
