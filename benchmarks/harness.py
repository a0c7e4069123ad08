"""Times two contenders in turn, A B A B, and keeps medians and the ratio pair by pair."""
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """What to time: ours against a peer. Both are called once before timing, and return something comparable."""
    name: str
    ours: Callable[[], Any]
    peer_name: str
    theirs: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds are medians; the ratio (ours / theirs, lower is better) is the median over pairs, with its range."""
    name: str
    peer_name: str
    ours_s: float
    theirs_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    first_ours: Any
    first_theirs: Any


SETTLE_S = 0.3  # OpenMP's threads spin for up to 0.2 s after a product; the next contender must not pay for it


def seconds(function) -> float:
    time.sleep(SETTLE_S)
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def run(case: Case, pairs: int = 9) -> Result:
    first_ours, first_theirs = case.ours(), case.theirs()
    times = np.array([(seconds(case.ours), seconds(case.theirs)) for _ in range(pairs)])
    ratios = times[:, 0] / times[:, 1]
    ours, theirs = np.median(times, axis=0)
    return Result(case.name, case.peer_name, float(ours), float(theirs), float(np.median(ratios)), float(ratios.min()),
                  float(ratios.max()), first_ours, first_theirs)
