import pytest

from jaxrl_moe.rl.returns import trajectory_return, turn_returns
from jaxrl_moe.rl.shaping import blend_rewards, decision_stepwise, soft_overlong_penalty


def test_the_soft_overlong_penalty_falls_linearly_over_the_cushion():
    lengths = [0, 16384, 16384 + 1024, 16384 + 3072, 20480, 30000]
    assert [soft_overlong_penalty(n) for n in lengths] == [0, 0, -0.25, -0.75, -1, -1]


def test_a_decision_earns_lambda_once_if_it_unlocks_anything():
    achieved = [{"wood"}, {"wood"}, {"wood", "table", "sword"}, {"table"}, {"table", "wood"}]
    assert decision_stepwise(achieved).tolist() == [1, 0, 1, 0, 1]
    assert decision_stepwise(achieved, 0.5, start={"wood"}).tolist() == [0, 0, 0.5, 0, 0.5]
    assert decision_stepwise([]).tolist() == []


def test_step_rewards_are_discounted_like_any_turns():
    rewards = decision_stepwise([{"a"}, {"a"}, {"a", "b"}])
    assert trajectory_return(rewards, 0.5) == 1.25
    assert turn_returns(rewards, 0.5).tolist() == [1.25, 0.5, 1.0]


@pytest.mark.parametrize("weights, expected", [((0.2, 0.4, 0.4), 0.2 * 1 + 0.4 * 0.5 + 0.4 * 0.25),
                                               ((0.3, 0.3, 0.4), 0.3 + 0.15 + 0.1)])
def test_the_blends_of_environment_event_and_outcome(weights, expected):
    assert blend_rewards(1.0, 0.5, 0.25, weights) == pytest.approx(expected)
