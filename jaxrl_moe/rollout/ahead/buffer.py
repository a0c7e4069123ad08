"""What is drawn ahead of the trainer, and which of it makes up the next batch, so that nothing is ever staler
than it may be.

A group starts under the newest weights when it is admitted, version s, and all its tokens are of version s or
later. The batch that updates version t may hold it while t - s <= max_staleness. Two rules see to that.
Admission: what is admitted and not yet trained on fits into the batches of versions up to the newest +
max_staleness (the capacity rule of AReaL, arXiv 2505.24298, section 5.1). Choice: a batch takes at least so
many of the oldest groups that all others can still be in time; beyond those, the first in order of their draw
numbers that are graded.
"""
import dataclasses
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from jaxrl_moe.types import Prompt, RolloutGroup


@dataclasses.dataclass(eq=False)
class Entry:
    """A group between its admission and its update.

    Attributes:
      start: version of the weights when it was admitted; no token of it is older.
      drawing: whether a further token of it may be drawn; else it waits for grades at most.
      group: once all its episodes have ended.
      ending: the engine shall cut or abort it at the next chance.
      waited_for: it was aborted once; it is not a second time.
    """
    prompt: Prompt
    sequence: int
    start: int
    drawing: bool = True
    group: RolloutGroup | None = None
    ending: bool = False
    waited_for: bool = False


class Choice(NamedTuple):
    """The groups of the next batch, or as many as there are; or the unfinished ones of which `missing` more
    have to be in it."""
    batch: list[Entry]
    late: list[Entry]
    missing: int = 0


class Buffer:
    """The groups that are admitted and not yet trained on. Not thread-safe.

    Args:
      count: groups that a batch takes.
      bound: max_staleness, in versions.
      version: of the first weights; the first batch updates these.
      last: version after the last batch of the run: nothing is drawn that no batch would take.
    """

    def __init__(self, count: int, bound: int, version: int, last: int):
        self.count = count
        self.bound = bound
        self.last = last
        self.version = version  # newest weights, under which groups start
        self.step = version     # version that the next batch updates
        self.entries: list[Entry] = []

    @property
    def room(self) -> int:
        """Groups that may be admitted now."""
        batches = min(self.version + self.bound + 1, self.last) - self.step
        return max(0, batches * self.count - len(self.entries))

    @property
    def ready(self) -> list[Entry]:
        """The graded groups, in order of their draw numbers."""
        return sorted((entry for entry in self.entries if entry.group is not None),
                      key=lambda entry: entry.sequence)

    def slack(self, entry: Entry) -> int:
        """Batches that may go by before the one that has to hold it."""
        return entry.start + self.bound - self.step

    def choose(self) -> Choice:
        """What the next batch takes: at most `count` groups, fewer where no more are graded."""
        ready = self.ready
        chosen = {}  # a dict as an ordered set

        def add(entries: Iterable[Entry], most: int):
            chosen.update(
                dict.fromkeys(
                    itertools.islice((entry for entry in entries if entry not in chosen), max(0, most))))

        for slack in range(self.bound):
            due = [entry for entry in self.entries if self.slack(entry) <= slack]
            needed = len(due) - slack * self.count  # the batches after this one take the others
            add((entry for entry in ready if self.slack(entry) <= slack), needed - len(chosen))
            if len(chosen) < needed:
                late = sorted((entry for entry in due if entry.group is None), key=self._age)
                return Choice([], late, needed - len(chosen))
        add(ready, self.count - len(chosen))
        return Choice(sorted(chosen, key=lambda entry: entry.sequence), [])

    def _age(self, entry: Entry):
        return self.slack(entry), entry.sequence

    def take(self, batch: list[Entry]) -> None:
        """The next update has these groups."""
        taken = set(batch)
        self.entries = [entry for entry in self.entries if entry not in taken]
        self.step += 1
