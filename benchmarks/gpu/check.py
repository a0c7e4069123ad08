"""The GPU check: stage after stage, each in a process and a time box of its own, and one table of what they
found.

    bash scripts/gpu_check.sh OUT --card=h100          # on a machine with a GPU; --help says the rest
    bash scripts/gpu_check.sh OUT --rehearse           # the same code on a CPU, in tiny shapes
"""
import argparse
import dataclasses
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.gpu import box, report
from benchmarks.gpu.record import Settings
from benchmarks.gpu.stages import STAGES, Stage

LAST = 5.0  # seconds kept for the end
# seconds, by whether it is a rehearsal: a CPU that others use too should cut no stage
BUDGET = {False: 540.0, True: 1800.0}


def main(arguments: Sequence[str], stages: Sequence[Stage] = STAGES) -> int:
    """The exit status: 0 if all stages ran to their end and all of their rows are good, else 1; 2 for a
    mistaken command."""
    options = _parse(arguments, stages)
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [stage for letter in options.stages for stage in stages if stage.letter == letter]
    for path in [folder / "gpu.log", *(report.rows_file(folder, stage) for stage in chosen)]:
        path.unlink(missing_ok=True)
    settings = Settings(options.card, options.rehearse, options.work
                        or str(pathlib.Path(tempfile.gettempdir()) / "jaxrl_moe_gpu"))
    # so that the stage at work is ended, and the table stands
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    good = _run_all(chosen, settings, folder, options.seconds)
    print((folder / "gpu.md").read_text().partition("\n## ")[0], f"\nwritten to {folder / 'gpu.md'}")
    return 0 if good else 1


def _run_all(stages: Sequence[Stage], settings: Settings, folder: pathlib.Path, budget: float) -> bool:
    end = time.monotonic() + budget - LAST
    done = []
    good = report.write(folder / "gpu.md", stages, done, settings, budget)
    for number, stage in enumerate(stages):
        left = max(0.0, end - time.monotonic())
        seconds = left * stage.share / sum(one.share for one in stages[number:])
        own = dataclasses.replace(settings, rows=str(report.rows_file(folder, stage).resolve()),
                                  letter=stage.letter, seconds=seconds)
        print(f"{stage.letter}: {stage.title}, {seconds:.0f} s at most", flush=True)
        done.append(box.run(stage, own, folder / "gpu.log"))
        good = report.write(folder / "gpu.md", stages, done, settings, budget)
    return good


def _parse(arguments: Sequence[str], stages: Sequence[Stage]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("gpu_check.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    letters = [stage.letter for stage in stages]
    parser.add_argument("out", metavar="OUT", help="folder for gpu.md, gpu.log and each stage's rows")
    parser.add_argument("--card", choices=("h100", "h200"), default="h200",
                        help="h100: fewer layers of the 30B shape, as fit 80 GB")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on this machine's CPU")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=letters, metavar="a,b,...",
                        help="; ".join(f"{stage.letter}: {stage.title}" for stage in stages))
    parser.add_argument("--seconds", type=float, help=f"for all stages together; {BUDGET[False]:g}, "
                                                      f"{BUDGET[True]:g} for a rehearsal")
    parser.add_argument("--work", default="", help="folder for compiled programs and runs, kept for the next "
                                                   "time; else one in /tmp")
    options = parser.parse_args(arguments)
    options.seconds = BUDGET[options.rehearse] if options.seconds is None else options.seconds
    unknown = [letter for letter in options.stages if letter not in letters]
    if unknown or len(set(options.stages)) < len(options.stages):
        parser.error(f"--stages={','.join(options.stages)}: give each of {','.join(letters)} once at most")
    if options.seconds <= LAST:
        parser.error(f"--seconds={options.seconds:g}: give more than {LAST:g}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
