"""Whole runs on a mesh: the same completions and the same numbers as on one device, and a resume on another mesh."""
import json
import shutil

import numpy as np
import pytest
from training.tiny_run import make_files, settings

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError

MESH = {"mesh__data": 2, "mesh__tensor": 2, "mesh__expert": 2}
OTHER = {"mesh__fsdp": 2, "mesh__context": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


def run(files, folder, **overrides):
    overrides = {"lora__dropout": 0.0, "lora__targets": ("all-linear",), "eval__every": 0, "eval__prompts": 2, "rollout__max_tokens": 60,
                 "checkpoint__every": 1, "logging__tensorboard": False} | overrides
    assert pipeline.run_all(resolve(settings(files, folder, **overrides)), bridges)
    return {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
            for name in ("trajectories", "metrics")}


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory):
    """One step alone and on a mesh; the latter's folder as it was then; a second step on that mesh."""
    alone, folder = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("mesh")
    first = run(files, alone, train__steps=1), run(files, folder, train__steps=1, **MESH)
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(folder, copy)
    return *first, run(files, folder, train__steps=2, **MESH), copy


def compare(got, expected, step):
    """The completions of a step are equal, and its numbers but for rounding."""
    drawn = [[row["completion_ids"] for row in one["trajectories"] if row["phase"] == "train" and row["step"] == step]
             for one in (got, expected)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 12
    rows = [one["metrics"][-1] for one in (got, expected)]
    names = [name for name in rows[0] if name.startswith(("policy/", "reward/", "moe/"))]
    assert rows[0]["reward/std"] > 0 and len(names) > 20
    for name in names:
        np.testing.assert_allclose(rows[0][name], rows[1][name], rtol=2e-4, atol=1e-6, err_msg=name)


def test_a_run_on_a_mesh_draws_and_learns_what_one_device_does(runs):
    alone, mesh, _, _ = runs
    compare(mesh, alone, 1)


def test_a_run_goes_on_from_its_checkpoint_on_another_mesh(files, runs):
    _, _, expected, copy = runs
    compare(run(files, copy, train__steps=2, **OTHER), expected, 2)


@pytest.mark.parametrize("mesh, message", [
    ({"tensor": 4}, "tensor = 4 does not divide the model's num_key_value_heads = 2.*does is 2"), ({"expert": 3}, "num_experts = 4"),
    ({"data": 16}, "needs 16 devices, and there are 8"), ({"data": -1, "fsdp": -1}, "at most one -1"), ({"data": 0}, "must be positive"),
    ({"data": -1, "tensor": 3}, "a multiple of 3 devices"), ({"pipeline": 2}, "mesh.pipeline = 2.*by mesh.fsdp.*mesh.tensor"),
    ({"pipeline": 1, "expert": 3}, "num_experts = 4")], ids=str)
def test_a_mesh_that_does_not_fit_is_refused_with_the_numbers(files, tmp_path, mesh, message):
    with pytest.raises(UserError, match=message):
        run(files, tmp_path, **{f"mesh__{axis}": size for axis, size in mesh.items()})
