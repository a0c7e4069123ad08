"""The planner as a player: the commands of its plan, each with why it is given."""
import random
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.envs.text.textcraft.goals import GoalSet, goal_set
from jaxrl_moe.envs.text.textcraft.planner import Goal, plan
from jaxrl_moe.envs.text.textcraft.task import TextCraft
from jaxrl_moe.protocols import Env


def commands(task: TextCraft, env: Env, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (command, thought) of each turn for a row's goal. Of the episode nothing is asked: the plan is
    made before the first. What is found is found in an order that follows from the goal."""
    goal = task.goal(row)
    yield from moves(goal_set(task.recipes), goal, random.Random(f"finds {goal}"))


def moves(goals: GoalSet, goal: Goal, order: random.Random) -> Iterator[tuple[str, str]]:
    """The same for a goal; `order` draws in which order the things are found."""
    planned = plan(goals.book, goal)
    finds = list(planned.found.items())
    order.shuffle(finds)
    for item, count in finds:
        yield f"get {count} {item}", f"To craft {goal.item} I need {count} {item}, which can be found."
    for craft in planned.crafts:
        used = " and ".join(f"{count} {item}" for item, count in craft.used)
        yield craft.command, f"I have {used}, so I can craft {craft.recipe.product}."
