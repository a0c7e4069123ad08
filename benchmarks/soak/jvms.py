"""Many episodes of ScienceWorld at once in a few Java processes, of which one is killed now and then: whether
an episode is ever another's, whether the killed are replaced, and how much memory all take.

    make envs-jvms MINUTES=5
    python -m benchmarks.soak.jvms --minutes=5 --episodes=16 --jvms=16

Every episode is one that was played alone before, so that an observation of another is seen at once. A
section of benchmarks/envs_jvms.md says what was seen; the exit code is 1 where something is wrong. Needs the
extra `test`, and Java.
"""
import collections
import contextlib
import os
import pathlib
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence

from absl import flags

from benchmarks import table
from benchmarks.soak import server
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs.text.sciworld import SciWorld
from jaxrl_moe.envs.text.sciworld.jvm import JvmOptions
from jaxrl_moe.envs.text.sciworld.oracle import gold_actions
from jaxrl_moe.partials import runs
from jaxrl_moe.types import Action, EnvError, Step

TASKS = ("find-living-thing", "find-non-living-thing", "lifespan-longest-lived",
         "chemistry-mix-paint-secondary-color")
ROWS = tuple({"task": name, "variation": number} for name in TASKS for number in (1, 4))
BESIDE = ("look around", "inventory", "no such thing")  # what is done before the path
ENDED_S = 30.0  # within which a process that was ended is gone
INTRO = """# envs_jvms

`make envs-jvms MINUTES=5`: episodes of ScienceWorld, as many at once as there are players, in Java processes
of which one is killed (SIGKILL) every so often, at rest or in a call. Looked for: a step that is not the one
of the same episode played alone before; an episode that fails where no process was killed; more processes
than there may be, a process above its bound of memory, or all together above theirs; one that was killed and
not replaced; processes that are left when all is over. Memory is resident, of all Java processes together and
of the largest. The newest stands first.
"""
HEADER = ("players", "processes", "episodes", "median s", "longest s", "killed", "started", "failed",
          "moved to another process", "most memory, MiB", "bound, MiB", "largest process, MiB",
          "bound of one, MiB")


class Players:
    """Threads that play; what they and who watches them see.

    Attributes:
      problems: what is wrong, in words.
      took: seconds of each episode that was played to its end.
    """

    def __init__(self, task: SciWorld, alone: Sequence[Sequence[Step]], commands: Sequence[Sequence[str]]):
        self.problems: set[str] = set()
        self.took: list[float] = []
        self.seen: collections.Counter[str] = collections.Counter()
        self._task = task
        self._alone = alone
        self._commands = commands
        self._over = threading.Event()

    @contextlib.contextmanager
    def playing(self, count: int):
        threads = [threading.Thread(target=self._play, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _play(self, number: int) -> None:
        generator = random.Random(number)
        while not self._over.is_set():
            index = generator.randrange(len(ROWS))
            began = time.monotonic()
            try:
                steps = played(self._task, index, self._commands[index])
            except EnvError as error:
                self.seen["failed"] += 1
                self.problems |= set() if self.seen["killed"] else {f"an episode failed: {error}"}
                continue
            except Exception as error:
                self.problems.add(f"{type(error).__name__}: {error}")
                return
            self.took.append(time.monotonic() - began)
            if steps != self._alone[index]:
                self.problems.add(f"an episode of {ROWS[index]} went otherwise than alone")


def played(task: SciWorld, index: int, commands: Sequence[str]) -> list:
    """What an episode shows, from its beginning."""
    with contextlib.closing(task.open(ROWS[index], 0)) as env:
        shown = [env.reset()]
        for command in commands:
            shown.append(env.step(Action(f"Action: {command}", 0, False)))
            if shown[-1].done:
                break
        return shown


def memory(pids: Sequence[int]) -> list[int]:
    """Resident MiB of the processes that still run."""
    sizes = []
    for pid in pids:
        with contextlib.suppress(OSError):
            told = pathlib.Path(f"/proc/{pid}/status").read_text()
            sizes += [int(line.split()[1]) // 1024 for line in told.splitlines() if line.startswith("VmRSS")]
    return sizes


def watched(task: SciWorld, players: Players, count: int, seconds: float, kill_every: float) -> list[str]:
    """Has them play for a while, and kills a process now and then; a row of what was seen."""
    generator = random.Random(0)
    pool = task.pool
    end = time.monotonic() + seconds
    kill_at = time.monotonic() + kill_every
    most = largest = 0
    pids: set[int] = set()
    with players.playing(count):
        while time.monotonic() < end:
            there = pool.pids
            pids.update(there)
            sizes = memory(there)
            most = max(most, sum(sizes))
            largest = max(largest, *sizes, 0)
            if len(there) > task.jvms:
                players.problems.add(f"there were {len(there)} processes")
            if time.monotonic() > kill_at and there:
                players.seen["killed"] += 1
                os.kill(generator.choice([pid for pid in there if runs(pid)]), signal.SIGKILL)
                kill_at += kill_every
            time.sleep(0.2)
    task.close()
    bound = JvmOptions(task.jvm_mb, task.timeout).bound_mb
    players.problems |= _wrong(players, pool.lost, most, largest, bound, task.jvms)
    players.problems |= {f"process {pid} is left" for pid in pids if not _ended(pid)}
    took = sorted(players.took) or [0.0]
    return [str(count), str(task.jvms), str(len(players.took)), f"{took[len(took) // 2]:.2f}",
            f"{took[-1]:.2f}", str(players.seen["killed"]), str(pool.started), str(players.seen["failed"]),
            str(pool.moves - len(players.took) - players.seen["failed"]), str(most), str(bound * task.jvms),
            str(largest), str(bound)]


def _wrong(players: Players, lost: int, most: int, largest: int, bound: int, jvms: int) -> set[str]:
    said = {"no episode was played to its end": not players.took,
            f"{lost} processes were missed, and {players.seen['killed']} killed":
                not players.seen["killed"] - 1 <= lost <= players.seen["killed"],
            f"a process took {largest} MiB": largest > bound,
            f"all processes took {most} MiB": most > bound * jvms,
            f"{players.seen['failed']} episodes failed, and {players.seen['killed']} processes were killed":
                players.seen["failed"] > players.seen["killed"]}
    return {words for words, is_so in said.items() if is_so}


def _ended(pid: int) -> bool:
    end = time.monotonic() + ENDED_S
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.2)
    return not runs(pid)


def soaked(count: int, jvms: int, seconds: float, kill_every: float) -> tuple[list[str], list[str]]:
    """(a row of what was seen, what is wrong)."""
    with contextlib.closing(SciWorld(jvms=1)) as quiet:
        commands = [(*BESIDE, *gold_actions(quiet, row)) for row in ROWS]
        alone = [played(quiet, index, each) for index, each in enumerate(commands)]
    with contextlib.closing(SciWorld(jvms=jvms)) as task:
        players = Players(task, alone, commands)
        row = watched(task, players, count, seconds, kill_every)
    return row, sorted(players.problems)


def define_options() -> None:
    """The options; of the process that runs this module alone."""
    flags.DEFINE_float("minutes", 5.0, "that the episodes are played")
    flags.DEFINE_integer("episodes", 16, "that are played at once")
    flags.DEFINE_integer("jvms", 16, "Java processes at most")
    flags.DEFINE_float("kill_every", 15.0, "seconds after which a process is killed")
    flags.DEFINE_string("output", "benchmarks/envs_jvms.md", "markdown file that gets a section")


def main() -> None:
    options = flags.FLAGS
    if options.minutes <= 0 or options.kill_every <= 0 or min(options.episodes, options.jvms) < 1:
        raise ConfigError("--minutes, --kill_every, --episodes and --jvms must be above 0.")
    circumstances = table.circumstances()
    row, problems = soaked(options.episodes, options.jvms, 60 * options.minutes, options.kill_every)
    print(server.write(pathlib.Path(options.output), INTRO, options.minutes, circumstances, HEADER, [row],
                       problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
