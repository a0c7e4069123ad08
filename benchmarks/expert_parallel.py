"""One MoE layer, forward and backward, on virtual devices: each transport against masked replication and
against one device.

Virtual devices share the machine's cores, so a time says how much work all of them do together, not how fast
a cluster is. Masked replication is skyrl-tx's scheme: every device has all tokens, multiplies all rows by its
own experts, masks those of others and adds up. The ragged all-to-all does not run on CPUs. A device's FLOPs
are those of its compiled program with the `padded` kernel (a loop's body is counted once, so that nothing is
in a loop); without a capacity that counts every row it has room for, and the rows of occupied tiles say what
the loop over tiles really computes.
"""
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.table import rows

if TYPE_CHECKING:
    import jax
    import numpy as np

TOKENS = 2048
WIDTH = 256
HIDDEN = 128
FACTOR = 1.25
SHAPES = ((8, 2), (64, 8))  # experts, active
ROUNDS = 7
SCHEMES = {  # name: (transport, devices that count as a host)
    "masked replication": ("masked", 0),
    "replicated": ("replicated", 0),
    "gather": ("gather", 0),
    "gather, two stages": ("gather", 2),
    "capacity": ("capacity", 0),
    "capacity, two stages": ("capacity", 2),
    "one device": ("none", 0)}
HEAD = ["experts, active", "scheme", "ms", "against masked replication", "rows a device computes",
        "share of all", "GFLOP a device", "MB a device moves"]


def table() -> str:
    text = (f"{TOKENS} tokens, D{WIDTH} F{HIDDEN}, float32, forward and backward, medians of {ROUNDS} in "
            f"turn; capacity factor {FACTOR}, hosts of 2 devices in two stages. Rows are those of the tiles "
            "that the busiest device runs under random routing. FLOPs and bytes are the compiled program's, "
            "forward and backward; FLOPs with the `padded` kernel, which has room for all rows.\n")
    for devices in (4, 8):
        count = f"--xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}"
        # a process of its own, which sees the flag
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            text += f"\n## {devices} devices\n\n" + rows(HEAD, pool.apply(measure, (devices,)))
    return text


def measure(devices: int) -> list[list[str]]:
    from jaxrl_moe.distributed.expert_parallel import TRANSPORTS
    TRANSPORTS["masked"] = masked
    lines = []
    for experts, active in SHAPES:
        built = {name: build(devices, *scheme, experts, active) for name, scheme in SCHEMES.items()}
        seconds = {name: [] for name in built}
        for _ in range(ROUNDS):
            for name, (call, *_rest) in built.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        base = statistics.median(seconds["masked replication"])
        for name, (_, computed, flops, moved) in built.items():
            middle = statistics.median(seconds[name])
            lines.append([
                f"{experts}, {active}", name, f"{1e3 * middle:.1f}", f"{middle / base:.2f}",
                str(computed), f"{computed / (TOKENS * active):.2f}", f"{flops / 1e9:.2f}",
                f"{moved / 1e6:.2f}"
            ])
    return lines


def masked(x_MD: "jax.Array", weights_MA: "jax.Array", ids_MA: "jax.Array", num_experts: int,
           compute: Callable[..., "jax.Array"]) -> tuple["jax.Array", "jax.Array"]:
    """The peer: rows of others' experts are computed with the nearest of one's own, at weight 0."""
    import jax.numpy as jnp

    from jaxrl_moe.distributed import collectives
    local = num_experts // collectives.size("expert")
    ids_MA = ids_MA - collectives.index("expert") * local
    own_MA = (ids_MA >= 0) & (ids_MA < local)
    y_MD = compute(x_MD, jnp.where(own_MA, weights_MA, 0), jnp.clip(ids_MA, 0, local - 1), 1)
    return collectives.total(y_MD, "expert"), jnp.zeros((), jnp.int32)


def build(devices: int, transport: str, host: int, experts: int, active: int) -> tuple[Any, int, float, int]:
    """(a call of the compiled gradient, rows that the busiest device computes, FLOPs and moved bytes of a
    device's program)."""
    import jax
    import numpy as np

    from jaxrl_moe.planning.hlo import collective_bytes
    x = np.random.default_rng(0).normal(size=(devices, TOKENS // devices, WIDTH)).astype(np.float32)
    run, arguments, ids = gradient(devices, transport, host, experts, active, "tiles", x)
    counted, _, _ = gradient(devices, transport, host, experts, active, "padded", x)
    moved = sum(collective_bytes(run.as_text()).values())
    computed = computed_rows(transport, ids.reshape(devices, -1), devices, experts, active)
    return (lambda: jax.block_until_ready(run(*arguments))), computed, counted.cost_analysis()["flops"], moved


def gradient(devices: int, transport: str, host: int, experts: int, active: int, backend: str,
             x: "np.ndarray") -> tuple[Any, Any, "jax.Array"]:
    """(the compiled gradient of one layer, its arguments, the experts of the tokens)."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxrl_moe.distributed.collectives import inside
    from jaxrl_moe.distributed.mesh import make_placement
    from jaxrl_moe.kernels import grouped_matmul
    from jaxrl_moe.model.config import ModelConfig
    from jaxrl_moe.model.moe import MoE
    grouped_matmul.CHUNK_BLOCKS = 1 << 20
    config = ModelConfig("qwen3_moe", 64, WIDTH, 1, 4, 2, 32, 64, (True,), (0,), num_experts=experts,
                         num_experts_per_tok=active, moe_intermediate_size=HIDDEN, norm_topk_prob=True)
    layer = MoE(config, stack=(), lora=None, dtype=jnp.float32, rngs=nnx.Rngs(0), backend=backend)
    graphdef, state = nnx.split(layer)
    _, ids, _ = layer.router(jnp.asarray(x).reshape(-1, WIDTH))
    placement = make_placement({"expert": 1 if transport == "none" else devices}, host_devices=host,
                               transport=transport,
                               capacity_factor=FACTOR if transport == "capacity" else 0.0)
    tokens = PartitionSpec() if transport in ("masked", "replicated") else PartitionSpec("expert")

    def local(state: nnx.State, x: jax.Array) -> jax.Array:
        with inside(placement.layout):
            return nnx.merge(graphdef, state)(x, jnp.ones(x.shape[:2], bool))[0]

    specs = jax.tree_util.tree_map_with_path(
        lambda path, _: PartitionSpec() if "router" in str(path) else PartitionSpec("expert"), state)
    mapped = jax.shard_map(local, mesh=placement.mesh, in_specs=(specs, tokens), out_specs=tokens,
                           check_vma=False)
    arguments = jax.device_put((state, x),
                               jax.tree.map(lambda spec: NamedSharding(placement.mesh, spec),
                                            (specs, tokens)))
    call = jax.jit(jax.grad(lambda state, x: jnp.sum(mapped(state, x) ** 2), argnums=(0, 1)))
    return call.lower(*arguments).compile(), arguments, ids


def computed_rows(transport: str, ids: "np.ndarray", devices: int, experts: int, active: int) -> int:
    """Rows of occupied tiles on the busiest device; under a capacity all places."""
    import numpy as np

    from jaxrl_moe.kernels.tiles import tile_size
    if transport == "capacity":
        return experts * -(-int(FACTOR * TOKENS // devices * active) // experts)
    parts = 1 if transport == "none" else devices
    load = np.bincount(ids.ravel(), minlength=experts).reshape(parts, -1)
    if transport == "masked":  # what is not a device's own goes to its first and its last expert
        own = load.sum(axis=1)
        before = np.cumsum(own) - own
        load[:, 0] += before
        load[:, -1] += own.sum() - before - own
    size = tile_size(TOKENS * active // (1 if transport == "masked" else parts), experts // parts)
    return int((-(-load // size) * size).sum(axis=1).max())
