"""Which episode a data row names."""
import pytest

from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.types import UserError


@pytest.mark.parametrize("row, number", [
    ({"id": 12}, 12), ({"item_id": "babyai_12"}, 12), ({"id": None, "item_id": "babyai_0"}, 0),
    ({"id": 7, "item_id": "babyai_7", "other": 1}, 7), ({"id": 2**31 - 1}, 2**31 - 1)])
def test_a_row_names_its_episode_by_number_or_as_agentgym_does(row, number):
    assert episode_number(row, "babyai") == number


@pytest.mark.parametrize("row, told", [
    ({}, "neither .columns: none"), ({"id": None, "prompt": "x"}, "neither .columns: id, prompt"),
    ({"id": -1}, "id = -1"), ({"id": True}, "id = True"), ({"id": "12"}, "id = '12'"),
    ({"id": "babyai_12"}, "id = 'babyai_12'"), ({"id": 1.0}, "id = 1.0"), ({"id": [12]}, r"id = \[12\]"),
    ({"id": 2**31}, "id = 2147483648"), ({"id": 10**100}, "id = 1000"),
    ({"item_id": "babyai_"}, "\"babyai_N\" in `item_id`, but has item_id = 'babyai_'"),
    ({"item_id": "textcraft_3"}, "item_id = 'textcraft_3'"), ({"item_id": "babyai_01"}, "babyai_01"),
    ({"item_id": "babyai_-1"}, "babyai_-1"), ({"item_id": "babyai_٣"}, "babyai_"), ({"item_id": 3}, "= 3 "),
    ({"item_id": "babyai_9999999999"}, "babyai_9999999999"), ({"item_id": "babyai_" + "9" * 20}, "9999"),
    ({"id": 3, "item_id": ""}, "id = 3 and item_id = ''"),
    ({"id": 3, "item_id": "babyai_4"}, "id = 3 and item_id = 'babyai_4'")])
def test_a_row_that_names_none_or_two_is_refused_with_what_it_has(row, told):
    with pytest.raises(UserError, match=told) as refused:
        episode_number(row, "babyai")
    assert "A row of babyai needs the number of an episode, from 0 to 2147483647" in str(refused.value)


def test_a_server_may_have_more_episodes_than_fit_into_32_bits():
    assert episode_number({"item_id": f"sciworld_{2**53 - 1}"}, "sciworld", 2**53 - 1) == 2**53 - 1
    with pytest.raises(UserError, match="from 0 to 9007199254740991"):
        episode_number({"item_id": f"sciworld_{2**53}"}, "sciworld", 2**53 - 1)
