"""The objective that a configuration asks for; built once, since each new one is compiled anew."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.config import AlgorithmSection, ConfigError, CriticSection, MoeSection
from jaxrl_moe.rl.losses import LOSSES, ClipBounds
from jaxrl_moe.rl.objective import Objective, make_objective, policy_objective
from jaxrl_moe.rl.table import AlgorithmError, lookup, parse_spec
from jaxrl_moe.rl.types import LossInputs, LossOutputs

FIELDS = {"low": "clip_low", "high": "clip_high"}  # of the algorithm section, by ClipBounds' own


@dataclasses.dataclass(frozen=True)
class PolicyObjective:
    """LossInputs -> LossOutputs under fixed settings; equal settings compare equal, so nothing is compiled
    twice."""
    settings: Objective

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return policy_objective(inputs, self.settings)


def make_policy_objective(section: AlgorithmSection, critic: CriticSection | None = None,
                          moe: MoeSection | None = None) -> PolicyObjective:
    """The objective of the algorithm, critic and moe sections; without the latter two, of their defaults.

    Raises:
      ConfigError, AlgorithmError: unknown names, settings that the loss does not have, or parts that
        contradict each other.
    """
    critic = critic or CriticSection()
    moe = moe or MoeSection()
    name, settings = parse_spec(section.loss)
    corrections = dict(map(parse_spec, section.corrections))
    if len(corrections) < len(section.corrections):
        raise ConfigError(f"algorithm.corrections = {', '.join(section.corrections)} names one twice: name "
                          "each once.")
    try:
        return PolicyObjective(make_objective(
            name, settings | _clips(section, name, settings), corrections=corrections, bypass=section.bypass,
            kl_coef=section.kl_coef if section.kl_in == "loss" else 0.0, kl_estimator=section.kl_estimator,
            entropy_coef=section.entropy_coef, value_coef=critic.coef, value_clip=critic.clip,
            aux_loss_coef=moe.aux_loss_coef, z_loss_coef=moe.z_loss_coef))
    except AlgorithmError as error:
        raise ConfigError(f"In the algorithm section: {error}") from error


def clip_bounds(section: AlgorithmSection) -> ClipBounds:
    """algorithm.clip_low and clip_high, where they are set."""
    low = section.clip_low if section.clip_low > 0 else None
    return ClipBounds(low=low, high=section.clip_high if section.clip_high > 0 else None)


def _clips(section: AlgorithmSection, loss: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """The settings that the bounds of the section fill, by the row of the loss."""
    row = lookup(LOSSES, loss, "loss")
    filled = {}
    for bound, value in clip_bounds(section).given().items():
        field = f"algorithm.{FIELDS[bound]}"
        if bound not in row.takes:
            raise ConfigError(f"{field} = {value} has no effect: the loss {loss!r} has no such bound. Set "
                              f"{field}=0, or choose algorithm.loss=clipped_surrogate.")
        if row.takes[bound] in settings:
            raise ConfigError(f"{field} = {value} and algorithm.loss = {section.loss!r} both set it: keep "
                              "one of them.")
        filled[row.takes[bound]] = value
    return filled
