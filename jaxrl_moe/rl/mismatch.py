"""How far the rollout engine's log-probs q are from the trainer's o on the same tokens; logged from step 0.

`moments` gives sums that add up over micro-batches, `finish` the metrics of the totals.
"""
import math
from collections.abc import Mapping

import jax.numpy as jnp

from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.tokens import LOG_RATIO_LIMIT, clamp, token_share
from jaxrl_moe.rl.types import Array, LossInputs

MOMENTS = {name: f"mismatch/moments/{name}" for name in ("x", "y", "xx", "yy", "xy", "rho", "rho2")}


def moments(old_logprobs_BT: Array, inputs: LossInputs) -> Metrics:
    """Means and maxima over the trained tokens, from o and inputs.sampler_logprobs_BT.

    kl is the k3 estimate e^(o-q) - 1 - (o-q) of KL(sampler || trainer), k1 the estimate q - o, in nats per
    token.
    """
    d = clamp(old_logprobs_BT - inputs.sampler_logprobs_BT)
    rho = jnp.exp(d)
    kl = jnp.expm1(d) - d
    gap = jnp.abs(jnp.exp(old_logprobs_BT) - jnp.exp(inputs.sampler_logprobs_BT))
    # 1 - probability: exact near 1
    x = -jnp.expm1(old_logprobs_BT)
    y = -jnp.expm1(inputs.sampler_logprobs_BT)
    sums = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "rho": rho, "rho2": rho * rho}
    means = {"mismatch/kl": kl, "mismatch/k1": -d, "mismatch/prob_diff_mean": gap}
    means |= {MOMENTS[name]: value for name, value in sums.items()}
    maxima = {"mismatch/kl_max": (kl, 0.0), "mismatch/k1_max": (-d, -LOG_RATIO_LIMIT),
              "mismatch/prob_diff_max": (gap, 0.0)}
    shares = {name: token_share(value, inputs) for name, value in means.items()}
    largest = {name: jnp.max(jnp.where(inputs.mask_BT > 0, value, least))
               for name, (value, least) in maxima.items()}
    return Metrics(Merge.TOKEN_MEAN, shares) | Metrics(Merge.MAXIMUM, largest)


def finish(means: Mapping[str, float]) -> dict[str, float]:
    """Replaces the minibatch's moments by mismatch/pearson and mismatch/ess (1 = the sampler is the trainer).

    pearson, of the tokens' probabilities, is 1 where both sides are constant and 0 where only one is.
    """
    metrics = {name: value for name, value in means.items() if name not in MOMENTS.values()}
    if MOMENTS["rho"] in means:
        m = {name: float(means[logged]) for name, logged in MOMENTS.items()}
        metrics["mismatch/pearson"] = _pearson(m)
        metrics["mismatch/ess"] = m["rho"] ** 2 / m["rho2"]
    return metrics


def _pearson(m: dict[str, float], resolution: float = 1e-6) -> float:
    variances = [m[xx] - m[x] ** 2 for x, xx in (("x", "xx"), ("y", "yy"))]
    # float32 sees no more
    flat = [variance <= resolution * m[xx] for variance, xx in zip(variances, ("xx", "yy"))]
    if any(flat):
        return float(all(flat))
    return (m["xy"] - m["x"] * m["y"]) / math.sqrt(variances[0] * variances[1])
