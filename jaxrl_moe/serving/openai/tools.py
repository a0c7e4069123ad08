"""Tool calls in Qwen's format: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number, after
the content."""
import json
from typing import NamedTuple

from jaxrl_moe.serving.openai.text import held_back

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


class ToolCall(NamedTuple):
    """arguments is a JSON object as text."""
    name: str
    arguments: str


class ToolParser:
    """Splits text, as it comes, into content and tool calls. A call that is no such JSON stays in the
    content.

    White space around calls belongs to neither; so it is held back until it is clear that content goes on.
    """

    def __init__(self):
        self._text = ""
        self._inside = False
        self._after_call = False
        self._space = ""  # before the tag; content after all if what follows is no call

    def add(self, text: str, last: bool) -> list[str | ToolCall]:
        """Returns the pieces of content and the calls that are complete; with `last` all that is left."""
        self._text += text
        pieces = []
        while self._inside or OPEN in self._text:
            piece = self._call(last) if self._inside else self._content(self._text.index(OPEN))
            if piece is None:
                return pieces
            pieces += [piece] if piece else []
        end = len(self._text) if last else self._clear()
        rest = self._take(end)
        return [*pieces, rest] if rest else pieces

    def _clear(self):
        """Where the text ends that certainly is content."""
        end = len(self._text) - held_back(self._text, (OPEN,))
        return len(self._text[:end].rstrip())

    def _content(self, end: int):
        taken = self._take(end)
        self._inside = True
        content = taken.rstrip()
        self._space = taken[len(content):]
        return content

    def _take(self, end: int):
        taken = self._text[:end]
        self._text = self._text[end:]
        if self._after_call:
            taken = taken.lstrip()
            self._after_call = not taken
        return taken

    def _call(self, last: bool):
        """The call that the text begins with; its raw text if it is none; None if it is not complete."""
        body, closed, rest = self._text.removeprefix(OPEN).partition(CLOSE)
        if not closed and not last:
            return None
        self._text = rest
        self._inside = False
        call = parse(body)
        if call is None:
            return self._space + OPEN + body + closed
        self._after_call = True
        return call


def parse(body: str) -> ToolCall | None:
    """The call that the text between the tags describes, or None."""
    try:
        call = json.loads(body)
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not isinstance(
                call.get("arguments", {}), dict):
            return None
        return ToolCall(call["name"],
                        json.dumps(call.get("arguments", {}), ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None
