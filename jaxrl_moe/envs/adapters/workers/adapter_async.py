"""Asynchronous connections for workers that answer one call after the other: each lives in a task of its own,
on a loop in a thread, since some may only be closed by the task that opened them."""
import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

_CLOSING = 5.0  # seconds; less than a worker has for it
Opened = Callable[[], contextlib.AbstractAsyncContextManager]


class Loop:
    """An event loop in a thread, which ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self, coroutine: Awaitable[Any]) -> concurrent.futures.Future:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)


class Connection:
    """What an asynchronous context manager gives, until close().

    Args:
      loop: that it lives on.
      opened: makes the context manager.
      seconds: that opening, or a call, may take.

    Raises:
      Whatever opening it raises.
    """

    def __init__(self, loop: Loop, opened: Opened, seconds: float):
        self._loop = loop
        self._seconds = seconds
        self._calls: asyncio.Queue = asyncio.Queue()
        begun: concurrent.futures.Future = concurrent.futures.Future()
        self._life = loop.start(self._live(opened, begun))
        try:
            begun.result(seconds)
        except BaseException:
            self._life.cancel()
            raise

    async def _live(self, opened: Opened, begun: concurrent.futures.Future) -> None:
        try:
            async with opened() as value:
                begun.set_result(None)
                while (asked := await self._calls.get()) is not None:
                    await self._answer(value, *asked)
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)

    @staticmethod
    async def _answer(value: Any, call: Callable[[Any], Awaitable],
                      answer: concurrent.futures.Future) -> None:
        try:
            answer.set_result(await call(value))
        except Exception as error:
            answer.set_exception(error)

    def call(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """What a call of the connection comes to."""
        answer: concurrent.futures.Future = concurrent.futures.Future()
        self._loop.soon(self._calls.put_nowait, (call, answer))
        done, _ = concurrent.futures.wait((answer, self._life), self._seconds,
                                          concurrent.futures.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if done:
            raise ConnectionError(f"the connection has ended: {self._life.exception()!r}")
        raise TimeoutError(f"no answer within {self._seconds:g} seconds")

    def close(self) -> None:
        """Closes it, or drops it where that takes long; that the other side has gone before is no matter."""
        self._loop.soon(self._calls.put_nowait, None)
        if not concurrent.futures.wait((self._life,), _CLOSING).done:
            self._life.cancel()


def causes(error: BaseException) -> str:
    """What went wrong, of an exception that may hold several."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(causes, error.exceptions))
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
