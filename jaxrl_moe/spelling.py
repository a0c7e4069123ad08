"""What a misspelt name most likely means; and what people wrote, as messages show it."""
import difflib
from collections.abc import Iterable

LONGEST = 200  # characters of what somebody wrote in a message


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of the known names that is most like it; empty where none is."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The sentence that names the nearest, with `prefix` before the name and a space before all; empty where
    none is near."""
    near = nearest(name, known)
    return f" Did you mean {prefix + near!r}?" if near else ""


def cut(text: str, longest: int = LONGEST) -> str:
    """The text without its middle where it is longer."""
    return text if len(text) <= longest else f"{text[:longest * 3 // 4 - 3]}...{text[-(longest // 4):]}"


def escaped(text: str) -> str:
    """The text with escapes in place of what terminals and logs do not show, such as control characters."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def quoted(value: object) -> str:
    """Its repr, cut."""
    return cut(repr(value))


def named(names: Iterable[str]) -> str:
    """Names that somebody else gave, with commas between; "none" where there are none."""
    return cut(escaped(", ".join(map(str, names)))) or "none"
