"""What a misspelt name most likely means."""
import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of the known names that is most like it; empty where none is."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The sentence that names the nearest, with `prefix` before the name and a space before all; empty where
    none is near."""
    near = nearest(name, known)
    return f" Did you mean {prefix + near!r}?" if near else ""
