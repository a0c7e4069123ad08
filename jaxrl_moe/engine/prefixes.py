"""Which pages of the KV pool hold the keys and values of which tokens, so that sequences that begin alike
share them, and a later one finds what an earlier one left.

A page is known by the page before it and by its own token ids: a tree whose paths are token sequences,
compared token by token. The tree holds each of its pages once in the PagePool. Pages that no sequence runs on
are given up when others are needed: the least recently used first, and none before those that go on from it.
"""
import dataclasses
import heapq
import itertools
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.engine.pages import PagePool


@dataclasses.dataclass(eq=False)
class KnownPage:
    """A page with known tokens.

    Attributes:
      parent: the page before it; None for a root, which is no page.
      ids: of the tokens; only a page without children may have room for more.
      stage: of the present plan in which they get written; -1: they have been.
      routes: [tokens, L, A] of the experts that routed them, where sequences want these, once known.
      used: when a sequence left it last.
    """
    parent: "KnownPage | None"
    ids: np.ndarray
    page: int
    stage: int = -1
    routes: np.ndarray | None = None
    used: int = 0
    children: dict[bytes, "KnownPage"] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class KnownPrefix:
    """What is known of a sequence's beginning: full pages, and the first `more` tokens of `tail`, the page
    after them."""
    full: tuple[KnownPage, ...] = ()
    tail: KnownPage | None = None
    more: int = 0

    @property
    def pages(self) -> list[KnownPage]:
        return [*self.full, self.tail] if self.tail else list(self.full)

    def length(self, page_size: int) -> int:
        """Tokens of it."""
        return len(self.full) * page_size + self.more

    @property
    def stage(self) -> int:
        """The first stage of the plan in which all of it can be read."""
        return 1 + max((known.stage for known in self.pages), default=-1)


class PrefixCache:
    """The tree, over the pages of one pool."""

    def __init__(self, pool: PagePool, page_size: int):
        self.pool = pool
        self.page_size = page_size
        self._known: dict[int, KnownPage] = {}  # by page
        self._roots: dict[bool, KnownPage] = {}
        self._idle = 0   # known pages that no sequence holds
        self._fresh: list[KnownPage] = []
        self._leaves: list[tuple[int, int, KnownPage]] = []  # a heap of those to give up, some out of date
        self._numbers = itertools.count()
        self.clear()

    @property
    def idle(self) -> int:
        """Pages that are kept for later sequences alone."""
        return self._idle

    def clear(self) -> None:
        """Forgets everything; pages that sequences hold remain theirs."""
        self.pool.drop(list(self._known))
        self._known = {}
        self._roots = {routed: KnownPage(None, np.zeros(0, np.int32), -1) for routed in (False, True)}
        self._idle = 0
        self._fresh = []
        self._leaves = []

    def settle(self) -> None:
        """The stages of the last plan have been carried out."""
        for known in self._fresh:
            known.stage = -1
        self._fresh = []

    def find(self, ids: np.ndarray, routed: bool) -> KnownPrefix:
        """The longest known beginning of `ids`; routed: of pages whose routes are known alone, else of those
        without."""
        node = self._roots[routed]
        full = []
        for start in range(0, len(ids) - self.page_size + 1, self.page_size):
            child = node.children.get(ids[start:start + self.page_size].tobytes())
            if child is None:
                break
            full.append(child)
            node = child
        rest = ids[len(full) * self.page_size:]
        more = 0
        tail = None
        for child in node.children.values():
            common = _common(child.ids, rest)
            if common > more or common and common == more and self._is_better(child, tail, more):
                more = common
                tail = child
        return KnownPrefix(tuple(full), tail, more)

    def _is_better(self, child: KnownPage, tail: KnownPage, more: int):
        """Whether it is the better of two that begin with the same tokens: one to be taken over, or one that
        is written already."""
        return (self.ends_at(child, more), -child.stage) > (self.ends_at(tail, more), -tail.stage)

    def ends_at(self, known: KnownPage, more: int) -> bool:
        """Whether a sequence that has the first `more` tokens of a page can take it over: it holds no others,
        and nobody else writes to it."""
        return len(known.ids) == more and self.is_idle(known)

    def is_idle(self, known: KnownPage) -> bool:
        return self.pool.holders(known.page) == 1

    def hold(self, known: Sequence[KnownPage]) -> list[int]:
        """Adds a holder to each page, so that none of them is given up; returns their numbers."""
        self._idle -= sum(map(self.is_idle, known))
        return self.pool.share([one.page for one in known])

    def take(self, count: int) -> list[int] | None:
        """Returns `count` pages with one holder each, given up by the tree as far as needed; None, with
        nothing done, when there are fewer."""
        if count > self.pool.num_free + self._idle:
            return None
        while self.pool.num_free < count:
            self._give_up()
        return self.pool.take(count)

    def leave(self, pages: Sequence[int]) -> None:
        """Removes a holder from each page. Known ones are kept."""
        now = next(self._numbers)
        for page in pages:
            self.pool.drop([page])
            known = self._known.get(page)
            if known is not None and self.is_idle(known):
                self._idle += 1
                known.used = now
                self._offer(known)

    def learn(self, ids: np.ndarray, pages: Sequence[int], routed: bool,
              stage: int = -1) -> list[tuple[int, KnownPage]]:
        """Enters a sequence's tokens and the pages that it holds for them.

        Args:
          stage: of the present plan, in which those not known yet get written; -1: they have been.

        Returns:
          What was entered, or got further tokens, with the position of its first token. Tokens that stand on
          another page already are left out.
        """
        node = self._roots[routed]
        entered = []
        for start, page in zip(range(0, len(ids), self.page_size), pages):
            chunk = ids[start:start + self.page_size]
            own = self._known.get(page)
            child = node.children.get(chunk.tobytes())
            if child is None and not self._stands_after(node, chunk):
                child = self._entered(node, chunk, page, stage)
                entered.append((start, child))
            elif own is not None and own is not child:
                self._drop(own)
            if child is None:
                break
            node = child
        return entered

    def _stands_after(self, node: KnownPage, ids: np.ndarray):
        """Whether a page after `node` begins with tokens that do not fill a page."""
        return len(ids) < self.page_size and any(
            _common(child.ids, ids) == len(ids) for child in node.children.values())

    def _entered(self, parent: KnownPage, ids: np.ndarray, page: int, stage: int) -> KnownPage:
        """The page with these tokens; one that was entered before it was full has got more."""
        known = self._known.get(page)
        if known is None:
            self.pool.share([page])
            known = self._known[page] = KnownPage(parent, ids, page)
        else:
            del parent.children[known.ids.tobytes()]
        known.ids = ids.copy()
        known.stage = stage
        parent.children[known.ids.tobytes()] = known
        self._fresh.append(known)
        return known

    def _drop(self, known: KnownPage):
        """Takes a page without children, that a sequence holds or nobody, out of the tree."""
        del known.parent.children[known.ids.tobytes()]
        del self._known[known.page]
        self._idle -= self.is_idle(known)
        self.pool.drop([known.page])
        if known.parent.parent is not None and self.is_idle(known.parent):
            self._offer(known.parent)

    def _offer(self, known: KnownPage):
        """Enters an idle page among those to give up, if none goes on from it."""
        if known.children:
            return
        if len(self._leaves) > 2 * len(self._known):
            self._leaves = [entry for entry in self._leaves if self._is_due(*entry)]
            heapq.heapify(self._leaves)
        heapq.heappush(self._leaves, (known.used, next(self._numbers), known))

    def _give_up(self):
        entry = heapq.heappop(self._leaves)
        while not self._is_due(*entry):
            entry = heapq.heappop(self._leaves)
        self._drop(entry[-1])

    def _is_due(self, used: int, _: int, known: KnownPage):
        return (self._known.get(known.page) is known and known.used == used and not known.children
                and self.is_idle(known))


def _common(some: np.ndarray, others: np.ndarray) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(some), len(others))
    differ = np.flatnonzero(some[:length] != others[:length])
    return int(differ[0]) if len(differ) else length
