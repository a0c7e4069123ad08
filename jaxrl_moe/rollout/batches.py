"""A streaming engine over one that draws whole batches."""
from collections.abc import Mapping

from jaxrl_moe.protocols import Engine
from jaxrl_moe.types import Completion, Request


class Batches:
    """The streaming methods over an engine's generate(): a step draws all that was submitted, to its end."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._wanted: list[Request] = []
        self._number = 0

    def submit(self, request: Request) -> int:
        self._wanted.append(request)
        return self._number + len(self._wanted) - 1

    def step(self) -> Mapping[int, list[Completion]]:
        wanted = self._wanted
        self._wanted = []
        first = self._number
        self._number += len(wanted)
        return dict(enumerate(self._engine.generate(wanted), first)) if wanted else {}

    def cancel(self, handle: int) -> None:
        """Nothing is under way between two steps."""
