"""Rewards of tasks with ranges of their own, brought to one scale."""
import dataclasses
from collections.abc import Sequence

from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.types import Prompt, Trace

TOLERANCE = 1e-6  # of the range, by which sums of rewards may miss it as they are rounded


def scaled(prompt: Prompt, span: tuple[float, float], total: float,
           traces: Sequence[Trace]) -> tuple[float, list[Trace]]:
    """An episode's rewards, brought from a range to 0..1.

    Each turn's reward is divided by the width of the range, and the first turn's has added what the range
    begins below 0, so that the turns sum to the whole. That is the same for all episodes of a group.

    Args:
      prompt: for messages.
      span: least and most of the sum, as its task says them.
      total: the sum.
      traces: the episode's, in order.

    Raises:
      GradeError: the sum lies outside: the range is wrong, and a cut would hide it.
    """
    low, high = span
    width = high - low
    if not low - TOLERANCE * width <= total <= high + TOLERANCE * width:
        raise GradeError(f"{prompt.origin}: the episode's rewards sum to {total:g}, and its task says that "
                         f"they lie from {low:g} to {high:g}, by which they are brought to 0..1: correct the "
                         "task's score_range, or set normalise=false in env.name.")
    share = min(max((total - low) / width, 0.0), 1.0)
    first = next((number for number, trace in enumerate(traces) if trace.turns), -1)
    return share, [_scaled(trace, width, -low if number == first else 0.0)
                   for number, trace in enumerate(traces)]


def _scaled(trace: Trace, width: float, begin: float) -> Trace:
    turns = [dataclasses.replace(turn, reward=(turn.reward + (0.0 if number else begin)) / width)
             for number, turn in enumerate(trace.turns)]
    return dataclasses.replace(trace, turns=tuple(turns))
