"""Servers for a trainer of several processes: process 0 alone talks to them, and the others get from it what was drawn.

The weights are split over all processes: to write them, and to score what a server drew with them, all compute together (see
distributed/meeting.py), whenever process 0 comes to it. It holds a layer at a time while it writes.
"""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from bridges.adapters import export_adapter
from bridges.engines.engine import ServerEngine
from bridges.engines.sync import Writer
from bridges.exporting import export_model
from jaxrl_moe.distributed import hosts
from jaxrl_moe.distributed.meeting import Meeting
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Completion, Request

FIELDS = [field.name for field in dataclasses.fields(Completion)]


class SharedEngine:
    """An Engine (see types.py) that every process of a job has; all call its methods alike, but for close().

    Args:
      make: called in process 0 alone with (score, writing), makes the engine over the servers: `score` is what its probe scores by, and
        writing(writer) what it writes by.
      gather: what the other processes do while process 0 writes: (params, version).
      score: (params, tokens, temperature) -> log-probs, computed by all processes.
    """

    def __init__(self, make: Callable[..., ServerEngine], gather: Callable, score: Callable):
        self._params, self._engine, self._write = None, None, gather
        self._meeting = Meeting({
            "write": lambda version: self._write(self._params, version),
            "score": lambda tokens, temperature: score(self._params, tokens, temperature)})
        hosts.on_leader(lambda: self._make(make))

    def publish(self, params: Any, version: int) -> dict[str, float]:
        """As ServerEngine.publish."""
        self._params = params
        return self._meeting.hold(lambda: self._engine.publish(params, version))

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """As ServerEngine.generate; the same bits in every process."""
        drawn = self._meeting.hold(lambda: [[_values(completion) for completion in group] for group in self._engine.generate(requests)])
        return [[Completion(*values) for values in group] for group in drawn]

    def release(self) -> None:
        """Nothing to free: the servers' memory is not the trainer's."""

    def stats(self) -> dict[str, float]:
        """As ServerEngine.stats."""
        return hosts.from_leader(lambda: self._engine.stats())

    def close(self) -> None:
        """Stops the servers that were launched. Each process closes its own by itself, as when one of them fails."""
        self._meeting.close()
        if self._engine is not None:
            self._engine.close()

    def _make(self, make):
        self._engine = make(lambda params, tokens, temperature: self._meeting.together("score", tokens, temperature), self._writing)

    def _writing(self, writer):
        self._write = writer
        return _Together(writer, self._meeting)


class _Together:
    """A Writer that has all processes gather what it writes."""

    def __init__(self, writer: Writer, meeting: Meeting):
        self._writer, self._meeting = writer, meeting

    def __call__(self, params, version):
        return self._meeting.together("write", version)

    def __getattr__(self, name):
        return getattr(self._writer, name)


def gatherer(model: Transformer, base: str, adapter: bool) -> Callable[[Any, int], None]:
    """What takes part in gathering the tensors that process 0 writes; arguments as for Writer."""
    graphdef, _ = nnx.split(model)

    def gather(params, version):
        whole = nnx.merge(graphdef, cut(params, model.config.vocab_size))
        if adapter:
            export_adapter(whole, "", base)
        else:
            export_model(whole, "", source=base)
    return gather


def _values(completion: Completion) -> list:
    return [getattr(completion, name) for name in FIELDS]
