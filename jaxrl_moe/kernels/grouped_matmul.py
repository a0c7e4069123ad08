"""y[i] = x[i] @ w[expert of row i], for rows sorted by expert: one function over a table of backends.

Letters: R rows, D in, F out, E experts. Rows past the last group come out as zeros. An expert without rows
costs nothing and gets a zero gradient. A frozen w has no gradient computed.

    tiles    a loop over occupied tiles; exact, dropless; the default on CPU
    padded   groups padded to blocks, batched products (cuBLAS) of some blocks at a time; exact, dropless;
             the default elsewhere
    ragged   lax.ragged_dot: the oracle of the tests (on NVIDIA it expands to a dense product: do not train
             with it)
    tokamax  tokamax's Mosaic kernels for Hopper; needs the extra `cuda` and Python >= 3.12; padded, with a
             warning, for what they refuse

The first two ask a weight for its products, of any kind; the others take dense matrices, and ask for
those.
"""
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.backend import get_default_device

from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.kernels import tiles as tiling
from jaxrl_moe.kernels.weight import WeightMatrix, dense_of, outer, weight_of

HOPPER = "9.0"
# tokamax's kernels take multiples of these, and of ROW_UNIT for a side below SIDE_UNIT
ROW_UNIT = 8
SIDE_UNIT = 64


def grouped_matmul(x_RD: jax.Array, w_EDF: WeightMatrix | jax.Array, group_sizes_E: jax.Array,
                   backend: str = "auto", share: int = 1) -> jax.Array:
    """Returns [R, F] in x's dtype; accumulates in float32. One in `share` of the rows is expected to belong
    to a group."""
    return BACKENDS[choose(backend)](share, x_RD, weight_of(w_EDF), group_sizes_E)


def choose(backend: str, platform: str | None = None) -> str:
    """Resolves "auto" for devices of a platform, JAX's own by default; raises ValueError on an unknown
    name."""
    if backend == "auto":
        return "tiles" if (platform or platform_of()) == "cpu" else "padded"
    if backend not in BACKENDS:
        raise ValueError(f"grouped_matmul backend {backend!r} is unknown; known are auto, "
                         f"{', '.join(BACKENDS)}")
    return backend


def _ragged(share: int, x_RD: jax.Array, w_EDF: WeightMatrix, group_sizes_E: jax.Array) -> jax.Array:
    return lax.ragged_dot(x_RD, dense_of(w_EDF, x_RD.dtype, "grouped_matmul backend 'ragged'"), group_sizes_E)


class GroupedProducts(NamedTuple):
    """Three products of rows sorted by expert: x by w over D; y by w over F, without a transposed copy of all
    experts' w, which a compiler would make for all layers at once; and x by gradient into each expert's [D,
    F]."""
    product: Callable
    product_back: Callable
    weight_gradient: Callable


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _differentiable(products: GroupedProducts, share: int, x_RD: jax.Array, w_EDF: WeightMatrix,
                    group_sizes_E: jax.Array) -> jax.Array:
    return products.product(share, x_RD, w_EDF, group_sizes_E)


def _forward(products: GroupedProducts, share: int, x_RD: Any, w_EDF: Any,
             group_sizes_E: Any) -> tuple[jax.Array, tuple]:
    x_RD, weight, group_sizes_E = values((x_RD, w_EDF, group_sizes_E))
    return products.product(share, x_RD, weight, group_sizes_E), (x_RD, weight, group_sizes_E, trained(w_EDF))


def values(primals: Any) -> Any:
    """What the arguments of a custom forward pass hold, where it is told which of them have gradients."""
    return jax.tree.map(lambda primal: primal.value, primals)


def trained(weight: Any) -> bool:
    """Whether a gradient is asked for by such an argument, and its kind has one."""
    return weight.trains and any(primal.perturbed for primal in jax.tree.leaves(weight))


def _backward(products: GroupedProducts, share: int, saved: tuple, gradient_RF: Any
              ) -> tuple[jax.Array, WeightMatrix | None, None]:
    x_RD, w_EDF, group_sizes_E, wanted = saved
    if isinstance(gradient_RF, jax.custom_derivatives.SymbolicZero):
        gradient_RF = jnp.zeros(gradient_RF.shape, gradient_RF.dtype)
    x_gradient = products.product_back(share, gradient_RF.astype(x_RD.dtype), w_EDF, group_sizes_E)
    if not wanted:
        return x_gradient, None, None
    w_gradient_EDF = products.weight_gradient(share, x_RD, gradient_RF, group_sizes_E, w_EDF.shape[0])
    return x_gradient, w_EDF.gradient(w_gradient_EDF), None


_differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


def _tiles(share: int, group_sizes_E: jax.Array, *arrays: jax.Array) -> tuple:
    """The walk, and the arrays with the spare rows that its last tile may touch."""
    rows = arrays[0].shape[0]
    size = tiling.tile_size(rows // share, group_sizes_E.shape[0])
    return tiling.plan(group_sizes_E, rows, size), *(jnp.pad(x, ((0, size), (0, 0))) for x in arrays)


def _blocks(share: int, group_sizes_E: jax.Array, *arrays: jax.Array) -> tuple:
    return tiling.blocks(group_sizes_E, arrays[0].shape[0], share), *arrays


def _product(walked: Callable, back: bool, share: int, x_R: jax.Array, w_EDF: WeightMatrix,
             group_sizes_E: jax.Array) -> jax.Array:
    """By w over D, or back, over F."""
    walk, x = walked(share, group_sizes_E, x_R)

    def body(i: jax.Array, store: jax.Array) -> jax.Array:
        w = w_EDF.take(walk.experts(i))
        multiply = w.matmul_t if back else w.matmul
        return walk.put(store, jnp.where(walk.valid(i), multiply(walk.rows(x, i), jnp.float32), 0), i)

    store = lax.fori_loop(0, walk.count, body, walk.store(x, w_EDF.shape[1 if back else 2]))
    return walk.finished(store, x_R.shape[0])


def _weight_gradient(walked: Callable, share: int, x_RD: jax.Array, gradient_RF: jax.Array,
                     group_sizes_E: jax.Array, experts: int) -> jax.Array:
    walk, x, gradient = walked(share, group_sizes_E, x_RD, gradient_RF)

    def body(i: jax.Array, total_EDF: jax.Array) -> jax.Array:
        own = jnp.where(walk.valid(i), walk.rows(gradient, i), 0)
        return walk.add(total_EDF, outer(walk.rows(x, i), own), i)

    zeros = jnp.zeros((experts, x_RD.shape[1], gradient_RF.shape[1]), jnp.float32)
    return lax.fori_loop(0, walk.count, body, zeros)


def _products(walked: Callable) -> GroupedProducts:
    both = (functools.partial(_product, walked, back) for back in (False, True))
    return GroupedProducts(*both, functools.partial(_weight_gradient, walked))


TILES = _products(_tiles)
PADDED = _products(_blocks)


def _tokamax_product(share: int, x_RD: jax.Array, w_EDF: WeightMatrix, group_sizes_E: jax.Array,
                     back: bool = False) -> jax.Array:
    """Back, the kernel wants w transposed. Behind the barrier that is done for one layer; in front of it XLA
    would do it for all of them.
    """
    matrices = w_EDF.dense(x_RD.dtype)
    if back and matrices is not None:
        matrices = lax.optimization_barrier(matrices).swapaxes(1, 2)
    hidden = f"weights of the kind {type(w_EDF).__name__}"
    refused = hidden if matrices is None else _refused_by_tokamax(x_RD, matrices)
    if refused:
        warnings.warn(f"tokamax's kernels do not take {refused}: this product goes through the backend "
                      "padded.", stacklevel=2)
        product = PADDED.product_back if back and matrices is None else PADDED.product
        return product(share, x_RD, w_EDF if matrices is None else weight_of(matrices), group_sizes_E)
    import tokamax  # optional
    y_RF = tokamax.ragged_dot(x_RD, matrices, group_sizes=group_sizes_E, implementation="mosaic_gpu")
    # rows of no group are never written
    return jnp.where((jnp.arange(x_RD.shape[0]) < group_sizes_E.sum())[:, None], y_RF, 0)


def _refused_by_tokamax(x_RD: jax.Array, w_EDF: jax.Array) -> str:
    """What stands against its Hopper kernels, found by compiling them (tokamax 0.0.17); "" if nothing
    does."""
    capability = getattr(get_default_device(), "compute_capability", "none")  # of the device that it asks too
    if capability != HOPPER:
        return f"compute capability {capability} ({HOPPER} is Hopper's)"
    if not x_RD.dtype == w_EDF.dtype == jnp.bfloat16:
        return f"{x_RD.dtype} rows and {w_EDF.dtype} matrices (both must be bfloat16)"
    sides = [side for side in w_EDF.shape[1:] if side % (SIDE_UNIT if side > SIDE_UNIT else ROW_UNIT)]
    if sides or x_RD.shape[0] % ROW_UNIT:
        shapes = f"{x_RD.shape[0]} rows and matrices of {w_EDF.shape[1]} x {w_EDF.shape[2]}"
        return f"{shapes} (rows come in multiples of 8, sides of 64)"
    return ""


def _tokamax(share: int, x_RD: jax.Array, w_EDF: WeightMatrix, group_sizes_E: jax.Array) -> jax.Array:
    try:
        import tokamax  # noqa: F401
    except ImportError as error:
        raise ImportError("grouped_matmul backend 'tokamax' needs the package tokamax (Python >= 3.12): "
                          "pip install 'jaxrl-moe[cuda]'") from error
    return _differentiable(TOKAMAX, share, x_RD, w_EDF, group_sizes_E)


TOKAMAX = GroupedProducts(
    _tokamax_product, functools.partial(_tokamax_product, back=True), PADDED.weight_gradient)
BACKENDS = {
    "tiles": functools.partial(_differentiable, TILES),
    "padded": functools.partial(_differentiable, PADDED),
    "ragged": _ragged,
    "tokamax": _tokamax,
}
