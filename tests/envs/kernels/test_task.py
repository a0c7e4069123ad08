"""The task: rows, settings, episodes, what ends them, and what they tell."""
import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.kernels.feedback import feedback
from jaxrl_moe.envs.kernels.instructions import SYSTEM
from jaxrl_moe.envs.kernels.task import TritonKernels
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.types import Action, EnvError, Status, UserError
from tests.helpers.kernels import (
    BROKEN,
    PROBLEM,
    REFUSED,
    RIGHT,
    WRONG,
    ScriptedJudge,
    code,
    judged_by,
    timed,
)

ROW = {"label": PROBLEM, "prompt": [{"role": "user", "content": "Write."}]}


def played(*verdicts, answers=None, **settings):
    """The steps of an episode with these verdicts."""
    task = judged_by(TritonKernels(**settings), ScriptedJudge(*verdicts))
    env = task.open(ROW, 7)
    env.reset()
    steps = []
    for number, _ in enumerate(answers or verdicts):
        steps.append(env.step(answers[number] if answers else code(f"attempt = {number}")))
        if steps[-1].done:
            break
    task.close()
    return steps


def rewards(steps):
    return [step.reward for step in steps]


def test_turns_are_rewarded_as_the_contract_says_and_a_correct_kernel_that_is_not_timed_ends_the_episode():
    steps = played(BROKEN, WRONG, RIGHT)
    assert rewards(steps) == [0.0, 0.1, 0.3] and [step.done for step in steps] == [False, False, True]
    assert len(played(RIGHT, RIGHT)) == 1 and len(played(WRONG, RIGHT, RIGHT)) == 2


def test_the_last_turn_ends_the_episode_which_is_not_cut():
    steps = played(BROKEN, WRONG, REFUSED, RIGHT)
    assert len(steps) == 3 and steps[-1].done and not steps[-1].truncated and steps[-1].observation == ()
    assert len(played(BROKEN, WRONG, max_turns=1)) == 1


def test_a_timed_kernel_ends_the_episode_at_a_reward_of_1_3_and_a_slower_one_does_not():
    steps = played(timed(1.5), timed(1.99), timed(2.0))
    assert rewards(steps) == pytest.approx([0.8, 1.29, 1.3]) and steps[-1].done
    assert len(played(timed(2.0), RIGHT)) == 1
    assert rewards(played(timed(0.5), timed(3.5), RIGHT)) == pytest.approx([0.3, 2.3])
    assert len(played(timed(1.5), RIGHT, good_speedup=1.5)) == 1


def test_a_speed_up_in_quarantine_pays_for_correctness_only_and_is_counted_and_told():
    steps = played(*[timed(40.0, quarantined=True)] * 3)
    assert rewards(steps) == [0.3] * 3 and steps[-1].info["quarantined"] == 3
    assert steps[-1].info["fast_1"] == 0 and "counts for nothing" in steps[0].observation[0]["content"]


def test_the_same_failure_twice_in_a_row_ends_the_episode_and_another_one_does_not():
    assert len(played(WRONG, WRONG, RIGHT)) == 2
    assert len(played(WRONG, BROKEN, WRONG)) == 3
    assert len(played(WRONG, WRONG, RIGHT, repeated_failures=0)) == 3
    assert len(played(WRONG, WRONG, WRONG, RIGHT, repeated_failures=3, max_turns=5)) == 3
    assert len(played(timed(1.1), timed(1.1), timed(1.1))) == 3  # which is no failure
    blank = Action("I do not know.", 4, False)
    assert len(played(answers=[blank, blank, blank])) == 2


def test_what_is_no_code_is_worth_nothing_and_nobody_judges_it():
    judge = ScriptedJudge()
    env = judged_by(TritonKernels(repeated_failures=0), judge).open(ROW, 0)
    env.reset()
    for text in ("", "no code", "```python\nx = 1", "<think>```python\nx\n```"):
        if text == "<think>```python\nx\n```":
            env = judged_by(TritonKernels(), judge).open(ROW, 0)
            env.reset()
        step = env.step(Action(text, 3, False))
        assert step.reward == 0 and step.info["compiled"] == 0 and "no_code" in step.notes["verdict"]
    assert not judge.asked


def test_what_is_thought_is_no_answer_and_the_last_block_after_it_is():
    judge = ScriptedJudge(RIGHT)
    env = judged_by(TritonKernels(seed=11), judge).open(ROW, 3)
    env.reset()
    env.step(code("after", before="<think>\n```python\nwithin\n```\n</think>\n```python\nbefore\n```\n"))
    assert judge.asked == [(Judged(PROBLEM, ({"ROWS": 3}, {"ROWS": 1})), "after\n", 11)]


def test_an_episode_tells_what_was_correct_by_which_turn_and_what_the_verdict_rests_on():
    steps = played(BROKEN, WRONG, RIGHT)
    assert [step.info["correct"] for step in steps] == [0, 0, 1]
    last = steps[-1].info
    assert [last[f"correct_by_turn_{turn}"] for turn in (1, 2, 3)] == [0, 0, 1]
    assert [last[f"reward_turn_{turn}"] for turn in (1, 2, 3)] == [0, 0.1, 0.3]
    assert (last["basis_interpreter"], last["basis_device"], last["timed"], last["fast_1"]) == (1, 0, 0, 0)
    (only,) = played(timed(2.5))
    assert [only.info[f"correct_by_turn_{turn}"] for turn in (1, 2, 3)] == [1, 1, 1]
    assert "reward_turn_2" not in only.info and (only.info["fast_1"], only.info["fast_2"]) == (1, 1)
    assert (only.info["basis_device"], only.info["timed"]) == (1, 1)
    assert played(REFUSED)[0].info["basis_source"] == 1
    assert played(timed(1.5), WRONG, BROKEN)[-1].info["correct"] == 1


def test_a_long_error_is_cut_and_keeps_its_head_and_its_tail():
    long = WRONG.__class__(WRONG.basis, fault=WRONG.fault, message="HEAD " + "x" * 9000 + " TAIL")
    (step,) = played(long, feedback_chars=100)
    (message,) = step.observation
    assert message["role"] == "user" and len(message["content"]) < 350
    assert "HEAD" in message["content"] and "TAIL" in message["content"] and "..." in message["content"]


def test_a_judge_that_fails_is_no_reward_and_the_turn_may_be_judged_again():
    failing = EnvError(Status.STEP_FAILED, "the server is away")
    env = judged_by(TritonKernels(), ScriptedJudge(failing, RIGHT)).open(ROW, 0)
    env.reset()
    with pytest.raises(EnvError, match="away") as caught:
        env.step(code("x"))
    assert caught.value.status == Status.STEP_FAILED and env.step(code("x")).reward == 0.3


def test_a_row_without_a_prompt_of_its_own_begins_with_the_problem():
    task = judged_by(TritonKernels(), ScriptedJudge())
    assert task.open(ROW, 0).reset() == ()
    (message,) = task.open({"label": PROBLEM}, 0).reset()
    assert "class Model" in message["content"] and "VARIANTS" not in message["content"]
    assert task.instructions(ROW) == SYSTEM


def test_a_row_may_say_its_sizes_and_nulls_of_parquet_are_none():
    judge = ScriptedJudge(RIGHT)
    env = judged_by(TritonKernels(), judge).open(
        {**ROW, "extra_info": {"sizes": [{"ROWS": 9, "COLUMNS": None}]}}, 0)
    env.reset()
    env.step(code("x"))
    assert judge.asked[0][0].sizes == ({"ROWS": 9},)


@pytest.mark.parametrize("row, wrong", [
    ({}, "needs the reference's source in `label`"), ({"label": 3}, "but has 3"), ({"label": " "}, "label"),
    ({"label": "x = 1"}, "0 classes Model"),
    ({"label": PROBLEM, "extra_info": {"sizes": {}}}, "list of mappings"),
    ({"label": PROBLEM, "extra_info": {"sizes": [{"X": 1}]}}, "names 'X'")])
def test_a_row_that_holds_no_problem_is_refused(row, wrong):
    with pytest.raises(UserError, match=wrong):
        TritonKernels().check_row(row, 0)


@pytest.mark.parametrize("settings, wrong", [
    ("max_turns=0", "at least 1"), ("feedback_chars=3", "at least 40"), ("good_speedup=0.5", "at least 1"),
    ("url='ftp://x'", "url"), ("measure=true", "needs the url"), ("trials=0", "at least 1"),
    ("timeout=-1", "at least 0"), ("workers=0", "at least 1"),
    ("url='http://x', api_key_env='NOT_SET_AT_ALL'", "not set")])
def test_settings_out_of_range_are_refused(settings, wrong):
    with pytest.raises(ConfigError, match=wrong):
        make_task(f"triton_kernels({settings})")


def test_the_judge_is_closed_with_the_task_and_once():
    judge = ScriptedJudge()
    task = judged_by(TritonKernels(), judge)
    task.close()
    task.close()
    assert judge.closed == 1


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_words(fault):
    said = feedback(Verdict(Basis.INTERPRETER, fault=fault, message="this happened"), 100)
    assert said.startswith("Your ") and "this happened" in said
