"""The rollouts that are at work, and the answers of those that are done: each run_id is played once, however
often it is asked for."""
import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.tasks.bodies import RolloutRequest, RolloutResponse
from jaxrl_moe.serving.tasks.stop import Stop, Stopped
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import EnvError

WAITING = 4          # rollouts that may wait for a thread, for each that can be at work
KEPT = 4096          # answers that are kept
KEPT_BYTES = 2**27   # of all of them
FAILED = 502         # the policy, the browser or the judge failed; another try may not meet that
FINAL = 424          # it would
RETRY_SECONDS = 5    # after which one that was refused may come again


@dataclasses.dataclass
class _AtWork:
    """A rollout: what it was asked by, its answer to come, and how many wait for that."""
    asked: bytes
    stop: Stop
    answer: asyncio.Future
    callers: int = 0


class Rollouts:
    """Plays rollouts in threads. Its methods are the event loop's, but for close().

    Args:
      play: plays one, in whatever thread.
      most: at work at once; WAITING times as many may wait.

    Attributes:
      held: rollouts at work or waiting, those included that were stopped and have not ended.
      ended: {how: so many}.
    """

    def __init__(self, play: Callable[[RolloutRequest, Stop], RolloutResponse], most: int):
        self.most = most
        self.held = 0
        self.ended: collections.Counter[str] = collections.Counter()
        self._play = play
        self._pool = concurrent.futures.ThreadPoolExecutor(most, "rollout")
        self._at_work: dict[str, _AtWork] = {}
        self._stops: set[Stop] = set()
        self._done: collections.OrderedDict[str, tuple[bytes, bytes]] = collections.OrderedDict()
        self._bytes = 0

    async def answer(self, request: RolloutRequest,
                     gone: Callable[[], Coroutine[Any, Any, None]]) -> bytes | None:
        """The JSON of the answer; None where the caller has gone. Where all who wait for a rollout have, it
        is stopped and forgotten.

        Args:
          gone: returns once the caller has.

        Raises:
          Refusal: another request has this run_id, there is no room, or the policy, the browser or the judge
            fails.
          UserError: it cannot be played.
        """
        asked = _digest(request)
        if request.run_id in self._done:
            before, answer = self._done[request.run_id]
            self._same(request, asked, before)
            self._done.move_to_end(request.run_id)
            return answer
        work = self._at_work.get(request.run_id)
        if work is None:
            work = self._begin(request, asked)
        self._same(request, asked, work.asked)
        return await self._heard(request.run_id, work, asyncio.ensure_future(gone()))

    async def _heard(self, run_id: str, work: _AtWork, gone: asyncio.Future) -> bytes | None:
        work.callers += 1
        try:
            await asyncio.wait((work.answer, gone), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
            raise Refusal(503, "The server is ending, and the rollout is not done.") from error
        finally:
            gone.cancel()
            work.callers -= 1
            if not work.callers and not work.answer.done():
                self._forget(run_id, work)
        if not work.answer.done():
            return None
        try:
            return work.answer.result()
        except EnvError as error:
            status = FINAL if error.final else FAILED
            raise Refusal(status, f"The rollout failed, through no fault of the policy: {error}",
                          code=str(error.status)) from error

    def _begin(self, request: RolloutRequest, asked: bytes) -> _AtWork:
        if self.held >= self.most * (1 + WAITING):
            raise Refusal(429, f"{self.held} rollouts are at work or wait, which is all there is room for: "
                          "ask again later, or start the server with more --rollouts.",
                          headers={"Retry-After": str(RETRY_SECONDS)})
        stop = Stop()
        self.held += 1
        self._stops.add(stop)
        future = self._pool.submit(self._played, request, stop)
        work = _AtWork(asked, stop, asyncio.wrap_future(future))
        self._at_work[request.run_id] = work
        work.answer.add_done_callback(functools.partial(self._end, request.run_id, work))
        return work

    def _played(self, request: RolloutRequest, stop: Stop) -> bytes:
        stop.check()
        answer = self._play(request, stop).model_dump()
        return json.dumps(answer, allow_nan=False).encode()  # in ASCII: a policy may write halves of pairs

    def _end(self, run_id: str, work: _AtWork, _: asyncio.Future) -> None:
        """Keeps the answer, if there is one."""
        self.held -= 1
        self._stops.discard(work.stop)
        error = work.answer.exception()
        self.ended["stopped" if isinstance(error, Stopped) else "failed" if error else "answered"] += 1
        if self._at_work.get(run_id) is work:
            del self._at_work[run_id]
            if error is None:
                self._keep(run_id, work.asked, work.answer.result())

    def _keep(self, run_id: str, asked: bytes, answer: bytes) -> None:
        self._done[run_id] = (asked, answer)
        self._bytes += len(answer)
        while len(self._done) > KEPT or self._bytes > KEPT_BYTES and len(self._done) > 1:
            _, (_, oldest) = self._done.popitem(last=False)
            self._bytes -= len(oldest)

    def _forget(self, run_id: str, work: _AtWork) -> None:
        """Stops a rollout that nobody waits for; the next who asks for it has it played anew."""
        if self._at_work.get(run_id) is work:
            del self._at_work[run_id]
        asyncio.get_running_loop().run_in_executor(None, work.stop.stop)  # which takes a moment

    def _same(self, request: RolloutRequest, asked: bytes, before: bytes) -> None:
        if asked != before:
            raise Refusal(409, f"run_id = {quoted(request.run_id)} was given to a rollout with another "
                          "request: each needs a run_id of its own.", param="run_id")

    def close(self) -> None:
        """Stops all rollouts, and waits until they have ended."""
        for stop in list(self._stops):
            stop.stop()
        self._pool.shutdown(cancel_futures=True)


def _digest(request: RolloutRequest) -> bytes:
    """Of all of a request; its key is in it, and cannot be read out of it."""
    key = request.policy.config.api_key
    text = request.model_dump_json() + (key.get_secret_value() if key else "")
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
