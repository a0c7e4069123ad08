"""A grade is checked where it arrives, and what is wrong with it is told with the row and the task."""
import contextlib
import dataclasses
import fractions

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.types import Prompt, Step, UserError
from tests.helpers.scripted_engine import ScriptedEngine, graded, make, train


class Odd(Task):
    """Its episodes of row 3 say what it is told to; those of others are graded 1."""
    concurrent = True
    deterministic = True

    def __init__(self, say, part="step"):
        self.say = say
        self.part = part

    def check_row(self, row, index):
        pass

    def open(self, row, seed):
        return self.said("open", row, OddEnv(self, row))

    def said(self, part, row, usual):
        if part != self.part or row["index"] != 3:
            return usual
        if isinstance(self.say, BaseException):
            raise self.say
        return self.say

    def close(self):
        pass


class OddEnv(Env):
    def __init__(self, task, row):
        self.task = task
        self.row = row

    def reset(self):
        return self.task.said("reset", self.row, ())

    def step(self, action):
        return self.task.said("step", self.row, Step(1.0))

    def close(self):
        self.task.said("close", self.row, None)


PROMPTS = [Prompt(np.zeros(1, np.int32), {"index": index}, index, f"train.jsonl, row {index + 1}")
           for index in range(5)]

def ask(task, graders=1):
    return graded(task, PROMPTS, graders=graders)


@pytest.mark.parametrize("reward, value", [
    (1, 1.0), (True, 1.0), (False, 0.0), (-0.5, -0.5), (np.float32(0.5), 0.5), (np.int64(2), 2.0),
    (np.bool_(True), 1.0),
    (np.array(0.5), 0.5), (jnp.float32(0.5), 0.5), (fractions.Fraction(1, 4), 0.25), (-0.0, 0.0), (1e38,
                                                                                                   1e38)])
def test_a_reward_may_be_any_kind_of_number(reward, value):
    rollout = ask(Odd(Step(reward, info={"n": reward})))[3].rollouts[0]
    assert rollout.reward == value and rollout.info == {"n": value}
    assert type(rollout.reward) is type(rollout.info["n"]) is float


NO_NUMBERS = [None, "1", "", [1.0], (1.0,), {}, float("nan"), float("inf"), -float("inf"),
              np.float32("nan"), 1e39,
              10**400, 1j, np.array([1.0]), np.array("1"), object, jnp.nan]


@pytest.mark.parametrize("graders", [1, 4])
@pytest.mark.parametrize("reward", NO_NUMBERS, ids=repr)
def test_a_reward_that_is_no_finite_number_names_row_and_task(reward, graders):
    told = (r"^train.jsonl, row 4: the task .*test_grades:Odd gives a reward of .*, which is no finite "
            "number .*: return one")
    with pytest.raises(GradeError, match=told):
        ask(Odd(Step(reward)), graders=graders)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_a_number_of_info_that_is_none_is_named(value):
    told = r"^train.jsonl, row 4: .* gives info\['correct'\] of .*no finite number"
    with pytest.raises(GradeError, match=told):
        ask(Odd(Step(1.0, info={"correct": value})))


@pytest.mark.parametrize("step, told", [
    (None, "answers with None: let step"),
    (1.0, "answers with 1.0"),
    ((None, 1.0, True, False), r"answers with \(None, 1.0, True, False\) \(tuple\): let step\(\) return a "
     "jaxrl_moe.types.Step"),
    (dataclasses.replace(Step(1.0), done="false"), r"done = 'false' \(str\): make it True or False"),
    (Step(1.0, done=None), "done = None"),
    (Step(1.0, info=None), "info = None: make it a mapping"),
    (Step(1.0, info=[("a", 1)]), "info = .*list"),
    (Step(1.0, info={1: 1.0}), "info = "),
    (Step(1.0, achieved="sword"), "achieved = 'sword' .*make it a tuple"),
    (Step(1.0, achieved=(1,)), "achieved = "),
    (Step(1.0, notes={"judge": 3}), "notes = .*a mapping of names to texts"),
    (Step(1.0, notes="good"), "notes = 'good' .*a mapping of names to texts"),
    (Step(1.0, done=False), "goes on after the first completion"),
    (Step("x" * 500), "xxx\\.\\.\\. \\(str\\), which")])
def test_a_step_that_is_none_is_told_with_its_mend(step, told):
    with pytest.raises(GradeError, match=rf"^train.jsonl, row 4: the task \S+:Odd .*{told}"):
        ask(Odd(step))


@pytest.mark.parametrize("part, say, told", [
    ("open", None, r"opens None, which has no reset\(\)"),
    ("reset", None, r"begins an episode with None: let reset\(\) return messages, \(\) for none"),
    ("reset", "go", "begins an episode with 'go'"),
    ("reset", np.zeros(3), "begins an episode with array"),
    ("reset", ("go",), "begins an episode with "),
    *[(part, KeyError("gold"), r"broke: KeyError: 'gold' \(test_grades.py, line \d+\). Mend the task")
      for part in ("open", "reset", "step", "close")],
    ("step", StopIteration(), "broke: StopIteration"),
    ("step", UserError("The row lacks a gold."), "refuses it: The row lacks a gold.$")])
def test_an_environment_that_breaks_is_told_with_row_and_task(part, say, told):
    with pytest.raises(GradeError, match=rf"^train.jsonl, row 4: the task \S+:Odd {told}") as raised:
        ask(Odd(say, part))
    assert not isinstance(say, Exception) or raised.value.__cause__ is say
    assert "\n" not in str(raised.value)


def test_an_interrupt_passes_as_it_is():
    with pytest.raises(KeyboardInterrupt):
        ask(Odd(KeyboardInterrupt()))


@pytest.mark.parametrize("say", [Step(None), Step(float("nan")), KeyError("gold")], ids=repr)
def test_a_grade_is_checked_where_rollouts_run_ahead_too(say):
    with contextlib.closing(make(ScriptedEngine(), Rules(2, 1), Odd(say), last=9, graders=3)) as producer:
        with pytest.raises(GradeError, match="^Prompt 3: the task .*:Odd "):
            list(train(producer, 9, hold=False))


def test_a_row_without_a_gold_is_named_while_grading_too():
    prompt = dataclasses.replace(PROMPTS[0], row={"answer": "none"})
    with pytest.raises(GradeError, match="^train.jsonl, row 1: the task jaxrl_moe.envs.gsm8k:Gsm8k .*no gold "
                       "number"):
        graded(make_task("gsm8k"), [prompt])
