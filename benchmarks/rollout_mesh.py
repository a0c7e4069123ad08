"""A rollout on meshes of eight virtual devices: what each device holds and computes, and tokens a second.

Virtual devices share the machine's cores, so tokens a second say how much work all of them do together, not
how fast a cluster is: a mesh that split the work perfectly would draw as fast as one device, and one on which
all do the same would be so many times slower.
"""
import math
import multiprocessing
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.table import rows

if TYPE_CHECKING:
    from jaxrl_moe.engine.engine import JaxEngine
    from jaxrl_moe.types import Request

DEVICES = 8
ROUNDS = 5
PROMPTS = 16
GROUP = 4
PROMPT = 64
NEW = 64
SLOTS = 32
MESHES = ({}, {
    "data": 2
}, {
    "data": 4
}, {
    "data": 8
}, {
    "fsdp": 2
}, {
    "fsdp": 4
}, {
    "fsdp": 8
}, {
    "data": 2,
    "fsdp": 2
}, {
    "data": 2,
    "expert": 4
}, {
    "fsdp": 2,
    "tensor": 2,
    "expert": 2
}, {
    "expert": 8
})


def table() -> str:
    count = f"--xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}"
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own, which sees the flag
        lines = pool.apply(measure)
    head = ["mesh", "devices", "rows a device decodes", "KV kB a device holds",
            "MFLOP a decode step and device", "share of one device's", "kB a decode step gathers or adds up",
            "tokens/s of all", "against one device"]
    return (f"{PROMPTS} prompts x {GROUP} completions, {PROMPT} + {NEW} tokens, {SLOTS} slots, 2 MoE layers, "
            f"E8 top-2, D128 F64, float32; medians of {ROUNDS} in turn. FLOPs are XLA's count of the "
            "compiled decode program of all slots, whose loops count once.\n\n" + rows(head, lines))


def measure() -> list[list[str]]:
    built = [build(mesh) for mesh in MESHES]
    for engine, requests in built:
        engine.generate(requests)
    seconds = [[] for _ in built]
    for _ in range(ROUNDS):
        for (engine, requests), times in zip(built, seconds):
            start = time.perf_counter()
            engine.generate(requests)
            times.append(time.perf_counter() - start)
    speeds = [PROMPTS * GROUP * NEW / statistics.median(times) for times in seconds]
    flops = []
    lines = []
    for mesh, (engine, _), speed in zip(MESHES, built, speeds):
        compiled, drawn = decode_program(engine)
        flops.append(compiled.cost_analysis()["flops"])
        name = " x ".join(f"{axis} {size}" for axis, size in mesh.items()) or "one device"
        lines.append([
            name,
            str(math.prod(mesh.values())),
            str(drawn), f"{engine.kv_bytes / 1e3:.0f}", f"{flops[-1] / 1e6:.1f}",
            f"{flops[-1] / flops[0]:.2f}", f"{moved(compiled) / 1e3:.0f}", f"{speed:.0f}",
            f"{speed / speeds[0]:.2f}"
        ])
    return lines


def build(mesh: dict[str, int]) -> tuple["JaxEngine", list["Request"]]:
    """(an engine on the mesh, the requests it is timed on)."""
    import numpy as np
    from flax import nnx

    from jaxrl_moe.config import RolloutSection
    from jaxrl_moe.distributed.mesh import make_placement
    from jaxrl_moe.engine.engine import JaxEngine
    from jaxrl_moe.model.config import ModelConfig
    from jaxrl_moe.model.transformer import Transformer
    from jaxrl_moe.types import Request, SamplingParams
    config = ModelConfig("qwen3_moe", 1024, 128, 2, 8, 4, 16, 256, (True,) * 2, (0,) * 2, num_experts=8,
                         num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=True)
    model = Transformer(config, rngs=nnx.Rngs(0))
    arrangement = make_placement(mesh) if mesh else None
    if arrangement is not None:
        nnx.update(model, arrangement.put(nnx.state(model)))
    engine = JaxEngine(model, RolloutSection(slots=SLOTS, max_tokens=NEW), max_prompt_tokens=PROMPT,
                       placement=arrangement)
    rng = np.random.default_rng(0)
    return engine, [
        Request(rng.integers(0, 1024, PROMPT).astype(np.int32), SamplingParams(NEW, n=GROUP), number)
        for number in range(PROMPTS)
    ]


def decode_program(engine: "JaxEngine") -> tuple[Any, int]:
    """(the decode program of all slots, compiled, the rows of it that a device works on)."""
    from jaxrl_moe.engine import batches
    from jaxrl_moe.engine.pages import pages_for
    engine._reserve()
    size = engine._settings.page_size
    *_, rows = batches.decode_shapes(engine._slots, pages_for(PROMPT + NEW - 1, size), size, engine._shards)
    lowered = engine._programs.decode.lower(engine._params, engine._cache, rows, truncate=False, routes=False)
    return lowered.compile(), len(rows.tokens_U) // engine._shards


def moved(compiled: Any) -> int:
    from jaxrl_moe.planning.hlo import collective_bytes
    return sum(collective_bytes(compiled.as_text()).values())
