"""Policy losses, one small pure function each: LossInputs and the loss's own settings in, TokenLoss out.

To add one, write the function and add a row to LOSSES; the row says what the loss takes of a trust region
that is asked for whatever the loss is. r = exp(clamp(p - o, +-20)) is the importance ratio.
"""
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.rl.table import AlgorithmError, NoSettings, check_takes, lookup, parse_spec, require
from jaxrl_moe.rl.tokens import clamp, ratio, sequence_mean
from jaxrl_moe.rl.types import Array, LossInputs, TokenLoss

GSPO_TOKEN_LIMIT = 10.0


@dataclasses.dataclass(frozen=True)
class Clip:
    """The trust region is 1 - clip_low <= r <= 1 + clip_high."""
    clip_low: float = 0.2
    clip_high: float = 0.2

    def __post_init__(self):
        require(self, clip_low=(0 <= self.clip_low <= 1, "from 0 to 1"),
                clip_high=(self.clip_high >= 0, "at least 0"))


@dataclasses.dataclass(frozen=True)
class DualClip(Clip):
    dual_clip: float = 3.0  # c > 1: bounds the loss of a negative advantage at -c A

    def __post_init__(self):
        super().__post_init__()
        require(self, dual_clip=(self.dual_clip > 1, "above 1"))


@dataclasses.dataclass(frozen=True)
class RatioBounds:
    """Absolute bounds of the importance ratio, not distances from 1."""
    ratio_low: float = 0.0
    ratio_high: float = 5.0

    def __post_init__(self):
        require(self, ratio_low=(0 <= self.ratio_low < self.ratio_high,
                                 f"from 0 to below ratio_high = {self.ratio_high}"))


@dataclasses.dataclass(frozen=True)
class Soft:
    tau_positive: float = 1.0
    tau_negative: float = 1.05

    def __post_init__(self):
        require(self, tau_positive=(self.tau_positive > 0, "above 0"),
                tau_negative=(self.tau_negative > 0, "above 0"))


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    divergence: float = 0.2  # allowed change of a token's probability
    ratio_cap: float = 20.0

    def __post_init__(self):
        require(self, divergence=(self.divergence > 0, "above 0"), ratio_cap=(self.ratio_cap > 0, "above 0"))


@dataclasses.dataclass(frozen=True)
class ClipBounds:
    """A trust region asked for whatever the loss is: distances from a ratio of 1. None leaves the loss its
    own."""
    low: float | None = None
    high: float | None = None

    def given(self) -> dict[str, float]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def _clipped(ratio_BT: Array, advantages_BT: Array, low: float, high: float) -> TokenLoss:
    loss = jnp.maximum(-advantages_BT * ratio_BT, -advantages_BT * jnp.clip(ratio_BT, 1 - low, 1 + high))
    clipped_low = (ratio_BT < 1 - low) & (advantages_BT < 0)
    clipped_high = (ratio_BT > 1 + high) & (advantages_BT > 0)
    return TokenLoss(loss, clipped_low, clipped_high)


def clipped_surrogate(inputs: LossInputs, settings: Clip) -> TokenLoss:
    """max(-A r, -A clip(r, 1 - low, 1 + high)): PPO, arXiv 1707.06347; GRPO and DAPO use it too."""
    return _clipped(ratio(inputs.logprobs_BT, inputs.old_logprobs_BT), inputs.advantages_BT,
                    settings.clip_low, settings.clip_high)


def dual_clip(inputs: LossInputs, settings: DualClip) -> TokenLoss:
    """The clipped surrogate, at most -c A where A < 0: arXiv 1912.09729."""
    token = clipped_surrogate(inputs, settings)
    bound = -settings.dual_clip * inputs.advantages_BT
    return token._replace(
        loss_BT=jnp.where(inputs.advantages_BT < 0, jnp.minimum(token.loss_BT, bound), token.loss_BT))


def _log_sequence_ratio(inputs: LossInputs) -> Array:
    return sequence_mean(inputs.logprobs_BT - inputs.old_logprobs_BT, inputs)


def gspo(inputs: LossInputs, settings: Clip) -> TokenLoss:
    """The clipped surrogate of s = exp(mean over the sequence of p - o), one ratio a sequence: arXiv
    2507.18071.

    Every token holds its sequence's loss, so that seq-mean-token-mean is the mean over sequences.
    """
    sequence_ratio = jnp.exp(clamp(_log_sequence_ratio(inputs)))
    return _clipped(sequence_ratio, inputs.advantages_BT, settings.clip_low, settings.clip_high)


def gspo_token(inputs: LossInputs, settings: Clip) -> TokenLoss:
    """GSPO with the value of the sequence's ratio and the token's own gradient: arXiv 2507.18071, section
    4.3."""
    live = inputs.logprobs_BT - jax.lax.stop_gradient(inputs.logprobs_BT)
    exponent = live + jax.lax.stop_gradient(_log_sequence_ratio(inputs))
    token_ratio = jnp.exp(jnp.minimum(exponent, GSPO_TOKEN_LIMIT))
    return _clipped(token_ratio, inputs.advantages_BT, settings.clip_low, settings.clip_high)


def cispo(inputs: LossInputs, settings: RatioBounds) -> TokenLoss:
    """-sg(clip(r, low, high)) A p: no token loses its gradient. MiniMax-M1, arXiv 2506.13585."""
    r = jax.lax.stop_gradient(ratio(inputs.logprobs_BT, inputs.old_logprobs_BT))
    weight = jnp.clip(r, settings.ratio_low, settings.ratio_high)
    loss = -weight * inputs.advantages_BT * inputs.logprobs_BT
    return TokenLoss(loss, r < settings.ratio_low, r > settings.ratio_high)


def sapo(inputs: LossInputs, settings: Soft) -> TokenLoss:
    """-A sigmoid(tau (r - 1)) 4 / tau, a soft gate in place of the clip: arXiv 2511.20347."""
    r = ratio(inputs.logprobs_BT, inputs.old_logprobs_BT)
    tau = jnp.where(inputs.advantages_BT > 0, settings.tau_positive, settings.tau_negative)
    loss = -inputs.advantages_BT * jax.nn.sigmoid(tau * (r - 1)) * 4 / tau
    return TokenLoss(loss, *_nowhere(r))


def dppo_tv(inputs: LossInputs, settings: TotalVariation) -> TokenLoss:
    """-sg(min(e^(p-q), cap)) A p, without tokens whose probability has already moved too far: arXiv
    2602.04879."""
    if inputs.sampler_logprobs_BT is None:
        raise AlgorithmError("Loss 'dppo_tv' compares the policy with the sampler's log-probs, and there are "
                             "none.")
    p = jax.lax.stop_gradient(inputs.logprobs_BT)
    q = inputs.sampler_logprobs_BT
    moved = jnp.exp(p) - jnp.exp(q)
    dropped_high = (inputs.advantages_BT > 0) & (moved > settings.divergence)
    dropped_low = (inputs.advantages_BT < 0) & (moved < -settings.divergence)
    weight = jnp.minimum(ratio(p, q), settings.ratio_cap) * ~(dropped_high | dropped_low)
    return TokenLoss(-weight * inputs.advantages_BT * inputs.logprobs_BT, dropped_low, dropped_high)


def reinforce(inputs: LossInputs, settings: NoSettings) -> TokenLoss:
    """-A p: Williams, 1992. With A = 1 it is the cross-entropy of supervised training."""
    loss = -inputs.advantages_BT * inputs.logprobs_BT
    return TokenLoss(loss, *_nowhere(loss))


def _nowhere(like: Array) -> tuple[Array, Array]:
    return jnp.zeros(like.shape, bool), jnp.zeros(like.shape, bool)


class Loss(NamedTuple):
    """A row of LOSSES.

    Attributes:
      function: (inputs, settings) -> TokenLoss.
      settings: its default settings.
      per_sequence: it has one ratio a sequence.
      own_mismatch: it corrects for the sampler itself.
      aggregation: the one row of AGGREGATIONS that it is defined with; "" for any.
      takes: which of its settings each field of ClipBounds fills; one that is not here means nothing to the
        loss.
    """
    function: Callable[[LossInputs, Any], TokenLoss]
    settings: Any
    per_sequence: bool = False
    own_mismatch: bool = False
    aggregation: str = ""
    takes: Mapping[str, str] = types.MappingProxyType({})


CLIPS = {"low": "clip_low", "high": "clip_high"}
LOSSES = {
    "clipped_surrogate": Loss(clipped_surrogate, Clip(), takes=CLIPS),
    "dual_clip": Loss(dual_clip, DualClip(), takes=CLIPS),
    "gspo": Loss(gspo, Clip(clip_low=3e-4, clip_high=4e-4), per_sequence=True,
                 aggregation="seq-mean-token-mean", takes=CLIPS),
    "gspo_token": Loss(gspo_token, Clip(clip_low=3e-4, clip_high=4e-4), per_sequence=True, takes=CLIPS),
    "cispo": Loss(cispo, RatioBounds()),
    "sapo": Loss(sapo, Soft()),
    "dppo_tv": Loss(dppo_tv, TotalVariation(), own_mismatch=True),
    "reinforce": Loss(reinforce, NoSettings()),
}
check_takes(LOSSES, ClipBounds)


def find_loss(spec: str) -> Loss:
    """The row that a spec such as "dual_clip(dual_clip=4)" names.

    Raises:
      AlgorithmError: there is none.
    """
    return lookup(LOSSES, parse_spec(spec)[0], "loss")
