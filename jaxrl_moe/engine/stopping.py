"""Finding a stop string in a completion that grows by a few tokens at a time."""
from collections.abc import Callable, Sequence

# A character can be spread over four byte-level tokens, so a window may open in the middle of one.
MARGIN = 4


def stop_cut(ids: Sequence[int], checked: int, strings: Sequence[str],
             detokenise: Callable[[list[int]], str]) -> int | None:
    """Returns how many tokens to keep, so that the last one completes a stop string; None when there is none.

    Only a window is decoded: each token of a stop string adds at least one byte to it, so one that ends after
    token `checked` begins at most as many tokens earlier as the longest stop string has bytes.

    Args:
      ids: all tokens of the completion so far.
      checked: how many of them were searched before.
    """
    first = max(0, checked - max(len(string.encode()) for string in strings) - MARGIN)
    window = list(ids[first:])
    if not _holds(detokenise(window), strings):
        return None
    for end in range(checked - first + 1, len(window) + 1):
        if _holds(detokenise(window[:end]), strings):
            return first + end
    return None


def _holds(text: str, strings: Sequence[str]):
    return any(string in text for string in strings)
