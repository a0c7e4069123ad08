"""How models write tool calls: a row for each family."""
import dataclasses
import re
from collections.abc import Callable, Mapping

from jaxrl_moe import outside
from jaxrl_moe.data.chat.tools.calls import Malformed, Passage, WrittenCall, json_end, parse_call, read_call
from jaxrl_moe.outside import OutsideError

Marks = Mapping[str, str]  # a mark -> how the text that is read spells it

_TAG = "<|python_tag|>"
_CALLS = "[TOOL_CALLS]"
_NAMED = "[ARGS]"
_NUMBERED = "[CALL_ID]"
_SPACE = re.compile(r"\s*")


@dataclasses.dataclass(frozen=True)
class ToolFamily:
    """How the models of a family write tool calls.

    Attributes:
      name: by which it is chosen.
      opens: the mark that begins a call.
      closes: the mark that ends it, after which content may follow; empty: calls fill the rest of the turn.
      read: the rest of a turn from the mark on, and how marks are spelt in it -> its pieces; None where
        calls have an end of their own, between which and the beginning stands their JSON.
      bare: whether a turn may also be calls alone, without the mark.
      inner: marks within calls.
      thoughts: marks around what is only thought.
    """
    name: str
    opens: str
    closes: str = ""
    read: Callable[[str, Marks], list[Passage]] | None = None
    bare: bool = False
    inner: tuple[str, ...] = ()
    thoughts: tuple[tuple[str, str], ...] = (("<think>", "</think>"),)

    @property
    def marks(self) -> tuple[str, ...]:
        """All of them."""
        ends = [mark for pair in self.thoughts for mark in pair]
        return tuple(filter(None, (self.opens, self.closes, *self.inner, *ends)))


def _separated(text: str, marks: Marks) -> list[Passage]:
    """{"name": ..., "parameters": {...}}, several with semicolons between them. One that is none spoils
    all."""
    body = text.removeprefix(marks[_TAG])
    calls: list[Passage] = []
    at = 0
    try:
        while not calls or at < len(body):
            start = _past_space(body, at + bool(calls))
            end = json_end(body, start)
            calls.append(parse_call(body[start:end]))
            at = _past_space(body, end)
            if body[at:at + 1] not in ("", ";"):
                raise OutsideError("other text follows the call; several calls stand with ; between them.")
    except OutsideError as error:
        return [Malformed(text, str(error))]
    return calls


def _past_space(text: str, start: int) -> int:
    return _SPACE.match(text, start).end()


def _listed(text: str, marks: Marks) -> list[Passage]:
    """[TOOL_CALLS] and a list of calls, or the name of a function, [ARGS] and its arguments; any number."""
    mark = marks[_CALLS]
    pieces: list[Passage] = []
    at = 0
    while at < len(text):
        try:
            calls, end = _block(text, at + len(mark), marks)
            pieces += calls
        except OutsideError as error:
            end = _next(text, mark, at + len(mark))
            pieces.append(Malformed(text[at:end], str(error)))
        at = end
    return pieces


def _block(text: str, start: int, marks: Marks) -> tuple[list[WrittenCall], int]:
    """The calls of a mark that ends at `start`, and where the next mark, or the text's end, is."""
    start = _past_space(text, start)
    if text.startswith("[", start) and not text.startswith(marks[_NAMED], start):
        end = json_end(text, start)
        calls = list(map(read_call, outside.parse(text[start:end], "the list of calls")))
        if not calls:
            raise OutsideError("the list of calls is empty.")
    else:
        call, end = _named(text, start, marks)
        calls = [call]
    end = _past_space(text, end)
    if end < len(text) and not text.startswith(marks[_CALLS], end):
        raise OutsideError("other text follows the call.")
    return calls, end


def _named(text: str, start: int, marks: Marks) -> tuple[WrittenCall, int]:
    none = "".join(SIGNS.values())  # of these stands in a name
    head = re.compile(rf"([^\s\[\]{{}}{none}]+)(?:{re.escape(marks[_NUMBERED])}(\w+))?"
                      rf"(?:{re.escape(marks[_NAMED])})?\s*(?={{)").match(text, start)
    if not head:
        raise OutsideError(f"{_CALLS} is followed neither by a list of calls, nor by the name of a function, "
                           f"{_NAMED} and a JSON object.")
    end = json_end(text, head.end())
    arguments = outside.parse(text[head.end():end], "the arguments")
    return read_call({"name": head[1], "arguments": arguments, "id": head[2]}), end


def _next(text: str, mark: str, start: int) -> int:
    at = text.find(mark, start)
    return at if at >= 0 else len(text)


HERMES = ToolFamily("hermes", "<tool_call>", "</tool_call>")
LLAMA3_JSON = ToolFamily("llama3_json", _TAG, read=_separated, bare=True)
MISTRAL = ToolFamily("mistral", _CALLS, read=_listed, inner=(_NAMED, _NUMBERED),
                     thoughts=(("<think>", "</think>"), ("[THINK]", "[/THINK]")))
FAMILIES = {family.name: family for family in (HERMES, LLAMA3_JSON, MISTRAL)}

# In a text that was drawn, a mark that is a control token of the tokenizer is one private character, so that
# it can be told from its spelling by other tokens, and no stop string can be in it.
SIGNS = {mark: chr(0xF0010 + number)
         for number, mark in enumerate(dict.fromkeys(mark for family in FAMILIES.values()
                                                     for mark in family.marks))}
