"""What was written in a turn, told apart as it comes: content, thoughts, and calls of tools."""
import re
from collections.abc import Container, Sequence

from jaxrl_moe.data.chat.tools.calls import Malformed, WrittenCall, parse_call
from jaxrl_moe.data.chat.tools.families import HERMES, SIGNS, ToolFamily
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.types import ToolCall

FENCE = "```"
QUOTES = ("`", '"', "'", "\N{LEFT DOUBLE QUOTATION MARK}", "\N{LEFT SINGLE QUOTATION MARK}")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_UNSIGN = str.maketrans({sign: "" for sign in SIGNS.values()})
_SPELL = str.maketrans({sign: mark for mark, sign in SIGNS.items()})
_BARE = re.compile(r'\{\s*"(name|type|id)"\s*:')   # how a call without a mark begins
_PERHAPS_BARE = re.compile(r'\{\s*("\w*("\s*)?)?')  # as long as it may yet


class ToolParser:
    """Splits text, as it comes, into content and tool calls. What is no call stays in the content, and so
    does what only talks of one: in thoughts, in a fenced block of code, or behind a quotation mark.

    White space around calls belongs to neither; so it is held back until it is clear that content goes on.

    Args:
      thinking: whether the prompt ended with <think>, so that the text begins with thoughts.
      family: how calls are written.
      special: marks that are control tokens of the tokenizer: the text has their SIGNS.

    Attributes:
      ids: of the calls so far, those that the model gave them or "".
      malformed: what was meant as a call and is none; its text is content.
    """

    def __init__(self, thinking: bool = False, family: ToolFamily = HERMES,
                 special: Container[str] = frozenset()):
        self.ids: list[str] = []
        self.malformed: list[Malformed] = []
        self._family = family
        self._spelt = {mark: SIGNS[mark] if mark in special else mark for mark in family.marks}
        self._open = self._spelt[family.opens]
        self._close = self._spelt.get(family.closes, "")
        self._thoughts = {self._spelt[begin]: self._spelt[end] for begin, end in family.thoughts}
        self._marks = (self._open, *self._thoughts, FENCE)
        self._mark = re.compile("|".join(map(re.escape, self._marks)))
        self._text = ""
        self._pieces: list[str | ToolCall] = []
        self._next = self._think if thinking else self._content
        self._ends = tuple(self._thoughts.values())  # of thoughts; a prompt may have begun any
        self._sure = True  # that the thoughts are some; a <think> within a line may be spoken of
        self._line = ""    # of the content, as far as it has come
        self._fenced = False
        self._fresh = True  # nothing was said yet, or thoughts alone
        self._after_call = False
        self._space = ""  # before the mark; content after all if what follows is no call

    def add(self, text: str, last: bool) -> list[str | ToolCall]:
        """Returns the pieces of content and the calls that are complete; with `last` all that is left."""
        self._text += text
        self._pieces = []
        while self._next(last):
            pass
        return self._pieces

    def _content(self, last: bool) -> bool:
        """Shows content up to the next mark and says whether there is one."""
        if self._fresh and self._family.bare:
            lead = self._text.lstrip()
            if _BARE.match(lead):
                self._enter_calls(len(self._text) - len(lead))
                return True
            if not last and (not lead or _PERHAPS_BARE.fullmatch(lead)):
                return False
        mark = self._mark.search(self._text)
        if not mark:
            self._show(self._take(len(self._text) if last else self._clear()))
            return False
        line = (self._line + self._text[:mark.start()]).rpartition("\n")[2]
        meant = not self._fenced and (mark[0] in SIGNS.values() or not line.endswith(QUOTES))
        if mark[0] == self._open and meant:
            self._enter_calls(mark.start())
            return True
        self._show(self._take(mark.end()))
        if mark[0] == FENCE:
            self._fenced ^= not line.strip()
        elif mark[0] in self._thoughts and meant:
            self._ends = (self._thoughts[mark[0]],)
            self._sure = not line.strip()
            self._next = self._think
        return True

    def _enter_calls(self, start: int) -> None:
        taken = self._take(start)
        content = taken.rstrip()
        self._space = taken[len(content):]
        self._show(content)
        self._next = self._rest if self._family.read else self._call

    def _think(self, last: bool) -> bool:
        found = [(at, mark) for mark in self._ends if (at := self._text.find(mark)) >= 0]
        if not found and not last:
            if self._sure:
                self._show(self._take(len(self._text) - held_back(self._text, self._ends)))
            return False
        if found or self._sure:
            at, mark = min(found, default=(len(self._text), ""))
            self._show(self._take(at + len(mark)))
            self._fresh = bool(found) and self._sure
        self._next = self._content
        return True

    def _rest(self, last: bool) -> bool:
        """Takes the rest of the turn, which is calls, once all of it is there."""
        if not last:
            return False
        space = self._space
        for piece in self._family.read(self._take(len(self._text)), self._spelt):
            if isinstance(piece, WrittenCall):
                self._call_done(piece)
            else:
                self.malformed.append(Malformed(*(text.translate(_SPELL) for text in piece)))
                self._show(space + piece.text)
            space = ""
        self._next = self._content
        return True

    def _call(self, last: bool) -> bool:
        """Takes the call that the text begins with; if it is none, its tag is content."""
        body = self._body()
        if body is None and not last:
            return False
        self._next = self._content
        try:
            call = parse_call(self._text[len(self._open):] if body is None else body)
        except OutsideError as error:
            self._note(body, error)
            self._show(self._space + self._take(len(self._open)))
            return True
        end = len(self._text) if body is None else len(self._open) + len(body) + len(self._close)
        self._take(end)
        self._call_done(call)
        return True

    def _body(self) -> str | None:
        """What stands between the tags; None as long as the closing one, outside of strings, is not there."""
        end = self._text.find(self._close)
        while end >= 0:
            body = self._text[len(self._open):end]
            if _ESCAPED.sub("", body).count('"') % 2 == 0:
                return body
            end = self._text.find(self._close, end + 1)
        return None

    def _note(self, body: str | None, error: OutsideError) -> None:
        """Remembers what is no call, up to where the next may begin; not a tag that is only mentioned."""
        start = len(self._open)
        meant = body is not None or self._text[start:].lstrip().startswith(("{", "["))
        ends = [self._text.find(self._open, start), len(self._text)]
        if body is not None:
            ends.append(start + len(body) + len(self._close))
        if meant:
            text = self._text[:min(end for end in ends if end >= 0)]
            self.malformed.append(Malformed(text.translate(_SPELL), str(error)))

    def _call_done(self, call: WrittenCall) -> None:
        self._pieces.append(call.call)
        self.ids.append(call.id)
        self._after_call = True
        self._fresh = False
        self._line = ""

    def _clear(self) -> int:
        """Where the text ends that certainly is content."""
        end = len(self._text) - held_back(self._text, self._marks)
        return len(self._text[:end].rstrip())

    def _take(self, end: int) -> str:
        taken = self._text[:end]
        self._text = self._text[end:]
        return taken

    def _show(self, text: str) -> None:
        text = text.translate(_UNSIGN)
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        if text:
            self._pieces.append(text)
            self._line = (self._line + text).rpartition("\n")[2]
            self._fresh = self._fresh and not text.strip()


def held_back(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of the text with which one of the marks begins."""
    longest = min(len(text), max(map(len, marks), default=0))
    return next((n for n in range(longest, 0, -1) if any(mark.startswith(text[-n:]) for mark in marks)), 0)
