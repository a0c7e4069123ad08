"""Corrections for a sampler that is not quite the trained policy: factors on the policy loss, without
gradient.

rho = exp(clamp(o - q, +-20)). They multiply the loss only; the aggregation's denominators stay as they are.
Several may be combined: their factors multiply. To add one, write the function and add a row to
CORRECTIONS.
"""
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.rl.table import require
from jaxrl_moe.rl.tokens import clamp, ratio, sequence_mean, sequence_sum
from jaxrl_moe.rl.types import Array, LossInputs


@dataclasses.dataclass(frozen=True)
class Cap:
    cap: float = 2.0

    def __post_init__(self):
        require(self, cap=(self.cap >= 1, "at least 1, the factor of a token on which both agree"))


@dataclasses.dataclass(frozen=True)
class Band:
    """It holds 1, the ratio where sampler and trainer agree; else it would drop what needs no correction."""
    low: float
    high: float

    def __post_init__(self):
        require(self, low=(0 <= self.low < self.high, f"at least 0 and below high = {self.high}"))
        require(self, low=(self.low <= 1, "at most 1, the ratio where both agree"),
                high=(self.high >= 1, "at least 1, the ratio where both agree"))


@dataclasses.dataclass(frozen=True)
class Floor:
    floor: float = 1e-4

    def __post_init__(self):
        require(self, floor=(0 < self.floor <= 1, "above 0 and at most 1, the ratio where both agree"))


@dataclasses.dataclass(frozen=True)
class Drift:
    drift: float = 0.5  # nats per token

    def __post_init__(self):
        require(self, drift=(self.drift >= 0, "at least 0"))


def tis(inputs: LossInputs, settings: Cap) -> Array:
    """min(rho, C) per token: truncated importance sampling (Yao et al. 2025, "Your efficient RL
    framework...")."""
    return jnp.minimum(ratio(inputs.old_logprobs_BT, inputs.sampler_logprobs_BT), settings.cap)


def tis_sequence(inputs: LossInputs, settings: Cap) -> Array:
    """min(product of rho over the sequence, C) at each of its tokens."""
    return jnp.minimum(jnp.exp(clamp(_log_product(inputs))), settings.cap)


def icepop(inputs: LossInputs, settings: Band) -> Array:
    """rho where it lies in the band, else 0 (Ring-1T, arXiv 2510.18855)."""
    rho = ratio(inputs.old_logprobs_BT, inputs.sampler_logprobs_BT)
    return rho * _within(rho, settings)


def mis_token(inputs: LossInputs, settings: Band) -> Array:
    """Keeps (1) a token whose rho lies in the band, drops (0) the others: masked importance sampling."""
    return _within(ratio(inputs.old_logprobs_BT, inputs.sampler_logprobs_BT), settings)


def mis_sequence(inputs: LossInputs, settings: Band) -> Array:
    """Keeps a sequence whose product of rho lies in the band."""
    return _within(jnp.exp(clamp(_log_product(inputs))), settings)


def mis_geometric(inputs: LossInputs, settings: Band) -> Array:
    """Keeps a sequence whose geometric mean of rho lies in the band."""
    log_mean = sequence_mean(inputs.old_logprobs_BT - inputs.sampler_logprobs_BT, inputs)
    return _within(jnp.exp(clamp(log_mean)), settings)


def veto(inputs: LossInputs, settings: Floor) -> Array:
    """Drops a sequence in which any token has rho below the floor."""
    below = ratio(inputs.old_logprobs_BT, inputs.sampler_logprobs_BT) < settings.floor
    return (sequence_sum(below.astype(inputs.mask_BT.dtype), inputs) == 0).astype(inputs.mask_BT.dtype)


def opsm(inputs: LossInputs, settings: Drift) -> Array:
    """Drops A < 0 tokens of a sequence with mean(q - p) above the bound: DeepSeek-V3.2, arXiv 2512.02556.

    Where no engine reported q, o takes its place.
    """
    behaviour = inputs.old_logprobs_BT if inputs.sampler_logprobs_BT is None else inputs.sampler_logprobs_BT
    drift = sequence_mean(behaviour - jax.lax.stop_gradient(inputs.logprobs_BT), inputs)
    dropped = (inputs.advantages_BT < 0) & (drift > settings.drift)
    return (~dropped).astype(inputs.mask_BT.dtype)


def _log_product(inputs: LossInputs) -> Array:
    return sequence_sum(inputs.old_logprobs_BT - inputs.sampler_logprobs_BT, inputs)


def _within(rho: Array, band: Band) -> Array:
    return ((rho >= band.low) & (rho <= band.high)).astype(rho.dtype)


class Correction(NamedTuple):
    """A row of CORRECTIONS. `per_token`: differs within a sequence; `needs_sampler`: cannot do without q."""
    function: Callable[[LossInputs, Any], Array]
    settings: Any
    per_token: bool = False
    needs_sampler: bool = True


CORRECTIONS = {
    "tis": Correction(tis, Cap(2.0), per_token=True),
    "tis_sequence": Correction(tis_sequence, Cap(5.0)),
    "icepop": Correction(icepop, Band(0.5, 5.0), per_token=True),
    "mis_token": Correction(mis_token, Band(0.5, 2.0), per_token=True),
    "mis_sequence": Correction(mis_sequence, Band(0.5, 2.0)),
    "mis_geometric": Correction(mis_geometric, Band(0.99, 1.01)),
    "veto": Correction(veto, Floor()),
    "opsm": Correction(opsm, Drift(), needs_sampler=False),
}
