"""The numbers of ScienceWorld's rows are AgentGym's, and rows that name nothing are refused."""
import pytest

from jaxrl_moe.envs.text.sciworld.variations import (
    COUNT,
    NUMBERED,
    TASKS,
    UNNUMBERED,
    Variation,
    numbered,
    row_of,
    split_of,
    tasks_of,
    variation_of,
)
from jaxrl_moe.types import UserError

# AgentGym's server goes through the package's lessons in this order and leaves these out.
LEFT_OUT = ("5-1", "5-2", "9-1", "9-2", "9-3", "10-1", "10-2")


def test_the_numbers_go_through_the_package_s_lessons_as_agentgym_s_server_does():
    constants = pytest.importorskip("scienceworld.constants")
    expected = [(name, number) for lesson, name in constants.ID2TASK.items() if lesson not in LEFT_OUT
                for number in range(TASKS[name])]
    assert [numbered(index) for index in range(COUNT)] == expected and COUNT == 4639
    assert {constants.ID2TASK[lesson] for lesson in LEFT_OUT} == set(UNNUMBERED)
    assert set(constants.ID2TASK.values()) == set(TASKS) == {*NUMBERED, *UNNUMBERED}


def test_every_variation_has_a_row_that_names_it():
    every = [Variation(name, number) for name in TASKS for number in (0, 5, TASKS[name] - 1)]
    assert [variation_of(row_of(variation)) for variation in every] == every
    assert row_of(Variation("boil", 3)) == {"id": 3} and row_of(Variation("melt", 0)) == {"id": 30}
    assert row_of(Variation("grow-plant", 3)) == {"task": "grow-plant", "variation": 3}
    both = {"item_id": "sciworld_31", "task": "melt", "variation": 1}
    assert variation_of(both) == variation_of({"id": 31}) == Variation("melt", 1)


@pytest.mark.parametrize("row, reason", [
    ({}, r"needs the number of an episode in `id`, .* \(columns: none\)"), ({"id": -1}, "has id = -1"),
    ({"id": COUNT}, f"from 0 to {COUNT - 1}"), ({"item_id": "babyai_3"}, "'babyai_3'"),
    ({"id": True}, "has id = True"), ({"id": 1, "task": "boil", "variation": 0}, "boil, 0: leave one"),
    ({"task": "boyl", "variation": 0}, "task = 'boyl' .* Did you mean 'boil'"),
    ({"task": ["boil"], "variation": 0}, "task = .* is none of ScienceWorld's"),
    ({"task": "boil"}, "variation = None is none: boil has those from 0 to 29"),
    ({"task": "boil", "variation": 30}, "variation = 30"), ({"variation": 1}, "task = None"),
    ({"task": "boil", "variation": True}, "variation = True")])
def test_a_row_that_names_no_variation_is_refused(row, reason):
    with pytest.raises(UserError, match=reason):
        variation_of(row)


def test_splits_are_halves_and_last_quarters_and_share_nothing():
    assert split_of("boil", "train") == range(14) and split_of("boil", "test") == range(21, 30)
    for name in TASKS:
        assert not set(split_of(name, "train")) & set(split_of(name, "test"))


def test_tasks_are_named_with_commas_between():
    assert tasks_of("") == tuple(TASKS) and tasks_of(" melt, boil ") == ("melt", "boil")
    with pytest.raises(UserError, match="no task 'melting'.* Did you mean 'melt'"):
        tasks_of("boil,melting")
