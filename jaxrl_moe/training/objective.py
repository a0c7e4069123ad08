"""The objective that a configuration asks for; built once, since each new one is compiled anew."""
import dataclasses

from jaxrl_moe.config import AlgorithmSection, ConfigError
from jaxrl_moe.rl.losses import LOSSES
from jaxrl_moe.rl.objective import make_objective, policy_objective
from jaxrl_moe.rl.table import lookup
from jaxrl_moe.rl.types import LossInputs, LossOutputs


@dataclasses.dataclass(frozen=True)
class PolicyObjective:
    """LossInputs -> LossOutputs under fixed settings; equal settings compare equal, so nothing is compiled twice."""
    settings: object

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return policy_objective(inputs, self.settings)


def make_policy_objective(section: AlgorithmSection) -> PolicyObjective:
    """The objective of the algorithm section.

    Raises:
      ConfigError, AlgorithmError: unknown names, or settings that the loss does not have.
    """
    row = lookup(LOSSES, section.loss, "loss")
    own = {field.name for field in dataclasses.fields(row.settings)}
    clips = {name: getattr(section, name) for name in ("clip_low", "clip_high") if getattr(section, name) > 0}
    for name, value in clips.items():
        if name not in own:
            raise ConfigError(f"algorithm.{name} = {value} has no effect: the loss {section.loss!r} has no such bound. Set "
                              f"algorithm.{name}=0, or choose algorithm.loss=clipped_surrogate.")
    return PolicyObjective(make_objective(section.loss, clips, kl_coef=section.kl_coef, kl_estimator=section.kl_estimator,
                                          entropy_coef=section.entropy_coef))
