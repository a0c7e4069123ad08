"""Changes to scalar rewards before advantages are taken."""
import numpy as np


def soft_overlong_penalty(length: int, max_length: int = 20480, cushion: int = 4096) -> float:
    """0 up to max_length - cushion, then falling linearly to -1 at max_length: DAPO, arXiv 2503.14476."""
    return float(np.clip((max_length - cushion - length) / cushion, -1.0, 0.0))


def blend_rewards(env: float, event: float, outcome: float, weights: tuple[float, float, float]) -> float:
    """The weighted sum of an environment's, an event judge's and an outcome judge's reward."""
    return float(np.dot((env, event, outcome), weights))
