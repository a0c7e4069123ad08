"""Goals and openings: their numbers follow from the recipes alone."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from jaxrl_moe.envs.text.textcraft import minecraft
from jaxrl_moe.envs.text.textcraft.goals import MOST_TURNS, goal_set, is_held_out, opening
from jaxrl_moe.envs.text.textcraft.planner import Goal, plan

PROGRAM = """
import hashlib
from jaxrl_moe.envs.text.textcraft.goals import goal_set, opening
for name in ("minecraft", "small"):
    goals = goal_set(name)
    texts = [opening(goals.book, goal, goals.distractors) for goal in goals.goals[::7]]
    print(name, len(goals.goals), hashlib.sha256(repr((goals.goals, texts)).encode()).hexdigest())
"""


def test_goals_and_openings_are_the_same_under_every_hash_seed():
    said = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        said.add(subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, text=True,
                                capture_output=True).stdout)
    assert len(said) == 1
    assert re.findall(r"(\w+) (\d+) ", said.pop()) == [("minecraft", "544"), ("small", "2779")]


def test_the_numbers_of_goals_outlive_a_change_of_the_code():
    """A number that means another goal would make old rows mean something else."""
    digests = {name: hashlib.sha256(json.dumps(goal_set(name).goals).encode()).hexdigest()[:16]
               for name in ("minecraft", "small")}
    assert digests == {"minecraft": "a9a6b88d309198fe", "small": "f15f577084b5bbdf"}


def test_the_order_of_a_folder_decides_nothing(tmp_path, monkeypatch):
    for file in sorted(minecraft._folder().glob("*.json"), reverse=True):
        shutil.copy(file, tmp_path)
    real = pathlib.Path.glob
    monkeypatch.setattr(pathlib.Path, "glob", lambda self, pattern: sorted(real(self, pattern), reverse=True))
    turned = minecraft.read_book(tmp_path)
    book = goal_set("minecraft").book
    assert turned.crafted() == book.crafted() and turned.recipes == book.recipes


@pytest.mark.parametrize("name", ["minecraft", "small"])
def test_goals_come_in_the_order_of_depth_and_name_so_that_a_limit_keeps_their_numbers(name):
    goals = goal_set(name)
    keys = [(goals.book.depth(goal.item), goal.item) for goal in goals.goals]
    assert keys == sorted(keys) and len(set(goals.goals)) == len(goals.goals)
    assert [goals.within(depth) for depth in (0, 2, 9)] == [0, sum(key[0] <= 2 for key in keys), len(keys)]
    assert {goal.item for goal in goals.goals} == set(goals.book.recipes)


def test_the_small_goals_are_many_short_and_split_by_what_they_ask_for():
    goals = goal_set("small")
    held_out = sum(map(is_held_out, goals.goals))
    assert held_out == 536 and len(goals.goals) - held_out == 2243
    for goal in goals.goals:
        stock = dict(goal.stock)
        assert 1 <= plan(goals.book, goal).turns <= MOST_TURNS == 8 and goal.item not in stock
        assert all(stock.values()) and list(stock) == sorted(stock) and 1 <= goal.count <= 4
    assert sum(not goal.stock for goal in goals.goals) == 116
    texts = [opening(goals.book, goal, goals.distractors) for goal in goals.goals]
    assert len(set(texts)) == len(texts) and max(map(len, texts)) < 600


@pytest.mark.parametrize("name", ["minecraft", "small"])
@pytest.mark.parametrize("distractors", [0, 3])
def test_an_opening_shows_every_recipe_of_use_and_as_many_others_as_are_asked_for(name, distractors):
    goals = goal_set(name)
    for goal in goals.goals[::11]:
        lines = opening(goals.book, goal, distractors).split("\n")
        assert lines[0] == "Crafting commands:" and lines[-2] == ""
        shown = lines[1:lines.index("")]
        useful = {recipe.command for recipe in goals.book.path(goal.item)}
        others = {recipe.command for recipe in goals.book.siblings(goals.book.path(goal.item))}
        assert useful <= set(shown) and set(shown) - useful <= others and len(set(shown)) == len(shown)
        assert len(shown) == len(useful) + min(distractors, len(others))
        assert {craft.recipe.command for craft in plan(goals.book, goal).crafts} <= useful


def test_openings_are_worded_as_agentgym_words_them():
    book = goal_set("small").book
    assert opening(book, Goal("soup"), 0) == (
        "Crafting commands:\ncraft 1 soup using 1 carrot, 2 water\n\nGoal: craft soup.")
    assert opening(book, Goal("soup", 2, (("carrot", 1), ("water", 3))), 0).endswith(
        "water\n\nInventory: [carrot] (1) [water] (3)\n\nGoal: craft 2 soup.")
    shown = [opening(book, Goal("chest", count), 2).split("\n")[1:-2] for count in range(1, 9)]
    assert len({tuple(sorted(lines)) for lines in shown}) > 1  # other distractors
    assert len({lines[0] for lines in shown}) > 1  # another order
