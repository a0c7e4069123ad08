"""Messages of an episode as templates need them: results tied to their calls, and stand-ins for turns."""
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.data.chat.messages import template_message
from jaxrl_moe.data.chat.template import Message


def linked_messages(messages: Sequence[Message]) -> list[Message]:
    """Returns the messages as templates read them. A tool's result that does not say which call it answers
    gets the id and the name of the first one that has no result yet.

    Raises:
      OutsideError: a message is none that templates read.
    """
    linked: list[Message] = []
    waiting: list[Message] = []
    for number, given in enumerate(messages):
        message = template_message(given, f"message {number} ({given.get('role')})")
        if message.get("role") == "assistant":
            waiting = list(message.get("tool_calls", ()))
        elif message.get("role") == "tool":
            message = _answering(message, waiting)
        linked.append(message)
    return linked


def _answering(message: Message, waiting: list[Message]) -> Message:
    """A result with the call that it answers, which waits no longer."""
    given = message.get("tool_call_id")
    call = next((call for call in waiting if given in (None, call.get("id"))), None)
    if call is None:
        return message
    waiting.remove(call)
    link = {"tool_call_id": call["id"]} if "id" in call else {}
    return {**link, "name": call["function"]["name"], **message}


def said_shortly(message: Message) -> Message:
    """An assistant's message of the same kind that says little: its calls alone, or a text."""
    calls = message.get("tool_calls")
    return {"role": "assistant", "content": "", "tool_calls": calls} if calls else {
        "role": "assistant", "content": "so"}


def stand_in(message: Message, taken: str) -> tuple[Message, list[str]]:
    """Returns an assistant's message of the same kind, and the marks in it, which are no part of `taken`: at
    the end of its text, or else of each of its calls."""
    number = next(number for number in range(len(taken) + 1) if f"xqz{number}z" not in taken)
    calls = message.get("tool_calls") or ()
    if not calls:
        mark = f"xqz{number}z0zqx"
        return {"role": "assistant", "content": mark}, [mark]
    marks = [f"xqz{number}z{place}zqx" for place in range(len(calls))]
    marked = [_marked(call, mark) for call, mark in zip(calls, marks)]
    return {"role": "assistant", "content": "", "tool_calls": marked}, marks


def _marked(call: Message, mark: str) -> Mapping[str, Any]:
    function = call["function"]
    if function["arguments"]:
        marked = {"name": function["name"], "arguments": {"at": mark}}
    else:
        marked = {"name": function["name"] + mark, "arguments": {}}
    return {**call, "function": marked}
