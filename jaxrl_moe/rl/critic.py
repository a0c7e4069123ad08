"""The loss of a value head, and how well it predicts returns.

`critic_terms` gives sums that add up over micro-batches, `finish` the metrics of the totals.
"""
from collections.abc import Mapping

import jax.numpy as jnp

from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.types import Array, LossInputs

MOMENTS = {name: f"critic/moments/{name}" for name in ("returns2", "error", "error2")}


def value_loss(values: Array, returns: Array, old_values: Array, clip: float = 0.2) -> tuple[Array, Array]:
    """0.5 max((V - Ret)^2, (V_old + clamp(V - V_old, +-clip) - Ret)^2) per token, and where the clipped one
    is larger.

    Source: PPO's value clipping, as in Engstrom et al. 2020 (arXiv 2005.12729). All arguments have one
    shape.
    """
    clipped = jnp.square(jnp.clip(values, old_values - clip, old_values + clip) - returns)
    plain = jnp.square(values - returns)
    return 0.5 * jnp.maximum(plain, clipped), clipped > plain


def critic_terms(inputs: LossInputs, clip: float) -> tuple[Array, Metrics]:
    """This micro-batch's share of the value loss, and of the critic's means over trained values.

    Args:
      inputs: with values, old values, returns, value weights and their count.
      clip: the bound on V - V_old; 0 for none.
    """
    returns = inputs.returns_BT
    old = inputs.old_values_BT
    loss, clipped = value_loss(inputs.values_BT, returns, old, clip or jnp.inf)
    read = inputs.value_weights_BT > 0

    def share(x: Array) -> Array:
        return jnp.sum(jnp.where(read, x, 0)) / inputs.num_values

    error = returns - old  # how well returns were predicted before anything was learnt from them
    means = {"critic/clip_frac": share(clipped), "critic/value_mean": share(old),
             "critic/return_mean": share(returns)}
    moments = {"returns2": jnp.square(returns), "error": error, "error2": jnp.square(error)}
    means |= {MOMENTS[name]: share(x) for name, x in moments.items()}
    return jnp.sum(jnp.where(read, inputs.value_weights_BT * loss, 0)), Metrics(Merge.VALUE_MEAN, means)


def finish(means: Mapping[str, float]) -> dict[str, float]:
    """Replaces the minibatch's moments by critic/explained_variance, 1 - var(returns - V_old) / var(returns).

    1 is perfect, 0 no better than the mean of the returns; 0 where the returns are constant.
    """
    metrics = {name: value for name, value in means.items() if name not in MOMENTS.values()}
    if MOMENTS["error"] in means:
        m = {name: float(means[logged]) for name, logged in MOMENTS.items()}
        mean = float(means["critic/return_mean"])
        variance = m["returns2"] - mean ** 2
        unexplained = m["error2"] - m["error"] ** 2
        flat = variance <= 1e-6 * m["returns2"]  # float32 sees no more
        metrics["critic/explained_variance"] = 0.0 if flat else 1 - unexplained / variance
    return metrics
