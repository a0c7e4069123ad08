"""Does everything that messages say reach the text? Each field is marked, and the marks are looked for in
what the chat template writes."""
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Message = Mapping[str, Any]
REASONING = ("reasoning_content", "reasoning", "thinking")
_LINKS = ("role", "tool_call_id")  # they say what belongs together, and templates show that by the order
_MARK = re.compile(r"xqz\d+zqx")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Owner(NamedTuple):
    """Whose text it is: the number of a message (None: a tool's description), and the field."""
    message: int | None
    field: str


class Marks(dict[str, Owner]):
    """{mark: whose it is}."""

    def new(self, message: int | None, field: str) -> str:
        mark = f"xqz{len(self)}zqx"
        self[mark] = Owner(message, field)
        return mark

    def within(self, text: str) -> Iterator[re.Match[str]]:
        """Yields where marks stand in a text, in time that does not depend on how many there are."""
        return (match for match in _MARK.finditer(text) if match[0] in self)


def lost(render: Callable[[Sequence[Message], Sequence[Message], bool], str], messages: Sequence[Message],
         tools: Sequence[Message], generation_prompt: bool) -> list[Owner]:
    """Returns what does not reach the text.

    Reasoning that the template drops once later messages follow is not lost: the model was shown it when it
    stood last.

    Args:
      render: messages, tools and whether the generation prompt follows -> text.
      messages: of the conversation.
      tools: descriptions of functions.
      generation_prompt: as render takes it.
    """
    marks = Marks()
    marked = mark_messages(messages, marks)
    marked_tools = [_mark_tool(tool, marks) for tool in tools]
    shown = {match[0] for match in marks.within(render(marked, marked_tools, generation_prompt))}
    missing = {mark: owner for mark, owner in marks.items() if mark not in shown}
    stood_last: dict[Hashable, bool] = {}  # one of each kind: a server's chats may have thousands
    owners = []
    for mark, owner in missing.items():
        number = owner.message
        if number is not None and owner.field in REASONING:
            before = _message_shape(number - 1, messages) if number else None
            kind = owner.field, before, _message_shape(number, messages)
            if kind not in stood_last:
                stood_last[kind] = mark in render(marked[:number + 1], marked_tools, False)
            if stood_last[kind]:
                continue
        owners.append(owner)
    return owners


def mark_messages(messages: Sequence[Message], marks: Marks) -> list[Message]:
    """Returns copies in which every field that says something has a mark."""
    return [_mark_message(number, messages, marks) for number in range(len(messages))]


def shape(messages: Sequence[Message], tools: Sequence[Message]) -> Hashable:
    """What decides whether a template writes a field: roles, and which fields say something."""
    return (tuple(_message_shape(number, messages) for number in range(len(messages))),
            tuple((*sorted(tool), *sorted(_function(tool))) for tool in tools))


def _message_shape(number: int, messages: Sequence[Message]) -> Hashable:
    message = messages[number]
    calls = tuple(bool(_function(call).get("arguments")) for call in message.get("tool_calls") or ())
    return message.get("role"), tuple(sorted(_said(number, messages))), calls


def _said(number: int, messages: Sequence[Message]) -> list[str]:
    """The fields of a message that say something which is not said elsewhere."""
    message = messages[number]
    fields = [key for key, value in message.items() if key not in _LINKS and value not in _EMPTY]
    if message.get("role") == "tool" and message.get("name") in _called_before(number, messages):
        fields.remove("name")
    return fields


def _called_before(number: int, messages: Sequence[Message]) -> list[Any]:
    """The names of the functions that the last assistant message before `number` called."""
    before = (messages[i] for i in range(number - 1, -1, -1) if messages[i].get("role") == "assistant")
    return [_function(call).get("name") for call in next(before, {}).get("tool_calls") or ()]


def _mark_message(number: int, messages: Sequence[Message], marks: Marks) -> Message:
    marked = dict(messages[number])
    for field in _said(number, messages):
        value = marked[field]
        if field == "tool_calls":
            marked[field] = [_mark_call(number, call, marks) for call in value]
        else:
            marked[field] = (value if isinstance(value, str) else "") + marks.new(number, field)
    return marked


def _mark_call(number: int, call: Message, marks: Marks) -> Message:
    function = dict(_function(call))
    function["name"] = f"{function.get('name', '')}{marks.new(number, 'tool_calls')}"
    arguments = function.get("arguments")
    if arguments and isinstance(arguments, Mapping):
        name = marks.new(number, "tool_calls")
        function["arguments"] = {**arguments, name: marks.new(number, "tool_calls")}
    return {**call, "function": function} if "function" in call else function


def _mark_tool(tool: Message, marks: Marks) -> Message:
    function = dict(_function(tool))
    for field, value in function.items():
        if field != "parameters" and value not in _EMPTY:
            function[field] = (value if isinstance(value, str) else "") + marks.new(None, field)
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and parameters.get("properties"):
        properties = {**parameters["properties"], marks.new(None, "parameters"): {"type": "string"}}
        function["parameters"] = {**parameters, "properties": properties}
    if "function" not in tool:
        return function
    frame = {field: marks.new(None, field) for field in tool if field not in ("type", "function")}
    return {**tool, **frame, "function": function}


def _function(tool: Message) -> Message:
    """The function that a tool, or a call, is; some write it without the frame around it."""
    return tool["function"] if isinstance(tool.get("function"), Mapping) else tool
