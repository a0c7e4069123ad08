"""What a rollout buffer's server serves: the groups, those who wait for them, and the episodes that it
plays."""
import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jaxrl_moe.serving.buffer.bodies import StartBody
from jaxrl_moe.serving.buffer.items import read_item
from jaxrl_moe.serving.buffer.playing import Playing
from jaxrl_moe.serving.buffer.store import Store, Taken
from jaxrl_moe.types import UserError

LOOK_SECONDS = 0.5  # between two looks of who waits, as a group may be finished by its time-out too

Gone = Callable[[], Awaitable[bool]]


class BufferService:
    """Its methods are the event loop's; the file is used in threads.

    Args:
      store: of the groups; closed with the service.
      playing: what POST /start_rollout starts; None: nothing does.
    """

    def __init__(self, store: Store, playing: Playing | None = None):
        self.store = store
        self.playing = playing
        self._written = asyncio.Event()

    def close(self) -> None:
        if self.playing is not None:
            self.playing.close()
        self.store.close()

    async def write(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Adds an item; one that was written before is answered in the same way.

        Raises:
          UserError: it is none, or another one has its uid.
        """
        await asyncio.to_thread(lambda: self.store.write(read_item(body)))
        self._written.set()
        return _answer(True, "Data has been successfully written to buffer", [body], "write to buffer")

    async def read(self, least: int, seconds: float, gone: Gone) -> dict[str, Any] | None:
        """Hands out groups once they have so many items, or those that there are after so many seconds; None,
        and nothing was handed out, where the client has gone meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._written.clear()
            if await gone():
                return None
            late = time.monotonic() >= end
            taken = await asyncio.to_thread(self.store.take, least, not late)
            if taken.items or late:
                return _told(taken, "Timeout waiting, no data available to read")
            await self._next(min(LOOK_SECONDS, max(end - time.monotonic(), 0.0)))

    async def rollout_data(self, least: int) -> dict[str, Any]:
        """Hands out groups with so many items, or nothing where there are fewer."""
        taken = await asyncio.to_thread(self.store.take, least, True)
        if not taken.items and least > 0:
            there = await asyncio.to_thread(self.store.ready)
            return _told(taken, f"Not enough data. Requested {least} items but only {there} available."
                         + self._stopped())
        return _told(taken, "No data available to read" + self._stopped())

    async def peek(self, least: int) -> dict[str, Any]:
        items = await asyncio.to_thread(self.store.peek, least)
        return _answer(True, f"Successfully previewed {len(items)} items", items, {})

    async def stats(self) -> dict[str, Any]:
        stats = await asyncio.to_thread(self.store.stats)
        stats["rollout"] = self.playing.told() if self.playing else None
        return _answer(True, "Buffer stats retrieved successfully", [stats], {})

    async def start(self, body: StartBody) -> dict[str, str]:
        """Starts a rollout; the same again while it goes on is answered in the same way.

        Raises:
          UserError: none can be started so.
        """
        if self.playing is None:
            raise UserError("This server plays no episodes itself: start it with --task=NAME and "
                            "--data=FILE, or write what others play to POST /buffer/write.")
        await self.playing.start(body, self._keep)
        return {"message": "Rollout started"}

    async def _keep(self, body: Mapping[str, Any]) -> None:
        await self.write(body)

    async def _next(self, seconds: float) -> None:
        """Waits for an item to be written, but no longer than so many seconds."""
        try:
            await asyncio.wait_for(self._written.wait(), seconds)
        except TimeoutError:
            pass

    def _stopped(self) -> str:
        """Why no more comes, for the end of an answer."""
        why = self.playing.why if self.playing else ""
        return f". The rollout has stopped: {why}" if why else ""


def _told(taken: Taken, otherwise: str) -> dict[str, Any]:
    if not taken.items:
        return _answer(False, otherwise, [], {})
    rewards = [item["reward"] for item in taken.items]
    count = len(taken.groups)
    mean = sum(reward / len(rewards) for reward in rewards)  # their sum may be beyond a float
    meta = {"total_samples": len(rewards), "num_groups": count, "avg_group_size": len(rewards) / count,
            "avg_reward": mean if math.isfinite(mean) else None, "finished_groups": [*taken.groups,
                                                                                     *taken.dropped]}
    return _answer(True, f"Successfully read {len(rewards)} items", taken.items, meta)


def _answer(success: bool, message: str, items: Any, meta: Any) -> dict[str, Any]:
    """In the form of slime's BufferResponse."""
    return {"success": success, "message": message, "data": {"data": items, "meta_info": meta}}
