"""One run for a long time, killed at random moments and resumed: what grows, what is lost, and whether its
bits stay the same.

    make soak MINUTES=20
    python -m benchmarks.soak --minutes=20 --seed=3

The quickstart's task with smaller batches, as four runs of equally many steps, each with checkpoints and
evaluations: never killed; killed; killed while the endpoint answers clients, of whom some stream, some leave
and some lose patience; killed while rollouts run ahead of the trainer (which takes no endpoint). A kill is
SIGKILL, at a random moment of a step or of a start. Each process is watched from outside. benchmarks/soak.md
gets a dated section; the exit code is 1 where something is wrong. Needs the extra `test`.
"""
import pathlib
import random
import sys
import time

from absl import flags

from benchmarks import table
from benchmarks.soak import checks, drive, legs
from benchmarks.soak.drive import Seen
from benchmarks.soak.legs import Leg
from benchmarks.soak.text import section, write
from benchmarks.soak.watch import Sample
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

MINUTES = flags.DEFINE_float("minutes", 20.0, "of the whole, about; it is measured how many steps that is")
SEED = flags.DEFINE_integer("seed", 0, "of the moments of the kills; the runs themselves are always the same")
FOLDER = flags.DEFINE_string("folder", "runs/soak", "of the runs; an earlier soak's are deleted")
OUTPUT = flags.DEFINE_string("output", "benchmarks/soak.md", "markdown file that gets a section")
TRIAL = 16  # steps by which the time of a step and of a start is measured
LEAST = 12  # steps of a leg
MINUTES_A_KILL = 4.0  # of the whole soak, for each leg that is killed


def main() -> None:
    if MINUTES.value <= 0:
        raise ConfigError(f"--minutes={MINUTES.value:g}: give a number above 0, such as 20.")
    began = time.monotonic()
    circumstances = table.circumstances()
    folder = drive.fresh(pathlib.Path(FOLDER.value).absolute())
    start_s, step_s = prepare(folder)
    every = (legs.UNKILLED, *legs.KILLED_ONES)
    kills = max(2, round(MINUTES.value / MINUTES_A_KILL))
    starts = len(every) + kills * len(legs.KILLED_ONES)
    left = 60 * MINUTES.value - (time.monotonic() - began) - starts * start_s
    steps = max(LEAST, int(left / len(every) / step_s))
    print(f"A start takes {start_s:.0f} s, a step {step_s:.2f} s: {steps} steps a run, {kills} kills.",
          flush=True)
    generator = random.Random(SEED.value)
    seen: list[Seen] = []
    for leg in every:
        moments = legs.Moments(steps, kills if leg.killed else 0, step_s, start_s, generator)
        seen.append(soak(leg, folder, steps, moments))
    minutes = (time.monotonic() - began) / 60
    new = section(seen, steps, minutes, f"{circumstances} Seed {SEED.value}.")
    print(write(pathlib.Path(OUTPUT.value), new))
    sys.exit(1 if any(leg_seen.problems for leg_seen in seen) else 0)


def prepare(folder: pathlib.Path) -> tuple[float, float]:
    """The SFT that all legs start from, and a short run; seconds of a start, with its programs compiled
    before, and of a step."""
    recipe = folder / "start.py"
    drive.write_recipe(recipe, "start_settings", run_dir=str(folder / "start"))
    drive.finish("sft", recipe)
    for name in ("compiling", "trial"):
        trial = Leg(name, killed=False)
        seen = drive.run(trial, folder, TRIAL, legs.Moments(TRIAL, 0, 0.0, 0.0, random.Random(0)))
        if seen.problems:
            raise RuntimeError(f"The trial failed: {'; '.join(seen.problems)}")
    return times(seen.attempts[0])


def times(samples: list[Sample]) -> tuple[float, float]:
    """Seconds until the first step was logged, and of each of those after it."""
    logged = [sample for sample in samples if sample.step]
    first = logged[0]
    last = next(sample for sample in logged if sample.step == logged[-1].step)
    return first.seconds, max(0.01, (last.seconds - first.seconds) / (last.step - first.step))


def soak(leg: Leg, folder: pathlib.Path, steps: int, moments: legs.Moments) -> Seen:
    """Runs a leg and looks at what it left."""
    seen = drive.run(leg, folder, steps, moments)
    own = drive.run_dir(leg, folder)
    if not seen.problems:
        seen.problems += checks.problems(leg, own, steps, drive.run_dir(legs.UNKILLED, folder))
    if leg.killed and not seen.kills:
        seen.problems.append("no kill hit it")
    result = "; ".join(seen.problems) or "all well"
    print(f"{leg.name}: {steps} steps in {seen.seconds:.0f} s, {seen.kills} kills, {result}", flush=True)
    return seen


if __name__ == "__main__":
    cli.run(main, recipe=False)
