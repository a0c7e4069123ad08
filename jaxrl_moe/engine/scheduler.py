"""Continuous batching: which sequences decode next, on which pages of the KV pool. Host arithmetic only.

Every sequence starts decoding from its last token, so prefill covers the ones before it and needs no logits.
Of these it prefills what no known page holds: samples of one prompt share its full pages, and each gets its
own copy of the partly filled last page before it writes; the next turn of an episode takes over the pages of
the turn before.
"""
import collections
import dataclasses

import numpy as np

from jaxrl_moe.engine.pages import PagePool, pages_for
from jaxrl_moe.engine.prefixes import KnownPrefix, PrefixCache
from jaxrl_moe.engine.sequences import RequestGroup, Sequence


@dataclasses.dataclass
class Prefill:
    """Tokens from `start` on to be written to a sequence's pages. `sequence` is set if it wants their expert
    ids."""
    ids: np.ndarray
    start: int
    pages: list[int]
    sequence: Sequence | None = None


@dataclasses.dataclass
class Stage:
    """Copies of pages (source, target), and then prefills, which read what the copies and earlier stages have
    written."""
    copies: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    prefills: list[Prefill] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class ChunkPlan:
    """What must be done on the device before the next decode call, stage after stage.

    Attributes:
      admitted: sequences that begin to run, in order.
      reused: tokens of them whose keys and values are there, or get there for another one.
    """
    stages: list[Stage] = dataclasses.field(default_factory=list)
    admitted: list[Sequence] = dataclasses.field(default_factory=list)
    reused: int = 0

    def stage(self, number: int) -> Stage:
        self.stages += [Stage() for _ in range(number + 1 - len(self.stages))]
        return self.stages[number]


class Scheduler:
    """First come, first served. When pages run out, those that nobody runs on are given up; then the youngest
    running sequence goes back to the head of the queue.

    Every running sequence is older than every queued one, so the admission order follows from the requests
    alone.
    """

    def __init__(self, pool: PagePool, page_size: int, slots: int, steps: int):
        self.pool = pool
        self.cache = PrefixCache(pool, page_size)
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

    @property
    def pages_used(self) -> int:
        """Pages that running sequences hold."""
        return self.pool.num_used - self.cache.idle

    def add(self, group: RequestGroup) -> None:
        self.queue.extend(Sequence(group, sample) for sample in range(group.request.params.n))

    def give_away(self) -> Sequence:
        """Takes out the sample that waits last."""
        return self.queue.pop()

    def take_over(self, sequence: Sequence) -> None:
        """Adds a sample that another scheduler gave away."""
        self.queue.append(sequence)

    def plan(self) -> ChunkPlan:
        """Gives the running sequences pages for the next chunk, then admits what fits."""
        self.cache.settle()
        self._grow()
        plan = ChunkPlan()
        sources = []
        while self.queue and len(self.running) < self.slots and self._place(self.queue[0], plan, sources):
            self.running.append(self.queue.popleft())
        self.cache.leave(sources)  # held as long as the plan could give them to others
        return plan

    def finish(self, sequence: Sequence) -> None:
        """Takes a sequence out; what is in its pages stays known."""
        self.running.remove(sequence)
        self._leave(sequence)

    def samples(self, handle: int) -> list[Sequence]:
        """A request's samples that are not finished."""
        return [sequence for sequence in (*self.running, *self.queue) if sequence.group.handle == handle]

    def cancel(self, handle: int) -> None:
        """Takes a request's samples out, and gives back their pages."""
        for sequence in [sequence for sequence in self.running if sequence.group.handle == handle]:
            self.finish(sequence)
        self.queue = collections.deque(sequence for sequence in self.queue if sequence.group.handle != handle)

    def suspend(self) -> None:
        """Sends every running sequence back to the queue and empties the pool; drawn tokens are kept."""
        self.forget()
        while self.running:
            self._preempt()

    def forget(self) -> None:
        """Nothing that was written until now is found again: it belongs to other weights, or to a pool that
        goes."""
        self.cache.clear()
        for sequence in self.running:
            sequence.current = False

    def _grow(self):
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            pages = self.cache.take(max(self._pages_next(sequence) - len(sequence.pages), 0))
            if pages is not None:
                sequence.pages += pages
                index += 1
            else:  # never the only one: requests are checked for that
                self._preempt()

    def _pages_next(self, sequence: Sequence):
        return pages_for(sequence.cached_after(self.steps), self.page_size)

    def _preempt(self):
        sequence = self.running.pop()
        self._leave(sequence)
        self.queue.appendleft(sequence)
        self.preemptions += 1

    def _leave(self, sequence: Sequence):
        if sequence.current:
            cached = sequence.ids[:sequence.length - 1]
            sequence.tell_routes(self.cache.learn(cached, sequence.pages, sequence.routed))
        self.cache.leave(sequence.pages)
        sequence.pages = []

    def _place(self, sequence: Sequence, plan: ChunkPlan, sources: list[int]) -> bool:
        """Finds pages for a queued sequence and plans how they get filled; False (nothing done) if too few.
        Pages to copy from are held, and added to `sources`."""
        ids = sequence.ids[:sequence.length - 1]
        known = self._known(ids, sequence.routed)
        pages = self._pages(sequence, known)
        if pages is None and known.tail is not None:
            known = KnownPrefix(known.full)
            pages = self._pages(sequence, known)
        if pages is None:
            return False
        start = known.length(self.page_size)
        stage = plan.stage(known.stage)
        if known.tail is not None and known.tail.page not in pages:
            sources.append(known.tail.page)
            stage.copies.append((known.tail.page, pages[len(known.full)]))
        if start < len(ids):
            job = Prefill(ids[start:], start, pages, sequence if sequence.routed else None)
            stage.prefills.append(job)
        sequence.begin(pages, known, self.cache.learn(ids, pages, sequence.routed, known.stage))
        plan.admitted.append(sequence)
        plan.reused += start
        return True

    def _known(self, ids: np.ndarray, routed: bool) -> KnownPrefix:
        """What is known of the tokens. Where some are left to be written, part of a page is not worth a copy
        if it is less than half, or not written itself yet."""
        known = self.cache.find(ids, routed)
        if known.tail is None or known.length(self.page_size) == len(ids):
            return known
        half = self.cache.ends_at(known.tail, known.more) or 2 * known.more >= self.page_size
        return known if half and known.tail.stage < 0 else KnownPrefix(known.full)

    def _pages(self, sequence: Sequence, known: KnownPrefix) -> list[int] | None:
        """A queued sequence's pages, those that it shares or takes over included; None, with nothing done, if
        too few. A page to copy from is held too."""
        own = len(known.full) + (known.tail is not None and self.cache.ends_at(known.tail, known.more))
        held = self.cache.hold(known.pages)
        fresh = self.cache.take(self._pages_next(sequence) - own)
        if fresh is None:
            self.cache.leave(held)
            return None
        return held[:own] + fresh
