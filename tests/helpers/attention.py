"""Attention token by token in float64, and inputs for it."""
import jax
import numpy as np


def oracle(q: np.ndarray, k: np.ndarray, v: np.ndarray, positions: np.ndarray, segments: np.ndarray,
           window: int) -> np.ndarray:
    """Token by token, head by head, in float64."""
    batch, length, heads, width = q.shape
    out = np.zeros(q.shape)
    for b in range(batch):
        for t in range(length):
            seen = [
                s for s in range(length)
                if segments[b, s] == segments[b, t] > 0 and positions[b, s] <= positions[b, t] and (
                    window == 0 or positions[b, t] - positions[b, s] < window)
            ]
            for n in range(heads if seen else 0):
                keys = k[b, seen, n // (heads // k.shape[2])].astype(np.float64)
                scores = keys @ q[b, t, n] / np.sqrt(width)
                weights = np.exp(scores - scores.max())
                out[b, t, n] = weights / weights.sum() @ v[b, seen, n // (heads // k.shape[2])]
    return out


def inputs(length: int, heads: int, kv_heads: int, width: int = 8, batch: int = 2) -> tuple:
    """(q, k, v, positions, segments): the first row holds two segments, and padding behind them."""
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (batch, length, n, width))
               for key, n in zip(keys, (heads, kv_heads, kv_heads)))
    positions = np.tile(np.arange(length), (batch, 1))
    segments = np.ones((batch, length), int)
    cut = length // 3
    positions[0, cut:] -= cut
    segments[0, cut:] = 2
    segments[0, length - length // 5:] = 0
    return q, k, v, positions, segments
