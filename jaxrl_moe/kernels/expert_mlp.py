"""The experts' gated MLP, adapters included: y = (silu(x Wg) * (x Wu)) Wd for rows sorted by expert.

Each W carries an optional low-rank adapter: x W + scale (x A) B. On the backends `tiles` and `padded` one loop does the whole MLP for a
step of their walk (kernels/tiles.py), and one loop its backward pass; the other backends are three grouped products (and adapters).
Letters: R rows, D model width, F expert hidden, E experts, r adapter rank.
"""
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxrl_moe.kernels import grouped_matmul as grouped
from jaxrl_moe.kernels import tiles as tiling
from jaxrl_moe.kernels.low_rank import kept


class ExpertWeight(NamedTuple):
    """One of the three matrices: w [E, in, out]; a [E, in, r] and b [E, r, out], or None without an adapter."""
    w: Any
    a: Any = None
    b: Any = None


def expert_mlp(x_RD, gate: ExpertWeight, up: ExpertWeight, down: ExpertWeight, group_sizes_E, *, scale=0.0,
               backend="auto", drop=None, spare=0, share=1):
    """Returns [R, D] in x's dtype. Rows past the last group come out as zeros.

    Args:
      spare: how many rows at the end belong to no group whatever the sizes: none, or `spare_rows`, with which nothing is copied.
      scale: the adapters' factor.
      drop: function (name, input) applied to an adapter's input (dropout), name one of "gate", "up", "down".
      share: one in so many of the rows is expected to belong to a group.
    """
    backend = grouped.choose(backend)
    if backend in WALKED and drop is None:
        weights = tuple(ExpertWeight(*(None if m is None else m.astype(x_RD.dtype) for m in weight)) for weight in (gate, up, down))
        size = spare or spare_rows(x_RD.shape[0], gate.w.shape[0], share, backend)
        method = Method(scale, size, share)
        return _fused(method, jnp.pad(x_RD, ((0, size - spare), (0, 0))), *weights, group_sizes_E)[:x_RD.shape[0]]

    def multiply(x, w):
        return grouped.grouped_matmul(x, w, group_sizes_E, backend, share)

    def product(name, x, weight):
        y = multiply(x, weight.w)
        if weight.a is None:
            return y
        low = multiply(drop(name, x) if drop else x, weight.a)
        return y + scale * multiply(low, weight.b)

    hidden_RF = jax.nn.silu(product("gate", x_RD, gate)) * product("up", x_RD, up)
    return product("down", hidden_RF, down)


class Method(NamedTuple):
    """How the MLP is computed: the adapters' factor; how many spare rows a tile may touch, 0 for blocks; see expert_mlp for share."""
    scale: float
    spare: int
    share: int


WALKED = ("tiles", "padded")


def spare_rows(rows: int, experts: int, share: int = 1, backend: str = "tiles") -> int:
    """Rows past the last of `rows` that a tile may touch, as many as it has; none with a backend that has no tiles."""
    return tiling.tile_size(rows // share, experts) if grouped.choose(backend) == "tiles" else 0


def _walk(method: Method, group_sizes_E, total_rows: int):
    """Over the rows that are not spare."""
    if method.spare:
        return tiling.plan(group_sizes_E, total_rows - method.spare, method.spare)
    return tiling.blocks(group_sizes_E, total_rows, method.share)


def _dot(x, w, side=0):
    return grouped.dot(x, w, side).astype(x.dtype)


def _apply(x, weight: ExpertWeight, scale):
    """x W + scale (x A) B for one step."""
    if weight.a is None:
        return _dot(x, weight.w)
    return _dot(x, weight.w) + scale * _dot(_dot(x, weight.a), weight.b)


def _apply_back(gradient, weight: ExpertWeight, scale):
    """The gradient by x, and gradient B^T, which the gradient of A needs."""
    if weight.a is None:
        return _dot(gradient, weight.w, 1), None
    low = _dot(gradient, weight.b, 1)
    return _dot(gradient, weight.w, 1) + scale * _dot(low, weight.a, 1), low


def _experts(walk, weight: ExpertWeight, i) -> ExpertWeight:
    return ExpertWeight(*(None if m is None else walk.matrices(m, i) for m in weight))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(method, x_RD, gate, up, down, group_sizes_E):
    return _forward(method, x_RD, gate, up, down, group_sizes_E)[0]


def _forward(method, x_RD, gate, up, down, group_sizes_E):
    walk, width, scale = _walk(method, group_sizes_E, x_RD.shape[0]), gate.w.shape[-1], method.scale

    def body(i, carry):
        out, gates, ups = carry
        x = walk.rows(x_RD, i)
        g = _apply(x, _experts(walk, gate, i), scale)
        u = _apply(x, _experts(walk, up, i), scale)
        y = _apply(jax.nn.silu(g) * u, _experts(walk, down, i), scale)
        y = jnp.where(walk.valid(i), y, 0)
        return walk.put(out, y, i), walk.put(gates, g, i), walk.put(ups, u, i)

    empty = [walk.store(x_RD, size) for size in (x_RD.shape[1], width, width)]
    out, *hidden = lax.fori_loop(0, walk.count, body, tuple(empty))
    # Named, a checkpoint's policy can keep them; else it would keep what each step made of them, to run the loop again.
    gates, ups = (checkpoint_name(x, "experts_hidden") for x in hidden)
    return walk.finished(out, x_RD.shape[0]), (gates, ups)


def _fused_forward(method, x_RD, gate, up, down, group_sizes_E):
    values = [ExpertWeight(*(None if m is None else m.value for m in weight)) for weight in (gate, up, down)]
    trained = tuple(ExpertWeight(*(m is not None and m.perturbed for m in weight)) for weight in (gate, up, down))
    out, (gates, ups) = _forward(method, x_RD.value, *values, group_sizes_E.value)
    return out, (x_RD.value, *values, group_sizes_E.value, gates, ups, trained)


class _Gradient(NamedTuple):
    """A running sum of one weight's gradients, a's transposed; None where it is not trained."""
    w: Any
    a: Any
    b: Any

    @classmethod
    def zeros(cls, weight, trained):
        shapes = (weight.w.shape, weight.a is not None and weight.a.swapaxes(1, 2).shape, weight.b is not None and weight.b.shape)
        return cls(*(jnp.zeros(shape, jnp.float32) if wanted else None for shape, wanted in zip(shapes, trained)))

    def add(self, walk, i, scale, x, x_low, gradient, gradient_low):
        """The few rows of a low-rank product come first: [r, in] takes a sixth of the time of [in, r] on CPU."""
        def plus(total, left, right, factor):
            return None if total is None else walk.add(total, factor * grouped.outer(left, right), i)

        return _Gradient(plus(self.w, x, gradient, 1.0), plus(self.a, gradient_low, x, scale), plus(self.b, x_low, gradient, scale))

    def finished(self, weight: ExpertWeight) -> ExpertWeight:
        a = None if self.a is None else self.a.swapaxes(1, 2)
        return ExpertWeight(*(None if total is None else total.astype(m.dtype) for total, m in zip((self.w, a, self.b), weight)))


def _fused_backward(method, residuals, gradient_RD):
    x_RD, gate, up, down, group_sizes_E, gates, ups, trained = residuals
    if isinstance(gradient_RD, jax.custom_derivatives.SymbolicZero):
        gradient_RD = jnp.zeros(gradient_RD.shape, gradient_RD.dtype)
    walk, scale = _walk(method, group_sizes_E, x_RD.shape[0]), method.scale

    def body(i, carry):
        x_gradient, gate_sum, up_sum, down_sum = carry
        x, g, u, dy = walk.rows(x_RD, i), walk.kept(gates, i), walk.kept(ups, i), walk.rows(gradient_RD, i)
        dy = jnp.where(walk.valid(i), dy, 0)
        gate_e, up_e, down_e = (_experts(walk, weight, i) for weight in (gate, up, down))
        sigmoid = jax.nn.sigmoid(g)
        h = g * sigmoid * u
        dh, dy_low = _apply_back(dy, down_e, scale)
        dg = dh * u * sigmoid * (1 + g * (1 - sigmoid))
        du = dh * g * sigmoid
        dx_gate, dg_low = _apply_back(dg, gate_e, scale)
        dx_up, du_low = _apply_back(du, up_e, scale)
        low = lambda m, weight, wanted: kept(_dot(m, weight.a)) if wanted.b else None  # noqa: E731
        return (walk.put(x_gradient, dx_gate + dx_up, i),
                gate_sum.add(walk, i, scale, x, low(x, gate_e, trained[0]), dg, dg_low),
                up_sum.add(walk, i, scale, x, low(x, up_e, trained[1]), du, du_low),
                down_sum.add(walk, i, scale, h, low(h, down_e, trained[2]), dy, dy_low))

    sums = tuple(_Gradient.zeros(weight, wanted) for weight, wanted in zip((gate, up, down), trained))
    x_gradient, *sums = lax.fori_loop(0, walk.count, body, (walk.store(x_RD, x_RD.shape[1]), *sums))
    gradients = [total.finished(weight) for total, weight in zip(sums, (gate, up, down))]
    return walk.finished(x_gradient, x_RD.shape[0]), *gradients, None


_fused.defvjp(_fused_forward, _fused_backward, symbolic_zeros=True)
