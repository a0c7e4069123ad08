"""The drawing of tokens against NumPy, and against the probabilities it must follow."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.engine import sampling


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mask_oracle(logits, top_p, top_k, min_p):
    """One row: top-k by rank, then the shortest prefix of the sorted rest with mass >= top_p, then min-p by
    the peak."""
    probabilities = softmax(logits.astype(np.float64))
    order = np.argsort(-probabilities, kind="stable")
    kept = order[:top_k] if top_k else order
    share = probabilities[kept] / probabilities[kept].sum()
    count = len(kept) if top_p >= 1 else int(np.searchsorted(np.cumsum(share), top_p)) + 1
    kept = [i for i in kept[:count] if probabilities[i] >= min_p * probabilities.max()]
    return np.isin(np.arange(len(logits)), kept)


@pytest.mark.parametrize("top_p,top_k,min_p", [(1.0, 0, 0.0), (0.9, 0, 0.0), (0.3, 0, 0.0), (1e-6, 0, 0.0),
                                               (1.0, 1, 0.0), (1.0, 7, 0.0), (1.0, 10_000, 0.0),
                                               (1.0, 0, 0.2), (0.8, 20, 0.05), (0.999, 150, 1e-3)])
def test_truncation_keeps_what_sorting_keeps(top_p, top_k, min_p):
    logits = np.random.default_rng(0).normal(0, 3, (16, 301)).astype(np.float32)
    weights = jnp.exp(logits - logits.max(1, keepdims=True))
    fill = lambda value, dtype: jnp.full(16, value, dtype)  # noqa: E731
    mask = sampling.truncation_mask(weights, fill(top_p, jnp.float32), fill(top_k, jnp.int32),
                                    fill(min_p, jnp.float32))
    np.testing.assert_array_equal(mask, [mask_oracle(row, top_p, top_k, min_p) for row in logits])


def test_truncation_settings_hold_per_row():
    logits = np.random.default_rng(1).normal(0, 2, (3, 50)).astype(np.float32)
    settings = [(0.7, 0, 0.0), (1.0, 3, 0.0), (1.0, 0, 0.3)]
    top_p, top_k, min_p = (jnp.array(column) for column in zip(*settings))
    mask = sampling.truncation_mask(jnp.exp(logits - logits.max(1, keepdims=True)), top_p, top_k, min_p)
    np.testing.assert_array_equal(
        mask, [mask_oracle(row, *row_settings) for row, row_settings in zip(logits, settings)])


def test_tokens_that_tie_with_the_last_one_kept_are_kept():
    mask = sampling.truncation_mask(jnp.array([[1.0, 0.5, 0.5, 0.25]]), jnp.array([1.0]), jnp.array([2]),
                                    jnp.array([0.0]))
    np.testing.assert_array_equal(mask, [[True, True, True, False]])


def draw_many(logits, count, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0):
    """`count` rows of the same logits at positions 0, 1, ... of one sequence."""
    key = sampling.row_keys(jax.random.key(3), jnp.array([[0, 5, 1, 0]], jnp.uint32))
    uniforms = sampling.token_uniforms(jnp.repeat(key, count), jnp.arange(count))
    fill = lambda value, dtype: jnp.full(count, value, dtype)  # noqa: E731
    return sampling.sample(jnp.tile(jnp.asarray(logits, jnp.float32), (count, 1)), uniforms,
                           fill(temperature, jnp.float32), fill(top_p, jnp.float32), fill(top_k, jnp.int32),
                           fill(min_p, jnp.float32), truncate=top_p < 1 or top_k > 0 or min_p > 0)


@pytest.mark.parametrize("temperature,top_p,top_k,min_p", [
    (1.0, 1.0, 0, 0.0), (0.7, 1.0, 0, 0.0), (1.0, 0.8, 0, 0.0), (1.5, 0.9, 40, 0.01)])
def test_frequencies_follow_the_probabilities(temperature, top_p, top_k, min_p):
    from scipy import stats
    logits = np.random.default_rng(2).normal(0, 1.5, 200).astype(np.float32)
    count = 40_000
    expected = softmax(logits.astype(np.float64) / temperature)
    expected = np.where(mask_oracle(logits / temperature, top_p, top_k, min_p), expected, 0)
    expected = count * expected / expected.sum()
    seen = np.bincount(draw_many(logits, count, temperature, top_p, top_k, min_p)[0], minlength=200)
    assert (seen[expected == 0] == 0).all()
    common = expected >= 5
    seen = np.append(seen[common], seen[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    keep = expected > 0
    assert stats.chisquare(seen[keep], expected[keep]).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_logprobs_are_those_of_the_tempered_distribution_over_the_full_vocabulary(temperature):
    logits = np.random.default_rng(4).normal(0, 2, 300).astype(np.float32)
    tokens, logprobs, kept = draw_many(logits, 64, temperature, top_p=0.5)
    expected = np.log(softmax(logits.astype(np.float64) / (temperature or 1.0)))
    np.testing.assert_allclose(logprobs, expected[np.asarray(tokens)], rtol=1e-5, atol=1e-6)
    if temperature == 0:
        assert (np.asarray(tokens) == logits.argmax()).all() and (np.asarray(kept) == 1).all()
    else:
        mass = softmax(logits.astype(np.float64) / temperature)[mask_oracle(logits / temperature, 0.5, 0,
                                                                            0.0)].sum()
        np.testing.assert_allclose(kept, mass, rtol=1e-5)


def test_a_token_of_probability_zero_is_never_drawn():
    uniforms = jnp.array([[0.0, 0.0], [0.0, 0.99999994], [0.99999994, 0.0], [0.99999994, 0.99999994]])
    weights = np.zeros((4, 400), np.float32)
    weights[:, [3, 200, 399]] = 1e-30, 1.0, 1e-20
    assert set(np.asarray(sampling.draw(jnp.asarray(weights), uniforms)).tolist()) <= {3, 200, 399}


def test_noise_differs_in_every_coordinate_and_is_the_same_for_the_same_ones():
    draws = np.zeros((6, 4), np.uint32)
    draws[[1, 2, 3, 4], [0, 1, 2, 3]] = 1
    keys = sampling.row_keys(jax.random.key(0), jnp.asarray(draws))
    first = np.asarray(sampling.token_uniforms(keys, jnp.full(6, 9)))
    other = np.asarray(sampling.token_uniforms(keys, jnp.full(6, 10)))
    assert len(np.unique(np.concatenate([first[:5], other[:5]]))) == 20
    np.testing.assert_array_equal(first[0], first[5])
