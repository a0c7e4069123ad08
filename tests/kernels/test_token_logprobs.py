import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.kernels.token_logprobs import token_logprobs
from tests.helpers.close import assert_close

M = 37
D = 12
V = 50


def inputs():
    keys = jax.random.split(jax.random.key(0), 3)
    return (jax.random.normal(keys[0],
                              (M, D)), jax.random.normal(keys[1],
                                                         (D, V)), jax.random.randint(keys[2], (M,), 0, V))


def plain(hidden, head, targets, temperature):
    logprobs = jax.nn.log_softmax(jnp.dot(hidden, head, precision="highest") / temperature)
    return logprobs[jnp.arange(M), targets], -jnp.sum(jnp.exp(logprobs) * logprobs, axis=1)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.5])
@pytest.mark.parametrize("chunk", [1, 16, 37, 1000])
def test_logprobs_and_entropy_equal_a_full_log_softmax(chunk, temperature):
    hidden, head, targets = inputs()
    got = jax.jit(lambda *a: token_logprobs(*a, targets, temperature, entropy=True, chunk=chunk))(hidden,
                                                                                                  head)
    assert_close(got, plain(hidden, head, targets, temperature))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("entropy", [True, False])
def test_gradients_equal_those_of_a_full_log_softmax(frozen, entropy):
    hidden, head, targets = inputs()
    weight = jnp.sin(jnp.arange(M))

    def loss(hidden, head, function):
        logprobs, entropies = function(hidden, head)
        return jnp.sum(weight * logprobs) + (jnp.sum(weight ** 2 * entropies) if entropy else 0.0)

    def ours(hidden, head):
        return token_logprobs(hidden, head, targets, 0.7, entropy=entropy, frozen_head=frozen, chunk=16)

    def theirs(hidden, head):
        return plain(hidden, head, targets, 0.7)

    got, expected = (jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(hidden, head, f)
                     for f in (ours, theirs))
    assert_close(got[0], expected[0])
    if frozen:
        assert not np.asarray(got[1]).any()
    else:
        assert_close(got[1], expected[1])


def largest_array(jaxpr):
    sizes = [np.prod(v.aval.shape, dtype=int) for equation in jaxpr.eqns for v in equation.outvars]
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(list(equation.params.values()),
                                     is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            sizes += [largest_array(inner)] if hasattr(inner, "eqns") else []
    return max(sizes, default=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_no_array_holds_tokens_times_vocabulary(frozen):
    hidden = jnp.zeros((512, 4))
    head = jnp.zeros((4, 300))
    targets = jnp.zeros(512, int)
    function = jax.grad(lambda h: token_logprobs(h, head, targets, frozen_head=frozen, chunk=32)[0].sum())
    assert largest_array(jax.make_jaxpr(function)(hidden).jaxpr) <= 32 * 300
