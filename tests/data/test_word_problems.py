"""The quickstart's word problems: right by construction, held out by their numbers, solutions as their pupils
write."""
import json
import re

import pytest

from jaxrl_moe.config import DataSection, SftSection
from jaxrl_moe.data import word_problems
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.data.word_problems import STORIES, WordProblem, is_held_out, make_problems, solution
from jaxrl_moe.envs.word_problems import WordProblems
from jaxrl_moe.runs.generated import write_data
from jaxrl_moe.types import Action
from tests.helpers.tiny_models import make_tokenizer


def numbers_in(text):
    return tuple(map(int, re.findall(r"\d+", text)))


def test_the_numbers_of_a_problem_stand_in_its_story_and_give_its_answer():
    for problem in make_problems(400, 3, held_out=False):
        assert numbers_in(problem.question) == problem.numbers
        expression = str(problem.numbers[0])
        for operation, number in zip(problem.operations, problem.numbers[1:]):
            expression = f"({expression} {operation} {number})"
        assert problem.results[-1] == eval(expression) >= 0


def test_every_kind_of_problem_is_drawn_about_as_often_in_both_sets():
    for held_out in (False, True):
        kinds = [problem.operations for problem in make_problems(512, 0, held_out=held_out)]
        assert all(35 <= kinds.count(kind) <= 95 for kind in STORIES), held_out


def test_no_held_out_problem_appears_in_training_under_other_names():
    train = {(p.operations, p.numbers) for seed in (0, 1) for p in make_problems(5000, seed, held_out=False)}
    held_out = {(p.operations, p.numbers) for p in make_problems(512, 0, held_out=True)}
    assert len(held_out) > 200
    assert not train & held_out
    assert all(is_held_out(*key) for key in held_out)


def test_problems_follow_from_the_seed_and_differ_from_each_other():
    problems = make_problems(500, 7, held_out=False)
    assert problems == make_problems(500, 7, held_out=False)
    assert problems != make_problems(500, 8, held_out=False)
    assert len({problem.question for problem in problems}) == 500


def test_a_careful_pupil_follows_the_story_and_a_careless_one_adds():
    problem = WordProblem("", "*-", (3, 4, 5))
    assert solution(problem, careful=True) == "3 * 4 = 12\n12 - 5 = 7\n#### 7"
    assert solution(problem, careful=False) == "3 + 4 = 7\n7 + 5 = 12\n#### 12"


@pytest.mark.parametrize("completion, reward",
                         {"3 * 4 = 12\n#### 12": 1, "#### 12": 1, "#### 12 ": 1, "#### 13": 0, "####12": 0,
                          "12": 0, "#### 12 apples": 0, "#### 1#### 12": 0, "#### 12\n#### 12": 0,
                          "#### 012": 1, "#### -12": 0, "": 0}.items())
def test_the_reward_is_for_the_exact_answer_after_the_first_marker(completion, reward):
    step = WordProblems().grade({"answer": 12}, Action(completion, 9, False))
    assert step.reward == step.info["correct"] == reward


def test_the_files_hold_disjoint_problems_whose_careful_solutions_are_right(tmp_path, monkeypatch):
    for name, count in (("TRAIN_ROWS", 300), ("EVAL_ROWS", 200), ("SFT_ROWS", 600)):
        monkeypatch.setattr(word_problems, name, count)
    write_data("word_problems", tmp_path, 5)
    train, held_out, sft = ([
        json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    ] for name in ("train", "eval", "sft"))
    assert (len(train), len(held_out), len(sft)) == (300, 200, 600)
    seen = {numbers_in(row["prompt"]) + (row["operations"],) for row in train}
    assert not seen & {numbers_in(row["prompt"]) + (row["operations"],) for row in held_out}
    assert 0.2 < sum(row["careful"] for row in sft) / 600 < 0.4
    make_tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    prompts, _ = load_prompts(DataSection(path=str(tmp_path / "train.jsonl")), tokenizer)
    conversations, _ = load_conversations(SftSection(path=str(tmp_path / "sft.jsonl")), tokenizer)
    assert len(prompts) == 300 and len(conversations) == 600
