"""What values of foreign keys may be, typed or as words of a command line."""
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jaxrl_moe.config import listed
from jaxrl_moe.spelling import did_you_mean, quoted

MORE = -1
ANY = -2


class Invalid(Exception):
    """A foreign value that cannot be taken.

    Attributes:
      why: what is wrong, as it goes on from "key = value".
      mend: what to do, as an imperative without a full stop.
    """

    def __init__(self, why: str, mend: str):
        super().__init__(why, mend)
        self.why = why
        self.mend = mend


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
      check: returns a typed value as the translation takes it; raises Invalid.
      typed: makes a typed value of a word; raises ValueError.
      words: how many words a flag of a command line takes: 0, 1, MORE for one and more, or ANY.
    """
    check: Callable[[Any], Any]
    typed: Callable[[str], Any] = str
    words: int = 1


def _refuse(value: Any, needed: str) -> Invalid:
    return Invalid(f"is of type {type(value).__name__}, and {needed} is needed", f"give {needed}")


def integer(least: int = -2**31, *, also: tuple[int, ...] = ()) -> Kind:
    """A whole number of at least `least`, or one of `also`."""
    def check(value: Any) -> int:
        if type(value) is not int:
            raise _refuse(value, "a whole number")
        if value < least and value not in also:
            raise Invalid(f"is out of range, for it must be at least {least}", "give another number")
        return value
    return Kind(check, int)


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    """A finite number within bounds."""
    def check(value: Any) -> float:
        if type(value) not in (int, float):
            raise _refuse(value, "a number")
        if not math.isfinite(value) or not least <= value <= most:
            bounds = f"between {least:g} and {most:g}" if math.isfinite(most) else f"at least {least:g}"
            raise Invalid(f"is out of range, for it must be {bounds}", "give another number")
        return float(value)
    return Kind(check, float)


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _refuse(value, "true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refuse(value, "a text that is not empty")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text as a list of one."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        raise _refuse(value, "a list of texts")
    return tuple(values)


def _integers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**31 for item in value):
        raise _refuse(value, "a list of whole numbers of at least 0")
    return tuple(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise _refuse(value, "a list of numbers")
    return tuple(map(float, value))


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refuse(value, "a section of keys")
    return value


def _anything(value: Any) -> Any:
    return value


FLAG = Kind(_bool, words=0)
TEXT = Kind(_text)
TEXTS = Kind(_texts, words=MORE)
INTEGERS = Kind(_integers, int, words=MORE)
NUMBERS = Kind(_numbers, float, words=MORE)
TABLE = Kind(_table)          # keys below it are not looked at one by one
ANYTHING = Kind(_anything)
SEVERAL = Kind(_anything, words=MORE)
PASSED_ON = Kind(_anything, words=ANY)  # to another program, which knows what it takes


def one_of(*choices: Any) -> Kind:
    """One of these values; None among them is the null of YAML."""
    def check(value: Any) -> Any:
        if type(value) in map(type, choices) and value in choices:
            return value
        names = [str(choice) for choice in choices if choice is not None]
        near = did_you_mean(value, names) if isinstance(value, str) else ""
        raise Invalid(f"is not known here.{near} Known", listed(names))
    return Kind(check)


def only(*choices: Any, because: str, mend: str) -> Kind:
    """One of these values, since the others cannot be had, for a reason."""
    def check(value: Any) -> Any:
        if value in choices and type(value) in map(type, choices):
            return value
        raise Invalid(because, mend)
    return Kind(check, _literal)


def optional(kind: Kind) -> Kind:
    """The kind, or null."""
    return Kind(lambda value: None if value is None else kind.check(value), kind.typed, kind.words)


def _literal(word: str) -> Any:
    """A word as a number where it is one."""
    for typed in (int, float):
        try:
            return typed(word)
        except ValueError:
            continue
    return word


def of_words(kind: Kind, words: list[str]) -> Any:
    """A flag's words as the typed value that its kind checks.

    Raises:
      Invalid: a word is no number where one is needed.
    """
    if kind.words == 0:
        return True
    try:
        values = [kind.typed(word) for word in words]
    except ValueError as error:
        raise Invalid(f"cannot be read, for {quoted(words[0])} is no number", "give one") from error
    return values if kind.words < 0 else values[0]
