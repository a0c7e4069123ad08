import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.critic import critic_terms, finish, value_loss
from jaxrl_moe.rl.types import LossInputs


def test_the_value_loss_takes_the_larger_of_the_plain_and_the_clipped_error():
    # V moved from 0 to 1: towards a return of 2 the clip makes the error larger, away from -1 it makes it
    # smaller
    loss, clipped = value_loss(jnp.array([1.0, 1.0, 0.1]), jnp.array([2.0, -1.0, 2.0]), jnp.zeros(3))
    np.testing.assert_allclose(loss, [0.5 * 1.8**2, 0.5 * 4, 0.5 * 1.9**2], rtol=1e-6)
    assert clipped.tolist() == [True, False, False]


def test_a_clipped_value_has_no_gradient():
    gradient = jax.grad(lambda v: value_loss(v, jnp.array([2.0, -1.0]), jnp.zeros(2))[0].sum())(jnp.array(
        [1.0, 1.0]))
    np.testing.assert_allclose(gradient, [0, 2])


def test_explained_variance_is_one_when_perfect_and_zero_for_the_mean():
    returns = np.array([[1.0, 2.0, 4.0]], np.float32)

    def explained(returns_BT, old_BT):
        inputs = LossInputs(*[np.zeros(returns_BT.shape, np.float32)] * 5, num_tokens=3.0, values_BT=old_BT,
                            old_values_BT=old_BT, returns_BT=returns_BT,
                            value_weights_BT=np.full(returns_BT.shape, 1 / 3), num_values=3.0)
        return finish(critic_terms(inputs, 0.2)[1])["critic/explained_variance"]

    assert explained(returns, returns) == 1
    assert explained(returns, np.full_like(returns, returns.mean())) == pytest.approx(0, abs=1e-6)
    assert explained(returns, np.zeros_like(returns)) == pytest.approx(0, abs=1e-6)
    assert explained(returns, np.array([[1.5, 2.0, 3.0]], np.float32)) == pytest.approx(
        1 - np.var([-0.5, 0, 1]) / np.var([1, 2, 4]), rel=1e-5)
    assert explained(np.ones_like(returns), returns) == 0
