"""y[i] = x[i] @ w[expert of row i], for rows sorted by expert: one function over a table of backends.

Letters: R rows, D in, F out, E experts. Rows past the last group come out as zeros. An expert without rows costs
nothing and gets a zero gradient. A frozen w has no gradient computed.

    tiles    a loop over occupied tiles; exact, dropless; the default on CPU
    padded   groups padded to blocks, batched products (cuBLAS) of some blocks at a time, no more than are occupied; exact, dropless;
             the default elsewhere
    ragged   lax.ragged_dot: the oracle of the tests (on NVIDIA it expands to a dense product: do not train with it)
    tokamax  tokamax's Mosaic kernels for Hopper and Blackwell; needs the extra `cuda` and Python >= 3.12
"""
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.kernels import tiles as tiling

PADDED_BLOCK = 128
CHUNK_BLOCKS = 64  # blocks whose experts' matrices are gathered at once


def grouped_matmul(x_RD, w_EDF, group_sizes_E, backend: str = "auto", share: int = 1):
    """Returns [R, F] in x's dtype; accumulates in float32. One in `share` of the rows is expected to belong to a group."""
    return BACKENDS[choose(backend)](share, x_RD, w_EDF, group_sizes_E)


def choose(backend: str, platform: str | None = None) -> str:
    """Resolves "auto" for devices of a platform, JAX's own by default; raises ValueError on an unknown name."""
    if backend == "auto":
        return "tiles" if (platform or platform_of()) == "cpu" else "padded"
    if backend not in BACKENDS:
        raise ValueError(f"grouped_matmul backend {backend!r} is unknown; known are auto, {', '.join(BACKENDS)}")
    return backend


def _ragged(share, x_RD, w_EDF, group_sizes_E):
    return lax.ragged_dot(x_RD, w_EDF.astype(x_RD.dtype), group_sizes_E)


def _tokamax(share, x_RD, w_EDF, group_sizes_E):
    try:
        import tokamax
    except ImportError as error:
        raise ImportError("grouped_matmul backend 'tokamax' needs the package tokamax (Python >= 3.12): "
                          "pip install 'jaxrl-moe[cuda]'") from error
    rows = x_RD.shape[0]
    y_RF = tokamax.ragged_dot(x_RD, w_EDF.astype(x_RD.dtype), group_sizes=group_sizes_E)
    return jnp.where((jnp.arange(rows) < group_sizes_E.sum())[:, None], y_RF, 0)


class Method(NamedTuple):
    """Two products of rows sorted by expert: x by w, and x by gradient into each expert's [D, F]."""
    product: Callable
    weight_gradient: Callable


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _differentiable(method: Method, share: int, x_RD, w_EDF, group_sizes_E):
    return method.product(share, x_RD, w_EDF, group_sizes_E)


def _forward(method, share, x_RD, w_EDF, group_sizes_E):
    saved = x_RD.value, w_EDF.value, group_sizes_E.value, w_EDF.perturbed
    return method.product(share, *saved[:3]), saved


def _backward(method, share, saved, gradient_RF):
    x_RD, w_EDF, group_sizes_E, trained = saved
    if isinstance(gradient_RF, jax.custom_derivatives.SymbolicZero):
        gradient_RF = jnp.zeros(gradient_RF.shape, gradient_RF.dtype)
    x_gradient = method.product(share, gradient_RF.astype(x_RD.dtype), w_EDF.swapaxes(1, 2), group_sizes_E)
    if not trained:
        return x_gradient, None, None
    return x_gradient, method.weight_gradient(share, x_RD, gradient_RF, group_sizes_E, w_EDF.shape[0]).astype(w_EDF.dtype), None


_differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


def _inside(out, rows, group_sizes_E):
    """Cuts the padding, and zeroes what lies past the last group."""
    return jnp.where((jnp.arange(rows) < group_sizes_E.sum())[:, None], out[:rows], 0)


def _tiled(share, x_RD, experts, group_sizes_E):
    size = tiling.tile_size(x_RD.shape[0] // share, experts)
    return tiling.plan(group_sizes_E, x_RD.shape[0], size), jnp.pad(x_RD, ((0, size), (0, 0)))


def _tiles_product(share, x_RD, w_EDF, group_sizes_E):
    tiles, x_padded = _tiled(share, x_RD, w_EDF.shape[0], group_sizes_E)

    def body(i, out):
        x, w = tiling.rows_at(x_padded, tiles.start[i], tiles.size), tiling.take(w_EDF, tiles.expert[i]).astype(x_RD.dtype)
        return tiling.put_rows(out, jnp.dot(x, w, preferred_element_type=jnp.float32), tiles.start[i])

    out = lax.fori_loop(0, tiles.count, body, jnp.zeros((x_padded.shape[0], w_EDF.shape[-1]), x_RD.dtype))
    return _inside(out, x_RD.shape[0], group_sizes_E)


def _tiles_weight_gradient(share, x_RD, gradient_RF, group_sizes_E, experts):
    tiles, x_padded = _tiled(share, x_RD, experts, group_sizes_E)
    gradient_padded = jnp.pad(gradient_RF, ((0, tiles.size), (0, 0)))

    def body(i, total_EDF):
        gradient = jnp.where(tiling.valid_rows(tiles, i), tiling.rows_at(gradient_padded, tiles.start[i], tiles.size), 0)
        x = tiling.rows_at(x_padded, tiles.start[i], tiles.size)
        return tiling.add_at(total_EDF, jnp.dot(x.T, gradient, preferred_element_type=jnp.float32), tiles.expert[i])

    return lax.fori_loop(0, tiles.count, body, jnp.zeros((experts, x_RD.shape[1], gradient_RF.shape[1]), jnp.float32))


def _blocks(group_sizes_E, rows):
    """[chunks, n] experts and [chunks, n, b] rows of all blocks, `rows` where a block's place is empty; how many chunks are occupied."""
    tiles = tiling.plan(group_sizes_E, rows, PADDED_BLOCK)
    count = tiles.expert.shape[0]
    row_nb = tiles.start[:, None] + jnp.arange(PADDED_BLOCK)
    occupied_n1 = (jnp.arange(count) < tiles.count)[:, None]
    row_nb = jnp.where((row_nb < tiles.end[:, None]) & occupied_n1, row_nb, rows)
    pad, chunk = -count % min(CHUNK_BLOCKS, count), min(CHUNK_BLOCKS, count)
    expert_n = jnp.pad(tiles.expert, (0, pad), mode="edge")
    row_nb = jnp.pad(row_nb, ((0, pad), (0, 0)), constant_values=rows)
    return expert_n.reshape(-1, chunk), row_nb.reshape(-1, chunk, PADDED_BLOCK), -(-tiles.count // chunk)


def _trips(share, rows_knb, occupied):
    """How many chunks to compute. Where all rows are expected to belong to a group a fixed number costs a chunk or two, and a bound that
    the device computes would make a GPU's host wait for it in every step of the loop."""
    return occupied if share > 1 else rows_knb.shape[0]


def _padded_product(share, x_RD, w_EDF, group_sizes_E):
    experts, rows, occupied = _blocks(group_sizes_E, x_RD.shape[0])

    def chunk(i, out):
        x_nbD = x_RD.at[rows[i]].get(mode="fill", fill_value=0)
        y_nbF = jnp.einsum("nbd,ndf->nbf", x_nbD, w_EDF[experts[i]].astype(x_RD.dtype), preferred_element_type=jnp.float32)
        return lax.dynamic_update_index_in_dim(out, y_nbF.astype(x_RD.dtype), i, 0)

    y_knbF = lax.fori_loop(0, _trips(share, rows, occupied), chunk, jnp.zeros((*rows.shape, w_EDF.shape[-1]), x_RD.dtype))
    return y_knbF.reshape(-1, w_EDF.shape[-1]).at[_places(group_sizes_E, x_RD.shape[0])].get(mode="fill", fill_value=0)


def _places(group_sizes_E, rows):
    """Where row i stands among the blocks' rows: row k of an expert is row k % b of its block k // b; out of range if past all."""
    ends_E, blocks_E = jnp.cumsum(group_sizes_E), -(-group_sizes_E // PADDED_BLOCK)
    expert_R = jnp.minimum(jnp.searchsorted(ends_E, jnp.arange(rows), side="right"), len(group_sizes_E) - 1)
    first_E = (jnp.cumsum(blocks_E) - blocks_E) * PADDED_BLOCK - (ends_E - group_sizes_E)
    return jnp.where(jnp.arange(rows) < ends_E[-1], first_E[expert_R] + jnp.arange(rows), jnp.iinfo(jnp.int32).max)


def _padded_weight_gradient(share, x_RD, gradient_RF, group_sizes_E, experts):
    expert_kn, rows, occupied = _blocks(group_sizes_E, x_RD.shape[0])

    def chunk(i, total_EDF):
        x_nbD, gradient_nbF = (m.at[rows[i]].get(mode="fill", fill_value=0) for m in (x_RD, gradient_RF))
        part_nDF = jnp.einsum("nbd,nbf->ndf", x_nbD, gradient_nbF, preferred_element_type=jnp.float32)
        return total_EDF + jax.ops.segment_sum(part_nDF, expert_kn[i], experts, indices_are_sorted=True)

    zeros = jnp.zeros((experts, x_RD.shape[1], gradient_RF.shape[1]), jnp.float32)
    return lax.fori_loop(0, _trips(share, rows, occupied), chunk, zeros)


BACKENDS = {
    "tiles": functools.partial(_differentiable, Method(_tiles_product, _tiles_weight_gradient)),
    "padded": functools.partial(_differentiable, Method(_padded_product, _padded_weight_gradient)),
    "ragged": _ragged,
    "tokamax": _tokamax,
}
