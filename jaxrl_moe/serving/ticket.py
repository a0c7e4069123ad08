"""A request on its way through the engine's driver."""
import dataclasses
from collections.abc import Callable
from concurrent.futures import Future

from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.types import Completion, Request


@dataclasses.dataclass(eq=False)
class Ticket:
    """What the driver knows of a request.

    Attributes:
      notify: called on the driver's thread after each step that drew tokens for it; must neither raise nor
        wait.
      done: its completions, the error that ended it, or cancelled.
      handle: the engine's.
    """
    request: Request
    notify: Callable[[list[Chunk]], None] | None = None
    done: "Future[list[Completion]]" = dataclasses.field(default_factory=Future)
    handle: int = -1
    _fresh: list[Chunk] = dataclasses.field(default_factory=list)

    @property
    def listener(self) -> Callable[[Chunk], None] | None:
        """What the engine calls inside a step."""
        return None if self.notify is None else self._hear

    def pass_on(self) -> None:
        """Hands over what was drawn since the last time."""
        fresh = self._fresh
        self._fresh = []
        if fresh:
            self.notify(fresh)

    def _hear(self, chunk: Chunk):
        self._fresh.append(chunk)
