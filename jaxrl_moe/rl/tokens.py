"""Reductions over the tokens of a micro-batch, and the clamps that keep ratios finite."""
import jax
import jax.numpy as jnp

from jaxrl_moe.rl.types import Array, LossInputs

LOG_RATIO_LIMIT = 20.0


def clamp(x: Array, limit: float = LOG_RATIO_LIMIT) -> Array:
    """x within +-limit; outside, the gradient is zero."""
    return jnp.clip(x, -limit, limit)


def ratio(numerator: Array, denominator: Array) -> Array:
    """exp(numerator - denominator) of two log-probabilities, the exponent clamped at +-20."""
    return jnp.exp(clamp(numerator - denominator))


def weighted_sum(x_BT: Array, inputs: LossInputs) -> Array:
    """sum(w * mask * x): this micro-batch's share of the aggregate of x."""
    return jnp.sum(jnp.where(inputs.mask_BT > 0, inputs.weights_BT * x_BT, 0))


def token_share(x_BT: Array, inputs: LossInputs) -> Array:
    """This micro-batch's share of the plain mean of x over the trained tokens of the minibatch."""
    return jnp.sum(jnp.where(inputs.mask_BT > 0, x_BT, 0)) / inputs.num_tokens


def sequence_sum(x_BT: Array, inputs: LossInputs) -> Array:
    """The sum of x over the trained tokens of each token's own sequence, at every token: [B, T]."""
    masked = jnp.where(inputs.mask_BT > 0, x_BT, 0)
    sums = jax.ops.segment_sum(masked.ravel(), inputs.sequence_BT.ravel(), num_segments=masked.size)
    return sums[inputs.sequence_BT]


def sequence_mean(x_BT: Array, inputs: LossInputs) -> Array:
    """As sequence_sum, divided by the sequence's trained tokens (0 where it has none)."""
    counts = sequence_sum(jnp.ones_like(x_BT), inputs)
    return sequence_sum(x_BT, inputs) / jnp.maximum(counts, 1)
