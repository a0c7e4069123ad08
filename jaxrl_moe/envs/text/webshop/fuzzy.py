"""How alike two texts are: WebShop asks thefuzz 0.19 for token_set_ratio, which without further packages
rests on difflib. Written from what it computes, so that a score needs no package."""
import difflib
import functools
import re

ALIKE = 85  # a ratio above it is a match
_SEPARATORS = re.compile(r"\W")
_DROPPED = dict.fromkeys(range(128, 256))


@functools.lru_cache(2**16)
def token_set_ratio(one: str, other: str) -> int:
    """How alike the sets of words of two texts are, from 0 to 100: 100 where one holds all words of the
    other.

    Compared are the words in common, and these with the rest of either text, each sorted; the best counts.
    """
    words = [set(_processed(text).split()) for text in (one, other)]
    if not all(words):
        return 0
    common = _joined(words[0] & words[1])
    first, second = (f"{common} {_joined(words[each] - words[1 - each])}".strip() for each in (0, 1))
    return max(_ratio(common, first), _ratio(common, second), _ratio(first, second))


def is_alike(one: str, other: str) -> bool:
    """Whether WebShop takes them for the same."""
    return token_set_ratio(one, other) > ALIKE


def _processed(text: str) -> str:
    return _SEPARATORS.sub(" ", text.translate(_DROPPED)).lower().strip()


def _joined(words: set[str]) -> str:
    return " ".join(sorted(words))


def _ratio(one: str, other: str) -> int:
    if not one or not other:
        return 0
    return round(100 * difflib.SequenceMatcher(None, one, other).ratio())
