"""Estimates of KL(policy || reference) from the log-probs of drawn tokens.

Estimators: J. Schulman, "Approximating KL divergence", 2020 (joschu.net/blog/kl-approx.html).
"""
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.rl.table import lookup
from jaxrl_moe.rl.tokens import LOG_RATIO_LIMIT, clamp
from jaxrl_moe.rl.types import Array

K3_LIMIT = 10.0


def k1(d: Array) -> Array:
    """d: unbiased; its gradient, averaged over the policy's own tokens, is zero."""
    return d


def k2(d: Array) -> Array:
    """d^2 / 2: biased; its gradient is the KL's."""
    return d * d / 2


def k3(d: Array) -> Array:
    """e^-d - 1 + d, at most 10: unbiased and never negative; its gradient is not the KL's."""
    return clamp(jnp.exp(-d) - 1 + d, K3_LIMIT)


def k3_plus(d: Array) -> Array:
    """The value of k3 with the gradient of k2."""
    return k2(d) + jax.lax.stop_gradient(k3(d) - k2(d))


KL_ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3, "k3+": k3_plus, "abs": jnp.abs}


def kl_estimate(logprobs: Array, ref_logprobs: Array, estimator: str) -> Array:
    """Per-token estimate, of any shape, from d = p - f clamped at +-20 (no gradient through f).

    Raises:
      AlgorithmError: unknown estimator.
    """
    difference = clamp(logprobs - jax.lax.stop_gradient(ref_logprobs))
    return lookup(KL_ESTIMATORS, estimator, "KL estimator")(difference)


# The estimators' values on the host: NumPy compiles nothing, however many lengths its arrays have.
_VALUES = {
    "k1": lambda d: d,
    "k2": lambda d: d * d / 2,
    "k3": lambda d: np.minimum(np.exp(-d) - 1 + d, K3_LIMIT),
    "abs": np.abs
}
_VALUES["k3+"] = _VALUES["k3"]


def kl_value(logprobs: np.ndarray, ref_logprobs: np.ndarray, estimator: str) -> np.ndarray:
    """The value of kl_estimate, in float64 on the host.

    Raises:
      AlgorithmError: unknown estimator.
    """
    difference = np.asarray(logprobs, np.float64) - ref_logprobs
    return lookup(_VALUES, estimator, "KL estimator")(np.clip(difference, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
