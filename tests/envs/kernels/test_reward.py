"""What a verdict is worth, and what many say together; the numbers are those of the contract."""
import pytest

from jaxrl_moe.envs.kernels.reward import MOST, fast, turn_reward
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict


def verdict(speedup=None, **facts):
    timing = speedup and Timing(1.0, 1.0, 1.0, 10, float(speedup), None)
    return Verdict(Basis.DEVICE, timing=timing, **facts)


@pytest.mark.parametrize("given, reward", [
    (verdict(), 0.0), (verdict(fault=Fault.REFUSED), 0.0), (verdict(compiled=True), 0.1),
    (verdict(compiled=True, correct=True), 0.3), (verdict(0.5, compiled=True, correct=True), 0.3),
    (verdict(1.0, compiled=True, correct=True), 0.3), (verdict(1.5, compiled=True, correct=True), 0.8),
    (verdict(3.0, compiled=True, correct=True), 2.3), (verdict(9.0, compiled=True, correct=True), 2.3),
    (verdict(20.0, compiled=True, correct=True, quarantined=True), 0.3),
    (verdict(3.0, compiled=True), 0.1)])
def test_a_turn_is_worth_what_the_contract_says(given, reward):
    assert turn_reward(given) == pytest.approx(reward) and 0 <= turn_reward(given) <= MOST


def test_the_faster_of_the_reference_s_two_counts():
    assert Timing(1.0, 1.0, 1.0, 10, 3.0, 2.0).speedup == 2.0
    assert Timing(1.0, 1.0, 1.0, 10, None, 2.0).speedup == 2.0
    assert Timing(1.0, 1.0, 1.0, 10, None, None).speedup is None


def test_fast_p_is_the_fraction_that_is_correct_and_faster():
    given = [verdict(2.5, correct=True), verdict(1.5, correct=True), verdict(correct=True), verdict(4.0),
             verdict(50.0, correct=True, quarantined=True)]
    assert [fast(given, p) for p in (0, 1, 2)] == [0.8, 0.4, 0.2]
    assert fast([], 1) == 0.0
