"""Servers for a trainer of several processes: process 0 alone talks to them, and the others get from it what
was drawn.

The weights are split over all processes: to read them, and to score what a server drew with them, all compute
together (see hosts/meeting.py), whenever process 0 comes to it. It never holds more of them than what it just
sends.
"""
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from bridges.engines.engine import ServerEngine
from bridges.engines.sync import STREAMED, WeightWriter
from bridges.hf.exporting import export_model
from bridges.hf.streaming import reader
from bridges.peft.adapters import export_adapter
from bridges.servers.http import Unavailable
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.meeting import Meeting
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.protocols import Engine
from jaxrl_moe.types import Completion, Request

FIELDS = [field.name for field in dataclasses.fields(Completion)]


class SharedEngine(Engine):
    """An Engine that every process of a job has; all call its methods alike, but for close(). Nothing is
    drawn ahead of the updates (rollout.max_staleness), so it has no submit() and what belongs to it.

    Args:
      make: called in process 0 alone with (score, writing), makes the engine over the servers: `score` is
        what its probe scores by, and writing(WeightWriter) what makes versions of the weights.
      score: (params, tokens, temperature) -> log-probs, computed by all processes.
      model: the policy, taken apart; its weights come with each publish.
      base: the checkpoint that training started from.
    """

    def __init__(self, make: Callable[..., ServerEngine], score: Callable, model: Transformer, base: str):
        self._weights = _Weights(model)
        self._score = score
        self._engine = None
        self._write = None
        self._base = base
        self._meeting = Meeting({"write": self._write_part, "set": self._set_part, "score": self._score_part})
        hosts.on_leader(lambda: self._make(make))

    def publish(self, params: Any, version: int) -> dict[str, float]:
        """As ServerEngine.publish."""
        self._weights.replace(params, version)
        return self._meeting.hold(lambda: self._engine.publish(params, version))

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """As ServerEngine.generate; the same bits in every process."""
        drawn = self._meeting.hold(lambda: [[_values(completion) for completion in group]
                                            for group in self._engine.generate(requests)])
        return [[Completion(*values) for values in group] for group in drawn]

    def release(self) -> None:
        """Nothing to free: the servers' memory is not the trainer's."""

    def stats(self) -> dict[str, float]:
        """As ServerEngine.stats."""
        return hosts.from_leader(lambda: self._engine.stats())

    def close(self) -> None:
        """Stops the servers that were launched. Each process closes its own by itself, as when one of them
        fails."""
        self._meeting.close()
        if self._engine is not None:
            self._engine.close()

    def _make(self, make: Callable[..., Any]):
        self._engine = make(
            lambda params, tokens, temperature: self._ask("score", self._weights.version_of(params), tokens,
                                                          temperature), self._writing)

    def _writing(self, writer: WeightWriter):
        self._write = writer
        return _SharedWriter(writer, self._ask)

    def _ask(self, name: str, version: int, *arguments):
        """What the meeting's part of this name gives in process 0, of the weights of this version.

        Raises:
          Unavailable: these are not there any more.
        """
        [result] = self._meeting.together(name, version, *arguments) or [None]
        if result is None:
            raise Unavailable("these weights are no longer there: training has gone on")
        return result

    # What all processes do, each with its own part of the weights. All know alike whether they are still
    # there.

    def _write_part(self, version: int, adapter: bool):
        if not self._weights.there(version):
            return None
        if self._write is not None:
            return [self._write(self._weights.params, version)]
        if adapter:  # takes part in gathering, and writes nothing
            return [export_adapter(self._weights.model(), "", self._base)]
        return [export_model(self._weights.model(), "", source=self._base)]

    def _set_part(self, version: int, name: str):
        return [self._weights.reader()(name)] if self._weights.there(version) else None

    def _score_part(self, version: int, tokens: Any, temperature: float):
        return [self._score(self._weights.params, tokens, temperature)
                ] if self._weights.there(version) else None


class _Weights:
    """The present version of the weights, as they lie on the mesh."""

    def __init__(self, model: Transformer):
        self._graphdef, _ = nnx.split(model)
        self._vocab_size = model.config.vocab_size
        self.params = None
        self._version = -1
        self._reader = None

    def replace(self, params: nnx.State, version: int):
        self.params = params
        self._version = version
        self._reader = None

    def version_of(self, params: nnx.State) -> int:
        return self._version if params is self.params else -1

    def there(self, version: int) -> bool:
        return version == self._version and not any(leaf.is_deleted()
                                                    for leaf in jax.tree.leaves(self.params))

    def model(self) -> Transformer:
        return nnx.merge(self._graphdef, cut(self.params, self._vocab_size))

    def reader(self) -> Callable:
        self._reader = self._reader or reader(self.model())
        return self._reader


class _SharedWriter:
    """A WeightWriter for whose reading of the weights all processes are asked."""

    def __init__(self, writer: WeightWriter, ask: Callable):
        self._writer = writer
        self._ask = ask

    def __call__(self, params: nnx.State, version: int):
        if self._writer.kind not in STREAMED:
            return self._ask("write", version, self._writer.adapter)
        weights = self._writer(params, version)
        return dataclasses.replace(
            weights, walk=functools.partial(weights.walk, read=functools.partial(self._ask, "set", version)))

    def __getattr__(self, name: str):
        return getattr(self._writer, name)


def _values(completion: Completion) -> list:
    return [getattr(completion, name) for name in FIELDS]
