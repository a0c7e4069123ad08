"""Data on TextCraft: rows that the task takes, and conversations that an environment confirms."""
import json

import pytest

from jaxrl_moe.config import DataSection, SftSection
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.envs import check_rows
from jaxrl_moe.envs.text.textcraft import TextCraft
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.rows import conversations, prompts
from jaxrl_moe.types import Action
from tests.helpers import templates


@pytest.mark.parametrize("recipes, train, held_out", [("small", 2243, 536), ("minecraft", 435, 109)])
def test_training_and_held_out_goals_are_all_goals_and_share_none(recipes, train, held_out):
    seen = {split: [row["id"] for row in prompts(10**6, 0, split, True, recipes)]
            for split in ("train", "test")}
    assert (len(seen["train"]), len(seen["test"])) == (train, held_out)
    assert sorted(seen["train"] + seen["test"]) == list(range(len(goal_set(recipes).goals)))
    talked = {row["id"] for row in conversations(train, 3, "train", True, recipes)}
    assert talked == set(seen["train"])


@pytest.mark.parametrize("make", [prompts, conversations])
def test_rows_follow_from_the_seed(make):
    rows = make(50, 1, "train", False)
    assert len(rows) == 50 and rows == make(50, 1, "train", False) != make(50, 2, "train", False)
    assert rows[:20] == make(20, 1, "train", False)
    with pytest.raises(KeyError):
        make(1, 0, "eval", True)


@pytest.mark.parametrize("recipes, terse", [("small", True), ("small", False), ("minecraft", False)])
def test_a_conversation_is_what_an_episode_of_its_goal_says(recipes, terse):
    task = TextCraft(recipes=recipes)
    for row in conversations(120, 5, "test", terse, recipes):
        env = task.open(row, 0)
        messages = iter(row["messages"])
        assert next(messages) == prompts(1, 0, "test", terse, recipes)[0]["prompt"][0]
        observation = env.reset()
        for said in messages:
            assert (said,) == observation
            answer = next(messages)
            assert answer["role"] == "assistant" and answer["content"].startswith(
                "Action: " if terse else "Thought:\n")
            step = env.step(Action(answer["content"], 5, False))
            observation = step.observation
        assert step.done and step.reward == 1 and step.info["valid"] == 1


def test_more_conversations_than_goals_play_them_again_in_another_order():
    rows = conversations(2 * 536, 0, "test", True)
    again = list(zip(rows[:536], rows[536:]))
    assert all(first["id"] == second["id"] for first, second in again)
    assert sum(first != second for first, second in again) > 30


def test_the_rows_are_read_as_data_and_every_answer_is_trained(tmp_path):
    tokenizer = Tokenizer(templates.byte_level(templates.QWEN25), "qwen")
    for name, rows in (("prompts", prompts(9, 0, "train", True)),
                       ("sft", conversations(9, 0, "train", True))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, _ = load_prompts(DataSection(path=str(tmp_path / "prompts.jsonl")), tokenizer)
    assert len(loaded) == 9
    check_rows(TextCraft(recipes="small"), loaded)
    talks, _ = load_conversations(SftSection(path=str(tmp_path / "sft.jsonl"), max_tokens=8192), tokenizer)
    for row, (ids, mask) in zip(rows, talks, strict=True):
        said = [each["content"] for each in row["messages"] if each["role"] == "assistant"]
        trained = tokenizer.decode(ids[mask == 1], skip_special_tokens=False)
        assert trained == "".join(f"{text}<|im_end|>" for text in said)
