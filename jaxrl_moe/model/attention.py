"""Grouped-query attention with per-head query and key norms, rotary positions, and an optional paged
cache."""
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.context import block_pairs
from jaxrl_moe.kernels.attention import Visibility, attention
from jaxrl_moe.kernels.paired_attention import block_count
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.layers import Init, Linear, RMSNorm
from jaxrl_moe.model.passes import LayerPass
from jaxrl_moe.model.rope import rotate

PARTS = 3  # sizes of the cache's visible part that a decode step on CPU chooses from


def _pairs(parts: int, length: int) -> tuple[int, jax.Array]:
    """Blocks of this device's `length` tokens of a row, and of all keys, that meet in causal attention: see
    distributed.context."""
    blocks = block_count(length // 2)
    return length // 2 // blocks, jnp.asarray(block_pairs(parts, blocks))[collectives.index("context")]


class Attention(nnx.Module):
    """softmax(q k / sqrt(H)) v over the visible tokens, with LoRA on the four projections."""

    def __init__(self, config: ModelConfig, *, stack: tuple[int, ...], lora: LoraConfig | None, dtype: Any,
                 rngs: nnx.Rngs, platform: str = "cpu", backend: str = "auto"):
        self.width = config.head_dim
        self.platform = platform
        self.backend = backend
        size = config.hidden_size
        inner = config.num_heads * config.head_dim
        shared = config.num_kv_heads * config.head_dim

        def linear(name: str, size_in: int, size_out: int, split: str = "out") -> Linear:
            init = Init(config.initializer_range, dtype, rngs, stack, lora)
            bias = config.attention_bias
            return Linear(f"attention.{name}", size_in, size_out, init, bias=bias, split=split)

        self.q_proj = linear("q_proj", size, inner)
        self.k_proj = linear("k_proj", size, shared)
        self.v_proj = linear("v_proj", size, shared)
        self.o_proj = linear("o_proj", inner, size, split="in")
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps, stack=stack, dtype=dtype)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps, stack=stack, dtype=dtype)

    def __call__(self, x_BTD: jax.Array, call: LayerPass, cache: PagedCache | None = None
                 ) -> tuple[jax.Array, PagedCache | None]:
        """Returns ([B, T, D], cache). With a cache the new keys and values are stored first, then read with
        the old."""
        batch, length, _ = x_BTD.shape
        q, k, v = (project(x_BTD, call.adapters, call.dropout_key).reshape(batch, length, -1, self.width)
                   for project in (self.q_proj, self.k_proj, self.v_proj))
        q = rotate(self.q_norm(q), call.cos_BT1H, call.sin_BT1H)
        k = rotate(self.k_norm(k), call.cos_BT1H, call.sin_BT1H)
        if cache is None:
            out = self._over_rows(q, k, v, call)
        else:
            cache = cache.write(call.number, k, v, call.positions_BT, call.pages_BJ)
            out = self._over_cache(q, cache, call)
        return self.o_proj(out.reshape(batch, length, -1), call.adapters, call.dropout_key), cache

    def _over_rows(self, q: jax.Array, k: jax.Array, v: jax.Array, call: LayerPass) -> jax.Array:
        split = k, v, call.positions_BT, call.segments_BT
        k, v, positions, segments = (collectives.gather(x, "context", 1) for x in split)
        seen = Visibility(call.positions_BT, positions, call.segments_BT, segments, call.window)
        parts = collectives.size("context")
        pairs = None if parts == 1 else _pairs(parts, q.shape[1])
        return attention(q, k, v, seen, self.backend, whole_rows=parts == 1, pairs=pairs,
                         in_turn=self.platform != "cpu")

    def _over_cache(self, q: jax.Array, cache: PagedCache, call: LayerPass) -> jax.Array:
        """On CPU only as many of the visible pages are read as the furthest token needs, in steps of a third
        of them."""
        def over(pages_BJ: jax.Array, q: jax.Array, cache: PagedCache, layer: Any, window: Any) -> jax.Array:
            k, v = cache.read(layer, pages_BJ)
            positions = jnp.broadcast_to(jnp.arange(k.shape[1]), k.shape[:2])
            segments_BT = jnp.ones_like(call.positions_BT)
            seen = Visibility(call.positions_BT, positions, segments_BT, jnp.ones_like(positions), window)
            return attention(q, k, v, seen, self.backend)

        pages = call.pages_BJ.shape[1]
        if self.platform != "cpu" or q.shape[1] > 1:
            return over(call.pages_BJ, q, cache, call.number, call.window)
        counts = sorted({-(-pages * i // PARTS) for i in range(1, PARTS + 1)})
        needed = jnp.max(call.positions_BT) // cache.page_size + 1
        index = jnp.searchsorted(jnp.array(counts), needed).astype(jnp.int32)
        branches = [functools.partial(over, call.pages_BJ[:, :count]) for count in counts]
        return jax.lax.switch(index, branches, q, cache, call.number, call.window)
