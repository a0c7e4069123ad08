"""Text of people and environments that happens to spell control tokens: it stays text."""
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Two private characters, around the number of what they stand for. They stand for themselves too, so that
# text which holds them comes back unchanged.
_OPEN = "\U000f0000"
_CLOSE = "\U000f0001"
_HIDDEN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Piece(NamedTuple):
    """Some of a text; `literal`: it spells a control token, or is one of the two private characters."""
    text: str
    literal: bool


class Literals:
    """Hides the spellings of control tokens while a chat template is rendered, so that afterwards those that
    the template wrote can be told from those that were in the messages.

    Args:
      tokens: the control tokens as text.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        control = sorted(set(filter(None, tokens)), key=lambda token: (-len(token), token))
        self._texts = [*control, _OPEN, _CLOSE]
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        self._spelt = re.compile("|".join(map(re.escape, self._texts)))
        self._control = re.compile("|".join(map(re.escape, control)) or r"(?!)")

    def hide(self, value: Any) -> Any:
        """Returns a JSON value in whose strings, keys included, no control token is spelt."""
        if isinstance(value, str):
            return self._spelt.sub(lambda match: f"{_OPEN}{self._numbers[match[0]]}{_CLOSE}", value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.hide(item) for item in value]
        return value

    def show(self, text: str) -> str:
        """Returns hidden text as it was."""
        return _HIDDEN.sub(lambda match: self._texts[int(match[1])], text)

    def pieces(self, text: str) -> Iterator[Piece]:
        """Yields hidden text as it was, in pieces that are literal or have none."""
        done = 0
        for match in _HIDDEN.finditer(text):
            if match.start() > done:
                yield Piece(text[done:match.start()], False)
            yield Piece(self._texts[int(match[1])], True)
            done = match.end()
        if done < len(text):
            yield Piece(text[done:], False)

    def tail(self, text: str) -> str:
        """Returns the end of hidden text from its last control token on, or after its last literal."""
        starts = [0, *(match.start() for match in self.control(text))]
        starts += [match.end() for match in _HIDDEN.finditer(text)]
        return text[max(starts):]

    def control(self, text: str, start: int = 0) -> list[re.Match]:
        """Returns the control tokens of hidden text from `start` on: those that the template wrote."""
        return list(self._control.finditer(text, start))

    def spelt(self, value: Any) -> bool:
        """Whether a string of a JSON value spells a control token."""
        return self.hide(value) != value
