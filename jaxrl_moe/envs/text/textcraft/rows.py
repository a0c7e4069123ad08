"""Data on TextCraft's goals: prompts for RL, and episodes as the planner plays them for SFT."""
import random
from collections.abc import Iterator
from typing import Any

from jaxrl_moe.envs.text.textcraft.game import Game
from jaxrl_moe.envs.text.textcraft.goals import GoalSet, goal_set, is_held_out, opening
from jaxrl_moe.envs.text.textcraft.instructions import answer, instructions
from jaxrl_moe.envs.text.textcraft.oracle import moves
from jaxrl_moe.envs.text.textcraft.task import TextCraft


def prompts(count: int, seed: int, split: str, terse: bool, recipes: str = "small",
            max_depth: int = 0) -> list[dict[str, Any]]:
    """Rows of RL: the instructions as a system message, and the number of a goal; the episode shows the goal.

    Args:
      count: of rows at most; no goal comes twice.
      seed: decides which goals, and their order.
      split: "train" or "test"; they share no goal.
      terse: whether answers are the command alone, without a thought, for models that learn in minutes.
      recipes, max_depth: as the task's settings.
    """
    return [{"prompt": _instructed(terse), "id": number, "recipes": recipes}
            for number in _shuffled(goal_set(recipes), seed, split, max_depth)[:count]]


def conversations(count: int, seed: int, split: str, terse: bool, recipes: str = "small",
                  max_depth: int = 0) -> list[dict[str, Any]]:
    """Rows of SFT: episodes as the planner plays them, in `messages`. Where `count` is more than there are
    goals, they come again; what is found is found in an order of the seed."""
    goals = goal_set(recipes)
    numbers = _shuffled(goals, seed, split, max_depth)
    order = random.Random(f"finds {seed}")
    return [{"messages": _episode(goals, number, terse, order), "id": number, "recipes": recipes}
            for number in (numbers[row % len(numbers)] for row in range(count))]


def episodes(task: TextCraft, seed: int, split: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of all episodes of a split that a task has, in an order of the seed."""
    for number in _shuffled(goal_set(task.recipes), seed, split, task.max_depth):
        yield {"id": number, "recipes": task.recipes}


def _shuffled(goals: GoalSet, seed: int, split: str, max_depth: int) -> list[int]:
    """The numbers of a split's goals."""
    held_out = {"train": False, "test": True}[split]
    count = goals.within(max_depth) if max_depth else len(goals.goals)
    numbers = [number for number, goal in enumerate(goals.goals[:count]) if is_held_out(goal) == held_out]
    random.Random(f"goals {seed} {split}").shuffle(numbers)
    return numbers


def _instructed(terse: bool) -> list[dict[str, str]]:
    return [{"role": "system", "content": instructions(terse)}]


def _episode(goals: GoalSet, number: int, terse: bool, order: random.Random) -> list[dict[str, str]]:
    goal = goals.goals[number]
    game = Game(goals.book, goal)
    messages = _instructed(terse)
    observation = opening(goals.book, goal, goals.distractors)
    for command, thought in moves(goals, goal, order):
        messages += [{"role": "user", "content": observation},
                     {"role": "assistant", "content": answer(command, thought, terse)}]
        observation = game.do(command).text
    return messages
