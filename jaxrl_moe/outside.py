"""JSON that somebody else wrote: parsed strictly, and its fields taken with types, bounds and finiteness
checked."""
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxrl_moe.paths import shortened
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import UserError

DEEPEST = 64         # levels of nesting; people's files have less than ten
MOST_INT = 2**31 - 1
LONGEST_KEY = 120    # characters of a key that stands in a message as it is
BLANKS = " \t\r\n"  # what JSON lets stand between values; other white space is damage
REQUIRED: Any = object()
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "an integer",
          float: "a number", type(None): "null"}


class OutsideError(UserError):
    """JSON from outside that is damaged, ambiguous, or holds a value of the wrong kind."""


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Parses a file that holds one JSON object; a byte order mark is skipped.

    Raises:
      OutsideError: it is absent, unreadable, no JSON, or no object; the file is named.
    """
    return as_object(read_json(path), str(path))


def read_json(path: str | os.PathLike, *, non_finite: bool = False) -> Any:
    """Parses a file of JSON; a byte order mark is skipped.

    Raises:
      OutsideError: it is absent, unreadable, or none such as parse takes; the file is named.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise OutsideError(f"{path} does not exist.") from error
    except UnicodeDecodeError as error:
        raise OutsideError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}.") from error
    except (OSError, ValueError) as error:
        raise OutsideError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return parse(text, str(path), non_finite=non_finite)


def parse(text: str | bytes, where: str, *, non_finite: bool = False) -> Any:
    """Parses JSON without NaN, Infinity, numbers beyond floats, repeated keys, or more than DEEPEST levels.

    Args:
      text: JSON; bytes are UTF-8, after a byte order mark or without.
      where: what it is, to begin messages with.
      non_finite: whether NaN and Infinity pass, as in logs of our own.

    Raises:
      OutsideError: it is none such; `where` says whose it is, and the place in it is named.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_float,
                           parse_constant=float if non_finite else _no_constant)
    except json.JSONDecodeError as error:
        what = "is empty" if not text.strip() else (
            f"is no JSON: {error.msg} at line {error.lineno}, column {error.colno}")
        raise OutsideError(f"{where} {what}.") from error
    except RecursionError as error:
        raise OutsideError(f"{where} is nested more than {DEEPEST} levels deep.") from error
    except ValueError as error:
        raise OutsideError(f"{where} is no JSON that can be read: {error}.") from error
    if depth(value) > DEEPEST:
        raise OutsideError(f"{where} is nested more than {DEEPEST} levels deep.")
    return value


def depth(value: Any) -> int:
    """Levels of lists and objects; 0 for a plain value."""
    level = [value]
    levels = 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        levels += 1
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = list(itertools.chain.from_iterable(inner))
    return levels


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Returns `value`; raises OutsideError where it is no object."""
    if not isinstance(value, dict):
        raise OutsideError(f"{where} holds {kind(value)}, a JSON object is needed.")
    return value


def kind(value: Any) -> str:
    """What a JSON value is, for messages."""
    return _NAMES.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value in a message: its JSON, cut."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


class Fields:
    """The fields of one JSON object. A null counts as absent. Each method returns the field's value, or
    `default` where it is absent, and raises OutsideError, which names object, field and value, where it is of
    another kind, out of bounds, or absent and required.

    Args:
      values: the object.
      where: what it is, to begin messages with, such as the file's path.
    """

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values = as_object(values, where)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def only(self, known: Iterable[str]) -> None:
        """Raises OutsideError for the first field that is not among the known ones."""
        known = list(known)
        for key in self.values:
            if key not in known:
                raise OutsideError(f"{self.where}: the field {shortened(key)} is not known here."
                                   f"{did_you_mean(key, known)}")

    def integer(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = MOST_INT) -> Any:
        def fits(value: Any) -> bool:
            return type(value) is int and least <= value <= most
        return self._take(key, default, fits, f"an integer from {least} to {most}")

    def number(self, key: str, default: Any = REQUIRED, *, least: float = -math.inf, most: float = math.inf,
               above: float = -math.inf) -> Any:
        """A finite float; `above` is a bound that is not itself allowed."""
        def fits(value: Any) -> bool:
            return _finite(value) and above < value and least <= value <= most
        bounds = [f"above {above:g}"] * (above > -math.inf) + [f"of at least {least:g}"] * (least > -math.inf)
        bounds += [f"of at most {most:g}"] * (most < math.inf)
        value = self._take(key, default, fits, " ".join(["a finite number", " and ".join(bounds)]).strip())
        return float(value) if type(value) is int else value

    def boolean(self, key: str, default: Any = REQUIRED) -> Any:
        return self._take(key, default, lambda value: type(value) is bool, "true or false")

    def string(self, key: str, default: Any = REQUIRED, *, choices: Sequence[str] = ()) -> Any:
        def fits(value: Any) -> bool:
            return isinstance(value, str) and (not choices or value in choices)
        return self._take(key, default, fits, f"one of {', '.join(choices)}" if choices else "a string")

    def integers(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = MOST_INT) -> Any:
        """A list of integers."""
        def fits(value: Any) -> bool:
            return isinstance(value, list) and all(
                type(item) is int and least <= item <= most for item in value)
        return self._take(key, default, fits, f"a list of integers from {least} to {most}")

    def strings(self, key: str, default: Any = REQUIRED) -> Any:
        """A list of strings."""
        def fits(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        return self._take(key, default, fits, "a list of strings")

    def object(self, key: str, default: Any = REQUIRED) -> Any:
        """A nested object as Fields."""
        value = self._take(key, default, lambda value: isinstance(value, dict), "an object")
        return Fields(value, f"{self.where}: {_key(key)}") if isinstance(value, dict) else value

    def _take(self, key: str, default: Any, fits: Callable[[Any], bool], needed: str) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is REQUIRED:
                raise OutsideError(f"{self.where} has no {key}; {needed} is needed.")
            return default
        if not fits(value):
            raise OutsideError(f"{self.where}: {_key(key)} is {shown(value)} ({kind(value)}); "
                               f"{needed} is needed.")
        return value


def _key(key: str) -> str:
    return key if key.isprintable() and len(key) <= LONGEST_KEY else shown(key)


def _finite(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond what a float holds
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shortened(twice)} stands twice in one object")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:40]} is beyond what a float holds")
    return value
