"""Continuous batching over the parts that a mesh splits the rows into: each has its slots and pages, and one
line feeds all."""
import collections
import contextlib
import functools
from collections.abc import Iterator

import numpy as np

from jaxrl_moe.engine.pages import PagePool
from jaxrl_moe.engine.scheduler import ChunkPlan, Scheduler
from jaxrl_moe.engine.sequences import RequestGroup, Sequence
from jaxrl_moe.types import Request


class Shards:
    """A Scheduler with its PagePool for each part of the rows.

    Requests wait in one line, first come, first served. Whenever a part has fewer samples than slots, the
    first request goes to one of these: to the one that holds the longest prefix of it, of equals to that with
    the fewest samples. It goes there whole, so that its samples share the pages of their prompt. Once the
    line is empty, parts with slots to spare take over samples that wait for one elsewhere; their prompt is
    prefilled there too. All this follows from the requests and what was drawn, so that several processes
    decide alike.
    """

    def __init__(self, count: int, num_pages: int, page_size: int, slots: int, steps: int):
        """num_pages (the trash page included) and slots are those of each part."""
        self.parts = [Scheduler(PagePool(num_pages), page_size, slots, steps) for _ in range(count)]
        self.line: collections.deque[RequestGroup] = collections.deque()
        self.slots = slots

    @property
    def idle(self) -> bool:
        return not self.line and not any(scheduler.load for scheduler in self.parts)

    @property
    def preemptions(self) -> int:
        return sum(scheduler.preemptions for scheduler in self.parts)

    @property
    def pages_used(self) -> int:
        return sum(scheduler.pages_used for scheduler in self.parts)

    @property
    def pages_kept(self) -> int:
        """Pages that are kept for later requests alone."""
        return sum(scheduler.cache.idle for scheduler in self.parts)

    @property
    def running(self) -> list[list[Sequence]]:
        """The running sequences of each scheduler."""
        return [list(scheduler.running) for scheduler in self.parts]

    def add(self, group: RequestGroup) -> None:
        self.line.append(group)

    def plan(self) -> list[ChunkPlan]:
        """Feeds the parts, and plans the next chunk of each."""
        while self.line and (spare := [part for part in self.parts if part.load < self.slots]):
            group = self.line.popleft()
            min(spare, key=functools.partial(_distance, group.request)).add(group)
        if not self.line:
            self._level()
        return [scheduler.plan() for scheduler in self.parts]

    def samples(self, handle: int) -> list[Sequence]:
        """A request's samples that are not finished; none while it waits in line."""
        return [sequence for scheduler in self.parts for sequence in scheduler.samples(handle)]

    def cancel(self, handle: int) -> None:
        """Takes a request's samples out, and gives back their pages."""
        self.line = collections.deque(group for group in self.line if group.handle != handle)
        for scheduler in self.parts:
            scheduler.cancel(handle)

    def suspend(self) -> None:
        """Sends every running sequence back to its scheduler's queue and empties the pools; drawn tokens are
        kept."""
        for scheduler in self.parts:
            scheduler.suspend()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within it nothing is in flight, and nothing kept of what was before; afterwards is what was in
        flight, to be prefilled again. After an error it is not."""
        self.suspend()
        line = self.line
        queues = [scheduler.queue for scheduler in self.parts]
        self.line = collections.deque()
        for scheduler in self.parts:
            scheduler.queue = collections.deque()
        yield
        self.suspend()
        self.line = line
        for scheduler, queue in zip(self.parts, queues):
            scheduler.queue = queue

    def forget(self) -> None:
        """Nothing that was written until now is found again, as after other weights; running sequences go on
        over it."""
        for scheduler in self.parts:
            scheduler.forget()

    def _emptiest(self) -> Scheduler:
        return min(self.parts, key=lambda scheduler: scheduler.load)

    def _level(self) -> None:
        while True:
            fullest = max(self.parts, key=lambda scheduler: scheduler.load)
            emptiest = self._emptiest()
            if fullest.load <= self.slots or emptiest.load >= self.slots:
                return
            emptiest.take_over(fullest.give_away())


def _distance(request: Request, part: Scheduler) -> tuple[int, int]:
    """Tokens of a request that a part does not hold, and what it has to do already."""
    known = part.cache.find(request.ids[:-1].astype(np.int32), request.params.return_routed_experts)
    return len(request.ids) - known.length(part.page_size), part.load
