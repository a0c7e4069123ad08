"""What each token of a run's rows says: by the tokenizer of the run, loaded once somebody looks at a row."""
import codecs
import pathlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.outside import Fields, OutsideError, read_object
from jaxrl_moe.serving.openai.pieces import Pieces
from jaxrl_moe.serving.viewer.folders import SETTINGS
from jaxrl_moe.types import UserError

_FOLDERS = ("model", "sft/model", "../model", "../sft/model")  # seen from a phase's folder


class Spelled(NamedTuple):
    """Texts of tokens, [T]; `special`: which of them are special tokens."""
    texts: list[str]
    special: list[int]


class TokenTexts:
    """Spells the tokens of a phase's rows.

    Attributes:
      told: whose tokenizer it is, or why there is none; empty until that is known.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._lock = threading.Lock()  # of a tokenizer one thread makes use at a time
        self._tokenizer: Tokenizer | None = None
        self._pieces: Pieces | None = None
        self._size = 0
        self._sought = False
        self.told = ""

    def fits(self, ids: Sequence[int], text: str) -> bool:
        """Whether there is a tokenizer, and it gives these ids the text that the run wrote beside them. The
        first call takes seconds."""
        with self._lock:
            if not self._sought:
                self._load()
            return self._known(ids) and self._tokenizer.decode(ids) == text

    def spell(self, ids: Sequence[int]) -> Spelled | None:
        """The tokens' texts; a character of several tokens is the last one's. None where a tokenizer does not
        know them, or there is none."""
        with self._lock:
            if not self._known(ids):
                return None
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            spelled = Spelled([], [])
            for at, token in enumerate(ids):
                piece = self._pieces.of(token)
                if not piece:
                    spelled.special.append(at)
                spelled.texts.append(decoder.decode(piece) if piece else self._pieces.shown(token, piece))
            return spelled

    def _known(self, ids: Sequence[int]) -> bool:
        return self._tokenizer is not None and all(0 <= token < self._size for token in ids)

    def _load(self) -> None:
        self._sought = True
        reasons = []
        for place in self._places(reasons):
            try:
                self._tokenizer = load_tokenizer(place)
            except UserError as error:
                reasons.append(str(error))
                continue
            self._pieces = Pieces(self._tokenizer.hf)
            self._size = len(self._tokenizer.hf)
            self.told = f"Tokens are spelled by the tokenizer in {place}."
            return
        self.told = " ".join(["Ids are shown, for there is no tokenizer of this run at hand.", *reasons])

    def _places(self, reasons: list[str]) -> list[str]:
        """Where a tokenizer may lie, best first; what is wrong with the settings goes to `reasons`."""
        places = [self._folder / name for name in _FOLDERS]
        found = [str(place) for place in places if (place / "tokenizer.json").is_file()]
        for settings in (self._folder / SETTINGS, self._folder.parent / SETTINGS):
            if not settings.is_file():
                continue
            try:
                path = Fields(read_object(settings), str(settings)).object("model").string("path", "")
            except OutsideError as error:
                reasons.append(str(error))
                continue
            found += [path] if path else []
        return found
