"""Signals at random moments of a run's life, and the same command again until it has finished."""
import dataclasses
import itertools
import pathlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

from benchmarks.kills import runs

# what a process may end with after each signal, besides 0: of SIGTERM a clean stop, which is 0 too
ENDS = {signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 143), signal.SIGINT: (-2, 130), signal.SIGSTOP: ()}
A_RUN = 3      # signals that a run gets, at most
STILL_S = 0.5  # that a stopped process stands still
STUCK = 20     # starts after which a run counts as one that never ends


@dataclasses.dataclass
class Seen:
    """What came of one kind of signal.

    Attributes:
      name: of the signal.
      sent: how many reached a process that ran.
      runs: how many runs were finished in spite of them, and compared.
      seconds: that all took.
      problems: what was wrong, in words.
    """
    name: str
    sent: int = 0
    runs: int = 0
    seconds: float = 0.0
    problems: list[str] = dataclasses.field(default_factory=list)


def undisturbed(folder: pathlib.Path) -> float:
    """Makes folder/undisturbed, twice, with its programs compiled before at the second time, and looks
    whether both are the same; returns the seconds of the second.

    Raises:
      RuntimeError: it failed, or differs from itself.
    """
    for name in ("first", "undisturbed"):
        began = time.monotonic()
        ended = runs.end_of(runs.launch(folder))
        problems = list(ended.problems([0]))
        if problems:
            raise RuntimeError("; ".join(problems))
        (folder / "run").rename(folder / name)
    seconds = time.monotonic() - began
    problems = list(runs.differences(folder / "first", folder / "undisturbed"))
    if problems:
        raise RuntimeError(f"Two runs that nothing disturbed differ: {'; '.join(problems)}")
    return seconds


def moments(count: int, life: float, generator: random.Random) -> list[list[float]]:
    """Seconds after a start, by run. The first of each run are spread over a whole life, one in each of as
    many equal parts; the next come anywhere in it, since a run that goes on lives for a shorter time."""
    firsts = [life * (part + generator.random()) / -(-count // A_RUN) for part in range(-(-count // A_RUN))]
    generator.shuffle(firsts)
    later = (generator.uniform(0.0, life) for _ in itertools.count())
    rows = [[first, *itertools.islice(later, A_RUN - 1)] for first in firsts]
    rows[-1] = rows[-1][:count - A_RUN * (len(rows) - 1)]
    return rows


def disturb(kind: signal.Signals, count: int, life: float, folder: pathlib.Path,
            generator: random.Random) -> Seen:
    """Sends as many signals of a kind, each run some, and compares what they came to."""
    began = time.monotonic()
    seen = Seen(kind.name)
    while seen.sent < count and seen.runs < 3 * count:
        for row in moments(count - seen.sent, life, generator):
            seen.problems += _run(kind, row, folder, seen)
            seen.runs += 1
    seen.seconds = time.monotonic() - began
    return seen


def _run(kind: signal.Signals, row: list[float], folder: pathlib.Path, seen: Seen) -> Iterator[str]:
    """One run to its end; yields what is wrong."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    waiting = list(row)
    for _ in range(STUCK):
        process = runs.launch(folder)
        ended = _send(kind, process, waiting, seen)
        yield from (f"{problem} (after {_told(row)})" for problem in ended.problems([0, *ENDS[kind]]))
        if runs.finished(folder, ended):
            break
        if ended.code not in (0, *ENDS[kind]):
            return
    else:
        yield f"it did not finish in {STUCK} starts"
    differences = runs.differences(folder / "run", folder / "undisturbed")
    yield from (f"{difference} (after {_told(row)})" for difference in differences)
    left = [path.name for path in (folder / "tmp").iterdir()]
    if left and kind != signal.SIGKILL:
        yield f"temporary files: {', '.join(left)[:200]}"
    shutil.rmtree(folder / "tmp")


def _send(kind: signal.Signals, process: subprocess.Popen[str], waiting: list[float],
          seen: Seen) -> runs.Ended:
    """Sends the next signal at its moment, unless the process has ended by then; waits for its end. A process
    that was made to stand still gets all of them."""
    began = time.monotonic()
    while waiting:
        moment = waiting.pop(0)
        try:
            return runs.end_of(process, max(0.0, began + moment - time.monotonic()))
        except subprocess.TimeoutExpired:
            seen.sent += 1
            process.send_signal(kind)
        if kind != signal.SIGSTOP:
            break
        time.sleep(STILL_S)
        process.send_signal(signal.SIGCONT)
    return runs.end_of(process)


def _told(row: list[float]) -> str:
    return ", ".join(f"{moment:.1f}" for moment in row) + " s"
