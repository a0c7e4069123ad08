"""From verdicts to advantages, through the loop's own parts: what is fast is learnt from, however large its
reward."""
import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection, EpisodesSection
from jaxrl_moe.envs.kernels.task import TritonKernels
from jaxrl_moe.learning.credit.advantages import with_advantages
from jaxrl_moe.learning.samples import from_groups
from jaxrl_moe.rollout.collect import collect
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.types import Action, EnvError, Prompt, SamplingParams, Status
from tests.helpers.kernels import BROKEN, PROBLEM, RIGHT, WRONG, code, judged_by, timed
from tests.helpers.scripted_engine import ScriptedEngine

ROW = {"label": PROBLEM, "prompt": [{"role": "user", "content": "5"}]}
PROMPT = Prompt(np.array([5], np.int32), ROW, 0, messages=tuple(ROW["prompt"]))


class BySample:
    """A judge that gives each sample, told by the length of what it wrote, the verdicts of its own in
    order."""

    def __init__(self, *verdicts):
        self._left = {f"attempt = {length}\n": list(each) for length, each in enumerate(verdicts, 1)}

    def verdict(self, problem, source, seed):
        given = self._left[source].pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def close(self):
        pass


class Talk:
    """Turns are code that says how many tokens were drawn."""

    def prompt(self, messages):
        return np.array([len(messages)], np.int32)

    def assistant(self, ids, truncated, begun=""):
        action = Action(code(f"attempt = {len(ids)}").text, len(ids), truncated)
        return _Said({"role": "assistant", "content": action.text}, action)

    def next_prompt(self, context, messages, drawn, observation):
        bridge = np.array([-1], np.int32)
        return _Shown(np.concatenate([context, bridge]), bridge)


class _Said:
    def __init__(self, message, action):
        self.message = message
        self.action = action


class _Shown:
    def __init__(self, ids, bridge):
        self.ids = ids
        self.bridge = bridge


def group_of(*verdicts, **settings):
    """The group whose episodes have these verdicts."""
    engine = ScriptedEngine(lambda sequence, sample: sample + 1)
    engine.publish(None, 0)
    task = judged_by(TritonKernels(**settings), BySample(*verdicts))
    episodes = Episodes(task, str, graders=4, settings=EpisodesSection(), talk=lambda *_: Talk())
    (group,) = collect([PROMPT], episodes, engine, SamplingParams(8, n=len(verdicts)), 0)
    return group


def advantages(group, returns, gamma=0.4):
    section = AlgorithmSection(returns=returns, turn_gamma=gamma)
    return with_advantages(from_groups([group], section), "dr_grpo")


def test_a_reward_of_2_3_reaches_the_advantages_as_it_is():
    group = group_of([timed(5.0)], [WRONG, BROKEN, WRONG])
    assert [rollout.reward for rollout in group.rollouts] == pytest.approx([2.3, 0.2])
    first, second = advantages(group, "trajectory")
    returns = np.array([2.3, 0.1 + 0.4 * 0.0 + 0.16 * 0.1])
    np.testing.assert_allclose([first.advantages_T[-1], second.advantages_T[-1]], returns - returns.mean(),
                               rtol=1e-5)
    assert group.trusted and all(rollout.status == Status.FINISHED for rollout in group.rollouts)


def test_a_trajectory_is_one_return_and_turns_have_each_their_own():
    group = group_of([BROKEN, timed(1.5), timed(2.5)], [WRONG, RIGHT])
    rewards = [[0.0, 0.8, 1.8], [0.1, 0.3]]
    assert [[turn.reward for turn in rollout.turns] for rollout in group.rollouts] == [
        pytest.approx(each) for each in rewards]
    whole = np.array([0.4 * 0.8 + 0.16 * 1.8, 0.1 + 0.4 * 0.3])
    got = [sample.reward for sample in advantages(group, "trajectory")]
    np.testing.assert_allclose(got, whole, rtol=1e-6)
    each = [0.4 * (0.8 + 0.4 * 1.8), 0.8 + 0.4 * 1.8, 1.8, 0.1 + 0.4 * 0.3, 0.3]
    np.testing.assert_allclose([sample.reward for sample in advantages(group, "turns")], each, rtol=1e-6)


def test_a_judge_that_fails_once_costs_a_try_and_no_reward():
    failing = EnvError(Status.STEP_FAILED, "the server is away")
    group = group_of([failing, RIGHT], [WRONG, failing, WRONG, RIGHT])
    assert [rollout.reward for rollout in group.rollouts] == pytest.approx([0.3, 0.4]) and group.trusted


def test_a_judge_that_always_fails_leaves_a_group_that_nothing_is_learnt_from():
    failing = [EnvError(Status.STEP_FAILED, "the server is away")] * 9
    group = group_of(failing, [RIGHT])
    assert not group.trusted
    failed = [rollout.status for rollout in group.rollouts if not rollout.status.trusted]
    assert failed == [Status.STEP_FAILED]
