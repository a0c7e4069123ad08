"""What a training micro-batch, an optimiser step and a decode step launch on a GPU, read from the programs
that its compiler makes."""
import json
import subprocess
import sys

from benchmarks.table import rows
from jaxrl_moe.distributed.chips import find_chip
from jaxrl_moe.planning import target
from jaxrl_moe.types import UserError

CASES = [("scale/qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", "H200")]  # recipe, shape, chip
LISTED = 15
HOW = """Compiled for the chip on a machine without it; nothing ran. A kernel takes at least the longest of its bytes through the
chip's memory, its FLOPs at the peak of bfloat16 and its bytes over links, and here one runs after the other and a launch costs nothing.
The floor of a micro-batch is the model's FLOPs at that peak, or its arguments and results once through memory; of a decode step, all
weights and half the KV pool. See jaxrl_moe/planning/kernels.
"""


def table() -> str:
    """The figures of all cases, and their dearest kernels.

    Raises:
      UserError: nothing can be compiled for a GPU.
    """
    if not target.at_hand():
        raise UserError("The case kernels compiles for a GPU, and there is no compiler for one: `make "
                        "target` puts it beside JAX.")
    parts = [HOW]
    for case in CASES:
        answered = in_process(case)
        parts.append(f"## {case[1]}, {case[0]}, {case[2]}\n\n"
                     + rows(["program", "kernels", "GB moved", "TFLOPs", "at least", "floor", "by", "share"],
                            answered["rows"]))
        parts += [f"```\n{text}\n```\n" for text in answered["texts"]]
    return "\n".join(parts)


def in_process(case: tuple[str, str, str]) -> dict:
    """answer(case) of a fresh process that can compile for GPUs."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.kernels",
                           json.dumps(case)], env=target.environment(find_chip(case[2]), 1),
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmarks.kernels {case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(recipe: str, shape: str, chip: str) -> dict:
    """{rows: the figures of each program, texts: its dearest kernels}."""
    from benchmarks import recipes
    from jaxrl_moe.config import resolve
    from jaxrl_moe.planning.kernels.plan import tables
    from jaxrl_moe.planning.kernels.report import duration, figure, kernel_lines
    from jaxrl_moe.planning.plan import make_plan
    from jaxrl_moe.planning.report import model_config
    config = resolve(recipes.load(recipe))
    card = find_chip(chip)
    model = model_config(config, recipes.model_config(shape))
    plan = make_plan(config, model, card.client_memory(), target.devices(card))
    figures = []
    texts = []
    for title, table, least in tables(plan, card):
        whole = table.seconds(card)
        floor = least.seconds(card)
        figures.append((title, f"{table.launches:,}", figure(table.bytes / 1e9), figure(table.flops / 1e12),
                        duration(whole), duration(floor), least.bound(card), f"{floor / whole:.1%}"))
        texts.append("\n".join(kernel_lines(table, card, f"{title} on {chip}", least, count=LISTED)))
    return {"rows": figures, "texts": texts}


if __name__ == "__main__":
    print(json.dumps(answer(*json.loads(sys.argv[1]))))
