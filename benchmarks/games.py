"""Do the games of many turns teach? TextCraft, BabyAI, both in one run, and ScienceWorld, each played in
process and over environment servers with the same seed: held-out success before SFT, after it and after GRPO,
and whether both ways give the same numbers.

    make learn-games
    python -m benchmarks.games --games=textcraft --seeds=1 --ways=process

Runs that are finished under --folder are not begun again, and one that was stopped goes on. The table goes to
benchmarks/games.md and the curves to benchmarks/games.png, where all of them are there.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from benchmarks import table
from benchmarks.soak.server import started
from jaxrl_moe import cli, recipes
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.registry import declared
from jaxrl_moe.options import define_path
from jaxrl_moe.runs.report import Rows, evaluations, read_rows, seconds
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class Game:
    """A recipe that is run.

    Attributes:
      scores: {what it is of, as the table calls it: the metric}.
      least: that GRPO lifts each of them by.
    """
    recipe: str
    scores: Mapping[str, str]
    least: float = 0.15


PASS = "eval/pass_at_1"
GAMES = {"textcraft": Game("agents/textcraft_grpo", {"textcraft": PASS}),
         "babyai": Game("agents/babyai_grpo", {"babyai": PASS}),
         "mixed": Game("agents/mixed_grpo", {"mixed, textcraft": "eval/textcraft/pass_at_1",
                                             "mixed, babyai": "eval/babyai/pass_at_1"}, 0.1),
         "sciworld": Game("agents/sciworld_grpo", {"sciworld": "eval/reward_mean"}, 0.05)}
WAYS = ("process", "server")
SEEDS = (0, 1)
OWN = ("time/", "perf/", "compile/", "rollout/tokens_per_s")  # metrics of times, which no two runs share


def define_options() -> None:
    define_path("folder", "runs/games", "where the runs lie")
    flags.DEFINE_multi_enum("games", list(GAMES), list(GAMES), "which of them; may be given several times")
    flags.DEFINE_multi_integer("seeds", list(SEEDS), "of data, model, SFT and RL", lower_bound=0)
    flags.DEFINE_multi_enum("ways", list(WAYS), list(WAYS), "process: the game in the run's own; server: in "
                            "another")


def main() -> None:
    """Plays what is not finished yet, and writes the table; ends with 1 where a game taught too little or the
    ways differ."""
    options = flags.FLAGS
    folder = pathlib.Path(options.folder)
    for game in options.games:
        for seed in options.seeds:
            for way in options.ways:
                play(game, seed, way, place(folder, game, seed, way))
    text, problems = report(folder)
    whole = all((place(folder, *each) / "model").exists() for each in everything())
    room = table.ROOT / "benchmarks" if whole else folder
    plot(folder, room / "games.png")
    (room / "games.md").write_text(text)
    print(f"{text}\nwritten to {room / 'games.md'}")
    sys.exit(1 if problems else 0)


def everything() -> list[tuple[str, int, str]]:
    return [(game, seed, way) for game in GAMES for seed in SEEDS for way in WAYS]


def place(folder: pathlib.Path, game: str, seed: int, way: str) -> pathlib.Path:
    return folder / f"{game}_{seed}_{way}"


def play(game: str, seed: int, way: str, run_dir: pathlib.Path) -> None:
    """One run, as a user starts it."""
    if (run_dir / "model").exists():
        return
    recipe = GAMES[game].recipe
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        task = []
        if way == "server":
            task = [f"--config.env.name={over_servers(recipe, stack, run_dir.parent)}"]
        print(f"--- {game}, seed {seed}, {way}", flush=True)
        command = [sys.executable, "scripts/train.py", f"--config=configs/{recipe}.py",
                   f"--config.run_dir={run_dir.resolve()}", f"--config.seed={seed}", *task]
        done = subprocess.run(command, cwd=table.ROOT, env=os.environ | {"PYTHONPATH": str(table.ROOT)})
    if done.returncode or not (run_dir / "model").exists():
        raise UserError(f"The run in {run_dir} did not end well (exit code {done.returncode}): see what it "
                        "printed, and give the same command again to go on.")


def over_servers(recipe: str, stack: contextlib.ExitStack, folder: pathlib.Path) -> str:
    """The recipe's env.name, with clients of servers in place of its games; these are started, and end with
    the stack."""
    spec = recipes.settings(str(table.ROOT / "configs" / f"{recipe}.py")).env.name
    parts = {name: part for name, part in declared(spec).items() if isinstance(part, str)}
    if not spec.startswith("mixed("):
        return client(spec, stack, folder)
    clients = [f'{name}="{client(part, stack, folder)}"' for name, part in parts.items()]
    return f"mixed({', '.join(clients)})"


def client(spec: str, stack: contextlib.ExitStack, folder: pathlib.Path) -> str:
    """Starts a server of a game, and names the task that plays it there."""
    with contextlib.closing(make_task(spec)) as task:
        said = f"max_turns={task.max_turns}, deterministic={str(task.deterministic).lower()}"
        wire = task.wire
    url, _ = stack.enter_context(started(["env", f"--name={spec}"], r"at (http://\S+)", folder))
    return f"agentgym(env='{wire}', url='{url}', {said})"


def finished(folder: pathlib.Path) -> Iterator[tuple[str, int, str, pathlib.Path]]:
    """(game, seed, way, folder) of every finished run."""
    for path in sorted(folder.glob("*_*_*")):
        game, seed, way = path.name.split("_")
        if game in GAMES and (path / "model").exists():
            yield game, int(seed), way, path


def curve(run_dir: pathlib.Path, metric: str = PASS) -> tuple[float, list[tuple[int, float]]]:
    """(score before SFT, [(step of GRPO, score)] from what SFT came to on)."""
    warm = [row[metric] for row in evaluations(read_rows(run_dir / "sft" / "metrics.jsonl"))]
    rows = evaluations(read_rows(run_dir / "metrics.jsonl"))
    return warm[0], [(0, warm[-1]), *((row["step"], row[metric]) for row in rows if row["step"])]


def report(folder: pathlib.Path) -> tuple[str, list[str]]:
    """(markdown, what is wrong)."""
    lines = []
    problems = []
    for game, seed, way, run_dir in finished(folder):
        same = "-" if way == WAYS[0] else told_same(place(folder, game, seed, WAYS[0]), run_dir, problems)
        rows = read_rows(run_dir / "metrics.jsonl")
        for label, metric in GAMES[game].scores.items():
            before, points = curve(run_dir, metric)
            lift = points[-1][1] - points[0][1]
            if lift < GAMES[game].least:
                problems.append(f"{label}, seed {seed}, {way}: GRPO lifts success by {lift:+.3f}, under "
                                f"{GAMES[game].least}")
            lines.append([label, seed, way, f"{before:.3f}", f"{points[0][1]:.3f}",
                          f"**{points[-1][1]:.3f}**", f"{lift:+.3f}", same, f"{minutes(run_dir, rows):.1f}"])
    header = ["game", "seed", "played", "before SFT", "after SFT", "after GRPO", "lift of GRPO",
              "as in process", "minutes"]
    intro = ("`make learn-games`: held-out success (pass@1 at T = 1; of ScienceWorld the mean score, from 0 "
             "to 1) of small MoEs that are made from scratch, by the recipes `configs/agents/*_grpo.py`: SFT "
             "on episodes of planners and beginners, then GRPO in many turns. \"server\" plays by "
             "`agentgym(...)` at servers that `scripts/serve.py env` started; \"as in process\" compares "
             "every token, log-prob and reward of its trajectories, and every metric that is no time, "
             "with the run in process. Minutes are those of SFT and RL, evaluations included.\n\n")
    text = table.heading("games") + intro + table.rows(header, lines)
    told = "".join(f"- {problem}\n" for problem in problems)
    return text + (f"\n{len(problems)} PROBLEMS\n\n{told}" if problems else "") + (
        "\n![held-out success along the runs](games.png)\n"), problems


def minutes(run_dir: pathlib.Path, rows: Rows) -> float:
    every = [*read_rows(run_dir / "sft" / "metrics.jsonl"), *rows]
    return seconds(every) / 60


def told_same(one: pathlib.Path, other: pathlib.Path, problems: list[str]) -> str:
    """Whether two runs have the same numbers."""
    if not (one / "model").exists():
        return "-"
    differing = [name for name in ("sft/trajectories.jsonl", "trajectories.jsonl", "sft/metrics.jsonl",
                                   "metrics.jsonl") if _numbers(one / name) != _numbers(other / name)]
    problems += [f"{other.name}: other numbers than {one.name} in {name}" for name in differing]
    return "different" if differing else "the same"


def _numbers(path: pathlib.Path) -> list[Mapping[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(OWN)} for row in rows]


def plot(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Held-out success along the steps of GRPO, a panel a game."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    panels = [(game, label, metric) for game in GAMES for label, metric in GAMES[game].scores.items()]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3), sharey=True,
                                   layout="constrained")
    for axis, (game, label, metric) in zip(axes, panels):
        for other, seed, way, run_dir in finished(folder):
            if other == game:
                _, points = curve(run_dir, metric)
                axis.plot(*zip(*points), marker=".", linestyle="-" if way == WAYS[0] else "--",
                          color=f"C{seed}", label=f"seed {seed}, {way}")
        axis.set_title(label)
        axis.set_xlabel("step of GRPO")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    axes[0].set_ylabel("held-out success")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
