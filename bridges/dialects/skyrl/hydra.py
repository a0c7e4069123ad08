"""The values of Hydra's dotted overrides, KEY=VALUE, by the grammar that Hydra documents; no sweeps and no
functions, which make several runs of one."""
import dataclasses
import re
from typing import Any

from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

_KEY = re.compile(r"(?P<mode>\+\+|\+|~)?(?P<key>[A-Za-z_][\w\-]*(?:[./][\w\-]+)*(?:@[\w.]*)?)"
                  r"(?:=(?P<value>.*))?$", re.DOTALL)
_INT = re.compile(r"[+-]?(0|[1-9](_?\d)*)$")
_FLOAT = re.compile(r"[+-]?(((\d(_?\d)*)?\.\d(_?\d)*|\d(_?\d)*\.)([eE][+-]?\d(_?\d)*)?"
                    r"|(0|[1-9](_?\d)*)[eE][+-]?\d(_?\d)*|inf|nan)$", re.IGNORECASE)
_BARE = re.compile(r"[\w/\-+.$%*@?|:\s]|\\.", re.ASCII | re.DOTALL)   # letters of a text without quotes
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_DEEPEST = 32


@dataclasses.dataclass(frozen=True)
class Override:
    """A KEY=VALUE of a command line.

    Attributes:
      text: as it was written.
      mode: "" for a key that there is, "+" for a new one, "++" for either, "~" to take one away.
      key: dotted.
      value: typed; None under "~" without a value.
      has_value: whether there is one.
    """
    text: str
    mode: str
    key: str
    value: Any
    has_value: bool


def override(text: str) -> Override:
    """Reads a word of a command line. Raises UserError: it is no override."""
    match = _KEY.match(text)
    if match is None or (match["value"] is None and match["mode"] != "~"):
        raise UserError(f"{quoted(text)} is no override: write KEY=VALUE, +KEY=VALUE, ++KEY=VALUE or ~KEY, "
                        "such as trainer.train_batch_size=64.")
    if "@" in match["key"] or "/" in match["key"]:
        raise UserError(f"{quoted(text)} chooses among files of Hydra's groups, which are not at hand: give "
                        "their keys one by one, as section.key=value.")
    value = None if match["value"] is None else _Reader(match["value"], text).whole()
    return Override(text, match["mode"] or "", match["key"], value, match["value"] is not None)


class _Reader:
    """Reads one value."""

    def __init__(self, text: str, word: str):
        self._text = text
        self._word = word
        self._at = 0

    def whole(self) -> Any:
        """The value that the text is; an empty one is an empty text."""
        if not self._text.strip():
            return ""
        value = self._value(0)
        self._blanks()
        if self._at < len(self._text):
            letter = self._text[self._at]
            what = ("commas on the outside try several values, which is a run each" if letter == "," else
                    f"{letter!r} cannot stand there without quotes or a backslash")
            raise self._error(what)
        return value

    def _value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self._error("it is nested too deeply")
        self._blanks()
        letter = self._text[self._at:self._at + 1]
        if letter == "[":
            return self._items("]", lambda: self._value(depth + 1))
        if letter == "{":
            return dict(self._items("}", lambda: self._pair(depth + 1)))
        if letter in ("'", '"'):
            return self._quoted(letter)
        return self._primitive()

    def _items(self, closing: str, read: Any) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        self._blanks()
        if self._take(closing):
            return items
        while True:
            items.append(read())
            self._blanks()
            if self._take(closing):
                return items
            if not self._take(","):
                raise self._error(f"a comma or {closing!r} is missing")

    def _pair(self, depth: int) -> tuple[Any, Any]:
        self._blanks()
        key = self._primitive(colons=False)
        self._blanks()
        if not self._take(":"):
            raise self._error("a key of a mapping needs a colon")
        return key, self._value(depth)

    def _quoted(self, quote: str) -> str:
        """A text in quotes; backslashes just before such a quote escape each other and it, others stay."""
        closed = re.compile(rf"{quote}(?P<inner>(?:[^\\{quote}]|\\.)*){quote}", re.DOTALL)
        match = closed.match(self._text, self._at)
        if match is None:
            raise self._error("a quote does not close")
        self._at = match.end()
        return re.sub(rf"(\\+)(?={quote}|$)", lambda run: "\\" * (len(run[1]) // 2), match["inner"])

    def _primitive(self, *, colons: bool = True) -> Any:
        """A number, a boolean, null, or a text without quotes."""
        raw = []
        while self._at < len(self._text):
            interpolation = _INTERPOLATION.match(self._text, self._at)
            bare = interpolation or _BARE.match(self._text, self._at)
            if bare is None or (bare[0] == ":" and not colons):
                break
            raw.append(bare[0])
            self._at = bare.end()
        if self._text[self._at:self._at + 1] == "(":
            raise self._error("functions such as choice(...) or range(...) make several runs of one, or "
                              "values that nobody sees")
        text = "".join(raw).strip()
        if not text:
            raise self._error("a value is missing")
        return _typed(text)

    def _blanks(self) -> None:
        while self._text[self._at:self._at + 1].isspace():
            self._at += 1

    def _take(self, letter: str) -> bool:
        taken = self._text[self._at:self._at + 1] == letter
        self._at += taken
        return taken

    def _error(self, why: str) -> UserError:
        return UserError(f"The override {quoted(self._word)} cannot be read: {why}. Put texts into quotes, "
                         "as KEY='a, b', within quotes of the shell.")


def _typed(text: str) -> Any:
    low = text.lower()
    if low in ("true", "false"):
        return low == "true"
    if low == "null":
        return None
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
