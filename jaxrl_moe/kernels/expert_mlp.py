"""The experts' gated MLP, adapters included: y = (silu(x Wg) * (x Wu)) Wd for rows sorted by expert.

Each W carries an optional low-rank adapter: x W + scale (x A) B. On the backends `tiles` and `padded` one
loop does the whole MLP for a step of their walk (kernels/tiles.py), and one loop its backward pass; the other
backends are three grouped products (and adapters).
Letters: R rows, D model width, F expert hidden, E experts, r adapter rank.
"""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxrl_moe.kernels import grouped_matmul as grouped
from jaxrl_moe.kernels import tiles as tiling
from jaxrl_moe.kernels.low_rank import kept
from jaxrl_moe.kernels.tiles import Blocks, Tiles
from jaxrl_moe.kernels.weight import WeightMatrix, dot, outer, taken, weight_of


class ExpertWeight(NamedTuple):
    """One of the three matrices: w [E, in, out]; a [E, in, r] and b [E, r, out], or None without an
    adapter."""
    w: WeightMatrix | jax.Array
    a: jax.Array | None = None
    b: jax.Array | None = None


class ExpertWeights(NamedTuple):
    """Of all experts: gate and up [E, D, F], down [E, F, D]."""
    gate: ExpertWeight
    up: ExpertWeight
    down: ExpertWeight


class Groups(NamedTuple):
    """How the rows are sorted by expert.

    Attributes:
      sizes_E: how many rows each expert has.
      spare: how many rows at the end belong to no group whatever the sizes: none, or `spare_rows`, with which
        nothing is copied.
      share: one in so many of the rows is expected to belong to a group.
    """
    sizes_E: jax.Array
    spare: int = 0
    share: int = 1


class Adapters(NamedTuple):
    """How low-rank adapters act.

    Attributes:
      scale: their factor.
      drop: function (name, input) applied to an adapter's input (dropout), name a field of ExpertWeights.
    """
    scale: float = 0.0
    drop: Callable[[str, jax.Array], jax.Array] | None = None


NO_ADAPTERS = Adapters()


def expert_mlp(x_RD: jax.Array, experts: ExpertWeights, groups: Groups, adapters: Adapters = NO_ADAPTERS,
               backend: str = "auto") -> jax.Array:
    """Returns [R, D] in x's dtype. Rows past the last group come out as zeros.

    Args:
      backend: a row of grouped_matmul.BACKENDS, or "auto".
    """
    backend = grouped.choose(backend)
    if backend not in WALKED or adapters.drop is not None:
        return _three_products(x_RD, experts, groups, adapters, backend)
    experts = ExpertWeights(*(_computing(weight, x_RD.dtype) for weight in experts))
    size = groups.spare or spare_rows(x_RD.shape[0], groups.sizes_E.shape[0], groups.share, backend)
    method = FusedMethod(adapters.scale, size, groups.share)
    padded = jnp.pad(x_RD, ((0, size - groups.spare), (0, 0)))
    return _fused(method, padded, experts, groups.sizes_E)[:x_RD.shape[0]]


def _computing(weight: ExpertWeight, dtype: Any) -> ExpertWeight:
    """Adapters in the computing type; the matrix sees to that itself."""
    return ExpertWeight(weight_of(weight.w), *(None if m is None else m.astype(dtype) for m in weight[1:]))


def _three_products(x_RD: jax.Array, experts: ExpertWeights, groups: Groups, adapters: Adapters,
                    backend: str) -> jax.Array:
    def multiply(x: jax.Array, w: WeightMatrix | jax.Array) -> jax.Array:
        return grouped.grouped_matmul(x, w, groups.sizes_E, backend, groups.share)

    def product(name: str, x: jax.Array) -> jax.Array:
        weight = getattr(experts, name)
        y = multiply(x, weight.w)
        if weight.a is None:
            return y
        low = multiply(adapters.drop(name, x) if adapters.drop else x, weight.a)
        return y + adapters.scale * multiply(low, weight.b)

    hidden_RF = jax.nn.silu(product("gate", x_RD)) * product("up", x_RD)
    return product("down", hidden_RF)


class FusedMethod(NamedTuple):
    """How the MLP is computed: the adapters' factor; how many spare rows a tile may touch, 0 for blocks; see
    Groups for share.
    """
    scale: float
    spare: int
    share: int


WALKED = ("tiles", "padded")


def spare_rows(rows: int, experts: int, share: int = 1, backend: str = "tiles") -> int:
    """Rows past the last of `rows` that a tile may touch, as many as it has; none with a backend that has no
    tiles."""
    return tiling.tile_size(rows // share, experts) if grouped.choose(backend) == "tiles" else 0


def _walk(method: FusedMethod, group_sizes_E: jax.Array, total_rows: int) -> Tiles | Blocks:
    """Over the rows that are not spare."""
    if method.spare:
        return tiling.plan(group_sizes_E, total_rows - method.spare, method.spare)
    return tiling.blocks(group_sizes_E, total_rows, method.share)


def _dot(x: jax.Array, w: jax.Array, side: int = 0) -> jax.Array:
    return dot(x, w, side).astype(x.dtype)


def _apply(x: jax.Array, weight: ExpertWeight, scale: float) -> jax.Array:
    """x W + scale (x A) B for one step."""
    y = weight.w.matmul(x, jnp.float32).astype(x.dtype)
    return y if weight.a is None else y + scale * _dot(_dot(x, weight.a), weight.b)


def _apply_back(gradient: jax.Array, weight: ExpertWeight, scale: float
                ) -> tuple[jax.Array, jax.Array | None]:
    """The gradient by x, and gradient B^T, which the gradient of A needs."""
    if weight.a is None:
        return _matmul_t(gradient, weight), None
    low = _dot(gradient, weight.b, 1)
    return _matmul_t(gradient, weight) + scale * _dot(low, weight.a, 1), low


def _matmul_t(gradient: jax.Array, weight: ExpertWeight) -> jax.Array:
    return weight.w.matmul_t(gradient, jnp.float32).astype(gradient.dtype)


def _of_step(experts: ExpertWeights, walk: Tiles | Blocks, i: jax.Array) -> ExpertWeights:
    """The matrices of a step's expert or experts."""
    index = walk.experts(i)

    def of(weight: ExpertWeight) -> ExpertWeight:
        return ExpertWeight(weight.w.take(index), taken(weight.a, index), taken(weight.b, index))

    return ExpertWeights(*map(of, experts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(method: FusedMethod, x_RD: jax.Array, experts: ExpertWeights,
           group_sizes_E: jax.Array) -> jax.Array:
    return _forward(method, x_RD, experts, group_sizes_E)[0]


def _forward(method: FusedMethod, x_RD: jax.Array, experts: ExpertWeights,
             group_sizes_E: jax.Array) -> tuple[jax.Array, tuple]:
    """(the result, (x Wg, x Wu) as the walk keeps them)."""
    walk = _walk(method, group_sizes_E, x_RD.shape[0])
    width = experts.gate.w.shape[-1]
    scale = method.scale

    def body(i: jax.Array, carry: tuple) -> tuple:
        out, gates, ups = carry
        x = walk.rows(x_RD, i)
        own = _of_step(experts, walk, i)
        g = _apply(x, own.gate, scale)
        u = _apply(x, own.up, scale)
        y = _apply(jax.nn.silu(g) * u, own.down, scale)
        y = jnp.where(walk.valid(i), y, 0)
        return walk.put(out, y, i), walk.put(gates, g, i), walk.put(ups, u, i)

    empty = [walk.store(x_RD, size) for size in (x_RD.shape[1], width, width)]
    out, *hidden = lax.fori_loop(0, walk.count, body, tuple(empty))
    # Named, a checkpoint's policy can keep them; else it would keep what each step made of them, to run the
    # loop again.
    gates, ups = (checkpoint_name(x, "experts_hidden") for x in hidden)
    return walk.finished(out, x_RD.shape[0]), (gates, ups)


def _fused_forward(method: FusedMethod, x_RD: Any, experts: ExpertWeights,
                   group_sizes_E: Any) -> tuple[jax.Array, tuple]:
    wanted = ExpertWeights(*(_trained(weight) for weight in experts))
    inputs = grouped.values((x_RD, experts, group_sizes_E))
    out, hidden = _forward(method, *inputs)
    return out, (*inputs, *hidden, wanted)


def _trained(weight: ExpertWeight) -> ExpertWeight:
    """Which of the three have gradients."""
    return ExpertWeight(grouped.trained(weight.w), *(m is not None and m.perturbed for m in weight[1:]))


class _Gradient(NamedTuple):
    """A running sum of one weight's gradients, a's transposed; None where it is not trained."""
    w: jax.Array | None
    a: jax.Array | None
    b: jax.Array | None

    @classmethod
    def zeros(cls, weight: ExpertWeight, wanted: ExpertWeight) -> "_Gradient":
        shapes = (weight.w.shape, weight.a is not None and weight.a.swapaxes(1, 2).shape, weight.b is not None
                  and weight.b.shape)
        return cls(*(jnp.zeros(shape, jnp.float32) if some else None for shape, some in zip(shapes, wanted)))

    def add(self, walk: Tiles | Blocks, i: jax.Array, scale: float, rows: tuple,
            gradients: tuple) -> "_Gradient":
        """rows: the products' input, and that by A; gradients: of the output, and that by B^T.

        The few rows of a low-rank product come first: [r, in] takes a sixth of the time of [in, r] on CPU.
        """
        (x, x_low), (gradient, gradient_low) = rows, gradients

        def plus(total: jax.Array | None, left: jax.Array, right: jax.Array,
                 factor: float) -> jax.Array | None:
            return None if total is None else walk.add(total, factor * outer(left, right), i)

        return _Gradient(plus(self.w, x, gradient, 1.0), plus(self.a, gradient_low, x, scale),
                         plus(self.b, x_low, gradient, scale))

    def finished(self, weight: ExpertWeight) -> ExpertWeight:
        w = None if self.w is None else weight.w.gradient(self.w)
        a = None if self.a is None else self.a.swapaxes(1, 2).astype(weight.a.dtype)
        return ExpertWeight(w, a, None if self.b is None else self.b.astype(weight.b.dtype))


def _fused_backward(method: FusedMethod, residuals: tuple, gradient_RD: Any
                    ) -> tuple[jax.Array, ExpertWeights, None]:
    x_RD, experts, group_sizes_E, gates, ups, wanted = residuals
    if isinstance(gradient_RD, jax.custom_derivatives.SymbolicZero):
        gradient_RD = jnp.zeros(gradient_RD.shape, gradient_RD.dtype)
    walk = _walk(method, group_sizes_E, x_RD.shape[0])
    scale = method.scale

    def body(i: jax.Array, carry: tuple) -> tuple:
        x_gradient, gate_sum, up_sum, down_sum = carry
        x = walk.rows(x_RD, i)
        g = walk.kept(gates, i)
        u = walk.kept(ups, i)
        dy = walk.rows(gradient_RD, i)
        dy = jnp.where(walk.valid(i), dy, 0)
        own = _of_step(experts, walk, i)
        sigmoid = jax.nn.sigmoid(g)
        h = g * sigmoid * u
        dh, dy_low = _apply_back(dy, own.down, scale)
        dg = dh * u * sigmoid * (1 + g * (1 - sigmoid))
        du = dh * g * sigmoid
        dx_gate, dg_low = _apply_back(dg, own.gate, scale)
        dx_up, du_low = _apply_back(du, own.up, scale)
        return (walk.put(x_gradient, dx_gate + dx_up, i),
                gate_sum.add(walk, i, scale, (x, _low(x, own.gate, wanted.gate)), (dg, dg_low)),
                up_sum.add(walk, i, scale, (x, _low(x, own.up, wanted.up)), (du, du_low)),
                down_sum.add(walk, i, scale, (h, _low(h, own.down, wanted.down)), (dy, dy_low)))

    sums = tuple(map(_Gradient.zeros, experts, wanted))
    x_gradient, *sums = lax.fori_loop(0, walk.count, body, (walk.store(x_RD, x_RD.shape[1]), *sums))
    gradients = ExpertWeights(*map(_Gradient.finished, sums, experts))
    return walk.finished(x_gradient, x_RD.shape[0]), gradients, None


def _low(x: jax.Array, weight: ExpertWeight, wanted: ExpertWeight) -> jax.Array | None:
    """x A, if the gradient of B wants it."""
    return kept(_dot(x, weight.a)) if wanted.b else None


_fused.defvjp(_fused_forward, _fused_backward, symbolic_zeros=True)
