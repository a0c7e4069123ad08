"""The objective that a configuration asks for; built once, since each new one is compiled anew."""
import dataclasses
from collections.abc import Mapping

from jaxrl_moe.config import AlgorithmSection, ConfigError, CriticSection, MoeSection
from jaxrl_moe.rl.kl import AdaptiveKL, adapt_kl_coef
from jaxrl_moe.rl.losses import LOSSES
from jaxrl_moe.rl.objective import make_objective, policy_objective
from jaxrl_moe.rl.table import AlgorithmError, lookup, parse_spec
from jaxrl_moe.rl.types import LossInputs, LossOutputs

KL_RANGE = 100.0  # an adaptive KL coefficient stays within this factor of where it starts


@dataclasses.dataclass(frozen=True)
class PolicyObjective:
    """LossInputs -> LossOutputs under fixed settings; equal settings compare equal, so nothing is compiled twice."""
    settings: object

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return policy_objective(inputs, self.settings)


def make_policy_objective(section: AlgorithmSection, critic: CriticSection | None = None,
                          moe: MoeSection | None = None) -> PolicyObjective:
    """The objective of the algorithm, critic and moe sections; without the latter two, of their defaults.

    Raises:
      ConfigError, AlgorithmError: unknown names, settings that the loss does not have, or parts that contradict each other.
    """
    critic, moe = critic or CriticSection(), moe or MoeSection()
    name, settings = parse_spec(section.loss)
    corrections = dict(map(parse_spec, section.corrections))
    if len(corrections) < len(section.corrections):
        raise ConfigError(f"algorithm.corrections = {', '.join(section.corrections)} names one twice: name each once.")
    try:
        return PolicyObjective(make_objective(
            name, settings | _clips(section, name, settings), corrections=corrections, bypass=section.bypass,
            kl_coef=section.kl_coef if section.kl_in == "loss" else 0.0, kl_estimator=section.kl_estimator,
            entropy_coef=section.entropy_coef, value_coef=critic.coef, value_clip=critic.clip,
            aux_loss_coef=moe.aux_loss_coef, z_loss_coef=moe.z_loss_coef))
    except AlgorithmError as error:
        raise ConfigError(f"In the algorithm section: {error}") from error


def present_kl_coef(section: AlgorithmSection, adapted: float | None) -> float:
    """The KL coefficient of the coming step: the adapted one of the steps before, if the settings ask for a target."""
    return section.kl_coef if adapted is None or section.kl_target == 0 else adapted


def next_kl_coef(section: AlgorithmSection, kl_coef: float, metrics: Mapping[str, float]) -> float | None:
    """The KL coefficient of the next step; None where it stays that of the settings.

    It follows policy/kl, the step's mean KL to the reference in nats a token by the settings' estimator, within a factor of
    KL_RANGE of algorithm.kl_coef; a step without an update leaves it as it is.
    """
    if section.kl_target == 0:
        return None
    thermostat = AdaptiveKL(target=section.kl_target, least=section.kl_coef / KL_RANGE, most=section.kl_coef * KL_RANGE)
    return adapt_kl_coef(kl_coef, metrics["policy/kl"], thermostat) if "policy/kl" in metrics else kl_coef


def _clips(section: AlgorithmSection, loss: str, settings: dict) -> dict[str, float]:
    """algorithm.clip_low and clip_high, where they are set."""
    own = {field.name for field in dataclasses.fields(lookup(LOSSES, loss, "loss").settings)}
    clips = {name: getattr(section, name) for name in ("clip_low", "clip_high") if getattr(section, name) > 0}
    for name, value in clips.items():
        if name not in own:
            raise ConfigError(f"algorithm.{name} = {value} has no effect: the loss {loss!r} has no such bound. Set "
                              f"algorithm.{name}=0, or choose algorithm.loss=clipped_surrogate.")
        if name in settings:
            raise ConfigError(f"algorithm.{name} = {value} and algorithm.loss = {section.loss!r} both set it: keep one of them.")
    return clips
