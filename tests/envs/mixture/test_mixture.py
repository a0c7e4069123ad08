"""A task that holds several: each row is of one of them, and what is true of all is true of the mixture."""
import dataclasses
from typing import ClassVar

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import check_rows, make_task
from jaxrl_moe.envs.mixture import Mixture
from jaxrl_moe.types import Action, Prompt, UserError
from tests.helpers.games import Guessing

SPEC = "mixed(craft=\"textcraft(recipes='small', max_turns=8)\", rooms='babyai(max_turns=3)', sums='gsm8k')"


@dataclasses.dataclass
class Scored(Guessing):
    """Guessing, with a range of scores below 0 too."""
    score_range: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    concurrent: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    fails: ClassVar[bool] = False
    ended: int = 0

    def ready(self):
        if self.fails:
            raise UserError("There is no Java.")

    def close(self):
        self.ended += 1
        if self.fails:
            raise OSError("it hangs")


class Failing(Scored):
    fails = True


def row(name, **columns):
    return {"env": name, "id": 0, "answer": "#### 3"} | columns


def test_a_row_is_played_by_its_own_task():
    task = make_task(SPEC)
    assert task.envs == ("craft", "rooms", "sums") and task.max_turns == 8
    assert [task.turns_of(row(name)) for name in task.envs] == [8, 3, 1]
    assert type(task.open(row("craft"), 0)).__name__ == "TextCraftEpisode"
    assert type(task.open(row("rooms"), 0)).__name__ == "BabyAIEpisode"
    one = task.open(row("sums"), 0)
    assert one.reset() == () and one.step(Action("#### 3", 4, False)).reward == 1.05
    assert task.instructions(row("craft")) == make_task("textcraft").instructions({}) and (
        task.instructions(row("rooms")) == make_task("babyai").instructions({}))
    assert [task.scaled_from(row(name)) for name in task.envs] == [(0, 1), (0, 1), (-0.05, 1.05)]
    assert (task.score_range, task.lowest_reward, task.deterministic) == ((0, 1), 0, True)


def test_tools_are_those_of_the_row_s_task_alone():
    task = make_task("mixed(calls=\"textcraft(recipes='small', answers='functions')\", words='babyai')")
    assert task.tools(row("calls")) == make_task("textcraft(answers='functions')").tools({}) != ()
    assert task.tools(row("words")) == ()


def test_rewards_as_they_are_have_no_range_but_that_of_all():
    task = make_task(SPEC.replace("mixed(", "mixed(normalise=false, "))
    assert task.score_range == (-0.05, 1.05) and task.lowest_reward == -0.05
    assert task.scaled_from(row("craft")) is None
    unknown = Mixture({"a": Guessing(), "b": Scored()}, normalise=False)
    assert unknown.score_range is None and unknown.lowest_reward == 0


def test_a_mixture_is_only_what_all_its_tasks_are():
    task = Mixture({"a": make_task("babyai"), "b": Scored()})
    assert not task.deterministic and not task.concurrent
    both = make_task("mixed(a='babyai', b='gsm8k')")
    assert both.deterministic and both.concurrent


@pytest.mark.parametrize("values, told", [
    ({}, "d.jsonl, row 3: The row does not say which environment it is of.*craft, rooms, sums in a column"),
    ({"env": "room"}, "row 3: The row has env = 'room'.* Did you mean 'rooms'. It holds craft, rooms, sums"),
    ({"env": ["craft"]}, r"row 3: The row has env = \['craft'\]"), ({"env": 1}, "row 3: The row has env = 1"),
    ({"env": ""}, "row 3: The row has env = ''"),
    ({"env": "craft", "id": -1}, "row 3: A row of textcraft needs"),
    ({"env": "sums", "answer": "?"}, "row 3: A data row has no gold number")])
def test_rows_that_are_of_no_task_or_refused_by_theirs_are_named_with_file_and_row(values, told):
    prompts = [Prompt(None, row("craft"), 0, "d.jsonl, row 2"), Prompt(None, values, 1, "d.jsonl, row 3")]
    with pytest.raises(UserError, match=told):
        check_rows(make_task(SPEC), prompts)


@pytest.mark.parametrize("spec, told", [
    ("mixed()", "A mixture needs tasks"), ("mixed(normalise=true)", "A mixture needs tasks"),
    ("mixed(a=1)", "setting a = 1 must be of type str"),
    ("mixed(normalise='no', a='gsm8k')", "normalise = 'no' must be of type bool"),
    ("mixed(a='agent')", "a cannot be mixed.*agents elsewhere play"),
    ("mixed(a='gsm9k')", "'gsm9k' is not known. Did you mean 'gsm8k'"),
    ("mixed(a='gsm8k(binary=2)')", "binary = 2 must be of type bool"),
    ("mixed(a='gsm8k', a='babyai')", "cannot be read"), ("mixed('gsm8k')", "cannot be read"),
    ("mixed(a=\"mixed(b='gsm8k')\")", "a is a mixture itself"),
    ("mixed(a='tests.helpers.games:Guessing')", "a does not say the range of its scores.*normalise=false")])
def test_what_cannot_be_mixed_is_refused(spec, told):
    with pytest.raises(ConfigError, match=told):
        make_task(spec)


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_that_is_none_is_refused(bounds):
    task = Scored()
    task.score_range = bounds
    with pytest.raises(UserError, match="a says that its scores lie from .* which is no range"):
        Mixture({"a": task})
    assert Mixture({"a": task}, normalise=False).envs == ("a",)


def test_whoever_is_not_ready_is_named_and_all_are_closed():
    tasks = {"well": Scored(), "ill": Failing(), "last": Scored()}
    task = Mixture(tasks)
    with pytest.raises(UserError, match="^ill: There is no Java"):
        task.ready()
    with pytest.raises(OSError, match="it hangs"):
        task.close()
    assert [each.ended for each in tasks.values()] == [1, 1, 1]
    Mixture({"well": Scored()}).ready()
