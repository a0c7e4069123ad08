"""Advantages of a batch's samples, by the rows of rl.advantages; on the host."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.learning.credit.critic import last_token_critic, token_critic
from jaxrl_moe.learning.samples import Sample, with_values
from jaxrl_moe.rl.advantages import ADVANTAGES, Advantage, group_advantages
from jaxrl_moe.rl.kl import kl_value
from jaxrl_moe.rl.returns import discounted_returns, token_rewards, whiten
from jaxrl_moe.rl.table import AlgorithmError, configure, lookup, parse_spec


@dataclasses.dataclass(frozen=True)
class Credit:
    """How a reward reaches the tokens, whichever row of ADVANTAGES is chosen; a row reads what concerns it.

    Attributes:
      gamma: discount per token, for rows that work token by token.
      lam: lambda of generalised advantage estimation.
      kl_coef: weight of the KL to the reference that is taken off the reward; needs old and ref log-probs.
      kl_estimator: a row of KL_ESTIMATORS.
      bootstrap: under GAE, a truncated sequence goes on with the value at its cut.
    """
    gamma: float = 1.0
    lam: float = 1.0
    kl_coef: float = 0.0
    kl_estimator: str = "k1"
    bootstrap: bool = False


def with_advantages(samples: Sequence[Sample], spec: str, credit: Credit = Credit()) -> list[Sample]:
    """The samples with advantages from their rewards, and with returns where the row has a critic.

    Args:
      samples: all samples of the batch; those of one group share a baseline, unless they are turns of one
        rollout, which is then a group of one whatever its turns.
      spec: a row of ADVANTAGES, with its settings in brackets where they differ from the defaults.
      credit: how rewards reach the tokens.

    Raises:
      AlgorithmError: unknown name or setting, rewards the row refuses, no log-probs for the KL, or no values
        for the critic.
    """
    name, overrides = parse_spec(spec)
    row = lookup(ADVANTAGES, name, "advantage")
    settings = configure(row.settings, overrides, name)
    kls = [_reward_kl(sample, credit) for sample in samples]
    units = _units(samples)
    # equal as the metrics see it
    rewards = np.array([samples[unit[0]].reward for unit in units], np.float32).astype(np.float64)
    if not row.per_token:
        rewards -= np.array([sum(kls[index].sum() for index in unit) for unit in units])
    members = _members([samples[unit[0]] for unit in units], row)
    scalars = np.zeros(len(samples))
    for indices, values in zip(members, group_advantages([rewards[m] for m in members], row, settings),
                               strict=True):
        for index, value in zip(indices, values):
            scalars[units[index]] = value
    if row.critic == "last_token":
        samples, scalars = last_token_critic(samples, scalars)
    if row.critic == "token":
        samples, advantages = token_critic(samples, scalars, kls, credit.gamma, credit.lam, credit.bootstrap)
    elif row.per_token:
        advantages = []
        for sample, scalar, kl in zip(samples, scalars, kls):
            rewards_T = token_rewards(scalar, kl, sample.mask_T, 1.0)
            advantages.append(discounted_returns(rewards_T, sample.mask_T, credit.gamma))
    else:
        advantages = [np.full(len(sample.ids_T), scalar) for sample, scalar in zip(samples, scalars)]
    if row.whiten:
        advantages = _whitened(advantages, samples)
    return with_values(samples, "advantages_T", [values.astype(np.float32) for values in advantages])


def _units(samples: Sequence[Sample]) -> list[list[int]]:
    """The samples that one reward is of, by their numbers: one, or all sequences of an episode."""
    units: dict[tuple[int, int, int], list[int]] = {}
    for index, sample in enumerate(samples):
        units.setdefault((sample.group, sample.rollout, sample.turn), []).append(index)
    return list(units.values())


def _members(samples: Sequence[Sample], row: Advantage) -> list[np.ndarray]:
    """The samples that are compared: those of one prompt, or of one turn of it. The turns of a prompt's only
    rollout stand alone, as it does."""
    numbers = np.array([(sample.group, sample.turn if row.per_turn else 0) for sample in samples])
    distinct = dict.fromkeys(map(tuple, numbers))
    groups = [np.flatnonzero((numbers == number).all(axis=1)) for number in distinct]
    members = []
    for group in groups:
        alone = len({samples[index].rollout for index in group}) == 1
        members += np.split(group, len(group)) if alone else [group]
    return members


def _reward_kl(sample: Sample, credit: Credit) -> np.ndarray:
    if credit.kl_coef == 0:
        return np.zeros(len(sample.ids_T))
    if sample.old_logprobs_T is None or sample.ref_logprobs_T is None:
        raise AlgorithmError("A KL penalty in the reward needs old and reference log-probs, and a sample has "
                             "none.")
    kl_T = kl_value(sample.old_logprobs_T, sample.ref_logprobs_T, credit.kl_estimator)
    return credit.kl_coef * np.where(sample.mask_T > 0, kl_T, 0)


def _whitened(advantages: list[np.ndarray], samples: Sequence[Sample]) -> list[np.ndarray]:
    masks = [sample.mask_T > 0 for sample in samples]
    white = whiten(np.concatenate([values[mask] for values, mask in zip(advantages, masks)]))
    pieces = np.split(white, np.cumsum([mask.sum() for mask in masks])[:-1])
    whole = [np.zeros(len(mask)) for mask in masks]
    for values, mask, piece in zip(whole, masks, pieces):
        values[mask] = piece
    return whole
