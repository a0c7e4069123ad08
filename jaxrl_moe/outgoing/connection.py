"""Calls of servers by threads that wait for the answers: see jaxrl_moe/outgoing/calls.py."""
import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

from jaxrl_moe.outgoing.calls import Calls
from jaxrl_moe.outgoing.urls import Target
from jaxrl_moe.types import EnvError, Status, UserError

LAST_SECONDS = 5.0   # that calls which nobody waits for have when all is closed


class Connection(Calls):
    """Calls that are driven by a thread of their own, so that one ends at its deadline whatever the server
    does. Its arguments are those of Calls."""

    def __init__(self, timeout: float, patience: float = 0.0, api_key: str = "", header: str = "",
                 headers: Mapping[str, str] = {}, target: Target | None = None):
        super().__init__(timeout, patience, api_key, header, headers, target)
        self._waiting: set[concurrent.futures.Future] = set()
        self._door = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outgoing calls", daemon=True)
        self._thread.start()

    def post(self, url: str, body: Mapping[str, Any], failed: Status) -> Any:
        """Makes a call and returns the JSON that it is answered with; its arguments and errors are those of
        ask()."""
        return self._called("POST", url, body, failed)

    def get(self, url: str, failed: Status) -> Any:
        """As post(), of what is only asked for."""
        return self._called("GET", url, None, failed)

    def _called(self, method: str, url: str, body: Mapping[str, Any] | None, failed: Status) -> Any:
        try:
            status, data = self._start(self._patient(method, url, body, self._patience)).result()
        except concurrent.futures.CancelledError as error:
            raise EnvError(Status.UNREACHABLE, f"{url} was given up: the task was closed.") from error
        return self._value(status, data, url, failed)

    def post_later(self, url: str, body: Mapping[str, Any]) -> None:
        """Makes a call that nobody waits for, and whose failure changes nothing."""
        self._later("POST", url, body)

    def delete_later(self, url: str) -> None:
        """As post_later(), of what is to be deleted."""
        self._later("DELETE", url, None)

    def _later(self, method: str, url: str, body: Mapping[str, Any] | None) -> None:
        future = self._start(self._patient(method, url, body, 0.0))
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        """Ends the calls at work, at the latest after LAST_SECONDS those that nobody waits for."""
        concurrent.futures.wait(set(self._waiting), LAST_SECONDS)
        with self._door:  # what begins after this is refused: the loop would stop without it
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, call: Coroutine[Any, Any, tuple[int, bytes]]) -> concurrent.futures.Future:
        with self._door:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(call, self._loop)
        call.close()
        raise UserError("The task is closed: it calls no server any more.")

    async def _end(self) -> None:
        own = asyncio.current_task()
        calls = [task for task in asyncio.all_tasks() if task is not own]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self.end()
