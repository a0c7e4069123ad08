"""How long calls take, on a GPU by its own events. Runs in the sandbox; needs torch."""
import time
from collections.abc import Callable
from typing import Any

import torch

_FLUSHED = 2**28  # bytes, several times the L2 cache of any GPU


class Clock:
    """Of one device; what it is asked first makes the device ready."""

    def __init__(self, device: str):
        self._gpu = device != "cpu"
        self._flush = torch.empty(_FLUSHED, dtype=torch.uint8, device=device) if self._gpu else None

    def time(self, function: Callable[[], Any], calls: int) -> tuple[float, Any]:
        """(milliseconds of all the calls, what the last one gave), from a cache that holds none of their
        data to the end of all that they have begun, on any stream."""
        if not self._gpu:
            begin = time.perf_counter_ns()
            output = _called(function, calls)
            return (time.perf_counter_ns() - begin) / 1e6, output
        self._flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        output = _called(function, calls)
        torch.cuda.synchronize()  # before the event, which would not wait for another stream than this one
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end), output


def _called(function: Callable[[], Any], calls: int) -> Any:
    output = None
    for _ in range(calls):
        output = function()
    return output
