"""Chat messages as OpenAI has them -> as chat templates read them."""
import json
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.openai.protocol import Message


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Content becomes one string, and the arguments of tool calls become objects; raises Refusal where they are none."""
    return [_message(number, message) for number, message in enumerate(messages)]


def _message(number: int, message: Message):
    content = message.content or ""
    plain = {"role": message.role, "content": content if isinstance(content, str) else "".join(part.text for part in content)}
    for name in ("name", "reasoning_content", "tool_call_id"):
        if getattr(message, name) is not None:
            plain[name] = getattr(message, name)
    if message.tool_calls:
        plain["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {
                "name": call.function.name, "arguments": _arguments(call.function.arguments, f"messages.{number}.tool_calls.{place}")}}
            for place, call in enumerate(message.tool_calls)]
    return plain


def _arguments(text: str, place: str):
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refusal(400, f"{place}.function.arguments must be a JSON object as text, such as '{{\"city\": \"Rome\"}}'.", param="messages")
    return arguments
