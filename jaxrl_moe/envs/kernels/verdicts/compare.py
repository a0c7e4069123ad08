"""Whether what a candidate gave is what was expected: numbers from bytes, by NumPy, in a process that runs
neither."""
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# dtype: (NumPy's, atol = rtol of a comparison); of integers every one must be equal.
_KINDS = {"float64": ("<f8", 1e-6), "float32": ("<f4", 1e-4), "float16": ("<f2", 1e-2),
          "bfloat16": ("<u2", 1e-2),
          "int8": ("i1", 0.0), "uint8": ("u1", 0.0), "int16": ("<i2", 0.0), "int32": ("<i4", 0.0),
          "int64": ("<i8", 0.0), "bool": ("?", 0.0)}


class MalformedError(Exception):
    """A process told of a value that is none."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """kind: "type", "dtype", "shape", "nan" or "values"; text: a sentence for who wrote the candidate."""
    kind: str
    text: str


def difference(expected: Any, expected_parts: Sequence[bytes], got: Any, got_parts: Sequence[bytes],
               where: str = "The output") -> Difference | None:
    """The first difference between two values as the inside tells of them; None where they agree.

    Raises:
      MalformedError: one is no value.
    """
    kind = _kind(expected)
    if kind != _kind(got):
        return Difference("type", f"{where} is a {_kind(got)}, and a {kind} is expected.")
    if kind == "list":
        ours, theirs = expected["list"], got["list"]
        if len(ours) != len(theirs):
            return Difference("type", f"{where} has {len(theirs)} values, and {len(ours)} are expected.")
        differences = (difference(one, expected_parts, other, got_parts, f"{where}[{place}]")
                       for place, (one, other) in enumerate(zip(ours, theirs)))
        return next((each for each in differences if each is not None), None)
    if kind == "plain":
        same = expected["plain"] == got["plain"] or _both_nan(expected["plain"], got["plain"])
        return None if same else Difference("values", f"{where} is another value than expected.")
    return _tensors(expected, expected_parts, got, got_parts, where)


def _both_nan(*values: Any) -> bool:
    return all(isinstance(each, float) and math.isnan(each) for each in values)


def _kind(said: Any) -> str:
    kinds = [name for name in ("tensor", "list", "plain") if isinstance(said, Mapping) and name in said]
    if len(kinds) != 1 or kinds == ["list"] and not isinstance(said["list"], list):
        raise MalformedError("a value that is neither tensor, list nor plain")
    return kinds[0]


def _tensors(expected: Mapping[str, Any], expected_parts: Sequence[bytes], got: Mapping[str, Any],
             got_parts: Sequence[bytes], where: str) -> Difference | None:
    if got.get("dtype") != expected["dtype"]:
        return Difference("dtype", f"{where} has dtype {got.get('dtype')}, and {expected['dtype']} is "
                                   "expected.")
    if got.get("shape") != expected["shape"]:
        return Difference("shape", f"{where} has shape {got.get('shape')}, and {expected['shape']} is "
                                   "expected.")
    ours = array(expected, expected_parts)
    theirs = array(got, got_parts)
    tolerance = _KINDS[expected["dtype"]][1]
    if np.isnan(theirs).any() and not np.array_equal(np.isnan(theirs), np.isnan(ours)):
        count = int((np.isnan(theirs) & ~np.isnan(ours)).sum())
        return Difference("nan", f"{where} has NaN in {count} of {theirs.size} places where a number is "
                                 "expected.")
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.isclose(theirs, ours, rtol=tolerance, atol=tolerance, equal_nan=True)
    if close.all():
        return None
    return Difference("values", _values(where, ours, theirs, close, tolerance))


def _values(where: str, ours: np.ndarray, theirs: np.ndarray, close: np.ndarray, tolerance: float) -> str:
    first = np.unravel_index(int(np.argmin(close)), close.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(theirs - ours)
    largest = float(np.max(np.where(close, 0, np.nan_to_num(apart, nan=np.inf))))
    place = ", ".join(map(str, first))
    return (f"{where} differs in {int((~close).sum())} of {close.size} places, by {largest:.4g} at most "
            f"(tolerance {tolerance:g}, absolute and relative); the first is [{place}], where it is "
            f"{float(theirs[first]):.6g} and {float(ours[first]):.6g} is expected.")


def array(said: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """The numbers of a tensor, in float64 where they are fractions and in int64 else.

    Raises:
      MalformedError: its bytes are not those of its shape and dtype.
    """
    place, dtype, shape = said.get("tensor"), said.get("dtype"), said.get("shape")
    sound = (type(place) is int and 0 <= place < len(parts) and dtype in _KINDS and isinstance(shape, list)
             and all(type(size) is int and size >= 0 for size in shape))
    code = np.dtype(_KINDS[dtype][0]) if sound else None
    if not sound or len(parts[place]) != math.prod(shape) * code.itemsize:
        raise MalformedError("a tensor whose bytes are not those of its shape and dtype")
    flat = np.frombuffer(parts[place], code).reshape(shape)
    if dtype == "bfloat16":
        return (flat.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return flat.astype(np.float64 if dtype.startswith("float") else np.int64)
