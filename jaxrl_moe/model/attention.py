"""Grouped-query attention with per-head query and key norms, rotary positions, and an optional paged cache."""
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.context import block_pairs
from jaxrl_moe.kernels.attention import Visibility, attention
from jaxrl_moe.kernels.paired_attention import block_count
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.layers import Init, Linear, RMSNorm
from jaxrl_moe.model.rope import rotate

PARTS = 3  # sizes of the cache's visible part that a decode step on CPU chooses from


class Place(NamedTuple):
    """Where the tokens of a call stand: the same for all layers.

    segments_BT is 0 on padding. With a cache, pages_UJ maps each row's positions to pages.
    """
    positions_BT: Any
    segments_BT: Any
    cos_BT1H: Any
    sin_BT1H: Any
    pages_UJ: Any = None


def _pairs(parts: int, length: int):
    """Blocks of this device's `length` tokens of a row, and of all keys, that meet in causal attention: see distributed.context."""
    blocks = block_count(length // 2)
    return length // 2 // blocks, jnp.asarray(block_pairs(parts, blocks))[collectives.index("context")]


class Attention(nnx.Module):
    """softmax(q k / sqrt(H)) v over the visible tokens, with LoRA on the four projections."""

    def __init__(self, config: ModelConfig, *, stack, lora, dtype, rngs, platform="cpu", backend="auto"):
        self.width, self.platform, self.backend = config.head_dim, platform, backend
        size, inner, shared = config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

        def linear(name, size_in, size_out, split="out"):
            init = Init(config.initializer_range, dtype, rngs, stack, lora)
            bias = config.attention_bias
            return Linear(f"attention.{name}", size_in, size_out, init, bias=bias, split=split)

        self.q_proj = linear("q_proj", size, inner)
        self.k_proj = linear("k_proj", size, shared)
        self.v_proj = linear("v_proj", size, shared)
        self.o_proj = linear("o_proj", inner, size, split="in")
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps, stack=stack, dtype=dtype)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps, stack=stack, dtype=dtype)

    def __call__(self, x_BTD, place: Place, window, adapters=True, dropout_key=None, cache: PagedCache | None = None, layer=None):
        """Returns ([B, T, D], cache). With a cache the new keys and values are stored first, then read with the old."""
        batch, length, _ = x_BTD.shape
        q, k, v = (project(x_BTD, adapters, dropout_key).reshape(batch, length, -1, self.width)
                   for project in (self.q_proj, self.k_proj, self.v_proj))
        q = rotate(self.q_norm(q), place.cos_BT1H, place.sin_BT1H)
        k = rotate(self.k_norm(k), place.cos_BT1H, place.sin_BT1H)
        if cache is None:
            k, v, positions, segments = (collectives.gather(x, "context", 1) for x in (k, v, place.positions_BT, place.segments_BT))
            seen = Visibility(place.positions_BT, positions, place.segments_BT, segments, window)
            parts = collectives.size("context")
            out = attention(q, k, v, seen, self.backend, whole_rows=parts == 1, pairs=None if parts == 1 else _pairs(parts, length),
                            in_turn=self.platform != "cpu")
        else:
            cache = cache.write(layer, k, v, place.positions_BT, place.pages_UJ)
            out = self._over_cache(q, place, window, cache, layer)
        return self.o_proj(out.reshape(batch, length, -1), adapters, dropout_key), cache

    def _over_cache(self, q, place: Place, window, cache: PagedCache, layer):
        """On CPU only as many of the visible pages are read as the furthest token needs, in steps of a third of them."""
        def over(pages_UJ, q, cache, layer, window):
            k, v = cache.read(layer, pages_UJ)
            positions = jnp.broadcast_to(jnp.arange(k.shape[1]), k.shape[:2])
            seen = Visibility(place.positions_BT, positions, jnp.ones_like(place.positions_BT), jnp.ones_like(positions), window)
            return attention(q, k, v, seen, self.backend)

        pages = place.pages_UJ.shape[1]
        if self.platform != "cpu" or q.shape[1] > 1:
            return over(place.pages_UJ, q, cache, layer, window)
        counts = sorted({-(-pages * i // PARTS) for i in range(1, PARTS + 1)})
        needed = jnp.max(place.positions_BT) // cache.page_size + 1
        index = jnp.searchsorted(jnp.array(counts), needed).astype(jnp.int32)
        return jax.lax.switch(index, [functools.partial(over, place.pages_UJ[:, :count]) for count in counts], q, cache, layer, window)
