"""How long a candidate and a reference take on a GPU: by its events within their sandboxes, held against
this process's own clock, on fresh inputs for each call, and with the output of each call compared."""
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.warmed import Answer, Warmed

WARM_UPS = 3
QUARANTINE = 10.0  # times as fast as the reference: nobody believes that unseen
_TOGETHER_MS = 20.0  # of calls in a row, by which a clock within is held against the one without
_MOST_CALLS = 1000
_TRIES = 5
_DISBELIEF = 1.5     # times as long by our clock as by theirs, and
_OVERHEAD_MS = 0.05  # for a launch beside: that much is let pass


class ClockError(Exception):
    """A process says that its calls take less than they can."""


@dataclasses.dataclass(frozen=True)
class Milliseconds:
    """Of one call, over several."""
    median: float
    least: float
    most: float
    calls: int


def timed(program: Warmed, draw: Callable[[int], Answer], check: Callable[[Answer, Answer], None], calls: int,
          **variant: Any) -> Milliseconds:
    """Times so many calls, after warm-ups.

    Args:
      draw: makes the inputs and what is expected of each call, by its number.
      check: is told of both, and raises where the output is not what it should be.
      variant: what `go` is told beside.

    Raises:
      ClockError: its clock and ours do not agree.
      GoneError: it has ended.
    """
    taken = []
    for number in range(WARM_UPS + calls):
        made = draw(number)
        milliseconds = _go(program, made, 1, variant)[0]
        check(made, _said(program.ask("tell", _most(made))))
        if number >= WARM_UPS:
            taken.append(milliseconds)
    found = Milliseconds(statistics.median(taken), min(taken), max(taken), calls)
    _believed(program, draw(WARM_UPS + calls), found.median, variant)
    return found


def _go(program: Warmed, made: Answer, calls: int, variant: dict[str, Any]) -> tuple[float, float]:
    """(milliseconds that it says, milliseconds by our clock)."""
    sent = made.parts[:made.head["input_parts"]]
    _said(program.ask("place", 0, sent, inputs=made.head["inputs"]))
    begin = time.perf_counter_ns()
    answer = _said(program.ask("go", 0, calls=calls, **variant))
    ours = (time.perf_counter_ns() - begin) / 1e6
    theirs = answer.head.get("ms")
    if not isinstance(theirs, float) or not 0 < theirs < float("inf"):
        raise ClockError(f"it says that a call takes {theirs!r} ms")
    return theirs, ours


def _believed(program: Warmed, made: Answer, median: float, variant: dict[str, Any]) -> None:
    """By our clock one call and many in a row differ by what the calls take, whatever a message takes.
    Others who use the machine make calls longer, and none shorter: so the shortest of several tries
    counts."""
    many = max(2, min(_MOST_CALLS, int(_TOGETHER_MS / median)))
    one = min(_go(program, made, 1, variant)[1] for _ in range(_TRIES))
    each = min(_go(program, made, 1 + many, variant)[1] - one for _ in range(_TRIES)) / many
    if each > _DISBELIEF * median + _OVERHEAD_MS:
        raise ClockError(f"by its clock a call takes {median:.4g} ms, and by ours {each:.4g} ms")


def _most(made: Answer) -> int:
    return 2 * sum(map(len, made.parts)) + 2**16


class FailedError(Exception):
    """A call that was to be timed raised."""


def _said(answer: Answer) -> Answer:
    if "error" in answer.head:
        raise FailedError(str(answer.head["error"]))
    return answer
