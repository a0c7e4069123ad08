"""What the kernels should compute, in float64 on the host: slow, plain NumPy that shares no code with them.

Each function returns the value and, for a given gradient by it, the gradients by its inputs.
"""
from typing import NamedTuple

import numpy as np


def attention(q, k, v, seen, gradient):
    """softmax(q k / sqrt(H)) v where `seen` [B, T, S]; 0 for a query that sees nothing. Returns (out, dq, dk,
    dv)."""
    batch, queries, heads, width = q.shape
    shared = heads // k.shape[2]
    out = np.zeros(q.shape)
    dq = np.zeros(q.shape)
    dk = np.zeros(k.shape)
    dv = np.zeros(v.shape)
    for b in range(batch):
        for n in range(heads):
            keys = k[b, :, n // shared]
            values = v[b, :, n // shared]
            scores = np.where(seen[b], q[b, :, n] @ keys.T / np.sqrt(width), -np.inf)
            top = np.where(seen[b].any(1), scores.max(1), 0)[:, None]
            weights = np.exp(scores - top)
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-300)
            out[b, :, n] = weights @ values
            by_weight = gradient[b, :, n] @ values.T
            slopes = weights * (by_weight - (weights * by_weight).sum(1, keepdims=True)) / np.sqrt(width)
            dq[b, :, n] = slopes @ keys
            dk[b, :, n // shared] += slopes.T @ q[b, :, n]
            dv[b, :, n // shared] += weights.T @ gradient[b, :, n]
    return out, dq, dk, dv


def spans(sizes):
    """(expert, its rows) of each expert that has any."""
    ends = np.cumsum(sizes)
    return [(e, slice(end - size, end)) for e, (size, end) in enumerate(zip(sizes, ends)) if size]


def grouped(x, w, sizes, gradient):
    """x[i] w[expert of i]; zeros past the last group. Returns (y, dx, dw)."""
    y = np.zeros((len(x), w.shape[2]))
    dx = np.zeros(x.shape)
    dw = np.zeros(w.shape)
    for e, rows in spans(sizes):
        y[rows] = x[rows] @ w[e]
        dx[rows] = gradient[rows] @ w[e].T
        dw[e] = x[rows].T @ gradient[rows]
    return y, dx, dw


class Weight(NamedTuple):
    """One of an expert's matrices, or all experts': w, and its adapter's a and b."""
    w: np.ndarray
    a: np.ndarray
    b: np.ndarray


def _linear(x, weight: Weight, scale):
    return x @ weight.w + scale * (x @ weight.a) @ weight.b


def _linear_back(x, weight: Weight, scale, dy):
    """(dx, (dw, da, db))."""
    low = dy @ weight.b.T
    return dy @ weight.w.T + scale * low @ weight.a.T, Weight(x.T @ dy, scale * x.T @ low,
                                                              scale * (x @ weight.a).T @ dy)


def experts(x, weights: list[Weight], sizes, scale, gradient):
    """(silu(x Wg) * (x Wu)) Wd by each row's expert, adapters included. Returns (y, dx, [gradients of gate,
    up, down])."""
    y = np.zeros(x.shape)
    dx = np.zeros(x.shape)
    sums = [Weight(*(np.zeros(m.shape) for m in weight)) for weight in weights]
    for e, rows in spans(sizes):
        gate, up, down = (Weight(*(m[e] for m in weight)) for weight in weights)
        g = _linear(x[rows], gate, scale)
        u = _linear(x[rows], up, scale)
        sigmoid = 1 / (1 + np.exp(-g))
        hidden = g * sigmoid * u
        y[rows] = _linear(hidden, down, scale)
        dh, by_down = _linear_back(hidden, down, scale, gradient[rows])
        dx_gate, by_gate = _linear_back(x[rows], gate, scale, dh * u * sigmoid * (1 + g * (1 - sigmoid)))
        dx_up, by_up = _linear_back(x[rows], up, scale, dh * g * sigmoid)
        dx[rows] = dx_gate + dx_up
        for total, found in zip(sums, (by_gate, by_up, by_down)):
            for whole, part in zip(total, found):
                whole[e] = part
    return y, dx, sums


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def token_logprobs(hidden, head, targets, temperature, gradient, entropy_gradient):
    """Log-probs of the targets under softmax(hidden head / temperature), and entropies. Returns (both,
    dhidden, dhead)."""
    logprobs = log_softmax(hidden @ head / temperature)
    rows = np.arange(len(targets))
    entropy = -(np.exp(logprobs) * logprobs).sum(1)
    slopes = -gradient[:, None] * np.exp(logprobs) - entropy_gradient[:, None] * np.exp(logprobs) * (
        logprobs + entropy[:, None])
    slopes[rows, targets] += gradient
    return logprobs[rows, targets], entropy, slopes @ head.T / temperature, hidden.T @ slopes / temperature
