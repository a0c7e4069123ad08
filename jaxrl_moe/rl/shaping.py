"""Changes to scalar rewards before advantages are taken, and rewards of single steps of an episode."""
from collections.abc import Collection, Sequence

import numpy as np


def soft_overlong_penalty(length: int, max_length: int = 20480, cushion: int = 4096) -> float:
    """0 up to max_length - cushion, then falling linearly to -1 at max_length: DAPO, arXiv 2503.14476."""
    return float(np.clip((max_length - cushion - length) / cushion, -1.0, 0.0))


def blend_rewards(env: float, event: float, outcome: float, weights: tuple[float, float, float]) -> float:
    """The weighted sum of an environment's, an event judge's and an outcome judge's reward."""
    return float(np.dot((env, event, outcome), weights))


def decision_stepwise(achieved: Sequence[Collection[str]], indicator_lambda: float = 1.0,
                      start: Collection[str] = ()) -> np.ndarray:
    """[decisions] indicator_lambda for each decision that unlocks an achievement, else 0: one reward a turn.

    Several achievements unlocked at once count as one. An achievement that was lost counts again when it
    comes back.

    Args:
      achieved: the names of the achievements that stand after each decision, in order.
      indicator_lambda: what a decision that unlocks something is worth.
      start: the achievements that stand before the first decision.

    Source: step_rewards.mode = "decision_stepwise" of the synth-ai SDK (compute_stepwise_reward of its hosted
    Crafter task app, with the plain indicator strategy). The setting step_beta beside it is reserved there
    and enters no reward, so there is none here.
    """
    before = [set(start), *map(set, achieved)]
    return np.array([indicator_lambda * bool(after - earlier) for earlier, after in zip(before, before[1:])],
                    np.float64)
