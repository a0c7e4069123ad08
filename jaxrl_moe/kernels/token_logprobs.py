"""Log-probabilities of given tokens straight from hidden states, a chunk of tokens at a time.

[M, V] is never formed. With a frozen output matrix the forward pass also forms d logprob / d hidden, since
the upstream gradient is one number per token; the backward pass is then a product and no logits are computed
twice.

Over a split vocabulary each device has its own columns of the output matrix; sums and maxima over the
vocabulary are then taken over the mesh axis, logits stay where they are, and the gradient by hidden is each
device's own share.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.kernels.weight import WeightMatrix, outer, weight_of

CHUNK = 512
EVEN = 16  # rows of a chunk come in multiples of this


class Vocabulary(NamedTuple):
    """axis: mesh axis that the columns are split over, or None; size: how many of all columns are tokens, 0
    for all.

    The axis is named here, and not asked of distributed.collectives: a backward pass is traced when that has
    forgotten its mesh.
    """
    axis: str | None = None
    size: int = 0

    def total(self, x: jax.Array) -> jax.Array:
        return x if self.axis is None else jax.lax.psum(x, self.axis)

    def columns(self, head_DV: WeightMatrix) -> jax.Array:
        """The token ids of this device's columns."""
        first = 0 if self.axis is None else jax.lax.axis_index(self.axis) * head_DV.shape[1]
        return first + jnp.arange(head_DV.shape[1])


WHOLE = Vocabulary()


class _Settings(NamedTuple):
    entropy: bool
    chunk: int
    vocabulary: Vocabulary


def token_logprobs(hidden_MD: jax.Array, head_DV: WeightMatrix | jax.Array, targets_M: jax.Array,
                   temperature: float | jax.Array = 1.0, *, entropy: bool = False, frozen_head: bool = True,
                   chunk: int = CHUNK, vocabulary: Vocabulary = WHOLE) -> tuple[jax.Array, jax.Array | None]:
    """Log-probability of each target under softmax(hidden head / temperature), and the entropy of that
    distribution.

    Args:
      hidden_MD: final hidden states, any float type.
      head_DV: output matrix of any kind. With frozen_head, or of a kind that does not train, it receives no
        gradient.
      targets_M: int token ids.
      temperature: positive scalar.
      entropy: also return the entropy in nats (differentiable); otherwise the second result is None.
      chunk: how many tokens' logits exist at once, at most.
      vocabulary: how the columns of head are split and padded.
    Returns:
      (logprobs_M, entropy_M or None), float32.
    """
    tokens = hidden_MD.shape[0]
    chunk = _even(tokens, chunk)
    pad = -tokens % chunk
    hidden_MD = jnp.pad(hidden_MD, ((0, pad), (0, 0)))
    targets_M = jnp.pad(targets_M, (0, pad))
    head_DV = weight_of(head_DV)
    if frozen_head:
        head_DV = jax.lax.stop_gradient(head_DV)
    function = _trainable if head_DV.trains and not frozen_head else _frozen
    inverse_temperature = 1.0 / jnp.asarray(temperature, jnp.float32)
    settings = _Settings(entropy, chunk, vocabulary)
    logprobs_M, entropy_M = function(settings, hidden_MD, head_DV, targets_M, inverse_temperature)
    return logprobs_M[:tokens], entropy_M[:tokens] if entropy else None


def _even(tokens: int, chunk: int) -> int:
    """The least multiple of EVEN that needs no more chunks: a few tokens over must not cost a chunk of
    padding."""
    return min(chunk, -(-tokens // (-(-tokens // chunk) * EVEN)) * EVEN)


def _chunks(x: jax.Array, chunk: int) -> jax.Array:
    return x.reshape(-1, chunk, *x.shape[1:])


def _log_softmax(settings: _Settings, h_cD: jax.Array, head_DV: WeightMatrix,
                 inverse_temperature: jax.Array) -> jax.Array:
    vocabulary = settings.vocabulary
    logits_cV = head_DV.matmul(h_cD, jnp.float32) * inverse_temperature
    if vocabulary.size:
        logits_cV = jnp.where(vocabulary.columns(head_DV) < vocabulary.size, logits_cV, -1e30)
    if vocabulary.axis is None:
        return logits_cV - jax.nn.logsumexp(logits_cV, axis=-1, keepdims=True)
    peak_c1 = jax.lax.pmax(jax.lax.stop_gradient(logits_cV.max(axis=-1, keepdims=True)), vocabulary.axis)
    return logits_cV - peak_c1 - jnp.log(
        vocabulary.total(jnp.exp(logits_cV - peak_c1).sum(axis=-1, keepdims=True)))


def _hits(settings: _Settings, head_DV: WeightMatrix, targets_c: jax.Array) -> jax.Array:
    return targets_c[:, None] == settings.vocabulary.columns(head_DV)[None, :]


def _read(settings: _Settings, logprobs_cV: jax.Array, head_DV: WeightMatrix,
          targets_c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(log-probs of the targets, entropies or zeros)."""
    vocabulary = settings.vocabulary
    if vocabulary.axis is None:
        chosen_c = jnp.take_along_axis(logprobs_cV, targets_c[:, None], axis=1)[:, 0]
    else:
        chosen_c = vocabulary.total(
            jnp.where(_hits(settings, head_DV, targets_c), logprobs_cV, 0).sum(axis=1))
    if not settings.entropy:
        return chosen_c, jnp.zeros_like(chosen_c)
    return chosen_c, -vocabulary.total(jnp.sum(jnp.exp(logprobs_cV) * logprobs_cV, axis=1))


def _forward(settings: _Settings, hidden_MD: jax.Array, head_DV: WeightMatrix, targets_M: jax.Array,
             inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    def read(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        h_cD, targets_c = inputs
        return _read(settings, _log_softmax(settings, h_cD, head_DV, inverse_temperature), head_DV, targets_c)

    chunked = _chunks(hidden_MD, settings.chunk), _chunks(targets_M, settings.chunk)
    chosen, entropies = jax.lax.map(read, chunked)
    return chosen.reshape(-1), entropies.reshape(-1)


def _slopes(settings: _Settings, logprobs_cV: jax.Array, head_DV: WeightMatrix,
            targets_c: jax.Array) -> jax.Array:
    """d logprob / d logits: one-hot minus the probabilities."""
    return _hits(settings, head_DV, targets_c) - jnp.exp(logprobs_cV)


def _entropy_slopes(logprobs_cV: jax.Array, entropy_c: jax.Array) -> jax.Array:
    return -jnp.exp(logprobs_cV) * (logprobs_cV + entropy_c[:, None])


def _back_to_hidden(slopes_cV: jax.Array, head_DV: WeightMatrix, inverse_temperature: jax.Array) -> jax.Array:
    return head_DV.matmul_t(slopes_cV.astype(head_DV.dtype), jnp.float32) * inverse_temperature


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _frozen(settings: _Settings, hidden_MD: jax.Array, head_DV: WeightMatrix, targets_M: jax.Array,
            inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _forward(settings, hidden_MD, head_DV, targets_M, inverse_temperature)


def _frozen_forward(settings: _Settings, hidden_MD: jax.Array, head_DV: WeightMatrix, targets_M: jax.Array,
                    inverse_temperature: jax.Array) -> tuple[tuple, tuple]:
    def read(inputs: tuple[jax.Array, jax.Array]) -> tuple:
        h_cD, targets_c = inputs
        logprobs_cV = _log_softmax(settings, h_cD, head_DV, inverse_temperature)
        chosen_c, entropy_c = _read(settings, logprobs_cV, head_DV, targets_c)
        slope_cD = _back_to_hidden(_slopes(settings, logprobs_cV, head_DV, targets_c), head_DV,
                                   inverse_temperature)
        entropy_slope_cD = (_back_to_hidden(_entropy_slopes(logprobs_cV, entropy_c), head_DV,
                                            inverse_temperature) if settings.entropy else None)
        return chosen_c, entropy_c, slope_cD, entropy_slope_cD

    chosen, entropies, slope, entropy_slope = jax.lax.map(
        read, (_chunks(hidden_MD, settings.chunk), _chunks(targets_M, settings.chunk)))
    dtype_like = jnp.zeros((0,), hidden_MD.dtype)
    return (chosen.reshape(-1), entropies.reshape(-1)), (slope, entropy_slope, dtype_like)


def _frozen_backward(settings: _Settings, residuals: tuple, gradients: tuple[jax.Array, jax.Array]) -> tuple:
    slope, entropy_slope, dtype_like = residuals
    # every device's result depends on this one's logits
    gradient_M, entropy_gradient_M = map(settings.vocabulary.total, gradients)
    back = _chunks(gradient_M, settings.chunk)[..., None] * slope
    if settings.entropy:
        back += _chunks(entropy_gradient_M, settings.chunk)[..., None] * entropy_slope
    hidden_gradient_MD = back.reshape(-1, back.shape[-1]).astype(dtype_like.dtype)
    return hidden_gradient_MD, None, None, jnp.zeros((), jnp.float32)


_frozen.defvjp(_frozen_forward, _frozen_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _trainable(settings: _Settings, hidden_MD: jax.Array, head_DV: WeightMatrix, targets_M: jax.Array,
               inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _forward(settings, hidden_MD, head_DV, targets_M, inverse_temperature)


def _trainable_forward(settings: _Settings, hidden_MD: jax.Array, head_DV: WeightMatrix, targets_M: jax.Array,
                       inverse_temperature: jax.Array) -> tuple[tuple, tuple]:
    saved = hidden_MD, head_DV, targets_M, inverse_temperature
    return _forward(settings, *saved), saved


def _trainable_backward(settings: _Settings, residuals: tuple,
                        gradients: tuple[jax.Array, jax.Array]) -> tuple:
    hidden_MD, head_DV, targets_M, inverse_temperature = residuals
    gradients = map(settings.vocabulary.total, gradients)

    def back(head_gradient_DV: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
        h_cD, targets_c, gradient_c, entropy_gradient_c = inputs
        logprobs_cV = _log_softmax(settings, h_cD, head_DV, inverse_temperature)
        slopes_cV = gradient_c[:, None] * _slopes(settings, logprobs_cV, head_DV, targets_c)
        if settings.entropy:
            _, entropy_c = _read(settings, logprobs_cV, head_DV, targets_c)
            slopes_cV += entropy_gradient_c[:, None] * _entropy_slopes(logprobs_cV, entropy_c)
        slopes_cV = (slopes_cV * inverse_temperature).astype(head_DV.dtype)
        return head_gradient_DV + outer(h_cD, slopes_cV), head_DV.matmul_t(slopes_cV).astype(h_cD.dtype)

    chunked = tuple(_chunks(x, settings.chunk) for x in (hidden_MD, targets_M, *gradients))
    head_gradient_DV, hidden_gradient = jax.lax.scan(back, jnp.zeros(head_DV.shape, jnp.float32), chunked)
    return (hidden_gradient.reshape(hidden_MD.shape), head_DV.gradient(head_gradient_DV), None,
            jnp.zeros((), jnp.float32))


_trainable.defvjp(_trainable_forward, _trainable_backward)
