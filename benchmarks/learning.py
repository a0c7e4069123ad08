"""Do the algorithms learn? Each trains from one shared SFT checkpoint a seed on the quickstart task; held-out
pass@1 before and after.

What an algorithm is (the sections algorithm, critic and moe, and dynamic sampling) comes from its own recipe.
Model, data, task, batch sizes, learning rates and steps are those of the quickstart; `differences` says what
that changes in each recipe.
"""
import gc
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import bridges
from benchmarks.recipes import load
from benchmarks.table import rows as table_rows
from jaxrl_moe import cli
from jaxrl_moe.checks import entry, start
from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.config import Config, base, resolve
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.runs.report import Rows, evaluations, read_rows
from jaxrl_moe.runs.stopping import Ending
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError

QUICKSTART = "quickstart"
ALGORITHMS = {  # recipe, see benchmarks/recipes.py: what it is called
    "gsm8k/grpo": "GRPO",
    "gsm8k/dr_grpo": "Dr.GRPO",
    "gsm8k/dapo": "DAPO",
    "gsm8k/gspo": "GSPO",
    "gsm8k/cispo": "CISPO",
    "gsm8k/rloo": "RLOO",
    "gsm8k/reinforce_pp": "REINFORCE++",
    "gsm8k/ppo": "PPO + GAE",
    "gsm8k_ppo": "last-token critic"}
# {section: its settings that are taken}; None: the whole section
TAKEN = {"algorithm": None, "critic": None, "moe": None, "rollout": ("dynamic_sampling", "max_rounds")}
EVALUATIONS = 6  # along a curve
SLASH = "."  # in the name of a run's folder
# of the runs that the committed table is made of
STEPS = 60
SEEDS = (0, 1, 2)


def run(recipes: Sequence[str], seeds: Sequence[int], steps: int, folder: pathlib.Path) -> None:
    """Trains what is not finished yet; killed, it goes on where it was.

    Args:
      recipes: names as benchmarks/recipes.py takes them.
      seeds: of data, model, SFT and RL.
      steps: of RL.
      folder: holds sft_SEED, and under STEPS_steps a run for each recipe and seed.
    """
    cli.keep_compiled()
    configs = {(recipe, seed): rl_config(recipe, seed, steps, folder) for seed in seeds for recipe in recipes}
    for config in configs.values():
        refuse(entry.here(start.training(config, bridges)))
    for seed in seeds:
        finish(pipeline.run_sft, sft_config(seed, folder))
        for recipe in recipes:
            config = configs[recipe, seed]
            if not (pathlib.Path(config.run_dir) / "model").exists():
                print(f"--- {recipe}, seed {seed}, {steps} steps")
                finish(pipeline.run_all, config)


def finish(phase: Callable[[Config, Any], Ending], config: Config) -> None:
    if not (ending := phase(config, bridges)):
        raise UserError(ending.sentence(config.run_dir))
    jax.clear_caches()  # the next run has programs of its own
    gc.collect()


def sft_config(seed: int, folder: pathlib.Path) -> Config:
    settings = load(QUICKSTART)
    settings.seed = seed
    settings.run_dir = str(folder / f"sft_{seed}")
    settings.eval.greedy = False
    return resolve(settings)


def run_dir(recipe: str, seed: int, steps: int, folder: pathlib.Path) -> pathlib.Path:
    return folder / f"{steps}_steps" / f"{recipe.replace('/', SLASH)}_{seed}"


def rl_config(recipe: str, seed: int, steps: int, folder: pathlib.Path) -> Config:
    """The quickstart's RL phase with the algorithm of a recipe."""
    settings = adapted(load(QUICKSTART), load(recipe))
    start = folder / f"sft_{seed}"
    settings.seed = seed
    settings.run_dir = str(run_dir(recipe, seed, steps, folder))
    settings.model.path = str(start / "sft" / "model")
    settings.data.path = str(start / "data" / "train.jsonl")
    settings.data.eval_path = str(start / "data" / "eval.jsonl")
    settings.data.generate = settings.sft.path = ""
    settings.scratch.update(base().scratch)
    settings.train.steps = steps
    settings.eval.every = max(1, steps // EVALUATIONS)
    settings.eval.at_start = settings.eval.greedy = False
    settings.logging.trajectories = settings.logging.tensorboard = False
    return resolve(settings)


def adapted(settings: ConfigDict, recipe: ConfigDict) -> ConfigDict:
    """The quickstart's settings with the algorithm of the recipe: lengths scaled with the longest completion,
    the critic's learning rate with the policy's; groups of one where the recipe has them."""
    for section, names in TAKEN.items():
        for name in names or recipe[section]:
            settings[section][name] = recipe[section][name]
    if recipe.rollout.group_size == 1:  # as many completions, each of its own prompt
        settings.rollout.prompts_per_step *= settings.rollout.group_size
        settings.rollout.group_size = 1
    shorter = settings.rollout.max_tokens / recipe.rollout.max_tokens
    faster = settings.optimizer.learning_rate / recipe.optimizer.learning_rate
    settings.algorithm.overlong_tokens = round(shorter * recipe.algorithm.overlong_tokens)
    settings.algorithm.overlong_cushion = round(shorter * recipe.algorithm.overlong_cushion)
    if find_advantage(recipe.algorithm.advantage).critic:
        settings.critic.learning_rate = faster * recipe.critic.learning_rate
    return settings


def differences(recipe: str) -> str:
    """What the task changes in a recipe's algorithm, critic and moe sections; the other sections are the
    quickstart's."""
    theirs = load(recipe)
    ours = adapted(load(QUICKSTART), load(recipe))
    names = [(section, name) for section in ("algorithm", "critic", "moe") for name in ours[section]]
    changed = [f"{section}.{name} {theirs[section][name]} -> "
               f"{ours[section][name]:g}" for section, name in names
               if ours[section][name] != theirs[section][name]]
    return ", ".join(changed) or "none"


def finished(steps: int, folder: pathlib.Path) -> Iterator[tuple[str, int, float, Rows]]:
    """(recipe, seed, held-out pass@1 before, rows of the log) of every finished run."""
    for path in sorted((folder / f"{steps}_steps").glob("*_*")):
        name, _, seed = path.name.rpartition("_")
        if (path / "model").exists():
            before = evaluations(read_rows(folder / f"sft_{seed}" / "sft"
                                           / "metrics.jsonl"))[-1]["eval/pass_at_1"]
            yield name.replace(SLASH, "/"), int(seed), before, read_rows(path / "metrics.jsonl")


def whole(steps: int, folder: pathlib.Path) -> bool:
    """Whether all that the committed table is made of is finished in the folder."""
    there = {(recipe, seed) for recipe, seed, _, _ in finished(steps, folder)}
    return steps == STEPS and there >= {(recipe, seed) for recipe in ALGORITHMS for seed in SEEDS}


def in_order(recipes: Iterable[str]) -> list[str]:
    """Those of ALGORITHMS in its order, then others."""
    return [name for name in ALGORITHMS if name in recipes] + sorted(set(recipes) - set(ALGORITHMS))


def table(steps: int, folder: pathlib.Path, image: str) -> str:
    """Markdown: pass@1 before and after, seed by seed, the lift, seconds without evaluations, and the curves'
    image."""
    runs = list(finished(steps, folder))
    seeds = sorted({seed for _, seed, _, _ in runs})
    lines = []
    notes = []
    for recipe in in_order({run[0] for run in runs}):
        mine = {seed: (before, evaluations(rows)[-1]["eval/pass_at_1"], seconds(rows))
                for other, seed, before, rows in runs if other == recipe}
        before, after, spent = np.mean(list(mine.values()), axis=0)
        each = [f"{mine[seed][1]:.3f}" if seed in mine else "-" for seed in seeds]
        lift = min(result[1] - result[0] for result in mine.values())
        name = ALGORITHMS.get(recipe, recipe)
        lines.append([
            name, f"{before:.3f}", f"**{after:.3f}**", *each, f"{after - before:+.3f}", f"{lift:+.3f}",
            f"{spent:.0f}"
        ])
        notes.append(f"- {name} (`configs/{recipe}.py`): {differences(recipe)}")
    header = ["algorithm", "before", "after", *(f"seed {seed}" for seed in seeds), "lift", "least lift",
              "seconds"]
    task = load(QUICKSTART)
    batch = (f"{task.rollout.prompts_per_step} x {task.rollout.group_size} completions "
             f"({task.rollout.prompts_per_step * task.rollout.group_size} x 1 where the recipe has groups of "
             "one)")
    intro = (f"Held-out pass@1 at T = 1 on 512 word problems after {steps} steps of {batch}, from one SFT "
             "checkpoint a seed that all algorithms share. Before and after are means over the seeds; the "
             "least lift is that of the worst seed; seconds are those of training, without evaluations. The "
             "table shows that each learns; it does not rank them: all level off, and recipes with several "
             "minibatches make several times the updates.\n\n")
    outro = ("\nAlgorithm, critic and moe sections and dynamic sampling are those of the recipes; all else "
             f"(model, adapters, data, task, batch, learning rate {task.optimizer.learning_rate:g} with its "
             "schedule) is that of `configs/quickstart.py`. What the task changes in a recipe's own "
             "sections, lengths scaled with the longest completion and the critic's learning rate with the "
             "policy's:\n\n")
    return intro + table_rows(
        header, lines) + outro + "\n".join(notes) + f"\n\n![held-out pass@1 along the runs]({image})\n"


def seconds(rows: Rows) -> float:
    return float(sum(row.get("time/step_s", 0.0) - row.get("time/evaluate_s", 0.0) for row in rows))


def plot(steps: int, folder: pathlib.Path, path: pathlib.Path) -> None:
    """Held-out pass@1 along the steps: the mean over seeds, and their range as a band; a panel an
    algorithm."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    curves = {}
    for recipe, _, before, rows in finished(steps, folder):
        points = [(0, before)] + [(row["step"], row["eval/pass_at_1"]) for row in evaluations(rows)]
        curves.setdefault(recipe, []).append(np.array(points))
    figure, axes = pyplot.subplots(-(-len(curves) // 3), 3, figsize=(9, 2.4 * -(-len(curves) // 3)),
                                   sharex=True, sharey=True, squeeze=False, layout="constrained")
    for axis, recipe in zip(axes.flat, in_order(curves)):
        x = curves[recipe][0][:, 0]
        y = np.array([curve[:, 1] for curve in curves[recipe]])
        axis.fill_between(x, y.min(axis=0), y.max(axis=0), alpha=0.2)
        axis.plot(x, y.mean(axis=0), marker=".")
        axis.set_title(ALGORITHMS.get(recipe, recipe), fontsize=10)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(curves):]:
        axis.axis("off")
    figure.supxlabel("RL step")
    figure.supylabel("held-out pass@1")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
