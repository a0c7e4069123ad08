"""What watches a run: compilations, memory, the profiler's window, and numbers that are no longer numbers."""
import math
import pathlib
import resource
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrl_moe import log_files
from jaxrl_moe.config import LoggingSection
from jaxrl_moe.hosts import hosts
from jaxrl_moe.types import UserError

_COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts XLA compilations and their seconds; after the first steps any further one is a recompilation."""

    def __init__(self):
        self.count = 0
        self.seconds = 0.0
        self._count_before = 0
        self._seconds_before = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **_: Any) -> None:
        if event == _COMPILED:
            self.count += 1
            self.seconds += duration

    def metrics(self) -> dict[str, float]:
        """Compilations and their seconds since the last call."""
        new = {"perf/compiles": float(self.count - self._count_before),
               "perf/compile_s": self.seconds - self._seconds_before}
        self._count_before = self.count
        self._seconds_before = self.seconds
        return new

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)


def peak_bytes() -> float:
    """Highest memory use so far: of the accelerator where it keeps count, else of the process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


class ProfilerWindow:
    """Opens jax.profiler at logging.profile_start and closes it profile_steps later; view it with XProf."""

    def __init__(self, section: LoggingSection, folder: pathlib.Path):
        self._first = section.profile_start
        self._last = section.profile_start + section.profile_steps
        self._folder = folder
        self._open = False

    def before(self, step: int) -> None:
        """To be called before step `step` (counted from 0)."""
        if step == self._first and hosts.leads():
            jax.profiler.start_trace(str(self._folder))
            self._open = True
        elif step >= self._last:
            self.close()

    def close(self) -> None:
        if self._open:
            jax.profiler.stop_trace()
            self._open = False


def _save(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    with log_files.replacing(path) as file:
        np.savez(file, **arrays)


class NonFiniteError(UserError):
    """A loss or gradient that is infinite or not a number."""


def refuse_non_finite(step: int, metrics: Mapping[str, float], micro_batches: Sequence,
                      folder: pathlib.Path) -> None:
    """Stops the run if a metric of the update is not finite, and dumps the batch that led there.

    Raises:
      NonFiniteError: naming the metrics and the dump, an npz with the arrays of each micro-batch.
    """
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if not wrong:
        return
    path = folder / f"non_finite_step_{step}.npz"
    arrays = {
        f"micro_batch_{number}/{name}": np.asarray(value) for number, micro_batch in enumerate(micro_batches)
        for name, value in vars(micro_batch).items() if hasattr(value, "shape")
    }
    hosts.on_leader(lambda: _save(path, arrays))
    raise NonFiniteError(
        f"Step {step}: {', '.join(f'{name} = {value}' for name, value in wrong.items())}, so the run stops "
        f"before more is spoilt. The batch lies in {path}; the weights of this step were not saved. Look "
        "there for extreme log-probs or advantages, lower optimizer.learning_rate or optimizer.clip_norm, "
        "and start again: the run goes on from its newest checkpoint.")
