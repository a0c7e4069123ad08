"""(x A) B with a backward pass whose products are laid out for r much smaller than the rest.

The gradient of A is formed as [r, in], with the few rows first: XLA's CPU products of [in, rows] x [rows, r]
copy all of x into its transpose, and take most of an adapter's time. Letters: r the adapter's rank.
"""
import jax


@jax.custom_vjp
def low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """x [..., in], a [in, r], b [r, out]; returns [..., out]."""
    return (x @ a) @ b


def kept(low: jax.Array) -> jax.Array:
    """x A as it stands, for the product low^T gradient: XLA would otherwise compute A^T x^T anew, for a
    slower product."""
    return jax.lax.optimization_barrier(low)


def _forward(x: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple]:
    low = x @ a
    return low @ b, (x, low, a, b)


def _backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, low, a, b = saved
    low_gradient = gradient @ b.T
    a_gradient = (_rows(low_gradient).T @ _rows(x)).T
    return low_gradient @ a.T, a_gradient, _rows(kept(low)).T @ _rows(gradient)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


low_rank.defvjp(_forward, _backward)
