"""Which family's calls a chat template writes: the one whose parser reads them back."""
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl_moe.data.chat.template import ChatTemplate, Message, TokenizerError
from jaxrl_moe.data.chat.tools.families import FAMILIES, HERMES, SIGNS, ToolFamily
from jaxrl_moe.data.chat.tools.parser import ToolParser
from jaxrl_moe.types import ToolCall

ASKED: Message = {"role": "user", "content": "look"}
LOOK: Message = {"type": "function", "function": {
    "name": "look", "description": "Looks at something.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}}}
AUTO = "auto"


class ToolForm(NamedTuple):
    """How a chat template writes calls.

    Attributes:
      family: reads them; None: of no known family.
      several: whether it writes more than one call of a turn.
    """
    family: ToolFamily | None
    several: bool

    @property
    def for_clients(self) -> ToolFamily:
        """What an endpoint reads calls by: where the template writes none, as Qwen and Hermes do."""
        return self.family or HERMES


def tool_form(template: ChatTemplate, family: str = AUTO) -> ToolForm:
    """Returns how a template writes calls; `family`: one of FAMILIES, or "auto" for that which the template
    itself writes.

    Raises:
      TokenizerError: there is no such family.
    """
    if family not in (AUTO, *FAMILIES):
        raise TokenizerError(f"{family!r} is no family of tool calls; choose auto, {', '.join(FAMILIES)}.")
    return _form(template, template.source, family)


@functools.lru_cache(maxsize=64)
def _form(template: ChatTemplate, source: str, family: str) -> ToolForm:
    calls = [looking(number) for number in range(2)]
    single = _written(template, calls[:1])
    choices = FAMILIES.values() if family == AUTO else [FAMILIES[family]]
    reads = [choice for choice in choices if _reads(choice, single, template, calls[:1])]
    chosen = FAMILIES.get(family) or (reads[0] if reads else None)
    double = _written(template, calls)
    return ToolForm(chosen, chosen is not None and _reads(chosen, double, template, calls))


def looking(number: int) -> Message:
    """A call of LOOK, as templates read it."""
    return {"id": f"call{number:05d}", "type": "function",
            "function": {"name": "look", "arguments": {"at": f"door {number}"}}}


def spoken(call: Message) -> ToolCall:
    """A call of a message as it is read from a text."""
    function = call["function"]
    return ToolCall(function["name"], json.dumps(function["arguments"], ensure_ascii=False))


def signed(hidden: str, template: ChatTemplate) -> str:
    """Returns hidden text as ToolParser reads it: marks that are control tokens as SIGNS, without the other
    control tokens, and the rest as it was."""
    literals = template.literals
    texts = []
    done = 0
    for token in literals.control(hidden):
        texts += [literals.show(hidden[done:token.start()]), SIGNS.get(token[0], "")]
        done = token.end()
    return "".join([*texts, literals.show(hidden[done:])])


def special_marks(family: ToolFamily, template: ChatTemplate) -> frozenset[str]:
    """The family's marks that are control tokens of the template's tokenizer."""
    return frozenset(mark for mark in family.marks if template.literals.spelt(mark))


def offered(template: ChatTemplate, tools: Sequence[Message]) -> Sequence[Message]:
    """The tools, where the template reads any."""
    return tools if "tools" in template.variables else ()


def _written(template: ChatTemplate, calls: Sequence[Mapping[str, Any]]) -> str:
    """What a template writes of a turn that only calls; empty where it refuses it."""
    talk = [ASKED, {"role": "assistant", "content": "", "tool_calls": calls}]
    tools = offered(template, [LOOK])
    try:
        whole = template.render(talk, generation_prompt=False, tools=tools)
        befores = [template.render(talk[:1], generation_prompt=prompt, tools=tools)
                   for prompt in (True, False)]
    except TokenizerError:  # then it can be chosen by name alone
        return ""
    return next((whole[len(before):] for before in befores if whole.startswith(before)), "")


def _reads(family: ToolFamily, text: str, template: ChatTemplate, calls: Sequence[Message]) -> bool:
    parser = ToolParser(False, family, special_marks(family, template))
    pieces = parser.add(signed(text, template), True)
    return [piece for piece in pieces if isinstance(piece, ToolCall)] == list(map(spoken, calls))
