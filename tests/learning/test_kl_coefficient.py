"""The KL coefficient: where it is charged, and how it follows a target."""
import pytest

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.learning.credit.kl_coefficient import AdaptiveKL, KLCoefficient, adapt_kl_coef


def test_the_adaptive_coefficient_rises_above_and_falls_below_its_band():
    assert adapt_kl_coef(0.05, 0.046) == pytest.approx(0.065)
    assert adapt_kl_coef(0.05, 0.014) == pytest.approx(0.035)
    assert adapt_kl_coef(0.05, 0.03) == adapt_kl_coef(0.05, 0.0449) == adapt_kl_coef(0.05, 0.0151) == 0.05
    assert adapt_kl_coef(1.0, 1.0, AdaptiveKL(target=0.5, increase=2.0)) == 2.0


def test_an_adaptive_coefficient_stays_where_it_can_come_back_from():
    thermostat = AdaptiveKL(target=0.1, least=0.01, most=10.0)
    coef = 1.0
    for _ in range(100):
        coef = adapt_kl_coef(coef, 0.0, thermostat)
    assert coef == 0.01
    for _ in range(100):
        coef = adapt_kl_coef(coef, 1.0, thermostat)
    assert coef == 10.0


def test_the_coefficient_moves_by_factors_outside_a_band_around_the_target():
    section = AlgorithmSection(kl_coef=0.05, kl_target=0.03)
    assert KLCoefficient(section).value == 0.05 and KLCoefficient(section, 0.2).value == 0.2
    for kl, factor in ((0.046, 1.3), (0.045, 1.0), (0.03, 1.0), (0.015, 1.0), (0.014, 0.7)):
        assert KLCoefficient(section, 0.2).after({"policy/kl": kl}).adapted == pytest.approx(0.2 * factor)
    assert KLCoefficient(section, 0.2).after({}).adapted == 0.2  # a step without an update
    fixed = AlgorithmSection(kl_coef=0.05)
    assert KLCoefficient(fixed, 0.2).after({"policy/kl": 1.0}).adapted is None
    assert KLCoefficient(fixed, 0.2).value == 0.05


def test_the_coefficient_is_charged_in_the_loss_or_in_the_reward_and_logged_where_it_is():
    fixed = AlgorithmSection(kl_coef=0.05)
    adaptive = AlgorithmSection(kl_coef=0.05, kl_target=0.03)
    in_reward = AlgorithmSection(kl_coef=0.05, kl_target=0.03, kl_in="reward")
    assert KLCoefficient(fixed).in_loss is None and KLCoefficient(fixed).in_reward == 0
    assert KLCoefficient(adaptive, 0.2).in_loss == 0.2 and KLCoefficient(adaptive, 0.2).in_reward == 0
    assert KLCoefficient(in_reward, 0.2).in_loss is None and KLCoefficient(in_reward, 0.2).in_reward == 0.2
    assert KLCoefficient(adaptive, 0.2).metrics() == {"policy/kl_coef": 0.2}
    none = KLCoefficient(AlgorithmSection(kl_coef=0.0), 0.2)
    assert none.metrics() == {} and none.after({"policy/kl": 1.0}) == none
