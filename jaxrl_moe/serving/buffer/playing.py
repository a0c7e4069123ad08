"""What POST /start_rollout starts: a task's episodes, played with a policy elsewhere, that go into the buffer
as they end."""
import asyncio
import collections
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.protocols import Task
from jaxrl_moe.serving.buffer import rows
from jaxrl_moe.serving.buffer.bodies import StartBody
from jaxrl_moe.serving.buffer.store import Store
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.policy.client import Policy, chat_url
from jaxrl_moe.serving.rollouts.own import OwnEpisodes
from jaxrl_moe.serving.rollouts.run import Opening, Played
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import EnvError, UserError

TRIES = 3            # of an episode that fails through no fault of the policy's
PAUSE = 2.0          # seconds between two of them
MOST_FAILED = 16     # episodes in a row without one that ended well, after which the rollout stops
LOOK_SECONDS = 0.5   # between two looks whether the reader has caught up

Keep = Callable[[Mapping[str, Any]], Awaitable[None]]


class Busy(UserError):
    """Another rollout goes on."""


class Playing:
    """Plays rollouts, one at a time. Its methods are the event loop's.

    Args:
      task: whose episodes are played; closed with this.
      task_type: as clients call it.
      files: of rows, which clients may name.
      store: whose groups are filled.
      allowed: URLs of policies.
      most: episodes at once.
      ahead: finished groups that may wait for their reader, before no further group begins.
      model: as the policy's server calls it.
      key: of the policy's server; empty: it has none.
      timeout: seconds that a turn of a policy may take.

    Attributes:
      why: the last rollout stopped before its end; empty: it did not.
    """

    def __init__(self, task: Task, task_type: str, files: Sequence[str], store: Store, allowed: Allowed, *,
                 most: int = 64, ahead: int = 64, model: str = "custom", key: str = "",
                 timeout: float = 600.0):
        self.why = ""
        self.task_type = task_type
        self._task = task
        self._files = {os.path.realpath(path): str(path) for path in files}
        self._store = store
        self._allowed = allowed
        self._most = most
        self._ahead = ahead
        self._model = model
        self._key = key
        self._timeout = timeout
        self._sessions = Sessions(task, most=most)
        self._own = OwnEpisodes(self._sessions)
        self._body: StartBody | None = None
        self._work: asyncio.Task[None] | None = None
        self._count: collections.Counter[str] = collections.Counter()
        self._failed_in_a_row = 0

    def close(self) -> None:
        self._sessions.close()

    def told(self) -> dict[str, Any]:
        """What is said of the rollout in the statistics."""
        return {"state": self._state(), "why": self.why, "played": self._count["played"],
                "failed": self._count["failed"], "episodes_open": self._sessions.open}

    async def start(self, body: StartBody, keep: Keep) -> None:
        """Starts a rollout, whose episodes are handed to `keep`; the same again while it goes on does
        nothing.

        Raises:
          Busy: another one goes on.
          UserError: it cannot be played.
        """
        if self._at_work:
            if body == self._body:
                return
            raise Busy("Another rollout goes on: wait for its end, which GET /buffer/stats tells, or start "
                       "the server again.")
        self._body = body  # at once, lest the same request starts it twice
        self._work = asyncio.current_task()
        try:
            target = await asyncio.to_thread(self._allowed.target, chat_url(body.remote_engine_url))
            read = await asyncio.to_thread(rows.read, self._file(body), self._task)
            await asyncio.to_thread(self._store.set_size, body.num_repeat_per_sample)
        except BaseException:
            self._body = None
            raise
        self.why = ""
        self._count.clear()
        self._failed_in_a_row = 0
        policy = Policy(target, self._key, {"model": self._model, **body.wishes}, self._timeout)
        self._work = asyncio.ensure_future(self._run(body, read, policy, keep))

    def _state(self) -> str:
        if self._body is None:
            return "idle"
        return "at work" if self._at_work else "stopped" if self.why else "ended"

    @property
    def _at_work(self) -> bool:
        return self._work is not None and not self._work.done()

    def _file(self, body: StartBody) -> str:
        """The file of the rows; raises UserError for what the server does not play."""
        if body.task_type != self.task_type:
            raise UserError(f"task_type = {quoted(body.task_type)} is not played here, but "
                            f"{self.task_type!r} is.{did_you_mean(body.task_type, [self.task_type])} See "
                            "--task_type.")
        if body.max_turns is not None and body.max_turns > self._task.max_turns:
            raise UserError(f"max_turns = {body.max_turns} is more than the {self._task.max_turns} of the "
                            "server's task: start it with a --task of so many.")
        path = self._files.get(os.path.realpath(body.input_file)) if "\0" not in body.input_file else None
        if path is None:
            raise UserError(f"input_file = {quoted(body.input_file)} is no file of this server: it plays "
                            f"{', '.join(map(quoted, self._files.values()))}, which --data names.")
        return path

    async def _run(self, body: StartBody, read: Sequence[rows.Row], policy: Policy, keep: Keep) -> None:
        """Plays all, so many at once."""
        episodes = self._episodes(body, read)
        workers = min(body.num_process, self._most)
        try:
            async with policy, asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._worker(body, episodes, policy, keep))
        except* UserError as errors:
            self.why = str(errors.exceptions[0])
            logging.getLogger(__name__).warning("The rollout has stopped: %s", self.why)
        except* Exception as errors:  # nobody else would hear of it
            self.why = f"the server met an error of its own: {crash(errors.exceptions[0])}"
            logging.getLogger(__name__).error("The rollout has stopped", exc_info=errors)

    def _episodes(self, body: StartBody, read: Sequence[rows.Row]) -> Iterator[tuple[rows.Start, int]]:
        for start in rows.passes(read, body.num_epoch, body.skip_instance_ids):
            for copy in range(body.num_repeat_per_sample):
                yield start, copy

    async def _worker(self, body: StartBody, episodes: Iterator[tuple[rows.Start, int]], policy: Policy,
                      keep: Keep) -> None:
        for start, copy in episodes:
            if copy == 0:
                await self._caught_up(body.num_repeat_per_sample)
            played = await self._played(body, start, copy, policy)
            if played is not None:
                await keep(item_of(start, played, body.gamma))

    async def _caught_up(self, size: int) -> None:
        """Waits until few enough groups wait for their reader."""
        while await asyncio.to_thread(self._store.ready) >= self._ahead * size:
            await asyncio.sleep(LOOK_SECONDS)

    async def _played(self, body: StartBody, start: rows.Start, copy: int, policy: Policy) -> Played | None:
        """An episode; None where it failed, again and again. Raises UserError where all fail."""
        rounds = body.max_turns or self._task.turns_of(start.row)
        seed = {} if body.sampling_params.seed is None else {"seed": body.sampling_params.seed + copy}
        for number in range(TRIES):
            try:
                played = await self._own.play(start.row, policy, rounds, Opening(start.prompt, start.seed),
                                              **seed)
            except EnvError as error:
                failure = error
                if error.final:
                    break
                if number + 1 < TRIES:
                    await asyncio.sleep(PAUSE)
            else:
                self._count["played"] += 1
                self._failed_in_a_row = 0
                return played
        self._count["failed"] += 1
        self._failed_in_a_row += 1
        logging.getLogger(__name__).warning("An episode of %s failed: %s", start.instance, failure)
        if self._failed_in_a_row >= MOST_FAILED:
            raise UserError(f"{MOST_FAILED} episodes in a row have failed, the last one so: {failure} Mend "
                            "it, and POST /start_rollout again.")
        return None


def item_of(start: rows.Start, played: Played, gamma: float) -> dict[str, Any]:
    """An episode as slime's generators write it: the reward is r1 + gamma r2 + gamma^2 r3."""
    rewards = [step.reward for step in played.steps]
    own = start.row.get("extra_info")
    facts = {"timestamp": str(time.time()), "finish_reason": played.finish_reason,
             "round_number": len(rewards),
             "turn_rewards": rewards, "gamma": gamma, "ended": played.ended, "success": played.success,
             "info": dict(played.steps[-1].info)}
    return {"uid": str(uuid.uuid4()), "instance_id": start.instance, "messages": played.messages,
            "reward": sum(reward * gamma**turn for turn, reward in enumerate(rewards)),
            "extra_info": (own if isinstance(own, dict) else {}) | facts}
