"""Times this project against its peers on this machine, in turn, and writes a dated table under benchmarks/.

    python scripts/benchmark.py --case=train_step
    python scripts/benchmark.py --case=decode --pairs=5 --output=benchmarks/decode.md
    python scripts/benchmark.py --case=sync --pairs=5      # weights to vLLM and SGLang of make test-engines
    python scripts/benchmark.py --case=engines --pairs=5   # needs .venv-vllm, .venv-sglang: scripts/engines
    python scripts/benchmark.py --case=learning            # make learn: every algorithm from one checkpoint
    python scripts/benchmark.py --case=learning --recipes=gspo --seeds=1    # one run, and all that are there

Cases with a peer need the extra `peers`: pip install -e ".[test,peers]". Close other programs first: ratios
hold on an idle machine only. What case learning says is written to benchmarks/learning.md only where all of
its nine recipes, three seeds and 60 steps are there; else beside the runs.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import functools
import importlib
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError
from jaxrl_moe.options import define_number, define_path

if TYPE_CHECKING:
    from benchmarks.harness import Case

TABLES = {  # case: module of benchmarks/
    "compile": "compile_time", "memory": "memory", "profile": "profile", "plan": "plan", "async": "overlap",
    "kernels": "kernels", "expert_parallel": "expert_parallel", "rollout_mesh": "rollout_mesh",
    "episodes_kv": "episodes_kv"}
PAIRED = {"sync": "sync", "engines": "engines"}  # likewise; these take the number of timed runs
OTHERS = ("train_step", "decode", "grpo_step", "learning")
CASE = flags.DEFINE_enum("case", None, [*OTHERS, *TABLES, *PAIRED], "what to measure")
PAIRS = define_number("pairs", 9, "timed runs of each contender", 1)
STEPS = define_number("steps", 60, "case learning: RL steps of each run", 1)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "case learning: of data, model, SFT and RL")
RECIPES = flags.DEFINE_list("recipes", [], "case learning: recipes in configs/, such as gsm8k/gspo; empty: "
                                           "the nine of benchmarks/learning.py")
FOLDER = define_path("folder", "runs/learning", "case learning: where the runs lie; finished ones are not "
                                                "repeated")
OUTPUT = define_path("output", "", "markdown file to write; empty: benchmarks/CASE.md")


def cases(name: str) -> list[Callable[[], "Case"]]:
    if name == "train_step":
        from benchmarks import train_step
        return [functools.partial(train_step.case, expert_lora=experts, **shape)
                for shape in ({}, {"experts": 64, "active": 8}) for experts in (True, False)]
    if name == "decode":
        from benchmarks import decode
        return [decode.batch_case, decode.continuous_case]
    from benchmarks import grpo_step
    return [grpo_step.case]


def learn() -> tuple[str, pathlib.Path]:
    """Trains what is not finished yet; its table, and where that belongs."""
    from benchmarks import learning
    if not all(seed.isdigit() for seed in SEEDS.value):
        raise ConfigError(f"--seeds={','.join(SEEDS.value)}: give seeds such as 0,1,2.")
    folder = pathlib.Path(FOLDER.value)
    recipes = RECIPES.value or list(learning.ALGORITHMS)
    learning.run(recipes, [int(seed) for seed in SEEDS.value], STEPS.value, folder)
    room = pathlib.Path("benchmarks") if learning.whole(STEPS.value, folder) else folder
    output = pathlib.Path(OUTPUT.value or room / "learning.md")
    image = output.with_suffix(".png")
    learning.plot(STEPS.value, folder, image)
    return learning.table(STEPS.value, folder, image.name), output


def main() -> None:
    cli.require(CASE)
    from benchmarks import harness, table
    name = CASE.value
    output = pathlib.Path(OUTPUT.value or f"benchmarks/{name}.md")
    if PAIRS.value < 1:
        raise ConfigError(f"--pairs={PAIRS.value}: at least one pair is needed.")
    if name in TABLES:
        text = importlib.import_module(f"benchmarks.{TABLES[name]}").table()
    elif name in PAIRED:
        text = importlib.import_module(f"benchmarks.{PAIRED[name]}").table(PAIRS.value)
    elif name == "learning":
        text, output = learn()
    else:
        text = table.markdown([harness.run(build(), PAIRS.value) for build in cases(name)])
    output.write_text(table.heading(name) + text)
    print(text, f"\nwritten to {output}")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from benchmarks import allocator
    if not allocator.started_with_tunables():
        sys.exit(allocator.start_again())
    cli.run(main, recipe=False)
