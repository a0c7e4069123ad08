"""Weights between disjoint meshes: every number arrives, only what changed is moved, and nothing passes
through the host."""
import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax._src.array import ArrayImpl
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl_moe.distributed.mesh import divided, make_placement
from jaxrl_moe.distributed.sharding import MeshError
from jaxrl_moe.distributed.transfer import Transfer, moved
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer

CONFIG = ModelConfig("qwen3_moe", 65, 32, 2, 4, 2, 8, 48, (True, False), (0, 0), num_experts=4,
                     num_experts_per_tok=2, moe_intermediate_size=16)
PAIRS = [({}, {"data": 1}), ({}, {"tensor": 2, "data": 2}), ({"fsdp": 4}, {"tensor": 2, "expert": 2}),
         ({"fsdp": 2, "expert": 2}, {"tensor": 2}), ({"tensor": 2, "data": 2}, {"fsdp": 4})]


@pytest.fixture
def no_host(monkeypatch):
    """Arrays that the host looks at raise an error."""
    def refuse(array):
        raise AssertionError(f"{array.shape} came to the host")

    @contextlib.contextmanager
    def guarded():
        with monkeypatch.context() as patched:
            patched.setattr(ArrayImpl, "_value", property(refuse))
            yield
    return guarded


def on(mesh, first=0):
    return make_placement(mesh, jax.devices()[first:]) if mesh else None


def received(arrays):
    return sum(part.data.nbytes for array in jax.tree.leaves(arrays) for part in array.addressable_shards)


@pytest.mark.parametrize("source, target", PAIRS, ids=str)
def test_weights_arrive_whole_and_only_what_changed_is_moved(no_host, source, target):
    model = Transformer(CONFIG, lora=LoraConfig(4, 8.0), rngs=nnx.Rngs(0))
    there = on(target, 4)
    values = {path: np.asarray(value[...]) for path, value in nnx.to_flat_state(nnx.state(model))}
    params = nnx.state(model) if not source else on(source).put(nnx.state(model))
    transfer = Transfer(there, CONFIG.vocab_size)
    with no_host():
        copies, first = transfer(params)
    for path, value in nnx.to_flat_state(copies):
        array = value[...]
        whole = values[path]
        assert array.devices() == set(there.mesh.devices.flat)
        np.testing.assert_array_equal(np.asarray(array)[tuple(map(slice, whole.shape))], whole)
        assert np.count_nonzero(array) == np.count_nonzero(whole)
    assert jax.tree.map(lambda x: (x.shape, x.sharding), copies) == jax.tree.map(
        lambda x: (x.shape, x.sharding), there.shapes(nnx.state(model)))
    assert first["sync/bytes"] == received(copies)

    adapters, base = nnx.split_state(params, nnx.LoRAParam, ...)
    again, second = transfer(nnx.merge_state(jax.tree.map(lambda x: x + 1, adapters), base))
    (new, kept), (old, before) = (nnx.split_state(one, nnx.LoRAParam, ...) for one in (again, copies))
    assert all(one is other for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(before)))
    assert all(one.is_deleted() for one in jax.tree.leaves(old))
    assert second["sync/bytes"] == received(new) < first["sync/bytes"]
    # back to the first ones: those copies are gone
    assert transfer(nnx.merge_state(adapters, base))[1]["sync/bytes"] > 0
    assert transfer(nnx.merge_state(adapters, base))[1]["sync/bytes"] == 0


def test_the_guard_sees_what_passes_through_the_host(no_host):
    source = NamedSharding(on({"data": 2}).mesh, PartitionSpec("data"))
    target = NamedSharding(on({"data": 2}, 2).mesh, PartitionSpec())
    array = jax.device_put(jnp.arange(4.0), source)
    with no_host():
        with pytest.raises(AssertionError, match="came to the host"):
            jax.device_put(array, target)
        copy = moved(array, target)
    np.testing.assert_array_equal(copy, array)


def test_copies_outlive_the_arrays_they_were_made_of():
    sharding = NamedSharding(on({"data": 1}, 7).mesh, PartitionSpec())
    array = jnp.arange(1024.0)
    copy = moved(array, sharding)
    jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(array)
    assert array.is_deleted()
    np.testing.assert_array_equal(copy, np.arange(1024.0))


@pytest.mark.parametrize("training, rollout, counts", [({}, {
    "data": 1
}, (1, 7)), ({
    "data": 2
}, {
    "tensor": 4
}, (2, 6)), ({
    "fsdp": -1
}, {
    "tensor": 2
}, (6, 2)), ({
    "fsdp": 2,
    "expert": 2
}, {
    "data": -1
}, (4, 4)), ({
    "data": -1,
    "fsdp": 2
}, {
    "tensor": 2
}, (6, 2))], ids=str)
def test_training_has_the_first_devices_and_rollout_those_after_them(training, rollout, counts):
    first, second = divided(training, rollout)
    assert first + second == jax.devices() and (len(first), len(second)) == counts


@pytest.mark.parametrize("training, rollout, message", [
    ({"data": 4}, {"data": 5}, "of 4 devices beside rollout on one of 5 needs 9, and there are 8"),
    ({"data": -1}, {"fsdp": -1}, "both have"),
    ({"data": -1, "fsdp": 4}, {"data": 5}, "at least 4 .* needs 9"),
    ({"data": 8}, {"data": -1}, "beside rollout on one of at least 1")],
    ids=str)
def test_too_few_devices_are_refused_with_the_numbers(training, rollout, message):
    with pytest.raises(MeshError, match=message):
        divided(training, rollout)
