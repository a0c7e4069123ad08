"""The groups of a rollout buffer within one transaction.

A group is the episodes of one instance_id. It is finished once it has as many as its size; what is written
beyond begins the next group of the same instance_id. Where nothing was added for a time, a group that has a
share of its size is finished too, and one that has less is dropped.
"""
import dataclasses
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.serving.buffer.items import Item
from jaxrl_moe.types import UserError

OPEN, FINISHED, DELIVERED, DROPPED = "open", "finished", "delivered", "dropped"
FORGOTTEN = "forgotten"  # delivered, and its conversations are left out
TOLD = "told"            # dropped, and a reader knows
MOST_BYTES = 2**26       # of the items that are read at once, if they are of several groups


class NoSize(UserError):
    """Nobody has said how large groups are."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """When a group is finished.

    Attributes:
      size: items of a group; 0: as start_rollout says.
      timeout: seconds after a group's last item, after which no further one is waited for.
      share: of its size that a group must have then.
      keep: delivered groups whose conversations stay in the file; of older ones the uids do.
    """
    size: int = 0
    timeout: float = 300.0
    share: float = 0.7
    keep: int = 1000


class Groups:
    """Those in a file, within a transaction that begins at a time; the late ones are settled at once."""

    def __init__(self, file: sqlite3.Connection, rules: Rules, now: float):
        self._file = file
        self._rules = rules
        self._now = now
        self._expire()

    @property
    def size(self) -> int:
        """Items of a group that begins now; 0: nobody has said."""
        kept = self._file.execute("SELECT value FROM facts WHERE name = 'size'").fetchone()
        return self._rules.size or (int(kept[0]) if kept else 0)

    @property
    def ready(self) -> int:
        """Items that can be handed out."""
        return self._number("SELECT count(*) FROM items JOIN groups ON member = id WHERE state = ?", FINISHED)

    def add(self, item: Item) -> None:
        """Adds an item that is not there; raises NoSize where it would begin a group of no size."""
        group, size = self._joined(item.group)
        self._file.execute("INSERT INTO items (uid, digest, member, reward, body) VALUES (?, ?, ?, ?, ?)",
                           (item.uid, item.digest, group, item.reward, item.body))
        self._file.execute("UPDATE groups SET touched = ? WHERE id = ?", (self._now, group))
        if self._count(group) >= size:
            self._settle(group, FINISHED, late=False)

    def chosen(self, least: int) -> tuple[dict[int, str], list[dict[str, Any]]]:
        """({id: name} of the finished groups, the oldest first, that have so many items together, or all for
        -1; these items)."""
        groups: dict[int, str] = {}
        items: list[dict[str, Any]] = []
        held = 0
        for group, name in self._of_state(FINISHED):
            bodies = self._file.execute("SELECT body FROM items WHERE member = ? ORDER BY number", (group,))
            texts = [body for body, in bodies]
            held += sum(map(len, texts))
            if groups and (held > MOST_BYTES or 0 <= least <= len(items)):
                break
            groups[group] = name
            items += map(json.loads, texts)
        return groups, items

    def hand_out(self, groups: Sequence[int]) -> list[str]:
        """Marks groups as delivered; returns the names of those that were dropped since the last time."""
        self._move(groups, DELIVERED)
        dropped = self._of_state(DROPPED)
        self._move([group for group, _ in dropped], TOLD)
        self._forget()
        return [name for _, name in dropped]

    def counts(self) -> dict[str, int]:
        """How many groups there are, by state."""
        return dict(self._file.execute("SELECT state, count(*) FROM groups GROUP BY state").fetchall())

    def _joined(self, name: str) -> tuple[int, int]:
        """(id, size) of the group that an item joins."""
        found = self._file.execute("SELECT id, size FROM groups WHERE name = ? AND state = 'open'", (name,))
        group = found.fetchone()
        if group is not None:
            return group
        size = self.size
        if not size:
            raise NoSize("How many episodes make a group is not known yet: start the server with "
                         "--group_size=N, or POST /start_rollout with num_repeat_per_sample first.")
        made = self._file.execute("INSERT INTO groups (name, size, state, touched) VALUES (?, ?, ?, ?)",
                                  (name, size, OPEN, self._now))
        return made.lastrowid, size

    def _expire(self) -> None:
        late = self._file.execute("SELECT id, size FROM groups WHERE state = ? AND touched < ? ORDER BY "
                                  "touched, id", (OPEN, self._now - self._rules.timeout)).fetchall()
        for group, size in late:
            enough = self._count(group) / size >= self._rules.share
            self._settle(group, FINISHED if enough else DROPPED, late=True)

    def _settle(self, group: int, state: str, late: bool) -> None:
        place = self._number("SELECT coalesce(max(place), 0) + 1 FROM groups")
        self._file.execute("UPDATE groups SET state = ?, timed_out = ?, place = ? WHERE id = ?",
                           (state, late, place, group))

    def _forget(self) -> None:
        """Leaves out the conversations of all delivered groups but the last ones."""
        delivered = [group for group, _ in self._of_state(DELIVERED)]
        old = delivered[:max(len(delivered) - self._rules.keep, 0)]
        self._file.executemany("UPDATE items SET body = '' WHERE member = ?", [(group,) for group in old])
        self._move(old, FORGOTTEN)

    def _move(self, groups: Sequence[int], state: str) -> None:
        self._file.executemany("UPDATE groups SET state = ? WHERE id = ?", [(state,
                                                                             group) for group in groups])

    def _of_state(self, state: str) -> list[tuple[int, str]]:
        found = self._file.execute("SELECT id, name FROM groups WHERE state = ? ORDER BY place", (state,))
        return found.fetchall()

    def _count(self, group: int) -> int:
        return self._number("SELECT count(*) FROM items WHERE member = ?", group)

    def _number(self, question: str, *values: int | str) -> int:
        return self._file.execute(question, values).fetchone()[0]
