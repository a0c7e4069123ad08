"""A run that is ended at random moments of its life, or finds its disk full, and is started again: whether it
comes to the bits of an undisturbed one, what it leaves behind, and what it says.

    make kills
    python -m benchmarks.kills --kills=10 --signals=3 --places=checkpoint,metrics --seed=3

SIGKILL --kills times; SIGTERM, SIGINT, and SIGSTOP with SIGCONT --signals times each, at moments drawn by
--seed; a full disk at each of --places. benchmarks/kills.md gets a dated section; the exit code is 1 where
something is wrong. About 25 minutes on an idle core. Needs the extra `test`; a full disk under what libraries
write by themselves needs the right to mount a tmpfs.
"""
import pathlib
import random
import signal
import sys
import time

from absl import flags

from benchmarks import table
from benchmarks.kills import disks, full, signals
from benchmarks.kills.text import section, write
from benchmarks.soak.drive import fresh
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

KILLS = flags.DEFINE_integer("kills", 100, "how often a process is killed", lower_bound=0)
SIGNALS = flags.DEFINE_integer("signals", 20, "how often it gets each of the other signals", lower_bound=0)
PLACES = flags.DEFINE_list("places", list(full.PLACES), "where its disk is full; empty: nowhere")
SEED = flags.DEFINE_integer("seed", 0, "of the moments; the runs themselves are always the same")
FOLDER = flags.DEFINE_string("folder", "runs/kills", "of the runs; an earlier time's are deleted")
OUTPUT = flags.DEFINE_string("output", "benchmarks/kills.md", "markdown file that gets a section")


def main() -> None:
    unknown = set(PLACES.value) - set(full.PLACES)
    if unknown:
        raise ConfigError(f"--places={','.join(PLACES.value)}: give some of {', '.join(full.PLACES)}.")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    circumstances = table.circumstances()
    folder = fresh(pathlib.Path(FOLDER.value).absolute())
    life = signals.undisturbed(folder)
    print(f"An undisturbed run takes {life:.1f} s.", flush=True)
    generator = random.Random(SEED.value)
    seen = []
    for kind in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP):
        count = KILLS.value if kind == signal.SIGKILL else SIGNALS.value
        if count:
            seen.append(signals.disturb(kind, count, life, folder, generator))
            print(told(seen[-1]), flush=True)
    for one in disks.fill(PLACES.value, folder):
        seen.append(one)
        print(told(one), flush=True)
    minutes = (time.monotonic() - began) / 60
    new = section(seen, life, minutes, f"{circumstances} Seed {SEED.value}.")
    print(write(pathlib.Path(OUTPUT.value), new))
    sys.exit(1 if any(kind.problems for kind in seen) else 0)


def told(seen: signals.Seen) -> str:
    result = "; ".join(seen.problems) or "all well"
    return f"{seen.name}: {seen.sent} times, {seen.runs} runs in {seen.seconds:.0f} s, {result}"


if __name__ == "__main__":
    cli.run(main, recipe=False)
