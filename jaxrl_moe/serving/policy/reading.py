"""The answer of chat completions, read strictly: what the policy wrote, and which functions it called."""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.outside import Fields, OutsideError, as_object, kind
from jaxrl_moe.types import Action, ToolCall

LONGEST = 2**18   # characters of an answer, its calls included; models write less
MOST_CALLS = 64   # of functions in an answer


@dataclasses.dataclass(frozen=True)
class Written:
    """An answer of the policy.

    Attributes:
      text: what was written, without the calls of functions.
      message: as it is to be sent back.
      finish_reason: why it ended there.
      tokens: that were drawn, as far as the server tells.
      calls: of functions, each with the id that its result names.
    """
    text: str
    message: Mapping[str, Any]
    finish_reason: str
    tokens: int = 0
    calls: tuple[tuple[str, ToolCall], ...] = ()

    @property
    def action(self) -> Action:
        """As an environment sees it."""
        return Action(self.text, self.tokens, self.finish_reason == "length",
                      tuple(call for _, call in self.calls))

    def answered(self, shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What an environment shows after it, for the policy: each result names its call. Where fewer are
        shown than were called, the last stands for the others, since a server takes no call without a
        result."""
        if not self.calls:
            return [dict(message) for message in shown]
        results = [message for message in shown if message.get("role") == "tool"]
        others = [dict(message) for message in shown if message.get("role") != "tool"]
        results = results or [{"role": "tool", "content": ""}]
        told = [{**results[min(number, len(results) - 1)],
                 "tool_call_id": self.calls[min(number, len(self.calls) - 1)][0]}
                for number in range(max(len(results), len(self.calls)))]
        return [*told, *others]


def written(answer: Any, where: str, tools: bool = False) -> Written:
    """Reads an answer.

    Args:
      answer: its JSON.
      where: to begin messages with.
      tools: whether functions were offered; else calls are not looked at.

    Raises:
      OutsideError: it is none.
    """
    fields = Fields(answer, where)
    choices = fields.values.get("choices")
    if not isinstance(choices, list) or not choices:
        raise OutsideError(f"{where} has no choices.")
    choice = Fields(choices[0], f"{where}: choice 0")
    message = choice.object("message")
    message.string("role", "assistant", choices=("assistant",))
    text = message.string("content", "")
    calls = _calls(message) if tools else ()
    back: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning := message.string("reasoning_content", ""):
        back["reasoning_content"] = reasoning
    if calls:
        back["tool_calls"] = [{"id": name, "type": "function", "function": call._asdict()}
                              for name, call in calls]
    if len(text) + len(reasoning) + sum(len(call.arguments) for _, call in calls) > LONGEST:
        raise OutsideError(f"{where} has more than {LONGEST} characters: let the policy write less, as by "
                           "max_tokens.")
    usage = fields.object("usage", None)
    tokens = usage.integer("completion_tokens", 0) if usage else 0
    return Written(text, back, choice.string("finish_reason", ""), tokens, calls)


def _calls(message: Fields) -> tuple[tuple[str, ToolCall], ...]:
    listed = message.values.get("tool_calls")
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > MOST_CALLS:
        what = f"{len(listed)} items" if isinstance(listed, list) else kind(listed)
        raise OutsideError(f"{message.where}: tool_calls holds {what}; a list of at most {MOST_CALLS} is "
                           "needed.")
    return tuple(_call(each, number, message.where) for number, each in enumerate(listed))


def _call(value: Any, number: int, where: str) -> tuple[str, ToolCall]:
    where = f"{where}: tool_calls.{number}"
    call = Fields(as_object(value, where), where)
    call.string("type", "function", choices=("function",))
    function = call.object("function")
    return call.string("id", f"call_{number}"), ToolCall(function.string("name"),
                                                         function.string("arguments", "{}"))
