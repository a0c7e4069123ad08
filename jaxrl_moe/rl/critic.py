"""The loss of a value head and how well it predicts returns."""
import jax.numpy as jnp

from jaxrl_moe.rl.types import Array


def value_loss(values: Array, returns: Array, old_values: Array, clip: float = 0.2) -> tuple[Array, Array]:
    """0.5 max((V - Ret)^2, (V_old + clamp(V - V_old, +-clip) - Ret)^2) per token, and where the clipped one is larger.

    Source: PPO's value clipping, as in Engstrom et al. 2020 (arXiv 2005.12729). All arguments have one shape.
    """
    clipped = jnp.square(jnp.clip(values, old_values - clip, old_values + clip) - returns)
    plain = jnp.square(values - returns)
    return 0.5 * jnp.maximum(plain, clipped), clipped > plain


def explained_variance(values: Array, returns: Array) -> Array:
    """1 - var(returns - values) / var(returns): 1 is perfect, 0 no better than the mean. 0 where returns are constant."""
    variance = jnp.var(returns)
    return jnp.where(variance > 0, 1 - jnp.var(returns - values) / jnp.where(variance > 0, variance, 1), 0.0)
