"""Candidates in a row at an evaluation server, most of them bad: right, wrong, raising, endless, greedy,
crashing, and such as would break out. Whether each gets its verdict, and the server keeps its memory and
leaves nothing.

    make kernels-crowd CANDIDATES=200
    python -m benchmarks.soak.kernels --candidates=200 --workers=2

A section of benchmarks/kernels_crowd.md says what was seen; the exit code is 1 where something is wrong.
Needs the extras `test` and `kernels`, and bubblewrap.
"""
import collections
import concurrent.futures
import contextlib
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence

from absl import flags

from benchmarks import table
from benchmarks.soak import server, text
from benchmarks.soak.candidates import KINDS, PROBLEM, Kind
from benchmarks.soak.watch import Watch, grown, quarters
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs.kernels.verdicts.client import RemoteJudge
from jaxrl_moe.partials import runs
from jaxrl_moe.sandbox.usage import descendants, usage
from jaxrl_moe.types import EnvError, UserError

PATTERN = r"(http://\S+) by"
ENDED_S = 30.0  # within which a process is gone after the server
INTRO = """# kernels_crowd

`make kernels-crowd CANDIDATES=200`: candidates in a row at `scripts/serve.py kernels`, as many at once as it
has workers, in a random order, each under a seed of its own. Looked for: a verdict that is not what its kind
of candidate is to get, or none; memory, threads and open files of the server's process that grow; processes
that are left at work when all is judged, or alive when the server has ended; more memory of all processes
together at rest at the end than at the beginning, by a tenth. The newest stands first.
"""
HEADER = ("workers", "candidates", "s in all", "median s", "longest s", "memory of the server, MiB",
          "threads", "open files", "all processes at rest, MiB", "processes at rest")
KIND_HEADER = ("candidates", "how many", "verdict", "got")


class Asked:
    """What came of the candidates.

    Attributes:
      got: {kind: verdicts that were got, by name, and how many of each}.
      took: seconds of each.
      problems: what is wrong, in words.
    """

    def __init__(self, judge: RemoteJudge):
        self.got: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.took: list[float] = []
        self.problems: set[str] = set()
        self._judge = judge
        self._door = threading.Lock()

    def ask(self, kind: Kind, seed: int) -> None:
        began = time.monotonic()
        try:
            verdict = self._judge.verdict(kind.problem, kind.source, seed)
            got, message = verdict.fault or "none", verdict.message
        except EnvError as error:
            got, message = "no verdict", str(error)
        except UserError as error:
            got, message = "problem refused", str(error)
        with self._door:
            self.took.append(time.monotonic() - began)
            self.got[kind.name][got] += 1
            if got not in kind.verdicts:
                wanted = " or ".join(kind.verdicts)
                self.problems.add(f"{kind.name}: {got} in place of {wanted} ({message[:200]})")


def order(count: int) -> list[Kind]:
    """So many candidates, at least one of each kind and more by their shares, in a random order."""
    shares = [kind.share for kind in KINDS]
    _, *others = [max(1, count * share // sum(shares)) for share in shares]
    counts = [count - sum(others), *others]
    kinds = [kind for kind, many in zip(KINDS, counts, strict=True) for _ in range(many)]
    random.Random(0).shuffle(kinds)
    return kinds


@contextlib.contextmanager
def watching(pid: int, folder: pathlib.Path, seen: set[int]) -> Iterator[Watch]:
    """Looks at the server, and at what descends from it, until the block ends."""
    watch = Watch(pid, folder)
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            watch.look()
            seen.update(descendants(pid))
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def at_rest(pid: int) -> tuple[float, int]:
    """(MiB of all processes of a server, how many there are)."""
    return usage(pid, 0).memory / 2**20, len(descendants(pid))


def soaked(count: int, workers: int, seconds: float) -> tuple[list[str], list[list[str]], list[str]]:
    """(a row of what was seen, a row for each kind, what is wrong)."""
    kinds = order(count)
    pids: set[int] = set()
    options = ["kernels", f"--workers={workers}", f"--seconds={seconds:g}", "--grace=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with server.started(options, PATTERN, folder) as (url, pid), \
                contextlib.closing(RemoteJudge(url)) as judge:
            asked = Asked(judge)
            for seed in range(workers):  # so that all has been met once
                judge.verdict(PROBLEM, KINDS[0].source, -1 - seed + 2**40)
            before, processes = at_rest(pid)
            began = time.monotonic()
            with watching(pid, folder, pids) as watch, \
                    concurrent.futures.ThreadPoolExecutor(workers) as threads:
                list(threads.map(asked.ask, kinds, range(len(kinds))))
            took = time.monotonic() - began
            after, left = settled(pid, processes)
            asked.problems |= {f"{name:.0f} is held" for name in server.left(url, ["kernel_candidates"])}
    figures = quarters(watch.samples)
    problems = [*sorted(asked.problems), *grown(figures), *_wrong(before, after, processes, left, pids)]
    ordered = sorted(asked.took)
    row = [str(workers), str(len(kinds)), f"{took:.0f}", f"{ordered[len(ordered) // 2]:.2f}",
           f"{ordered[-1]:.1f}", text.shown(figures, "memory", 2**20), text.shown(figures, "threads"),
           text.shown(figures, "files"), f"{before:.0f} to {after:.0f}", f"{processes} to {left}"]
    return row, [_kind_row(kind, asked.got[kind.name]) for kind in KINDS], problems


def settled(pid: int, processes: int) -> tuple[float, int]:
    """As at_rest, once no more processes are there than before, or after some time."""
    end = time.monotonic() + ENDED_S
    while (now := at_rest(pid))[1] > processes and time.monotonic() < end:
        time.sleep(0.5)
    return now


def _wrong(before: float, after: float, processes: int, left: int, pids: set[int]) -> Iterator[str]:
    if left > processes:
        yield f"{left} processes are there when all is judged, and {processes} were before"
    if after > 1.1 * before:
        yield f"all processes take {after:.0f} MiB at rest, and took {before:.0f}"
    end = time.monotonic() + ENDED_S
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.2)
    alive = sum(map(runs, pids))
    if alive:
        yield f"{alive} processes are alive when the server has ended"


def _kind_row(kind: Kind, got: collections.Counter[str]) -> list[str]:
    told = ", ".join(f"{name} {count}" for name, count in sorted(got.items()))
    return [kind.what, str(sum(got.values())), " or ".join(kind.verdicts), told]


def section(row: Sequence[str], kinds: Sequence[Sequence[str]], problems: Sequence[str],
            circumstances: str) -> str:
    result = f"**{'; '.join(problems)}**" if problems else "All well."
    return (f"## {text.today()}: {row[1]} candidates\n\n{circumstances}\n\n{table.rows(HEADER, [row])}\n"
            f"{table.rows(KIND_HEADER, kinds)}\n{result}\n")


def define_options() -> None:
    """The options; of the process that runs this module alone."""
    flags.DEFINE_integer("candidates", 200, "that are judged")
    flags.DEFINE_integer("workers", 2, "of the server")
    flags.DEFINE_float("seconds", 30.0, "that a candidate may take")
    flags.DEFINE_string("output", "benchmarks/kernels_crowd.md", "markdown file that gets a section")


def main() -> None:
    options = flags.FLAGS
    if options.candidates < len(KINDS) or options.workers < 1 or options.seconds <= 0:
        raise ConfigError(f"--candidates must be at least {len(KINDS)}, one of each kind, and --workers and "
                          "--seconds above 0.")
    circumstances = table.circumstances()
    row, kinds, problems = soaked(options.candidates, options.workers, options.seconds)
    new = section(row, kinds, problems, circumstances)
    print(table.put_first(pathlib.Path(options.output), INTRO, new))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
