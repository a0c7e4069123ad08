"""Judges of this machine: workers in sandboxes, each with one candidate at a time."""
import collections
import concurrent.futures
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Verdict
from jaxrl_moe.envs.kernels.verdicts.worker import LocalWorker, Worker
from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError


class NoGpuError(UserError):
    """A timing is asked for, and there is no GPU to time on."""


class Pool:
    """A Judge. Who waits for a worker is served in the order of coming.

    Args:
      workers: candidates that are judged at once.
      python: an interpreter that has torch and Triton.
      seconds: that a candidate may take in all.
      trials: how often a candidate is called where the call does not say; None: as the problem says.
      capability: of the GPU that kernels are compiled for, as 90; 0: nothing is compiled.
      way: how the processes are shut in; None: the first way that works.
      make: makes each worker, by its number; None: such as judge under Triton's interpreter.

    Raises:
      UserError: nothing can be shut in on this machine.
      ValueError: fewer than one worker.
    """

    def __init__(self, workers: int = 1, python: str = sys.executable, *, seconds: float = 60.0,
                 trials: Trials | None = None, capability: int = 90, way: Way | None = None,
                 make: Callable[[int], Worker] | None = None):
        if workers < 1:
            raise ValueError(f"workers = {workers}: one is the least")
        if make is None:
            chosen = way or working_way()

            def make(number: int) -> Worker:
                return LocalWorker(python, way=chosen, seconds=seconds, capability=capability)
        self.workers: Sequence[Worker] = [make(number) for number in range(workers)]
        self._trials = trials
        self._door = threading.Lock()
        self._free = collections.deque(self.workers)
        self._waiting: collections.deque[tuple[str | None, concurrent.futures.Future[Worker]]] = (
            collections.deque())
        self._closed = False

    @property
    def gpus(self) -> list[str]:
        """torch's names of the workers' GPUs."""
        return [worker.gpu for worker in self.workers if worker.gpu]

    @property
    def busy(self) -> list[str]:
        """What of `gpus` is at work."""
        with self._door:
            free = list(self._free)
        return [worker.gpu for worker in self.workers if worker.gpu and worker not in free]

    @property
    def waiting(self) -> int:
        """Calls that have no worker yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Returns once all workers can judge, which takes seconds; without it the first verdict takes them.

        Raises:
          EnvError: one cannot.
        """
        with concurrent.futures.ThreadPoolExecutor(len(self.workers)) as threads:
            for started in [threads.submit(worker.start) for worker in self.workers]:
                started.result()

    def verdict(self, problem: Judged, source: str, seed: int, trials: Trials | None = None,
                gpu: str = "") -> Verdict:
        """As Judge.

        Args:
          trials: how often the candidate is called; None: as the pool was told.
          gpu: that it is judged on; empty: any, of those that can do what is asked.

        Raises:
          NoGpuError: it is to be timed, and there is no GPU.
          UserError: there is no such GPU.
        """
        trials = trials or self._trials or Trials(problem.trials, problem.timed)
        if gpu and gpu not in self.gpus:
            raise UserError(f"There is no GPU {gpu!r} here; there is: {named(self.gpus)}.")
        if trials.timed and not self.gpus:
            raise NoGpuError("A timing needs a GPU, and this machine judges under Triton's interpreter.")
        with self._borrowed(gpu or ("" if trials.timed else None)) as worker:
            return worker.verdict(problem, source, seed, trials)

    def renew(self) -> None:
        """Has all workers start their processes anew; verdicts at work begin again."""
        for worker in self.workers:
            worker.renew()

    def close(self) -> None:
        """Ends all workers, and calls that wait or are at work with UserError; a second time it does
        nothing."""
        with self._door:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for _, turn in waiting:
            turn.set_exception(_closed())
        with concurrent.futures.ThreadPoolExecutor(len(self.workers)) as threads:
            for closed in [threads.submit(worker.close) for worker in self.workers]:
                closed.result()

    @contextlib.contextmanager
    def _borrowed(self, wanted: str | None) -> Iterator[Worker]:
        """A worker that nobody else has meanwhile. `wanted` is the GPU that it must have: "" is any, and None
        that it need not have one."""
        turn: concurrent.futures.Future[Worker] = concurrent.futures.Future()
        with self._door:
            if self._closed:
                raise _closed()
            self._waiting.append((wanted, turn))
            self._hand_out()
        worker = turn.result()
        try:
            yield worker
        finally:
            with self._door:
                self._free.append(worker)
                self._hand_out()

    def _hand_out(self) -> None:
        """Gives free workers to those who have waited longest and whom they suit."""
        for entry in list(self._waiting):
            wanted, turn = entry
            worker = next((each for each in self._free if _suits(each, wanted)), None)
            if worker is not None:
                self._free.remove(worker)
                self._waiting.remove(entry)
                turn.set_result(worker)


def _suits(worker: Worker, wanted: str | None) -> bool:
    return wanted is None or bool(worker.gpu) and wanted in ("", worker.gpu)


def _closed() -> UserError:
    return UserError("The judge is closed: it judges no candidate any more.")
