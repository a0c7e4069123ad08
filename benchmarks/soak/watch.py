"""A run's process seen from outside, a few times a second: memory, threads, open files, and what lies in its
folder."""
import dataclasses
import json
import os
import pathlib
import statistics
import time
from collections.abc import Sequence

# resident memory may grow by so much, for what allocators keep
MEMORY_SHARE = 0.05
MEMORY_BYTES = 32 * 2**20
FILES = 4  # more that may be open: a checkpoint that is being written has some
# likewise: asyncio's pool of threads fills as clients come
THREADS = FILES + min(32, (os.cpu_count() or 1) + 4)
SETTLED = 5  # steps after which a process has met everything once
SERVED_S = 120.0  # that clients take to ask prompts of every length, for each of which programs are compiled
LEAST = 24  # samples without which nothing is said about growth
TAIL = 1 << 16  # bytes of a log that surely hold its last whole line


@dataclasses.dataclass(frozen=True)
class Sample:
    """seconds: since the process started; step: the last one in its log; memory: resident bytes; checkpoints:
    whole ones on disk."""
    seconds: float
    step: int
    memory: int
    threads: int
    files: int
    checkpoints: int


class Watch:
    """Samples of one process, from its start to its end.

    Args:
      pid: of the process.
      run_dir: of the run.
    """

    def __init__(self, pid: int, run_dir: pathlib.Path):
        self.samples: list[Sample] = []
        self._process = pathlib.Path("/proc") / str(pid)
        self._run_dir = run_dir
        self._start = time.monotonic()
        self._moved = self._start

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def still(self) -> float:
        """Seconds since the log last had another step."""
        return time.monotonic() - self._moved

    def look(self) -> int:
        """Takes a sample, unless the process is gone; returns the last step in the log, 0 before the
        first."""
        step = last_step(self._run_dir / "metrics.jsonl")
        if not self.samples or self.samples[-1].step != step:
            self._moved = time.monotonic()
        try:
            told = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
            files = len(os.listdir(self._process / "fd"))
        except OSError:  # it has just ended
            return step
        if "VmRSS" in told:  # a process that has ended and was not waited for has none
            memory = int(told["VmRSS"].split()[0]) * 1024
            kept = len(checkpoints(self._run_dir))
            self.samples.append(Sample(self.seconds, step, memory, int(told["Threads"]), files, kept))
        return step


def last_step(path: pathlib.Path) -> int:
    """The step of a log's last whole line; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL))
        lines = log.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def checkpoints(run_dir: pathlib.Path) -> list[pathlib.Path]:
    """The whole checkpoints of a run."""
    return [path for path in (run_dir / "checkpoints").glob("*") if path.name.isdigit()]


def left_behind(run_dir: pathlib.Path) -> set[str]:
    """What lies in a run's folder, but for whole checkpoints, the names of TensorBoard's files, and what each
    start sets aside of the logs on purpose."""
    whole = set(checkpoints(run_dir))
    files = [path for path in run_dir.rglob("*") if path.is_file() and not whole.intersection(path.parents)]
    every = {str(path.relative_to(run_dir)) for path in files}
    names = {name for name in every if ".after_step_" not in name and ".earlier" not in name}
    return {"tensorboard" if name.startswith("tensorboard/") else name for name in names}


def growth(samples: Sequence[Sample], last: int, served: bool = False) -> dict[str, tuple[float, float]]:
    """{figure: (median of the second quarter, of the last quarter)} of one process between its first steps
    and step `last`; of one that serves clients too, once it has met what they ask.

    Empty where it did not live long enough.
    """
    steps = [sample.step for sample in samples]
    first = min(steps, default=0)
    return quarters([sample for sample in samples if first + SETTLED <= sample.step < last
                     and sample.seconds >= SERVED_S * served])


def quarters(settled: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """{figure: (median of the second quarter, of the last quarter)} of samples; empty where they are few."""
    if len(settled) < LEAST:
        return {}
    quarter = len(settled) // 4
    early = settled[quarter:2 * quarter]
    late = settled[-quarter:]
    return {name: (median(early, name), median(late, name)) for name in ("memory", "threads", "files")}


def median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def grown(figures: dict[str, tuple[float, float]], connections: int = 0) -> list[str]:
    """What grew beyond what is allowed, in words; `connections` come and go, each with a file and a
    thread."""
    problems = []
    for name, (early, late) in figures.items():
        allowed = {"memory": MEMORY_SHARE * early + MEMORY_BYTES, "threads": THREADS + connections,
                   "files": FILES + connections}
        if late > early + allowed[name]:
            problems.append(f"{name} grew from {early:,.0f} to {late:,.0f}")
    return problems
