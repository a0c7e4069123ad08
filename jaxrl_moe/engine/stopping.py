"""Finding a stop string in a completion that grows by a few tokens at a time."""
from collections.abc import Callable, Sequence

HALF = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of bytes that are no character, or not yet
# Bytes of a character, each of which may be a token: of so many starts of a window, one is at a character.
MARGIN = 4

Detokenise = Callable[[list[int]], str]


def stop_cut(ids: Sequence[int], checked: int, strings: Sequence[str],
             detokenise: Detokenise) -> int | None:
    """Returns how many tokens to keep, so that the text of these, decoded together, is the first to hold a
    stop string; None when there is none.

    Windows are decoded to look for it, and the whole to be sure: a window's text is that of its place in the
    whole but for its first character, which may lack bytes or white space; and where bytes are tokens, some
    detokenisers give up the characters beside one that is not whole.

    Args:
      ids: all tokens of the completion so far.
      checked: how many of them were searched before.
    """
    first = _window_start(ids, checked, max(len(string.encode()) for string in strings), detokenise)
    text = detokenise(list(ids[first:]))
    if HALF not in text and not _holds(text, strings):
        return None
    for end in range(checked + 1, len(ids) + 1):
        starts = range(max(0, first - MARGIN + 1), first + 1)
        near = any(_holds(detokenise(list(ids[start:end])), strings) for start in starts)
        if near and _holds(detokenise(list(ids[:end])), strings):
            return end
    return None


def _window_start(ids: Sequence[int], checked: int, longest: int, detokenise: Detokenise) -> int:
    """A token from which on the checked ones have the longest stop string's bytes, and one character more.
    Special tokens have no text, so it may be far back."""
    width = longest + 1
    while width < checked and len(detokenise(list(ids[checked - width:checked]))) <= longest:
        width *= 2
    return max(0, checked - width)


def _holds(text: str, strings: Sequence[str]) -> bool:
    return any(string in text for string in strings)
