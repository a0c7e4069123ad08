"""Text to token ids: of a whole text, and of what follows a text whose ids stand already. And back, with
control tokens told from text that spells them."""
import copy
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data.chat.literals import Literals, Piece
from jaxrl_moe.data.chat.template import TokenizerError

_LEADS = ("\n", "a", "0", ".", ")", "#")  # what a text may go on after


class Encoder:
    """The part of a tokenizer that encodes.

    Args:
      hf: the transformers tokenizer.
      path: where it was read from, for messages.
      eos_ids: ids that end a completion.
    """

    def __init__(self, hf: Any, path: str, eos_ids: Sequence[int]) -> None:
        self._hf = hf
        self._path = path
        self._eos_ids = eos_ids

    def encode(self, text: str) -> np.ndarray:
        """Returns the [T] int32 ids of `text`; nothing (such as a start token) is added.

        Raises:
          TokenizerError: it is no Unicode text, but holds half of a surrogate pair, as JSON can.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(f"The text has {text[error.start]!a} at character {error.start}, half of a "
                                 "surrogate pair, which is no Unicode character. Write the whole "
                                 "character.") from error
        return np.array(self._hf.encode(text, add_special_tokens=False), np.int32)

    def encode_hidden(self, text: str, before: str = "") -> np.ndarray:
        """Returns the [T] int32 ids of a hidden text (see Literals) that follows the hidden text `before`,
        whose ids stand already.

        They are what the ids of the whole have after those of `before`, where the two do not run into one
        token; else those with which a model would go on, without the space that some tokenizers put before
        a text.

        Raises:
          TokenizerError: as encode; or there are no such ids.
        """
        ids = [np.zeros(0, np.int32)]
        for piece in self.literals.pieces(text):
            ids.append(self._encode_after(before, piece))
            before += self.literals.hide(piece.text) if piece.literal else piece.text
        return np.concatenate(ids)

    def decode_hidden(self, ids: Sequence[int]) -> str:
        """Returns the hidden text (see Literals) of ids that follow others: control tokens as such, and what
        other tokens spell as text, with the space that some tokenizers drop where a text begins."""
        texts = []
        for control, run in itertools.groupby(map(int, ids), self._control.__contains__):
            each = list(run)
            texts += map(self._control.get, each) if control else [self.literals.hide(self._following(each))]
        return "".join(texts)

    def _following(self, ids: Iterable[int]) -> str:
        """The text of ids that follow another text."""
        lead = self.encode("a").tolist()
        before, whole = (self._hf.decode(each, clean_up_tokenization_spaces=False)
                         for each in (lead, [*lead, *ids]))
        return whole[len(before):]

    def _encode_after(self, before: str, piece: Piece) -> np.ndarray:
        if not before or self._same_anywhere:
            return self._encode_piece(piece)
        context = "" if piece.literal else self.literals.tail(before)
        leads = [context] if context else []
        if not self._starts_clean:
            leads += _LEADS
        for lead in leads:
            ids = self._encode_piece(Piece(lead, piece.literal))
            whole = self._encode_piece(Piece(lead + piece.text, piece.literal))
            swallowed = len(whole) == len(ids) and piece.text.strip()  # as by an unknown token before it
            if np.array_equal(whole[:len(ids)], ids) and not swallowed:
                return whole[len(ids):]
        if not self._starts_clean:
            raise TokenizerError(f"The tokenizer in {self._path!r} has no ids for {piece.text[:40]!r} where "
                                 "it goes on after other text.")
        return self._encode_piece(piece)

    def _encode_piece(self, piece: Piece) -> np.ndarray:
        if not piece.literal:
            return self.encode(piece.text)
        ids = np.array(self._plain.encode(piece.text, add_special_tokens=False, split_special_tokens=True),
                       np.int32)
        control = [i for i in ids.tolist() if i in self._control]
        if control:
            raise TokenizerError(f"A message spells the control token {piece.text!r} (id {control[0]}), and "
                                 f"the tokenizer in {self._path!r} cannot encode it as text. Spell it "
                                 "otherwise.")
        return ids

    @functools.cached_property
    def _control(self) -> Mapping[int, str]:
        """{id: text} of the tokens that steer a model: special ones, and those that end a completion."""
        return {i: str(token) for i, token in self._hf.added_tokens_decoder.items()
                if token.special or i in self._eos_ids}

    @functools.cached_property
    def literals(self) -> Literals:
        """Tells control tokens of the template from text that spells them."""
        return Literals(self._control.values())

    @functools.cached_property
    def _plain(self) -> Any:
        """A tokenizer for texts that spell control tokens: its own, since splitting them is a state, and
        other threads encode meanwhile."""
        return copy.deepcopy(self._hf)

    @functools.cached_property
    def _starts_clean(self) -> bool:
        """Whether a text by itself has no space before it; SentencePiece and its like put one there."""
        ids = self.encode("a").tolist()
        return self._hf.decode(ids + ids, clean_up_tokenization_spaces=False) == "aa"

    @functools.cached_property
    def _same_anywhere(self) -> bool:
        """Whether a text has the same ids wherever it stands, after control tokens that take space too."""
        takes_space = any(token.lstrip or token.rstrip for token in self._hf.added_tokens_decoder.values())
        return self._starts_clean and not takes_space
