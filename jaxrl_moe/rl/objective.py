"""The whole objective of one micro-batch: policy loss x corrections + KL penalty - entropy bonus + value loss
+ router losses."""
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_moe.rl import critic, mismatch
from jaxrl_moe.rl.corrections import CORRECTIONS
from jaxrl_moe.rl.critic import critic_terms
from jaxrl_moe.rl.kl import KL_ESTIMATORS, kl_estimate
from jaxrl_moe.rl.losses import LOSSES
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.router import load_balance_loss, router_z_loss
from jaxrl_moe.rl.table import AlgorithmError, configure, lookup
from jaxrl_moe.rl.tokens import clamp, token_share, weighted_sum
from jaxrl_moe.rl.types import Array, LossInputs, LossOutputs, TokenLoss


@dataclasses.dataclass(frozen=True)
class Objective:
    """What to minimise. Hashable, so that it can be a static argument. Build it with `make_objective`.

    Attributes:
      loss: a row of LOSSES, with its settings.
      corrections: pairs of a row of CORRECTIONS and its settings.
      kl_coef: weight of the KL to the reference policy in the loss.
      kl_estimator: a row of KL_ESTIMATORS.
      entropy_coef: weight of the entropy bonus.
      bypass: o := q, so that the ratio itself corrects for the sampler and nothing is recomputed.
      value_coef: weight of the value loss, where there is a critic.
      value_clip: bound on a value's change in one batch; 0 for none.
      aux_loss_coef, z_loss_coef: weights of the router's losses.
    """
    loss: str
    loss_settings: Any
    corrections: tuple[tuple[str, Any], ...] = ()
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    entropy_coef: float = 0.0
    bypass: bool = False
    value_coef: float = 1.0
    value_clip: float = 0.2
    aux_loss_coef: float = 0.0
    z_loss_coef: float = 0.0


def make_objective(loss: str = "clipped_surrogate", loss_settings: Mapping[str, Any] | None = None, *,
                   corrections: Mapping[str, Mapping[str, Any]] | None = None, kl_coef: float = 0.0,
                   kl_estimator: str = "k3", bypass: bool = False, **coefficients: float) -> Objective:
    """Builds an Objective from names; settings that are not given keep the row's own defaults.

    Args:
      loss, loss_settings: a row of LOSSES, and its settings that differ.
      corrections: rows of CORRECTIONS, and their settings that differ.
      kl_coef, kl_estimator, bypass, coefficients: see Objective.

    Raises:
      AlgorithmError: an unknown name or setting, or parts that contradict each other.
    """
    settings = configure(lookup(LOSSES, loss, "loss").settings, loss_settings or {}, loss)
    lookup(KL_ESTIMATORS, kl_estimator, "KL estimator")
    rows = []
    for name, overrides in (corrections or {}).items():
        row = lookup(CORRECTIONS, name, "correction")
        _check_correction(name, loss, bypass)
        rows.append((name, configure(row.settings, overrides, name)))
    if bypass and LOSSES[loss].own_mismatch:
        raise AlgorithmError(f"Loss {loss!r} reads the sampler's log-probs itself: bypass would change "
                             "nothing. Remove it.")
    return Objective(loss, settings, tuple(rows), kl_coef, kl_estimator, bypass=bypass, **coefficients)


def _check_correction(name: str, loss: str, bypass: bool) -> None:
    if CORRECTIONS[name].per_token and LOSSES[loss].per_sequence:
        raise AlgorithmError(f"Loss {loss!r} has one ratio a sequence, correction {name!r} one a token: "
                             "together they are neither. Use a sequence correction, such as 'tis_sequence'.")
    if CORRECTIONS[name].needs_sampler and bypass:
        raise AlgorithmError("With bypass the ratio already runs from the sampler to the policy, so "
                             f"correction {name!r} would count the mismatch twice. Remove one of them.")
    if CORRECTIONS[name].needs_sampler and LOSSES[loss].own_mismatch:
        raise AlgorithmError(f"Loss {loss!r} weighs tokens against the sampler itself, so correction "
                             f"{name!r} would count the mismatch twice. Remove it.")


def policy_objective(inputs: LossInputs, objective: Objective) -> LossOutputs:
    """loss = agg(correction * l) + kl_coef * agg(kl) - entropy_coef * agg(entropy) + value_coef * value loss
    + router losses, agg(x) = sum(weights * mask * x).

    Args:
      inputs: one micro-batch.
      objective: from make_objective.

    Raises:
      AlgorithmError: a term needs log-probs, an entropy or router statistics that the inputs lack.
    """
    kl_coef = objective.kl_coef if inputs.kl_coef is None else inputs.kl_coef
    _check_inputs(inputs, objective, kl_coef)
    trainer_logprobs = _detached_or_own(inputs)
    old = inputs.sampler_logprobs_BT if objective.bypass else trainer_logprobs
    inputs = dataclasses.replace(inputs, old_logprobs_BT=jax.lax.stop_gradient(old))
    loss, metrics = _policy_term(inputs, objective)
    if inputs.ref_logprobs_BT is not None:
        kl_loss, of_kl = _kl_term(inputs, trainer_logprobs, objective)
        loss = loss + kl_coef * kl_loss
        metrics = metrics | of_kl
    if inputs.entropy_BT is not None:
        metrics |= _of_tokens({"policy/entropy": inputs.entropy_BT}, inputs)
        loss = loss - objective.entropy_coef * weighted_sum(inputs.entropy_BT, inputs)
    if inputs.values_BT is not None and inputs.returns_BT is not None:
        value_loss, of_values = critic_terms(inputs, objective.value_clip)
        metrics |= _of_updates({"critic/value_loss": value_loss}) | of_values
        loss = loss + objective.value_coef * value_loss
    if inputs.router is not None:
        loss, metrics = _with_router(loss, metrics, inputs, objective)
    if inputs.sampler_logprobs_BT is not None:
        metrics |= mismatch.moments(trainer_logprobs, inputs)
    return LossOutputs(loss, jax.lax.stop_gradient(metrics))


def _policy_term(inputs: LossInputs, objective: Objective) -> tuple[Array, Metrics]:
    token = LOSSES[objective.loss].function(inputs, objective.loss_settings)
    factor = jnp.ones_like(inputs.mask_BT)
    for name, settings in objective.corrections:
        factor = factor * CORRECTIONS[name].function(inputs, settings)
    loss = weighted_sum(jax.lax.stop_gradient(factor) * token.loss_BT, inputs)
    metrics = _policy_metrics(inputs, token) | _of_updates({"policy/loss": loss})
    if objective.corrections:
        metrics |= _of_tokens({"correction/weight_mean": factor}, inputs)
        metrics |= _of_tokens({"correction/dropped_frac": factor == 0}, inputs)
    return loss, metrics


def _kl_term(inputs: LossInputs, trainer_logprobs: Array, objective: Objective) -> tuple[Array, Metrics]:
    """policy/kl is of the policy before the update, which an adaptive coefficient follows."""
    kl = kl_estimate(inputs.logprobs_BT, inputs.ref_logprobs_BT, objective.kl_estimator)
    kl_loss = weighted_sum(kl, inputs)
    before = kl_estimate(trainer_logprobs, inputs.ref_logprobs_BT, objective.kl_estimator)
    return kl_loss, _of_updates({"policy/kl_loss": kl_loss}) | _of_tokens({"policy/kl": before}, inputs)


def _with_router(loss: Array, metrics: Metrics, inputs: LossInputs,
                 objective: Objective) -> tuple[Array, Metrics]:
    """The metric of the load-balancing loss comes from the minibatch's totals, which it needs no loss for."""
    z_loss = router_z_loss(inputs)
    if objective.z_loss_coef:
        loss = loss + objective.z_loss_coef * z_loss
    if objective.aux_loss_coef:
        loss = loss + objective.aux_loss_coef * load_balance_loss(inputs)
    return loss, metrics | _of_updates({"moe/z_loss": z_loss})


def finished(means: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an update or a step, from its merged values: moments become what is logged of them."""
    return critic.finish(mismatch.finish(means))


def _of_tokens(values_BT: Mapping[str, Array], inputs: LossInputs) -> Metrics:
    return Metrics(Merge.TOKEN_MEAN, {name: token_share(value, inputs) for name, value in values_BT.items()})


def _of_updates(values: Mapping[str, Array]) -> Metrics:
    return Metrics(Merge.UPDATE_MEAN, values)


def _detached_or_own(inputs: LossInputs) -> Array:
    own = inputs.logprobs_BT if inputs.old_logprobs_BT is None else inputs.old_logprobs_BT
    return jax.lax.stop_gradient(own)


def _policy_metrics(inputs: LossInputs, token: TokenLoss) -> Metrics:
    """approx_kl is mean(r - 1 - log r), the k3 estimate of KL(old || policy)."""
    log_ratio = clamp(inputs.logprobs_BT - inputs.old_logprobs_BT)
    r = jnp.exp(log_ratio)
    means = {
        "policy/clip_frac_low": token.clipped_low_BT,
        "policy/clip_frac_high": token.clipped_high_BT,
        "policy/approx_kl": jnp.expm1(log_ratio) - log_ratio,
        "policy/ratio_mean": r,
    }
    return _of_tokens(means, inputs) | Metrics(
        Merge.MAXIMUM, {"policy/ratio_max": jnp.max(jnp.where(inputs.mask_BT > 0, r, 0.0))})


def _check_inputs(inputs: LossInputs, objective: Objective, kl_coef: Any) -> None:
    no_sampler = inputs.sampler_logprobs_BT is None
    needy = [name for name, _ in objective.corrections if CORRECTIONS[name].needs_sampler]
    if no_sampler and (needy or objective.bypass):
        raise AlgorithmError(f"{needy[0] if needy else 'bypass'!r} needs the sampler's log-probs, and there "
                             "are none.")
    if inputs.ref_logprobs_BT is None and (not isinstance(kl_coef, (int, float)) or kl_coef != 0):
        raise AlgorithmError("A KL penalty needs a reference policy, and there is none. Set kl_coef to 0, or "
                             "keep one.")
    if inputs.entropy_BT is None and objective.entropy_coef != 0:
        raise AlgorithmError("The entropy bonus needs the policy's entropy, and it was not computed.")
    if inputs.router is None and (objective.aux_loss_coef or objective.z_loss_coef):
        raise AlgorithmError("A router loss needs a Mixture-of-Experts model, and this one is dense. Set its "
                             "coefficient to 0.")
