import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_moe.rl import returns
from tests.rl import cases, oracle

MASK = np.array([0, 1, 1, 0, 0, 1, 1, 0])
RNG = np.random.default_rng(0)
REWARDS = RNG.standard_normal(8) * MASK
VALUES = RNG.standard_normal(8)


@pytest.mark.parametrize("gamma", [1.0, 0.4])
def test_discounted_returns_equal_the_loop(gamma):
    got = returns.discounted_returns(REWARDS, MASK, gamma)
    expected = oracle.returns(REWARDS, MASK, gamma)
    cases.assert_close([got[t] for t in expected], list(expected.values()), 1e-12)


@pytest.mark.parametrize("gamma, lam, bootstrap", [(1, 1, 0), (0.9, 0.8, 0), (0.99, 0.0, 0.5),
                                                   (1, 0.95, -2.0)])
def test_gae_equals_the_sum_over_later_tokens(gamma, lam, bootstrap):
    advantages, target = returns.gae(REWARDS, VALUES, MASK, gamma, lam, bootstrap)
    expected = oracle.gae(REWARDS, VALUES, MASK, gamma, lam, bootstrap)
    cases.assert_close([advantages[t] for t in expected], list(expected.values()), 1e-12)
    trained = MASK > 0
    cases.assert_close(target[trained], (advantages + VALUES)[trained], 1e-12)


def test_gae_gives_the_expected_arrays():
    advantages, target = returns.gae([0, 0, 1], [0.5, 0.6, 0.7], [1, 1, 1])
    np.testing.assert_allclose(advantages, [0.5, 0.4, 0.3])
    np.testing.assert_allclose(target, [1, 1, 1])
    advantages, _ = returns.gae([0, 1], [0.5, 0.25], [1, 1], gamma=0.5, lam=0.5)
    np.testing.assert_allclose(advantages, [-0.375 + 0.25 * 0.75, 0.75])


def test_gae_carries_value_and_advantage_through_observation_tokens():
    advantages, target = returns.gae(REWARDS, VALUES, MASK, 0.9, 0.8)
    assert advantages[3] == advantages[4] == advantages[5] and advantages[0] == advantages[1]
    np.testing.assert_allclose(target[[3, 4]], target[5])


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 8), junk=st.floats(-5, 5))
def test_gae_does_not_see_masked_turns(at, junk):
    plain = returns.gae(REWARDS, VALUES, MASK, 0.9, 0.8, 0.3)[0]
    wider = returns.gae(np.insert(REWARDS, at, 0), np.insert(VALUES, at, junk), np.insert(MASK, at, 0), 0.9,
                        0.8, 0.3)[0]
    np.testing.assert_allclose(np.delete(wider, at), plain, rtol=1e-12)


def test_gae_with_lambda_one_is_the_return_less_the_value():
    advantages, _ = returns.gae(REWARDS, VALUES, MASK)
    expected = returns.discounted_returns(REWARDS, MASK) - VALUES
    np.testing.assert_allclose(advantages[MASK > 0], expected[MASK > 0])


def test_the_reward_is_paid_at_the_last_trained_token_less_kl_at_each():
    got = returns.token_rewards(1.0, np.arange(8.0), MASK, 0.1)
    np.testing.assert_allclose(got, [0, -0.1, -0.2, 0, 0, -0.5, 1 - 0.6, 0])
    assert returns.token_rewards(1.0, None, np.zeros(3)).tolist() == [0, 0, 0]


def test_whitening_has_mean_zero_and_unbiased_variance_one():
    values = RNG.standard_normal(50) * 3 + 7
    white = returns.whiten(values)
    cases.assert_close(white, oracle.whiten(values.tolist()), 1e-12)
    assert white.mean() == pytest.approx(0, abs=1e-12) and white.var(ddof=1) == pytest.approx(1)


@pytest.mark.parametrize("values", [[0.95] * 3, [1.05], np.full(7, 0.1, np.float32), []])
def test_whitening_equal_values_gives_exactly_zero(values):
    assert returns.whiten(values).tolist() == [0.0] * len(values)


def test_turn_returns_and_the_trajectory_return_discount_by_turn():
    np.testing.assert_allclose(returns.turn_returns([0.3, 0.0, 1.3]), [0.3 + 0.16 * 1.3, 0.4 * 1.3, 1.3])
    assert returns.trajectory_return([0.3, 0.0, 1.3]) == pytest.approx(0.3 + 0.16 * 1.3)
    assert returns.turn_returns([0.3, 0.1], gamma=0.0).tolist() == [0.3, 0.1]


def test_the_last_token_critic_gives_whitened_clamped_advantages():
    rewards = np.array([1.0] + [0.0] * 30)
    values = np.full(31, 0.2)
    got = returns.critic_advantage(rewards, values)
    expected = np.clip(oracle.whiten((rewards - values).tolist()), -3, 3)
    cases.assert_close(got, expected, 1e-12)
    assert got.max() == 3
