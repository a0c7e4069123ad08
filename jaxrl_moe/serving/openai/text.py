"""A completion's text while it is being drawn: half characters and the beginnings of stop strings are held
back."""
from collections.abc import Callable, Sequence

HALF = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of a character whose last bytes are still to come


class TextStream:
    """Tokens in, text out; the pieces joined are the text of all tokens, cut before the first stop string."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()):
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []
        # tokens [context, read) were shown, and are decoded again with what follows
        self._context = 0
        self._read = 0
        self._held = ""
        self._stopped = False

    def add(self, ids: Sequence[int], last: bool) -> str:
        """Returns what can be shown now; with `last` nothing is held back."""
        self._ids += ids
        self._held += self._decoded(last)
        if self._stopped:
            return ""
        ends = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        self._stopped = bool(ends)
        end = min(ends) if ends else len(self._held) - (0 if last else held_back(self._held, self._stops))
        shown = self._held[:end]
        self._held = self._held[end:]
        return shown

    def _decoded(self, last: bool):
        text = self._decode(self._ids[self._context:])
        if text.endswith(HALF) and not last:
            return ""
        fresh = text[len(self._decode(self._ids[self._context:self._read])):]
        self._context = self._read
        self._read = len(self._ids)
        return fresh


def held_back(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of the text with which one of the marks begins."""
    longest = min(len(text), max(map(len, marks), default=0))
    return next((n for n in range(longest, 0, -1) if any(mark.startswith(text[-n:]) for mark in marks)), 0)
