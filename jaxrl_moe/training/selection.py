"""Which of the groups that are drawn for a step its update uses: all, those that differ, or as many of these
as it takes."""
import dataclasses
import math
from collections.abc import Callable

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.learning.credit.rewards import all_equal, rewards_of
from jaxrl_moe.rollout.failures import Tries, failure_metrics
from jaxrl_moe.runs.metrics import reward_metrics
from jaxrl_moe.types import RolloutGroup, UserError


class NothingToLearnError(UserError):
    """Dynamic sampling found no group whose rewards differ."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """A step's groups, each list in the order of their draws.

    Attributes:
      used: what the update uses.
      constant: set aside, as all their rewards are equal.
      surplus: set aside, as the batch was full without them.
      rounds: how many times prompts were drawn.
      aborted: groups that were given up meanwhile, to be drawn again.
      tokens: drawn meanwhile, where that is not what these groups hold; else None.
      failed: given up, as environments failed.
      tries: of episodes, by how they ended.
    """
    used: list[RolloutGroup]
    constant: list[RolloutGroup]
    surplus: list[RolloutGroup]
    rounds: int = 1
    aborted: int = 0
    tokens: int | None = None
    failed: list[RolloutGroup] = dataclasses.field(default_factory=list)
    tries: Tries = dataclasses.field(default_factory=dict)

    @property
    def dropped(self) -> list[RolloutGroup]:
        return sorted(self.constant + self.surplus, key=lambda group: group.sequence)

    @property
    def drawn(self) -> list[RolloutGroup]:
        return sorted(self.used + self.constant + self.surplus, key=lambda group: group.sequence)


def select(draw: Callable[[int], list[RolloutGroup]], config: Config) -> Selection:
    """Draws groups for a step and chooses those that its update uses.

    Under rollout.dynamic_sampling (DAPO, arXiv 2503.14476) groups whose rewards are all equal are set aside,
    and further prompts drawn until rollout.prompts_per_step groups differ or rollout.max_rounds rounds are
    over. A further round draws as many prompts as it takes to fill the batch at the share of groups that
    differed so far, at most prompts_per_step. The rewards are the graded ones, without penalties on length or
    a KL: whether a group has something to teach is the task's to say.

    Args:
      draw: how many, to the graded groups of so many next prompts.
      config: its rollout and algorithm sections.
    """
    section = config.algorithm
    rollout = config.rollout
    drawn = draw(rollout.prompts_per_step)
    rounds = 1
    if not rollout.dynamic_sampling and not section.drop_constant_groups:
        return Selection(drawn, [], [])
    constant = [all_equal(group, section) for group in drawn]
    if rollout.dynamic_sampling:
        while len(drawn) - sum(constant) < rollout.prompts_per_step and rounds < rollout.max_rounds:
            count = refill(len(drawn) - sum(constant), len(drawn), rollout.prompts_per_step)
            more = draw(count)
            drawn = drawn + more
            constant = constant + [all_equal(group, section) for group in more]
            rounds = rounds + 1
    differing = [group for group, equal in zip(drawn, constant) if not equal]
    return Selection(differing[:rollout.prompts_per_step],
                     [group for group, equal in zip(drawn, constant) if equal],
                     differing[rollout.prompts_per_step:], rounds)


def refill(kept: int, drawn: int, wanted: int) -> int:
    """How many prompts a further round draws: those that miss over the share kept so far, from 1 to
    `wanted`."""
    return min(wanted, math.ceil((wanted - kept) * drawn / max(kept, 1)))


def selection_metrics(batch: Selection, config: Config) -> dict[str, float]:
    """How many groups were drawn and dropped, and the rewards of those that the update used, as graded and
    after shaping.

    reward/mean and its like are of all groups that were drawn.
    """
    metrics = {
        "rollout/rounds": batch.rounds,
        "rollout/groups_drawn": len(batch.drawn),
        "rollout/groups_dropped_constant": len(batch.constant),
        "rollout/groups_dropped_surplus": len(batch.surplus)
    }
    if batch.used:
        shaped = np.concatenate(
            [rewards_of(rollout, config.algorithm) for group in batch.used for rollout in group.rollouts])
        metrics |= {
            "reward/used_mean": reward_metrics(batch.used)["reward/mean"],
            "reward/shaped_mean": float(shaped.mean())
        }
    return {name: float(value) for name, value in (metrics | failure_metrics(batch.tries)).items()}


def nothing_to_learn(batch: Selection, config: Config, step: int) -> NothingToLearnError:
    """The error that ends a run when dynamic sampling has come to an end without a single group to use."""
    rewards = np.concatenate([group.rewards_G for group in batch.drawn])
    return NothingToLearnError(
        f"Step {step}: none of {len(batch.drawn)} groups, drawn in {batch.rounds} rounds, has rewards that "
        f"differ (their mean is {rewards.mean():.3g}), so dynamic sampling has nothing to train on. All "
        "steps before this one are saved. Where rewards are all low take easier prompts or a warm-up, where "
        "all high harder ones; or raise rollout.group_size, rollout.temperature or rollout.max_rounds (now "
        f"{config.rollout.max_rounds}), and start again.")
