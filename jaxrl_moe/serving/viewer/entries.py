"""What the index keeps of a row of trajectories.jsonl, taken from its bytes."""
import functools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl_moe.outside import MOST_INT, shown
from jaxrl_moe.serving.viewer.scan import NoObject, Spans, spans
from jaxrl_moe.types import Status

BROKEN = "broken"  # stands for the outcome of a row that cannot be read
_MOST = 2**63 - 1


class IndexEntry(NamedTuple):
    """A row's place among steps, groups and samples, and what it is filtered by.

    `outcome` is a Status' value, or BROKEN; `advantage` NaN where there is not one number.
    """
    step: int
    phase: str
    sequence: int
    sample: int
    prompt_index: int
    reward: float
    advantage: float
    outcome: str
    tokens: int


def read_entry(data: bytes, bare: bytes, start: int, end: int) -> IndexEntry:
    """The entry of the row that stands in data[start:end].

    Args:
      bare: see scan.bared.

    Raises:
      NoObject: it is no JSON object, or lacks a column, or has another kind of value there.
    """
    found = spans(data, bare, start, end)
    return IndexEntry(
        step=_integer(data, found, "step", MOST_INT), phase=_text(data, found, "phase"),
        sequence=_integer(data, found, "sequence", _MOST), sample=_integer(data, found, "sample", MOST_INT),
        prompt_index=_integer(data, found, "prompt_index", MOST_INT), reward=_number(data, found, "reward"),
        advantage=_one_number(data, found, "advantage"), outcome=_outcome(data, found),
        tokens=_count(data, found, "completion_ids"))


def _outcome(data: bytes, found: Spans) -> str:
    """Rows from before episodes had outcomes say only whether they were cut off."""
    if "outcome" in found:
        return _text(data, found, "outcome")
    cut_off = _take(data, found, "truncated", lambda value: type(value) is bool, "true or false")
    return (Status.TRUNCATED if cut_off else Status.FINISHED).value


def _integer(data: bytes, found: Spans, key: str, most: int) -> int:
    def fits(value: Any) -> bool:
        return type(value) is int and 0 <= value <= most
    return _take(data, found, key, fits, f"an integer from 0 to {most}")


def _text(data: bytes, found: Spans, key: str) -> str:
    return _take(data, found, key, lambda value: isinstance(value, str), "a string")


def _number(data: bytes, found: Spans, key: str) -> float:
    value = _take(data, found, key, _is_number, "a number")
    try:
        return float(value)
    except OverflowError as error:
        raise NoObject(f"has a {key} beyond what a float holds") from error


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _one_number(data: bytes, found: Spans, key: str) -> float:
    """A number; NaN where there is a list of them, or null, or nothing."""
    if key not in found or data[found[key][0]] in b"[n":
        return math.nan
    return _number(data, found, key)


def _count(data: bytes, found: Spans, key: str) -> int:
    """Items of a flat list; 0 where there is none."""
    if key not in found:
        return 0
    start, end = found[key]
    items = data.count(b",", start, end) + 1
    return items if items > 1 or data[start + 1:end - 1].strip() else 0


def _take(data: bytes, found: Spans, key: str, fits: Callable[[Any], bool], needed: str) -> Any:
    if key not in found:
        raise NoObject(f"has no {key}")
    start, end = found[key]
    try:
        value = _parsed(data[start:end])
    except (ValueError, RecursionError) as error:
        raise NoObject(f"has a {key} that is no JSON") from error
    if not fits(value):
        raise NoObject(f"has the {key} {shown(value)}; {needed} is needed")
    return value


@functools.lru_cache(4096)  # steps, phases and outcomes of neighbours are the same
def _parsed(value: bytes) -> Any:
    return json.loads(value)
