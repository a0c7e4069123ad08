"""Mathematics as a task: rows, verdicts, and what a comparison may not do."""
import concurrent.futures
import os
import sys

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.math.gold import gold_answer
from jaxrl_moe.types import Action, EnvError, UserError

MATRIX = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"


@pytest.fixture(scope="module")
def task():
    pytest.importorskip("math_verify")
    made = make_task("math(timeout=60, workers=1)")
    yield made
    made.close()


def graded(task, gold, text):
    return task.grade({"answer": gold}, Action(text, 5, False))


def pid_of(task):
    (worker,) = task._pool._alive
    return worker._process.pid


@pytest.mark.parametrize("gold, text", [
    ("34", r"So it is \boxed{34}."), ("34", r"\boxed{34.0}"), ("34", "The answer is 34."), ("34", "$x = 34$"),
    (r"\frac{1}{2}", r"\boxed{0.5}"), (r"\frac12", r"\boxed{\frac{2}{4}}"), ("0.5", r"\boxed{1/2}"),
    (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt{2}}}"), ("3\\pi", r"\boxed{\pi \cdot 3}"),
    ("x^2+2x+1", r"\boxed{(x+1)^2}"), ("(1,2]", r"\boxed{(1, 2]}"), ("[0,\\infty)", r"\boxed{[0, \infty)}"),
    (r"(-\infty,1)\cup(2,3)", r"\boxed{(2,3) \cup (-\infty, 1)}"), (r"\{1,2\}", r"\boxed{\{2,1\}}"),
    ("1,2", r"\boxed{2, 1}"), ("(1,2)", r"\boxed{(1,2)}"), (MATRIX, rf"\boxed{{{MATRIX.replace('p', 'b')}}}"),
    ("x=5", r"\boxed{5}"), ("1234", r"\boxed{1,234}"), (r"90^\circ", r"\boxed{90}"),
    ("3", r"\boxed{3 \text{ cm}}"), (r"\text{Tuesday}", r"\boxed{Tuesday}"), (r"\text{(C)}", r"\boxed{C}"),
    ("2+3i", r"\boxed{3i+2}"), ("6", r"\boxed{5}, or rather \boxed{6}"), (r"\boxed{7}", r"\boxed{7}"),
    ("7", r"<think>\boxed{8}</think> \boxed{7}"), ("$7$", r"\boxed{7}"), (7, r"\boxed{7}")])
def test_the_same_mathematics_in_another_form_is_right(task, gold, text):
    step = graded(task, gold, text)
    assert step.reward == 1 and step.done
    assert step.info == {"correct": 1, "answered": 1, "timed_out": 0, "failed": 0}


@pytest.mark.parametrize("gold, text", [
    ("34", r"\boxed{35}"), ("34", "The answer is 35."), (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}"),
    ("(1,2]", r"\boxed{(1,2)}"), ("(1,2)", r"\boxed{(2,1)}"), (r"\{1,2\}", r"\boxed{\{1,2,3\}}"),
    (MATRIX, rf"\boxed{{{MATRIX.replace('4', '5')}}}"), (r"\text{Tuesday}", r"\boxed{Friday}"),
    ("5", r"\boxed{5}, or rather \boxed{6}"), ("x+1", r"\boxed{x-1}"),
    ("7", r"<think>\boxed{7}</think> \boxed{8}"),
    ("0.333", r"\boxed{\frac{1}{3}}"), (r"\sqrt{2}", r"\boxed{2}")])
def test_other_mathematics_is_wrong(task, gold, text):
    step = graded(task, gold, text)
    assert step.reward == 0 and step.info == {"correct": 0, "answered": 1, "timed_out": 0, "failed": 0}


@pytest.mark.parametrize("text", ["", " \n", "I do not know.", r"\boxed{}", r"<think>\boxed{34}",
                                  r"\boxed{" + "1" * 1001 + "}", "\ud800\x00"])
def test_no_answer_is_told_from_a_wrong_one(task, text):
    assert graded(task, "34", text).info == dict.fromkeys(("correct", "answered", "timed_out", "failed"), 0)


def test_an_answer_counts_in_a_box_alone_where_that_is_asked_for():
    step = graded(make_task("math(boxed=true)"), "34", "The answer is 34.")
    assert step.reward == 0 and step.info["answered"] == 0
    assert graded(make_task("math(boxed=true)"), "34", r"\boxed{34}").reward == 1


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}", pytest.param("(10^7)!", marks=pytest.mark.slow),
                                    pytest.param("10^{10^{10}}", marks=pytest.mark.slow),
                                    pytest.param("2^{2^{40}}", marks=pytest.mark.slow),
                                    pytest.param("(" * 400 + "5" + ")" * 400, marks=pytest.mark.slow),
                                    pytest.param(r"\int_0^1 e^{x^{x^x}} dx", marks=pytest.mark.slow)])
def test_an_endless_comparison_is_killed_and_the_next_is_made_by_another_process(answer):
    pytest.importorskip("math_verify")
    task = make_task("math(timeout=1, workers=1)")
    assert graded(task, "34", r"\boxed{35}").info["timed_out"] in (0, 1)  # 1 on a machine that is very busy
    before = pid_of(task) if task._pool._alive else None
    assert graded(task, "5", rf"\boxed{{{answer}}}").info == {
        "correct": 0, "answered": 1, "timed_out": 1, "failed": 0}
    assert not task._pool._alive
    task.timeout = 60.0
    assert graded(task, "34", r"\boxed{34.0}").reward == 1 and pid_of(task) != before
    after = pid_of(task)
    task.close()
    task.close()
    with pytest.raises(ProcessLookupError):
        os.kill(after, 0)


def test_memory_is_bounded_and_a_killed_process_is_told(task):
    graded(task, "34", r"\boxed{35}")
    with open(f"/proc/{pid_of(task)}/limits") as file:
        limits = dict((line[:26].strip(), line[26:].split()[0]) for line in file)
    assert int(limits["Max address space"]) == 1024 * 2**20
    assert 60 < int(limits["Max cpu time"]) < 600
    os.kill(pid_of(task), 9)
    assert graded(task, "34", r"\boxed{35}").info["failed"] == 1
    assert graded(task, "34", r"\boxed{34.0}").reward == 1


def test_many_threads_are_graded_alike(task):
    def grade(number):
        return graded(task, str(number), rf"\boxed{{{number}.0}}").reward, graded(task, "5", "$6$").reward

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert list(threads.map(grade, range(12))) == [(1.0, 0.0)] * 12


@pytest.mark.parametrize("row, gold", [
    ({"prompt": [], "reward_model": {"ground_truth": "34", "style": "rule"}, "solution": "34"}, "34"),
    ({"reward_spec": {"ground_truth": 34}}, "34"), ({"problem": "?", "answer": "204"}, "204"),
    ({"Problem": "?", "Answer": 204, "Solution": "long"}, "204"), ({"answer": 0}, "0"),
    ({"answer": 0.5}, "0.5"),
    ({"solution": r"First \boxed{1}, then \boxed{\frac{1}{2}}."}, r"\frac{1}{2}"),
    ({"answer": r"$\boxed{x}$", "solution": r"\boxed{y}"}, "x")])
def test_the_answer_of_a_row_stands_in_the_columns_of_its_data_set(row, gold):
    make_task("math").check_row(row, 0)
    assert gold_answer(row) == gold


@pytest.mark.parametrize("row", [{}, {"answer": ""}, {"answer": None}, {"answer": True}, {"answer": ["1"]},
                                 {"solution": "no box"}, {"solution": r"\boxed{}"}, {"reward_model": "34"},
                                 {"reward_model": {"ground_truth": None}}, {"answer": " $$ "}])
def test_a_row_without_an_answer_is_refused(row):
    with pytest.raises(UserError, match="no answer: reward_model.ground_truth, answer, or"):
        make_task("math").check_row(row, 0)


@pytest.mark.parametrize("settings, told", [
    ("timeout=0", "timeout = 0"), ("workers=0", "workers = 0 is out"), ("memory=10", "at least 256")])
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        make_task(f"math({settings})")


def test_an_absent_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UserError, match=r"pip install 'jaxrl-moe\[math\]'"):
        make_task("math").ready()


def test_a_process_that_cannot_be_started_says_nothing_of_the_policy(monkeypatch):
    pytest.importorskip("math_verify")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(EnvError, match="cannot be started"):
        graded(make_task("math"), "34", r"\boxed{35}")
