"""The accounts of rollouts that run ahead: what is admitted, set aside and aborted, when a batch is complete,
what it waits for."""
import collections
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl_moe.rollout.ahead.buffer import Buffer, Entry
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.failures import Tries
from jaxrl_moe.types import RolloutGroup


@dataclasses.dataclass(frozen=True)
class Rules:
    """What may be drawn, and when a batch is complete.

    Attributes:
      count: groups of a batch.
      bound: max_staleness.
      stragglers: as in rollout.stragglers.
      keep: which groups count for a batch; the others are set aside, and new ones take their place.
      most: graded groups after which a batch is complete with fewer than `count`, where groups are set aside.
    """
    count: int
    bound: int
    stragglers: str = "carry"
    keep: Callable[[RolloutGroup], bool] | None = None
    most: int = 0


class Drawn(NamedTuple):
    """A batch: the groups that are kept, those that were set aside since the last batch, both in order of
    their draw numbers; groups that failed, and how many were aborted meanwhile; and, of what else was drawn
    and graded meanwhile too, the tokens of ended groups, the tries of episodes by how they ended, and the
    seconds, of all threads together."""
    kept: list[RolloutGroup]
    aside: list[RolloutGroup]
    failed: list[RolloutGroup]
    aborted: int
    tokens: int
    tries: Tries
    draw_seconds: float
    grade_seconds: float


class Account:
    """Every draw number is in it once: still to be drawn, under way, set aside, or handed out with a batch.
    Not thread-safe.

    Args:
      draws: what is drawn, and under which numbers.
      rules: see there.
      last: version after the run's last batch.
    """

    def __init__(self, draws: Draws, rules: Rules, last: int):
        self._draws = draws
        self._rules = rules
        self._last = last
        self._buffer: Buffer | None = None
        self._aside: list[Entry] = []  # since the last batch
        self._failed: list[RolloutGroup] = []
        self._once: set[int] = set()   # draw numbers of aborted groups
        self._reset()

    def _reset(self):
        self._aborted = 0
        self._tokens = 0
        self._tries = collections.Counter()
        self.draw_seconds = 0.0
        self.grade_seconds = 0.0

    def publish(self, version: int) -> None:
        """New weights, under which what is admitted from now on starts."""
        if self._buffer is None:
            self._buffer = Buffer(self._rules.count, self._rules.bound, version, self._last)
        self._buffer.version = version

    @property
    def room(self) -> int:
        """Groups that may be admitted now."""
        return 0 if self._exhausted() else self._buffer.room

    def admit(self) -> list[Entry]:
        """As many groups as may be."""
        entries = [Entry(prompt, sequence, self._buffer.version, waited_for=sequence in self._once)
                   for prompt, sequence in self._draws.take(self.room)]
        self._buffer.entries += entries
        return entries

    def ended(self, entry: Entry, group: RolloutGroup) -> None:
        """Its episodes are over: the group is there, or set aside, or given up where some failed."""
        self._tokens += sum(rollout.drawn for rollout in group.rollouts)
        entry.group = group
        if not group.trusted:
            self._buffer.entries.remove(entry)
            self._failed.append(group)
        elif self._rules.keep is not None and not self._rules.keep(group):
            self._buffer.entries.remove(entry)
            self._aside.append(entry)

    def note(self, tries: Tries) -> None:
        """Tries of episodes that ended meanwhile."""
        self._tries.update(tries)

    def aborted(self, entry: Entry) -> None:
        """It will be drawn again, under its own number."""
        self._once.add(entry.sequence)
        self._buffer.entries.remove(entry)
        self._draws.give_back(entry.prompt, entry.sequence)
        self._aborted += 1

    def take(self) -> Drawn | None:
        """The next batch if it is complete. Where it is not, and the rules say so, the stragglers that it
        waits for are marked."""
        batch = self._complete()
        if batch is None:
            return None
        self._buffer.take(batch)
        aside = sorted(self._aside, key=lambda entry: entry.sequence)
        self._aside = []
        failed = sorted(self._failed, key=lambda group: group.sequence)
        self._failed = []
        drawn = Drawn([entry.group for entry in batch], [entry.group for entry in aside], failed,
                      self._aborted, self._tokens, self._tries, self.draw_seconds, self.grade_seconds)
        self._reset()
        return drawn

    def position(self) -> dict[str, Any]:
        """Fields of checkpoint.Progress: a run that goes on from there draws anew what is neither in a batch
        nor set aside with one."""
        entries = [] if self._buffer is None else self._buffer.entries
        return self._draws.position((entry.prompt, entry.sequence) for entry in [*entries, *self._aside])

    def _complete(self) -> list[Entry] | None:
        buffer = self._buffer
        rules = self._rules
        choice = buffer.choose()
        if choice.late:
            self._end_late(choice.late, choice.missing)
            return None
        if len(choice.batch) == rules.count:
            return choice.batch
        # whether the groups that stay can still be in time
        fits = len(buffer.entries) - len(choice.batch) <= rules.bound * rules.count
        return choice.batch if self._exhausted() and fits else None

    def _exhausted(self) -> bool:
        """Whether so many groups were set aside that a batch makes do with what there is."""
        return self._rules.keep is not None and len(self._aside) + len(self._buffer.ready) >= self._rules.most

    def _end_late(self, late: list[Entry], missing: int):
        """Marks as many unfinished groups as the batch lacks, once it waits for nothing else; those being
        graded are waited for."""
        rules = self._rules
        ready = len(self._buffer.ready)
        drawing = [entry for entry in late if entry.drawing and not entry.ending]
        spare = max(0, missing - (len(late) - len(drawing)))
        if rules.stragglers == "cut" and ready >= rules.count - missing:
            ended = drawing[:spare]
        elif rules.stragglers == "abort" and ready >= rules.count:
            ended = [entry for entry in drawing if not entry.waited_for][:spare]
        else:
            ended = []
        for entry in ended:
            entry.ending = True
