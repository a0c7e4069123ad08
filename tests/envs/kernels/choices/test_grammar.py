"""The reduced grammar: what an answer chooses, what NumPy says of it, and that the judge says the same."""
import itertools
import json

import numpy as np
import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.kernels import problem_files
from jaxrl_moe.envs.kernels.choices import rows
from jaxrl_moe.envs.kernels.choices.grammar import (
    PROBLEMS,
    SLOTS,
    ChoiceError,
    RowProblem,
    chosen,
    said,
    source,
)
from jaxrl_moe.envs.kernels.choices.predicted import predicted
from jaxrl_moe.envs.kernels.choices.task import TritonChoices
from jaxrl_moe.envs.kernels.verdicts.static import refusals
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from jaxrl_moe.types import Action
from tests.helpers.kernels import RIGHT, ScriptedJudge, judged_by

SUM = {"map": "same", "fold": "sum", "other": "0", "bound": "columns", "type": "float32", "block": "power"}
MAXIMUM = RowProblem("exp", "max")


def test_an_answer_chooses_each_slot_once_in_any_order_after_its_thoughts():
    assert chosen(said(SUM)) == SUM
    words = said(SUM).split()
    assert chosen("<think>map=abs</think> I choose " + " ".join(reversed(words))) == SUM
    for wrong, why in (("", "map is chosen 0 times"), (said(SUM) + " map=abs", "map is chosen 2 times"),
                       (said(SUM).replace("fold=sum", "fold=mean"), "fold is one of sum, max, min"),
                       (said(SUM) + " speed=high", "nothing to choose but map"),
                       ("<think>" + said(SUM), "map is chosen 0 times")):
        with pytest.raises(ChoiceError, match=why):
            chosen(wrong)


def test_every_choice_is_a_source_that_may_be_run_and_no_two_are_the_same():
    sources = {source(dict(zip(SLOTS, options))) for options in itertools.product(*SLOTS.values())}
    assert len(sources) == np.prod([len(options) for options in SLOTS.values()])
    assert not any(refusals(each) for each in sorted(sources)[::97])


def test_every_problem_is_a_file_whose_reference_numpy_computes_too():
    names = {problem.name for problem in PROBLEMS}
    assert len(names) == len(PROBLEMS) == 15 == len({problem.words for problem in PROBLEMS})
    for problem in PROBLEMS:
        assert len(problem_files.read(problem.reference).sizes) == 3


@pytest.mark.parametrize("problem, changed, fault", [
    (RowProblem("same", "sum"), {}, None),
    (RowProblem("same", "sum"), {"other": "inf"}, "mismatch"),
    (RowProblem("exp", "sum"), {"map": "exp"}, "mismatch"),
    (RowProblem("exp", "sum"), {"map": "exp", "other": "-inf"}, None),
    (RowProblem("negative", "max"), {"map": "negative", "fold": "max", "other": "inf"}, None),
    (RowProblem("abs", "max"), {"map": "abs", "fold": "max", "other": "0"}, None),
    (RowProblem("abs", "min"), {"map": "abs", "fold": "min", "other": "-inf"}, None),
    (RowProblem("same", "sum"), {"bound": "less"}, "mismatch"),
    (RowProblem("same", "sum"), {"type": "float16"}, "mismatch"),
    (RowProblem("exp", "sum"), {"map": "exp", "type": "float16"}, "not_compiled"),
    (RowProblem("same", "sum"), {"block": "columns"}, "not_compiled"),
    (RowProblem("same", "sum"), {"block": "cdiv"}, "raised"),
    (RowProblem("abs", "sum"), {}, "mismatch")])
def test_right_choices_are_right_kernels_and_wrong_ones_fail_each_in_its_way(problem, changed, fault):
    verdict = predicted(problem, SUM | changed, np.random.default_rng(0))
    assert verdict.fault == fault and verdict.correct == (fault is None)


def test_each_problem_has_a_right_choice_and_chance_seldom_finds_it():
    rng = np.random.default_rng(1)
    draw = [dict(zip(SLOTS, options)) for options in itertools.product(*SLOTS.values())][::7]
    for problem in PROBLEMS:
        best = {**SUM, **problem._asdict()}
        assert any(predicted(problem, best | {"other": other}, rng).correct for other in SLOTS["other"])
    found = [predicted(problem, choice, rng).correct for problem in PROBLEMS[::3] for choice in draw]
    assert 0 < np.mean(found) < 0.02


def test_held_out_problems_are_none_of_those_that_are_learnt_and_the_task_takes_all():
    made = rows.make_rows(0, conversations=50)
    train, test = ({row["instance_id"] for row in made[part]} for part in ("train", "eval"))
    assert len(train) == 12 and len(test) == 3 and not train & test
    task = make_task("triton_choices")
    for row in [*made["train"], *made["eval"]]:
        task.check_row(row, 0)
    asked = {row["messages"][0]["content"] for row in made["sft"]}
    assert asked <= {row["prompt"][0]["content"] for row in made["train"]}


def test_pupils_are_seldom_right_at_first_and_more_often_once_they_were_told():
    made = rows.make_rows(0, conversations=1000)["sft"]
    attempts = [len(row["messages"]) // 2 for row in made]
    assert 0.1 < attempts.count(1) / len(made) < 0.35 and max(attempts) == 3
    assert json.dumps(made) == json.dumps(rows.make_rows(0, conversations=1000)["sft"])
    assert json.dumps(made) != json.dumps(rows.make_rows(1, conversations=1000)["sft"])


def test_an_episode_judges_the_whole_source_that_was_chosen_and_says_what_is_no_choice():
    judge = ScriptedJudge(RIGHT)
    env = judged_by(TritonChoices(), judge).open(rows.row(MAXIMUM), 0)
    assert env.reset() == ()
    step = env.step(Action("map=exp", 3, False))
    assert step.reward == 0 and "fold is chosen 0 times" in step.observation[0]["content"]
    assert env.step(Action(said(SUM), 9, False)).reward == 0.3
    problem, judged, _ = judge.asked[0]
    assert judged == source(SUM) and isinstance(problem, Judged) and "amax" in problem.source


def test_what_pupils_are_told_is_what_an_episode_says():
    made = rows.make_rows(0, conversations=200)["sft"]
    later = [message for row in made for message in row["messages"][1:]]
    told = {message["content"] for message in later if message["role"] == "user"}
    assert told and all(text.endswith(rows.AGAIN) and len(text) < 200 for text in told)
    assert TritonChoices().again == rows.AGAIN and TritonChoices().feedback_chars == rows.FEEDBACK_CHARS


@pytest.mark.slow
def test_the_judge_says_of_choices_what_numpy_says_and_its_words_are_those_that_pupils_are_told():
    judging = pytest.importorskip("jaxrl_moe.envs.kernels.verdicts.pool")
    pytest.importorskip("triton")
    rng = np.random.default_rng(2)
    with_one_wrong = [(problem, {**SUM, **problem._asdict(), slot: option})
                      for problem in PROBLEMS[::2] for slot in SLOTS for option in SLOTS[slot]]
    pool = judging.Pool(1)
    try:
        for problem, choice in with_one_wrong:
            verdict = pool.verdict(Judged(problem.reference, problem_files.read(problem.reference).sizes),
                                   source(choice), 42)
            expected = predicted(problem, choice, rng)
            where = problem.name, choice, verdict
            assert (verdict.correct, verdict.compiled) == (expected.correct, expected.compiled), where
            assert verdict.fault == expected.fault, where
            assert verdict.message[:20] == expected.message[:20], where
            assert verdict.fault != Fault.RAISED or verdict.message.strip() == expected.message.strip()
    finally:
        pool.close()
