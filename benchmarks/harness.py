"""Times two contenders in turn, A B A B, each in a process of its own, and keeps medians and the ratio pair
by pair.

A user runs one of them alone, so each has a machine to itself while it runs: the other's process waits for
its next turn, its threads asleep (what it used meanwhile is measured and kept). Both are set up as their
users would be: all cores, their own threads, no torch in the process of ours. Both get the same allocator
setting (benchmarks/allocator.py): glibc's default gives large buffers back to the kernel after each step, and
fetching them anew costs either side up to its own computing time again.
"""
import dataclasses
import importlib
import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

# OpenMP's threads spin for up to 0.2 s after a product; the other contender must not pay for it
SETTLE_S = 0.3
SIDES = ("ours", "theirs")


@dataclasses.dataclass(frozen=True)
class Case:
    """What to time: `ours(**settings)` and `theirs(**settings, **peer)` of `module` build the two functions
    that are timed."""
    name: str
    peer_name: str
    module: str
    settings: Mapping[str, Any]
    peer: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds are medians; the ratio (ours / theirs, lower is better) is the median over pairs, with its
    range.

    first_ours and first_theirs are what the first, untimed calls returned. idle_share is the most of one core
    that a waiting contender used, as a share of the other's turn.
    """
    name: str
    peer_name: str
    ours_s: float
    theirs_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    first_ours: Any
    first_theirs: Any
    idle_share: float


class Worker:
    """One contender in a process of its own, which builds it, calls it once, and then waits for its turns."""

    def __init__(self, module: str, side: str, settings: Mapping[str, Any]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, module, side, dict(settings)))
        self.process.start()
        theirs.close()
        try:
            self.first = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"benchmark {module}, {side}: the process ended before its first run; its "
                               "error is above") from None

    def turn(self) -> tuple[float, float]:
        """Seconds of one call, and the CPU seconds that the process used since its last turn: while it should
        have been idle."""
        self.pipe.send(True)
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send(False)
        self.process.join()


def _serve(pipe: Connection, module: str, side: str, settings: Mapping[str, Any]) -> None:
    function = getattr(importlib.import_module(module), side)(**settings)
    pipe.send(function())
    used = None
    while pipe.recv():
        idle = 0.0 if used is None else time.process_time() - used
        start = time.perf_counter()
        function()
        seconds = time.perf_counter() - start
        time.sleep(SETTLE_S)
        used = time.process_time()
        pipe.send((seconds, idle))


def run(case: Case, pairs: int = 9) -> Result:
    workers = [
        Worker(case.module, side, settings) for side, settings in zip(SIDES, (case.settings, {
            **case.settings,
            **case.peer
        }))
    ]
    try:
        for worker in workers:
            worker.turn()
        turns = np.array([[worker.turn() for worker in workers] for _ in range(pairs)])
    finally:
        for worker in workers:
            worker.close()
    times = turns[..., 0]
    idle = turns[..., 1]
    ratios = times[:, 0] / times[:, 1]
    ours, theirs = np.median(times, axis=0)
    return Result(case.name, case.peer_name, float(ours), float(theirs), float(np.median(ratios)),
                  float(ratios.min()), float(ratios.max()), workers[0].first, workers[1].first,
                  float((idle / times[:, ::-1]).max()))
