"""Data on our shop: rows that the task takes, and conversations that an environment confirms."""
import pytest

from jaxrl_moe.envs import check_rows, make_task
from jaxrl_moe.envs.text.webshop.catalogue import our_shop
from jaxrl_moe.envs.text.webshop.nouns import listed_nouns
from jaxrl_moe.envs.text.webshop.oracle import MOST_TURNS, shopping_moves
from jaxrl_moe.envs.text.webshop.rows import conversations, prompts
from jaxrl_moe.types import Action, Prompt

COUNT = 60


def test_training_and_held_out_goals_are_all_goals_and_share_no_product():
    seen = {split: [row["id"] for row in prompts(10**6, 0, split, True, COUNT)]
            for split in ("train", "test")}
    assert sorted(seen["train"] + seen["test"]) == list(range(2 * COUNT))
    assert not {number // 2 for number in seen["train"]} & {number // 2 for number in seen["test"]}
    assert {row["id"] for row in conversations(200, 3, "train", True, COUNT)} <= set(seen["train"])


@pytest.mark.parametrize("make", [prompts, conversations])
def test_rows_follow_from_the_seed(make):
    rows = make(20, 1, "train", False, COUNT)
    assert len(rows) == 20 and rows == make(20, 1, "train", False, COUNT)
    assert rows != make(20, 2, "train", False, COUNT) and rows[:9] == make(9, 1, "train", False, COUNT)
    with pytest.raises(KeyError):
        make(1, 0, "eval", True, COUNT)


@pytest.mark.parametrize("terse", [True, False])
def test_a_conversation_is_what_an_episode_of_its_goal_says(terse):
    task = make_task(f"webshop(products={COUNT})")
    rows = conversations(20, 5, "test", terse, COUNT)
    check_rows(task, [Prompt((), row, number) for number, row in enumerate(rows)])
    for row in rows:
        env = task.open(row, 0)
        messages = iter(row["messages"])
        assert next(messages) == prompts(1, 0, "test", terse, COUNT)[0]["prompt"][0]
        observation = env.reset()
        for said in messages:
            assert (said,) == observation
            answer = next(messages)["content"]
            assert answer.startswith("Action: " if terse else "Thought:\n")
            step = env.step(Action(answer, 5, False))
            observation = step.observation
        assert step.done and step.reward == 1 and step.info["valid"] == 1


def test_the_oracle_meets_nearly_all_goals_in_ten_turns():
    shop = our_shop(0, 300)
    turns = [len(shopping_moves(shop, goal, listed_nouns)) for goal in shop.goals[:200]]
    assert max(turns) <= MOST_TURNS and sum(map(bool, turns)) >= 195


def test_the_oracle_gives_up_where_nothing_that_is_found_will_do():
    shop = our_shop(0, COUNT)
    assert shopping_moves(shop, shop.goals[0]._replace(price_upper=0.5), listed_nouns) == []
