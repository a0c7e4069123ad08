"""How token losses become one number: per-sequence weights, computed on the host over a whole optimiser
minibatch.

With these weights the loss is sum(weight * mask * l), so that neither the split into micro-batches, nor
packing, nor the mesh can change it. A sequence without trained tokens weighs nothing and leaves every
count.
"""
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.rl.table import AlgorithmError, lookup


def token_mean(lengths: np.ndarray, groups: np.ndarray, norm: int) -> np.ndarray:
    """sum(m l) / sum(m): every token alike (DAPO, arXiv 2503.14476)."""
    return np.full(lengths.shape, 1 / lengths.sum())


def seq_mean_token_mean(lengths: np.ndarray, groups: np.ndarray, norm: int) -> np.ndarray:
    """Every sequence alike, by the mean over its tokens (GRPO, arXiv 2402.03300)."""
    return 1 / (len(lengths) * lengths)


def seq_mean_token_sum(lengths: np.ndarray, groups: np.ndarray, norm: int) -> np.ndarray:
    """The mean over sequences of the sum over their tokens."""
    return np.full(lengths.shape, 1 / len(lengths))


def seq_mean_token_sum_norm(lengths: np.ndarray, groups: np.ndarray, norm: int) -> np.ndarray:
    """As seq_mean_token_sum, divided by a constant length (Dr.GRPO, arXiv 2503.20783).

    Raises:
      AlgorithmError: the length is not positive.
    """
    if norm <= 0:
        raise AlgorithmError("Aggregation 'seq-mean-token-sum-norm' divides by a constant length: give a "
                             f"positive one, such as the longest completion in tokens; got {norm}.")
    return np.full(lengths.shape, 1 / (len(lengths) * norm))


def prompt_mean(lengths: np.ndarray, groups: np.ndarray, norm: int) -> np.ndarray:
    """Every prompt alike, by the mean over the tokens of its group."""
    _, index = np.unique(groups, return_inverse=True)
    tokens = np.bincount(index, weights=lengths)
    return 1 / (len(tokens) * tokens[index])


AGGREGATIONS = {
    "token-mean": token_mean,
    "seq-mean-token-mean": seq_mean_token_mean,
    "seq-mean-token-sum": seq_mean_token_sum,
    "seq-mean-token-sum-norm": seq_mean_token_sum_norm,
    "prompt-mean": prompt_mean,
}


def aggregation_weights(lengths: Sequence[float] | np.ndarray, groups: Sequence[int] | np.ndarray, mode: str,
                        norm: int = 0) -> np.ndarray:
    """Weights [N] float64 of N sequences.

    Args:
      lengths: [N] trained tokens of each sequence.
      groups: [N] the prompt each sequence answers; equal numbers are one prompt.
      mode: a row of AGGREGATIONS.
      norm: the constant length of "seq-mean-token-sum-norm", in tokens.

    Raises:
      AlgorithmError: no sequence has a trained token, an unknown mode, or no length where the mode needs one.
    """
    lengths = np.asarray(lengths, np.float64)
    groups = np.asarray(groups)
    full = lengths > 0
    if not full.any():
        raise AlgorithmError(f"The batch has nothing to train on: none of its {len(lengths)} sequences has a "
                             "trained token. If completions hit the token limit, raise it, or do not mask "
                             "truncated ones.")
    weights = np.zeros(lengths.shape)
    weights[full] = lookup(AGGREGATIONS, mode, "aggregation")(lengths[full], groups[full], norm)
    return weights
