"""Works that wait for the others of their group, so that they can be compared."""
import dataclasses
import time

from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.types import UserError

MOST = 4096  # groups that are remembered


@dataclasses.dataclass
class JudgedGroup:
    """Works that are compared with each other.

    Attributes:
      name: as their sender calls it.
      ask: under what.
      size: how many they will be.
      works: {(item, copy): work}, the newest last.
      began: time.monotonic() of the last one that came in.
    """
    name: str
    ask: Ask
    size: int
    works: dict[tuple[str, int], Work] = dataclasses.field(default_factory=dict)
    began: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def complete(self) -> bool:
        return len(self.works) == self.size

    @property
    def items(self) -> set[str]:
        return {item for item, _ in self.works}

    def add(self, item: str, work: Work) -> None:
        """Takes a work in; the oldest beyond the size go, as of episodes that were played again otherwise."""
        if work.group_size != self.size:
            raise UserError(f"The group {self.name!r} has {self.size} works, and one of them says "
                            f"{work.group_size}.")
        self.works.pop((item, work.copy), None)
        self.works[item, work.copy] = work
        while len(self.works) > self.size:
            del self.works[next(iter(self.works))]
        self.began = time.monotonic()


class JudgedGroups:
    """Groups by their keys. Its user holds a lock.

    Args:
      patience: seconds that a group waits for its next work.
    """

    def __init__(self, patience: float):
        self._patience = patience
        self._groups: dict[tuple[str, ...], JudgedGroup] = {}
        self._of: dict[str, JudgedGroup] = {}

    def join(self, key: tuple[str, ...], item: str, work: Work, ask: Ask) -> JudgedGroup:
        """The group that a work belongs to, with it.

        Raises:
          UserError: the group has another size.
        """
        group = self._groups.get(key) or JudgedGroup(work.group, ask, work.group_size)
        group.add(item, work)
        self._groups[key] = group
        self._of[item] = group
        while len(self._groups) > MOST:
            self._drop(next(iter(self._groups)))
        return group

    def leave(self, item: str) -> None:
        """Takes an item and all works that are it out of a group that is not complete. Raises KeyError for an
        item of no group."""
        group = self._of[item]
        if not group.complete:
            group.works = {each: work for each, work in group.works.items() if each[0] != item}
            del self._of[item]

    def lost(self, item: str) -> str:
        """Why an item of a group is compared with none any more; empty: it may be. Raises KeyError for an
        item of no group."""
        group = self._of[item]
        if item not in group.items:
            return f"other works took its place in the group {group.name!r}"
        if not group.complete and time.monotonic() - group.began > self._patience:
            return (f"of the group {group.name!r}, {len(group.works)} of {group.size} works came, and no "
                    f"other within {self._patience:g} seconds")
        return ""

    def _drop(self, key: tuple[str, ...]) -> None:
        group = self._groups.pop(key)
        self._of = {item: other for item, other in self._of.items() if other is not group}
