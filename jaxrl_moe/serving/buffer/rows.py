"""The rows that a rollout plays, pass after pass."""
import collections
import dataclasses
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.data.prompts import prompt_messages
from jaxrl_moe.data.rows import Row, read_rows
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Messages, UserError


@dataclasses.dataclass(frozen=True)
class Start:
    """A group that is to be played: a row, its instance_id, what the policy is shown first, and the seed of
    its episodes."""
    row: Mapping[str, Any]
    instance: int | str
    prompt: Messages
    seed: int


def read(path: str, task: Task) -> list[Row]:
    """The rows of a file; raises UserError for what is none, or names no episode of the task."""
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} has no rows: give a file that has some.")
    for row in rows:
        try:
            task.check_row(row.values, row.index)
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error
        opening(row)
    return rows


def opening(row: Row) -> Messages:
    """The row's own prompt; none where the task says all."""
    has = any(row.values.get(name) is not None for name in ("prompt", "question", "problem"))
    return tuple(prompt_messages(row).messages) if has else ()


def passes(rows: Sequence[Row], count: int, skipped: Collection[int | str]) -> Iterator[Start]:
    """The groups of so many passes, each in an order of its own, which is the same at each start; each
    instance_id is left out as often as it is among the skipped ones."""
    left = collections.Counter(skipped)
    for number in range(count):
        order = list(rows)
        random.Random(number).shuffle(order)
        for row in order:
            own = row.values.get("instance_id")
            instance = row.index if own is None else own
            if left[instance]:
                left[instance] -= 1
                continue
            yield Start(row.values, instance, opening(row), number * len(rows) + row.index)
