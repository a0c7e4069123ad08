"""The tokens of a sample -> content and calls of tools, as they come."""
import functools
from collections.abc import Sequence
from typing import NamedTuple

from jaxrl_moe.data.chat.tools.families import SIGNS, ToolFamily
from jaxrl_moe.data.chat.tools.form import special_marks, tool_form
from jaxrl_moe.data.chat.tools.parser import ToolParser
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.serving.openai.pieces import Pieces
from jaxrl_moe.serving.openai.text import TextStream
from jaxrl_moe.types import Completion, ToolCall

TAIL = 16  # tokens of a prompt, among which the white space ends that may follow <think>


class Piece(NamedTuple):
    """What a sample has got to show: content, complete tool calls, the tokens drawn meanwhile, and why it
    ended, if it has."""
    content: str
    calls: list[ToolCall]
    chunks: Sequence[Chunk]
    finish_reason: str | None


class SampleText:
    """Turns the chunks of one sample into pieces; `parser` tells tool calls from content where some are
    offered."""

    def __init__(self, pieces: Pieces, stops: Sequence[str], parser: ToolParser | None):
        self._text = TextStream(pieces, stops)
        self._parser = parser
        self.called = 0

    def piece(self, chunks: Sequence[Chunk]) -> Piece:
        reason = chunks[-1].finish_reason or None
        text = self._text.add([i for chunk in chunks for i in chunk.ids.tolist()], reason is not None)
        pieces = self._parser.add(text, reason is not None) if self._parser else [text]
        calls = [shown for shown in pieces if isinstance(shown, ToolCall)]
        self.called += len(calls)
        return Piece("".join(shown for shown in pieces if isinstance(shown, str)), calls, chunks,
                     "tool_calls" if reason == "stop" and self.called else reason)


class Readers:
    """What reads the tokens of a model as text, and as calls of tools.

    Attributes:
      pieces: tokens to text.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.pieces = Pieces(tokenizer.hf)
        self._tokenizer = tokenizer

    def stream(self, stops: Sequence[str], prompt_end: Sequence[int] | None) -> SampleText:
        """Reads one sample. `prompt_end`: the last ids of its prompt where tools are offered; None: none
        are."""
        if prompt_end is None:
            return SampleText(self.pieces, stops, None)
        family, special, pieces = self._calls
        opened = "".join(self.pieces.shown(token, self.pieces.of(token)) for token in prompt_end).rstrip()
        thinking = opened.endswith(tuple(begins for begins, _ in family.thoughts))
        return SampleText(pieces, stops, ToolParser(thinking, family, special))

    def whole(self, stops: Sequence[str], prompt_end: Sequence[int] | None, completion: Completion) -> Piece:
        """Reads a sample that is done; see stream()."""
        chunk = Chunk(0, completion.ids, completion.logprobs, completion.policy_version,
                      completion.finish_reason)
        return self.stream(stops, prompt_end).piece([chunk])

    @functools.cached_property
    def _calls(self) -> tuple[ToolFamily, frozenset[str], Pieces]:
        template = self._tokenizer.template
        family = tool_form(template).for_clients
        special = special_marks(family, template)
        ids = {self._tokenizer.hf.convert_tokens_to_ids(mark): SIGNS[mark] for mark in special}
        return family, special, Pieces(self._tokenizer.hf, ids)
