"""Finds where the values of a JSON object stand in its bytes, without parsing them: lists of numbers and
texts, which are nearly all of a row, are skipped by searches for their ends.

What is inside them is not looked at, so damage there is met only when the row is read.
"""
import json
import re

from jaxrl_moe.outside import DEEPEST

_KEY = re.compile(rb'[ \t\r]*"([^"]*)"[ \t\r]*:[ \t\r]*')
_PLAIN = re.compile(rb'[^,}\]"\[{ \t\r]+')
_AFTER = re.compile(rb'[ \t\r]*([,}])')
_OPENING = re.compile(rb"[ \t\r]*\{")
_EMPTY = re.compile(rb"[ \t\r]*\}")
_ENDED = re.compile(rb"[ \t\r]*")
_TO_BRACKET = re.compile(rb'[^"\[\]{}]*(?:"[^"]*"[^"\[\]{}]*)*')
_ESCAPED = re.compile(rb"[\\\0]")
_QUOTE = ord('"')
_LIST = ord("[")
_CONTAINERS = b"[{"

Spans = dict[str, tuple[int, int]]


class NoObject(ValueError):
    """The bytes are no JSON object; the message goes on from the row's name."""


def bared(data: bytes) -> bytes:
    """The bytes of JSON texts with escaped backslashes and quotation marks overwritten, so that every
    quotation mark that is left begins or ends a string."""
    return data.replace(b"\\\\", b"\0\0").replace(b'\\"', b"\0\0")


def spans(data: bytes, bare: bytes, start: int, end: int) -> Spans:
    """{key: (start, end) of its value} of the object that stands in data[start:end], which has no line break.

    Args:
      data: any bytes.
      bare: bared(data).

    Raises:
      NoObject: there is no object, or not it alone, or it has a key twice.
    """
    opening = _OPENING.match(bare, start, end)
    if not opening:
        raise NoObject("does not begin with {")
    found: Spans = {}
    at = opening.end()
    after = _EMPTY.match(bare, at, end)
    while not after:
        key = _KEY.match(bare, at, end)
        if not key:
            raise NoObject(f"has no key at its byte {at - start}")
        name = _name(data[key.start(1):key.end(1)])
        if name in found:
            raise NoObject(f"has the key {name!r} twice")
        closed = _value_end(bare, key.end(), end)
        found[name] = (key.end(), closed)
        mark = _AFTER.match(bare, closed, end)
        if not mark:
            raise NoObject(f"is not whole: nothing follows the value of {name!r}")
        at = mark.end()
        after = mark if mark[1] == b"}" else None
    if _ENDED.match(bare, after.end(), end).end() != end:
        raise NoObject("holds more than one object")
    return found


def _name(key: bytes) -> str:
    try:
        return json.loads(b'"' + key + b'"') if _ESCAPED.search(key) else key.decode()
    except ValueError as error:
        raise NoObject(f"has a key that is no text: {error}") from error


def _value_end(bare: bytes, at: int, end: int) -> int:
    first = bare[at] if at < end else 0
    if first == _QUOTE:
        return _string_end(bare, at + 1, end)
    if first in _CONTAINERS:
        return _container_end(bare, at, end)
    plain = _PLAIN.match(bare, at, end)
    if not plain:
        raise NoObject("is not whole: a value is missing")
    return plain.end()


def _string_end(bare: bytes, at: int, end: int) -> int:
    """Behind the quotation mark that ends the string whose text begins at `at`."""
    quote = bare.find(b'"', at, end)
    if quote < 0:
        raise NoObject("is not whole: a string has no end")
    return quote + 1


def _flat_end(bare: bytes, at: int, end: int) -> int:
    """Behind the list that begins at `at`, if it holds neither strings nor others; else 0."""
    closing = bare.find(b"]", at, end)
    inside = closing < 0 or any((bare.find(b"[", at + 1, closing) + 1, bare.find(b'"', at + 1, closing) + 1,
                                 bare.find(b"{", at + 1, closing) + 1))
    return 0 if inside else closing + 1


def _container_end(bare: bytes, at: int, end: int) -> int:
    """Behind the list or object that begins at `at`."""
    depth = 0
    while depth <= DEEPEST:
        first = bare[at] if at < end else _QUOTE
        if first == _QUOTE:
            raise NoObject("is not whole: a list, an object or a string in one has no end")
        flat = _flat_end(bare, at, end) if first == _LIST else 0
        depth += 0 if flat else 1 if first in _CONTAINERS else -1
        at = flat or at + 1
        if not depth:
            return at
        at = _TO_BRACKET.match(bare, at, end).end()
    raise NoObject(f"is nested more than {DEEPEST} levels deep")
