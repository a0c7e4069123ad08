"""What make kills-judged would tell of a run that lost, doubled or changed something."""
import json

import pytest

from benchmarks.judged import checks
from benchmarks.judged.person import opinion
from benchmarks.judged.programs import GROUP, PROMPTS
from jaxrl_moe.judges.rubrics import read_rubrics

RUBRIC = read_rubrics()["agora_text"]


def run():
    """(rows, questions) of a sound run of one step."""
    rows = []
    questions = []
    for number in range(PROMPTS * GROUP):
        text = f"text {number}"
        scores = opinion(RUBRIC, text)
        told = json.dumps([{"question": f"q{number}"}])
        rows.append({"phase": "train", "step": 1, "sequence": number // GROUP, "sample": number % GROUP,
                     "reward": RUBRIC.total(scores), "notes": {"judge_answer": told}})
        questions.append({"id": f"q{number}", "rubric": RUBRIC.plain(), "answers": [{"scores": scores}],
                          "works": [{"turns": [{"text": text}]}]})
    return rows, questions


def test_nothing_is_told_of_a_sound_run():
    assert list(checks.faults(*run(), 1)) == []


def twice(rows, questions):
    questions[0]["answers"] *= 2


def unanswered(rows, questions):
    questions[0]["answers"] = []


def counted_twice(rows, questions):
    rows.append(rows[0])


def lost(rows, questions):
    rows.pop()


def otherwise(rows, questions):
    rows[0]["reward"] += 0.1


def other_scores(rows, questions):
    first = next(iter(questions[0]["answers"][0]["scores"]))
    questions[0]["answers"][0]["scores"][first] = 0.33


@pytest.mark.parametrize("damage, said", [
    (twice, "2 answers"), (unanswered, "0 answers"), (counted_twice, "stands 2 times"),
    (lost, "were trained"), (otherwise, "stands where"), (other_scores, "was said")])
def test_each_fault_is_told(damage, said):
    rows, questions = run()
    damage(rows, questions)
    assert any(said in fault for fault in checks.faults(rows, questions, 1))
