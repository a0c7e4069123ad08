"""Rotary position embeddings with linear, dynamic-NTK and YaRN scaling (arXiv 2104.09864, 2309.00071)."""
import math

import jax
import jax.numpy as jnp

from jaxrl_moe.distributed import collectives
from jaxrl_moe.model.config import ModelConfig, RopeConfig


def rotary(config: ModelConfig, positions_BT: jax.Array, segments_BT: jax.Array):
    """Returns (cos, sin), each [B, T, 1, H] float32, for the half-split layout of HF's Qwen3.

    Dynamic scaling follows the length of each segment, as transformers does for a sequence by itself, once
    that exceeds max_position_embeddings. With a cache a segment is as long as its newest token of this call
    says; so that its older keys agree, nothing is drawn beyond (ModelConfig.drawn_context).

    Args:
      segments_BT: numbers of a row's segments, from 0 to T.
    """
    rope = config.rope
    frequency = _frequencies(rope, config, positions_BT, segments_BT)
    angle_BTh = positions_BT[..., None].astype(jnp.float32) * frequency
    angle_BT1H = jnp.concatenate([angle_BTh, angle_BTh], axis=-1)[:, :, None, :]
    magnitude = _yarn_magnitude(rope) if rope.type == "yarn" else 1.0
    return jnp.cos(angle_BT1H) * magnitude, jnp.sin(angle_BT1H) * magnitude


def rotate(x_BTNH: jax.Array, cos_BT1H: jax.Array, sin_BT1H: jax.Array):
    """Turns the pairs (i, i + H/2) of each head by their position's angle."""
    low, high = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([-high, low], axis=-1)
    return (x_BTNH * cos_BT1H + turned * sin_BT1H).astype(x_BTNH.dtype)


def _frequencies(rope: RopeConfig, config: ModelConfig, positions_BT: jax.Array,
                 segments_BT: jax.Array):
    dim = config.head_dim
    exponent = jnp.arange(0, dim, 2, dtype=jnp.float32) / dim
    if rope.type == "dynamic":
        limit = config.max_position_embeddings
        length_BT1 = jnp.maximum(_lengths(positions_BT, segments_BT), limit)[..., None]
        stretch = rope.factor * length_BT1 / limit - (rope.factor - 1)
        return 1.0 / (rope.theta * stretch ** (dim / (dim - 2))) ** exponent
    frequency = 1.0 / rope.theta ** exponent
    if rope.type == "linear":
        return frequency / rope.factor
    if rope.type == "yarn":
        keep = 1.0 - _yarn_ramp(rope, dim)
        return frequency / rope.factor * (1.0 - keep) + frequency * keep
    return frequency


def _lengths(positions_BT: jax.Array, segments_BT: jax.Array) -> jax.Array:
    """[B, T] the length of each token's segment; a row may be split over the axis context."""
    positions, segments = (collectives.gather(x, "context", 1) for x in (positions_BT, segments_BT))
    rows = jnp.arange(positions.shape[0])[:, None]
    last = jnp.zeros((positions.shape[0], positions.shape[1] + 1), jnp.int32)
    return last.at[rows, segments].max(positions)[rows, segments_BT] + 1


def _yarn_ramp(rope: RopeConfig, dim: int):
    """0 where a channel turns often enough to be left alone, 1 where its positions are interpolated."""
    def channel(turns: float):
        return dim * math.log(rope.original_max_position_embeddings /
                              (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low = channel(rope.beta_fast)
    high = channel(rope.beta_slow)
    if rope.truncate:
        low = math.floor(low)
        high = math.ceil(high)
    low = max(low, 0)
    high = min(high, dim - 1)
    return jnp.clip((jnp.arange(dim // 2, dtype=jnp.float32) - low) / (high - low if high != low else 0.001),
                    0.0, 1.0)


def _yarn_magnitude(rope: RopeConfig) -> float:
    def magnitude(mscale: float):
        return 1.0 if rope.factor <= 1 else 0.1 * mscale * math.log(rope.factor) + 1.0

    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return magnitude(rope.mscale) / magnitude(rope.mscale_all_dim)
    return magnitude(1.0)
