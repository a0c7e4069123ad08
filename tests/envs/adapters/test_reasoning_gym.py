"""Puzzles of reasoning-gym, by the real package."""
import contextlib
import json
import pathlib
import subprocess

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.adapters.reasoning_gym import stated_answer
from jaxrl_moe.envs.adapters.task import WORKERS
from jaxrl_moe.envs.package_workers import inside
from jaxrl_moe.types import UserError
from tests.helpers.adapters import played, python_of_adapter, said

ANSWERS = """
import json, sys
import reasoning_gym
from reasoning_gym.factory import DATASETS
sys.path += {folders!r}
from adapter_reasoning_gym import is_exact, score
names = {names} or sorted(DATASETS)
told = dict()
for name in names:
    if name == "composite":
        continue
    data = reasoning_gym.create_dataset(name, seed=3, size=20)
    results = []
    for number in range(3):
        entry = data[number]
        gold = entry["answer"] or ""
        scores = []
        for answer in (gold, gold + "x", "I do not know", "__import__('os').system('touch pwned')"):
            value, failed = score(name, data, answer, entry, 20.0)
            scores.append([is_exact(name, value, answer, entry), failed])
        stated = bool(gold) and "Integral(" not in gold  # an integral that says but itself is no answer
        results.append(dict(stated=stated, scores=scores))
    told[name] = results
print("\\nTOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def python():
    return python_of_adapter("reasoning-gym")


def task(dataset, **settings):
    settings = {"dataset": dataset, "workers": 1, **settings}
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return contextlib.closing(make_task(f"reasoning_gym({given})"))


def scored(python, names, folder):
    """{data set: scores of its own answers, these with a letter more, none and code}."""
    folders = [str(WORKERS), str(pathlib.Path(inside.__file__).parent)]  # as the guard has them
    script = ANSWERS.format(folders=folders, names=names)
    done = subprocess.run([python, "-P", "-c", script], capture_output=True, text=True, check=True,
                          cwd=folder)
    return json.loads(done.stdout.rpartition("TOLD")[2].split("\n")[0])  # scorers print too


def check(told, folder):
    for name, results in told.items():
        for result in results:
            gold, longer, none, code = result["scores"]
            assert gold == [True, ""] or not result["stated"], name
            assert not none[0] and not code[0], name
    assert list(folder.iterdir()) == []  # the code did not run
    return {name for name, results in told.items() for result in results if result["scores"][1][0]}


def test_only_an_exact_answer_is_rewarded(python):
    with task("basic_arithmetic", options='{"min_terms": 2, "max_terms": 2}') as puzzles:
        (asked,), (right,) = played(puzzles, {"id": 1}, said("?"))
        question = asked["content"].rstrip(".").removeprefix("Calculate ")
        gold = eval(question)  # of the package's own making: an oracle of two terms
        answers = {f"<answer>{gold}</answer>": 1.0, f"It is <answer>{gold}x</answer>": 0.0, f"{gold}": 1.0,
                   f"<think>{gold}</think>": 0.0, "": 0.0}
        for answer, reward in answers.items():
            _, (step,) = played(puzzles, {"id": 1}, said(answer))
            assert (step.reward, step.info["correct"], step.done) == (reward, reward, True), answer
        _, (step,) = played(puzzles, {"id": 1}, said(f"<answer>{gold}x</answer>"))
        assert step.info["score"] == pytest.approx(len(str(gold)) / (len(str(gold)) + 1))


def test_code_of_the_policy_does_not_run(python, tmp_path):
    mark = tmp_path / "pwned"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    for dataset in ("n_queens", "countdown", "polynomial_multiplication"):
        with task(dataset) as puzzles:
            _, (step,) = played(puzzles, {"id": 0}, said(f"<answer>{code}</answer>"))
            assert (step.reward, step.info["valid"], step.notes) == (0.0, 0.0, {"scoring": "refused"})
    assert not mark.exists()


def test_the_scorers_that_evaluate_take_their_own_answers_and_no_code(python, tmp_path):
    names = ["string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "simple_integration",
             "intermediate_integration", "polynomial_multiplication", "puzzle24", "countdown", "coin_flip"]
    told = scored(python, names, tmp_path)
    assert told.keys() == set(names) and check(told, tmp_path) == set()


@pytest.mark.slow
def test_every_data_set_takes_its_own_answers_and_runs_no_code(python, tmp_path):
    told = scored(python, [], tmp_path)
    assert len(told) == 105
    print("exact with a letter more:", sorted(check(told, tmp_path)))


def test_a_puzzle_of_24_needs_the_numbers_that_were_given(python):
    with task("puzzle24") as puzzles:
        _, (step,) = played(puzzles, {"id": 0}, said("<answer>6*4*1*1</answer>"))
        assert step.reward == 0.0


def test_the_same_number_is_the_same_puzzle_in_any_worker(python):
    openings = []
    for _ in range(2):
        with task("chain_sum", seed=5) as puzzles:
            openings.append([played(puzzles, {"id": number})[0] for number in (0, 7)])
    assert openings[0] == openings[1] and openings[0][0] != openings[0][1]


@pytest.mark.parametrize("dataset, settings, told", [
    ("no_such", {}, "has no data set 'no_such'"),
    ("chain_sum", {"options": '{"min_terms": 9, "max_terms": 2}'}, "refuses options"),
    ("chain_sum", {"options": '{"colour": 1}'}, "refuses options")])
def test_what_the_package_refuses_is_told_before_the_run(python, dataset, settings, told):
    with task(dataset, **settings) as puzzles, pytest.raises(UserError, match=told):
        puzzles.ready()


def test_wrong_settings_and_rows_are_refused():
    for settings, told in (("size=0", "size = 0"), ("options='{\"seed\": 1}'", "has seed"),
                           ("scoring=99", "scoring = 99")):
        with pytest.raises(UserError, match=told):
            make_task(f"reasoning_gym(dataset='chain_sum', {settings})")
    with pytest.raises(UserError, match="from 0 to 9"):
        make_task("reasoning_gym(dataset='chain_sum', size=10)").check_row({"id": 10}, 0)


def test_the_answer_is_the_last_that_is_marked():
    several = "<think><answer>1</answer></think> <answer>2</answer> or <answer> 3\n</answer>"
    assert stated_answer(several) == "3"
    assert stated_answer("  7 \n") == "7" and stated_answer("<answer></answer>") == ""
