"""Errors of the bridges: one paragraph that names the tensor, the file and the mend."""
from collections.abc import Sequence

from jaxrl_moe.types import UserError

SHOWN = 8  # problems spelled out; the rest are counted


class BridgeError(UserError):
    """A checkpoint, an adapter or an input file that cannot be read or written as asked."""


def listed(problems: Sequence[str]) -> str:
    """Joins problems into one sentence, the first few in full."""
    rest = len(problems) - SHOWN
    return "; ".join(problems[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
