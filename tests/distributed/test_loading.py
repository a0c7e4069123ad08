"""Checkpoints straight into shards."""
import jax
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges.hf import importing
from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig
from tests.helpers.tiny_models import make_checkpoint

MESH = {"fsdp": 2, "expert": 2, "tensor": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_checkpoint(path, num_hidden_layers=3, vocab_size=321, mlp_only_layers=[1])
    return path


def test_adapters_and_moments_are_split_from_the_start_and_the_same_bits(folder, monkeypatch):
    place = make_placement(MESH)
    lora = LoraConfig(4, 8.0)
    seen = []
    alone = dict(nnx.to_flat_state(nnx.state(bridges.load_model(folder, lora=lora, seed=3), nnx.LoRAParam)))
    model = bridges.load_model(folder, lora=lora, seed=3, placement=place)
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        assert variable[...].sharding.device_set == set(place.mesh.devices.flat)
        np.testing.assert_array_equal(variable[...], alone[path][...], err_msg=str(path))
    put = place.put_one
    monkeypatch.setattr(type(place), "put_one", lambda self, path, array: seen.append(
        (path, array)) or put(path, array))
    learner = build_learner(model, LearnerSettings(OptimizerSection(), 10), place)
    whole = [path for path, array in seen if array.ndim and len(array.sharding.device_set) == 1]
    assert seen and not whole
    moments = [leaf for leaf in jax.tree.leaves(learner.state.opt_state) if leaf.ndim]
    shardings = [leaf.sharding for leaf in jax.tree.leaves(learner.state.trainable)]
    assert [leaf.sharding for leaf in moments] == shardings * 2 and not any(np.any(leaf) for leaf in moments)


@pytest.mark.parametrize("imported", [False, True], ids=["safetensors", "params folder"])
def test_a_checkpoint_loads_into_its_shards(folder, imported, tmp_path, monkeypatch):
    alone = dict(nnx.to_flat_state(nnx.state(bridges.load_model(folder))))
    source = importing.import_checkpoint(folder, tmp_path / "params") if imported else folder
    place = make_placement(MESH)
    parts = []
    read = importing._part
    monkeypatch.setattr(importing, "_part", lambda *a: parts.append(read(*a)) or parts[-1])
    model = bridges.load_model(source, placement=place)
    for path, variable in nnx.to_flat_state(cut(nnx.state(model), 321)):
        np.testing.assert_array_equal(variable[...], alone[path][...], err_msg=str(path))
    weight = model.stacks[0].mlp.gate_proj.weight[...]
    assert weight.sharding.shard_shape(weight.shape) == (1, 2, 16, 12)  # of [1, 4, 32, 24]
    assert model.embed.weight[...].shape == (322, 32)
    if not imported:
        largest = max(variable[...].nbytes for variable in alone.values())
        assert max(part.nbytes for part in parts) < 0.3 * largest
