"""What a critic's values make of a batch: advantages for the policy, and returns for the critic itself."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.rl.returns import critic_advantage, gae, token_rewards
from jaxrl_moe.rl.table import AlgorithmError


def token_critic(samples: Sequence[Sample], rewards_N: np.ndarray, kls: Sequence[np.ndarray], gamma: float,
                 lam: float, bootstrap: bool) -> tuple[list[Sample], list[np.ndarray]]:
    """Generalised advantage estimation with a value a token.

    Args:
      samples: with values.
      rewards_N: paid at each sample's last trained token.
      kls: [T] what is taken off the reward token by token.
      gamma, lam: see rl.returns.gae.
      bootstrap: a truncated sample goes on with the value at its cut.

    Returns:
      (the samples with returns at their trained tokens, their advantages [T] before whitening).
    """
    _check_values(samples)
    advantages = []
    judged = []
    for sample, reward, kl in zip(samples, rewards_N, kls, strict=True):
        after = float(sample.values_T[-1]) if bootstrap and sample.truncated else 0.0
        values, returns = gae(token_rewards(reward, kl, sample.mask_T, 1.0), sample.values_T, sample.mask_T,
                              gamma, lam, after)
        advantages.append(values)
        judged.append(
            dataclasses.replace(sample, returns_T=returns.astype(np.float32), value_mask_T=sample.mask_T))
    return judged, advantages


def last_token_critic(samples: Sequence[Sample], centred_N: np.ndarray) -> tuple[list[Sample], np.ndarray]:
    """One value a sequence, read at its last token, that predicts the centred reward.

    Args:
      samples: with values.
      centred_N: rewards less their group's mean, or raw where a group is one completion.

    Returns:
      (the samples with the return at their last token, advantages [N]: centred reward less value, whitened
        over the samples that
      have trained tokens and clamped to +-3).
    """
    _check_values(samples)
    trained = np.array([sample.trained_tokens > 0 for sample in samples])
    values_N = np.array([sample.values_T[-1] for sample in samples], np.float64)
    advantages_N = np.zeros(len(samples))
    advantages_N[trained] = critic_advantage(centred_N[trained], values_N[trained])
    judged = []
    for sample, reward, counts in zip(samples, centred_N, trained, strict=True):
        last_T = (np.arange(len(sample.ids_T)) == len(sample.ids_T) - 1).astype(np.float32)
        judged.append(
            dataclasses.replace(sample, returns_T=np.float32(reward) * last_T, value_mask_T=last_T * counts))
    return judged, advantages_N


def _check_values(samples: Sequence[Sample]) -> None:
    if any(sample.values_T is None for sample in samples):
        raise AlgorithmError("This advantage needs a critic's values, and a sample has none: run the policy "
                             "with its critic first.")
