"""A rollout buffer's groups in a file: written episode by episode in any order, and handed out group by
group, each at most once."""
import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxrl_moe.serving.buffer.file import BufferFile
from jaxrl_moe.serving.buffer.groups import DELIVERED, DROPPED, FINISHED, FORGOTTEN, OPEN, TOLD, Groups, Rules
from jaxrl_moe.serving.buffer.items import Item
from jaxrl_moe.types import UserError


class WrittenBefore(UserError):
    """Another item has the uid."""


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a reader gets: the items of whole groups, the oldest finished first, and the instance_ids of these
    groups and of those that were dropped meanwhile."""
    items: Sequence[dict[str, Any]] = ()
    groups: Sequence[int | str] = ()
    dropped: Sequence[int | str] = ()


class Store:
    """Any thread may call it.

    Args:
      path: of the file.
      rules: when a group is finished.
      clock: of the time-outs, in seconds. A server that was away gives each open group its whole time again.

    Raises:
      UserError: the file cannot be opened, is another's, or another server has it.
    """

    def __init__(self, path: str, rules: Rules, clock: Callable[[], float] = time.monotonic):
        self.rules = rules
        self._clock = clock
        self._file = BufferFile(path)
        with self._file.transaction() as file:
            file.execute("UPDATE groups SET touched = ? WHERE state = ?", (clock(), OPEN))

    def close(self) -> None:
        self._file.close()

    def set_size(self, size: int) -> None:
        """The size of groups that begin from now on, also of a server that is started again.

        Raises:
          UserError: the server was started for groups of another size.
        """
        if self.rules.size not in (0, size):
            raise UserError(f"Groups of {size} were asked for, and this server was started with "
                            f"--group_size={self.rules.size}: give both the same, or leave --group_size out.")
        with self._file.transaction() as file:
            file.execute("INSERT INTO facts VALUES ('size', ?) ON CONFLICT DO UPDATE SET value = "
                         "excluded.value", (str(size),))

    def write(self, item: Item) -> bool:
        """Adds an item; False, and nothing is changed, where it was written before.

        Raises:
          WrittenBefore: another item has its uid.
          NoSize: it would begin a group, and nobody has said how large groups are.
        """
        with self._file.transaction() as file:
            groups = Groups(file, self.rules, self._clock())
            before = file.execute("SELECT digest FROM items WHERE uid = ?", (item.uid,)).fetchone()
            if before is None:
                groups.add(item)
            elif before[0] != item.digest:
                raise WrittenBefore(f"The uid {item.uid} is that of another item, which was written before: "
                                    "give each episode a uid of its own.")
            return before is None

    def take(self, least: int = -1, whole: bool = False) -> Taken:
        """Hands out whole groups, which nobody gets again, even if this answer never arrives.

        Args:
          least: items after which no further group is added; -1: all groups are.
          whole: whether nothing is handed out where there are fewer items.
        """
        with self._groups() as groups:
            if whole and groups.ready < least:
                return Taken()
            chosen, items = groups.chosen(least)
            dropped = groups.hand_out(list(chosen)) if chosen else ()
        return Taken(items, list(map(json.loads, chosen.values())), list(map(json.loads, dropped)))

    def peek(self, most: int) -> Sequence[dict[str, Any]]:
        """The first items of those that take() would hand out; nothing is handed out."""
        with self._groups() as groups:
            return groups.chosen(most)[1][:most]

    def ready(self) -> int:
        """Items that can be handed out."""
        with self._groups() as groups:
            return groups.ready

    def stats(self) -> dict[str, Any]:
        """Counts of items and groups since the file was made, and the mean of all rewards."""
        with self._file.transaction() as file:
            groups = Groups(file, self.rules, self._clock())
            counts = groups.counts()
            late, = file.execute("SELECT count(*) FROM groups WHERE timed_out").fetchone()
            written, mean = file.execute("SELECT count(*), avg(reward) FROM items").fetchone()
            read, = file.execute("SELECT count(*) FROM items JOIN groups ON member = id "
                                 "WHERE state IN (?, ?)", (DELIVERED, FORGOTTEN)).fetchone()
            size = groups.size
            ready = groups.ready
        return {"current_size": ready, "max_size": None, "total_written": written, "total_read": read,
                "group_size": size or None, "groups_open": counts.get(OPEN, 0),
                "groups_finished": counts.get(FINISHED, 0),
                "groups_delivered": counts.get(DELIVERED, 0) + counts.get(FORGOTTEN, 0),
                "groups_timed_out": late, "groups_dropped": counts.get(DROPPED, 0) + counts.get(TOLD, 0),
                "mean_reward": mean if mean is not None and math.isfinite(mean) else None, "filtered": 0}

    @contextlib.contextmanager
    def _groups(self) -> Iterator[Groups]:
        with self._file.transaction() as file:
            yield Groups(file, self.rules, self._clock())
