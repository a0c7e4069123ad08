"""One reward of people's and a model's: monotone, people alone without agreement, calibrated where asked."""
import numpy as np
import pytest

from jaxrl_moe.judges.agreement.blending import LEAST_PAIRS, PRIOR, Measured, blended, measured


@pytest.mark.parametrize("people, judges, model, weight, expected", [
    (0.2, 1, 1.0, 0.0, 0.2), (0.2, 1, 1.0, 1.0, 0.6), (0.2, 3, 1.0, 1.0, 0.4), (0.5, 2, 0.5, 0.7, 0.5)])
def test_a_model_counts_like_so_many_judges(people, judges, model, weight, expected):
    assert blended(people, judges, model, weight) == pytest.approx(expected)


def test_the_weight_grows_with_agreement_and_with_what_was_seen():
    by_kappa = [Measured(kappa, 100).weight for kappa in (-1.0, 0.0, 0.3, 0.6, 1.0)]
    assert by_kappa[:2] == [0, 0] and by_kappa == sorted(by_kappa) and by_kappa[-1] < 1
    by_units = [Measured(0.8, units).weight for units in (0, 1, PRIOR, 1000)]
    assert by_units[0] == 0 and by_units == sorted(by_units) and by_units[2] == pytest.approx(0.4)
    rewards = [blended(0.2, 1, 0.9, weight) for weight in by_kappa]
    assert rewards == sorted(rewards) and 0.2 == rewards[0] and rewards[-1] < 0.55


def test_agreement_is_measured_on_binned_scores_of_each_kind():
    same = [("bounded", score, score) for score in np.linspace(0, 1, 11)]
    assert measured(same).kappa == pytest.approx(1.0) and measured(same).units == 11
    assert measured([("binary", 1.0, 1.0)] * 5 + [("binary", 0.0, 1.0)] * 5).kappa == 0
    assert measured([]) == Measured() and measured([("binary", 1.0, 1.0)]).kappa == 0
    assert measured([("comparison", 0.0, 1.0), ("comparison", 1.0, 0.0)]).weight == 0


def test_calibration_is_the_least_squares_line_where_there_is_enough_and_it_rises():
    dice = np.random.default_rng(0)
    model = dice.uniform(size=LEAST_PAIRS)
    people = np.clip(0.2 + 0.5 * model + dice.normal(scale=0.05, size=LEAST_PAIRS), 0, 1)
    line = measured([("bounded", p, m) for p, m in zip(people, model)])
    slope, offset = np.polyfit(model, people, 1)
    assert (line.slope, line.offset) == pytest.approx((slope, offset))
    assert line.calibrated(0.5) == pytest.approx(offset + slope / 2)
    assert Measured(slope=3.0).calibrated(0.9) == 1.0 and Measured(offset=-1.0).calibrated(0.5) == 0.0
    for pairs in ([("bounded", 1 - m, m) for m in model], [("bounded", p, 0.5) for p in people],
                  [("bounded", p, m) for p, m in zip(people[1:], model)]):
        assert (measured(pairs).slope, measured(pairs).offset) == (1.0, 0.0)
