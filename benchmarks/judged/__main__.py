"""A run whose rewards people give, while run, judge server and page are killed in turn: whether an item is
lost or judged twice, a rollout counted twice, or a reward another than what was answered.

    make kills-judged
    python -m benchmarks.judged --kills=10 --steps=6 --seed=1

Task app, judge server, page and training are processes of their own, started as users start them, and
somebody answers on the page over HTTP. SIGKILL comes at moments drawn by --seed, and the same command is
given again. benchmarks/judged.md gets a dated section; the exit code is 1 where something is wrong. Needs the
extra `test`.
"""
import collections
import datetime
import pathlib
import random
import sys
import time
from collections.abc import Mapping, Sequence

from absl import flags

from benchmarks import table
from benchmarks.judged import checks
from benchmarks.judged.person import Person
from benchmarks.judged.programs import GROUP, PROMPTS, Program, keep, programs
from benchmarks.soak.drive import fresh
from jaxrl_moe import cli

TURNS = ("run", "judge", "page")
BETWEEN_S = (8.0, 16.0)  # two kills
LONGEST_S = 900.0        # that all of it may take
INTRO = """# judged

`make kills-judged`: a tiny policy writes texts for the task app agora_ex_text; the run has people judge them,
four at a time, and somebody answers on the page over HTTP. Run, judge server and page are killed by SIGKILL
in turn, and started again by the same command. Looked for: an item without an answer, or with two; a rollout
that stands twice in trajectories.jsonl, or is missing; a reward that is not what was answered for its text;
an end of the run other than success. The newest stands first.
"""


def define_options() -> None:
    """The options; of the process that runs this module alone."""
    flags.DEFINE_integer("kills", 10, "in all, of run, judge server and page in turn", lower_bound=0)
    flags.DEFINE_integer("steps", 6, "of the run", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the moments")
    flags.DEFINE_string("folder", "runs/judged", "of the run and the queue; deleted before")
    flags.DEFINE_string("output", "benchmarks/judged.md", "markdown file that gets a section")


def main() -> None:
    options = flags.FLAGS
    folder = fresh(pathlib.Path(options.folder).absolute())
    began = time.monotonic()
    made, url = programs(folder, options.steps)
    token = max(keep(folder, "--add_judge=ann").split(), key=len)
    person = Person(url, token, options.seed)
    try:
        for program in made.values():
            program.start()
        person.start()
        met = disturbed(made, options.kills, random.Random(options.seed))
    finally:
        person.over.set()
        for program in made.values():
            program.kill()
    found = list(checks.problems(folder, options.steps))
    minutes = (time.monotonic() - began) / 60
    print(table.put_first(pathlib.Path(options.output), INTRO, section(met, person, found, minutes)))
    sys.exit(1 if found else 0)


def disturbed(made: Mapping[str, Program], kills: int, generator: random.Random) -> dict[str, int]:
    """Kills the programs in turn until the run has ended: {name: how often}.

    Raises:
      RuntimeError: the run fails, hangs, or ends before all were killed.
    """
    met: collections.Counter[str] = collections.Counter()
    order = [TURNS[number % len(TURNS)] for number in range(kills)]
    until = time.monotonic() + LONGEST_S
    pause = time.monotonic() + generator.uniform(*BETWEEN_S)
    while made["run"].process.poll() is None:
        if time.monotonic() > until:
            raise RuntimeError(f"The run has not ended in {LONGEST_S:.0f} seconds: {made['run'].tail}")
        if order and time.monotonic() > pause:
            name = order.pop(0)
            made[name].kill()
            made[name].start()
            met[name] += 1
            pause = time.monotonic() + generator.uniform(*BETWEEN_S)
        time.sleep(0.1)
    if made["run"].process.returncode or order:
        raise RuntimeError(f"The run ended with {made['run'].process.returncode}, {len(order)} kills too "
                           f"early: {made['run'].tail}")
    return dict(met)


def section(met: Mapping[str, int], person: Person, found: Sequence[str], minutes: float) -> str:
    """What came of it."""
    options = flags.FLAGS
    refused = ", ".join(f"{count} with {status}" for status, count in person.refused.items())
    rows = [["killed", ", ".join(f"{name} {count}" for name, count in met.items()) or "nothing"],
            ["rollouts trained", str(options.steps * PROMPTS * GROUP)],
            ["answers given", str(person.answers)], ["answers refused", refused or "none"],
            ["minutes", f"{minutes:.1f}"]]
    result = "\n".join(f"**{each}**" for each in found) or "All well."
    return (f"## {datetime.date.today()}: {len(found)} problems\n\n{table.circumstances()} Seed "
            f"{options.seed}.\n\n{table.rows(('what', 'seen'), rows)}\n{result}\n")


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
