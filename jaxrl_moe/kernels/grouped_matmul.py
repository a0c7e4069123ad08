"""y[i] = x[i] @ w[expert of row i], for rows sorted by expert: one function over a table of backends.

Letters: R rows, D in, F out, E experts. Rows past the last group come out as zeros. An expert without rows costs
nothing and gets a zero gradient. A frozen w has no gradient computed.

    tiles    a loop over occupied tiles; exact, dropless; the default on CPU
    padded   groups padded to blocks, one batched product (cuBLAS); exact, dropless; the default elsewhere
    ragged   lax.ragged_dot: the oracle of the tests (on NVIDIA it expands to a dense product: do not train with it)
    tokamax  tokamax's Mosaic kernels for Hopper and Blackwell; needs the extra `cuda` and Python >= 3.12
"""
import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl_moe.kernels import tiles as tiling

PADDED_BLOCK = 128


def grouped_matmul(x_RD, w_EDF, group_sizes_E, backend: str = "auto"):
    """Returns [R, F] in x's dtype; accumulates in float32."""
    return BACKENDS[choose(backend)](x_RD, w_EDF, group_sizes_E)


def choose(backend: str) -> str:
    """Resolves "auto" for the machine at hand; raises ValueError on an unknown name."""
    if backend == "auto":
        return "tiles" if jax.default_backend() == "cpu" else "padded"
    if backend not in BACKENDS:
        raise ValueError(f"grouped_matmul backend {backend!r} is unknown; known are auto, {', '.join(BACKENDS)}")
    return backend


def _ragged(x_RD, w_EDF, group_sizes_E):
    return lax.ragged_dot(x_RD, w_EDF.astype(x_RD.dtype), group_sizes_E)


def _padded(x_RD, w_EDF, group_sizes_E):
    rows, experts, size = x_RD.shape[0], w_EDF.shape[0], PADDED_BLOCK
    tiles = tiling.plan(group_sizes_E, rows, size)
    occupied_n = jnp.arange(tiles.expert.shape[0]) < tiles.count
    row_nb = tiles.start[:, None] + jnp.arange(size)
    valid_nb = (row_nb < tiles.end[:, None]) & occupied_n[:, None]
    x_nbD = jnp.where(valid_nb[..., None], x_RD[jnp.where(valid_nb, row_nb, 0)], 0)
    y_nbF = jnp.einsum("nbd,ndf->nbf", x_nbD, w_EDF[tiles.expert].astype(x_RD.dtype), preferred_element_type=jnp.float32)
    # Row i of expert e stands in block first[e] + i // size; reading it back is a gather.
    ends_E = jnp.cumsum(group_sizes_E)
    blocks_E = -(-group_sizes_E // size)
    expert_R = jnp.minimum(jnp.searchsorted(ends_E, jnp.arange(rows), side="right"), experts - 1)
    place_R = (jnp.cumsum(blocks_E) - blocks_E)[expert_R] * size + jnp.arange(rows) - (ends_E - group_sizes_E)[expert_R]
    inside_R = jnp.arange(rows) < ends_E[-1]
    y_RF = y_nbF.reshape(-1, y_nbF.shape[-1])[jnp.where(inside_R, place_R, 0)]
    return jnp.where(inside_R[:, None], y_RF, 0).astype(x_RD.dtype)


def _tokamax(x_RD, w_EDF, group_sizes_E):
    try:
        import tokamax
    except ImportError as error:
        raise ImportError("grouped_matmul backend 'tokamax' needs the package tokamax (Python >= 3.12): "
                          "pip install 'jaxrl-moe[cuda]'") from error
    rows = x_RD.shape[0]
    y_RF = tokamax.ragged_dot(x_RD, w_EDF.astype(x_RD.dtype), group_sizes=group_sizes_E)
    return jnp.where((jnp.arange(rows) < group_sizes_E.sum())[:, None], y_RF, 0)


@functools.partial(jax.custom_vjp)
def _tiles(x_RD, w_EDF, group_sizes_E):
    tiles, x_padded = _prepare(x_RD, w_EDF, group_sizes_E)

    def body(i, out):
        product = jnp.dot(tiling.rows_at(x_padded, tiles.start[i], tiles.size), tiling.take(w_EDF, tiles.expert[i]).astype(x_RD.dtype),
                          preferred_element_type=jnp.float32)
        return tiling.put_rows(out, product, tiles.start[i])

    out = lax.fori_loop(0, tiles.count, body, jnp.zeros((x_padded.shape[0], w_EDF.shape[-1]), x_RD.dtype))
    return _inside(out, x_RD, group_sizes_E)


def _prepare(x_RD, w_EDF, group_sizes_E):
    rows, experts = x_RD.shape[0], w_EDF.shape[0]
    size = tiling.tile_size(rows, experts)
    return tiling.plan(group_sizes_E, rows, size), jnp.pad(x_RD, ((0, size), (0, 0)))


def _inside(out, x_RD, group_sizes_E):
    """Cuts the padding, and zeroes what the last tile wrote past the last group."""
    rows = x_RD.shape[0]
    return jnp.where((jnp.arange(rows) < group_sizes_E.sum())[:, None], out[:rows], 0)


def _tiles_forward(x_RD, w_EDF, group_sizes_E):
    return _tiles(x_RD.value, w_EDF.value, group_sizes_E.value), (x_RD.value, w_EDF.value, group_sizes_E.value, w_EDF.perturbed)


def _tiles_backward(residuals, gradient_RF):
    x_RD, w_EDF, group_sizes_E, trained = residuals
    gradient_RF = jnp.zeros(gradient_RF.shape, gradient_RF.dtype) if _is_zero(gradient_RF) else gradient_RF
    x_gradient = _tiles(gradient_RF.astype(x_RD.dtype), w_EDF.swapaxes(1, 2), group_sizes_E)
    w_gradient = _weight_gradient(x_RD, gradient_RF, group_sizes_E, w_EDF) if trained else None
    return x_gradient, w_gradient, None


def _is_zero(gradient):
    return isinstance(gradient, jax.custom_derivatives.SymbolicZero)


def _weight_gradient(x_RD, gradient_RF, group_sizes_E, w_EDF):
    tiles, x_padded = _prepare(x_RD, w_EDF, group_sizes_E)
    gradient_padded = jnp.pad(gradient_RF, ((0, tiles.size), (0, 0)))

    def body(i, total_EDF):
        gradient = jnp.where(tiling.valid_rows(tiles, i), tiling.rows_at(gradient_padded, tiles.start[i], tiles.size), 0)
        x = tiling.rows_at(x_padded, tiles.start[i], tiles.size)
        return tiling.add_at(total_EDF, jnp.dot(x.T, gradient, preferred_element_type=jnp.float32), tiles.expert[i])

    total = lax.fori_loop(0, tiles.count, body, jnp.zeros(w_EDF.shape, jnp.float32))
    return total.astype(w_EDF.dtype)


_tiles.defvjp(_tiles_forward, _tiles_backward, symbolic_zeros=True)

BACKENDS = {"tiles": _tiles, "padded": _padded, "ragged": _ragged, "tokamax": _tokamax}
