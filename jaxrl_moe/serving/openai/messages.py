"""Chat messages as OpenAI has them -> as chat templates read them."""
import json
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.openai.protocol import Message


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Content becomes one string, and the arguments of tool calls become objects; raises Refusal where they
    are none."""
    return [_message(number, message) for number, message in enumerate(messages)]


def _message(number: int, message: Message):
    content = message.content or ""
    text = content if isinstance(content, str) else "".join(piece.text for piece in content)
    plain = {"role": message.role, "content": text}
    for name in ("name", "reasoning_content", "tool_call_id"):
        if getattr(message, name) is not None:
            plain[name] = getattr(message, name)
    if message.tool_calls:
        plain["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {
                "name": call.function.name,
                "arguments": _arguments(call.function.arguments, f"messages.{number}.tool_calls.{position}")}}
            for position, call in enumerate(message.tool_calls)]
    return plain


def _arguments(text: str, field: str):
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refusal(400, f"{field}.function.arguments must be a JSON object as text, such as "
                           "'{\"city\": \"Rome\"}'.", param="messages")
    return arguments
