"""What a finished run shows: a table of its phases, the reward curve as a PNG, and where everything lies."""
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.log_files import read_lines, whole_file
from jaxrl_moe.runs.console import of_envs
from jaxrl_moe.runs.logs import LOADS, METRICS, TRAJECTORIES

Rows = Sequence[Mapping[str, Any]]
LAST = 10  # steps whose load is shown expert by expert


def report(folder: pathlib.Path) -> None:
    """Reads the logs of a run, prints its table and its paths, and draws reward_curve.png and, for MoE,
    moe_load.png.

    Args:
      folder: run_dir; metrics.jsonl, moe_load.jsonl, and sft/metrics.jsonl if there was a warm-up. Where SFT
        is all there was, the files shown are those of sft/.
    """
    import rich.console
    import rich.table
    rl = read_rows(folder / METRICS)
    sft = read_rows(folder / "sft" / METRICS)
    table = rich.table.Table("", "", title=f"Run {folder}", show_header=False)
    phase = folder if rl else folder / "sft"
    for label, value in summary(rl, sft):
        table.add_row(label, value)
    console = rich.console.Console()
    console.print(table)
    curve = draw_curve(rl, sft, phase / "reward_curve.png")
    loads = draw_load(read_rows(phase / LOADS), phase / "moe_load.png")
    paths = {
        "reward curve": curve,
        "experts' load": loads,
        "metrics": phase / METRICS,
        "trajectories": phase / TRAJECTORIES,
        "TensorBoard": phase / "tensorboard",
        "checkpoints": phase / "checkpoints",
        "Hugging Face checkpoint": phase / "model",
        "PEFT adapter": phase / "adapter",
        "critic": phase / "critic"}
    for name, path in paths.items():
        if path.exists():
            console.print(f"{name}: {path}", soft_wrap=True)
    console.print(f"Try next: python scripts/generate.py --model={phase / 'model'} "
                  "--prompt=\"...\"", soft_wrap=True)


def read_rows(path: pathlib.Path) -> Rows:
    """The rows of a metrics file; none if it is absent. Raises UserError for a damaged line."""
    return [row for _, row in read_lines(path)] if path.exists() else []


def summary(rl: Rows, sft: Rows) -> list[tuple[str, str]]:
    """(label, value) for the table: accuracies between the phases, mismatch, speed, seconds."""
    before = evaluations(sft) or evaluations(rl)
    stages = [("before SFT" if sft else "before RL", before[:1]), ("after SFT", evaluations(sft)[-1:]),
              ("after RL", evaluations(rl)[-1:])]
    lines = [(f"accuracy {name}", accuracy(rows[0])) for name, rows in stages if rows]
    lines += [(f"accuracy {name}, {env}", told) for name, rows in stages if rows
              for env, told in accuracies(rows[0]).items()]
    if rl:
        lines += [("mismatch KL (sampler against trainer, mean)", f"{mean(rl, 'mismatch/kl'):.2e}"),
                  ("rollout tokens/s (median)", f"{np.median(column(rl, 'rollout/tokens_per_s')):,.0f}"),
                  ("RL tokens/s, whole step (median)", f"{np.median(column(rl, 'perf/tokens_per_s')):,.0f}")]
    judged = [row["critic/explained_variance"] for row in rl if "critic/explained_variance" in row]
    if judged:
        lines.append(("returns explained by the critic (mean of the last "
                      "ten steps)", f"{np.mean(judged[-10:]):.2f}"))
    return lines + [(f"seconds in {name}", f"{seconds(rows):.0f}")
                    for name, rows in (("SFT", sft), ("RL", rl)) if rows]


def accuracy(row: Mapping[str, float]) -> str:
    greedy = f", greedy {row['eval/greedy']:.3f}" if "eval/greedy" in row else ""
    return f"pass@1 {row.get('eval/pass_at_1', row['eval/reward_mean']):.3f}{greedy}"


def accuracies(row: Mapping[str, float]) -> dict[str, str]:
    """The same of each environment, where the run has several."""
    greedy = of_envs(row, "eval", "greedy")
    return {env: f"pass@1 {value:.3f}" + (f", greedy {greedy[env]:.3f}" if env in greedy else "")
            for env, value in of_envs(row, "eval", "pass_at_1", "reward_mean").items()}


def evaluations(rows: Rows) -> Rows:
    return [row for row in rows if "eval/reward_mean" in row]


def seconds(rows: Rows) -> float:
    """A phase's time: every step, evaluations and checkpoints included, but for the last save, which no row
    can hold."""
    return float(
        sum(
            row.get("time/step_s", row.get("time/evaluate_s", 0.0)) + row.get("time/checkpoint_s", 0.0)
            for row in rows))


def column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if name in row] or [float("nan")]


def mean(rows: Rows, name: str) -> float:
    return float(np.mean(column(rows, name)))


def draw_curve(rl: Rows, sft: Rows, path: pathlib.Path) -> pathlib.Path:
    """Reward of every step and held-out accuracy over the RL steps, the warm-up's result at step 0."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    steps = [row["step"] for row in rl if "reward/mean" in row]
    held_out = [(0, row) for row in evaluations(sft)[-1:]] + [(row["step"], row) for row in evaluations(rl)]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(steps, [row["reward/mean"] for row in rl if "reward/mean" in row], label="training reward",
              alpha=0.6)
    axes.plot([step for step, _ in held_out],
              [row.get("eval/pass_at_1", row["eval/reward_mean"]) for _, row in held_out], marker="o",
              label="held-out pass@1")
    for env in dict.fromkeys(env for _, row in held_out for env in accuracies(row)):
        points = [(step, of_envs(row, "eval", "pass_at_1", "reward_mean").get(env)) for step, row in held_out]
        axes.plot(*zip(*(point for point in points if point[1] is not None)), marker=".", linestyle="--",
                  label=f"held-out, {env}")
    axes.set(xlabel="RL step", ylabel="reward", title=str(path.parent))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
    return path


def draw_load(rows: Rows, path: pathlib.Path) -> pathlib.Path:
    """Two heat maps of a run's routing: each expert's share of its layer's rows over the last steps, and
    max_vio of each layer over all steps. Nothing is drawn without rows, as for a dense model.

    Args:
      rows: of moe_load.jsonl, {"step": ..., "load": [L, E] rows that each expert got}.
      path: the PNG.
    """
    if not rows:
        return path
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    shares_SLE = shares(np.array([row["load"] for row in rows]))
    last = shares(np.sum([row["load"] for row in rows[-LAST:]], axis=0))
    experts = last.shape[1]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    image = left.imshow(experts * last, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0)
    left.set(xlabel="expert", ylabel="sparse layer", title="share of rows x experts, last "
                                                           f"{min(LAST, len(rows))} steps (1: balanced)")
    figure.colorbar(image, ax=left)
    steps = [row["step"] for row in rows]
    image = right.imshow((experts * shares_SLE.max(axis=2) - 1).T, aspect="auto", interpolation="nearest",
                         cmap="magma", vmin=0,
                         extent=(steps[0] - 0.5, steps[-1] + 0.5, last.shape[0] - 0.5, -0.5))
    right.set(xlabel="step", ylabel="sparse layer", title="max_vio (0: balanced)")
    figure.colorbar(image, ax=right)
    _save(figure, path)
    return path


def _save(figure: Any, path: pathlib.Path) -> None:
    from matplotlib import pyplot
    with whole_file(path) as other:
        figure.savefig(other, dpi=120, format="png")
    pyplot.close(figure)


def shares(load: np.ndarray) -> np.ndarray:
    """[..., L, E] rows as shares of each layer's."""
    return load / np.maximum(load.sum(axis=-1, keepdims=True), 1)
