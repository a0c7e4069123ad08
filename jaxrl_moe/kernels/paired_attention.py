"""Attention over a list of pairs of blocks, (queries, keys), with its own backward pass: what is in no pair
is not computed.

The pairs are data, so that devices which hold different parts of a row run one program: their number alone is
fixed. The softmax runs along (arXiv 2205.14135), and nothing larger than two blocks' scores is formed.
Letters: P pairs, q a block, n = N / K.
"""
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl_moe.kernels.causal_attention import _back, _heads

LARGEST_BLOCK = 512
GRANULE = 16  # tokens; blocks of a longer chunk are multiples, as matrix units like them
HIDDEN = -1e30


def block_count(length: int) -> int:
    """Into how many equal blocks to cut a chunk of tokens."""
    return next(count for count in range(1, length + 1)
                if length % count == 0 and length // count <= LARGEST_BLOCK)


def even_chunk(length: int, granule: int = GRANULE) -> int:
    """A chunk of `length` tokens or few more that block_count cuts into as few blocks as can be, each a
    multiple of `granule` tokens if there are several. A prime number of tokens beyond LARGEST_BLOCK, as it
    is, would be cut into single ones."""
    if length <= LARGEST_BLOCK:
        return length
    step = granule * -(-length // LARGEST_BLOCK)
    return step * -(-length // step)


def _at(x: jax.Array, block: jax.Array, size: int, axis: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(x, block * size, size, axis)


def _put(x: jax.Array, update: jax.Array, block: jax.Array, size: int, axis: int) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(x, update, block * size, axis)


def _seen(visibility: Any, pair: tuple[jax.Array, jax.Array], size: int) -> jax.Array:
    """[B, 1, 1, q, q]."""
    positions, key_positions, segments, key_segments = (
        _at(x, block, size, 1) for x, block in zip(visibility[:4], (pair[0], pair[1]) * 2))
    return type(visibility)(positions, key_positions, segments, key_segments,
                            visibility.window).mask_BTS()[:, None, None]


def _product(equation: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(equation, *operands, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def paired_attention(size: int, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Any,
                     pairs_P2: jax.Array) -> jax.Array:
    """softmax(q k / sqrt(H)) v over the visible keys of each query's pairs; a query that sees nothing gets 0.
    See kernels.attention.

    Args:
      size: of a block.
      visibility: kernels.attention.Visibility.
      pairs_P2: blocks of queries and of keys, each pair once; for each query they must hold every key that is
        visible to it.
    """
    return _forward(size, q_BTNH, k_BSKH, v_BSKH, visibility, pairs_P2)[0]


def _forward(size: int, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Any,
             pairs_P2: jax.Array) -> tuple[jax.Array, tuple]:
    scale = 1 / math.sqrt(q_BTNH.shape[-1])
    q = _heads(q_BTNH, k_BSKH.shape[2])
    k = k_BSKH.transpose(0, 2, 1, 3)
    v = v_BSKH.transpose(0, 2, 1, 3)

    def step(p: jax.Array, carry: tuple) -> tuple:
        queries, keys = pairs_P2[p]
        seen = _seen(visibility, (queries, keys), size)
        scores = _product("bknqh,bksh->bknqs", _at(q, queries, size, 3), _at(k, keys, size, 2)) * scale
        out, total, top = (_at(x, queries, size, 3) for x in carry)
        higher = jnp.maximum(top, jnp.where(seen, scores, HIDDEN).max(axis=-1))
        weights = jnp.where(seen, jnp.exp(scores - higher[..., None]), 0)
        shrink = jnp.exp(top - higher)
        out = out * shrink[..., None] + _product("bknqs,bksh->bknqh", weights.astype(v.dtype),
                                                 _at(v, keys, size, 2))
        return tuple(_put(x, new, queries, size, 3)
                     for x, new in zip(carry, (out, total * shrink + weights.sum(axis=-1), higher)))

    zeros = jnp.zeros(q.shape, jnp.float32)
    out, total, top = lax.fori_loop(0, len(pairs_P2), step,
                                    (zeros, zeros[..., 0], jnp.full_like(zeros[..., 0], HIDDEN)))
    total = jnp.where(total > 0, total, 1)
    out_BTNH = _back(out / total[..., None], q_BTNH.shape).astype(q_BTNH.dtype)
    return out_BTNH, (q_BTNH, k_BSKH, v_BSKH, visibility, pairs_P2, out_BTNH, top + jnp.log(total))


def _backward(size: int, saved: tuple, gradient_BTNH: jax.Array) -> tuple:
    q_BTNH, k_BSKH, v_BSKH, visibility, pairs_P2, out_BTNH, normaliser_BKnT = saved
    kv_heads = k_BSKH.shape[2]
    dtype = q_BTNH.dtype
    scale = 1 / math.sqrt(q_BTNH.shape[-1])
    q = _heads(q_BTNH, kv_heads)
    gradient = _heads(gradient_BTNH, kv_heads)
    k = k_BSKH.transpose(0, 2, 1, 3)
    v = v_BSKH.transpose(0, 2, 1, 3)
    overlap = jnp.sum(gradient * _heads(out_BTNH, kv_heads), axis=-1, keepdims=True, dtype=jnp.float32)

    def step(p: jax.Array, carry: tuple) -> tuple:
        queries, keys = pairs_P2[p]
        seen = _seen(visibility, (queries, keys), size)
        q_block, gradient_block, normaliser, overlap_block = (
            _at(x, queries, size, 3) for x in (q, gradient, normaliser_BKnT, overlap))
        k_block, v_block = (_at(x, keys, size, 2) for x in (k, v))
        scores = _product("bknqh,bksh->bknqs", q_block, k_block) * scale
        weights = jnp.where(seen, jnp.exp(scores - normaliser[..., None]), 0)
        slopes = weights * (_product("bknqh,bksh->bknqs", gradient_block, v_block) - overlap_block) * scale
        weights = weights.astype(dtype)
        slopes = slopes.astype(dtype)
        updates = (_product("bknqs,bksh->bknqh", slopes, k_block),
                   _product("bknqs,bknqh->bksh", slopes, q_block),
                   _product("bknqs,bknqh->bksh", weights, gradient_block))
        return tuple(_put(x, _at(x, block, size, axis) + update, block, size, axis)
                     for x, update, block, axis in zip(carry, updates, (queries, keys, keys), (3, 2, 2)))

    empty = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
    q_gradient, k_gradient, v_gradient = lax.fori_loop(0, len(pairs_P2), step, empty)
    k_gradient, v_gradient = (x.transpose(0, 2, 1, 3).astype(dtype) for x in (k_gradient, v_gradient))
    return _back(q_gradient, q_BTNH.shape).astype(dtype), k_gradient, v_gradient, None, None


paired_attention.defvjp(_forward, _backward)
