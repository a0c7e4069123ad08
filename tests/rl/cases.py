"""Random sequences, and laying them out as the arrays of LossInputs in any packing."""
import dataclasses
import functools

import jax
import numpy as np

from jaxrl_moe.rl.aggregation import aggregation_weights
from jaxrl_moe.rl.metrics import Merge
from jaxrl_moe.rl.objective import finished, policy_objective
from jaxrl_moe.rl.types import LossInputs

FIELDS = {"p": "logprobs_BT", "o": "old_logprobs_BT", "q": "sampler_logprobs_BT", "f": "ref_logprobs_BT",
          "H": "entropy_BT", "A": "advantages_BT", "m": "mask_BT"}


def sequences(seed=0, count=6, longest=7, spread=0.4, token_advantages=True):
    """Sequences of lengths 1 .. longest in groups of two, with holes in the masks; `spread` separates the
    log-probs."""
    rng = np.random.default_rng(seed)
    result = []
    for i in range(count):
        length = 1 + i % longest
        base = -3 * rng.random(length)
        logs = {k: np.minimum(base + spread * rng.standard_normal(length), -1e-3) for k in "poqf"}
        mask = (rng.random(length) < 0.8).astype(float)
        mask[rng.integers(length)] = 1
        advantages = rng.standard_normal(length if token_advantages else 1) * np.ones(length)
        arrays = {**logs, "m": mask, "A": advantages, "H": rng.random(length)}
        result.append({"group": i // 2, **{k: v.tolist() for k, v in arrays.items()}})
    return result


def weights(seqs, mode="seq-mean-token-mean", norm=0):
    return aggregation_weights([sum(s["m"]) for s in seqs], [s["group"] for s in seqs], mode, norm)


def inputs(seqs, seq_weights, rows, width, dtype=np.float32, num_tokens=None) -> LossInputs:
    """One micro-batch with the given rows of sequence indices, in arrays [len(rows), width]; padding holds
    rubbish."""
    arrays = {name: np.full((len(rows), width), -0.7, dtype) for name in FIELDS.values()}
    arrays["mask_BT"][:] = 0
    weight = np.full((len(rows), width), 3.0, dtype)
    sequence = np.zeros((len(rows), width), np.int32)
    number = 0
    for row, members in enumerate(rows):
        start = 0
        for i in members:
            span = slice(start, start + len(seqs[i]["m"]))
            for key, name in FIELDS.items():
                arrays[name][row, span] = seqs[i][key]
            weight[row, span], sequence[row, span] = seq_weights[i], number
            start = span.stop
            number = number + 1
    total = sum(sum(s["m"]) for s in seqs) if num_tokens is None else num_tokens
    return LossInputs(weights_BT=weight, sequence_BT=sequence, num_tokens=dtype(total), **arrays)


def padded(seqs, seq_weights, width=8, **kwargs) -> LossInputs:
    """One sequence a row."""
    return inputs(seqs, seq_weights, [[i] for i in range(len(seqs))], width, **kwargs)


def unpadded(x_BT, seqs):
    """The [T] parts of a result of `padded`."""
    return [np.asarray(x_BT)[i, :len(s["m"])] for i, s in enumerate(seqs)]


@functools.partial(jax.jit, static_argnums=2)
def _value_and_grad(logprobs_BT, batch, objective):
    def loss_of(p):
        out = policy_objective(dataclasses.replace(batch, logprobs_BT=p), objective)
        return out.loss, out

    return jax.value_and_grad(loss_of, has_aux=True)(logprobs_BT)


def total(batches, objective):
    """Loss and metrics of a minibatch, and the gradient by logprobs_BT of each micro-batch."""
    loss = 0.0
    means = {}
    maxima = {}
    gradients = []
    for batch in batches:
        (value, out), gradient = _value_and_grad(batch.logprobs_BT, batch, objective)
        loss += float(value)
        sums = out.metrics.without(Merge.MAXIMUM)
        largest = out.metrics.only(Merge.MAXIMUM)
        means = {name: means.get(name, 0.0) + float(x) for name, x in sums.items()}
        maxima = {name: max(maxima.get(name, -np.inf), float(x)) for name, x in largest.items()}
        gradients.append(np.asarray(gradient))
    return loss, finished(means) | maxima, gradients


def assert_close(actual, expected, rtol=1e-5):
    """max |a - b| / max |b| <= rtol."""
    actual = np.asarray(actual, np.float64)
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    error = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-30)
    assert error <= rtol, f"relative error {error:.3g}\n{actual}\n{expected}"
