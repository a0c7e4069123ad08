import numpy as np
import pytest

from jaxrl_moe.rl.advantages import ADVANTAGES, group_advantages, is_constant
from jaxrl_moe.rl.table import AlgorithmError
from tests.rl import cases, oracle

GROUPS = [
    np.array([1.0, 0.0, 0.5, 0.05]),
    np.array([0.3, 0.9]),
    np.array([0.7]),
    np.array([1.05] * 5, np.float32)
]
CENTRED = sorted(set(ADVANTAGES) - {"reinforce_pp", "gae"})


def run(name, groups):
    return group_advantages(groups, ADVANTAGES[name], ADVANTAGES[name].settings)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_every_estimator_equals_the_loop(name):
    for got, expected in zip(run(name, GROUPS), oracle.advantages(name, [g.tolist() for g in GROUPS]),
                             strict=True):
        cases.assert_close(got, expected, 1e-12)


def test_estimators_give_the_expected_arrays():
    rewards = [np.array([1.0, 0.0, 0.0, 0.0])]
    std = 0.5
    expected = {
        "grpo": np.array([0.75, -0.25, -0.25, -0.25]) / (std + 1e-6),
        "dr_grpo": [0.75, -0.25, -0.25, -0.25],
        "rloo": [1, -1 / 3, -1 / 3, -1 / 3],
        "turn_rloo": [1, -1 / 3, -1 / 3, -1 / 3],
        "maxrl": np.array([3, -1, -1, -1]) / (1 + 4e-6),
        "reinforce": [0.75, -0.25, -0.25, -0.25],
        "reinforce_pp": [1, 0, 0, 0],
        "reinforce_pp_baseline": [0.75, -0.25, -0.25, -0.25],
        "gae": [1.0, 0, 0, 0],
        "last_token_critic": [0.75, -0.25, -0.25, -0.25]
    }
    assert set(expected) == set(ADVANTAGES)
    for name, values in expected.items():
        cases.assert_close(run(name, rewards)[0], values, 1e-12)


@pytest.mark.parametrize("reward", [0.95, 1.05, 0.1, 1e-8])
@pytest.mark.parametrize("name", CENTRED)
def test_a_constant_group_gives_exactly_zero(name, reward):
    for size in (2, 3, 7, 8):
        assert run(name, [np.full(size, reward, np.float32)])[0].tolist() == [0.0] * size


def test_a_group_of_one_gets_zero_but_keeps_its_raw_reward_under_reinforce():
    for name in CENTRED:
        assert run(name, [np.array([0.7])
                          ])[0].tolist() == [0.7 if name in ("reinforce", "last_token_critic") else 0.0]


def test_maxrl_refuses_negative_rewards():
    with pytest.raises(AlgorithmError, match="no reward may be negative; got -0.05"):
        run("maxrl", [np.array([1.0, -0.05])])


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_the_rows_that_need_a_group_are_those_that_give_a_single_completion_zero(name):
    assert ADVANTAGES[name].needs_group == (run(name, [np.array([0.7])])[0].tolist() == [0.0])


def test_is_constant_tells_equal_values():
    assert is_constant([0.95] * 3) and is_constant([1.0]) and not is_constant([0.0, 1.0])
