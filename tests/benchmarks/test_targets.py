"""The long targets: each is told by `make help`, none runs in `make test` or in CI; and what a learning table
is made of."""
import pathlib
import subprocess

import pytest

from benchmarks import learning, recipes, table
from jaxrl_moe.config import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONG = {"soak": "-m benchmarks.soak", "kills": "-m benchmarks.kills",
        "adapters": "-m benchmarks.adapters", "envs-crowd": "-m benchmarks.soak.envs",
        "kernels-crowd": "-m benchmarks.soak.kernels",
        "learn": "scripts/benchmark.py --case=learning"}


def would_run(*target: str) -> str:
    command = ["make", "-n", *target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", LONG)
def test_a_long_target_is_in_the_help_and_in_nothing_that_ci_runs(target):
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in told and LONG[target] in would_run(target)
    assert LONG[target] not in would_run("test") + would_run("test-slow") + would_run("test-engines")
    assert f"make {target}" not in (ROOT / ".ci" / "run").read_text()


def test_options_of_the_targets_reach_their_scripts():
    assert "--minutes=6" in would_run("soak", "MINUTES=6") and "--minutes=20" in would_run("soak")
    part = would_run("learn", "SEEDS=0,1", "RECIPES=gspo", "STEPS=2")
    assert all(option in part for option in ("--seeds=0,1", "--recipes=gspo", "--steps=2"))
    assert "--seeds" not in would_run("learn")


def test_a_learning_table_is_whole_where_all_recipes_and_seeds_are_finished(tmp_path):
    def finish(recipe: str, seed: int) -> None:
        folder = learning.run_dir(recipe, seed, learning.STEPS, tmp_path)
        (folder / "model").mkdir(parents=True)
        row = '{"step": 1, "eval/pass_at_1": 0.5, "eval/reward_mean": 0.5, "eval/samples": 1}\n'
        (folder / "metrics.jsonl").write_text(row)
        start = tmp_path / f"sft_{seed}" / "sft"
        start.mkdir(parents=True, exist_ok=True)
        (start / "metrics.jsonl").write_text(row)
    every = [(recipe, seed) for recipe in learning.ALGORITHMS for seed in learning.SEEDS]
    for recipe, seed in every[1:]:
        finish(recipe, seed)
    assert not learning.whole(learning.STEPS, tmp_path)
    finish(*every[0])
    assert learning.whole(learning.STEPS, tmp_path) and not learning.whole(learning.STEPS + 1, tmp_path)


def test_a_recipe_in_a_folder_has_a_run_of_its_own_and_keeps_its_name(tmp_path):
    folder = learning.run_dir("room/grpo", 1, 60, tmp_path)
    assert folder.parent == tmp_path / "60_steps" and folder.name == "room.grpo_1"


def test_every_recipe_that_benchmarks_name_is_there_and_another_is_refused_with_names():
    for name in (learning.QUICKSTART, *learning.ALGORITHMS):
        assert recipes.path(name).is_file()
    with pytest.raises(ConfigError, match=f"'grpoo'.*{learning.QUICKSTART}"):
        recipes.load("grpoo")


def test_a_heading_has_date_commit_machine_and_versions():
    title, _, told = table.heading("soak").splitlines()[:3]
    assert title == "# soak" and "commit" in told and "cores of" in told and "jax " in told
