"""The word problems' strict form: the number alone after the first ####."""
import pytest

from jaxrl_moe.envs.word_problems import WordProblems
from jaxrl_moe.types import Action, UserError


@pytest.mark.parametrize("completion, reward", {
    "#### 12": 1, "<think>#### 3</think>#### 12": 1, "#### 3</think>#### 12": 1, "<think>#### 12": 0,
    "#### 12.": 0, "#### 3 #### 12": 0, "#### 012": 1, "#### １２": 0, "#### " + "9" * 5000: 0}.items())
def test_the_first_hashes_after_the_thinking_count(completion, reward):
    assert WordProblems().grade({"answer": 12}, Action(completion, 9, False)).reward == reward


@pytest.mark.parametrize("gold", [True, 12.0, "12", None, [12]])
def test_a_gold_that_is_no_integer_is_refused(gold):
    with pytest.raises(UserError, match="integer `answer`"):
        WordProblems().check_row({"answer": gold}, 0)
