"""The assistant's turns in a rendered conversation: where they begin and end, and what of them is trained."""
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.data.rows import DataError
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError

_SPLIT = "Split it into one row per assistant turn, with `loss` false on the earlier ones."


class Conversation(NamedTuple):
    """One training sequence: ids [T] int32, and loss_mask [T] int32 with 1 on the tokens to be trained."""
    ids: np.ndarray
    loss_mask: np.ndarray


def mask_conversation(messages: Sequence[Message], trained: Sequence[bool], tokenizer: Tokenizer,
                      where: str = "the conversation", *, tools: Sequence[Message] = (),
                      variables: Mapping[str, Any] | None = None) -> Conversation:
    """Tokenises messages under the chat template; trains the text of the trained ones with its end token.

    A turn is what the template writes of its message after the generation prompt, up to the token that ends
    it. Each turn is tokenised as a model goes on after the ids of its prompt, which the engine would see.

    Raises:
      DataError: nothing is trained; something that is said does not reach the text; the template ends turns
        with no token; or it writes part of the conversation differently once later messages follow, so that
        no one sequence shows the model what it would see and say in use.
    """
    if not any(trained):
        raise DataError(f"{where} has no assistant turn to train on.")
    try:
        turns = _Turns(messages, tokenizer, where, tools, variables)
        spans = [turns.span(number) for number, train in enumerate(trained) if train]
        return masked(turns.text, spans, tokenizer)
    except TokenizerError as error:
        raise DataError(f"{where}: {error}") from error


def masked(text: str, spans: Sequence[tuple[int, int]], tokenizer: Tokenizer) -> Conversation:
    """Tokenises a hidden text, in which what lies within the spans is trained; each span is tokenised as a
    model goes on after the ids of what stands before it."""
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    pieces = [tokenizer.encode_hidden(text[start:end], text[:start]) for start, end in zip(edges, edges[1:])]
    masks = [np.full(len(ids), number % 2, np.int32) for number, ids in enumerate(pieces)]
    return Conversation(np.concatenate(pieces), np.concatenate(masks))


class _Turns:
    """The turns of one conversation.

    Attributes:
      text: the whole, hidden (see Literals).
    """

    def __init__(self, messages: Sequence[Message], tokenizer: Tokenizer, where: str,
                 tools: Sequence[Message], variables: Mapping[str, Any] | None) -> None:
        self._messages = messages
        self._path = tokenizer.path
        self._control = tokenizer.literals.control
        self._hide = tokenizer.literals.hide
        self._where = where
        self._render = functools.partial(tokenizer.template.render, tools=tools, variables=variables)
        self._closing = functools.partial(tokenizer.template.closing, tools=tools, variables=variables)
        self.text = self._render(messages, generation_prompt=False)
        tokenizer.template.check(messages, generation_prompt=False, tools=tools, variables=variables)

    def span(self, number: int) -> tuple[int, int]:
        """Where in the text the turn of message `number` begins and ends.

        Raises:
          DataError: it is not there as the model would write it.
        """
        before = self._prompt(number)
        last = number + 1 == len(self._messages)
        alone = self.text if last else self._render(self._messages[:number + 1], generation_prompt=False)
        if not alone.startswith(before):
            raise self._no_prompt(number)
        turn = alone[len(before):self._end(number, alone, len(before))]
        if self.text.startswith(turn, len(before)):
            return len(before), len(before) + len(turn)
        return len(before), self._rewritten(number, turn, len(before))

    def _prompt(self, number: int) -> str:
        """What the engine would see before it draws message `number`."""
        if number == 0:
            raise DataError(f"{self._where}: message 0 is the assistant's, and nothing stands before it that "
                            "it could answer. Begin with a system or user message.")
        before = self._render(self._messages[:number], generation_prompt=True)
        if self.text.startswith(before):
            return before
        if self.text.startswith(self._render(self._messages[:number], generation_prompt=False)):
            raise self._no_prompt(number)
        raise DataError(f"{self._where}: the chat template of {self._path!r} writes what comes before "
                        f"message {number} differently when later messages follow (some templates drop "
                        f"earlier reasoning), so the conversation is not one sequence. {_SPLIT}")

    def _no_prompt(self, number: int) -> DataError:
        return DataError(f"{self._where}: the chat template of {self._path!r} does not begin message "
                         f"{number} with its own generation prompt, so the model would be trained on what it "
                         "is never asked for. If the prompt begins reasoning, give the message "
                         "`reasoning_content`; variables of the template, such as enable_thinking, may "
                         "decide it too.")

    def _end(self, number: int, text: str, start: int) -> int:
        """Where the last message of `text` ends, the token that ends a turn included."""
        after = self._closing(self._messages[:number + 1])
        if not after:
            raise DataError(f"{self._where}: the chat template of {self._path!r} ends message {number} with "
                            "no control token, so that a model which learns from it would never stop. Use a "
                            "template that writes the end token after what the assistant says.")
        return self._control(text, start)[-after].end()

    def _rewritten(self, number: int, turn: str, start: int) -> int:
        """The end of a turn that the template writes otherwise once later messages follow. Only what is the
        template's own, such as an empty block of reasoning, may be missing."""
        ends = self._control(self.text, start)
        kept = next((self.text[start:end.end()] for end in ends if turn.endswith(end[0])), "")
        message = self._messages[number]
        said = [value for key, value in message.items() if key != "role" and isinstance(value, str)]
        if not kept or not turn.endswith(kept) or not all(self._hide(text.strip()) in kept for text in said):
            raise DataError(f"{self._where}: the chat template of {self._path!r} writes message {number} "
                            "differently when later messages follow (some templates drop earlier reasoning), "
                            f"so part of it would not be trained. {_SPLIT}")
        return start + len(kept)
