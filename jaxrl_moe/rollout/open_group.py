"""The episodes of a prompt's draw while some of them are played."""
import dataclasses

from jaxrl_moe.types import Prompt, Rollout, RolloutGroup


@dataclasses.dataclass(eq=False)
class OpenGroup:
    """The episodes of a prompt's draw.

    Attributes:
      rollouts: [sample] of those that ended well.
      failed: of those that are given up.
      spare: episodes that took the place of failed ones.
      ending: no further turn is drawn.
    """
    prompt: Prompt
    sequence: int
    rounds: int
    size: int
    rollouts: dict[int, Rollout] = dataclasses.field(default_factory=dict)
    failed: list[Rollout] = dataclasses.field(default_factory=list)
    spare: int = 0
    ending: bool = False

    def group(self) -> RolloutGroup:
        ended = [self.rollouts[sample] for sample in sorted(self.rollouts)]
        return RolloutGroup(self.prompt, [*ended, *self.failed], self.sequence)
