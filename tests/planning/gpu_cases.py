"""Kernels and programs compiled for GPUs that are not there: python -m tests.planning.gpu_cases GROUP CHIP
prints {case: what was found}.

Runs in a process of its own, which has the GPUs' compiler on its path. A case that fails says so instead of
its findings.
"""
import functools
import json
import re
import sys

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxrl_moe.config import base, resolve
from jaxrl_moe.distributed.chips import CHIPS
from jaxrl_moe.kernels.attention import Visibility, attention
from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.planning import drawing, target, update
from jaxrl_moe.planning.shapes import run_shapes

CALL = re.compile(r'custom_call_target="([^"]+)"')
COLLECTIVE = re.compile(
    r" ((?:ragged-)?all-to-all|all-gather|all-reduce|reduce-scatter|collective-permute)(?:-start)?\(")
# of one layer: rows, tokens, query and key heads, head width; experts, rows, model and hidden width;
# vocabulary
KERNEL_SHAPES = {
    "small": dict(attention=(2, 129, 4, 2, 32), experts=(8, 256, 64, 128), vocabulary=512),
    "30B": dict(attention=(4, 2048, 32, 4, 128), experts=(128, 65536, 2048, 768), vocabulary=151936),
}


def findings(compiled) -> dict:
    text = compiled.as_text()
    return {
        "temporary": compiled.memory_analysis().temp_size_in_bytes,
        "calls": sorted(set(CALL.findall(text))),
        "collectives": sorted(set(COLLECTIVE.findall(text))),
        "on_host": "S(5)" in text
    }


def compiled(device, function, *shapes) -> dict:
    """function's value and gradients by all arguments that are floating, for one device."""
    arguments = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(device)) for shape, dtype in shapes
    ]
    floating = tuple(i for i, (_, dtype) in enumerate(shapes) if dtype != jnp.int32)

    def loss(*inputs):
        return function(*inputs).astype(jnp.float32).sum()

    with target.tracing(device):
        lowered = jax.jit(jax.value_and_grad(loss, floating)).lower(*arguments)
    return findings(lowered.compile(target.OPTIONS))


def attention_case(device, shape, backend, dtype=jnp.bfloat16):
    rows, tokens, heads, kv_heads, width = shape

    def run(q, k, v, positions, segments):
        seen = Visibility(positions, positions, segments, segments)
        return attention(q, k, v, seen, backend, whole_rows=True, in_turn=True)

    q = (rows, tokens, heads, width)
    kv = (rows, tokens, kv_heads, width)
    return compiled(device, run, (q, dtype), (kv, dtype), (kv, dtype), ((rows, tokens), jnp.int32),
                    ((rows, tokens), jnp.int32))


def grouped_case(device, shape, backend):
    experts, rows, model, hidden = shape

    def run(x, w, sizes):
        return grouped_matmul(x, w, sizes, backend)

    return compiled(device, run, ((rows, model), jnp.bfloat16), ((experts, model, hidden), jnp.bfloat16),
                    ((experts,), jnp.int32))


def layers_case(device, shape, backend):
    """A scan over two layers with frozen experts and adapters, as in training: nothing may grow with the
    number of layers."""
    (experts, rows, model, hidden), layers, rank = shape, 2, 16
    sides = ((model, hidden), (model, hidden), (hidden, model))

    def run(x, sizes, *adapters_and_frozen):
        adapters = adapters_and_frozen[:6]
        frozen = adapters_and_frozen[6:]

        def layer(x, arrays):
            w, low = arrays
            weights = ExpertWeights(*(ExpertWeight(w[i], low[2 * i], low[2 * i + 1]) for i in range(3)))
            return x + expert_mlp(x, weights, Groups(sizes), Adapters(2.0), backend), None

        return jax.lax.scan(jax.checkpoint(layer), x,
                            ([jax.lax.stop_gradient(w) for w in frozen], adapters))[0]

    low = [((layers, experts, *pair), jnp.float32) for first, last in sides
           for pair in ((first, rank), (rank, last))]
    whole = [((layers, experts, *side), jnp.bfloat16) for side in sides]
    return compiled(device, run, ((rows, model), jnp.bfloat16), ((experts,), jnp.int32), *low, *whole)


def logprobs_case(device, shape, frozen):
    _, rows, model, _ = shape["experts"]

    def run(hidden, head, targets):
        logprobs, entropy = token_logprobs(hidden, head, targets, entropy=True, frozen_head=frozen)
        return logprobs + entropy

    tokens = rows // 8
    vocabulary = shape["vocabulary"]
    return compiled(device, run, ((tokens, model), jnp.bfloat16), ((model, vocabulary), jnp.bfloat16),
                    ((tokens,), jnp.int32))


def kernels(chip) -> dict:
    """{case: function}, of both shapes."""
    device = target.devices(chip)[0]
    cases = {}
    for size, shape in KERNEL_SHAPES.items():
        for backend in ("xla", "causal", "chunked", "cudnn"):
            cases[f"attention {backend} {size}"] = functools.partial(attention_case, device,
                                                                     shape["attention"], backend)
        for backend in ("padded", "tiles", "ragged", "tokamax") if size == "small" else ("padded", "tokamax"):
            cases[f"grouped {backend} {size}"] = functools.partial(grouped_case, device, shape["experts"],
                                                                   backend)
        for backend in ("padded", "tokamax"):
            cases[f"layers {backend} {size}"] = functools.partial(layers_case, device, shape["experts"],
                                                                  backend)
        for frozen in (True, False):
            cases[f"logprobs {'frozen' if frozen else 'trained'} "
                  f"{size}"] = functools.partial(logprobs_case, device, shape, frozen)
    return cases


def tiny(layers=2):
    return ModelConfig("qwen3_moe", 512, 64, layers, 4, 2, 32, 128, (True,) * layers, (0,) * layers,
                       num_experts=8, num_experts_per_tok=2, moe_intermediate_size=128, norm_topk_prob=True)


def layers_of_30b(layers=2):
    return ModelConfig("qwen3_moe", 151936, 2048, layers, 32, 4, 128, 6144, (True,) * layers, (0,) * layers,
                       num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True)


def recipe(**settings):
    config = base()
    config.model.path = config.data.path = "unused"
    config.model.dtype = "bfloat16"
    config.train.remat = "full"
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.algorithm.kl_coef = 0.001
    config.data.max_prompt_tokens = 512
    config.rollout.max_tokens = 1024
    config.rollout.slots = 128
    config.rollout.page_size = 64
    config.train.tokens_per_micro_batch = 16384
    for key, value in settings.items():
        section, field = key.split("__")
        config[section][field] = value
    return resolve(config)


SMALL = dict(data__max_prompt_tokens=32, rollout__max_tokens=32, rollout__slots=8, rollout__page_size=16,
             train__tokens_per_micro_batch=512)


def program_case(config, model, devices, names):
    """{program: findings} of some programs of a run."""
    shapes = run_shapes(config, model, devices)
    lowered = update.lower(config, shapes, *update.micro_batch_shapes(config, shapes.placement))
    lowered |= drawing.lower(config, shapes, drawing.pool(config, shapes, None))
    return {name: findings(lowered[name].compile(target.OPTIONS)) for name in names}


def programs(chip) -> dict:
    four = target.devices(chip, 4)
    everything = ("gradients", "apply", "forward", "decode", "prefill", "copy_pages")
    full = SMALL | dict(lora__rank=0)
    meshes = {name: SMALL | dict(mesh__expert=4) | settings for name, settings in {
        "gather": {}, "capacity": dict(mesh__transport="capacity", mesh__capacity_factor=1.5),
        "ragged": dict(mesh__transport="ragged")}.items()}
    cases = {
        "small, offload": (recipe(**full, train__offload=("optimizer", "reference")), tiny(), four[:1],
                           ("apply", "forward")),
        "small, fsdp and tensor": (recipe(**full, mesh__fsdp=2, mesh__tensor=2), tiny(), four,
                                   ("gradients", "decode")),
        "small, context": (recipe(**SMALL, mesh__context=2), tiny(), four[:2], ("gradients",)),
        "30B": (recipe(), layers_of_30b(), four[:1], everything),
    } | {
        f"small, {name}": (recipe(**settings), tiny(), four, ("gradients",))
        for name, settings in meshes.items()
    }
    return {name: functools.partial(program_case, *case) for name, case in cases.items()}


def one_product(chip) -> dict:
    """The smallest program, for chips that nothing else is compiled for here."""
    device = target.devices(chip)[0]
    return {
        "product": functools.partial(compiled, device, jnp.matmul, ((256, 256), jnp.bfloat16),
                                     ((256, 256), jnp.bfloat16))
    }


GROUPS = {"kernels": kernels, "programs": programs, "one product": one_product}


def main(group: str, chip: str, *names: str) -> dict:
    """names: of the cases; none: all."""
    found = {}
    for name, case in GROUPS[group](CHIPS[chip]).items():
        if names and name not in names:
            continue
        try:
            found[name] = case()
        except Exception as error:  # each is reported by its own test
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
