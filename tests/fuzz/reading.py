"""How the judges read files: by the standard library, and strictly, independent of the code that is tried."""
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


class Damaged(Exception):
    """Text that is no JSON, or that means one thing to one reader and another thing to the next."""


def strict(text: bytes) -> Any:
    """JSON as RFC 8259 has it, in UTF-8, whose keys are told apart; a byte order mark may stand before it.

    Raises:
      Damaged: it is none such.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values and repr(values[key]) != repr(value):
            raise Damaged(f"{key!r} stands twice with different values")
        values[key] = value
    return values


def _refused(name: str) -> None:
    raise Damaged(f"{name} is no number")


def damage(path: pathlib.Path) -> str:
    """Why a JSON file must not be accepted; empty: it may be."""
    if not path.is_file():
        return f"{path.name} is no file"
    try:
        value = strict(path.read_bytes())
    except Damaged as error:
        return f"{path.name} is damaged: {error}"
    return "" if isinstance(value, dict) else f"{path.name} holds no object"


def same(ours: Any, theirs: Any) -> bool:
    """Equal in value and type, through lists and objects; a whole float is an integer's equal nowhere."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, Mapping):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (ours != ours and theirs != theirs)


Rule = Callable[[Any], bool]


def whole(least: int = 1, most: int = 2**31 - 1) -> Rule:
    return lambda value: type(value) is int and least <= value <= most


def number(least: float = -math.inf, most: float = math.inf) -> Rule:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and least <= value <= most


def truth(value: Any) -> bool:
    return type(value) is bool


def text(value: Any) -> bool:
    return type(value) is str


def texts(value: Any) -> bool:
    return type(value) is list and all(map(text, value))


def broken(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> str:
    """The first field of a wrong type or out of bounds; null counts as absent."""
    for key, rule in rules.items():
        try:
            fits = values.get(key) is None or rule(values[key])
        except OverflowError:
            fits = False
        if not fits:
            return f"{key} of a wrong kind: {json.dumps(values[key])[:80]}"
    return ""
