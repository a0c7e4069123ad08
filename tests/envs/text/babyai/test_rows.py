"""Data on BabyAI: splits that share no world, and conversations that an episode repeats."""
import collections

import pytest

from jaxrl_moe.envs.text.babyai import BabyAI, rows
from jaxrl_moe.envs.text.babyai.levels import level_and_seed, levels_of, make_world
from jaxrl_moe.types import Action, UserError


def world_of(row):
    """All that a world is at its beginning."""
    world = make_world(row["id"])
    cells = [cell and (cell.type, cell.color, getattr(cell, "is_locked", None)) for cell in world.grid.grid]
    return world.mission, tuple(cells), tuple(map(int, world.agent_pos)), int(world.agent_dir)


def test_the_splits_share_no_world_and_none_comes_twice():
    train = rows.prompts(300, 0, "train", True) + rows.conversations(100, 1, "train", True)
    test = rows.prompts(60, 0, "test", True)
    assert not {row["id"] for row in train} & {row["id"] for row in test}
    assert not set(map(world_of, train)) & set(map(world_of, test))
    assert len(set(map(world_of, train[:300]))) == 300 and len(set(map(world_of, test))) == 60
    levels = collections.Counter(level_and_seed(row["id"])[0] for row in train[:300])
    assert levels.keys() == set(levels_of(rows.LEARNING_LEVELS)) and min(levels.values()) > 40


def test_rows_follow_from_the_seed():
    assert rows.prompts(20, 3, "train", True) == rows.prompts(20, 3, "train", True)
    ids = [[row["id"] for row in rows.prompts(20, seed, split, False)]
           for seed, split in ((3, "train"), (4, "train"), (3, "test"))]
    assert not set(ids[0]) & set(ids[1]) and not set(ids[0]) & set(ids[2])


@pytest.mark.parametrize("terse", [True, False])
def test_conversations_are_what_episodes_of_the_same_prompt_show(terse):
    task = BabyAI(max_turns=rows.LEARNING_TURNS, levels=rows.LEARNING_LEVELS)
    prompt = rows.prompts(1, 0, "train", terse)[0]["prompt"]
    ended = []
    for row in rows.conversations(40, 2, "train", terse, careful=0.5):
        task.check_row(row, 0)
        episode = task.open(row, 0)
        messages = [*prompt, *episode.reset()]
        answers = [message for message in row["messages"] if message["role"] == "assistant"]
        assert 1 <= len(answers) <= (rows.LEARNING_TURNS if row["careful"] else rows.BEGINNERS_TURNS)
        for answer in answers:
            step = episode.step(Action(answer["content"], 9, False))
            messages += [answer, *step.observation]
            assert ("Thought:" in answer["content"]) != terse and step.info["valid"] == 1
        assert messages[:len(row["messages"])] == row["messages"]
        assert row["messages"][-1] == answer
        assert step.reward > 0 or not row["careful"]
        ended.append((row["careful"], step.done))
    assert set(ended) == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("careful, least, most", [(1.0, 60, 60), (0.0, 0, 0), (rows.CAREFUL_SHARE, 8, 30)])
def test_the_planner_has_its_share_of_the_episodes(careful, least, most):
    planned = [row["careful"] for row in rows.conversations(60, 0, "train", True, careful=careful)]
    assert least <= sum(planned) <= most


def test_levels_with_too_few_worlds_are_refused():
    with pytest.raises(UserError, match="OpenRedDoor have no more than .* different worlds for 'test'"):
        rows.prompts(400, 0, "test", True, levels="OpenRedDoor")


def test_a_split_that_is_none_is_an_error():
    with pytest.raises(KeyError):
        rows.prompts(1, 0, "eval", True)
