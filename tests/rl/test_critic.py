import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.critic import explained_variance, value_loss


def test_the_value_loss_takes_the_larger_of_the_plain_and_the_clipped_error():
    # V moved from 0 to 1: towards a return of 2 the clip makes the error larger, away from -1 it makes it smaller
    loss, clipped = value_loss(jnp.array([1.0, 1.0, 0.1]), jnp.array([2.0, -1.0, 2.0]), jnp.zeros(3))
    np.testing.assert_allclose(loss, [0.5 * 1.8**2, 0.5 * 4, 0.5 * 1.9**2], rtol=1e-6)
    assert clipped.tolist() == [True, False, False]


def test_a_clipped_value_has_no_gradient():
    gradient = jax.grad(lambda v: value_loss(v, jnp.array([2.0, -1.0]), jnp.zeros(2))[0].sum())(jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(gradient, [0, 2])


def test_explained_variance_is_one_when_perfect_and_zero_for_the_mean():
    returns = jnp.array([1.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(jnp.full(3, returns.mean()), returns) == pytest.approx(0, abs=1e-6)
    assert explained_variance(returns, jnp.ones(3)) == 0
