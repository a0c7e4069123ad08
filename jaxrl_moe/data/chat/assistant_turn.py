"""What was drawn in a turn: the message that a chat template would be given, and the action that an
environment takes."""
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe import outside
from jaxrl_moe.data.chat.reach import REASONING
from jaxrl_moe.data.chat.tools.families import HERMES
from jaxrl_moe.data.chat.tools.form import ASKED, LOOK, ToolForm, offered, signed, special_marks
from jaxrl_moe.data.chat.tools.parser import ToolParser
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError
from jaxrl_moe.types import Action, ToolCall

_MARK = "xqzqx"
_NINE = re.compile("[A-Za-z0-9]{9}")
_ALONE = "this model's chat template writes one call of a turn, and this one came after another."


class AssistantTurn(NamedTuple):
    """A turn that was drawn.

    Attributes:
      message: as the chat template is given it.
      action: as the environment is given it.
    """
    message: Message
    action: Action


class TurnReader:
    """Reads what was drawn after prompts of one kind.

    Args:
      tokenizer: the model's.
      variables: of the chat template.
      form: how calls are written; None: no tools are offered, and what looks like a call is text.
    """

    def __init__(self, tokenizer: Tokenizer, variables: Mapping[str, Any] | None, form: ToolForm | None):
        self._tokenizer = tokenizer
        self._template = tokenizer.template
        self._variables = variables
        self._form = form
        self._family = (form.family if form else None) or HERMES
        self._special = special_marks(self._family, tokenizer.template)

    def read(self, ids: Sequence[int] | np.ndarray, truncated: bool, begun: str = "") -> AssistantTurn:
        """Returns the turn whose ids were drawn; `begun` is what the prompt had of it."""
        plain = self._tokenizer.decode(ids)
        if self._form is None:
            return AssistantTurn(self._message(begun, plain, []), Action(plain, len(ids), truncated))
        text = signed(self._tokenizer.decode_hidden(ids), self._template)
        if text.startswith(" ") and not plain.startswith(" "):  # some tokenizers drop it where a text begins
            text = text[1:]
        parser = ToolParser(self._thinks(begun), self._family, self._special)
        pieces = parser.add(text, True)
        content = "".join(piece for piece in pieces if isinstance(piece, str))
        calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
        kept = calls if self._form.several else calls[:1]
        faults = [f"{outside.shown(call._asdict())}: {_ALONE}" for call in calls[len(kept):]]
        action = Action(content, len(ids), truncated, tuple(kept), (*map(str, parser.malformed), *faults))
        numbered = [_numbered(position, call, name)
                    for position, (call, name) in enumerate(zip(kept, parser.ids))]
        return AssistantTurn(self._message(begun, content, numbered), action)

    def _message(self, begun: str, content: str, calls: list[Message]) -> Message:
        message: dict[str, Any] = {"role": "assistant", "content": begun + content}
        if self.reasoning_field:
            reasoning, content = self._split(begun + content, "" if begun else self._prompt_end)
            message |= {"content": content} | ({self.reasoning_field: reasoning} if reasoning else {})
        return message | ({"tool_calls": calls} if calls else {})

    def _split(self, text: str, before: str) -> tuple[str, str]:
        """Reasoning and content of a text; `before`: what stands before it."""
        for opens, closes in self._family.thoughts:
            inside = re.match(rf"\s*{re.escape(opens)}", text)
            if inside or before.endswith(opens):
                reasoning, _, content = text[inside.end() if inside else 0:].partition(closes)
                return reasoning.strip("\n"), content.lstrip("\n")
        return "", text

    def _thinks(self, begun: str) -> bool:
        """Whether the prompt has opened the thoughts that the turn begins with."""
        end = begun.rstrip() or self._prompt_end
        return end.endswith(tuple(opens for opens, _ in self._family.thoughts))

    @functools.cached_property
    def _prompt_end(self) -> str:
        """The end of the generation prompt, without white space."""
        text = self._template.render([ASKED], tools=self._tools, variables=self._variables)
        return self._template.literals.show(text).rstrip()

    @functools.cached_property
    def reasoning_field(self) -> str:
        """The field that the template reads reasoning from; empty: none, so that it stands in the content."""
        return next(filter(self._reaches, REASONING), "")

    def _reaches(self, field: str) -> bool:
        talk = [ASKED, {"role": "assistant", "content": "seen", field: _MARK}]
        try:
            return _MARK in self._template.render(talk, generation_prompt=False, tools=self._tools,
                                                  variables=self._variables)
        except TokenizerError:  # it refuses the field
            return False

    @property
    def _tools(self) -> Sequence[Message]:
        return offered(self._template, [LOOK]) if self._form else ()


def _numbered(position: int, call: ToolCall, name: str) -> Message:
    """A call of a message. Its id has nine letters, as some templates demand: the model's own, if it has."""
    arguments = outside.parse(call.arguments, "the arguments")
    return {"id": name if _NINE.fullmatch(name) else f"call{position:05d}", "type": "function",
            "function": {"name": call.name, "arguments": arguments}}
