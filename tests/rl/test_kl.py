import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.kl import KL_ESTIMATORS, kl_estimate, kl_value
from jaxrl_moe.rl.table import AlgorithmError
from tests.rl import cases, oracle

P = [-0.5, -1.0, -30.0, -0.1, -2.0]
F = [-0.9, -0.4, -1.0, -29.0, -2.0]


@pytest.mark.parametrize("name", sorted(KL_ESTIMATORS))
def test_every_estimator_and_its_gradient_equal_the_loop(name):
    with jax.enable_x64(True):
        p = jnp.array(P)
        f = jnp.array(F)
        got = kl_estimate(p, f, name)
        gradient = jax.grad(lambda p: kl_estimate(p, f, name).sum())(p)
        got = np.asarray(got)
        gradient = np.asarray(gradient)
    cases.assert_close(got, [oracle.kl(name, a, b, a) for a, b in zip(P, F)])
    step = 1e-6
    expected = [(oracle.kl(name, a + step, b, a) - oracle.kl(name, a - step, b, a)) / (2 * step)
                for a, b in zip(P, F)]
    smooth = slice(0, 4)  # |d| has a kink at the last
    cases.assert_close(gradient[smooth], expected[smooth], 1e-6)


LN2 = float(np.log(2))


@pytest.mark.parametrize("name, value, slope", [("k1", LN2, 1.0), ("k2", LN2**2 / 2, LN2),
                                                ("k3", 0.5 - 1 + LN2, 0.5), ("k3+", 0.5 - 1 + LN2, LN2),
                                                ("abs", LN2, 1.0)])
def test_estimators_give_the_expected_values_and_gradients_at_ln_2(name, value, slope):
    f = jnp.array(-1.0)
    got, gradient = jax.value_and_grad(kl_estimate)(f + LN2, f, name)
    assert float(got) == pytest.approx(value, rel=1e-5) and float(gradient) == pytest.approx(slope, rel=1e-5)


def test_no_gradient_reaches_the_reference():
    gradient = jax.grad(lambda f: kl_estimate(jnp.array(P), f, "k3").sum())(jnp.array(F))
    assert not np.asarray(gradient).any()


def test_an_unknown_estimator_is_refused():
    with pytest.raises(AlgorithmError, match="KL estimator named 'k4'"):
        kl_estimate(0.0, 0.0, "k4")


@pytest.mark.parametrize("estimator", sorted(KL_ESTIMATORS))
def test_the_hosts_value_is_that_of_the_estimator(estimator):
    for length in (1, 7, 40):
        p, f = -np.random.default_rng(length).exponential(3, size=(2, length)).astype(np.float32)
        p[0] -= 30  # beyond the clamps
        got = kl_value(p, f, estimator)
        assert isinstance(got, np.ndarray) and got.dtype == np.float64
        np.testing.assert_allclose(got, kl_estimate(p, f, estimator), rtol=2e-5, atol=1e-6)
