"""Conversations message by message: each as the chat template writes it by itself, one after the other.
Earlier turns keep their reasoning, which some templates drop where they write the whole, and all of them are
trained in one sequence. This is what slime calls the loss mask "qwen"."""
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.data.rows import DataError
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError
from jaxrl_moe.data.turns import Conversation, masked

ROLES = ("system", "user", "assistant")
_MEND = "set sft.loss_mask=conversation"
_ASKED = {"role": "user", "content": "asked"}


def mask_messages(messages: Sequence[Message], trained: Sequence[bool], tokenizer: Tokenizer,
                  where: str = "the conversation", *, tools: Sequence[Message] = (),
                  variables: Mapping[str, Any] | None = None) -> Conversation:
    """Tokenises messages one by one; trains what the assistant says in the trained ones, with its end token.

    A prefix that the template puts before every conversation, such as a system message of its own, stands
    once, before the first message. The generation prompt is not trained. An assistant's message is written
    alone or, where reasoning would be lost that way, as the answer to a question.

    Raises:
      DataError: nothing is trained; a message is of another role or calls tools; or the template does not
        write messages one after the other, or ends turns with no token.
    """
    if not any(trained):
        raise DataError(f"{where} has no assistant turn to train on.")
    if tools or any(message.get("tool_calls") for message in messages):
        raise DataError(f"{where} has tools, which sft.loss_mask = 'qwen' knows nothing of: {_MEND}.")
    try:
        writer = _Writer(tokenizer, where, variables)
        text = ""
        spans = []
        for number, (message, train) in enumerate(zip(messages, trained)):
            written, begin, end = writer.message(number, message)
            if train:
                spans.append((len(text) + begin, len(text) + end))
            text += written
        return masked(text, spans, tokenizer)
    except TokenizerError as error:
        raise DataError(f"{where}: {error}") from error


class _Writer:
    """Writes messages by themselves."""

    def __init__(self, tokenizer: Tokenizer, where: str, variables: Mapping[str, Any] | None):
        self._template = tokenizer.template
        self._path = tokenizer.path
        self._where = where
        self._variables = variables
        self._question = self._render([_ASKED])
        again = self._after(self._render([_ASKED, _ASKED]), self._question)
        if not again or not self._question.endswith(again):
            raise self._unfit()
        self._prefix = self._question[:-len(again)]
        self._generation = self._after(self._render([_ASKED], generation_prompt=True), self._question)

    def message(self, number: int, message: Message) -> tuple[str, int, int]:
        """(the text, where in it what is trained begins, where it ends)."""
        if message["role"] not in ROLES or message["role"] == "system" and number:
            raise DataError(f"{self._where}: message {number} is of the role {message['role']!r}, and "
                            "sft.loss_mask = 'qwen' takes a system message, if any, and then users' and "
                            f"assistants': {_MEND}.")
        alone = self._render([message])
        if message["role"] != "assistant":
            self._check_said(number, message, alone)
            text = self._after(alone, self._prefix) if number and message["role"] == "user" else alone
            return text, 0, 0
        return self._turn(number, message, self._after(alone, self._prefix))

    def _turn(self, number: int, message: Message, alone: str) -> tuple[str, int, int]:
        if number == 0:
            raise DataError(f"{self._where}: message 0 is the assistant's, and nothing stands before it that "
                            "it could answer. Begin with a system or user message.")
        text = alone
        if not self._says(message, text):
            text = self._after(self._render([_ASKED, message]), self._question)
        self._check_said(number, message, text)
        if not self._generation or not text.startswith(self._generation):
            raise self._unfit(f"does not begin message {number} with its own generation prompt, so that the "
                              "model would be trained on what it is never asked for")
        after = self._template.closing([_ASKED, message], variables=self._variables)
        if not after:
            raise self._unfit(f"ends message {number} with no control token, so that a model which learns "
                              "from it would never stop")
        begin = len(self._generation)
        return text, begin, self._template.literals.control(text, begin)[-after].end()

    def _render(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        return self._template.render(messages, generation_prompt=generation_prompt, variables=self._variables)

    def _after(self, text: str, start: str) -> str:
        if not text.startswith(start):
            raise self._unfit()
        return text[len(start):]

    def _unfit(self, what: str = "does not write messages one after the other") -> DataError:
        return DataError(f"{self._where}: the chat template of {self._path!r} {what}: {_MEND}.")

    def _says(self, message: Message, text: str) -> bool:
        """Whether all that a message says stands in a text; the marks of reasoning may stand elsewhere."""
        said = [value for key, value in message.items() if key != "role" and isinstance(value, str)]
        pieces = [piece.strip() for value in said for piece in re.split("</?think>", value)]
        return all(self._template.literals.hide(piece) in text for piece in pieces)

    def _check_said(self, number: int, message: Message, text: str) -> None:
        if not self._says(message, text):
            raise self._unfit(f"leaves out part of message {number} (role {message['role']!r}) where it "
                              "writes it by itself")
