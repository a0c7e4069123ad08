"""Whole runs: started in processes of their own, read back, and compared."""
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrl_moe.runs.checkpoints import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # XLA's flag for the same bits on a GPU
TIMED = ("time/", "perf/", "rollout/tokens_per_s")


def rows(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def untimed(path: pathlib.Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.startswith(TIMED)} for row in rows(path)]


def arrays(run_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of the newest checkpoint, by name."""
    steps = sorted(int(path.name) for path in (run_dir / "checkpoints").iterdir())
    manager = checkpoint.ocp.PyTreeCheckpointer()
    return jax.tree.map(np.asarray, manager.restore(run_dir / "checkpoints" / str(steps[-1]) / "state"))


def assert_same_run(run: pathlib.Path, other: pathlib.Path) -> None:
    assert untimed(run / "metrics.jsonl") == untimed(other / "metrics.jsonl")
    assert (run / "trajectories.jsonl").read_text() == (other / "trajectories.jsonl").read_text()
    ours = arrays(run)
    theirs = arrays(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def recomputed(step: int, drawn: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reward and completion numbers of one step from its trajectory rows alone."""
    rewards = [row["reward"] for row in drawn]
    lengths = [len(row["completion_ids"]) for row in drawn]
    groups = {}
    for row in drawn:
        groups.setdefault(row["sequence"], []).append(row)
    ages = [step - 1 - version for row in drawn for version in row["policy_version"]]
    return {
        "reward/mean": np.mean(rewards),
        "reward/std": np.std(rewards),
        "reward/max": max(rewards),
        "reward/min": min(rewards),
        "reward/frac_zero_std": np.mean(
            [len({np.float32(row["reward"]) for row in group}) == 1 for group in groups.values()]),
        "reward/pass_at_k": np.mean(
            [any(row["info"]["correct"] for row in group) for group in groups.values()]),
        "completion/length_mean": np.mean(lengths),
        "completion/length_max": max(lengths),
        "completion/truncated_frac": np.mean([row["truncated"] for row in drawn]),
        "rollout/staleness_mean": np.mean(ages),
        "rollout/staleness_max": max(ages),
        **{
            f"env/{name}": np.mean([row["info"][name] for row in drawn]) for name in drawn[0]["info"]
        }
    }


def start(recipe: pathlib.Path, cache: pathlib.Path) -> subprocess.Popen[str]:
    """scripts/train.py with the worker's own folder of compiled programs, which has no limit: beside what was
    written without one, JAX writes nothing with one."""
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_COMPILATION_CACHE_MAX_SIZE": "-1",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "scripts/train.py", f"--config={recipe}"], cwd=ROOT,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows_so_far(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines()
