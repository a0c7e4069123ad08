"""The goals of each set of recipes, numbered, and how an episode of one begins.

A goal's number and the text that it begins with follow from the recipes alone: where something is drawn, a
SHA-256 of the goal draws it, whatever the seed of the run, the hash seed of the process or the order of a
folder. So an episode is the same in process and behind a server.
"""
import bisect
import functools
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, RecipeBook
from jaxrl_moe.envs.text.textcraft.minecraft import minecraft_book
from jaxrl_moe.envs.text.textcraft.planner import Goal, plan
from jaxrl_moe.envs.text.textcraft.small import small_book

MOST_TURNS = 8      # of a goal of the small set, by the planner
MOST_WANTED = 4     # of the item that it asks for
VARIANTS = 480      # drawn for each item, of which those that differ are kept
HELD_OUT_SHARE = 5  # one goal in so many is held out


class GoalSet(NamedTuple):
    """Recipes with the goals that are set over them.

    Attributes:
      goals: by number; those of the least depth first.
      distractors: recipes that are shown beside those that can be of use, unless the task says otherwise.
    """
    book: RecipeBook
    goals: tuple[Goal, ...]
    distractors: int

    def within(self, depth: int) -> int:
        """How many goals, from the first, are of that depth at most."""
        return bisect.bisect_right(self.goals, depth, key=lambda goal: self.book.depth(goal.item))


def single_goals(book: RecipeBook) -> tuple[Goal, ...]:
    """Each item that can be crafted, in the order of depth and name."""
    return tuple(map(Goal, book.crafted()))


def varied_goals(book: RecipeBook) -> tuple[Goal, ...]:
    """The same, each in several counts and from several stocks, which are to be had in MOST_TURNS turns."""
    drawn = dict.fromkeys(_variant(book, item, number)
                          for item in book.crafted() for number in range(VARIANTS))
    return tuple(goal for goal in drawn if plan(book, goal).turns <= MOST_TURNS)


def _variant(book: RecipeBook, item: str, number: int) -> Goal:
    """The first asks for one, of nothing; the others for some, half of them of some of what they take."""
    if number == 0:
        return Goal(item)
    goal = Goal(item, 1 + _drawn(f"count {item} {number}") % MOST_WANTED)
    if _drawn(f"stocked {item} {number}") % 2:
        return goal
    taken = _taken(book, goal)
    stock = [(part, 1 + _drawn(f"stock {item} {number} {part}") % taken[part]) for part in sorted(taken)
             if _drawn(f"of {item} {number} {part}") % 3 == 0]
    return goal._replace(stock=tuple(stock))


@functools.cache
def _taken(book: RecipeBook, goal: Goal) -> Counter[str]:
    """{item: how many of it go into a goal}."""
    taken: Counter[str] = Counter()
    for craft in plan(book, goal).crafts:
        taken.update(dict(craft.used))
    return taken


_SETS: Mapping[str, Callable[[], GoalSet]] = {
    "minecraft": lambda: GoalSet(book := minecraft_book(), single_goals(book), 10),
    "small": lambda: GoalSet(book := small_book(), varied_goals(book), 2)}


@functools.cache
def goal_set(name: str) -> GoalSet:
    """The recipes and goals of a name, made once a process."""
    return _SETS[name]()


def is_held_out(goal: Goal) -> bool:
    """Whether a goal belongs to the held-out ones. Where each item is asked for once, its items do."""
    return zlib.crc32(_spelt(goal).encode()) % HELD_OUT_SHARE == 0


def opening(book: RecipeBook, goal: Goal, distractors: int) -> str:
    """The first observation: the recipes that can be of use among so many others that use the same
    ingredients, in an order that tells nothing, what is carried, and the goal."""
    key = _spelt(goal)
    useful = book.path(goal.item)
    others = sorted(book.siblings(useful), key=lambda recipe: _drawn(f"{key} beside {recipe.command}"))
    shown = [*useful, *others[:distractors]]
    return opening_of([recipe.command for recipe in _shuffled(shown, key)], goal)


def opening_of(commands: list[str], goal: Goal) -> str:
    """The same with the commands as they are."""
    lines = ["Crafting commands:", *commands, "", f"Goal: craft {_wanted(goal)}."]
    if goal.stock:
        lines[-1:] = [inventory(dict(goal.stock)), "", lines[-1]]
    return "\n".join(lines)


def inventory(items: Mapping[str, int]) -> str:
    """What is carried, as it is shown."""
    listed = " ".join(f"[{item}] ({count})" for item, count in items.items())
    return f"Inventory: {listed or 'You are not carrying anything.'}"


def _wanted(goal: Goal) -> str:
    return goal.item if goal.count == 1 else f"{goal.count} {goal.item}"


def _spelt(goal: Goal) -> str:
    return f"{goal.count} {goal.item} of {goal.stock}"


def _shuffled(recipes: list[CraftingRecipe], key: str) -> list[CraftingRecipe]:
    return sorted(recipes, key=lambda recipe: _drawn(f"{key} shows {recipe.command}"))


def _drawn(words: str) -> int:
    """A number that follows from words, whatever the version of Python."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big")
