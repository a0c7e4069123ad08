"""The GSM8K parser and reward against hand-written expectations, and against every real gold."""
import decimal
import json
import os
import pathlib

import pytest

from jaxrl_moe.envs import check_rows
from jaxrl_moe.envs.answers import final_number
from jaxrl_moe.envs.gsm8k import Gsm8k, gold_number
from jaxrl_moe.envs.numbers import last_number, parse_number
from jaxrl_moe.types import Action, Prompt, UserError

REAL = pathlib.Path(
    os.environ.get("JAXRL_GSM8K") or pathlib.Path(__file__).parents[2] / "../shared/data/gsm8k")
ROW = {"question": "?", "answer": "It is <<1200+34=1234>>1,234.\n#### 1,234"}

NUMBERS = {"72": 72, "1,234": 1234, "$1,234.50": 1234.5, "-7": -7, "-$5": -5, "$-5": -5, "−7": -7, "+3": 3,
           "50%": 50, "3/4": 0.75, "1 1/2": 1.5, "1,000/4": 250, "0.5": 0.5, ".5": 0.5, "$.50": 0.5,
           "1e3": 1000, "1.5E-2": 0.015, "2 x 10^3": 2000, r"1.5 \times 10^{3}": 1500,
           r"2 \cdot 10^{-1}": 0.2, r"\frac{1}{4}": 0.25, r"\dfrac{3}{2}": 1.5, r"-\frac{1}{2}": -0.5,
           r"\frac12": 0.5, r"2\frac{1}{2}": 2.5, r"\text{42}": 42, r"42 \text{ apples}": 42, r"\$18": 18,
           r"50\%": 50, r"1{,}234": 1234, r"12\,345": 12345, r"1,\!000": 1000, "5 m^2": 5,
           r"5\text{ m}^{2}": 5, "2,520,000": 2520000, "16,800,000": 16800000, "10 dollars": 10}
COMPLETIONS = {
    r"So \boxed{12}. Final Answer: 13 #### 14 and 15": 12,
    "Final Answer: 13\n#### 14\nthen 15": 13,
    "#### 14\nthat is, in 15 days": 14,
    "She has 4 and 5, so 9.": 9,
    r"\boxed{1} is wrong, so \boxed{2}": 2,
    r"\boxed{\text{there are } 7}": 7,
    r"\boxed{x = 5}": 5,
    r"\boxed{\frac{3}{4}}": 0.75,
    r"\boxed{\$1,234.00}": 1234,
    r"\boxed 8": 8,
    r"\boxed{12": 12,
    "**Final Answer:** $1,080": 1080,
    "Final Answer:\n\n42 clips in 2 days": 42,
    "The final answer is 42.": 42,
    "final answer: 6 * 7 = 42": 42,
    "I look for the final answer. 3 + 4 = 7": 7,
    "#### Step 1: add\n3 + 4 = 7 and that is it": 7,
    "#### $-5": -5,
    "#### **18**": 18,
    "#### 17x": 17,
    "20 - 5": 5,
    "20-5": 5,
    "It is 72.": 72,
    "no number": None,
    "": None,
    "1/0": None,
    "1e999": None,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_in_any_usual_writing_has_its_value(text):
    assert parse_number(text) == pytest.approx(NUMBERS[text], abs=1e-12)
    assert last_number(f"It costs {text}") is not None


@pytest.mark.parametrize("text", COMPLETIONS)
def test_the_final_number_follows_the_order_boxed_final_answer_hashes_last(text):
    assert final_number(text) == COMPLETIONS[text]


@pytest.mark.parametrize("completion, reward",
                         {"#### 1,234": 1.05, "#### 1234": 1.05, "It is 1234.": 1.0, "#### 234": 0.05,
                          "It is 234": 0.0, r"\boxed{1234}": 1.05, "Final Answer: 1234.0000001": 1.05,
                          "Final Answer: 1234.00001": 0.05, "": 0.0}.items())
def test_the_reward_is_one_for_the_right_number_and_a_bonus_for_a_marker(completion, reward):
    assert Gsm8k().grade(ROW, Action(completion, 10, False)).reward == pytest.approx(reward)


def test_an_over_long_completion_costs_a_twentieth():
    task = Gsm8k(overlong_tokens=20)
    assert task.grade(ROW, Action("#### 1234", 20, False)).reward == pytest.approx(1.05)
    assert task.grade(ROW, Action("#### 1234", 21, False)).reward == pytest.approx(1.0)
    assert task.grade(ROW, Action("It is 1234", 5, True)).reward == pytest.approx(0.95)
    assert task.grade(ROW, Action("no", 5, True)).info == {
        "correct": 0.0,
        "marker": 0.0,
        "overlong": 1.0,
        "answered": 0.0
    }


def test_a_binary_reward_is_one_or_zero_whatever_marker_and_length():
    task = Gsm8k(binary=True)
    assert [task.grade(ROW, Action(text, 5, True)).reward
            for text in ("#### 1234", "1234", "#### 5", "none")] == [1.0, 1.0, 0.0, 0.0]
    assert task.grade(ROW, Action("#### 5", 5, True)).info["overlong"] == 1.0
    with pytest.raises(UserError, match="charges nothing"):
        Gsm8k(overlong_tokens=3, binary=True)


def test_the_gold_may_come_from_a_reward_spec():
    assert gold_number({"reward_spec": {"method": "rule", "ground_truth": "1,080"},
                        "answer": "It is 1080.\n#### 1080.0"}) == 1080
    assert gold_number({"reward_spec": {"ground_truth": "4"}, "answer": "four"}) == 4
    assert gold_number({"reward_spec": {"ground_truth": -7}}) == -7
    assert gold_number({"answer": "12"}) == 12


@pytest.mark.parametrize("answer", ["#### 3", 3, "1,081"])
def test_two_golds_that_differ_are_refused_with_both(answer):
    with pytest.raises(UserError, match=f"ground_truth is '1,080', and its `answer` '?{answer}"):
        gold_number({"reward_spec": {"ground_truth": "1,080"}, "answer": answer})


@pytest.mark.parametrize("gold, value", [
    (7, 7), (7.5, 7.5), ("1,234", 1234), ("#### 7", 7), ("3 #### 7", 7), ("#### 5\n#### 7", 7),
    ("$1,080.00", 1080), ("#### - 7", -7), ("####\u22127", -7), (10**17 + 1, 10**17 + 1), (1e22, 10**22),
    (decimal.Decimal("7.10"), 7.1), (" 7 ", 7), ("7 apples", 7)])
def test_a_gold_is_a_number_or_a_text_that_is_one(gold, value):
    for row in ({"answer": gold}, {"reward_spec": None, "answer": gold},
                {"reward_spec": {"ground_truth": gold}, "answer": "none"},
                {"reward_spec": {"ground_truth": None}, "answer": gold}):
        assert gold_number(row) == pytest.approx(value, abs=0)


def test_numbers_beyond_2_53_differ_by_one():
    row = {"answer": f"#### {10**17}"}
    graded = [Gsm8k(binary=True).grade(row, Action(f"{answer}", 9, False)).reward
              for answer in (10**17, 10**17 + 1, "10^17", "1e17", "1e17 + 1")]
    assert graded == [1, 0, 1, 1, 0]


def test_a_marker_in_what_is_thought_earns_nothing():
    for text, reward in ((r"<think>\boxed{1234}</think>1234", 1.0), (r"<think>\boxed{1234}", 0.0),
                         (r"<think>1</think>\boxed{1234}", 1.05)):
        assert Gsm8k().grade(ROW, Action(text, 9, False)).reward == pytest.approx(reward)


@pytest.mark.parametrize("row", [
    {}, {"answer": "none"}, {"answer": "#### 1 or 2"}, {"reward_spec": {"method": "rule"}},
    *({"answer": gold} for gold in (
        True, None, [7], {"a": 7}, float("nan"), float("inf"), "", "####", "#### ", "nan", "1/0", "3:30",
        "3, 4", "five", "the answer is 7")),
    {"reward_spec": {"ground_truth": ""}, "answer": "#### 7"},
    {"reward_spec": {"ground_truth": ["7"]}, "answer": "#### 7"}])
def test_a_row_without_a_gold_number_is_an_error_that_shows_it(row):
    for completion in ("#### 1", "no number", ""):
        with pytest.raises(UserError, match="no gold number"):
            Gsm8k().grade(row, Action(completion, 3, False))


def test_a_row_that_cannot_be_graded_is_found_before_the_training():
    check_rows(Gsm8k(), [Prompt(None, ROW, 1)])
    with pytest.raises(UserError, match="^eval.jsonl, row 4: .*no gold number"):
        check_rows(Gsm8k(), [Prompt(None, ROW, 1), Prompt(None, {"answer": "none"}, 7, "eval.jsonl, row 4")])
    with pytest.raises(UserError, match="^Prompt 7: .*no gold number"):
        check_rows(Gsm8k(), [Prompt(None, {"answer": "none"}, 7)])


@pytest.mark.skipif(not REAL.is_dir(), reason="no GSM8K files: set JAXRL_GSM8K to the folder of train.jsonl "
                                              "and test.jsonl")
def test_every_real_gold_parses_to_the_official_value_and_grades_its_own_solution_right():
    task = Gsm8k()
    count = 0
    for name in ("train.jsonl", "test.jsonl"):
        for line in (REAL / name).read_text().splitlines():
            row = json.loads(line)
            official = int(row["answer"].split("#### ")[1].replace(",", ""))
            assert gold_number(row) == official == final_number(row["answer"])
            assert task.grade(row, Action(row["answer"], 100, False)).reward == pytest.approx(1.05)
            wrongs = (official + 1, official * 10 + 1, -official - 1, official + 0.01)
            for wrong in wrongs if count % 10 == 0 else wrongs[:1]:
                assert task.grade(row, Action(f"#### {wrong}", 100, False)).reward == pytest.approx(0.05)
            for written in (f"<think>#### {official + 1}</think>\\boxed{{{official:,}}}", f"**{official}.**",
                            f"Final Answer: ${official:,}.00")[:3 * (count % 10 == 0)]:
                assert task.grade(row, Action(written, 100, False)).info["correct"] == 1.0
            count += 1
    assert count == 8792


@pytest.mark.parametrize("row", [{"answer": "a" * 99_999}, {"x" * 99_999: 1}, {
    "answer": "#### 1", "reward_spec": {"ground_truth": "7" * 999}}])
def test_a_long_gold_is_cut_where_it_is_refused(row):
    with pytest.raises(UserError) as refused:
        gold_number(row)
    assert len(str(refused.value)) < 1000
