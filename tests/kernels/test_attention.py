import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.kernels.attention import Visibility, attention
from tests.helpers.attention import inputs, oracle
from tests.helpers.close import assert_close


@pytest.mark.parametrize("backend", ["xla", "causal", "chunked"])
@pytest.mark.parametrize("length, heads, kv_heads, window", [(1, 2, 1, 0), (20, 4, 2, 0), (70, 4, 4, 0),
                                                             (70, 4, 2, 9)])
def test_attention_equals_a_loop_over_tokens(backend, length, heads, kv_heads, window):
    q, k, v, positions, segments = inputs(length, heads, kv_heads)
    seen = Visibility(positions, positions, segments, segments, jnp.int32(window))
    got = jax.jit(lambda *a: attention(*a, seen, backend, whole_rows=True))(q, k, v)
    valid = (segments > 0)[..., None, None]
    assert_close(jnp.where(valid, got, 0), oracle(*map(np.asarray, (q, k, v)), positions, segments, window))


@pytest.mark.parametrize("backend", ["causal", "chunked"])
@pytest.mark.parametrize("length, window", [(64, 0), (150, 0), (150, 7), (600, 0)])
def test_blocked_attention_has_the_gradients_of_the_plain_one(backend, length, window):
    q, k, v, positions, segments = inputs(length, 4, 2)
    seen = Visibility(positions, positions, segments, segments, jnp.int32(window))

    def loss(arrays, backend):
        out = attention(*arrays, seen, backend, whole_rows=True)
        return jnp.sum(jnp.where((segments > 0)[..., None, None], out, 0) ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    assert_close(gradient((q, k, v), backend), gradient((q, k, v), "xla"))


@pytest.mark.parametrize("length", [1, 70, 150])
def test_blocks_in_turn_give_the_same(length):
    q, k, v, positions, segments = inputs(length, 4, 2)
    seen = Visibility(positions, positions, segments, segments)

    def both(in_turn):
        def run(q, k, v):
            return attention(q, k, v, seen, "causal", whole_rows=True, in_turn=in_turn)
        return run(q, k, v), jax.grad(lambda *a: jnp.sum(run(*a) ** 2), (0, 1, 2))(q, k, v)

    assert_close(both(True), both(False), 1e-6)


@pytest.mark.parametrize("length", [1, 20, 21])
def test_cudnn_is_given_even_lengths_and_its_result_is_cut_back(length, monkeypatch):
    """XLA's attention stands in for cuDNN's, which takes bfloat16 on a GPU alone: see tests/planning for what
    is compiled for one."""
    given = []
    plain = jax.nn.dot_product_attention

    def stand_in(q, k, v, *, mask, implementation):
        assert implementation == "cudnn" and mask.shape == (q.shape[0], 1, q.shape[1], k.shape[1])
        given.append((q.shape[1], k.shape[1]))
        return plain(q, k, v, mask=mask)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    q, k, v, positions, segments = inputs(length, 4, 2)
    seen = Visibility(positions, positions, segments, segments)
    real = (segments > 0)[..., None, None]

    def both(backend):
        def run(*a):
            return jnp.where(real, attention(*a, seen, backend, whole_rows=True), 0)
        return run(q, k, v), jax.grad(lambda *a: jnp.sum(run(*a) ** 2), (0, 1, 2))(q, k, v)

    assert_close(both("cudnn"), both("xla"))
    assert set(given) == {(length + length % 2,) * 2}


def test_padding_queries_give_finite_values_and_no_gradient():
    q, k, v, positions, _ = inputs(16, 2, 1)
    nothing = np.zeros((2, 16), int)
    seen = Visibility(positions, positions, nothing, nothing)
    for backend in ("xla", "causal", "chunked"):
        assert np.isfinite(attention(q, k, v, seen, backend, whole_rows=True)).all()
    gradients = jax.grad(lambda q: 0.0 * jnp.sum(attention(q, k, v, seen, "causal", whole_rows=True)))(q)
    assert not np.asarray(gradients).any()


def test_an_unknown_backend_is_refused_with_the_known_ones():
    q, k, v, positions, segments = inputs(4, 2, 1)
    with pytest.raises(ValueError, match="causal"):
        attention(q, k, v, Visibility(positions, positions, segments, segments), "flash")
