"""Rewards brought to 0..1: the whole by its range, and the turns so that they sum to it."""
import numpy as np
import pytest

from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.rollout.scale import scaled
from jaxrl_moe.types import Prompt, Trace, Turn

PROMPT = Prompt(np.zeros(1, np.int32), {}, 0, "d.jsonl, row 1")


def trace(*rewards):
    empty = np.zeros(0, np.int32)
    turns = tuple(Turn(number, number + 1, reward) for number, reward in enumerate(rewards))
    return Trace(empty, empty, empty, empty, empty, turns=turns)


@pytest.mark.parametrize("bounds, rewards, share", [
    ((0, 1), [[0.0, 1.0]], 1.0), ((0, 4), [[1.0, 0.0, 2.0]], 0.75), ((-1, 1), [[0.0]], 0.5),
    ((-1, 1), [[0.5, -1.5]], 0.0), ((2, 6), [[3.0, 0.0]], 0.25), ((-1, 3), [[], [1.0], [0.5, 0.5]], 0.75),
    ((0, 1), [[1.0 + 5e-7]], 1.0)])
def test_turns_sum_to_the_whole_s_share_of_its_range(bounds, rewards, share):
    total = sum(sum(each) for each in rewards)
    found, traces = scaled(PROMPT, bounds, total, [trace(*each) for each in rewards])
    assert found == pytest.approx(share) and 0 <= found <= 1
    turns = [turn.reward for each in traces for turn in each.turns]
    assert sum(turns) == pytest.approx(share)
    flat = [reward for each in rewards for reward in each]
    assert np.diff(turns[1:]) == pytest.approx(np.diff(flat[1:]) / (bounds[1] - bounds[0]))
    assert [len(each.turns) for each in traces] == list(map(len, rewards))


@pytest.mark.parametrize("total", [1.01, -0.01, 5.0])
def test_rewards_beyond_their_range_are_refused_with_the_row(total):
    with pytest.raises(GradeError, match=r"^d.jsonl, row 1: the episode's rewards sum to .* from 0 to 1"):
        scaled(PROMPT, (0.0, 1.0), total, [trace(total)])

