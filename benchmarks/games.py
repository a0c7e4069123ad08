"""Do the games of many turns teach? TextCraft, BabyAI, both in one run, and ScienceWorld: held-out success
before SFT, after it and after GRPO. The first two are also played over environment servers with the same
seed, which must give the same numbers.

    make learn-games
    python -m benchmarks.games --games=textcraft --seeds=1 --ways=process

Runs that are finished under --folder are not begun again, and one that was stopped goes on. A game of which
all runs are there gets its section of benchmarks/games.md and its curves in benchmarks/games/; of the others
both go to --folder.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
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
      ways: that it is played for its section.
    """
    recipe: str
    scores: Mapping[str, str]
    least: float = 0.15
    ways: Sequence[str] = ("process",)


PASS = "eval/pass_at_1"
WAYS = ("process", "server")
GAMES = {"textcraft": Game("agents/textcraft_grpo", {"textcraft": PASS}, ways=WAYS),
         "babyai": Game("agents/babyai_grpo", {"babyai": PASS}, ways=WAYS),
         "mixed": Game("agents/mixed_grpo", {"mixed, textcraft": "eval/textcraft/pass_at_1",
                                             "mixed, babyai": "eval/babyai/pass_at_1"}, 0.1),
         "sciworld": Game("agents/sciworld_grpo", {"sciworld": "eval/reward_mean"}, 0.05)}
SEEDS = (0, 1)
HEADER = ("game", "seed", "played", "before SFT", "after SFT", "after GRPO", "lift of GRPO", "as in process",
          "minutes")
INTRO = """# games

`make learn-games`: held-out success (pass@1 at T = 1; of ScienceWorld the mean score, from 0 to 1) of small
MoEs that are made from scratch, by the recipes `configs/agents/*_grpo.py`: SFT on episodes of planners and
beginners, then GRPO in many turns. "server" plays by `agentgym(...)` at servers that `scripts/serve.py env`
started; "as in process" compares every token, log-prob and reward of its trajectories, and every metric that
is no time, with the run in process. Minutes are those of SFT and RL, evaluations included.
"""
OWN = ("time/", "perf/", "compile/", "rollout/tokens_per_s")  # metrics of times, which no two runs share


def define_options() -> None:
    define_path("folder", "runs/games", "where the runs lie")
    flags.DEFINE_multi_enum("games", list(GAMES), list(GAMES), "which of them; may be given several times")
    flags.DEFINE_multi_integer("seeds", list(SEEDS), "of data, model, SFT and RL", lower_bound=0)
    flags.DEFINE_multi_enum("ways", [], list(WAYS), "process: the game in the run's own; server: in another; "
                            "empty: those of the game's section")


def main() -> None:
    """Plays what is not finished yet, and writes the sections; ends with 1 where a game taught too little or
    the ways differ."""
    options = flags.FLAGS
    folder = pathlib.Path(options.folder)
    problems = []
    for game in options.games:
        for seed in options.seeds:
            for way in options.ways or GAMES[game].ways:
                play(game, seed, way, place(folder, game, seed, way))
        problems += write(folder, game)
    sys.exit(1 if problems else 0)


def write(folder: pathlib.Path, game: str) -> list[str]:
    """Writes the section of a game and its curves; returns what is wrong."""
    runs = [place(folder, game, seed, way) for seed in SEEDS for way in GAMES[game].ways]
    whole = all((run / "model").exists() for run in runs)
    room = table.ROOT / "benchmarks" if whole else folder
    text, problems = report(folder, game)
    plot(folder, game, room / "games" / f"{game}.png")
    table.put_section(room / "games.md", INTRO, game, text)
    print(f"{text}\nwritten to {room / 'games.md'}")
    return problems


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


def finished(folder: pathlib.Path, game: str) -> Iterator[tuple[int, str, pathlib.Path]]:
    """(seed, way, folder) of every finished run of a game."""
    for path in sorted(folder.glob(f"{game}_*_*")):
        if (path / "model").exists():
            _, seed, way = path.name.split("_")
            yield int(seed), way, path


def curve(run_dir: pathlib.Path, metric: str) -> tuple[float, list[tuple[int, float]]]:
    """(score before SFT, [(step of GRPO, score)] from what SFT came to on)."""
    warm = [row[metric] for row in evaluations(read_rows(run_dir / "sft" / "metrics.jsonl"))]
    rows = evaluations(read_rows(run_dir / "metrics.jsonl"))
    return warm[0], [(0, warm[-1]), *((row["step"], row[metric]) for row in rows if row["step"])]


def report(folder: pathlib.Path, game: str) -> tuple[str, list[str]]:
    """(markdown, what is wrong)."""
    lines = []
    problems = []
    for seed, way, run_dir in finished(folder, game):
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
    told = "".join(f"- {problem}\n" for problem in problems)
    wrong = f"{len(problems)} PROBLEMS\n\n{told}\n" if problems else ""
    return (f"{table.circumstances()}\n\n{table.rows(HEADER, lines)}\n{wrong}"
            f"![held-out success along the runs](games/{game}.png)\n"), problems


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


def plot(folder: pathlib.Path, game: str, path: pathlib.Path) -> None:
    """Held-out success along the steps of GRPO, a panel for each score."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    scores = GAMES[game].scores
    figure, axes = pyplot.subplots(1, len(scores), figsize=(4.5 * len(scores), 3), sharey=True, squeeze=False,
                                   layout="constrained")
    for axis, (label, metric) in zip(axes[0], scores.items()):
        for seed, way, run_dir in finished(folder, game):
            _, points = curve(run_dir, metric)
            axis.plot(*zip(*points), marker=".", linestyle="-" if way == WAYS[0] else "--",
                      color=f"C{seed}", label=f"seed {seed}, {way}")
        axis.set_title(label)
        axis.set_xlabel("step of GRPO")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel("held-out score")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
