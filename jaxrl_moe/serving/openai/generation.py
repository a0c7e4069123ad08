"""The samples of one call on their way from the engine's thread to the event loop."""
import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any

from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.types import Completion, Request, UserError

Drawn = Callable[[list[list[Completion]]], Awaitable[None]]  # [prompt][sample]


class Generation:
    """One call's samples: prompt by prompt, n of each. Close it in any case: that frees what it still holds.

    Args:
      front: draws them.
      prefix: of the call's id.
      requests: one for each prompt, of one n.
      ended: called once, by close().
      drawn: is waited for once all is drawn, before the client learns of the last token.

    Attributes:
      samples: per sample its chunks so far.
    """

    def __init__(self, front: EngineFront, prefix: str, requests: Sequence[Request],
                 ended: Callable[["Generation"], None], drawn: Drawn | None = None):
        self.id = f"{prefix}-{secrets.token_hex(16)}"
        self.requests = requests
        self.n = requests[0].params.n
        self.samples: list[list[Chunk]] = [[] for _ in range(len(requests) * self.n)]
        self._front = front
        self._ended = ended
        self._drawn = drawn
        self._closed = False
        self._start = time.perf_counter()
        self._left = len(self.samples)
        self._news: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._tickets = [
            front.serve(request, self._listener(number)) for number, request in enumerate(requests)
        ]
        for number, ticket in enumerate(self._tickets):
            ticket.done.add_done_callback(self._listener(number))

    @property
    def complete(self) -> bool:
        return not self._left

    @property
    def seconds(self) -> float:
        """Since the call was admitted."""
        return time.perf_counter() - self._start

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.ids) for request in self.requests)

    @property
    def drawn_tokens(self) -> int:
        return sum(len(chunk.ids) for chunks in self.samples for chunk in chunks)

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """(sample, its next tokens), until all samples are done; raises Refusal(500) if the engine failed."""
        while self._left:
            number, news = await self._news.get()
            if isinstance(news, Future):
                error = None if news.cancelled() else news.exception()
                if error is not None:
                    raise Refusal(500, str(error) if isinstance(error, UserError)
                                  else "The engine failed; the server's log has more.")
                continue
            for chunk in news:
                sample = number * self.n + chunk.sample
                self.samples[sample].append(chunk)
                self._left -= chunk.finish_reason != ""
                if not self._left and self._drawn is not None:
                    await self._drawn([await asyncio.wrap_future(ticket.done) for ticket in self._tickets])
                yield sample, chunk

    def when_drawn(self, tell: Callable[[], None]) -> None:
        """Has it called, in any thread, for each prompt that the engine has nothing more to draw for, whether
        or not the client has read that far."""
        for ticket in self._tickets:
            ticket.done.add_done_callback(lambda _: tell())

    def _listener(self, number: int):
        def hear(news: Any):  # on the driver's thread
            try:
                self._loop.call_soon_threadsafe(self._news.put_nowait, (number, news))
            except RuntimeError:  # the server was stopped meanwhile, and nobody listens
                pass
        return hear

    def close(self) -> None:
        """Cancels what is not done, and tells of the end. A second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        for ticket in self._tickets:
            self._front.cancel(ticket)
        self._ended(self)

    def records(self) -> list[list[dict[str, Any]]]:
        """[prompt][sample]: everything drawn, with "cancelled" as the end of a sample that has none."""
        flat = [_joined(chunks) for chunks in self.samples]
        return [flat[first:first + self.n] for first in range(0, len(flat), self.n)]


def _joined(chunks: Sequence[Chunk]):
    columns = {name: [value for chunk in chunks for value in getattr(chunk, name).tolist()]
               for name in ("ids", "logprobs", "policy_version")}
    return columns | {
        "finish_reason": chunks[-1].finish_reason if chunks and chunks[-1].finish_reason else "cancelled"
    }
