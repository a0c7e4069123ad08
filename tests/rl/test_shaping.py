import pytest

from jaxrl_moe.rl.shaping import blend_rewards, soft_overlong_penalty


def test_the_soft_overlong_penalty_falls_linearly_over_the_cushion():
    lengths = [0, 16384, 16384 + 1024, 16384 + 3072, 20480, 30000]
    assert [soft_overlong_penalty(n) for n in lengths] == [0, 0, -0.25, -0.75, -1, -1]


def test_a_blend_is_the_weighted_sum():
    assert blend_rewards(1.0, 0.5, 0.25, (0.2, 0.4, 0.4)) == pytest.approx(0.2 + 0.2 + 0.1)
