"""Advantages from the scalar rewards of one prompt's completions, on the host in float64.

To add an estimator, write a function from rewards_G to advantages_G and add a row to ADVANTAGES. A constant
group gives exactly 0 wherever the estimator centres; `is_constant` is also the test of `reward/frac_zero_std`
and dynamic sampling.
"""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.rl.table import AlgorithmError, NoSettings, lookup, parse_spec, require


@dataclasses.dataclass(frozen=True)
class Epsilon:
    eps: float = 1e-6

    def __post_init__(self):
        require(self, eps=(self.eps >= 0, "at least 0"))


def is_constant(values: Sequence[float] | np.ndarray) -> bool:
    """Whether all values are equal; true of one value, too."""
    values = np.asarray(values)
    return bool(values.min() == values.max())


def centre(rewards_G: np.ndarray) -> np.ndarray:
    """Rewards less their mean; exactly 0 for a constant group."""
    return np.zeros(len(rewards_G)) if is_constant(rewards_G) else rewards_G - rewards_G.mean()


def grpo(rewards_G: np.ndarray, settings: Epsilon) -> np.ndarray:
    """(R - mean) / (std + eps), std with ddof 1: DeepSeekMath, arXiv 2402.03300. A group of one gets 0."""
    if is_constant(rewards_G):
        return np.zeros(len(rewards_G))
    return centre(rewards_G) / (rewards_G.std(ddof=1) + settings.eps)


def dr_grpo(rewards_G: np.ndarray, settings: NoSettings) -> np.ndarray:
    """R - mean: arXiv 2503.20783."""
    return centre(rewards_G)


def rloo(rewards_G: np.ndarray, settings: NoSettings) -> np.ndarray:
    """R less the mean of the others, G/(G-1) (R - mean): arXiv 2402.14740. A group of one has no others and
    gets 0."""
    size = len(rewards_G)
    return centre(rewards_G) * (size / max(size - 1, 1))


def turn_rloo(rewards_G: np.ndarray, settings: NoSettings) -> np.ndarray:
    """rloo over what the episodes of a group came to from one and the same turn on: arXiv 2602.05885. An
    episode's own return is no part of its baseline, whatever its other turns are worth; one that alone has
    come so far gets 0."""
    return rloo(rewards_G, settings)


def maxrl(rewards_G: np.ndarray, settings: Epsilon) -> np.ndarray:
    """(R - mean) / (mean + eps): arXiv 2602.02710.

    Raises:
      AlgorithmError: a reward is negative, which could flip the sign.
    """
    if rewards_G.min() < 0:
        raise AlgorithmError("Advantage 'maxrl' divides by the mean reward, so no reward may be negative; "
                             f"got {rewards_G.min():g}. Shift or clip the rewards, or use 'grpo'.")
    return centre(rewards_G) / (rewards_G.mean() + settings.eps)


def raw(rewards_G: np.ndarray, settings: NoSettings) -> np.ndarray:
    """The rewards themselves; REINFORCE++ (arXiv 2501.03262) whitens them over the batch's tokens
    afterwards."""
    return rewards_G.copy()


def reinforce(rewards_G: np.ndarray, settings: NoSettings) -> np.ndarray:
    """R - mean of the group; the raw reward where there is one completion, which has nothing to be centred
    on."""
    return centre(rewards_G) if len(rewards_G) > 1 else rewards_G.copy()


class Advantage(NamedTuple):
    """A row of ADVANTAGES.

    Attributes:
      function: (rewards_G, settings) -> advantages_G, one value a completion.
      settings: its default settings.
      per_token: the value is paid at the last trained token and summed from each token onwards, with discount
        gamma; a KL penalty in the reward is then paid token by token. Otherwise every token has the
        completion's value.
      whiten: then whitened over the trained tokens of the whole batch.
      needs_group: it compares the completions of one prompt, so that a single one gets 0 whatever its reward.
      non_negative: it divides by the mean reward, so that none may be negative.
      independent: its baseline is unbiased only where a group's rewards do not depend on each other, as those
        of one rollout's turns do.
      per_turn: it compares each turn with the same turn of the others, see algorithm.returns = turns.
      critic: "" for none; "token": the value of every token, by GAE; "last_token": one value, of the whole
        sequence.
    """
    function: Callable[[np.ndarray, Any], np.ndarray]
    settings: Any
    per_token: bool = False
    whiten: bool = False
    needs_group: bool = False
    non_negative: bool = False
    independent: bool = False
    per_turn: bool = False
    critic: str = ""


ADVANTAGES = {
    "grpo": Advantage(grpo, Epsilon(), needs_group=True),
    "dr_grpo": Advantage(dr_grpo, NoSettings(), needs_group=True),
    "rloo": Advantage(rloo, NoSettings(), needs_group=True, independent=True),
    "turn_rloo": Advantage(turn_rloo, NoSettings(), needs_group=True, per_turn=True),
    "maxrl": Advantage(maxrl, Epsilon(), needs_group=True, non_negative=True),
    "reinforce": Advantage(reinforce, NoSettings()),
    "reinforce_pp": Advantage(raw, NoSettings(), per_token=True, whiten=True),
    "reinforce_pp_baseline": Advantage(dr_grpo, NoSettings(), whiten=True, needs_group=True),
    "gae": Advantage(raw, NoSettings(), per_token=True, whiten=True, critic="token"),
    "last_token_critic": Advantage(reinforce, NoSettings(), critic="last_token"),
}


def find_advantage(spec: str) -> Advantage:
    """The row that a spec such as "grpo(eps=1e-4)" names.

    Raises:
      AlgorithmError: there is none.
    """
    return lookup(ADVANTAGES, parse_spec(spec)[0], "advantage")


def group_advantages(groups: list[np.ndarray], row: Advantage, settings: Any) -> list[np.ndarray]:
    """The row's function on each group's rewards [G] (groups may differ in size), each in float64."""
    return [row.function(np.asarray(rewards_G, np.float64), settings) for rewards_G in groups]
