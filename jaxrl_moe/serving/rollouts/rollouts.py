"""The episodes that an environment server plays for its clients: so many at once, each in a session of the
server's own."""
import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.policy.client import Policy, chat_url
from jaxrl_moe.serving.rollouts.answer import Room, answer_of, detail_of, failed_of
from jaxrl_moe.serving.rollouts.bodies import RolloutsBody
from jaxrl_moe.serving.rollouts.own import OwnEpisodes
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import EnvError, Status, UserError

MOST_WAITING = 2**14  # episodes that may wait for their turn


class Rollouts:
    """Plays them. Its methods are the event loop's.

    Args:
      name: of the environment.
      task_turns: turns of an episode where a request names no number.
      sessions: of the server.
      allowed: URLs of policies.
      most: episodes at work at once, of all requests together; no more than there are sessions.
      policy_timeout: seconds that a turn of a policy may take.
      seconds: that a request may take; what is not played by then is told as failed.

    Attributes:
      held: episodes at work or waiting.
      ended: {how: so many}.
    """

    def __init__(self, name: str, task_turns: int, sessions: Sessions, allowed: Allowed, *, most: int = 64,
                 policy_timeout: float = 600.0, seconds: float = 3600.0):
        self.name = name
        self.most = min(most, sessions.most)
        self.held = 0
        self.ended: collections.Counter[str] = collections.Counter()
        self._task_turns = task_turns
        self._own = OwnEpisodes(sessions)
        self._allowed = allowed
        self._policy_timeout = policy_timeout
        self._seconds = seconds
        self._at_once = asyncio.Semaphore(self.most)

    async def answer(self, body: RolloutsBody) -> bytes:
        """The JSON of the answer to a request. Where it is cancelled, its episodes end.

        Raises:
          UserError: another environment is served, the policy may not be called, or there is no room.
        """
        began = time.monotonic()
        if body.env != self.name:
            raise UserError(f"env = {quoted(body.env)} is not served here, but {self.name!r} is."
                            f"{did_you_mean(body.env, [self.name])}")
        target = await asyncio.to_thread(self._allowed.target, chat_url(body.base_url))
        key = body.api_key.get_secret_value() if body.api_key else ""
        sampling = {"model": body.model, **body.wishes}
        with self._waiting(len(body.ids)):
            async with Policy(target, key, sampling, self._policy_timeout) as policy:
                details = await self._all(body, policy)
        return await asyncio.to_thread(answer_of, self.name, details, time.monotonic() - began)

    @contextlib.contextmanager
    def _waiting(self, count: int) -> Iterator[None]:
        if self.held + count > self.most + MOST_WAITING:
            raise UserError(f"{self.held} episodes are at work or wait, and there is room for "
                            f"{self.most + MOST_WAITING}: ask again later, or for fewer ids.")
        self.held += count
        try:
            yield
        finally:
            self.held -= count

    async def _all(self, body: RolloutsBody, policy: Policy) -> list[dict[str, Any]]:
        room = Room()
        runs = [asyncio.ensure_future(self._detail(number, row, body, policy, room, wishes))
                for number, row, wishes in zip(body.ids, body.rows, _wishes(body))]
        try:
            await asyncio.wait(runs, timeout=self._seconds)
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
        return [self._late(number) if run.cancelled() else run.result()
                for number, run in zip(body.ids, runs)]

    def _late(self, number: int | str) -> dict[str, Any]:
        self.ended[str(Status.TIMED_OUT)] += 1
        return failed_of(number, EnvError(Status.TIMED_OUT, f"The episode has not ended within the "
                                          f"{self._seconds:g} seconds that a request may take."))

    async def _detail(self, number: int | str, row: Mapping[str, Any], body: RolloutsBody, policy: Policy,
                      room: Room, wishes: Mapping[str, Any]) -> dict[str, Any]:
        async with self._at_once:
            try:
                played = await self._own.play(row, policy, body.max_round or self._task_turns, **wishes)
            except Exception as error:  # the other episodes count all the same
                failure = _failure(error)
                self.ended[str(failure.status)] += 1
                return failed_of(number, failure)
        self.ended[played.ended] += 1
        return detail_of(number, played, room)


def _failure(error: Exception) -> EnvError:
    """What is said of an episode that failed; the log has the traceback of what nobody has foreseen, as of a
    task whose messages are no JSON."""
    if isinstance(error, EnvError):
        return error
    logging.getLogger(__name__).error("An episode failed", exc_info=error)
    return EnvError(Status.CRASHED, f"The episode could not be played: {crash(error)}")


def _wishes(body: RolloutsBody) -> Iterator[dict[str, int]]:
    """Of each episode alone: with a seed, the second of an id has the next one, lest it be the same again."""
    before: collections.Counter[int | str] = collections.Counter()
    for number in body.ids:
        yield {} if body.seed is None else {"seed": body.seed + before[number]}
        before[number] += 1
