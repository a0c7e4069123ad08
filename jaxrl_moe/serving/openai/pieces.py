"""What each token adds to a text, as bytes: one token may hold a part of a character only."""
import codecs
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl_moe.engine.stopping import HALF

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # how vocabularies with byte fallback name a byte
_SHOWN = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _SHOWN]
# The letter by which byte-level vocabularies name a byte: itself, or where none is seen, one from 256 on.
_LETTERS = {chr(byte): byte for byte in _SHOWN} | {chr(256 + at): byte for at, byte in enumerate(_HIDDEN)}


class Pieces:
    """Token ids to bytes, found out token by token from what a tokenizer decodes, and kept.

    The bytes of a completion's tokens, joined and decoded, are what the tokenizer decodes them to. Only where
    bytes are no text, and tokens of their own, does it differ: a tokenizer then gives up all the bytes in a
    row, also those of whole characters, which a stream has shown by then.

    Args:
      hf: a transformers tokenizer.
      signs: what stands for special tokens that are to be seen.
    """

    def __init__(self, hf: Any, signs: Mapping[int, str] = types.MappingProxyType({})):
        self._hf = hf
        self._signs = signs
        self._known: dict[int, bytes] = {token: sign.encode() for token, sign in signs.items()}
        self._before = hf.encode("a", add_special_tokens=False)[-1:]  # any text: what opens one is stripped
        self._text_before = self._decode(self._before)

    def of(self, token: int) -> bytes:
        """The bytes of a token that has text before it. Special tokens have none, but for signs."""
        if token not in self._known:
            text = self._decode([*self._before, token])
            added = text.startswith(self._text_before)
            text = text[len(self._text_before):] if added else self._decode([token])
            self._known[token] = self._named(token) if HALF in text else text.encode()
        return self._known[token]

    def opening(self, token: int) -> bytes:
        """The bytes of a token that is the first with any, from which some tokenizers strip a space."""
        alone = self._decode([token])
        return self.of(token) if HALF in alone or token in self._signs else alone.encode()

    def shown(self, token: int, piece: bytes) -> str:
        """A token's text in a list of tokens, where special ones are seen."""
        return piece.decode("utf-8", "replace") if piece or self.of(token) else self._hf.decode([token])

    def _decode(self, ids: Sequence[int]) -> str:
        return self._hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _named(self, token: int) -> bytes:
        """The bytes that a token is named after."""
        name = self._hf.convert_ids_to_tokens(token)
        byte = _BYTE.fullmatch(name)
        if byte:
            return bytes([int(byte[1], 16)])
        spelled = [_LETTERS.get(letter) for letter in name]
        return name.encode() if None in spelled else bytes(spelled)


class Speller:
    """Spells a completion, a few tokens at a time."""

    def __init__(self, pieces: Pieces):
        self._pieces = pieces
        self._begun = False

    def spell(self, ids: Sequence[int]) -> list[bytes]:
        spelled = []
        for token in ids:
            piece = self._pieces.of(token)
            spelled.append(piece if self._begun or not piece else self._pieces.opening(token))
            self._begun = self._begun or bool(piece)
        return spelled


class Token(NamedTuple):
    """A token of a list of tokens: its text, its bytes, and how many characters of the completion's text
    stand before that to which its first byte belongs."""
    text: str
    data: bytes
    offset: int


class Offsets:
    """Finds where the tokens of a completion stand in its text, a few at a time."""

    def __init__(self, pieces: Pieces):
        self._pieces = pieces
        self._speller = Speller(pieces)
        self._characters = 0
        self._pending = b""  # of a character whose last bytes are still to come

    def add(self, ids: Sequence[int]) -> list[Token]:
        tokens = []
        for token, piece in zip(ids, self._speller.spell(ids)):
            text = self._pieces.shown(token, piece)
            offset = self._characters + self._breaks_off(piece[:1])
            tokens.append(Token(text, piece or text.encode(), offset))
            self._count(piece)
        return tokens

    def _breaks_off(self, byte: bytes) -> bool:
        """Whether the bytes that wait for the rest of their character are left alone by this one."""
        whole = self._pending + byte
        return bool(self._pending and byte) and _decoded(whole)[0].startswith(HALF) and whole != HALF.encode()

    def _count(self, piece: bytes) -> None:
        text, self._pending = _decoded(self._pending + piece)
        self._characters += len(text)


def _decoded(data: bytes) -> tuple[str, bytes]:
    """The text, and the bytes at its end that may be the beginning of a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, decoder.getstate()[0]
