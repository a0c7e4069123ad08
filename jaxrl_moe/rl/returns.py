"""Returns and advantages along one sequence or over its turns, on the host in float64.

A [T] array holds one sequence. Tokens with mask 0 (observations) take no part: they hold the value of the
next trained token, and no discount is paid for them.
"""
import numpy as np


def token_rewards(reward: float, kl_T: np.ndarray | None, mask_T: np.ndarray,
                  kl_coef: float = 0.0) -> np.ndarray:
    """[T] the reward at the last trained token, less kl_coef * kl at every trained one (REINFORCE++, arXiv
    2501.03262)."""
    rewards = np.zeros(len(mask_T))
    if kl_T is not None:
        rewards -= kl_coef * np.where(mask_T > 0, kl_T, 0)
    trained = np.flatnonzero(mask_T)
    if len(trained):
        rewards[trained[-1]] += reward
    return rewards


def discounted_returns(rewards_T: np.ndarray, mask_T: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """[T] sum over k >= t of gamma^(k-t) R_k, counting trained tokens only."""
    returns = np.zeros(len(rewards_T))
    later = 0.0
    for t in reversed(range(len(rewards_T))):
        later = rewards_T[t] + gamma * later if mask_T[t] else later
        returns[t] = later
    return returns


def gae(rewards_T: np.ndarray, values_T: np.ndarray, mask_T: np.ndarray, gamma: float = 1.0, lam: float = 1.0,
        bootstrap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimation (arXiv 1506.02438): advantages and returns, both [T].

    delta_t = R_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lambda A_{t+1}; returns = A + V, before any
    whitening.

    Args:
      rewards_T: R, see token_rewards.
      values_T: V_t, read from the hidden state that predicts token t.
      mask_T: 1 on trained tokens.
      gamma: discount.
      lam: lambda; 1 is Monte Carlo, 0 is one-step.
      bootstrap: the value after the last token: 0 at an end, V at the cut of a truncated completion.
    """
    advantages = np.zeros(len(rewards_T))
    next_value = float(bootstrap)
    next_advantage = 0.0
    values = np.array(values_T, np.float64)
    for t in reversed(range(len(rewards_T))):
        if mask_T[t]:
            delta = rewards_T[t] + gamma * next_value - values[t]
            next_value = values[t]
            next_advantage = delta + gamma * lam * next_advantage
        advantages[t] = next_advantage
        values[t] = next_value
    return advantages, advantages + values


def whiten(values: np.ndarray, eps: float = 1e-8) -> np.ndarray:
    """(x - mean) / sqrt(unbiased variance + eps) over all of [N]; exactly 0 where all are equal."""
    values = np.asarray(values, np.float64)
    if values.size == 0 or values.min() == values.max():
        return np.zeros(values.shape)
    return (values - values.mean()) / np.sqrt(values.var(ddof=1) + eps)


def trajectory_return(rewards: np.ndarray, gamma: float = 0.4) -> float:
    """sum_t gamma^t r_t over the turns of an episode: one scalar for all of them."""
    return float(np.sum(np.asarray(rewards, np.float64) * gamma ** np.arange(len(rewards))))


def turn_returns(scores: np.ndarray, gamma: float = 0.4) -> np.ndarray:
    """[turns] R_t = sum over k >= t of gamma^(k-t) s_k, each turn its own sample (Kevin-32B, arXiv
    2507.11948)."""
    return discounted_returns(np.asarray(scores, np.float64), np.ones(len(scores)), gamma)


def critic_advantage(rewards: np.ndarray, values: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """[N] whitened over the batch and clamped to +-limit: centred reward less the value of the last token."""
    return np.clip(whiten(np.asarray(rewards, np.float64) - values), -limit, limit)
