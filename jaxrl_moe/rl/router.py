"""Losses on a Mixture-of-Experts router, and the selection bias that balances without a loss.

Both losses add up over micro-batches: what belongs to the whole optimiser minibatch (the load, the count) is
given.
"""
import jax
import jax.numpy as jnp

from jaxrl_moe.rl.types import Array, LossInputs

BIAS_LIMIT = 16.0


def load_balance_loss(inputs: LossInputs) -> Array:
    """E sum_e f_e P_e, the Switch form (arXiv 2101.03961) pooled over layers as HF's Qwen3-MoE does;
    num_experts_per_tok when balanced.

    f_e is the minibatch's slots given to expert e over its tokens, without gradient; P_e the mean of the full
    softmax.
    """
    router = inputs.router
    load_E = router.load_E if inputs.expert_load_E is None else inputs.expert_load_E
    share_E = jax.lax.stop_gradient(load_E) / inputs.num_routed
    return load_E.shape[0] * jnp.sum(share_E * router.probability_E / inputs.num_routed)


def router_z_loss(inputs: LossInputs) -> Array:
    """The mean of logsumexp(router logits)^2 over tokens and layers: ST-MoE, arXiv 2202.08906."""
    return inputs.router.squared_logsumexp / inputs.num_routed


def balanced_bias(bias_LE: Array, load_LE: Array, rate: float) -> Array:
    """The selection bias after one step: up for experts below the mean load, down for those above it, then
    centred.

    Source: loss-free balancing, arXiv 2408.15664; centred and clamped to +-16 as nmoe does.
    """
    load_LE = load_LE.astype(jnp.float32)
    bias_LE = bias_LE + rate * jnp.sign(load_LE.mean(axis=-1, keepdims=True) - load_LE)
    return jnp.clip(bias_LE - bias_LE.mean(axis=-1, keepdims=True), -BIAS_LIMIT, BIAS_LIMIT)
