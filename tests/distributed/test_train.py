"""Whole runs on a mesh, or on one for training and one for rollout: the same completions and the same numbers
as on one device, and a resume on other meshes."""
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError
from tests.helpers.tiny_run import make_files, settings

MESH = {"mesh__data": 2, "mesh__tensor": 2, "mesh__expert": 2}
OTHER = {"mesh__fsdp": 2, "mesh__context": 2}
APART = {
    "1+1": {
        "rollout_mesh__data": 1
    },
    "2+4": {
        "mesh__fsdp": 2,
        "rollout_mesh__data": 2,
        "rollout_mesh__expert": 2
    },
    "4+2": {
        "mesh__fsdp": 2,
        "mesh__expert": 2,
        "rollout_mesh__tensor": 2
    }
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


def run(files, folder, **overrides):
    overrides = {
        "lora__dropout": 0.0,
        "lora__targets": ("all-linear",),
        "eval__every": 0,
        "eval__prompts": 2,
        "rollout__max_tokens": 60,
        "checkpoint__every": 1,
        "logging__tensorboard": False
    } | overrides
    assert pipeline.run_all(resolve(settings(files, folder, **overrides)), bridges)
    return {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
            for name in ("trajectories", "metrics")}


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory):
    """One step alone and on a mesh; the latter's folder as it was then; a second step on that mesh."""
    alone = tmp_path_factory.mktemp("alone")
    folder = tmp_path_factory.mktemp("mesh")
    first = run(files, alone, train__steps=1), run(files, folder, train__steps=1, **MESH)
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(folder, copy)
    return *first, run(files, folder, train__steps=2, **MESH), copy


def compare(got, expected, step):
    """The completions of a step are equal, and its numbers but for rounding."""
    drawn = [[
        row["completion_ids"] for row in one["trajectories"]
        if row["phase"] == "train" and row["step"] == step
    ] for one in (got, expected)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 12
    rows = [one["metrics"][-1] for one in (got, expected)]
    names = [name for name in rows[0] if name.startswith(("policy/", "reward/", "moe/"))]
    assert rows[0]["reward/std"] > 0 and len(names) > 20
    for name in names:
        np.testing.assert_allclose(rows[0][name], rows[1][name], rtol=2e-4, atol=1e-6, err_msg=name)


def test_a_run_on_a_mesh_draws_and_learns_what_one_device_does(runs):
    alone, mesh, _, _ = runs
    compare(mesh, alone, 1)


@pytest.mark.parametrize(
    "placement",
    ["1+1", pytest.param("2+4", marks=pytest.mark.slow),
     pytest.param("4+2", marks=pytest.mark.slow)])
def test_rollout_on_devices_of_its_own_gives_the_run_of_one_device(files, runs, tmp_path, placement):
    got = run(files, tmp_path, train__steps=1, **APART[placement])
    compare(got, runs[0], 1)
    adapters = sum(array.nbytes
                   for array in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values())
    assert got["metrics"][-1]["sync/move_s"] > 0
    if placement == "1+1":
        assert got["metrics"][-1]["sync/bytes"] == adapters, "the frozen base stays where it is"


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [OTHER, APART["2+4"]], ids=["shared", "2+4"])
def test_a_run_goes_on_from_its_checkpoint_on_other_meshes(files, runs, tmp_path, overrides):
    _, _, expected, copy = runs
    folder = shutil.copytree(copy, tmp_path / "copy")
    compare(run(files, folder, train__steps=2, **overrides), expected, 2)


@pytest.mark.parametrize("mesh, message",
                         [({"tensor": 4},
                           "tensor = 4 does not divide the model's num_key_value_heads = 2.*does is 2"),
                          ({"expert": 3}, "num_experts = 4"),
                          ({"data": 16}, "needs 16 devices, and there are 8"),
                          ({"data": -1, "fsdp": -1}, "at most one -1"),
                          ({"data": 0}, "must be positive"),
                          ({"data": -1, "tensor": 3}, "a multiple of 3 devices"),
                          ({"pipeline": 2}, "mesh.pipeline = 2.*by mesh.fsdp.*mesh.tensor"),
                          ({"pipeline": 1, "expert": 3}, "num_experts = 4")],
                         ids=str)
def test_a_mesh_that_does_not_fit_is_refused_with_the_numbers(files, tmp_path, mesh, message):
    with pytest.raises(UserError, match=message):
        run(files, tmp_path, **{f"mesh__{axis}": size for axis, size in mesh.items()})


@pytest.mark.parametrize(
    "overrides, message",
    [({"rollout_mesh__tensor": 4}, "rollout_mesh.tensor = 4 does not divide the model's num_key_value_heads"),
     ({"mesh__data": 4, "rollout_mesh__data": 5}, "4 devices beside rollout on one of 5 needs 9"),
     ({"rollout_mesh__data": -2}, "rollout_mesh.data = -2 is out of range"),
     ({"rollout_mesh__data": 1, "rollout__backend": "vllm", "servers__urls": ("http://localhost:1",)},
      "draws on servers")],
    ids=str)
def test_a_rollout_mesh_that_cannot_be_is_refused(files, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        run(files, tmp_path, **overrides)
