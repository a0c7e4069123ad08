"""One of those who judge: its own processes in sandboxes, which are started anew where they have ended."""
import dataclasses
import math
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from jaxrl_moe.envs.kernels.verdicts.baselines import Baseline, Baselines
from jaxrl_moe.envs.kernels.verdicts.evaluator import Evaluator
from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.timing import QUARANTINE
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Verdict
from jaxrl_moe.envs.kernels.verdicts.warmed import GoneError, Mode, Warmed
from jaxrl_moe.sandbox.life import SandboxError
from jaxrl_moe.sandbox.records import Bounds
from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status, UserError

# Of a process that has torch and Triton, with its fork and the threads of both.
BOUNDS = Bounds(memory_mib=2048, processes=256, seconds=math.inf, output_bytes=2**40)
GPU_BOUNDS = Bounds(memory_mib=32768, processes=1024, seconds=math.inf, output_bytes=2**40)
START_SECONDS = 60.0  # for a first fork, beside the start itself
_AGAIN = 0.1  # seconds between two tries to end what is at work


class Worker(Protocol):
    """One thread has it judge at a time; others may renew or close it meanwhile.

    Attributes:
      gpu: torch's name of its GPU, as "cuda:0"; empty: it has none, and times nothing.
    """
    gpu: str

    def start(self) -> None:
        """Returns once it can judge; raises EnvError where it cannot."""

    def verdict(self, problem: Judged, source: str, seed: int, trials: Trials) -> Verdict:
        """As Judge; the problem's own trials do not count."""

    def renew(self) -> None:
        """Its processes are killed, and others started when they are needed; a verdict at work begins
        again."""

    def close(self) -> None:
        """Nothing of it is left; a verdict at work raises UserError."""


class LocalWorker:
    """Judges on a GPU; without one under Triton's interpreter, and compiles for a GPU that need not be here.

    Args:
      python: an interpreter that has torch and Triton.
      way: how its processes are shut in.
      seconds: that a candidate may take in all.
      capability: of the GPU that is compiled for, as 90; 0: nothing is compiled.
      gpu: torch's name of the GPU, as "cuda:1"; empty: there is none.
      baselines: where is kept how long references take there; None: they are measured for each verdict.
      bounds: of each of its processes; None: those for what there is.
    """

    def __init__(self, python: str = sys.executable, *, way: Way, seconds: float = 60.0, capability: int = 90,
                 gpu: str = "", baselines: Baselines | None = None, bounds: Bounds | None = None):
        self.gpu = gpu
        self._baselines = baselines or Baselines(None, gpu, "")
        bounds = bounds or (GPU_BOUNDS if gpu else BOUNDS)
        modes: tuple[Mode, ...] = ("reference", "candidate", *["compiler"] * bool(capability))
        device = "cuda" if gpu else "cpu"  # the only one that they see
        seen = {"CUDA_VISIBLE_DEVICES": gpu.removeprefix("cuda:")} if gpu else {}
        self._processes = {mode: Warmed(mode, python, device, bounds, way, seen) for mode in modes}
        self._evaluator = Evaluator(self._processes["reference"], self._processes["candidate"],
                                    self._processes.get("compiler"), capability, seconds)
        self._at_work = threading.Lock()
        self._door = threading.Lock()  # of what renew and close say to who is at work
        self._renewed = 0
        self._stale = False
        self._closed = False

    @property
    def processes(self) -> Sequence[Warmed]:
        return list(self._processes.values())

    def start(self) -> None:
        with self._at_work:
            self._mend()

    def verdict(self, problem: Judged, source: str, seed: int, trials: Trials) -> Verdict:
        if trials.timed and not self.gpu:
            raise UserError("It is judged under Triton's interpreter, which has no speed to be timed.")
        problem = dataclasses.replace(problem, trials=trials.correct, timed=trials.timed)
        while True:
            with self._at_work:
                begun = self._mend()
                try:
                    verdict = self._evaluator.verdict(problem, source, seed)
                    verdict = self._held_against(problem, seed, verdict)
                except (GoneError, SandboxError, OSError) as error:
                    if self._untouched(begun):
                        raise _not_judged(error) from error
                    continue
            if self._untouched(begun):
                return verdict

    def renew(self) -> None:
        with self._door:
            self._renewed += 1
            self._stale = True
            for each in self.processes:
                each.cut()

    def close(self) -> None:
        with self._door:
            self._closed = True
        while not self._at_work.acquire(timeout=_AGAIN):
            for each in self.processes:
                each.cut()
        try:
            for each in self.processes:
                each.close()
        finally:
            self._at_work.release()

    def _held_against(self, problem: Judged, seed: int, verdict: Verdict) -> Verdict:
        """A verdict with how long the reference takes, where the candidate was timed."""
        if verdict.timing is None:
            return verdict

        def measure(problem: Judged) -> Baseline:
            return _measured(self._evaluator, problem, seed)
        known = self._baselines.get(problem, measure)
        timing = dataclasses.replace(verdict.timing, eager_ms=known.eager_ms, compiled_ms=known.compiled_ms,
                                     missing=known.missing)
        beyond = timing.speedup is not None and timing.speedup > QUARANTINE
        return dataclasses.replace(verdict, timing=timing, quarantined=beyond)

    def _mend(self) -> int:
        """Starts what does not run; how often it was renewed until then.

        Raises:
          EnvError: it cannot be started.
          UserError: it is closed.
        """
        while True:
            with self._door:
                self._open()
                begun = self._renewed
                stale = self._stale
            try:
                for each in self.processes:
                    if stale or not each.running:
                        each.close()
                        with each.use(START_SECONDS):
                            pass
            except (GoneError, SandboxError, OSError) as error:
                if self._untouched(begun):
                    raise _not_judged(error) from error
                continue
            if self._untouched(begun):
                self._stale = False
                return begun

    def _untouched(self, begun: int) -> bool:
        """Whether nobody has renewed it since; raises UserError where it was closed."""
        with self._door:
            self._open()
            return self._renewed == begun

    def _open(self) -> None:
        if self._closed:
            raise UserError("The judge is closed: it judges no candidate any more.")


def _measured(evaluator: Evaluator, problem: Judged, seed: int) -> Baseline:
    """Both of a reference's times, as far as they can be had."""
    times: dict[bool, float | None] = {False: None, True: None}
    missing = []
    for compiled, name in ((False, "under torch"), (True, "under torch.compile")):
        try:
            times[compiled] = evaluator.baseline(problem, seed, compiled, problem.timed).median
        except (UserError, GoneError) as error:
            missing.append(f"{name} the reference could not be timed: {cut(escaped(str(error)))}")
    return Baseline(times[False], times[True], "; ".join(missing))


def _not_judged(error: Exception) -> EnvError:
    return EnvError(Status.STEP_FAILED, f"A candidate could not be judged, as the sandbox failed: {error}.")
