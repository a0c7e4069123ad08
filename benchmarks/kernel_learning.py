"""Do verdicts teach? A small policy chooses what kernels are made of, in up to three turns, and is trained on
what the evaluation server says of the whole sources: how often it is right on held-out problems, before GRPO
and after it.

    make learn-kernels
    python -m benchmarks.kernel_learning --seeds=1 --steps=10

The recipe is configs/kernels/tiny_triton_grpo.py, its judge a process of scripts/serve.py kernels, as
anybody's is. Runs that are finished under --folder are not begun again, and one that was stopped goes on;
verdicts are kept there too. The table goes to benchmarks/kernel_learning.md. Needs the extras serve and
kernels.
"""
import contextlib
import gc
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import jax
from absl import flags

import bridges
from benchmarks import table
from jaxrl_moe import cli, recipes
from jaxrl_moe.config import resolve
from jaxrl_moe.options import define_path
from jaxrl_moe.runs.report import evaluations, read_rows, seconds
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError

SEEDS = (0, 1)
STEPS = 40
LEAST = 0.2  # that GRPO lifts the held-out correct rate by
TURNS = (1, 2, 3)
RECIPE = table.ROOT / "configs/kernels/tiny_triton_grpo.py"
_STARTED = re.compile(r"http://[\w.]+:\d+")


def define_options() -> None:
    define_path("folder", "runs/kernel_learning", "where the runs lie")
    flags.DEFINE_multi_integer("seeds", list(SEEDS), "of data, model, SFT and RL", lower_bound=0)
    flags.DEFINE_integer("steps", STEPS, "of GRPO", lower_bound=1)
    flags.DEFINE_integer("workers", 1, "of the evaluation server", lower_bound=1)


def main() -> None:
    """Trains what is not finished yet, and writes the table; ends with 1 where verdicts taught too little."""
    options = flags.FLAGS
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    cli.keep_compiled()
    left = [(seed, run_of(folder, options.steps, seed)) for seed in options.seeds]
    left = [(seed, run) for seed, run in left if not (run / "model").exists()]
    if left:
        with server(folder, options.workers) as url:
            for seed, run in left:
                train(run, seed, options.steps, url)
    text, problems = report(folder, options.steps)
    there = [(run_of(folder, STEPS, seed) / "model").exists() for seed in SEEDS]
    whole = options.steps == STEPS and all(there)
    path = (table.ROOT / "benchmarks" if whole else folder) / "kernel_learning.md"
    path.write_text(text)
    print(f"{text}\nwritten to {path}")
    sys.exit(1 if problems else 0)


def run_of(folder: pathlib.Path, steps: int, seed: int) -> pathlib.Path:
    return folder / f"{steps}_steps_{seed}"


@contextlib.contextmanager
def server(folder: pathlib.Path, workers: int) -> Iterator[str]:
    """The URL of an evaluation server in a process of its own, which ends with the block."""
    command = [sys.executable, "-u", str(table.ROOT / "scripts/serve.py"), "kernels", "--port=0",
               f"--workers={workers}", f"--cache={folder / 'verdicts.sqlite'}"]
    environment = os.environ | {"PYTHONPATH": str(table.ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        if not (found := _STARTED.search(line)):
            raise UserError(f"The evaluation server did not start: {line.strip() or 'see above'}.")
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def train(run: pathlib.Path, seed: int, steps: int, url: str) -> None:
    """One run of the recipe against the server."""
    settings = recipes.load(RECIPE).get_config()
    settings.seed = seed
    settings.run_dir = str(run)
    settings.env.name = f"triton_choices(url='{url}')"
    settings.train.steps = steps
    settings.eval.every = max(1, steps // 2)
    settings.logging.tensorboard = False
    config = resolve(settings)
    if not (ending := pipeline.run_all(config, bridges, beside_training)):
        raise UserError(ending.sentence(config.run_dir))
    jax.clear_caches()  # the next run has programs of its own
    gc.collect()


def report(folder: pathlib.Path, steps: int) -> tuple[str, list[str]]:
    """(markdown, what is wrong)."""
    lines: list[Sequence[str]] = []
    problems = []
    minutes = ""
    for run in sorted(folder.glob(f"{steps}_steps_*")):
        if (run / "model").exists():
            before = evaluations(read_rows(run / "sft" / "metrics.jsonl"))
            after = evaluations(read_rows(run / "metrics.jsonl"))[-1]
            seed = run.name.rpartition("_")[2]
            told = {"from scratch": before[0], "after SFT": before[-1], "after GRPO": after}
            lines += [line_of(seed, name, row) for name, row in told.items()]
            minutes = ", ".join(filter(None,
                                       [minutes, f"{seconds(read_rows(run / 'metrics.jsonl')) / 60:.1f}"]))
            lift = after["eval/correct"] - before[-1]["eval/correct"]
            if lift < LEAST:
                problems.append(f"seed {seed}: GRPO lifts the held-out correct rate by {lift:+.3f}, under "
                                f"{LEAST}")
    header = ["seed", "policy", "correct", *(f"correct by turn {turn}" for turn in TURNS), "compiled",
              *(f"reward of turn {turn}" for turn in TURNS)]
    told = "".join(f"- {problem}\n" for problem in problems)
    text = table.heading("kernel_learning") + INTRODUCTION + table.rows(header, lines)
    text += f"\n{steps} steps of GRPO took {minutes} minutes.\n"
    return text + (f"\n{len(problems)} PROBLEMS\n\n{told}" if problems else ""), problems


def line_of(seed: str, policy: str, row: Mapping[str, float]) -> list[str]:
    """An evaluation on the held-out problems; of a turn that nobody needed there is no reward."""
    def told(name: str) -> str:
        return f"{row[f'eval/{name}']:.3f}" if f"eval/{name}" in row else ""

    by_turn = [told(f"correct_by_turn_{turn}") for turn in TURNS]
    rewards = [told(f"reward_turn_{turn}") for turn in TURNS]
    return [seed, policy, f"**{told('correct')}**", *by_turn, told("compiled"), *rewards]


INTRODUCTION = (
    "`make learn-kernels`: configs/kernels/tiny_triton_grpo.py against a process of `scripts/serve.py "
    "kernels`, on the problems that are held out, sampled at T = 1, in up to three turns. SFT is on the "
    "attempts of pupils. Verdicts rest on Triton's interpreter and on a compilation "
    "for sm_90; nothing is timed, so that 0.3 is the most that a turn gives. The reward of a turn is the "
    "mean over the episodes that came to it: those of turns 2 and 3 have failed before.\n\n")


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
