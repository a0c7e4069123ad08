"""What a device computes of an MoE layer falls as the expert axis grows: compiled FLOPs under a capacity,
executed tiles without one."""
import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import inside
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.kernels import tiles
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.moe import MoE
from tests.helpers.emulated import ragged_all_to_all

E = 8
A = 2
TOKENS = 2048
WIDTH = 32
HIDDEN = 64
CONFIG = ModelConfig("qwen3_moe", 64, WIDTH, 1, 4, 2, 8, 64, (True,), (0,), num_experts=E,
                     num_experts_per_tok=A, moe_intermediate_size=HIDDEN, norm_topk_prob=True)
BALANCED = ((np.arange(TOKENS)[:, None] * A + np.arange(A)) % E).astype(np.int32)


def gradient(devices, backend, **options):
    """(the layer's compiled gradient, its arguments): adapters are trained, the base is frozen."""
    layer = MoE(CONFIG, stack=(), lora=LoraConfig(4, 8.0), dtype=jnp.float32, rngs=nnx.Rngs(0),
                backend=backend)
    graphdef, trained, frozen = nnx.split(layer, nnx.LoRAParam, ...)
    place = make_placement({"expert": devices}, **options)
    x = np.random.default_rng(0).normal(size=(devices, TOKENS // devices, WIDTH)).astype(np.float32)

    def local(trained, frozen, x, ids):
        with inside(place.layout):
            return nnx.merge(graphdef, trained, frozen)(x, jnp.ones(x.shape[:2], bool), expert_ids_BTA=ids)[0]

    def specs(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: PartitionSpec() if "router" in str(path) else PartitionSpec("expert"), tree)

    split = PartitionSpec("expert")
    mapped = jax.shard_map(local, mesh=place.mesh, in_specs=(specs(trained), specs(frozen), split, split),
                           out_specs=split, check_vma=False)
    arguments = trained, frozen, x, BALANCED.reshape(devices, -1, A)
    return jax.jit(jax.grad(lambda *a: jnp.sum(mapped(*a)**2),
                            argnums=(0, 2))).lower(*arguments).compile(), arguments


def test_flops_fall_with_the_expert_axis_under_a_capacity(monkeypatch):
    monkeypatch.setattr(tiles, "STEP_BLOCKS", 1 << 20)  # one step: XLA counts a loop's body once
    flops = {}
    for devices, options in ((1, {}), (8, {}), (8, {"host_devices": 4})):
        options |= {"transport": "capacity", "capacity_factor": 1.0} if devices > 1 else {}
        compiled, _ = gradient(devices, "padded", **options)
        flops[devices, "host_devices" in options] = compiled.cost_analysis()["flops"]
    for (devices, _), count in flops.items():
        assert count == pytest.approx(flops[1, False] / devices, rel=0.1), flops


@pytest.mark.parametrize("backend, options", [("tiles", {}), ("padded", {}), ("tiles", {
    "transport": "ragged"
})], ids=str)
def test_executed_blocks_fall_with_the_expert_axis_without_a_capacity(options, backend, monkeypatch):
    ran = []  # (device, rows), by callbacks of several threads
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", ragged_all_to_all)
    monkeypatch.setattr(tiles, "STEP_BLOCKS", 1)
    plan = tiles.plan
    blocks = tiles.blocks

    def count(rows):
        def add(device, rows):
            ran.append((int(device), int(rows)))
        jax.debug.callback(add, jax.lax.axis_index("expert"), rows)

    def counted_plan(*args):
        walk = plan(*args)
        if backend == "tiles":  # blocks are planned by way of tiles
            count(walk.count * walk.size)
        return walk

    def counted_blocks(*args):
        walk = blocks(*args)
        count(walk.count * tiles.BLOCK)
        return walk

    monkeypatch.setattr(tiles, "plan", counted_plan)
    monkeypatch.setattr(tiles, "blocks", counted_blocks)
    executed = {}
    # where all rows are one device's, padded also runs its few empty blocks
    for devices in (1, 4, 8) if backend == "tiles" else (4, 8):
        compiled, arguments = gradient(devices, backend, **(options if devices > 1 else {}))
        ran.clear()
        jax.block_until_ready(compiled(*arguments))
        jax.effects_barrier()
        totals = collections.Counter()
        for device, rows in ran:
            totals[device] += rows
        assert len(totals) == devices and len(set(totals.values())) == 1, totals
        executed[devices] = totals[0]
    # loops over a device's rows: forward, backward
    assert executed == {devices: 2 * TOKENS * A // devices for devices in executed}
