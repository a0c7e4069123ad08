"""The weight of the KL to the reference policy: fixed, or led by a thermostat to a KL of algorithm.kl_target.
All of it stands here.

The loop asks a KLCoefficient what the coming step charges, in the loss or in the reward, and for the next
step's after it.
"""
import dataclasses
from collections.abc import Mapping

from jaxrl_moe.config import AlgorithmSection

KL_RANGE = 100.0  # an adaptive coefficient stays within this factor of where it starts


@dataclasses.dataclass(frozen=True)
class AdaptiveKL:
    """A thermostat: stronger above `high` times the target, weaker below `low` times it, and always from
    `least` to `most`, from where it can come back."""
    target: float = 0.03  # nats per token
    high: float = 1.5
    low: float = 0.5
    increase: float = 1.3
    decrease: float = 0.7
    least: float = 0.0
    most: float = float("inf")


def adapt_kl_coef(coef: float, kl: float, settings: AdaptiveKL = AdaptiveKL()) -> float:
    """The coefficient for the next step, from this step's mean KL in nats per token."""
    if kl > settings.high * settings.target:
        coef *= settings.increase
    elif kl < settings.low * settings.target:
        coef *= settings.decrease
    return min(max(coef, settings.least), settings.most)


@dataclasses.dataclass(frozen=True)
class KLCoefficient:
    """The coefficient of one step.

    Attributes:
      section: what the settings say of it.
      adapted: what the steps before have made of it, as checkpoints keep it; None where it is that of the
        settings.
    """
    section: AlgorithmSection
    adapted: float | None = None

    @property
    def value(self) -> float:
        return self.section.kl_coef if self.adapted is None or self.section.kl_target == 0 else self.adapted

    @property
    def in_reward(self) -> float:
        """What a nat takes off the reward; 0 where the KL is charged in the loss."""
        return self.value if self.section.kl_in == "reward" else 0.0

    @property
    def in_loss(self) -> float | None:
        """What takes the place of the objective's own coefficient; None where that stays, or the reward is
        charged."""
        return self.value if self.section.kl_target > 0 and self.section.kl_in == "loss" else None

    def metrics(self) -> dict[str, float]:
        return {"policy/kl_coef": self.value} if self.section.kl_coef > 0 else {}

    def after(self, metrics: Mapping[str, float]) -> "KLCoefficient":
        """That of the next step, by policy/kl: this step's mean KL in nats a token, by the settings'
        estimator.

        A step without an update leaves it as it is.
        """
        section = self.section
        if section.kl_coef == 0:
            return self
        if section.kl_target == 0:
            return KLCoefficient(section)
        if "policy/kl" not in metrics:
            return KLCoefficient(section, self.value)
        bounds = {"least": section.kl_coef / KL_RANGE, "most": section.kl_coef * KL_RANGE}
        thermostat = AdaptiveKL(target=section.kl_target, **bounds)
        return KLCoefficient(section, adapt_kl_coef(self.value, metrics["policy/kl"], thermostat))
