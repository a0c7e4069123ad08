"""Self-attention of whole rows in blocks of queries, each over the keys up to its end, with its own backward
pass.

Tokens of a row stand in order, so a block never looks past its last query: about half of the scores are never
formed. Nothing of size [T, T] is kept for the backward pass, only the output and the softmax's normaliser
(arXiv 2205.14135). Products are laid out so that no large operand is transposed. Letters: n = N / K query
heads of one key head, q a block.
"""
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

MAX_BLOCKS = 8
MIN_BLOCK = 64


def _blocks(length: int) -> list[tuple[int, int]]:
    size = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _mask(visibility: Any, start: int, end: int) -> jax.Array:
    """[B, 1, 1, q, S] for the block's queries and the keys before `end`."""
    return visibility.rows(start, end).mask_BTS()[:, None, None]


def _heads(x_BTNH: jax.Array, kv_heads: int) -> jax.Array:
    batch, length, _, width = x_BTNH.shape
    return x_BTNH.reshape(batch, length, kv_heads, -1, width).transpose(0, 2, 3, 1, 4)


def _back(x_BKnTH: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return x_BKnTH.transpose(0, 3, 1, 2, 4).reshape(shape)


def _block(x_BKnTH: jax.Array, start: int, end: int) -> jax.Array:
    """[B, K, n*q, H]: the heads that share a key head in one row of products."""
    x = x_BKnTH[:, :, :, start:end]
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _scores(q_BKqH: jax.Array, k_BKSH: jax.Array, heads: int, scale: float = 1.0) -> jax.Array:
    """Products in float32, scaled there: the same rounding as over the cache."""
    scores = jnp.einsum("bkqh,bksh->bkqs", q_BKqH, k_BKSH, preferred_element_type=jnp.float32) * scale
    return scores.reshape(*scores.shape[:2], heads, -1, scores.shape[-1])


def _after(x: Any, earlier: Any, wanted: bool) -> Any:
    """x, which is there only after `earlier` if that is wanted: XLA's scheduler for GPUs would start all
    blocks at once, and hold the scores of all of them."""
    return lax.optimization_barrier((x, earlier))[0] if wanted else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def causal_attention(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, visibility: Any,
                     in_turn: bool = False) -> jax.Array:
    """softmax(q k / sqrt(H)) v where key s is visible to query t only if s <= t in the row; see
    kernels.attention.

    Args:
      visibility: kernels.attention.Visibility.
      in_turn: a block is begun when the one before it is done.
    """
    return _forward(q_BTNH, k_BTKH, v_BTKH, visibility, in_turn)[0]


def _forward(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, visibility: Any,
             in_turn: bool) -> tuple[jax.Array, tuple]:
    _, length, heads, width = q_BTNH.shape
    kv_heads = k_BTKH.shape[2]
    q = _heads(q_BTNH, kv_heads)
    k = k_BTKH.transpose(0, 2, 1, 3)
    v = v_BTKH.transpose(0, 2, 1, 3)
    # A column of ones beside v makes the weighted sum and the normaliser one product.
    v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    outs = []
    normalisers = []
    for start, end in _blocks(length):
        q_block = _after(_block(q, start, end), outs[-1:], in_turn)
        scores = _scores(q_block, k[:, :, :end], heads // kv_heads, 1 / math.sqrt(width))
        scores = jnp.where(_mask(visibility, start, end), scores, -1e30)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        flat = weights.reshape(*weights.shape[:2], -1, end).astype(v.dtype)
        out = jnp.matmul(flat, v[:, :, :end],
                         preferred_element_type=jnp.float32).reshape(*weights.shape[:4], width + 1)
        outs.append(out[..., :width] / out[..., width:])
        normalisers.append(top[..., 0] + jnp.log(out[..., width]))
    out_BTNH = _back(jnp.concatenate(outs, axis=3), q_BTNH.shape).astype(q_BTNH.dtype)
    return out_BTNH, (q_BTNH, k_BTKH, v_BTKH, visibility, out_BTNH, jnp.concatenate(normalisers, axis=3))


def _backward(in_turn: bool, saved: tuple, gradient_BTNH: jax.Array) -> tuple:
    q_BTNH, k_BTKH, v_BTKH, visibility, out_BTNH, normaliser_BKnT = saved
    batch, length, heads, width = q_BTNH.shape
    kv_heads = k_BTKH.shape[2]
    dtype = q_BTNH.dtype
    q = _heads(q_BTNH, kv_heads)
    k = k_BTKH.transpose(0, 2, 1, 3)
    v = v_BTKH.transpose(0, 2, 1, 3)
    gradient = _heads(gradient_BTNH, kv_heads)
    overlap = jnp.sum(gradient * _heads(out_BTNH, kv_heads), axis=-1, keepdims=True, dtype=jnp.float32)
    k_gradient = v_gradient = jnp.zeros((batch, kv_heads, width, length), jnp.float32)
    q_gradients = []
    for start, end in _blocks(length):
        blocks = _block(q, start, end), _block(gradient, start, end)
        q_block, gradient_block = _after(blocks, (q_gradients[-1:], k_gradient, v_gradient), in_turn)
        scores = _scores(q_block, k[:, :, :end], heads // kv_heads, 1 / math.sqrt(width))
        weights = jnp.where(_mask(visibility, start, end),
                            jnp.exp(scores - normaliser_BKnT[:, :, :, start:end, None]), 0)
        slopes = weights * (_scores(gradient_block, v[:, :, :end], heads // kv_heads)
                            - overlap[:, :, :, start:end])
        slopes = slopes * (1 / math.sqrt(width))
        weights, slopes = (x.reshape(batch, kv_heads, -1, end).astype(dtype) for x in (weights, slopes))
        # [H, S] rather than [S, H]: the large operand is then read along its rows.
        v_gradient = v_gradient.at[..., :end].add(_summed(weights, gradient_block))
        k_gradient = k_gradient.at[..., :end].add(_summed(slopes, q_block))
        q_gradient = jnp.einsum("bkqs,bksh->bkqh", slopes, k[:, :, :end], preferred_element_type=jnp.float32)
        q_gradients.append(q_gradient.reshape(batch, kv_heads, heads // kv_heads, -1, width))
    q_gradient_BTNH = _back(jnp.concatenate(q_gradients, axis=3), q_BTNH.shape)
    k_gradient_BTKH, v_gradient_BTKH = (x.transpose(0, 3, 1, 2).astype(dtype)
                                        for x in (k_gradient, v_gradient))
    return q_gradient_BTNH.astype(dtype), k_gradient_BTKH, v_gradient_BTKH, None


def _summed(weights_BKqS: jax.Array, x_BKqH: jax.Array) -> jax.Array:
    return jnp.einsum("bkqs,bkqh->bkhs", weights_BKqS, x_BKqH, preferred_element_type=jnp.float32)


causal_attention.defvjp(_forward, _backward)
