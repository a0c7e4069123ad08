"""A completion's text while it is being drawn: half characters and the beginnings of stop strings are held
back."""
import codecs
from collections.abc import Sequence

from jaxrl_moe.data.chat.tools.parser import held_back
from jaxrl_moe.serving.openai.pieces import Pieces, Speller


class TextStream:
    """Tokens in, text out. The pieces joined are the text of all tokens, cut before the stop string that is
    complete first, however the tokens are cut into calls."""

    def __init__(self, pieces: Pieces, stops: Sequence[str] = ()):
        self._speller = Speller(pieces)
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._stopped = False

    def add(self, ids: Sequence[int], last: bool) -> str:
        """Returns what can be shown now; with `last` nothing is held back."""
        data = b"".join(self._speller.spell(ids))
        self._held += self._decoder.decode(data, last)
        if self._stopped:
            return ""
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self._stopped = bool(found)
        held = 0 if last else held_back(self._held, self._stops)
        end = min(found)[1] if found else len(self._held) - held
        shown = self._held[:end]
        self._held = self._held[end:]
        return shown
