"""The plan against what happens: predicted bytes beside measured peaks, and what plans of large models cost
to make."""
import ctypes
import dataclasses
import gc
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import recipes
from benchmarks.table import rows
from jaxrl_moe.learning import make
from jaxrl_moe.phases import longest_rollout
from jaxrl_moe.planning.buffers import PASSES

if TYPE_CHECKING:
    from jaxrl_moe.config import Config
    from jaxrl_moe.learning.step import Learner
    from jaxrl_moe.model.config import ModelConfig

GIB = 2**30
SHAPES = {  # float32 throughout
    "MoE, LoRA, remat full": dict(hidden=512, layers=4, experts=16, width=384, vocab=8192, rank=8, remat="full", tokens=12288),
    "MoE, LoRA, remat none": dict(hidden=384, layers=4, experts=16, width=256, vocab=8192, rank=8, remat="none", tokens=6144),
    "MoE, all weights, remat full": dict(hidden=512, layers=4, experts=16, width=512, vocab=16384, rank=0, remat="full", tokens=4096),
    "dense, all weights, remat none": dict(hidden=512, layers=4, experts=0, width=1536, vocab=16384, rank=0, remat="none", tokens=4096),
}
# Scratch of a matrix product is mapped anew and given back at once; by default malloc keeps it, a fifth of
# the peak, for the next one.
MALLOC = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.arena_max=1"
PLANS = [  # recipe, shape, mesh, what differs from the recipe, chip if it is no H200
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", {}, {}),
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", {"fsdp": 2}, {}),
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", {"expert": 2}, {}),
    ("agora_gspo_qwen3_moe", "qwen3_30b_a3b", {}, {}),
    ("nmoe_grpo", "qwen3_30b_a3b", {"expert": 8}, {}),
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_235b_a22b", {"expert": 8}, {}),
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_235b_a22b", {"fsdp": 8, "expert": 8},
     {"train.tokens_per_micro_batch": 64 * 1536}),
    ("scale/qwen3_30b_a3b_grpo_h200", "qwen3_235b_a22b", {"fsdp": 8, "expert": 8, "tensor": 4},
     {"train.tokens_per_micro_batch": 64 * 1536}),
    ("nmoe_grpo", "qwen3_235b_a22b", {"fsdp": 8, "expert": 8}, {"train.tokens_per_micro_batch": 196608}),
    ("gsm8k/grpo", "qwen3_8b", {"tensor": 2, "context": 2}, {"model.dtype": "bfloat16"}),
    ("qwen3_8b_sglang", "qwen3_8b", {"tensor": 2, "context": 2}, {}),
    ("scale/agora_2xh200", "qwen3_30b_a3b", {}, {}),
    ("scale/nmoe_8xb200", "qwen3_30b_a3b", {"expert": 8}, {}, "B200"),
]
SIZES = ("parameters", "trained", "optimiser", "kv", "kept", "temporary", "apply", "decode", "update",
         "rollout")
ON_24_GB = ("gsm8k/grpo", "gsm8k_ppo", "gsm8k/dr_grpo", "gsm8k/dapo", "gsm8k/gspo", "gsm8k/cispo",
            "gsm8k/sapo", "gsm8k/rloo", "gsm8k/reinforce_pp", "gsm8k/maxrl", "gsm8k/dppo_tv", "gsm8k/ppo")
COUNTS = {1: {}, 8: {"expert": 8}, 64: {"fsdp": 8, "expert": 8}, 256: {"fsdp": 8, "expert": 32}}


def setting(hidden: int, layers: int, experts: int, width: int, vocab: int, rank: int, remat: str,
            tokens: int, dtype: str = "float32") -> tuple["Config", "ModelConfig"]:
    """(config, model config) of a shape."""
    from jaxrl_moe.config import base, resolve
    from jaxrl_moe.model.config import ModelConfig
    config = base()
    config.model.path = config.data.path = "unused"
    config.model.dtype = dtype
    config.model.grouped_matmul = "tiles"
    config.lora.rank = rank
    config.algorithm.kl_coef = 0.0
    config.data.max_prompt_tokens = 256
    config.rollout.max_tokens = 256
    config.rollout.slots = 64
    config.train.tokens_per_micro_batch = tokens
    config.train.remat = remat
    sparse = experts > 0
    chosen = dict(num_experts=experts, num_experts_per_tok=2, moe_intermediate_size=width,
                  norm_topk_prob=True) if sparse else {}
    return resolve(config), ModelConfig("qwen3_moe" if sparse else "qwen3", vocab, hidden, layers, 8, 4, 64,
                                        width, (sparse,) * layers, (0,) * layers, **chosen)


def predict(shape: dict) -> dict:
    """The plan's figures for a shape on one device."""
    from jaxrl_moe.planning.plan import make_plan
    plan = make_plan(*setting(**shape), platform="cpu")
    return {
        name: [getattr(plan, name).arguments, getattr(plan, name).extra]
        for name in ("gradients", "apply", "decode")
    }


def temporaries(shape: dict) -> dict:
    """Bytes that the plan's programs need beside arguments and results, [here, and without what only a CPU
    adds]; of the KV pool and of published copies."""
    from jaxrl_moe.planning.plan import make_plan
    plan = make_plan(*setting(**shape), platform="cpu")
    sizes = {
        name: [getattr(plan, name).temporary, getattr(plan, name).elsewhere]
        for name in ("gradients", "decode")
    }
    return sizes | {"kv": plan.kv, "published": plan.published}


def measure(shape: dict, program: str) -> dict:
    """What a program's first call adds to the resident set of this process at its peak, its arguments being
    there already."""
    run = {"gradients": _gradients, "apply": _apply, "decode": _decode}[program](*setting(**shape))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return {"extra": _status("VmHWM") - before}


def _status(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024


def _learner(config: "Config", model_config: "ModelConfig") -> "Learner":
    from flax import nnx

    from jaxrl_moe.learning.make import LearnerSettings, build_learner
    from jaxrl_moe.model.transformer import Transformer
    model = Transformer(model_config, lora=make.lora_config(config), rngs=nnx.Rngs(0),
                        grouped_matmul=config.model.grouped_matmul)
    return build_learner(model, LearnerSettings(config.optimizer, 100, remat=config.train.remat))


def _inputs(learner: "Learner", config: "Config") -> tuple[Any, Any, dict[str, Any]]:
    """What the gradients of one full micro-batch read, and the sums that they are added to."""
    import jax
    import numpy as np

    from jaxrl_moe.learning.batch import micro_batches, sample_weights
    from jaxrl_moe.learning.objective import make_policy_objective
    from jaxrl_moe.learning.samples import from_conversations
    longest = longest_rollout(config)
    rng = np.random.default_rng(0)
    budget = config.train.tokens_per_micro_batch
    mask = np.r_[np.zeros(config.data.max_prompt_tokens), np.ones(config.rollout.max_tokens)]
    samples = [
        dataclasses.replace(sample, sampler_logprobs_T=-np.ones(longest, np.float32))
        for sample in from_conversations([(rng.integers(0, learner.config.vocab_size, longest), mask)
                                          for _ in range(budget // longest)])
    ]
    weights = sample_weights(samples, "token-mean")
    [micro_batch] = micro_batches(samples, budget, weights_N=weights, longest=longest)
    batch = micro_batch.batch
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    inputs = ((learner.state.trainable, None), learner.state.router_bias, learner.parts.frozen, batch,
              learner._read(batch), 1.0, None)
    return inputs, jax.block_until_ready(learner._empty_total(inputs, objective,
                                                              True)), dict(objective=objective, entropy=True)


def _gradients(config: "Config", model_config: "ModelConfig") -> Callable[[], Any]:
    import jax
    learner = _learner(config, model_config)
    inputs, total, options = _inputs(learner, config)
    program = learner.programs.gradients.lower(*inputs, total=total, **options).compile()
    inputs = jax.block_until_ready(jax.device_put(inputs))
    return lambda: jax.block_until_ready(program(*inputs, total=total))


def _apply(config: "Config", model_config: "ModelConfig") -> Callable[[], Any]:
    import jax
    learner = _learner(config, model_config)
    _, total, _ = _inputs(learner, config)
    program = learner.programs.apply.lower(learner.state, total.gradient, total.loss, total.load,
                                           bias_rate=0.0).compile()
    state = learner.state
    learner.state = None
    return lambda: jax.block_until_ready(program(state, total.gradient, total.loss, total.load))


def _decode(config: "Config", model_config: "ModelConfig") -> Callable[[], Any]:
    import jax
    from flax import nnx

    from jaxrl_moe.engine import batches
    from jaxrl_moe.engine.memory import pool_pages, token_bytes
    from jaxrl_moe.engine.pages import pages_for
    from jaxrl_moe.engine.programs import EnginePrograms
    from jaxrl_moe.model.cache import PagedCache
    learner = _learner(config, model_config)
    section = config.rollout
    model = learner.model()
    graphdef, params = nnx.split(model)
    programs = EnginePrograms(graphdef, config.seed, section.decode_steps, model_config.expert_dtype)
    pages = pool_pages(section, config.data.max_prompt_tokens, token_bytes(model_config, model.dtype, None),
                       None)
    cache = programs.empty_cache(model_config, pages, section.page_size, model.dtype)
    cache = jax.block_until_ready(PagedCache(*(array + 0 for array in cache)))
    *_, rows = batches.decode_shapes(section.slots, pages_for(longest_rollout(config) - 1, section.page_size),
                                     section.page_size)
    rows = dataclasses.replace(rows, remaining_U=rows.remaining_U + section.decode_steps)
    program = programs.decode.lower(params, cache, rows, truncate=False, routes=False).compile()
    return lambda: jax.block_until_ready(program(params, cache, rows))


def recipe(name: str, mesh: dict, changes: dict) -> "Config":
    """The configuration of a shipped recipe on another mesh."""
    from jaxrl_moe.config import resolve
    config = recipes.load(name)
    config.mesh.update({"data": 1, "fsdp": 1, "expert": 1, "tensor": 1, "context": 1} | mesh)
    for key, value in changes.items():
        section, _, field = key.partition(".")
        config[section][field] = value
    return resolve(config)


def plan(name: str, shape: str, mesh: dict, changes: dict, chip: str = "H200") -> dict:
    """What making a plan costs, and what it says."""
    from jaxrl_moe.distributed.chips import find_chip
    from jaxrl_moe.planning import report as plan_report
    from jaxrl_moe.planning import target
    config = recipe(name, mesh, changes)
    card = find_chip(chip)
    start = (time.perf_counter(), time.process_time())
    devices = target.devices(card, plan_report.device_count(config, 0))
    model = plan_report.model_config(config, recipes.model_config(shape))
    made = plan_report.make_plan(config, model, card.client_memory(), devices)
    spent = time.perf_counter() - start[0], time.process_time() - start[1]
    floor = plan_report.times(made, config, card)
    return {
        "seconds": spent[0],
        "cpu_seconds": spent[1],
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "devices": made.devices,
        "room": card.client_memory(),
        "parameters": made.frozen + made.published,
        "trained": made.trained + made.gradient,
        "optimiser": made.optimiser,
        "kv": made.kv,
        "kept": made.kept,
        "temporary": made.gradients.temporary,
        "apply": made.apply.temporary,
        "decode": made.decode.temporary,
        "update": made.update_peak(True),
        "rollout": made.rollout_peak(True),
        "tokens_per_s": floor.tokens_per_s,
        "moved": sum(made.gradients.collectives.values()),
        "verdict": plan_report.verdict(made, config, card, chip)
    }


def table() -> str:
    """All tables."""
    return "\n".join([measured_table(), plans_table(), small_table(), counts_table()])


def measured_table() -> str:
    lines = []
    for name in SHAPES:
        predicted = in_process("predict", name)
        for program, (arguments, extra) in predicted.items():
            peak = arguments + in_process("measure", name, program)["extra"]
            lines.append((name, program, f"{(arguments + extra) / GIB:.3f}", f"{peak / GIB:.3f}",
                          f"{(arguments + extra) / peak:.3f}"))
    return ("Float32 on one CPU device: the arguments of a program and what its first call adds, predicted "
            "by the plan and measured (a fresh process, the program compiled ahead of time, its arguments "
            "resident, VmHWM set back before the call).\n\n"
            + rows(["shape", "program", "predicted, GiB", "measured, GiB", "predicted / measured"], lines))


def plans_table() -> str:
    lines = []
    for name, shape, mesh, *rest in PLANS:
        made = in_process("plan", json.dumps([name, shape, mesh, *rest]))
        sizes = [f"{made[field] / GIB:.1f}" for field in SIZES]
        where = ", ".join(f"{axis} {size}" for axis, size in mesh.items()) or "one device"
        where += "".join(f", {chip}" for chip in rest[1:])
        lines.append((shape, name, where, f"{made['cpu_seconds']:.0f}", f"{made['rss'] / GIB:.1f}", *sizes,
                      f"{made['moved'] / 2**20:,.0f}", f"{made['tokens_per_s']:,.0f}", verdict(made)))
    return ("Plans compiled for H200s, unless the mesh says otherwise, on a machine without one; nothing was "
            "run. GiB of one device: temporaries of a micro-batch, of the optimiser step and of decoding. "
            "MiB moved are those of a micro-batch.\n\n"
            + rows(["model", "recipe", "mesh", "to plan, CPU s", "to plan, GiB", "parameters",
                    "trained and gradient", "optimiser", "KV", "kept at least", "micro-batch",
                    "optimiser step", "decoding", "peak of update", "peak of rollout", "MiB moved",
                    "tokens/s at best", "verdict"], lines))


def small_table() -> str:
    lines = []
    for name in ON_24_GB:
        made = in_process("plan", json.dumps([name, "huihui_moe_1b", {}, {}, "RTX3090"]))
        lines.append((name, *(f"{made[field] / GIB:.1f}"
                              for field in ("temporary", "update", "rollout")), verdict(made)))
    return ("The recipes for Huihui-MoE-1B-A0.6B compiled for one RTX 3090, of 24 GB; GiB. Value heads are "
            "not counted.\n\n"
            + rows(["recipe", "micro-batch", "peak of update", "peak of rollout", "verdict"], lines))


def verdict(made: dict) -> str:
    return made["verdict"].partition("plan: ")[2].partition(" (")[0]


def counts_table() -> str:
    lines = []
    for count, mesh in COUNTS.items():
        # a row of the longest sequence for each device
        room = {"train.tokens_per_micro_batch": 1536 * max(8, count)}
        made = in_process("plan", json.dumps(["scale/qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", mesh, room]))
        lines.append(
            (count, ", ".join(f"{axis} {size}" for axis, size in mesh.items())
             or "-", f"{made['seconds']:.0f}", f"{made['cpu_seconds']:.0f}", f"{made['rss'] / GIB:.1f}"))
    return ("Qwen3-30B-A3B with adapters on more and more H200s: what it takes to trace and compile the "
            "programs of the update and of the engine.\n\n"
            + rows(["devices", "mesh", "seconds", "CPU seconds", "peak of the process, GiB"], lines))


def in_process(*arguments: str) -> dict:
    """This module in a fresh process: to plan one that compiles for GPUs.

    Programs that are to be measured, and their predictions, go without the CPU's library of matrix products:
    it packs whole operands into memory of its own (an eighth of the peak here), which XLA's account of a
    program does not hold, nor a GPU.
    """
    done = subprocess.run([sys.executable, "-m", "benchmarks.plan", *arguments], env=_variables(arguments[0]),
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmarks.plan {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _variables(kind: str) -> dict[str, str]:
    if kind == "plan":
        from jaxrl_moe.distributed.chips import find_chip
        from jaxrl_moe.planning import target
        if not target.at_hand():
            raise RuntimeError("Plans of GPUs need their compiler here: make target.")
        return target.environment(find_chip("H200"), 1)
    library = "" if not importlib.metadata.version("jaxlib").startswith("0.10.") else (
        # other versions may not know these flags
        " --xla_cpu_experimental_ynn_fusion_type= --xla_cpu_use_xnnpack=false")
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "GLIBC_TUNABLES": MALLOC,
        "XLA_FLAGS": f"--xla_disable_hlo_passes={PASSES}{library}"
    }


def answer(kind: str, *arguments: str) -> dict:
    if kind == "plan":
        return plan(*json.loads(arguments[0]))
    if kind == "temporaries":
        return temporaries(SHAPES[arguments[0]] | {"dtype": arguments[1]})
    return predict(SHAPES[arguments[0]]) if kind == "predict" else measure(SHAPES[arguments[0]], arguments[1])


if __name__ == "__main__":
    print(json.dumps(answer(*sys.argv[1:])))
