"""y[i] = x[i] @ w[expert of row i], for rows sorted by expert: one function over a table of backends.

Letters: R rows, D in, F out, E experts. Rows past the last group come out as zeros. An expert without rows costs
nothing and gets a zero gradient. A frozen w has no gradient computed.

    tiles    a loop over occupied tiles; exact, dropless; the default on CPU
    padded   groups padded to blocks, batched products (cuBLAS) of some blocks at a time; exact, dropless; the default elsewhere
    ragged   lax.ragged_dot: the oracle of the tests (on NVIDIA it expands to a dense product: do not train with it)
    tokamax  tokamax's Mosaic kernels for Hopper; needs the extra `cuda` and Python >= 3.12; padded, with a warning, for what they refuse
"""
import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.backend import get_default_device

from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.kernels import tiles as tiling

HOPPER = "9.0"
ROW_UNIT, SIDE_UNIT = 8, 64  # tokamax's kernels take multiples of these, and of ROW_UNIT for a side below SIDE_UNIT


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


class Method(NamedTuple):
    """Three products of rows sorted by expert: x by w over D; y by w over F, without a transposed copy of all experts' w, which a compiler
    would make for all layers at once; and x by gradient into each expert's [D, F]."""
    product: Callable
    product_back: Callable
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
    x_gradient = method.product_back(share, gradient_RF.astype(x_RD.dtype), w_EDF, group_sizes_E)
    if not trained:
        return x_gradient, None, None
    return x_gradient, method.weight_gradient(share, x_RD, gradient_RF, group_sizes_E, w_EDF.shape[0]).astype(w_EDF.dtype), None


_differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


def _tiles(share, group_sizes_E, *arrays):
    """The walk, and the arrays with the spare rows that its last tile may touch."""
    rows = arrays[0].shape[0]
    size = tiling.tile_size(rows // share, group_sizes_E.shape[0])
    return tiling.plan(group_sizes_E, rows, size), *(jnp.pad(x, ((0, size), (0, 0))) for x in arrays)


def _blocks(share, group_sizes_E, *arrays):
    return tiling.blocks(group_sizes_E, arrays[0].shape[0], share), *arrays


def _product(walked, side, share, x_R, w_EDF, group_sizes_E):
    """Over D (side 0) or over F (side 1) of w."""
    walk, x = walked(share, group_sizes_E, x_R)

    def body(i, store):
        w = walk.matrices(w_EDF, i).astype(x.dtype)
        return walk.put(store, jnp.where(walk.valid(i), dot(walk.rows(x, i), w, side), 0), i)

    store = lax.fori_loop(0, walk.count, body, walk.store(x, w_EDF.shape[2 - side]))
    return walk.finished(store, x_R.shape[0])


def dot(x, w, side: int = 0):
    """x [..., m, in] by w [..., in, out] (side 0), or x [..., m, out] by w over its last axis (side 1); float32."""
    batch = tuple(range(w.ndim - 2))
    dimensions = ((x.ndim - 1,), (w.ndim - 2 + side,)), (batch, batch)
    return lax.dot_general(x, w, dimensions, preferred_element_type=jnp.float32)


def outer(x, y):
    """The sum over rows: x [..., m, in] and y [..., m, out] give [..., in, out]; float32."""
    batch = tuple(range(x.ndim - 2))
    return lax.dot_general(x, y, (((x.ndim - 2,), (x.ndim - 2,)), (batch, batch)), preferred_element_type=jnp.float32)


def _weight_gradient(walked, share, x_RD, gradient_RF, group_sizes_E, experts):
    walk, x, gradient = walked(share, group_sizes_E, x_RD, gradient_RF)

    def body(i, total_EDF):
        own = jnp.where(walk.valid(i), walk.rows(gradient, i), 0)
        return walk.add(total_EDF, outer(walk.rows(x, i), own), i)

    zeros = jnp.zeros((experts, x_RD.shape[1], gradient_RF.shape[1]), jnp.float32)
    return lax.fori_loop(0, walk.count, body, zeros)


def _method(walked) -> Method:
    products = (functools.partial(_product, walked, side) for side in (0, 1))
    return Method(*products, functools.partial(_weight_gradient, walked))


TILES, PADDED = _method(_tiles), _method(_blocks)


def _tokamax_product(share, x_RD, w_EDF, group_sizes_E):
    refused = _refused_by_tokamax(x_RD, w_EDF)
    if refused:
        warnings.warn(f"tokamax's kernels do not take {refused}: this product goes through the backend padded.", stacklevel=2)
        return PADDED.product(share, x_RD, w_EDF, group_sizes_E)
    import tokamax  # optional
    y_RF = tokamax.ragged_dot(x_RD, w_EDF, group_sizes=group_sizes_E, implementation="mosaic_gpu")
    return jnp.where((jnp.arange(x_RD.shape[0]) < group_sizes_E.sum())[:, None], y_RF, 0)  # rows of no group are never written


def _refused_by_tokamax(x_RD, w_EDF) -> str:
    """What stands against its Hopper kernels, found by compiling them (tokamax 0.0.17); "" if nothing does."""
    capability = getattr(get_default_device(), "compute_capability", "none")  # of the device that it asks too
    if capability != HOPPER:
        return f"compute capability {capability} ({HOPPER} is Hopper's)"
    if not x_RD.dtype == w_EDF.dtype == jnp.bfloat16:
        return f"{x_RD.dtype} rows and {w_EDF.dtype} matrices (both must be bfloat16)"
    sides = [side for side in w_EDF.shape[1:] if side % (SIDE_UNIT if side > SIDE_UNIT else ROW_UNIT)]
    if sides or x_RD.shape[0] % ROW_UNIT:
        return f"{x_RD.shape[0]} rows and matrices of {w_EDF.shape[1]} x {w_EDF.shape[2]} (rows come in multiples of 8, sides of 64)"
    return ""


def _tokamax_product_back(share, y_RF, w_EDF, group_sizes_E):
    """The kernel wants w transposed. Behind the barrier that is done for one layer; in front of it XLA would do it for all of them."""
    return _tokamax_product(share, y_RF, lax.optimization_barrier(w_EDF).swapaxes(1, 2), group_sizes_E)


def _tokamax(share, x_RD, w_EDF, group_sizes_E):
    try:
        import tokamax  # noqa: F401
    except ImportError as error:
        raise ImportError("grouped_matmul backend 'tokamax' needs the package tokamax (Python >= 3.12): "
                          "pip install 'jaxrl-moe[cuda]'") from error
    method = Method(_tokamax_product, _tokamax_product_back, PADDED.weight_gradient)
    return _differentiable(method, share, x_RD, w_EDF.astype(x_RD.dtype), group_sizes_E)


BACKENDS = {
    "tiles": functools.partial(_differentiable, TILES),
    "padded": functools.partial(_differentiable, PADDED),
    "ragged": _ragged,
    "tokamax": _tokamax,
}
