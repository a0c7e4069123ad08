"""Drawing tokens. The noise of a token is fixed by the seed and the token's own coordinates, never by its
neighbours.

Letters: U rows (sequences decoded together), V vocabulary, C blocks of the vocabulary, W tokens in a
block.
"""
import jax
import jax.numpy as jnp

BLOCK = 128  # tokens in a block of the two-stage draw


def row_keys(seed_key: jax.Array, draws_U4: jax.Array):
    """Returns one key per row; a row of draws holds (stream, sequence, sample, turn) as uint32."""
    def fold(key: jax.Array, draw: jax.Array):
        for i in range(4):
            key = jax.random.fold_in(key, draw[i])
        return key
    return jax.vmap(fold, in_axes=(None, 0))(seed_key, draws_U4)


def token_uniforms(keys_U: jax.Array, positions_U: jax.Array):
    """Two uniforms in [0, 1) for the token at each row's position: [U, 2]."""
    return jax.vmap(lambda key, position: jax.random.uniform(jax.random.fold_in(key, position), (2,)))(
        keys_U, positions_U)


def sample(logits_UV: jax.Array, uniforms_U2: jax.Array, temperature_U: jax.Array, top_p_U: jax.Array,
           top_k_U: jax.Array, min_p_U: jax.Array, *, truncate: bool):
    """Draws one token per row; a row with temperature 0 takes its arg-max.

    Args:
      logits_UV: float32.
      truncate: static; False promises that every row has top_p 1, top_k 0 and min_p 0, and skips their work.

    Returns:
      tokens_U int32; logprobs_U float32, of softmax(logits / T) over the full vocabulary (T = 1 for
        temperature 0);
      kept_U float32, the probability mass that truncation left.
    """
    greedy_U = temperature_U == 0
    scaled_UV = logits_UV / jnp.where(greedy_U, 1.0, temperature_U)[:, None]
    peak_U1 = scaled_UV.max(axis=1, keepdims=True)
    weights_UV = jnp.exp(scaled_UV - peak_U1)
    total_U = weights_UV.sum(axis=1)
    kept_UV = weights_UV
    kept_U = jnp.ones_like(total_U)
    if truncate:
        kept_UV = jnp.where(truncation_mask(weights_UV, top_p_U, top_k_U, min_p_U), weights_UV, 0.0)
        kept_U = jnp.where(greedy_U, 1.0, kept_UV.sum(axis=1) / total_U)
    tokens_U = jnp.where(greedy_U, _first(scaled_UV == peak_U1), draw(kept_UV, uniforms_U2)).astype(jnp.int32)
    chosen_U = jnp.take_along_axis(scaled_UV, tokens_U[:, None], axis=1)
    return tokens_U, (chosen_U - peak_U1)[:, 0] - jnp.log(total_U), kept_U


def _first(found_UV: jax.Array):
    """The first True of each row, the last index where there is none; on CPU a seventh of the time of
    argmax."""
    last = found_UV.shape[1] - 1
    return jnp.where(found_UV, jnp.arange(last + 1), last).min(axis=1)


def draw(weights_UV: jax.Array, uniforms_U2: jax.Array):
    """Draws an index in proportion to the weights: a block by the first uniform, a token inside it by the
    second.

    Two stages read the vocabulary once and need running sums of C and of W numbers only; a second uniform
    keeps the resolution inside a block independent of how small the block's share is.
    """
    rows, vocab = weights_UV.shape
    padded_UV = jnp.pad(weights_UV, ((0, 0), (0, -vocab % BLOCK)))
    blocks_UCW = padded_UV.reshape(rows, -1, BLOCK)
    block_U = _pick(blocks_UCW.sum(axis=2), uniforms_U2[:, 0])
    inside_UW = jnp.take_along_axis(blocks_UCW, block_U[:, None, None], axis=1)[:, 0]
    return block_U * BLOCK + _pick(inside_UW, uniforms_U2[:, 1])


def _pick(weights_UX: jax.Array, uniforms_U: jax.Array):
    """The first index whose running sum exceeds uniform * total. Rounding never picks an index of weight
    0."""
    sums_UX = jnp.cumsum(weights_UX, axis=1)
    above_UX = (sums_UX > (uniforms_U * sums_UX[:, -1])[:, None]) & (weights_UX > 0)
    return jnp.where(above_UX.any(axis=1), jnp.argmax(above_UX, axis=1), jnp.argmax(weights_UX, axis=1))


def truncation_mask(weights_UV: jax.Array, top_p_U: jax.Array, top_k_U: jax.Array, min_p_U: jax.Array):
    """Which tokens top-k, then top-p over what top-k left, then min-p keep: [U, V] bool.

    weights_UV are softmax numerators (non-negative, peak 1). Tokens that tie with the last one kept are kept
    too, and the most probable token always is. Thresholds are found by bisection on the bits of the weights:
    nothing is sorted.
    """
    goal_U = jnp.where(top_k_U > 0, top_k_U, weights_UV.shape[1]).astype(jnp.float32)
    keep_UV = weights_UV >= _threshold(weights_UV, jnp.ones_like(weights_UV), goal_U)[:, None]
    left_UV = jnp.where(keep_UV, weights_UV, 0.0)
    nucleus_U = _threshold(weights_UV, left_UV, top_p_U * left_UV.sum(axis=1))
    keep_UV &= weights_UV >= jnp.where(top_p_U < 1.0, nucleus_U, 0.0)[:, None]
    return keep_UV & (weights_UV >= min_p_U[:, None])


def _threshold(weights_UV: jax.Array, mass_UV: jax.Array, goal_U: jax.Array):
    """The largest t, per row, for which the mass of {weights >= t} reaches the goal (0 where nothing does).

    The bits of a non-negative float32 read as an integer keep its order, so t is built from its highest bit
    down.
    """
    bits_UV = jax.lax.bitcast_convert_type(weights_UV, jnp.int32)

    def refine(i: jax.Array, t_U: jax.Array):
        trial_U = t_U | (1 << (30 - i))
        mass_U = jnp.where(bits_UV >= trial_U[:, None], mass_UV, 0.0).sum(axis=1)
        return jnp.where(mass_U >= goal_U, trial_U, t_U)

    bits_U = jax.lax.fori_loop(0, 31, refine, jnp.zeros(goal_U.shape, jnp.int32))
    return jax.lax.bitcast_convert_type(bits_U, jnp.float32)
