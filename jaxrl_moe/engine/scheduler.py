"""Continuous batching: which sequences decode next, on which pages of the KV pool. Host arithmetic only.

Every sequence starts decoding from its last prompt token, so prefill covers prompt[:-1] and needs no logits.
A group's samples share the full pages of that prefix; each gets its own copy of the partly filled last page
before it writes.
"""
import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxrl_moe.engine.pages import PagePool, pages_for
from jaxrl_moe.engine.sequences import RequestGroup, Sequence


@dataclasses.dataclass
class Prefill:
    """Tokens [start, end) of a sequence to be written to its pages. `group` is set if it wants their expert
    ids."""
    ids: np.ndarray
    start: int
    pages: list[int]
    group: RequestGroup | None = None


@dataclasses.dataclass
class ChunkPlan:
    """What must be done on the device before the next decode call, in this order."""
    prefills: list[Prefill] = dataclasses.field(default_factory=list)
    copies: list[tuple[int, int]] = dataclasses.field(default_factory=list)


class Scheduler:
    """First come, first served. When pages run out the youngest running sequence goes back to the head of the
    queue.

    Every running sequence is older than every queued one, so the admission order follows from the requests
    alone.
    """

    def __init__(self, pool: PagePool, page_size: int, slots: int, steps: int):
        self.pool = pool
        self.page_size = page_size
        self.slots = slots
        self.steps = steps
        self.running: list[Sequence] = []
        self.queue: collections.deque[Sequence] = collections.deque()
        self.preemptions = 0

    @property
    def load(self) -> int:
        """Samples that run or wait."""
        return len(self.running) + len(self.queue)

    def add(self, group: RequestGroup) -> None:
        group.waiting = group.request.params.n
        self.queue.extend(Sequence(group, sample) for sample in range(group.waiting))

    def give_away(self) -> Sequence:
        """Takes out the sample that waits last."""
        sequence = self.queue.pop()
        sequence.group.waiting -= 1
        if not sequence.group.waiting:
            self._drop_held([sequence])
        return sequence

    def take_over(self, sequence: Sequence) -> None:
        """Adds a sample that another scheduler gave away. It shares its prompt with those of its request that
        wait here."""
        own = (other.group for other in self.queue if other.group.handle == sequence.group.handle)
        sequence.group = next(own, None) or sequence.group.elsewhere()
        sequence.group.waiting += 1
        self.queue.append(sequence)

    def plan(self) -> ChunkPlan:
        """Gives the running sequences pages for the next chunk, then admits what fits."""
        self._grow()
        plan = ChunkPlan()
        if not self._admit(plan) and self.queue and not self.running:
            self.drop_held()
            self._admit(plan)
        return plan

    def finish(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)

    def samples(self, handle: int) -> list[Sequence]:
        """A request's samples that are not finished."""
        return [sequence for sequence in (*self.running, *self.queue) if sequence.group.handle == handle]

    def cancel(self, handle: int) -> None:
        """Takes a request's samples out, and gives back their pages and those held for them."""
        for sequence in [sequence for sequence in self.running if sequence.group.handle == handle]:
            self.finish(sequence)
        queued = [sequence for sequence in self.queue if sequence.group.handle == handle]
        self._drop_held(queued)
        self.queue = collections.deque(sequence for sequence in self.queue if sequence.group.handle != handle)

    def suspend(self) -> None:
        """Sends every running sequence back to the queue and empties the pool; drawn tokens are kept."""
        while self.running:
            self._preempt()
        self.drop_held()

    def drop_held(self) -> None:
        """Lets go of the prompt pages kept for waiting samples; these will be prefilled anew."""
        self._drop_held(self.queue)

    def _drop_held(self, queued: Iterable[Sequence]):
        for group in {id(sequence.group): sequence.group for sequence in queued}.values():
            if group.held is not None:
                self.pool.drop(group.held)
                group.held = None

    def _grow(self):
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            missing = self._pages_next(sequence) - len(sequence.pages)
            pages = self.pool.take(missing) if missing > 0 else []
            if pages is not None:
                sequence.pages += pages
                index += 1
            elif len(self.running) > 1:
                self._preempt()
            else:  # alone, a sequence fits once no other prompt is held: requests are checked for that
                self.drop_held()

    def _pages_next(self, sequence: Sequence):
        return pages_for(sequence.cached_after(self.steps), self.page_size)

    def _preempt(self):
        sequence = self.running.pop()
        self._free(sequence)
        sequence.group.waiting += 1
        self.queue.appendleft(sequence)
        self.preemptions += 1

    def _free(self, sequence: Sequence):
        self.pool.drop(sequence.pages)
        sequence.pages = []

    def _admit(self, plan: ChunkPlan) -> bool:
        admitted = False
        while self.queue and len(self.running) < self.slots and self._place(self.queue[0], plan):
            sequence = self.queue.popleft()
            sequence.group.waiting -= 1
            self.running.append(sequence)
            admitted = True
        return admitted

    def _place(self, sequence: Sequence, plan: ChunkPlan) -> bool:
        """Finds pages for a queued sequence and plans how its cache gets filled; False (nothing done) if too
        few."""
        group = sequence.group
        last = group.waiting == 1
        hold = 0 if last or group.held is not None else pages_for(group.prefix_length, self.page_size)
        full = group.prefix_length // self.page_size if hold or group.held is not None else 0
        shared = len(group.held) if last and group.held is not None else full
        if hold + self._pages_next(sequence) - shared > self.pool.num_free:
            return False
        if hold:
            group.held = self.pool.take(hold)
            plan.prefills.append(self._prefill(sequence, group.prefix_length, 0, group.held))
        held = group.held
        start = 0
        if held is not None:
            start = full * self.page_size
            sequence.pages = held if last else self.pool.share(held[:full])
        sequence.pages = sequence.pages + self.pool.take(self._pages_next(sequence) - len(sequence.pages))
        fresh = sequence.drawn == 0
        if fresh and held is not None and not last and full < len(held):
            plan.copies.append((held[full], sequence.pages[full]))
        if last:
            group.held = None
        end = sequence.length - 1
        if end > (group.prefix_length if held is not None else 0):
            plan.prefills.append(self._prefill(sequence, end, start, sequence.pages))
        return True

    def _prefill(self, sequence: Sequence, end: int, start: int, pages: list[int]):
        group = sequence.group
        wanted = group.request.params.return_routed_experts and group.prompt_routes is None
        fresh = end == group.prefix_length
        return Prefill(sequence.ids[start:end], start, pages, group if wanted and fresh else None)
