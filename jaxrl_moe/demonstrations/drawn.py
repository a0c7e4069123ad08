"""What a policy drew, beside what the same conversation is as data: the same text, or it is not taken."""
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxrl_moe.data.chat.links import linked_messages
from jaxrl_moe.data.rows import DataError
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError, load_tokenizer
from jaxrl_moe.data.turns import Conversation, mask_conversation

Sequenced = Mapping[str, Any]  # a token sequence of trajectories.jsonl


class Unlike(Exception):
    """A sequence is no data to learn from; the message says why, of several in the plural."""


class Drawn:
    """Compares token sequences with their conversations.

    Args:
      tokenizer: the run's; None: it is not here, and nothing is compared.
      why: it is not here.
      stops: texts that end turns.
    """

    def __init__(self, tokenizer: Tokenizer | None, why: str = "", stops: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._why = why
        self._stops = tuple(stops)
        self._compared: Counter[str] = Counter()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """That of a run's settings."""
        path = settings.get("model", {}).get("path", "")
        stops = settings.get("rollout", {}).get("stop_strings") or ()
        if not path:
            return cls(None, "the run's config.json names no model")
        try:
            return cls(load_tokenizer(path), stops=stops)
        except TokenizerError as error:
            return cls(None, str(error))

    def said(self) -> str:
        """What was compared, for people."""
        if self._tokenizer is None:
            return f"Nothing was compared with the tokens that were drawn: {self._why}"
        rows = self._compared
        return (f"As drawn, token by token: {rows['ids']}; as drawn in text, in other tokens: {rows['text']}."
                if rows else "")

    def trained(self, sequence: Sequenced, row: Sequenced) -> list[Message]:
        """The messages of a sequence of an episode, with loss false on what it did not draw, or was cut off.

        Raises:
          Unlike: nothing is left to be trained, or as data it would be another text.
        """
        dialogue = sequence["dialogue"]
        messages = linked_messages(dialogue["messages"])
        wanted = self._wanted(sequence, messages, bool(row.get("truncated")))
        if not any(wanted):
            raise Unlike("without a turn that was drawn to its end")
        if self._tokenizer is not None:
            self._compare(sequence, messages, wanted)
        return [message if message["role"] != "assistant" or loss else {**message, "loss": False}
                for message, loss in zip(messages, wanted)]

    def _wanted(self, sequence: Sequenced, messages: Sequence[Message],
                truncated: bool) -> list[bool]:
        """For each message whether it is trained: the sequence's turns are the last of the assistant's."""
        places = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        turns = sequence["turns"] or [[0, len(sequence["completion_ids"]), 0.0]]
        whole = {place for place, (start, end, *_) in zip(places[-len(turns):], turns[-len(places):])
                 if self._ends(sequence["completion_ids"][start:end],
                               truncated and end == len(sequence["completion_ids"]))}
        return [number in whole for number in range(len(messages))]

    def _ends(self, ids: Sequence[int], cut: bool) -> bool:
        """Whether a turn was drawn to its end; `cut` is what is believed where the tokens cannot tell."""
        if self._tokenizer is None:
            return not cut
        if not ids:
            return False
        return ids[-1] in self._tokenizer.eos_ids or (
            bool(self._stops) and self._tokenizer.decode(ids).endswith(self._stops))

    def _compare(self, sequence: Sequenced, messages: Sequence[Message], wanted: Sequence[bool]) -> None:
        ids = [*sequence["prompt_ids"], *sequence["completion_ids"]]
        data = self._as_data(messages, wanted, sequence["dialogue"])
        if data.ids[:len(ids)].tolist() == ids:
            self._compared["ids"] += 1
        elif self._text(data.ids).startswith(self._text(ids)):
            self._compared["text"] += 1
        else:
            raise Unlike("that the chat template would write otherwise than they were drawn")

    def _as_data(self, messages: Sequence[Message], wanted: Sequence[bool],
                 dialogue: Mapping[str, Any]) -> Conversation:
        try:
            return mask_conversation(messages, wanted, self._tokenizer, tools=dialogue["tools"],
                                     variables=dialogue["variables"])
        except DataError as error:
            raise Unlike("of which the chat template makes no data") from error

    def _text(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)
