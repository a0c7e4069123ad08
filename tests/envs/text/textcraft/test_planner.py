"""The oracle makes every goal by the environment's own commands, in the fewest turns there are."""
import itertools
from collections import Counter

import pytest

from jaxrl_moe.envs.text.textcraft import TextCraft
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.planner import plan
from jaxrl_moe.types import Action


@pytest.mark.parametrize("recipes, count, within", [("small", 2779, 2779), ("minecraft", 544, 531)])
def test_the_oracle_makes_every_goal_through_the_environment(recipes, count, within):
    task = TextCraft(recipes=recipes)
    goals = goal_set(recipes)
    turns = []
    for number in range(count):
        env = task.open({"id": number}, 0)
        env.reset()
        commands = plan(goals.book, goals.goals[number]).commands
        steps = [env.step(Action(f"Action: {command}", 9, False)) for command in commands]
        assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[-1].reward == 1 and steps[-1].info == {"correct": 1, "valid": 1}
        turns.append(len(steps))
    assert len(turns) == len(goals.goals) == count
    assert sum(each <= task.max_turns for each in turns) == within


def fewest(book, goal, bound):
    """The fewest commands of any plan, or more than `bound`: what is owed is made, one craft at a time, in
    every way there is."""
    best = bound + 1

    def search(owned, crafts):
        nonlocal best
        owed = [item for item, count in owned.items() if count < 0]
        open_ones = [item for item in owed if item in book.recipes]
        turns = crafts + len(owed) - len(open_ones)
        if turns < best and not open_ones:
            best = turns
        if turns >= best:
            return
        for recipe in book.recipes[open_ones[0]]:
            for items in itertools.product(*map(book.choices, recipe.ingredients)):
                after = Counter(owned)
                after[recipe.product] += recipe.made
                after.subtract({item: part.count for item, part in zip(items, recipe.ingredients)})
                search(after, crafts + 1)

    start = Counter(dict(goal.stock))
    start[goal.item] -= goal.count
    search(start, 0)
    return best


@pytest.mark.parametrize("recipes, step, count", [("small", 2, 1390), ("minecraft", 1, 454)])
def test_no_plan_is_shorter(recipes, step, count):
    goals = goal_set(recipes)
    plans = {goal: plan(goals.book, goal).turns for goal in goals.goals[::step]}
    short = {goal: turns for goal, turns in plans.items() if turns <= 8}
    assert len(short) == count
    assert {goal: fewest(goals.book, goal, turns) for goal, turns in short.items()} == short
