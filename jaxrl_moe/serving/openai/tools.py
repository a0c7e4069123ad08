"""Tool calls in the format of Qwen and Hermes: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any
number, after the content."""
import json
import re
from typing import Any, NamedTuple

from jaxrl_moe.outside import parse as parse_json
from jaxrl_moe.serving.openai.text import held_back
from jaxrl_moe.types import UserError

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
THINK = "<think>"
THOUGHT = "</think>"
FENCE = "```"
QUOTES = ("`", '"', "'", "\N{LEFT DOUBLE QUOTATION MARK}", "\N{LEFT SINGLE QUOTATION MARK}")
_MARK = re.compile("|".join((OPEN, THINK, FENCE)))
_ESCAPED = re.compile(r"\\.", re.DOTALL)
# Besides these two, what says the arguments; whatever else there is might change what the call means.
_LABELS = {"type": ("function",), "id": ()}
_ARGUMENTS = ("arguments", "parameters")


class ToolCall(NamedTuple):
    """arguments is a JSON object as text."""
    name: str
    arguments: str


class ToolParser:
    """Splits text, as it comes, into content and tool calls. What is no such JSON stays in the content, and
    so does what only talks of a call: in thoughts, in a fenced block of code, or behind a quotation mark.

    White space around calls belongs to neither; so it is held back until it is clear that content goes on.

    Args:
      thinking: whether the prompt ended with <think>, so that the text begins with thoughts.
    """

    def __init__(self, thinking: bool = False):
        self._text = ""
        self._pieces: list[str | ToolCall] = []
        self._next = self._think if thinking else self._content
        self._sure = True  # that the thoughts are some; a <think> within a line may be spoken of
        self._line = ""    # of the content, as far as it has come
        self._fenced = False
        self._after_call = False
        self._space = ""  # before the tag; content after all if what follows is no call

    def add(self, text: str, last: bool) -> list[str | ToolCall]:
        """Returns the pieces of content and the calls that are complete; with `last` all that is left."""
        self._text += text
        self._pieces = []
        while self._next(last):
            pass
        return self._pieces

    def _content(self, last: bool) -> bool:
        """Shows content up to the next mark and says whether there is one."""
        mark = _MARK.search(self._text)
        if not mark:
            self._show(self._take(len(self._text) if last else self._clear()))
            return False
        line = (self._line + self._text[:mark.start()]).rpartition("\n")[2]
        meant = not self._fenced and not line.endswith(QUOTES)
        if mark[0] == OPEN and meant:
            self._enter_call(mark.start())
            return True
        self._show(self._take(mark.end()))
        if mark[0] == FENCE:
            self._fenced ^= not line.strip()
        elif mark[0] == THINK and meant:
            self._sure = not line.strip()
            self._next = self._think
        return True

    def _enter_call(self, start: int) -> None:
        taken = self._take(start)
        content = taken.rstrip()
        self._space = taken[len(content):]
        self._show(content)
        self._next = self._call

    def _think(self, last: bool) -> bool:
        end = self._text.find(THOUGHT)
        if end < 0 and not last:
            if self._sure:
                self._show(self._take(len(self._text) - held_back(self._text, (THOUGHT,))))
            return False
        if end >= 0 or self._sure:
            self._show(self._take(end + len(THOUGHT) if end >= 0 else len(self._text)))
        self._next = self._content
        return True

    def _call(self, last: bool) -> bool:
        """Takes the call that the text begins with; if it is none, its tag is content."""
        body = self._body()
        if body is None and not last:
            return False
        call = parse(self._text[len(OPEN):] if body is None else body)
        self._next = self._content
        if call is None:
            self._show(self._space + self._take(len(OPEN)))
            return True
        self._take(len(self._text) if body is None else len(OPEN) + len(body) + len(CLOSE))
        self._pieces.append(call)
        self._after_call = True
        self._line = ""
        return True

    def _body(self) -> str | None:
        """What stands between the tags; None as long as the closing one, outside of strings, is not there."""
        end = self._text.find(CLOSE)
        while end >= 0:
            body = self._text[len(OPEN):end]
            if _ESCAPED.sub("", body).count('"') % 2 == 0:
                return body
            end = self._text.find(CLOSE, end + 1)
        return None

    def _clear(self) -> int:
        """Where the text ends that certainly is content."""
        end = len(self._text) - held_back(self._text, (OPEN, THINK, FENCE))
        return len(self._text[:end].rstrip())

    def _take(self, end: int) -> str:
        taken = self._text[:end]
        self._text = self._text[end:]
        return taken

    def _show(self, text: str) -> None:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        if text:
            self._pieces.append(text)
            self._line = (self._line + text).rpartition("\n")[2]


def parse(body: str) -> ToolCall | None:
    """The call that the text between the tags describes, or None. The arguments may be called parameters, as
    by Llama, and be an object or the text of one."""
    try:
        call = parse_json(body, "the call")
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
            return None
        given = [call.pop(key) for key in _ARGUMENTS if key in call]
        arguments = _as_object(given[0]) if given else {}
        if len(given) > 1 or arguments is None or not _only_labels(call):
            return None
        return ToolCall(call["name"], json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (UserError, ValueError):  # no JSON, or what none can say
        return None


def _as_object(arguments: Any) -> dict[str, Any] | None:
    if isinstance(arguments, str):
        arguments = parse_json(arguments or "{}", "the arguments")
    arguments = {} if arguments is None else arguments
    return arguments if isinstance(arguments, dict) else None


def _only_labels(call: dict[str, Any]) -> bool:
    """Whether nothing but the name is left, and what says no more than that it is a call."""
    return all(key == "name" or key in _LABELS and (value in _LABELS[key] or not _LABELS[key])
               for key, value in call.items())
