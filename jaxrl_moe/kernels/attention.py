"""Masked grouped-query attention: one function over a table of backends.

    xla      forms the [T, S] scores at once; any keys; the default over a cache
    causal   blocks of queries over the keys before them, own backward pass; the default for whole rows, and
             for parts of rows that say which pairs of blocks matter (kernels/paired_attention.py)
    chunked  one block of queries after the other, recomputed in the backward pass: for very long rows
    cudnn    NVIDIA's fused kernel (bfloat16, GPU); the mask becomes a dense bias [B, 1, T, S]
"""
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.kernels.causal_attention import MAX_BLOCKS, causal_attention
from jaxrl_moe.kernels.paired_attention import paired_attention

QUERY_BLOCK = 512
LARGEST_SCORES = 1 << 28  # elements of a block's scores above which `auto` works in chunks


class Visibility(NamedTuple):
    """What a query sees: keys of its own segment, at most at its position, and less than `window` behind it.

    Segment 0 is padding. window 0 sees everything before; it may be a traced scalar.
    """
    query_positions_BT: jax.Array
    key_positions_BS: jax.Array
    query_segments_BT: jax.Array
    key_segments_BS: jax.Array
    window: int | jax.Array = 0

    def rows(self, start: int, end: int) -> "Visibility":
        """The queries start .. end of each row over the keys before `end`."""
        return Visibility(self.query_positions_BT[:, start:end], self.key_positions_BS[:, :end],
                          self.query_segments_BT[:, start:end], self.key_segments_BS[:, :end], self.window)

    def mask_BTS(self) -> jax.Array:
        distance_BTS = self.query_positions_BT[:, :, None] - self.key_positions_BS[:, None, :]
        same_BTS = self.query_segments_BT[:, :, None] == self.key_segments_BS[:, None, :]
        near_BTS = (self.window == 0) | (distance_BTS < self.window)
        return same_BTS & (distance_BTS >= 0) & near_BTS & (self.key_segments_BS[:, None, :] > 0)


def attention(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Visibility,
              backend: str = "auto", *, whole_rows: bool = False, pairs: tuple[int, jax.Array] | None = None,
              in_turn: bool = False) -> jax.Array:
    """softmax(q k / sqrt(H)) v over the visible keys; returns [B, T, N, H]. A query that sees nothing gets
    finite values.

    N is a multiple of K; query head n reads key head n // (N / K). Softmax in float32.

    Args:
      backend: a row of BACKENDS, or "auto".
      whole_rows: queries and keys are the same tokens in the same order, each segment in order of position.
      in_turn: the backend causal begins a block when the one before it is done: on GPUs, see there.
      pairs: for a part of whole rows (size of a block, [P, 2] blocks of queries and of keys), outside of
        which no query sees a key.

    Raises:
      ValueError: there is no such backend.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is unknown; known are auto, {', '.join(BACKENDS)}")
    if pairs is not None and backend in ("auto", "causal"):
        return paired_attention(pairs[0], q_BTNH, k_BSKH, v_BSKH, visibility, pairs[1])
    if not whole_rows and backend in ("auto", "causal"):
        backend = "xla"
    if backend == "auto":
        batch, length, heads, _ = q_BTNH.shape
        backend = "chunked" if batch * heads * length * length // MAX_BLOCKS > LARGEST_SCORES else "causal"
    if backend == "causal":
        return causal_attention(q_BTNH, k_BSKH, v_BSKH, visibility, in_turn)
    return BACKENDS[backend](q_BTNH, k_BSKH, v_BSKH, visibility)


def _xla(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Visibility) -> jax.Array:
    if q_BTNH.shape[1] == 1:
        return _attend_single(q_BTNH, k_BSKH, v_BSKH, visibility.mask_BTS())
    return _attend(q_BTNH, k_BSKH, v_BSKH, visibility.mask_BTS())


def _attend(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    batch, queries, heads, width = q_BTNH.shape
    q_BTKnH = q_BTNH.reshape(batch, queries, k_BSKH.shape[2], -1, width)
    scores = jnp.einsum("btknh,bskh->bknts", q_BTKnH, k_BSKH, preferred_element_type=jnp.float32)
    scores = jnp.where(mask_BTS[:, None, None], scores / math.sqrt(width), -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
    return jnp.einsum("bknts,bskh->btknh", weights, v_BSKH).reshape(q_BTNH.shape)


def _attend_single(q_B1NH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_B1S: jax.Array) -> jax.Array:
    """One query a row, as sums over the keys where they lie: as products they would all be transposed
    first."""
    batch, _, heads, width = q_B1NH.shape
    q_B1KnH = q_B1NH.reshape(batch, 1, k_BSKH.shape[2], -1, width).astype(jnp.float32)
    scores_BSKn = jnp.sum(k_BSKH[:, :, :, None].astype(jnp.float32) * q_B1KnH, axis=-1) / math.sqrt(width)
    weights_BSKn = jax.nn.softmax(jnp.where(mask_B1S[:, 0, :, None, None], scores_BSKn, -1e30), axis=1)
    out_BKnH = jnp.sum(weights_BSKn[..., None] * v_BSKH[:, :, :, None].astype(jnp.float32), axis=1)
    return out_BKnH.astype(q_B1NH.dtype).reshape(q_B1NH.shape)


def _chunked(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Visibility) -> jax.Array:
    batch, queries, heads, width = q_BTNH.shape
    blocks = -(-queries // QUERY_BLOCK)

    def to_blocks(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, blocks * QUERY_BLOCK - queries)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, blocks, QUERY_BLOCK, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def block(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, positions, segments = inputs
        seen = visibility._replace(query_positions_BT=positions, query_segments_BT=segments)
        return _attend(q, k_BSKH, v_BSKH, seen.mask_BTS())

    queries_and_place = (q_BTNH, visibility.query_positions_BT, visibility.query_segments_BT)
    out = jax.lax.map(block, tuple(map(to_blocks, queries_and_place)))
    return jnp.moveaxis(out, 0, 1).reshape(batch, -1, heads, width)[:, :queries]


def _cudnn(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visibility: Visibility) -> jax.Array:
    """Its backward pass takes no odd lengths: an invisible query or key is added to them."""
    length = q_BTNH.shape[1]
    mask_BTS = visibility.mask_BTS()
    mask_BTS = jnp.pad(mask_BTS, ((0, 0), (0, mask_BTS.shape[1] % 2), (0, mask_BTS.shape[2] % 2)))
    q_BTNH, k_BSKH, v_BSKH = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
                              for x in (q_BTNH, k_BSKH, v_BSKH))
    out_BTNH = jax.nn.dot_product_attention(q_BTNH, k_BSKH, v_BSKH, mask=mask_BTS[:, None],
                                            implementation="cudnn")
    return out_BTNH[:, :length]


BACKENDS = {"xla": _xla, "causal": causal_attention, "chunked": _chunked, "cudnn": _cudnn}
