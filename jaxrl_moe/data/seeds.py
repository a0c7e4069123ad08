"""Rows of tasks that make their instances by themselves, each from a number: no file holds them."""
import re
from collections.abc import Sequence

from jaxrl_moe.data.rows import DataError, Row
from jaxrl_moe.outside import MOST_INT
from jaxrl_moe.spelling import quoted

MOST_SEEDS = 10_000_000
_RANGE = re.compile(r"(?P<first>[0-9]{1,10})(?:-(?P<last>[0-9]{1,10}))?")
_FORM = 'write numbers and ranges of them with commas between, such as "0-999" or "3,5,8-12"'


def seeds_of(text: str) -> list[int]:
    """The numbers that a text such as "3,5,8-12" names, in its order.

    Raises:
      DataError: it is none such, names a number twice or one beyond MOST_INT, or more than MOST_SEEDS.
    """
    ranges = [_range(part.strip()) for part in text.split(",")]
    count = sum(map(len, ranges))
    if count > MOST_SEEDS:
        raise DataError(f"{quoted(text)} names {count} seeds, which is more than {MOST_SEEDS}: name fewer.")
    ordered = sorted(ranges, key=lambda each: each.start)
    for before, after in zip(ordered, ordered[1:]):
        if after.start < before.stop:
            raise DataError(f"{quoted(text)} names the seed {after.start} twice: leave it out once.")
    return [seed for each in ranges for seed in each]


def seed_rows(text: str) -> list[Row]:
    """A row {"prompt": "Task N.", "seed": N} of each number; raises DataError as seeds_of does."""
    return [Row({"prompt": f"Task {seed}.", "seed": seed}, f"seed {seed}", index)
            for index, seed in enumerate(seeds_of(text))]


def _range(text: str) -> Sequence[int]:
    match = _RANGE.fullmatch(text)
    if not match:
        raise DataError(f"{quoted(text)} is no number, and no range of them: {_FORM}.")
    first = int(match["first"])
    last = int(match["last"] or first)
    if last < first or last > MOST_INT:
        raise DataError(f"{quoted(text)} is no range of seeds: they are from 0 to {MOST_INT}, the lower one "
                        "first.")
    return range(first, last + 1)
