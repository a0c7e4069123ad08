"""Seconds to trace and compile the train step and the decode step at several depths: flat, since layers are
scanned."""
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.models import ALPHA, RANK, hf_config
from benchmarks.table import rows
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer

DEPTHS = (4, 48)


def abstract(layers: int) -> Transformer:
    hf = hf_config(layers=layers).to_dict() | {"architectures": ["Qwen3MoeForCausalLM"]}
    return Transformer.abstract(ModelConfig.from_hf(hf), lora=LoraConfig(RANK, ALPHA))


def train_step(layers: int, batch: int = 8, length: int = 256) -> float:
    graphdef, adapters, rest = nnx.split(abstract(layers), nnx.LoRAParam, ...)
    ids = jax.ShapeDtypeStruct((batch, length), jnp.int32)

    def loss(adapters: nnx.State, rest: nnx.State, tokens: jax.Array, positions: jax.Array,
             segments: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, adapters, rest)
        hidden, _ = model(tokens, Pass(positions, segments))
        return token_logprobs(hidden.reshape(-1, hidden.shape[-1]), model.head_DV(),
                              tokens.reshape(-1))[0].sum()

    return seconds(jax.jit(jax.grad(loss)), adapters, rest, ids, ids, ids)


def decode_step(layers: int, slots: int = 8, pages: int = 65, page_size: int = 32) -> float:
    model = abstract(layers)
    graphdef, state = nnx.split(model)
    cache = jax.eval_shape(lambda: PagedCache.zeros(model.config, pages, page_size, jnp.float32))
    single, visible = (jax.ShapeDtypeStruct((slots, n), jnp.int32) for n in (1, 8))

    def step(state, tokens, positions, cache, pages):
        return nnx.merge(graphdef, state).extend(tokens, cache, Pass(positions, pages_BJ=pages))[0]

    return seconds(jax.jit(step), state, single, single, cache, visible)


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    function.lower(*arguments).compile()
    return time.perf_counter() - start


def table() -> str:
    train_step(2)  # imports and first-use costs
    return rows(["layers", "train step, s", "decode step, s"],
                [(layers, f"{train_step(layers):.1f}", f"{decode_step(layers):.1f}") for layers in DEPTHS])
