"""Times device functions: warmed up, over several sets of random inputs in turn, medians of many repeats."""
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# a repeat holds as many calls as this takes, queued behind each other: a launch then costs nothing
REPEAT_S = 0.02
REPEATS = 7, 60  # at least, at most


class Timed(NamedTuple):
    """seconds: the median of a call; spread: of the medians of the first and the second half, relative; less
    than that is noise."""
    seconds: float
    spread: float


def timed(function: Callable[..., Any], inputs: Sequence[tuple], seconds: float) -> Timed:
    """Times function(*inputs[i]) for about so many seconds, compilation and warm-up apart.

    Args:
      function: compiled by JAX; what it returns is dropped.
      inputs: sets of arguments, used in turn, so that no call finds its own in a cache.
    """
    for arguments in inputs:
        jax.block_until_ready(function(*arguments))
    estimate = max(_once(function, inputs, 2 * len(inputs)), 1e-7)
    calls = max(1, math.ceil(REPEAT_S / estimate))
    repeats = int(np.clip(seconds / (calls * estimate), *REPEATS))
    found = [_once(function, inputs, calls) for _ in range(repeats)]
    first = np.median(found[:repeats // 2])
    second = np.median(found[repeats // 2:])
    return Timed(float(np.median(found)), float(abs(first - second) / np.median(found)))


def _once(function, inputs, calls: int) -> float:
    """Seconds a call, the queue empty at either end."""
    turns = itertools.islice(itertools.cycle(inputs), calls)
    start = time.perf_counter()
    out = None
    for arguments in turns:
        out = function(*arguments)
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / calls
