"""One MoE layer, forward and backward, on four virtual devices: each transport against one device and masked replication.

Virtual devices share the machine's cores, so a time says how much work all of them do together, not how fast a cluster is. Masked
replication (every device has all tokens, computes its own experts' share and adds up: skyrl-tx's scheme) is the peer.
"""
import multiprocessing
import os
import statistics
import time

from benchmarks.table import rows

DEVICES, TOKENS, WIDTH, HIDDEN = 4, 2048, 256, 128
SHAPES = ((8, 2), (64, 8))  # experts, active
ROUNDS = 7


def table() -> str:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own, which sees the flag
        lines = pool.apply(measure)
    head = ["experts, active", "scheme", "ms", "against replication", "rows a device computes", "share of all", "MB a device moves"]
    return (f"{TOKENS} tokens, D{WIDTH} F{HIDDEN}, float32, forward and backward, medians of {ROUNDS} in turn. Rows are the occupied tiles "
            "of the busiest device under random routing; bytes are those of the collectives of one forward pass.\n\n" + rows(head, lines))


def measure() -> list[list[str]]:
    lines = []
    for experts, active in SHAPES:
        built = {name: build(name, experts, active) for name in ("replicated", "gather", "capacity", "one device")}
        seconds = {name: [] for name in built}
        for _ in range(ROUNDS):
            for name, (call, *_rest) in built.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        base = statistics.median(seconds["replicated"])
        for name, (_, computed, moved) in built.items():
            middle = statistics.median(seconds[name])
            lines.append([f"{experts}, {active}", name, f"{1e3 * middle:.1f}", f"{middle / base:.2f}", str(computed),
                          f"{computed / (TOKENS * active):.2f}", f"{moved / 1e6:.2f}"])
    return lines


def build(name: str, experts: int, active: int):
    """(a call of the compiled gradient, rows that the busiest device computes, bytes that a device receives in a forward pass)."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx
    from jax.sharding import PartitionSpec

    from jaxrl_moe.distributed.collectives import inside
    from jaxrl_moe.distributed.mesh import make_placement
    from jaxrl_moe.model.config import ModelConfig
    from jaxrl_moe.model.moe import MoE
    config = ModelConfig("qwen3_moe", 64, WIDTH, 1, 4, 2, 32, 64, (True,), (0,), num_experts=experts, num_experts_per_tok=active,
                         moe_intermediate_size=HIDDEN, norm_topk_prob=True)
    layer = MoE(config, stack=(), lora=None, dtype=jnp.float32, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    x = np.random.default_rng(0).normal(size=(DEVICES, TOKENS // DEVICES, WIDTH)).astype(np.float32)
    ids = np.asarray(layer(jnp.asarray(x), jnp.ones(x.shape[:2], bool))[1].expert_ids).reshape(DEVICES, -1)

    def run(state, x):
        return nnx.merge(graphdef, state)(x, jnp.ones(x.shape[:2], bool))[0]

    if name != "one device":
        factor = 1.25 if name == "capacity" else 0.0
        place = make_placement({"expert": DEVICES}, transport=name, capacity_factor=factor)
        tokens = PartitionSpec() if name == "replicated" else PartitionSpec("expert")

        def local(state, x):
            with inside(place.layout):
                return run(state, x)

        specs = jax.tree_util.tree_map_with_path(
            lambda path, _: PartitionSpec() if "router" in str(path) else PartitionSpec("expert"), state)
        mapped = jax.shard_map(local, mesh=place.mesh, in_specs=(specs, tokens), out_specs=tokens, check_vma=False)
    else:
        mapped = run
    gradient = jax.jit(jax.grad(lambda state, x: jnp.sum(mapped(state, x) ** 2), argnums=(0, 1)))
    gradient(state, x)
    counts = computed_rows(name, ids, experts, active), moved_bytes(name, active, experts)
    return (lambda: jax.block_until_ready(gradient(state, x))), *counts


def computed_rows(name: str, ids, experts: int, active: int) -> int:
    """Rows of occupied tiles on the busiest device; under a capacity all places."""
    import numpy as np

    from jaxrl_moe.kernels.tiles import tile_size
    if name == "capacity":
        return DEVICES * experts // DEVICES * -(-int(1.25 * TOKENS // DEVICES * active) // experts)
    devices = 1 if name == "one device" else DEVICES
    size = tile_size(TOKENS * active, experts // devices)
    load = np.bincount(ids.ravel(), minlength=experts).reshape(devices, -1)
    return int((-(-load // size) * size).sum(axis=1).max())


def moved_bytes(name: str, active: int, experts: int) -> int:
    """float32 rows that a device receives: tokens and weighted sums."""
    others, row = (DEVICES - 1) / DEVICES, 4 * WIDTH
    if name == "one device":
        return 0
    if name == "capacity":
        return int(2 * others * experts * -(-int(1.25 * TOKENS // DEVICES * active) // experts) * row)
    if name == "gather":
        return int(others * TOKENS * (row + 8 * active) + others * TOKENS * row)
    return int(2 * others * TOKENS * row)  # an all-reduce of the sums
